//! A data folder that is damaged: the broker starts, says what is wrong and what to do, and the rest serves. What a
//! later version wrote is left alone.

use crate::{BINARY, session::on_broker, simple};
use leveret_testkit::{Broker, broker::Stopped};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// Batches begin at multiples of this.
const BLOCK_BYTES: usize = 4096;
/// How many messages there are.
const MESSAGES: u32 = 20;

/// Leaves a data folder with numbered messages of that length, each confirmed before the next.
fn with_messages(count: u32, bytes: usize, end: impl FnOnce(Broker) -> Stopped) -> Stopped {
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        simple::declare(&channel).await;
        for number in 0..count {
            simple::publish(&channel, number, bytes, true).await;
        }
        connection.close(200, "done".into()).await.unwrap();
    });
    end(broker)
}

fn store(stopped: &Stopped) -> PathBuf {
    stopped.data_directory().join("store")
}

/// The files of the store whose names begin like that, in order.
fn files(store: &Path, prefix: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names.iter().map(|name| store.join(name)).collect()
}

/// Where the body of a message begins in a file.
fn find(bytes: &[u8], number: u32) -> usize {
    let body = simple::body(number, 40);
    bytes.windows(body.len()).position(|window| window == body).expect("the message is in the file")
}

fn flip(path: &Path, offset: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset as u64).unwrap();
}

/// Starts the broker, which serves: what is there comes, in order; what is new is kept, over another start too.
/// Gives the numbers that came, and the log.
fn serves(stopped: Stopped) -> (Vec<u32>, String) {
    let broker = stopped.start();
    let mut came = Vec::new();
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        came = simple::drain(&channel).await.into_iter().map(|(number, _)| number).collect();
        for number in [5000, 5001] {
            simple::publish(&channel, number, 100, true).await;
        }
        connection.close(200, "done".into()).await.unwrap();
    });
    assert!(came.is_sorted(), "{came:?}");
    let log = broker.log();
    let broker = broker.kill_for_a_while().start();
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        let numbers: Vec<_> = simple::drain(&channel).await.into_iter().map(|(number, _)| number).collect();
        assert!(numbers.ends_with(&[5000, 5001]), "{numbers:?}\n{}", broker.log());
    });
    (came, log)
}

/// The numbers of all messages but these.
fn all_but(missing: &[u32]) -> Vec<u32> {
    (0..MESSAGES).filter(|number| !missing.contains(number)).collect()
}

/// A line of the log speaks of the store, and has each of these words.
fn says(log: &str, words: &[&str]) {
    let told =
        log.lines().any(|line| line.contains("the store") && words.iter().all(|word| line.contains(word)));
    assert!(told, "no line about the store with {words:?}:\n{log}");
}

#[test]
fn a_bit_in_a_message_costs_that_message() {
    for end in [Broker::kill_for_a_while, Broker::stop_for_a_while] {
        let stopped = with_messages(MESSAGES, 3000, end);
        let segment = files(&store(&stopped), "segment-").remove(0);
        flip(&segment, find(&fs::read(&segment).unwrap(), 7) + 1000);
        let (came, _) = serves(stopped);
        assert_eq!(came, all_but(&[7]));
    }
}

#[test]
fn a_bit_in_what_says_what_is_there_costs_one_batch_and_is_told() {
    let stopped = with_messages(MESSAGES, 3000, Broker::kill_for_a_while);
    let segment = files(&store(&stopped), "segment-").remove(0);
    let batch = find(&fs::read(&segment).unwrap(), 7) / BLOCK_BYTES * BLOCK_BYTES;
    flip(&segment, batch + 20);
    let (came, log) = serves(stopped);
    assert_eq!(came, all_but(&[7]));
    says(&log, &["ERROR", "check the disk"]);
}

#[test]
fn a_journal_that_was_cut_serves_up_to_there_and_says_so() {
    let stopped = with_messages(MESSAGES, 3000, Broker::kill_for_a_while);
    let segment = files(&store(&stopped), "segment-").remove(0);
    let at = find(&fs::read(&segment).unwrap(), 15) / BLOCK_BYTES * BLOCK_BYTES;
    File::options().write(true).open(&segment).unwrap().set_len(at as u64 + 100).unwrap();
    let (came, log) = serves(stopped);
    assert_eq!(came, (0..15).collect::<Vec<_>>());
    let name = segment.file_name().unwrap().to_str().unwrap();
    says(&log, &["ERROR", name, "it was cut", "publish again what counts"]);
}

