/* What a process does with the files of folders whose path has certain words, as it asks its C library: told to a
 * trace, and slowed or failed on demand. Loaded before the library (LD_PRELOAD); see ../src/disk.rs for both ends.
 *
 * The trace has a line for each write and two for each sync, each written before the call goes on:
 *   write <inode> <offset> <bytes> <name>     a write that is done
 *   begin <inode> <name>                      a sync begins
 *   end <inode> <outcome> <name>              it is over: 0, or the error's number
 *   unread <inode> <name>                     a read fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What the test says: little-endian numbers in a file that both have. */
struct control {
    volatile uint64_t sync_delay_ms;
    volatile uint64_t sync_error;
    volatile uint64_t full;
    volatile uint64_t read_error;
    volatile uint64_t ends_at;
};

static struct control none;
static struct control *control = &none;
static int trace = -1;
static const char *folder;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int (*real_fdatasync)(int);
static int (*real_fsync)(int);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static ssize_t (*real_pread64)(int, void *, size_t, off64_t);

static void begin(void) {
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_pwrite64 = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    real_pread64 = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    const char *path = getenv("LEVERET_TEST_DISK_TRACE");
    folder = getenv("LEVERET_TEST_DISK_FOLDER");
    if (path && folder)
        trace = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    path = getenv("LEVERET_TEST_DISK_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            control = mapped;
        close(file);
    }
}

/* Whether a file is in the folder; then what it is called there, and its inode. */
static int is_watched(int fd, char *name, size_t room, uint64_t *inode) {
    char link[64], path[4096];
    struct stat status;
    pthread_once(&once, begin);
    if (trace < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || fstat(fd, &status) != 0)
        return 0;
    path[length] = 0;
    const char *found = strstr(path, folder);
    if (!found)
        return 0;
    snprintf(name, room, "%s", found + strlen(folder));
    *inode = status.st_ino;
    return 1;
}

static void say(const char *line, int length) {
    if (length > 0 && write(trace, line, (size_t)length) != length)
        abort();
}

/* Whether such a file has no room yet. Segments have theirs from the beginning. */
static int grows(const char *name) {
    return strncmp(name, "segment-", 8) != 0 && strncmp(name, "manifest", 8) != 0;
}

/* Room that was asked for is there once that was synced. */
int fsync(int fd) {
    char name[256];
    uint64_t inode;
    if (is_watched(fd, name, sizeof name, &inode) && control->full && grows(name)) {
        errno = ENOSPC;
        return -1;
    }
    return real_fsync(fd);
}

int fdatasync(int fd) {
    char name[256], line[512];
    uint64_t inode;
    if (!is_watched(fd, name, sizeof name, &inode))
        return real_fdatasync(fd);
    say(line, snprintf(line, sizeof line, "begin %lu %s\n", (unsigned long)inode, name));
    uint64_t wait = control->sync_delay_ms;
    struct timespec time = {(time_t)(wait / 1000), (long)(wait % 1000) * 1000000};
    if (wait)
        nanosleep(&time, NULL);
    int error = (int)control->sync_error;
    if (!error && real_fdatasync(fd) != 0)
        error = errno;
    say(line, snprintf(line, sizeof line, "end %lu %d %s\n", (unsigned long)inode, error, name));
    errno = error;
    return error ? -1 : 0;
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    char name[256], line[512];
    uint64_t inode;
    pthread_once(&once, begin);
    int error = (int)control->read_error;
    if (!error || !is_watched(fd, name, sizeof name, &inode) || strncmp(name, "extent-", 7) != 0)
        return real_pread64(fd, bytes, length, offset);
    say(line, snprintf(line, sizeof line, "unread %lu %s\n", (unsigned long)inode, name));
    errno = error;
    return -1;
}

/* The broker says that it has a message in hand, in a record of five numbers, the fourth of which is the message's: it ends
 * at that message, if it is to. */
static void end_at(int fd, const void *bytes, size_t length) {
    char link[64], path[4096];
    uint64_t record[5];
    pthread_once(&once, begin);
    if (control->ends_at == 0 || length != sizeof record)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t found = readlink(link, path, sizeof path - 1);
    if (found < 0)
        return;
    path[found] = 0;
    memcpy(record, bytes, sizeof record);
    if (strstr(path, "/data/suspects/in-hand") && record[3] + 1 == control->ends_at)
        kill(getpid(), SIGKILL);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char name[256], line[512];
    uint64_t inode;
    int watched = is_watched(fd, name, sizeof name, &inode);
    /* A file that is there gets its header under its first name. */
    if (watched && control->full && grows(name) && !(length < 4096 && strncmp(name, "spare-", 6) == 0)) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t written = real_pwrite64(fd, bytes, length, offset);
    int error = errno;
    end_at(fd, bytes, length);
    if (watched && written > 0)
        say(line, snprintf(line, sizeof line, "write %lu %lld %zd %s\n", (unsigned long)inode,
                           (long long)offset, written, name));
    errno = error;
    return written;
}
