//! Fields with several values: symbols, and maps whose keys are restricted.

use super::{Field, Unfit};
use crate::types::{
    Array, Map, Symbol, Value,
    write::{put, put_array},
};
use alloc::vec::Vec;
use core::fmt;

/// The fields that the specification calls `multiple`: symbols, none of them, one, or an array.
///
/// What came without an array goes without. Others are always written as an array, as RabbitMQ does, though one of them
/// alone could go without: the client may read nothing else.
#[derive(Clone, Copy, Default)]
pub enum Symbols<'a> {
    /// None.
    #[default]
    None,
    /// One that came without an array.
    One(Symbol<'a>),
    /// As they came; of symbols alone.
    Array(Array<'a>),
    /// To be written.
    Slice(&'a [Symbol<'a>]),
}

impl<'a> Symbols<'a> {
    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + Clone + use<'a> {
        let (one, array, slice) = match *self {
            Self::None => (None, None, &[][..]),
            Self::One(symbol) => (Some(symbol), None, &[][..]),
            Self::Array(array) => (None, Some(array), &[][..]),
            Self::Slice(symbols) => (None, None, symbols),
        };
        let of_array = array.into_iter().flatten().filter_map(|value| value.as_symbol());
        one.into_iter().chain(of_array).chain(slice.iter().copied())
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, symbol: &str) -> bool {
        self.iter().any(|other| other.as_str() == symbol)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl PartialEq for Symbols<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Symbols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<'a> Field<'a> for Symbols<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
        match value {
            Value::Symbol(symbol) => Ok(Self::One(symbol)),
            Value::Array(array) if array.iter().all(|value| value.as_symbol().is_some()) => {
                Ok(Self::Array(array))
            }
            _ => Err(Unfit::Type),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        if let Self::One(symbol) = *self {
            return put(out, symbol);
        }
        // Symbols are of one type.
        let _ = put_array(out, self.iter().map(Value::Symbol));
    }
}

macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident: $is_pair:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name<'a>(Map<'a>);

        impl<'a> $name<'a> {
            /// Without pairs.
            pub const EMPTY: $name<'static> = $name(Map::EMPTY);

            /// `None` if a key or a value is not of the types that it must be of.
            #[must_use]
            pub fn new(map: Map<'a>) -> Option<Self> {
                let is_pair: fn(&Value<'a>, &Value<'a>) -> bool = $is_pair;
                map.iter().all(|(key, value)| is_pair(&key, &value)).then_some(Self(map))
            }

            /// The map.
            #[must_use]
            pub fn map(&self) -> Map<'a> {
                self.0
            }
        }

        impl Default for $name<'_> {
            fn default() -> Self {
                Self::EMPTY
            }
        }

        impl<'a> Field<'a> for $name<'a> {
            fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
                let Value::Map(map) = value else { return Err(Unfit::Type) };
                Self::new(map).ok_or(Unfit::Type)
            }

            fn put(&self, out: &mut Vec<u8>) {
                put(out, self.0);
            }
        }
    )* };
}

maps! {
    /// `fields` (2.8.13): any values by symbols.
    Fields: |key, _| matches!(key, Value::Symbol(_));
    /// `annotations` (3.2.10): any values by symbols, or by reserved numbers.
    Annotations: |key, _| matches!(key, Value::Symbol(_) | Value::Ulong(_));
    /// The content of `application-properties` (3.2.5): simple values by strings.
    ApplicationMap: |key, value| {
        matches!(key, Value::String(_)) && !matches!(value, Value::List(_) | Value::Map(_) | Value::Array(_))
    };
}

impl<'a> Fields<'a> {
    /// The value of a field.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.0.symbol(key)
    }
}

impl<'a> Annotations<'a> {
    /// The value of a symbol.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.0.symbol(key)
    }
}

impl<'a> ApplicationMap<'a> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.0.get(&Value::String(key))
    }
}
