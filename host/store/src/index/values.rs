//! Values by space and key: topology, the state of plugins.

use crate::record::op::Space;
use std::{collections::BTreeMap, ops::Bound};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) expires_ms: u64,
}

pub(crate) type Key = (Space, Box<[u8]>);

/// All values.
#[derive(Default)]
pub(crate) struct Values {
    pub(crate) by_key: BTreeMap<Key, Value>,
    pub(crate) bytes: u64,
    /// During recovery: up to which key, inclusive, the checkpoint has them as of which batch; the last
    /// is without end.
    pub(crate) spans: Vec<(Option<Key>, u64)>,
}

impl Values {
    fn knows(&self, key: &Key, batch: u64) -> bool {
        let span = self.spans.iter().find(|(end, _)| end.as_ref().is_none_or(|end| key <= end));
        span.is_some_and(|(_, position)| batch <= *position)
    }

    pub(super) fn set(&mut self, space: Space, key: &[u8], bytes: &[u8], expires_ms: u64, batch: u64) {
        let key = (space, Box::from(key));
        if self.knows(&key, batch) {
            return;
        }
        self.bytes += (key.1.len() + bytes.len()) as u64;
        let (length, value) = (key.1.len(), Value { bytes: bytes.into(), expires_ms });
        if let Some(before) = self.by_key.insert(key, value) {
            self.bytes -= (length + before.bytes.len()) as u64;
        }
    }

    pub(super) fn unset(&mut self, space: Space, key: &[u8], batch: u64) {
        let key = (space, Box::from(key));
        if !self.knows(&key, batch)
            && let Some(before) = self.by_key.remove(&key)
        {
            self.bytes -= (key.1.len() + before.bytes.len()) as u64;
        }
    }

    pub(super) fn clear(&mut self, space: Space, batch: u64) {
        let keys: Vec<Key> = self.of(space).map(|(key, _)| (space, Box::from(key))).collect();
        for (space, key) in keys {
            self.unset(space, &key, batch);
        }
    }

    /// The values of a space, by key.
    pub(crate) fn of(&self, space: Space) -> impl Iterator<Item = (&[u8], &Value)> {
        let start = (Bound::Included((space, Box::default())), Bound::Unbounded);
        let found = self.by_key.range(start).take_while(move |((of, _), _)| *of == space);
        found.map(|((_, key), value)| (&**key, value))
    }

    /// The values of a space whose keys begin with a prefix, by key.
    pub(crate) fn with(&self, space: Space, prefix: &[u8]) -> impl Iterator<Item = (&[u8], &Value)> {
        let start = (Bound::Included((space, Box::from(prefix))), Bound::Unbounded);
        let found = self.by_key.range(start);
        let found = found.take_while(move |((of, key), _)| *of == space && key.starts_with(prefix));
        found.map(|((_, key), value)| (&**key, value))
    }

    /// The spaces that have values.
    pub(crate) fn spaces(&self) -> Vec<Space> {
        let mut spaces = Vec::new();
        let mut from = Some(Space(0));
        while let Some(at) = from {
            let next = self.by_key.range((at, Box::default())..).next();
            let found = next.map(|((space, _), _)| *space);
            spaces.extend(found);
            from = found.and_then(|space| space.0.checked_add(1)).map(Space);
        }
        spaces
    }

    pub(super) fn settle(&mut self) {
        self.spans = Vec::new();
    }
}
