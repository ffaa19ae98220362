//! Why bytes are not what their place asks for.

use crate::condition::Condition;
use core::fmt;

/// The bytes of a value, a performative or a section make no sense; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A value goes on beyond the bytes that there are, or that what it lies in has.
    Truncated,
    /// No type has this format code.
    UnknownCode(u8),
    /// A boolean's byte is neither 0 nor 1.
    Boolean(u8),
    /// A `char` that is no Unicode character.
    Char(u32),
    /// A string that is not UTF-8.
    Utf8,
    /// A symbol that is not ASCII.
    Ascii,
    /// A map with a key and no value for it.
    OddMap,
    /// A list, map or array has more or fewer bytes than its elements.
    Count,
    /// Values nest deeper than [`leveret_model::limits::VALUE_DEPTH_MAX`].
    TooDeep,
    /// Arrays have more than [`super::FREE_ELEMENTS_MAX`] elements that take no bytes.
    TooManyElements,
    /// There is no described value where there has to be one.
    NotDescribed,
    /// A descriptor that is not known, or not here. Its number if it has one, else 0.
    Descriptor(u64),
    /// What is described is no list, or has not the type that its descriptor asks for.
    Content(&'static str),
    /// There are bytes behind what is whole.
    Trailing(&'static str),
    /// A field that must not be absent is.
    Missing {
        /// The type that has the field, as the specification names it.
        composite: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field has a value of another type than the specification gives it.
    FieldType {
        /// The type that has the field.
        composite: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field has a value of the right type that it may not have.
    FieldValue {
        /// The type that has the field.
        composite: &'static str,
        /// The field.
        field: &'static str,
    },
    /// There are more fields than the type has.
    TooManyFields(&'static str),
    /// A section of a message comes where it must not (section 3.2).
    SectionOrder(&'static str),
}

impl DecodeError {
    /// The condition by which the specification names it (section 2.8.15).
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self {
            Self::FieldValue { .. } => Condition::InvalidField,
            Self::TooDeep | Self::TooManyElements => Condition::ResourceLimitExceeded,
            Self::Truncated
            | Self::UnknownCode(_)
            | Self::Boolean(_)
            | Self::Char(_)
            | Self::Utf8
            | Self::Ascii
            | Self::OddMap
            | Self::Count
            | Self::NotDescribed
            | Self::Descriptor(_)
            | Self::Content(_)
            | Self::Trailing(_)
            | Self::Missing { .. }
            | Self::FieldType { .. }
            | Self::TooManyFields(_)
            | Self::SectionOrder(_) => Condition::DecodeError,
        }
    }
}

/// A name of the specification, of which Rust has an underscore for each hyphen.
struct Hyphens(&'static str);

impl fmt::Display for Hyphens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.0.split('_').enumerate() {
            if number > 0 {
                f.write_str("-")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a value is cut short"),
            Self::UnknownCode(code) => write!(f, "no type has the format code 0x{code:02x}"),
            Self::Boolean(octet) => write!(f, "a boolean of 0x{octet:02x}"),
            Self::Char(number) => write!(f, "0x{number:x} is no character"),
            Self::Utf8 => f.write_str("a string is not UTF-8"),
            Self::Ascii => f.write_str("a symbol is not ASCII"),
            Self::OddMap => f.write_str("a map has a key without a value"),
            Self::Count => f.write_str("the size of a list, map or array is not that of its elements"),
            Self::TooDeep => f.write_str("values nest too deep"),
            Self::TooManyElements => f.write_str("an array has too many elements"),
            Self::NotDescribed => f.write_str("a value has no descriptor"),
            Self::Descriptor(code) => write!(f, "the descriptor 0x{code:x} is not expected"),
            Self::Content(what) => write!(f, "{what} is not of its type"),
            Self::Trailing(what) => write!(f, "there are bytes behind {what}"),
            Self::Missing { composite, field } => write!(f, "{composite} has no {}", Hyphens(field)),
            Self::FieldType { composite, field } => {
                write!(f, "{} of {composite} has the wrong type", Hyphens(field))
            }
            Self::FieldValue { composite, field } => {
                write!(f, "{} of {composite} has a value that it may not have", Hyphens(field))
            }
            Self::TooManyFields(composite) => write!(f, "{composite} has too many fields"),
            Self::SectionOrder(section) => write!(f, "the section {section} comes where it must not"),
        }
    }
}

impl core::error::Error for DecodeError {}
