//! Watches what a broker does with the files of its store, as it asks the C library for it, and makes its disk slow or
//! failing while it runs.
//!
//! A library in C is loaded into the broker's process before its own (`LD_PRELOAD`; `../disk/watch.c`): so what is seen
//! are the calls that go to the system, whatever the broker believes that it did.

use crate::{broker::Builder, scratch::ScratchDirectory, target_directory, workspace};
use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A call that is over, or has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// These bytes of a file were written.
    Write {
        /// Which file, whatever it is called.
        inode: u64,
        /// Its name then.
        name: String,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// An `fdatasync` begins.
    SyncBegins {
        /// Of which file.
        inode: u64,
        /// Its name then.
        name: String,
    },
    /// It is over.
    SyncEnds {
        /// Of which file.
        inode: u64,
        /// Its name then.
        name: String,
        /// The error's number, or 0.
        error: i32,
    },
    /// A file could not be read.
    Unread {
        /// Which file.
        inode: u64,
        /// Its name then.
        name: String,
    },
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (kind, inode) = (words.next()?, words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(match kind {
            "write" => {
                let (offset, bytes) = (number()?, number()?);
                Self::Write { inode, offset, bytes, name: words.next()?.to_owned() }
            }
            "begin" => Self::SyncBegins { inode, name: words.next()?.to_owned() },
            "end" => {
                let error = number()? as i32;
                Self::SyncEnds { inode, error, name: words.next()?.to_owned() }
            }
            "unread" => Self::Unread { inode, name: words.next()?.to_owned() },
            _ => return None,
        })
    }
}

/// A disk that is watched. It outlives the broker.
#[derive(Debug)]
pub struct WatchedDisk {
    directory: ScratchDirectory,
    library: PathBuf,
}

impl WatchedDisk {
    /// For a broker that is to be started.
    ///
    /// Panics where there is no C compiler.
    #[must_use]
    pub fn new() -> Self {
        let directory = ScratchDirectory::new("disk");
        fs::write(directory.path().join("control"), [0; 40]).unwrap();
        fs::write(directory.path().join("trace"), []).unwrap();
        Self { directory, library: build() }
    }

    /// The broker that is started so is watched: the calls for files in the folder `store` of its data.
    #[must_use]
    pub fn watch(&self, builder: Builder) -> Builder {
        builder
            .environment("LD_PRELOAD", &self.library)
            .environment("LEVERET_TEST_DISK_TRACE", self.file("trace"))
            .environment("LEVERET_TEST_DISK_CONTROL", self.file("control"))
            .environment("LEVERET_TEST_DISK_FOLDER", "/data/store/")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn control(&self, at: u64, number: u64) {
        let file = fs::File::options().write(true).open(self.file("control")).unwrap();
        file.write_all_at(&number.to_le_bytes(), at).unwrap();
    }

    /// Each `fdatasync` takes so many milliseconds longer from now on.
    pub fn delay_syncs(&self, milliseconds: u64) {
        self.control(0, milliseconds);
    }

    /// Each `fdatasync` fails with that number from now on, and writes nothing; none fails with 0.
    pub fn fail_syncs(&self, error: u32) {
        self.control(8, error.into());
    }

    /// There is no room for anything that grows from now on, or there is again. What is there can be written over.
    pub fn fill(&self, full: bool) {
        self.control(16, full.into());
    }

    /// Each read of a large body fails with that number from now on; none fails with 0.
    pub fn fail_reads(&self, error: u32) {
        self.control(24, error.into());
    }

    /// The broker ends (SIGKILL) from now on as soon as it has noted that it has the message with that number in hand.
    pub fn end_at(&self, message: u64) {
        self.control(32, message + 1);
    }

    /// All calls so far, in the order in which they were over, or began.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let trace = fs::read_to_string(self.file("trace")).unwrap();
        let whole = trace.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse = |line| Call::parse(line).unwrap_or_else(|| panic!("no call: {line}"));
        whole.lines().map(parse).collect()
    }
}

impl Default for WatchedDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// Compiles the library, unless that was done.
fn build() -> PathBuf {
    let source = workspace().join("tests/kit/disk/watch.c");
    let folder = target_directory().join("testkit");
    fs::create_dir_all(&folder).unwrap();
    let library = folder.join("watch-disk.so");
    let lock = fs::File::create(folder.join("watch-disk.lock")).unwrap();
    lock.lock().unwrap();
    if !is_newer(&library, &source) {
        let unfinished = folder.join("watch-disk.unfinished");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&unfinished, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        fs::rename(unfinished, &library).unwrap();
    }
    library
}

fn is_newer(library: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    time(library) > time(source)
}
