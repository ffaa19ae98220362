//! Global parameters, as values.
//!
//! ```text
//! key    the name
//! value  u8 version, JSON
//! ```

use super::{DiskStore, codec::VERSION, parts::Parts, spaces::GLOBALS, users::told};
use leveret_access::Done;
use leveret_store::Sync;
use serde_json::Value;
use std::collections::BTreeMap;

impl DiskStore {
    /// All global parameters by name. One that cannot be read is told in the log and left out.
    #[must_use]
    pub fn global_parameters(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        self.shared.store.values_with(GLOBALS, b"", |key, value, _| match read(key, value) {
            Some((name, value)) => drop(all.insert(name, value)),
            None => tracing::error!(
                "the store: the global parameter '{}' cannot be read and is left out; set it again",
                key.escape_ascii()
            ),
        });
        all
    }

    /// Keeps a global parameter.
    pub fn keep_global_parameter(&self, name: &str, value: &Value, done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        parts.set(GLOBALS, name.as_bytes(), &written(value), 0);
        // The waiter is told where it is not taken.
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&told(done), 0)));
    }

    /// A global parameter is gone.
    pub fn forget_global_parameter(&self, name: &str, done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        parts.unset(GLOBALS, name.as_bytes());
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&told(done), 0)));
    }
}

fn written(value: &Value) -> Vec<u8> {
    [&[VERSION], value.to_string().as_bytes()].concat()
}

fn read(key: &[u8], value: &[u8]) -> Option<(String, Value)> {
    let (version, json) = value.split_first()?;
    let value = serde_json::from_slice(json).ok().filter(|_| *version == VERSION)?;
    Some((String::from_utf8(key.to_vec()).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// It must be read for ever.
    #[test]
    fn version_1_is_read_as_it_lies_in_stores() {
        let value = json!({ "a": [1, "x", null, 1.5] });
        assert_eq!(written(&value), b"\x01{\"a\":[1,\"x\",null,1.5]}");
        assert_eq!(read(b"name", &written(&value)), Some(("name".to_owned(), value)));
        for damaged in [&b""[..], b"\x01", b"\x02{}", b"\x01{"] {
            assert_eq!(read(b"name", damaged), None);
        }
        assert_eq!(read(b"\xff", b"\x01{}"), None);
    }
}
