//! The policies of a broker: those that its store has, and those that its configuration declares.
//!
//! What they say is `host/broker`'s business; here they are read from what somebody said, kept, and changed.

use crate::{config::DeclaredPolicy, store::DiskStore};
use leveret_access::{Done, Keeper as _, Pattern};
use leveret_broker::{
    Vhost,
    policy::{ApplyTo, NamePattern, Policies, Policy, PolicyKind, term},
};
use leveret_model::{Name, Table, Value};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

const PATTERN: &[u8] = b"pattern";
const APPLY_TO: &[u8] = b"apply-to";
const PRIORITY: &[u8] = b"priority";
const DEFINITION: &[u8] = b"definition";

/// A pattern of names. Unlike those of permissions, the empty one is found in every name.
#[derive(Debug)]
struct Found {
    text: String,
    pattern: Pattern,
}

impl NamePattern for Found {
    fn text(&self) -> &str {
        &self.text
    }

    fn is_in(&self, name: &[u8]) -> bool {
        self.pattern.matches(name)
    }
}

/// The policy that somebody describes by `pattern`, `definition`, and, if not zero and `all`, `priority` and `apply-to`.
///
/// # Errors
/// What is wrong with it, in RabbitMQ's words: a line for each thing.
pub fn policy(kind: PolicyKind, name: Name, fields: &Table) -> Result<Policy, String> {
    let definition = definition(fields.get(DEFINITION), &name);
    let definition = definition.and_then(|table| Policy::check(kind, &table).map(|()| table));
    let apply_to = apply_to(fields.get(APPLY_TO));
    let pattern = pattern(fields.get(PATTERN), &name);
    let priority = priority(fields.get(PRIORITY));
    match (definition, apply_to, pattern, priority) {
        (Ok(definition), Ok(apply_to), Ok(pattern), Ok(priority)) => {
            Policy::new(kind, name, Box::new(pattern), (apply_to, priority), definition)
        }
        (definition, apply_to, pattern, priority) => {
            let wrong = [definition.err(), apply_to.err(), pattern.err(), priority.err()];
            Err(wrong.into_iter().flatten().collect::<Vec<_>>().join("\n"))
        }
    }
}

fn missing(field: &str, name: &Name) -> String {
    format!("Key \"{field}\" not found in {name}")
}

fn definition(said: Option<&Value>, name: &Name) -> Result<Table, String> {
    let said = said.ok_or_else(|| missing("definition", name))?;
    let Value::Map(fields) = said else {
        return Err(format!("definition must be a dictionary: {}", term(said)));
    };
    let field = |(key, value): &(Value, Value)| {
        let key = key.as_text().ok_or_else(|| format!("{} is no key", term(key)))?;
        let key = Name::new(key.as_bytes()).map_err(|error| format!("the key '{key}': {error}"))?;
        Ok((key, value.clone()))
    };
    fields.iter().map(field).collect()
}

fn apply_to(said: Option<&Value>) -> Result<ApplyTo, String> {
    let Some(said) = said else { return Ok(ApplyTo::default()) };
    said.as_text().and_then(ApplyTo::named).ok_or_else(|| {
        let shown = said.as_text().map_or_else(|| term(said), str::to_owned);
        format!(
            "apply-to '{shown}' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', \
             'streams', 'exchanges', or 'all'"
        )
    })
}

fn pattern(said: Option<&Value>, name: &Name) -> Result<Found, String> {
    let said = said.ok_or_else(|| missing("pattern", name))?;
    let text = said.as_text().ok_or_else(|| format!("pattern should be a binary but was {}", term(said)))?;
    let pattern = if text.is_empty() { Ok(Pattern::all()) } else { Pattern::new(text) };
    let pattern =
        pattern.map_err(|error| format!("pattern should be regular expression but is invalid: {error}"))?;
    Ok(Found { text: text.to_owned(), pattern })
}

