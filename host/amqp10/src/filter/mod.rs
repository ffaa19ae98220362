//! Filters of a source (section 3.5.8): which messages its receiver wants.
//!
//! | descriptor | value | what it is |
//! |---|---|---|
//! | `amqp:sql-filter`, 0x120 | string | "AMQP Filter Expressions Version 1.0", section 6 |
//! | `amqp:properties-filter`, 0x173 | map of symbols | the same, section 4.2.4 |
//! | `amqp:application-properties-filter`, 0x174 | map of strings | the same, section 4.2.5 |
//! | `apache.org:selector-filter:string`, 0x468c00000004 | string | Jakarta Messaging 3.1, section 3.8 |
//!
//! *In:* [`FilterSet::of`] compiles the filter-set of an attach; [`Message`](crate::message::Message) answers what
//! filters ask, and so does [`Queued`], of whatever protocol it is. *Out:* one [`Filter`] for the receiver; the map of the filters that are in force, which the attach
//! in return says, and by which a client knows; and of each other one why it is not.

mod fields;
mod queued;

pub use leveret_filter::Filter;
pub use queued::Queued;

use crate::{
    Condition,
    composite::Fields,
    types::{Map, MapBuilder, Symbol, Value},
};
use alloc::vec::Vec;
use core::fmt;
use leveret_filter::{CompileError, Dialect, Expression, PropertyError, PropertyFilter};

/// The capability of a source that can do property filters.
pub const CAPABILITY_PROPERTIES: Symbol<'static> = Symbol::from_static("AMQP_FILTEX_PROP_V1_0");
/// The capability of a source that can do SQL filters.
pub const CAPABILITY_SQL: Symbol<'static> = Symbol::from_static("AMQP_FILTEX_SQL_V1_0");
/// The capability of a source that can do selectors of Jakarta Messaging.
pub const CAPABILITY_SELECTOR: Symbol<'static> = Symbol::from_static("APACHE.ORG:SELECTOR");
/// How many filters a source has at most; the further ones are refused.
pub const FILTERS_MAX: usize = 16;

/// The kinds of filters, by the number and the name of their descriptors.
const KINDS: [(u64, &str, Kind); 4] = [
    (0x120, "amqp:sql-filter", Kind::Expression(Dialect::AmqpSql)),
    (0x173, "amqp:properties-filter", Kind::Properties),
    (0x174, "amqp:application-properties-filter", Kind::ApplicationProperties),
    (0x468c_0000_0004, "apache.org:selector-filter:string", Kind::Expression(Dialect::JmsSelector)),
];

#[derive(Clone, Copy)]
enum Kind {
    Expression(Dialect),
    Properties,
    ApplicationProperties,
}

/// Why a filter is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// It has no descriptor.
    NotDescribed,
    /// Its descriptor is none of those here.
    Unknown,
    /// It is not of the type that its descriptor says.
    Type {
        /// What it should be, for people to read.
        expected: &'static str,
    },
    /// There are [`FILTERS_MAX`] without it.
    TooMany,
    /// Its text is no expression.
    Expression(CompileError),
    /// Its fields are no property filter.
    Properties(PropertyError),
}

impl FilterError {
    /// The condition by which a link is refused that is not to be without the filter.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self {
            Self::Unknown => Condition::NotImplemented,
            Self::TooMany => Condition::ResourceLimitExceeded,
            Self::NotDescribed | Self::Type { .. } | Self::Expression(_) | Self::Properties(_) => {
                Condition::InvalidField
            }
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDescribed => f.write_str("a filter has a descriptor"),
            Self::Unknown => f.write_str("there is no filter with that descriptor"),
            Self::Type { expected } => write!(f, "a filter with that descriptor is {expected}"),
            Self::TooMany => write!(f, "a source has at most {FILTERS_MAX} filters"),
            Self::Expression(error) => error.fmt(f),
            Self::Properties(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FilterError {}

/// The filters of a source, each with what came of it.
#[derive(Debug, Default)]
pub struct FilterSet<'a>(Vec<Named<'a>>);

/// A filter of a filter-set.
#[derive(Debug)]
pub struct Named<'a> {
    /// Its name in the set. Any will do.
    pub name: Symbol<'a>,
    /// As it came.
    pub value: Value<'a>,
    /// As it is asked, or why it is not.
    pub compiled: Result<Filter, FilterError>,
}

