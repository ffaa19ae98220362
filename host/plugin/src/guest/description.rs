//! What plugins say of themselves and of what they opened: checked where it comes from a guest.

use leveret_model::{Name, Reads, Table, Value};
use std::fmt;

/// The most arguments that are described for one type.
pub(super) const ARGUMENTS_MAX: usize = 64;
/// The most exchange types, and the most interceptors, in one plugin.
pub(super) const PROVIDED_MAX: usize = 64;

/// What a plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// Its own version.
    pub(crate) version: String,
    /// The exchange types it provides.
    pub(crate) types: Vec<TypeDescription>,
    /// The interceptors it provides.
    pub(crate) interceptors: Vec<InterceptorDescription>,
}

/// What a plugin says of an exchange type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TypeDescription {
    /// The name that clients use.
    pub name: String,
    /// One line of help.
    pub summary: String,
    /// What exchange.declare may say.
    pub arguments: Vec<ArgumentDescription>,
    /// What a binding may say.
    pub binding_arguments: Vec<ArgumentDescription>,
    /// Decisions depend on the bindings and on what is read alone.
    pub pure: bool,
    /// Decisions are the union of what each binding decides.
    pub independent_bindings: bool,
    /// One instance for all workers.
    pub single_writer: bool,
    /// How it is put in front of other types.
    pub stage: Option<Stage>,
}

/// How an exchange type is put in front of others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stage {
    /// The lower comes first.
    pub order: u32,
    /// The argument of exchange.declare that asks for it.
    pub argument: String,
}

/// What a plugin says of an interceptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterceptorDescription {
    /// Its name in the configuration.
    pub name: String,
    /// One line of help.
    pub summary: String,
    /// Where it can be attached.
    pub points: Vec<AttachmentPoint>,
    /// What the configuration may say.
    pub arguments: Vec<ArgumentDescription>,
    /// Verdicts depend on what is read and on the arguments alone.
    pub pure: bool,
}

/// Where on a message's way an interceptor is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttachmentPoint {
    /// Before it is routed.
    Publish,
    /// Before a consumer gets it.
    Deliver,
    /// Before it is dead-lettered.
    DeadLetter,
}

/// An argument that something may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentDescription {
    /// Its name.
    pub name: String,
    /// The class of its value.
    pub kind: ArgumentKind,
    /// It must be there.
    pub required: bool,
    /// One line of help.
    pub summary: String,
}

/// The class of an argument's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    /// Whatever it is.
    Any,
    /// A truth value.
    Boolean,
    /// An integer.
    Integer,
    /// An integer or a float.
    Number,
    /// A string that is UTF-8.
    Text,
    /// Any string.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A list.
    Array,
    /// A map.
    Table,
}

impl fmt::Display for AttachmentPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Deliver => "deliver",
            Self::DeadLetter => "dead-letter",
        })
    }
}

impl fmt::Display for ArgumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any value",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Bytes => "a string or bytes",
            Self::Timestamp => "a timestamp",
            Self::Array => "an array",
            Self::Table => "a table",
        })
    }
}

impl ArgumentKind {
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Boolean => matches!(value, Value::Boolean(_)),
            Self::Integer => matches!(value, Value::Integer(_) | Value::Unsigned(_)),
            Self::Number => {
                matches!(
                    value,
                    Value::Integer(_) | Value::Unsigned(_) | Value::Real(_) | Value::Decimal { .. }
                )
            }
            Self::Text => matches!(value, Value::Text(_)),
            Self::Bytes => matches!(value, Value::Text(_) | Value::Binary(_)),
            Self::Timestamp => matches!(value, Value::Timestamp(_)),
            Self::Array => matches!(value, Value::List(_)),
            Self::Table => matches!(value, Value::Map(_)),
        }
    }
}

/// Checks arguments against their descriptions. What is not described is let through.
///
/// # Errors
/// A text for the client that names the argument.
pub(crate) fn check_arguments(arguments: &Table, described: &[ArgumentDescription]) -> Result<(), String> {
    for argument in described {
        match arguments.get(argument.name.as_bytes()) {
            Some(value) if argument.kind.takes(value) => {}
            Some(value) => {
                return Err(format!(
                    "invalid arg '{}': it must be {}, not a value of type '{}'",
                    argument.name,
                    argument.kind,
                    value.class()
                ));
            }
            None if argument.required => return Err(missing(&argument.name)),
            None => {}
        }
    }
    Ok(())
}

/// The text for an argument that is not there.
pub(super) fn missing(argument: &str) -> String {
    format!("missing arg '{argument}'")
}

/// What came of opening an exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Opened {
    /// What it reads.
    pub(crate) reads: Reads,
    /// The type that decides what this one delegates.
    pub(crate) inner: Option<InnerType>,
    /// Whether it is told of bindings.
    pub(crate) bindings: bool,
}

/// A type behind another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InnerType {
    /// Its name.
    pub(crate) type_name: Name,
    /// The arguments it is opened with.
    pub(crate) arguments: Table,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked_by_name_and_class() {
        let described = |kind, required| ArgumentDescription {
            name: String::from("x-size"),
            kind,
            required,
            summary: String::new(),
        };
        let with = |value: Value| -> Table { [(Name::from_static("x-size"), value)].into_iter().collect() };
        let check = |table: &Table, kind, required| check_arguments(table, &[described(kind, required)]);
        assert_eq!(check(&Table::new(), ArgumentKind::Integer, true).unwrap_err(), "missing arg 'x-size'");
        check(&Table::new(), ArgumentKind::Integer, false).unwrap();
        check(&with(Value::Integer(1)), ArgumentKind::Integer, true).unwrap();
        check(&with(Value::Real(1.0)), ArgumentKind::Number, true).unwrap();
        let error = check(&with(Value::Text("1".into())), ArgumentKind::Integer, true).unwrap_err();
        assert_eq!(error, "invalid arg 'x-size': it must be an integer, not a value of type 'longstr'");
        check(&with(Value::Void), ArgumentKind::Any, true).unwrap();
        check(&with(Value::Void), ArgumentKind::Boolean, false).unwrap_err();
    }
}
