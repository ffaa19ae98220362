//! Bodies of requests: the one amqp-value, and the fields of a map.

use super::{Refused, arguments};
use crate::types::{Map, Value};
use alloc::format;
use leveret_model::Table;

pub(super) fn null(value: Value<'_>) -> Result<(), Refused> {
    match value {
        Value::Null => Ok(()),
        other => Err(Refused::bad(format!("expected a null body, found {}", other.type_name()))),
    }
}

pub(super) fn map(value: Value<'_>) -> Result<Map<'_>, Refused> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(Refused::bad(format!("expected a map as the body, found {}", other.type_name()))),
    }
}

/// A field of a body that is taken.
pub(super) struct Fields {
    /// What has the fields: `queue`.
    pub(super) what: &'static str,
    /// What is said of one that makes no sense: `property`.
    pub(super) part: &'static str,
}

impl Fields {
    fn bad(&self, key: &Value<'_>, value: Value<'_>) -> Refused {
        let Self { what, part } = self;
        Refused::bad(format!("bad {what} {part} '{}' of type {}", arguments::written(key), value.type_name()))
    }

    /// Gives each field to `take`, which says whether it is one with a value that it may have.
    pub(super) fn each<'a>(
        &self,
        map: Map<'a>,
        mut take: impl FnMut(&'a str, Value<'a>) -> Result<bool, Refused>,
    ) -> Result<(), Refused> {
        for (key, value) in map.iter() {
            let is_taken = match arguments::field_name(&key) {
                Some(name) => take(name, value)?,
                None => false,
            };
            if !is_taken {
                return Err(self.bad(&key, value));
            }
        }
        Ok(())
    }
}

/// Sets a field that is a truth value.
pub(super) fn set_boolean(field: &mut bool, value: Value<'_>) -> Result<bool, Refused> {
    let Value::Boolean(boolean) = value else { return Ok(false) };
    *field = boolean;
    Ok(true)
}

/// Sets a field that holds arguments.
pub(super) fn set_arguments(field: &mut Table, value: Value<'_>) -> Result<bool, Refused> {
    let Value::Map(map) = value else { return Ok(false) };
    *field = arguments::table(map).map_err(|key| Refused::bad(format!("unsupported argument '{key}'")))?;
    Ok(true)
}
