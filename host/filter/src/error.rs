//! Why a filter is none.

use alloc::{boxed::Box, string::String};
use core::fmt;

/// A text is no expression: where that shows, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// The character at which it shows, counted from 1; behind the last one where the text ends too early.
    pub position: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It has more characters than [`crate::sql::CHARACTERS_MAX`].
    TooLong,
    /// It has more tokens than [`crate::sql::TOKENS_MAX`].
    TooManyTokens,
    /// It nests deeper than [`crate::sql::DEPTH_MAX`].
    TooDeep,
    /// Something else is expected there.
    Expected {
        /// What would go on.
        expected: &'static str,
        /// What is there instead.
        found: Box<str>,
    },
    /// A character that begins nothing.
    Character(char),
    /// A string, or an identifier in brackets, does not end.
    Unterminated(&'static str),
    /// A number that is none, or that is too large.
    Number(&'static str),
    /// A section has no field of that name.
    UnknownField(Box<str>),
    /// There is no section of that name.
    UnknownSection(Box<str>),
    /// A word of the language where an identifier must stand.
    Reserved(Box<str>),
    /// A function is called with another number of arguments than this.
    Arguments {
        /// The function.
        function: &'static str,
        /// How many arguments it takes, for people to read.
        takes: &'static str,
    },
    /// The escape character of a pattern is not one character.
    Escape,
    /// A pattern ends with its escape character.
    EscapeAtEnd,
    /// A text is no date.
    Date(Box<str>),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: ", self.position)?;
        match &self.problem {
            Problem::TooLong => {
                write!(f, "an expression has at most {} characters", crate::sql::CHARACTERS_MAX)
            }
            Problem::TooManyTokens => {
                write!(f, "an expression has at most {} tokens", crate::sql::TOKENS_MAX)
            }
            Problem::TooDeep => write!(f, "an expression nests at most {} deep", crate::sql::DEPTH_MAX),
            Problem::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Problem::Character(character) => write!(f, "nothing begins with {character:?}"),
            Problem::Unterminated(what) => write!(f, "{what} does not end"),
            Problem::Number(what) => f.write_str(what),
            Problem::UnknownField(name) => write!(f, "there is no field {name}"),
            Problem::UnknownSection(name) => write!(
                f,
                "there is no section {name}; expected header, delivery_annotations, message_annotations, \
                 properties, application_properties or footer"
            ),
            Problem::Reserved(word) => {
                write!(f, "{word} is a word of the language; as an identifier it is written [{word}]")
            }
            Problem::Arguments { function, takes } => write!(f, "{function} takes {takes}"),
            Problem::Escape => f.write_str("the escape character is one character"),
            Problem::EscapeAtEnd => f.write_str("a pattern ends with its escape character"),
            Problem::Date(text) => {
                write!(f, "expected a date like 2026-11-29T18:30:00Z, found '{text}'")
            }
        }
    }
}

impl core::error::Error for CompileError {}

/// The fields of a map are no property filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyError {
    /// There are none.
    NoFields,
    /// There are more than [`crate::FIELDS_MAX`].
    TooManyFields,
    /// A message has no property of that name.
    UnknownProperty(String),
    /// A property is never of the type that it is compared with.
    Type {
        /// The property.
        property: &'static str,
        /// What it may be compared with, for people to read.
        expected: &'static str,
    },
    /// A value that no field of a message is compared with.
    Value(String),
    /// A string begins with `&` and none of the modifiers `&p:`, `&s:` and `&&`.
    Modifier(String),
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFields => f.write_str("a property filter has at least one field"),
            Self::TooManyFields => {
                write!(f, "a property filter has at most {} fields", crate::FIELDS_MAX)
            }
            Self::UnknownProperty(name) => write!(f, "messages have no property '{name}'"),
            Self::Type { property, expected } => write!(f, "{property} is compared with {expected}"),
            Self::Value(name) => write!(f, "'{name}' is compared with a simple value"),
            Self::Modifier(text) => {
                write!(f, "expected '&p:', '&s:' or '&&' at the beginning of '{text}'")
            }
        }
    }
}

impl core::error::Error for PropertyError {}