impl<'a> FilterSet<'a> {
    /// Compiles the filters of a source. One that is null is as good as none.
    #[must_use]
    pub fn of(set: Fields<'a>) -> Self {
        let pairs = set.map().iter().filter(|(_, value)| !matches!(value, Value::Null));
        let named = pairs.enumerate().filter_map(|(number, (name, value))| {
            let compiled = if number < FILTERS_MAX { compile(value) } else { Err(FilterError::TooMany) };
            Some(Named { name: name.as_symbol()?, value, compiled })
        });
        Self(named.collect())
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Named<'a>> {
        self.0.iter()
    }

    /// What a message must match to be sent: all those that are in force.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let mut all = Filter::new();
        for compiled in self.0.iter().filter_map(|named| named.compiled.as_ref().ok()) {
            all.add(compiled.clone());
        }
        all
    }

    /// The map of those that are in force, as they came.
    #[must_use]
    pub fn in_force(&self) -> MapBuilder {
        let mut map = MapBuilder::new();
        for named in self.0.iter().filter(|named| named.compiled.is_ok()) {
            map.push(named.name, named.value);
        }
        map
    }

    /// Those that are not in force, with the reason.
    pub fn refused(&self) -> impl Iterator<Item = (Symbol<'a>, &FilterError)> {
        self.0.iter().filter_map(|named| named.compiled.as_ref().err().map(|error| (named.name, error)))
    }
}

/// One filter, by its descriptor.
///
/// # Errors
/// If it is none of those that there are here, or makes no sense.
pub fn compile(value: Value<'_>) -> Result<Filter, FilterError> {
    let Value::Described(described) = value else { return Err(FilterError::NotDescribed) };
    let descriptor = described.descriptor();
    let kind = KINDS.into_iter().find(|(code, name, _)| match descriptor {
        Value::Ulong(number) => number == *code,
        Value::Symbol(symbol) => symbol.as_str() == *name,
        _ => false,
    });
    let (_, _, kind) = kind.ok_or(FilterError::Unknown)?;
    match (kind, described.value()) {
        (Kind::Expression(dialect), Value::String(text)) => {
            Expression::compile(text, dialect).map(Filter::from).map_err(FilterError::Expression)
        }
        (Kind::Properties, Value::Map(map)) => {
            let expected = "a map whose keys are symbols";
            let fields = pairs(map, |key| key.as_symbol().map(Symbol::as_str), expected)?;
            PropertyFilter::of_properties(fields).map(Filter::from).map_err(FilterError::Properties)
        }
        (Kind::ApplicationProperties, Value::Map(map)) => {
            let fields = pairs(map, |key| key.as_str(), "a map whose keys are strings")?;
            PropertyFilter::of_application_properties(fields)
                .map(Filter::from)
                .map_err(FilterError::Properties)
        }
        (Kind::Expression(_), _) => Err(FilterError::Type { expected: "a string" }),
        (Kind::Properties | Kind::ApplicationProperties, _) => Err(FilterError::Type { expected: "a map" }),
    }
}

/// The pairs of a map, whose keys must be of one type.
fn pairs<'a>(
    map: Map<'a>,
    name: impl Fn(&Value<'a>) -> Option<&'a str>,
    expected: &'static str,
) -> Result<Vec<(&'a str, Option<leveret_filter::Value<'a>>)>, FilterError> {
    // One more than there may be is enough to be refused.
    let pairs = map.iter().take(leveret_filter::FIELDS_MAX + 1);
    let pairs = pairs.map(|(key, value)| Some((name(&key)?, fields::plain(value))));
    pairs.collect::<Option<_>>().ok_or(FilterError::Type { expected })
}
