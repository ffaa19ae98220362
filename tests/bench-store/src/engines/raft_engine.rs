//! A log with an index in memory, made for Raft groups. Its entries go only from the front, so messages
//! are values by key; it keeps those in memory too.

use super::{Engine, Outcome, Work};
use raft_engine::{Config, LogBatch, ReadableSize};
use std::path::Path;

struct Raft(raft_engine::Engine);

pub fn open(path: &Path, _: u32) -> Outcome<Box<dyn Engine>> {
    let config = Config {
        dir: path.to_string_lossy().into_owned(),
        // As the others: nothing of this is worth compressing.
        batch_compression_threshold: ReadableSize::kb(0),
        // Files are used again, as ours are.
        enable_log_recycle: true,
        purge_threshold: ReadableSize::mb(256),
        ..Config::default()
    };
    Ok(Box::new(Raft(raft_engine::Engine::open(config)?)))
}

impl Engine for Raft {
    fn run(&mut self, work: &Work<'_>) -> Outcome<Option<u64>> {
        let mut commits = 0;
        for (batch, acks) in work.publishes.chunks(work.window).zip(work.acks) {
            let mut write = LogBatch::with_capacity(batch.len());
            for (queue, place) in batch {
                write.put(u64::from(*queue) + 1, place.to_be_bytes().to_vec(), work.body.to_vec())?;
            }
            for (queue, place) in acks {
                write.delete(u64::from(*queue) + 1, place.to_be_bytes().to_vec());
            }
            self.0.write(&mut write, true)?;
            commits += 1;
            if commits % 64 == 0 {
                self.0.purge_expired_files()?;
            }
        }
        Ok(Some(commits))
    }

    fn read(&mut self, queue: u32) -> Outcome<u64> {
        let mut count = 0;
        self.0.scan_raw_messages(u64::from(queue) + 1, None, None, false, |_, value| {
            count += u64::from(!value.is_empty());
            true
        })?;
        Ok(count)
    }
}