fn priority(said: Option<&Value>) -> Result<f64, String> {
    match said {
        None => Ok(0.0),
        Some(Value::Integer(number)) => Ok(*number as f64),
        Some(Value::Unsigned(number)) => Ok(*number as f64),
        // No negative zero: it is kept as a whole number.
        Some(Value::Real(number)) if number.is_finite() => Ok(*number + 0.0),
        Some(other) => Err(format!("priority should be a number, actually was {}", term(other))),
    }
}

/// What [`policy`] makes that policy of.
#[must_use]
pub fn fields(policy: &Policy) -> Table {
    let field = |(key, value): (&Name, &Value)| (Value::string(key), value.clone());
    let priority = policy.priority();
    let is_whole = priority.fract() == 0.0 && priority.abs() < 1e15;
    let fields = [
        (PATTERN, Value::string(policy.pattern().as_bytes())),
        (APPLY_TO, Value::string(policy.apply_to().as_str().as_bytes())),
        (PRIORITY, if is_whole { Value::Integer(priority as i64) } else { Value::Real(priority) }),
        (DEFINITION, Value::Map(policy.definition().iter().map(field).collect())),
    ];
    fields.into_iter().filter_map(|(field, value)| Some((Name::new(field).ok()?, value))).collect()
}

/// Why a policy is not changed. Everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRefused {
    /// There is none of that name.
    NotThere,
    /// The configuration declares it.
    Declared(Name),
    /// Not taken by what keeps it, in words.
    NotKept(String),
}

impl fmt::Display for PolicyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => f.write_str("there is no such policy"),
            Self::Declared(name) => write!(
                f,
                "the configuration declares policy '{name}', so it is changed there and holds after a restart"
            ),
            Self::NotKept(why) => f.write_str(why),
        }
    }
}

/// Which policies there are beyond those that virtual hosts have, and where they are kept.
pub struct PolicyBook {
    store: DiskStore,
    declared: BTreeSet<(Name, PolicyKind, Name)>,
    /// Held while something changes and is handed over, so that both happen in the same order.
    changing: Mutex<()>,
}

impl PolicyBook {
    /// The policies that a store has, and those that are declared, which win: what the store has of one of the same name
    /// is taken away there. Gives what each virtual host begins with too.
    #[must_use]
    pub fn open(declared: &[DeclaredPolicy], store: &DiskStore) -> (Self, BTreeMap<Name, Policies>) {
        let mut all: BTreeMap<Name, Policies> = BTreeMap::new();
        for (vhost, kind, policy) in store.policies() {
            all.entry(vhost).or_default().put(kind, Arc::new(policy));
        }
        let mut names = BTreeSet::new();
        for DeclaredPolicy { vhost, kind, policy } in declared {
            let its = all.entry(vhost.clone()).or_default();
            let name = policy.name();
            if its.get(*kind, name).is_some() && !names.contains(&(vhost.clone(), *kind, name.clone())) {
                tracing::warn!(
                    "policy '{name}' in virtual host '{vhost}' is declared in the configuration, which holds; what the \
                     store has of it is taken away"
                );
                store.forget_policy(vhost, *kind, name, Box::new(|_| {}));
            }
            its.put(*kind, policy.clone());
            names.insert((vhost.clone(), *kind, name.clone()));
        }
        (Self { store: store.clone(), declared: names, changing: Mutex::default() }, all)
    }

    /// Whether the configuration declares it.
    #[must_use]
    pub fn is_declared(&self, vhost: &Name, kind: PolicyKind, name: &Name) -> bool {
        self.declared.contains(&(vhost.clone(), kind, name.clone()))
    }

    fn check(&self, vhost: &Vhost, kind: PolicyKind, name: &Name) -> Result<(), PolicyRefused> {
        let is_declared = self.is_declared(vhost.name(), kind, name);
        if is_declared { Err(PolicyRefused::Declared(name.clone())) } else { Ok(()) }
    }

