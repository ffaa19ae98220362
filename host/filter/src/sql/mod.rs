//! Expressions: the SQL of "AMQP Filter Expressions Version 1.0" and the selectors of Jakarta Messaging.
//!
//! ```text
//! any        all (OR all)*
//! all        not (AND not)*
//! not        NOT* condition
//! condition  sum ((= | <> | != | < | <= | > | >=) sum | [NOT] BETWEEN sum AND sum | [NOT] IN (sum, ...)
//!                 | [NOT] LIKE string [ESCAPE string])?
//!            | field IS [NOT] NULL
//! sum        product ((+ | -) product)*
//! product    sign ((* | / | %) sign)*
//! sign       (+ | -)* primary
//! primary    (any) | field | number | string | TRUE | FALSE | SQL: binary | INF | NAN | function(any, ...)
//! function   EXISTS(field) LOWER(s) UPPER(s) LEFT(s, n) RIGHT(s, n) SUBSTRING(s, from[, n]) UTC() DATE(s)
//! field      SQL: [section .] (name | [any text])   JMS: an identifier of Java, which may have dots
//! ```
//! Words may be written in capitals or not. Where the languages differ is said in [`Dialect`].
//!
//! *What comes of it.* A field that is absent is unknown, and so is what is made of it, but for `IS NULL`. What has no
//! number where one is needed, a division by zero, a pattern for what is no text: unknown. `NOT`, `AND` and `OR` go by the
//! tables of three-valued logic, `IN` and `BETWEEN` as the comparisons that they stand for. Values that are not alike are
//! not equal, and neither is greater. Characters of strings are counted from 1.
//!
//! *Limits:* [`CHARACTERS_MAX`], [`TOKENS_MAX`], [`DEPTH_MAX`] for the text, [`STEPS_MAX`] for what one message costs.
//!
//! The parser is our own: recursive descent of a hundred lines, on a lexer. The libraries that parse SQL bring all of SQL
//! and an allocator's worth of types, and know neither sections nor selectors; generators of parsers bring a build step.

mod eval;
mod function;
mod lexer;
mod parser;
mod pattern;
mod selector;
mod time;
mod tree;

pub use eval::{STEPS_MAX, Truth};

use crate::{CompileError, Message};
use alloc::sync::Arc;

/// The longest text, in characters, as on RabbitMQ.
pub const CHARACTERS_MAX: usize = 4096;
/// How many tokens a text has at most, as on RabbitMQ.
pub const TOKENS_MAX: usize = 200;
/// How deep parentheses, `NOT`s, signs and calls nest at most.
pub const DEPTH_MAX: usize = 64;

/// The language of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// "AMQP Filter Expressions Version 1.0", section 6: sections in front of names, names in brackets, strings in
    /// double quotes, binaries as `0x` with pairs of digits, functions. Of values that are not alike `<>` is true.
    AmqpSql,
    /// Jakarta Messaging 3.1, section 3.8.1: numbers as Java writes them, quotients of exact numbers without what is
    /// behind the point, headers by names like `JMSPriority`, all other names application-properties. Comparing values
    /// that are not alike is false, whatever the comparison.
    JmsSelector,
}

/// A compiled expression. Copies share it.
#[derive(Clone, Debug)]
pub struct Expression(Arc<tree::Node>);

impl Expression {
    /// Of a text.
    ///
    /// # Errors
    /// Where the text does not follow the language, or is beyond a limit: where, and what was expected.
    pub fn compile(text: &str, dialect: Dialect) -> Result<Self, CompileError> {
        let tokens = lexer::tokens(text, dialect)?;
        parser::parse(text, &tokens, dialect).map(|node| Self(Arc::new(node)))
    }

    /// What it comes to for a message at a time, in milliseconds since 1970.
    #[must_use]
    pub fn evaluate(&self, message: &dyn Message, now_ms: i64) -> Truth {
        eval::evaluate(&self.0, message, now_ms)
    }
}
