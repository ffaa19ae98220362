//! A copy-on-write tree in one file: a transaction a batch, durable at once.

use super::{Engine, Outcome, Work, key};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

const MESSAGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("messages");

struct Redb(Database);

pub fn open(path: &Path, _: u32) -> Outcome<Box<dyn Engine>> {
    let database = Database::create(path.join("messages.redb"))?;
    let write = database.begin_write()?;
    write.open_table(MESSAGES)?;
    write.commit()?;
    Ok(Box::new(Redb(database)))
}

impl Engine for Redb {
    fn run(&mut self, work: &Work<'_>) -> Outcome<Option<u64>> {
        let mut commits = 0;
        for (batch, acks) in work.publishes.chunks(work.window).zip(work.acks) {
            let mut write = self.0.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            {
                let mut table = write.open_table(MESSAGES)?;
                for place in batch {
                    table.insert(key(*place).as_slice(), work.body)?;
                }
                for place in acks {
                    table.remove(key(*place).as_slice())?;
                }
            }
            write.commit()?;
            commits += 1;
        }
        Ok(Some(commits))
    }

    fn read(&mut self, queue: u32) -> Outcome<u64> {
        let table = self.0.begin_read()?.open_table(MESSAGES)?;
        let (from, to) = (key((queue, 0)), key((queue, u64::MAX)));
        let mut count = 0;
        for entry in table.range(from.as_slice()..=to.as_slice())? {
            count += u64::from(!entry?.1.value().is_empty());
        }
        Ok(count)
    }
}
