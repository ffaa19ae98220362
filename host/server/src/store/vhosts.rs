//! What was said of virtual hosts while the broker ran, as values: a table, so that more can be said later.
//!
//! ```text
//! made               a boolean, true if it was made while the broker ran
//! description        a text, where there is one
//! tags               a list of texts, where there are some
//! max-connections    a number, where there is that limit
//! max-queues         likewise
//! queue-type         a text, where there is one
//! protected          a boolean, where it is true
//! ```

use super::{
    DiskStore,
    codec::{Malformed, Take, TakeMore, VERSION, put_name, put_table},
    parts::Parts,
    spaces::VHOSTS,
    users::told,
};
use leveret_access::Done;
use leveret_broker::queue::QueueKind;
use leveret_model::{Name, Table, Value};
use leveret_store::Sync;
use std::collections::BTreeMap;

/// What was said of a virtual host while the broker ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostRecord {
    /// It was made then, so it is there though the configuration does not name it.
    pub made: bool,
    /// For people to read.
    pub description: String,
    /// For people to sort them.
    pub tags: Vec<String>,
    /// How many connections it may have.
    pub connections_max: Option<u64>,
    /// How many queues.
    pub queues_max: Option<u64>,
    /// Of which type queues are that name none, where that is said.
    pub queue_type: Option<QueueKind>,
    /// It is not deleted.
    pub is_protected: bool,
}

impl DiskStore {
    /// The virtual hosts that are known. Of one whose record cannot be read nothing was said; the log tells.
    #[must_use]
    pub fn known_vhosts(&self) -> BTreeMap<Name, VhostRecord> {
        let mut vhosts = BTreeMap::new();
        self.shared.store.values_with(VHOSTS, b"", |key, value, _| {
            let Ok(name) = Take(key).name() else { return };
            let record = read(value).unwrap_or_else(|Malformed| {
                tracing::error!("the store: what was said of virtual host '{name}' cannot be read");
                VhostRecord::default()
            });
            vhosts.insert(name, record);
        });
        vhosts
    }

    /// Keeps what is said of a virtual host.
    pub fn know_vhost(&self, vhost: &Name, record: &VhostRecord, done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        parts.set(VHOSTS, &key(vhost), &value(record), 0);
        // The waiter is told where it is not taken.
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&told(done), 0)));
    }

    /// A virtual host is gone, with all that is kept of it.
    pub fn forget_vhost(&self, vhost: &Name, done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        for queue in self.shared.bindings.forget_vhost(&self.shared.store, vhost, &mut parts) {
            self.shared.added.forget_all(queue, &mut parts);
        }
        self.forget_policies(vhost, &mut parts);
        // Last: what is left after a crash before that belongs to a virtual host that is known.
        parts.unset(VHOSTS, &key(vhost));
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&told(done), 0)));
    }
}

fn key(name: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1);
    put_name(&mut key, name);
    key
}

fn value(record: &VhostRecord) -> Vec<u8> {
    let VhostRecord { made, description, tags, connections_max, queues_max, queue_type, is_protected } =
        record;
    let number =
        |limit: &Option<u64>| limit.map(|limit| Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let tags = tags.iter().map(|tag| Value::Text(tag.clone())).collect();
    let fields = [
        ("made", Some(Value::Boolean(*made))),
        ("description", Some(Value::Text(description.clone()))),
        ("tags", Some(Value::List(tags))),
        ("max-connections", number(connections_max)),
        ("max-queues", number(queues_max)),
        ("protected", is_protected.then_some(Value::Boolean(true))),
        ("queue-type", queue_type.map(|kind| Value::Text(kind.as_str().to_owned()))),
    ];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((Name::from_static(name), value?)));
    let mut out = vec![VERSION];
    put_table(&mut out, &fields.collect::<Table>());
    out
}

fn read(value: &[u8]) -> Result<VhostRecord, Malformed> {
    let mut take = Take(value);
    take.version()?;
    let table = take.table()?;
    take.end()?;
    let number = |name: &[u8]| match table.get(name) {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let text = |value: &Value| value.as_text().map(ToString::to_string);
    Ok(VhostRecord {
        made: matches!(table.get(b"made".as_slice()), Some(Value::Boolean(true))),
        description: table.get(b"description".as_slice()).and_then(text).unwrap_or_default(),
        tags: match table.get(b"tags".as_slice()) {
            Some(Value::List(tags)) => tags.iter().filter_map(text).collect(),
            _ => Vec::new(),
        },
        connections_max: number(b"max-connections"),
        queues_max: number(b"max-queues"),
        is_protected: matches!(table.get(b"protected".as_slice()), Some(Value::Boolean(true))),
        queue_type: table.get(b"queue-type".as_slice()).and_then(Value::as_text).and_then(QueueKind::named),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = VhostRecord {
            made: true,
            description: "d".to_owned(),
            tags: vec!["a".to_owned(), "b".to_owned()],
            connections_max: Some(3),
            queues_max: None,
            queue_type: Some(QueueKind::Quorum),
            is_protected: true,
        };
        for record in [record, VhostRecord::default()] {
            let value = value(&record);
            assert_eq!(read(&value), Ok(record));
            assert!(read(&value[..value.len() - 1]).is_err());
        }
        // As the first version of this wrote it.
        assert_eq!(read(&[VERSION, 0, 0, 0, 0]), Ok(VhostRecord::default()));
    }

    #[test]
    fn version_1_is_read_as_it_lies_in_stores() {
        let value = b"\x01\x02\0\0\0\x04made\x01\x01\x0amax-queues\x02\x07\0\0\0\0\0\0\0";
        let record = VhostRecord { made: true, queues_max: Some(7), ..VhostRecord::default() };
        assert_eq!(read(value), Ok(record));
    }
}
