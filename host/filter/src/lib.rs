//! Filters: which messages of a queue a consumer wants.
//!
//! Three languages, each compiled once and then asked about messages:
//!
//! | language | where it is defined | compiled by |
//! |---|---|---|
//! | SQL filter expressions | "AMQP Filter Expressions Version 1.0", section 6, as RabbitMQ 4.2 has it and more | [`Expression::compile`] with [`Dialect::AmqpSql`] |
//! | message selectors | Jakarta Messaging 3.1, section 3.8 | [`Expression::compile`] with [`Dialect::JmsSelector`] |
//! | property filters | "AMQP Filter Expressions Version 1.0", section 4, as RabbitMQ 4.1 has it | [`PropertyFilter`] |
//!
//! *Not here:* protocols, queues, clocks. The crate is `no_std`. What a filter looks like on the wire the protocol rooms
//! know; who asks brings the time.
//!
//! *In and out:* a text, or the fields of a map, becomes a [`Filter`], or an error that says what is wrong with it and
//! where. A filter asks a message for its [`Field`]s by the [`Message`] trait, whatever protocol it came by, and answers
//! whether the message matches.
//!
//! *Invariants:* no text and no message makes it panic. Texts, tokens and nesting are limited ([`sql`]); so is what one
//! message may cost ([`STEPS_MAX`]). What is not there, or makes no sense, is *unknown*, and goes through the tables of
//! three-valued logic; a message matches only if the whole is true.
//!
//! *Read first:* [`Message`], then [`sql`].
#![no_std]
extern crate alloc;

mod error;
mod field;
mod message;
mod properties;
pub mod sql;
mod value;

pub use error::{CompileError, Problem, PropertyError};
pub use field::{Field, Header, Property, Section};
pub use message::Message;
pub use properties::{FIELDS_MAX, PropertyFilter};
pub use sql::{Dialect, Expression, STEPS_MAX, Truth};
pub use value::Value;

use alloc::vec::Vec;

/// The filters of one consumer. A message matches if it matches each of them (AMQP 1.0, section 3.5.8).
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Expression(Expression),
    Properties(PropertyFilter),
}

impl Filter {
    /// One that every message matches.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether every message matches, because there is nothing that it must match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what messages must match as well.
    pub fn add(&mut self, part: impl Into<Self>) {
        self.0.append(&mut part.into().0);
    }

    /// Whether a message matches at a time, in milliseconds since 1970.
    #[must_use]
    pub fn matches(&self, message: &dyn Message, now_ms: i64) -> bool {
        self.0.iter().all(|part| match part {
            Part::Expression(expression) => expression.evaluate(message, now_ms) == Truth::True,
            Part::Properties(filter) => filter.matches(message),
        })
    }
}

impl From<Expression> for Filter {
    fn from(expression: Expression) -> Self {
        Self(Vec::from([Part::Expression(expression)]))
    }
}

impl From<PropertyFilter> for Filter {
    fn from(filter: PropertyFilter) -> Self {
        Self(Vec::from([Part::Properties(filter)]))
    }
}

#[cfg(test)]
mod tests;
