//! Which messages a link wants (the filter of its source, section 3.5.3).
//!
//! A filter that nobody knows here is left out of the answer, and the client decides whether it goes on without; one that
//! makes no sense refuses the link, so that people read what is wrong with it, and where.

use super::links::Refused;
use crate::store::now_ms;
use leveret_amqp10::{
    Value,
    composite::Fields,
    filter::{
        CAPABILITY_PROPERTIES, CAPABILITY_SELECTOR, CAPABILITY_SQL, Filter, FilterError, FilterSet, Queued,
    },
    form::model_value,
    messaging::Source,
    types::{MapBuilder, Symbol},
};
use leveret_broker::Selector;
use leveret_model::MessageView;
use std::sync::Arc;

/// What every source can do, as links offer it.
pub(super) const CAPABILITIES: [Symbol<'static>; 3] =
    [CAPABILITY_PROPERTIES, CAPABILITY_SQL, CAPABILITY_SELECTOR];

/// What a link wants.
#[derive(Default)]
pub(super) struct Wanted {
    /// The filters in force, as they came.
    in_force: Option<MapBuilder>,
    /// The same, as a queue asks them.
    pub(super) selector: Option<Arc<dyn Selector>>,
}

impl Wanted {
    /// What a source says.
    pub(super) fn of(source: &Source<'_>) -> Result<Self, Refused> {
        let Some(filters) = source.filter.map(FilterSet::of) else { return Ok(Self::default()) };
        let wrong = filters.refused().find(|(_, error)| **error != FilterError::Unknown);
        if let Some((name, error)) = wrong {
            return Err(Refused::new(error.condition(), format!("the filter '{name}': {error}")));
        }
        let filter = filters.filter();
        if filter.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self { in_force: Some(filters.in_force()), selector: Some(Arc::new(Asked(filter))) })
    }

    /// The filters in force, as listings tell them: a map by their names.
    pub(super) fn told(&self) -> Option<leveret_model::Value> {
        self.in_force.as_ref().map(|map| model_value(&Value::Map(map.view())))
    }

    /// The filters in force, as the answer tells them.
    pub(super) fn in_force(&self) -> Option<Fields<'_>> {
        self.in_force.as_ref().and_then(|map| Fields::new(map.view()))
    }
}

/// A filter that is asked about the messages of a queue, of either protocol.
#[derive(Debug)]
struct Asked(Filter);

impl Selector for Asked {
    fn wants(&self, message: &MessageView<'_>, is_redelivered: bool) -> bool {
        let now_ms = i64::try_from(now_ms()).unwrap_or(i64::MAX);
        self.0.matches(&Queued::new(*message, is_redelivered), now_ms)
    }
}
