//! Policies, as values: a table of what whoever set one said of it, so that more can be said later.
//!
//! ```text
//! pattern      a text
//! apply-to     a text
//! priority     a number
//! definition   a map
//! ```

use super::{
    DiskStore,
    codec::{Malformed, Take, TakeMore, VERSION, put_name, put_table},
    parts::Parts,
    spaces::POLICIES,
    users::told,
};
use crate::policies;
use leveret_access::Done;
use leveret_broker::policy::{Policy, PolicyKind};
use leveret_model::Name;
use leveret_store::Sync;

/// The numbers of the kinds.
const KINDS: [PolicyKind; 2] = [PolicyKind::User, PolicyKind::Operator];

impl DiskStore {
    /// All policies, with their virtual hosts. One that cannot be read is told in the log and left out.
    #[must_use]
    pub fn policies(&self) -> Vec<(Name, PolicyKind, Policy)> {
        let mut all = Vec::new();
        self.shared.store.values_with(POLICIES, b"", |key, value, _| {
            let read = read_key(key).map_err(|Malformed| "its name is none".to_owned());
            let read =
                read.and_then(|(vhost, kind, name)| Ok((vhost, kind, read_policy(kind, name, value)?)));
            match read {
                Ok(policy) => all.push(policy),
                Err(why) => tracing::error!(
                    "the store: policy '{}' cannot be read and is left out; set it again: {why}",
                    key.escape_ascii()
                ),
            }
        });
        all
    }

    /// Keeps a policy.
    pub fn keep_policy(&self, vhost: &Name, kind: PolicyKind, policy: &Policy, done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        parts.set(POLICIES, &key(vhost, kind, policy.name()), &value(policy), 0);
        // The waiter is told where it is not taken.
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&told(done), 0)));
    }

    /// A policy is gone.
    pub fn forget_policy(&self, vhost: &Name, kind: PolicyKind, name: &Name, done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        parts.unset(POLICIES, &key(vhost, kind, name));
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&told(done), 0)));
    }

    /// Puts into a group that a virtual host's policies are gone.
    pub(super) fn forget_policies(&self, vhost: &Name, parts: &mut Parts) {
        let mut prefix = Vec::new();
        put_name(&mut prefix, vhost);
        let mut keys = Vec::new();
        self.shared.store.values_with(POLICIES, &prefix, |key, _, _| keys.push(key.to_vec()));
        keys.iter().for_each(|key| parts.unset(POLICIES, key));
    }
}

fn key(vhost: &Name, kind: PolicyKind, name: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(vhost.len() + name.len() + 3);
    put_name(&mut key, vhost);
    key.push(KINDS.iter().position(|other| *other == kind).unwrap_or_default() as u8);
    put_name(&mut key, name);
    key
}

fn read_key(key: &[u8]) -> Result<(Name, PolicyKind, Name), Malformed> {
    let mut take = Take(key);
    let vhost = take.name()?;
    let kind = *KINDS.get(usize::from(take.u8()?)).ok_or(Malformed)?;
    let name = take.name()?;
    take.end()?;
    Ok((vhost, kind, name))
}

fn value(policy: &Policy) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_table(&mut out, &policies::fields(policy));
    out
}

fn read_policy(kind: PolicyKind, name: Name, value: &[u8]) -> Result<Policy, String> {
    let mut take = Take(value);
    let table = take.version().and_then(|()| take.table()).and_then(|table| take.end().map(|()| table));
    let table = table.map_err(|Malformed| "its value is malformed".to_owned())?;
    policies::policy(kind, name, &table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::{Table, Value};

    #[test]
    fn a_policy_is_read_as_it_was_written_and_nothing_else_is() {
        let map = |fields: &[(&str, Value)]| {
            let field = |(key, value): &(&str, Value)| (Value::Text((*key).to_owned()), value.clone());
            Value::Map(fields.iter().map(field).collect())
        };
        let definition = map(&[
            ("max-length", Value::Unsigned(u64::MAX)),
            ("overflow", Value::Text("drop-head".to_owned())),
        ]);
        let said = [
            ("pattern", Value::Text("^(a|b)$".to_owned())),
            ("apply-to", Value::Text("quorum_queues".to_owned())),
            ("priority", Value::Real(1.5)),
            ("definition", definition),
        ];
        let said: Table = said.into_iter().map(|(field, value)| (Name::from_static(field), value)).collect();
        for kind in KINDS {
            let (vhost, name) = (Name::from_static("/"), Name::from_static("p"));
            let policy = policies::policy(kind, name.clone(), &said).unwrap();
            let (key, value) = (key(&vhost, kind, &name), value(&policy));
            assert_eq!(read_key(&key), Ok((vhost, kind, name.clone())));
            let again = read_policy(kind, name.clone(), &value).unwrap();
            assert_eq!(policies::fields(&again), said);
            for length in 0..value.len() {
                assert!(read_policy(kind, name.clone(), &value[..length]).is_err(), "{length} bytes");
            }
        }
    }

    #[test]
    fn version_1_is_read_as_it_lies_in_stores() {
        let (vhost, kind, name) = read_key(b"\x01/\x01\x05short").unwrap();
        assert_eq!(
            (vhost.as_bytes(), kind, name.as_bytes()),
            (&b"/"[..], PolicyKind::Operator, &b"short"[..])
        );
        let mut value = b"\x01\x04\0\0\0\x07pattern\x04\x02\0\0\0^q\x08apply-to\x04\x06\0\0\0queues".to_vec();
        value.extend_from_slice(b"\x08priority\x03\0\0\0\0\0\0\xe0\x3f");
        value
            .extend_from_slice(b"\x0adefinition\x08\x18\0\0\0\x04\x0a\0\0\0max-length\x02\x09\0\0\0\0\0\0\0");
        let policy = read_policy(kind, name, &value).unwrap();
        let said = policies::fields(&policy);
        let text = |field: &str| said.get(field.as_bytes()).and_then(Value::as_text).map(str::to_owned);
        assert_eq!([text("pattern"), text("apply-to")], [Some("^q".into()), Some("queues".into())]);
        assert_eq!(said.get(b"priority".as_slice()), Some(&Value::Real(0.5)));
        let definition = vec![(Value::Text("max-length".to_owned()), Value::Integer(9))];
        assert_eq!(said.get(b"definition".as_slice()), Some(&Value::Map(definition)));
    }
}
