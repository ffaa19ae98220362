//! Ways to change the plugins directory of a running broker, each with the line it leads to.

use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// How a file gets into the plugins directory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Opened where it shall be and written piece by piece, as `cp` does.
    InPlace,
    /// Written aside and renamed, as careful programs do.
    Renamed,
}

fn place(broker: &Broker, file: &str) -> PathBuf {
    broker.plugins_directory().join(file)
}

/// Puts these bytes there and gives the line of the log that starts with `awaited`.
pub(crate) fn put(broker: &Broker, way: Way, bytes: &[u8], file: &str, awaited: &str) -> String {
    let before = broker.log_length();
    match way {
        Way::InPlace => {
            let mut there = fs::File::create(place(broker, file)).unwrap();
            for piece in bytes.chunks(16 * 1024) {
                there.write_all(piece).unwrap();
            }
        }
        Way::Renamed => {
            let aside = broker.aside().join("written-aside");
            fs::write(&aside, bytes).unwrap();
            fs::rename(aside, place(broker, file)).unwrap();
        }
    }
    let line = broker.wait_for_log_after(before, awaited, EVENT_WAIT_MAX);
    assert!(line.contains(file), "the line does not name the file: {line}");
    line
}

/// Puts a guest there under this name and waits until it serves.
pub(crate) fn deploy(broker: &Broker, way: Way, guest: &str, file: &str) {
    let bytes = fs::read(guests::component(guest)).unwrap();
    put(broker, way, &bytes, file, log_lines::PLUGIN_SERVES);
}

/// Takes the file away and waits until the broker has seen it.
pub(crate) fn remove(broker: &Broker, file: &str) {
    let before = broker.log_length();
    fs::remove_file(place(broker, file)).unwrap();
    broker.wait_for_log_after(before, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
}
