//! A log-structured tree: one keyspace, keys by queue and place, values apart from keys; each batch
//! synced.

use super::{Engine, Outcome, Work, key};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;

struct Fjall {
    database: Database,
    messages: Keyspace,
}

pub fn open(path: &Path, _: u32) -> Outcome<Box<dyn Engine>> {
    let database = Database::builder(path).open()?;
    let options =
        || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
    let messages = database.keyspace("messages", options)?;
    Ok(Box::new(Fjall { database, messages }))
}

impl Engine for Fjall {
    fn run(&mut self, work: &Work<'_>) -> Outcome<Option<u64>> {
        let mut commits = 0;
        for (batch, acks) in work.publishes.chunks(work.window).zip(work.acks) {
            let mut write = self.database.batch().durability(Some(PersistMode::SyncData));
            batch.iter().for_each(|place| write.insert(&self.messages, key(*place), work.body));
            acks.iter().for_each(|place| write.remove(&self.messages, key(*place)));
            write.commit()?;
            commits += 1;
        }
        Ok(Some(commits))
    }

    fn read(&mut self, queue: u32) -> Outcome<u64> {
        let mut count = 0;
        for guard in self.messages.prefix(queue.to_be_bytes()) {
            count += u64::from(!guard.value()?.is_empty());
        }
        Ok(count)
    }
}
