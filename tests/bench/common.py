"""What `compare` and `scale` have in common: they start brokers, ask the generator, and leave no process behind."""
import argparse
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# No load takes longer, in seconds; nor does a broker until it takes connections, or until it has ended.
BENCH_SECONDS_MAX = 300
START_SECONDS_MAX = 60
END_SECONDS_MAX = 60

# How a client of AMQP 0-9-1 begins.
PROTOCOL_HEADER = b"AMQP\0\0\x09\x01"

# How much of what a program says is shown where it makes no sense, in characters.
SHOWN_MAX = 200


class Failure(Exception):
    """What people are told in one line: nothing can be measured."""


def above_zero(kind):
    """What an argument is read by that is a number of this kind and more than nothing."""
    def read(text):
        number = kind(text)
        if not number > 0 or number == float("inf"):
            raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
        return number
    read.__name__ = kind.__name__
    return read


def pattern(text):
    """What an argument is read by that is a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {error}") from error


def chosen(names, only):
    """Those of the names that have one of the patterns in them; all, where there are no patterns."""
    names = [name for name in names if not only or any(wanted.search(name) for wanted in only)]
    if not names:
        raise Failure("--only leaves nothing to measure")
    return names


def add_binary(parser):
    parser.add_argument("--binary", type=Path, metavar="FILE",
                        help="a leveret that is built already; without it one is built for release")


def built(options):
    """The broker's program, which is the generator too."""
    if options.binary is not None:
        if not options.binary.is_file():
            raise Failure(f"there is no program {options.binary}")
        return options.binary.resolve()
    finished = subprocess.run(["cargo", "build", "--locked", "--release", "--manifest-path", str(ROOT / "Cargo.toml"),
                               "--bin", "leveret"], check=False)
    if finished.returncode != 0:
        raise Failure("the broker does not build")
    return ROOT / "target" / "release" / "leveret"


def generate(binary, words, whose):
    """What `leveret bench` says with those words: its JSON."""
    words = [str(word) for word in words]
    said = f"{whose}: leveret bench {' '.join(words)}"
    with contextlib.ExitStack() as started:
        process = start(started, [str(binary), "bench", *words, "--quiet"], stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True)
        try:
            printed, told = process.communicate(timeout=BENCH_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{said}: not over after {BENCH_SECONDS_MAX} s") from error
    if process.returncode != 0:
        raise Failure(f"{said}: {told.strip() or f'ended with {process.returncode}'}")
    try:
        report = json.loads(printed)
    except ValueError as error:
        raise Failure(f"{said}: this is no JSON: {printed[:SHOWN_MAX]!r}") from error
    if not isinstance(report, dict):
        raise Failure(f"{said}: this is no report: {printed[:SHOWN_MAX]!r}")
    return report


def figure(report, *names):
    """A number of a report, by the names that lead to it."""
    found = report
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise Failure(f"the report has no figure '{'.'.join(names)}': {json.dumps(report)[:SHOWN_MAX]}")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address, seconds):
    """Whether a broker there says connection.start, within so many seconds. That it takes a connection is not enough: the
    system does so while the broker is still starting."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as stream:
            stream.sendall(PROTOCOL_HEADER)
            # A frame of a method is of type 1.
            return stream.recv(1) == b"\x01"
    except OSError:
        return False


def wait_for(address, process, seconds, log):
    """Until it serves; gives how long that took, in seconds. What it says is in `log`."""
    began = time.monotonic()
    while (left := seconds - (time.monotonic() - began)) > 0:
        if answers(address, left):
            return time.monotonic() - began
        if process.poll() is not None:
            break
        time.sleep(0.002)
    why = f"after {seconds} s" if process.poll() is None else f"it ended with {process.returncode}"
    raise Failure(f"no broker at {address}, {why}: {log.read_text(encoding='utf-8', errors='replace').strip()[-SHOWN_MAX:]}")


class Signals:
    """Whoever is asked to end ends what was started. While something is being started that waits, until it is known what."""

    def __init__(self):
        self.starting, self.came = False, None

    def on(self, number, _frame):
        # Once is enough: what was started is being ended.
        signal.signal(number, signal.SIG_IGN)
        self.came = number
        self.leave()

    def leave(self):
        if self.came is not None and not self.starting:
            sys.exit(128 + self.came)


SIGNALS = Signals()


def start(started, command, **options):
    """Starts a program; what is `started` is ended by the caller."""
    SIGNALS.starting = True
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        started.callback(end, process)
    finally:
        SIGNALS.starting = False
        SIGNALS.leave()
    return process


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_leveret(binary, folder, started, configuration="", http="none"):
    """Starts one of ours in a folder; what is `started` is ended by the caller. Gives its process, its address, and how long
    that took."""
    folder.mkdir(exist_ok=True)
    address, log = f"127.0.0.1:{free_port()}", folder / "leveret.log"
    (folder / "leveret.toml").write_text(configuration, encoding="utf-8")
    with open(log, "w", encoding="utf-8") as said:
        process = start(
            started,
            [str(binary), "--listen", address, "--http-listen", http, "--config", str(folder / "leveret.toml"),
             "--data-dir", str(folder / "data"), "--plugins-dir", str(folder / "plugins")],
            stdout=said, stderr=said)
    return process, address, wait_for(address, process, START_SECONDS_MAX, log)


@contextlib.contextmanager
def scratch(prefix):
    """A folder, and a list of what is ended before it goes."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name, contextlib.ExitStack() as started:
        yield Path(name), started


def run(main):
    """Runs a program's `main`. Whatever ends it, it ends what it started; what went wrong is one line."""
    signal.signal(signal.SIGTERM, SIGNALS.on)
    signal.signal(signal.SIGINT, SIGNALS.on)
    try:
        main()
    except Failure as failure:
        sys.exit(f"{Path(sys.argv[0]).name}: {failure}")