#[test]
fn a_segment_that_is_missing_costs_what_was_in_it_and_is_told() {
    // More than a segment has room for.
    let count = 190;
    let stopped = with_messages(count, 250_000, Broker::stop_for_a_while);
    let segments = files(&store(&stopped), "segment-");
    assert!(segments.len() > 1, "{segments:?}");
    fs::remove_file(&segments[0]).unwrap();
    let (came, log) = serves(stopped);
    assert!(came.len() > 20 && came.last() == Some(&(count - 1)), "{came:?}");
    assert!(came.len() < count as usize && came.windows(2).all(|two| two[0] + 1 == two[1]), "{came:?}");
    says(&log, &["ERROR", "lost", "publish it again"]);
    says(&log, &["more problems"]);
}

#[test]
fn the_last_file_of_the_journal_that_is_missing_or_zeros_is_told_and_the_rest_serves() {
    for zeros in [false, true] {
        let stopped = with_messages(MESSAGES, 3000, Broker::stop_for_a_while);
        let broker = stopped.start();
        let folder = broker.data_directory().join("store");
        on_broker(&broker, async |broker| {
            let (_connection, channel) = simple::connect(broker).await;
            for number in MESSAGES..2 * MESSAGES {
                simple::publish(&channel, number, 3000, true).await;
            }
        });
        let is_written_down = || {
            let manifest = fs::read(folder.join("manifest")).unwrap();
            let synced = |place: &[u8]| u64::from_le_bytes(place[24..32].try_into().unwrap());
            manifest.chunks(BLOCK_BYTES).map(synced).max() >= Some(u64::from(2 * MESSAGES))
        };
        until(is_written_down);
        let stopped = broker.kill_for_a_while();
        let store = store(&stopped);
        let has = |path: &PathBuf| {
            let (bytes, body) = (fs::read(path).unwrap(), simple::body(2 * MESSAGES - 1, 40));
            bytes.windows(body.len()).any(|window| window == body)
        };
        let last = files(&store, "segment-").into_iter().find(has).unwrap();
        if zeros {
            let length = last.metadata().unwrap().len() as usize;
            fs::write(&last, vec![0; length]).unwrap();
        } else {
            fs::remove_file(&last).unwrap();
        }
        let name = last.file_name().unwrap().to_str().unwrap();
        let check = Command::new(BINARY)
            .args(["store", "check", "--data-dir"])
            .arg(stopped.data_directory())
            .output();
        let check = check.unwrap();
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(check.status.code() == Some(1) && said.contains(name), "{said}");
        let (came, log) = serves(stopped);
        assert_eq!(came, all_but(&[]));
        says(&log, &["ERROR", name, "publish again what counts"]);
        says(&log, &["ERROR", "batches", "the rest serves"]);
    }
}

/// Waits until something is so; not for ever.
fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < 60, "not in a minute");
        std::thread::yield_now();
    }
}

#[test]
fn without_checkpoints_everything_is_there() {
    let stopped = with_messages(MESSAGES, 3000, Broker::stop_for_a_while);
    let checkpoints = files(&store(&stopped), "checkpoint-");
    assert!(!checkpoints.is_empty());
    checkpoints.iter().for_each(|checkpoint| fs::remove_file(checkpoint).unwrap());
    assert_eq!(serves(stopped).0, all_but(&[]));
}

#[test]
fn with_damaged_checkpoints_everything_is_there_and_they_are_named() {
    let stopped = with_messages(MESSAGES, 3000, Broker::stop_for_a_while);
    let checkpoints = files(&store(&stopped), "checkpoint-");
    checkpoints.iter().for_each(|checkpoint| flip(checkpoint, 50));
    let (came, log) = serves(stopped);
    assert_eq!(came, all_but(&[]));
    let name = checkpoints[0].file_name().unwrap().to_str().unwrap();
    says(&log, &["ERROR", name, "has all that it had"]);
}

/// The content of all files of a folder.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder, "").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn what_a_later_version_wrote_is_refused_and_left_alone() {
    let stopped = with_messages(MESSAGES, 3000, Broker::stop_for_a_while);
    let store = store(&stopped);
    let segment = files(&store, "segment-").remove(0);
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut header = [0; 32];
    file.read_exact_at(&mut header, 0).unwrap();
    let as_it_was = header;
    header[8] = 3;
    let check = crc32(&[&header[..12], &header[16..]].concat());
    header[12..16].copy_from_slice(&check.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
    let before = content(&store);
    let (stopped, status, log) = stopped.fails_to_start();
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    for words in ["segment-", "format 3", "newer version of the broker", "--data-dir", "Nothing was changed"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    assert!(content(&store) == before, "files were changed");
    // And it was only that.
    file.write_all_at(&as_it_was, 0).unwrap();
    assert_eq!(serves(stopped).0, all_but(&[]));
}

/// CRC-32 as the header has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}