    /// Sets a policy of a virtual host at the time `now_ms`; true if it is new. `done` is told when it is kept.
    ///
    /// # Errors
    /// It is declared, or is not kept. Then `done` is not called.
    pub fn put(
        &self,
        vhost: &Vhost,
        (kind, policy): (PolicyKind, Policy),
        now_ms: u64,
        done: Done,
    ) -> Result<bool, PolicyRefused> {
        let _in_order = self.changing.lock();
        self.check(vhost, kind, policy.name())?;
        self.store.admit().map_err(PolicyRefused::NotKept)?;
        let (mut all, policy) = ((*vhost.policies()).clone(), Arc::new(policy));
        let is_new = all.get(kind, policy.name()).is_none();
        all.put(kind, policy.clone());
        vhost.set_policies(all, now_ms);
        tracing::info!("policy '{}' in virtual host '{}' is set", policy.name(), vhost.name());
        self.store.keep_policy(vhost.name(), kind, &policy, done);
        Ok(is_new)
    }

    /// Takes a policy of a virtual host away at the time `now_ms`. `done` is told when that is kept.
    ///
    /// # Errors
    /// It is not there, or declared. Then `done` is not called.
    pub fn delete(
        &self,
        vhost: &Vhost,
        (kind, name): (PolicyKind, &Name),
        now_ms: u64,
        done: Done,
    ) -> Result<(), PolicyRefused> {
        let _in_order = self.changing.lock();
        let mut all = (*vhost.policies()).clone();
        all.remove(kind, name).ok_or(PolicyRefused::NotThere)?;
        self.check(vhost, kind, name)?;
        vhost.set_policies(all, now_ms);
        tracing::info!("policy '{name}' in virtual host '{}' is cleared", vhost.name());
        self.store.forget_policy(vhost.name(), kind, name, done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(fields: &[(&'static str, Value)]) -> String {
        let fields = fields.iter().map(|(field, value)| (Name::from_static(field), value.clone()));
        let made = policy(PolicyKind::User, Name::from_static("p"), &fields.collect());
        made.map_or_else(|why| why, |policy| policy.priority().to_string())
    }

    /// Said by RabbitMQ 4.3.6.
    #[test]
    fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
        let text = |text: &str| Value::Text(text.to_owned());
        let limit = Value::Map(vec![(text("max-length"), Value::Integer(3))]);
        let good = [("pattern", text("x")), ("definition", limit.clone())];
        let with = |field, value: Value| {
            let others = good.iter().filter(|(other, _)| *other != field).cloned();
            refusal(&[(field, value)].into_iter().chain(others).collect::<Vec<_>>())
        };
        assert_eq!(refusal(&good), "0");
        assert_eq!(with("priority", Value::Real(1.5)), "1.5");
        assert_eq!(with("priority", text("3")), "priority should be a number, actually was <<\"3\">>");
        assert_eq!(with("priority", Value::Void), "priority should be a number, actually was null");
        assert_eq!(with("pattern", Value::Integer(5)), "pattern should be a binary but was 5");
        let invalid = "pattern should be regular expression but is invalid: ";
        assert!(with("pattern", text("(")).starts_with(invalid));
        assert_eq!(
            with("apply-to", text("foo")),
            "apply-to 'foo' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', \
             'exchanges', or 'all'"
        );
        assert_eq!(with("definition", Value::Map(Vec::new())), "no policy provided");
        let both = refusal(&[("pattern", Value::Integer(5)), ("definition", limit), ("priority", text("a"))]);
        assert_eq!(both.lines().count(), 2, "{both}");
    }

    #[test]
    fn the_empty_pattern_is_in_every_name() {
        let found = |text: &str, name: &[u8]| {
            let text = Value::Text(text.to_owned());
            pattern(Some(&text), &Name::EMPTY).unwrap().is_in(name)
        };
        assert!(found("", b"q") && found("", b"") && found("^q", b"q") && !found("^q", b"a.q"));
        assert!(found("q", b"a.q"));
    }
}
