//! How definitions come together with each other and with a queue's arguments, as in RabbitMQ 4.3.
//!
//! | key | operator's and user's | policy and argument |
//! |---|---|---|
//! | `message-ttl` `expires` `max-length` `max-length-bytes` `consumer-…timeout` | the smaller | the smaller |
//! | `delivery-limit` | the smaller; where one is negative, the greater | likewise |
//! | `overflow` | the operator's | classic queue: the argument; quorum queue: the policy |
//! | `delayed-retry-type` | the operator's | the policy |
//! | `delayed-retry-min` | the greater | the smaller |
//! | `delayed-retry-max` | the smaller | the smaller |
//! | `target-group-size` | the greater | (no meaning) |
//! | any other | the operator's | the argument |

use super::Applied;
use crate::queue::QueueKind;
use alloc::vec::Vec;
use leveret_model::{Name, Table, Value};

/// What a user's definition and an operator's come to, by key.
pub(super) fn definitions(user: Table, operator: Table) -> Table {
    let mut all: Vec<(Name, Value)> = user
        .iter()
        .map(|(key, value)| {
            let both = operator.get(key).map(|limit| of_both(key, value, limit));
            (key.clone(), both.unwrap_or(value).clone())
        })
        .collect();
    let more = operator.iter().filter(|(key, _)| user.get(key).is_none());
    all.extend(more.map(|(key, value)| (key.clone(), value.clone())));
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().collect()
}

/// The arguments of a queue together with what its policies say.
pub(crate) fn arguments(declared: &Table, kind: QueueKind, applied: &Applied) -> Table {
    let mut definition: Vec<(Name, Value)> = Vec::new();
    for (key, value) in applied.definition().iter() {
        // Keys are short: they were checked.
        let Ok(argument) = Name::new(&[b"x-", key.as_bytes()].concat()) else { continue };
        let value = match declared.get(&argument) {
            Some(own) => with_own(key, kind, value, own),
            None => value,
        };
        definition.push((argument, value.clone()));
    }
    let own = declared.iter().map(|(argument, value)| (argument.clone(), value.clone()));
    // Of a name that is there twice the first counts.
    definition.into_iter().chain(own).collect()
}

fn of_both<'a>(key: &[u8], user: &'a Value, operator: &'a Value) -> &'a Value {
    match key {
        b"message-ttl"
        | b"expires"
        | b"max-length"
        | b"max-length-bytes"
        | b"max-in-memory-length"
        | b"max-in-memory-bytes"
        | b"delayed-retry-max" => smaller(user, operator),
        b"delivery-limit" => less_limited(user, operator),
        b"target-group-size" | b"delayed-retry-min" => greater(user, operator),
        _ => operator,
    }
}

fn with_own<'a>(key: &[u8], kind: QueueKind, policy: &'a Value, own: &'a Value) -> &'a Value {
    match key {
        b"message-ttl"
        | b"expires"
        | b"max-length"
        | b"max-length-bytes"
        | b"consumer-timeout"
        | b"consumer-disconnected-timeout"
        | b"delayed-retry-min"
        | b"delayed-retry-max" => smaller(policy, own),
        b"delivery-limit" => less_limited(policy, own),
        b"overflow" if kind == QueueKind::Quorum => policy,
        b"delayed-retry-type" => policy,
        _ => own,
    }
}

fn smaller<'a>(a: &'a Value, b: &'a Value) -> &'a Value {
    if number(b) < number(a) { b } else { a }
}

fn greater<'a>(a: &'a Value, b: &'a Value) -> &'a Value {
    if number(b) > number(a) { b } else { a }
}

/// A negative limit is none, and one that is there counts.
fn less_limited<'a>(a: &'a Value, b: &'a Value) -> &'a Value {
    if number(a) < 0 || number(b) < 0 { greater(a, b) } else { smaller(a, b) }
}

/// What is no integer was refused before.
fn number(value: &Value) -> i128 {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Unsigned(number) => (*number).into(),
        _ => i128::MAX,
    }
}
