//! A log-structured tree in C++: keys by queue and place, bodies in blob files; each batch synced. The system's own
//! library is linked: see README.md.

use super::{Engine, Outcome, Work, key};
use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use std::path::Path;

struct RocksDb(DB);

pub fn open(path: &Path, _: u32) -> Outcome<Box<dyn Engine>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_enable_blob_files(true);
    options.set_enable_blob_gc(true);
    Ok(Box::new(RocksDb(DB::open(&options, path)?)))
}

impl Engine for RocksDb {
    fn run(&mut self, work: &Work<'_>) -> Outcome<Option<u64>> {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let mut commits = 0;
        for (batch, acks) in work.publishes.chunks(work.window).zip(work.acks) {
            let mut write = WriteBatch::default();
            batch.iter().for_each(|place| write.put(key(*place), work.body));
            acks.iter().for_each(|place| write.delete(key(*place)));
            self.0.write_opt(write, &synced)?;
            commits += 1;
        }
        Ok(Some(commits))
    }

    fn read(&mut self, queue: u32) -> Outcome<u64> {
        let (from, to) = (key((queue, 0)), key((queue, u64::MAX)));
        let mut count = 0;
        for entry in self.0.iterator(IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = entry?;
            if *key > to[..] {
                break;
            }
            count += u64::from(!value.is_empty());
        }
        Ok(count)
    }
}
