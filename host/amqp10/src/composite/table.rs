//! The tables of which composite types are made, and restricted types with few values.

/// The type of a field by its kind in a table.
macro_rules! field_type {
    (mandatory, $type:ty) => { $type };
    (optional, $type:ty) => { Option<$type> };
    (default, $type:ty) => { $type };
}

/// What a field is where nothing is said.
macro_rules! field_default {
    (default, $default:expr) => {
        $default
    };
    (mandatory) => {
        Default::default()
    };
    (optional) => {
        None
    };
}

/// Composite types as tables: behind its type, each field is `mandatory`, `optional`, or has a `default(value)`.
macro_rules! composite {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$a:lifetime>)? = $code:path {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty, $kind:ident $(($default:expr))?; )*
        }
    )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name $(<$a>)? {
            $( $(#[$field_doc])* pub $field: crate::composite::table::field_type!($kind, $type), )*
        }

        impl $(<$a>)? Default for $name $(<$a>)? {
            fn default() -> Self {
                Self { $( $field: crate::composite::table::field_default!($kind $(, $default)?), )* }
            }
        }

        impl<'a> crate::composite::Composite<'a> for $name $(<$a>)? {
            const CODE: u64 = $code;
            const NAME: &'static str = match crate::descriptor::constant_name($code) {
                Some(name) => name,
                None => panic!("the descriptor has no name"),
            };

            #[inline]
            fn read(
                fields: &mut crate::composite::FieldReader<'a>,
            ) -> Result<Self, crate::types::DecodeError> {
                let _ = &fields;
                Ok(Self { $( $field: fields.$kind(stringify!($field) $(, $default)?)?, )* })
            }

            #[inline]
            fn write(&self, fields: &mut crate::composite::FieldWriter<'_>) {
                let _ = &fields;
                $( fields.$kind(&self.$field $(, &$default)?); )*
            }
        }

        impl<'a> crate::composite::Field<'a> for $name $(<$a>)? {
            fn from_value(value: crate::types::Value<'a>) -> Result<Self, crate::composite::Unfit> {
                use crate::composite::{Composite, Unfit};
                match crate::composite::described_list(value) {
                    Some((code, list)) if code == Self::CODE => Ok(Self::from_list(list)?),
                    _ => Err(Unfit::Type),
                }
            }

            fn put(&self, out: &mut alloc::vec::Vec<u8>) {
                crate::composite::Composite::encode(self, out);
            }
        }
    )* };
}

/// One of several composites, told apart by their descriptors.
macro_rules! one_of {
    ($(
        $(#[$doc:meta])*
        $name:ident<$a:lifetime> { $( $(#[$variant_doc:meta])* $variant:ident($type:ty), )* }
    )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $name<$a> {
            $( $(#[$variant_doc])* $variant($type), )*
        }

        impl<$a> $name<$a> {
            /// Of the list that a descriptor describes.
            ///
            /// # Errors
            /// If the descriptor is none of these, or the list does not fit it.
            #[inline]
            pub fn from_list(
                code: u64,
                list: crate::types::List<$a>,
            ) -> Result<Self, crate::types::DecodeError> {
                use crate::composite::Composite;
                match code {
                    $( <$type>::CODE => <$type>::from_list(list).map(Self::$variant), )*
                    other => Err(crate::types::DecodeError::Descriptor(other)),
                }
            }

            /// Of the front of some bytes.
            ///
            /// # Errors
            /// As [`Self::from_list`].
            #[inline]
            pub fn decode(reader: &mut crate::types::Reader<$a>) -> Result<Self, crate::types::DecodeError> {
                let (code, list) = crate::composite::head(reader)?;
                Self::from_list(code, list)
            }

            /// Appends it.
            pub fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                match self {
                    $( Self::$variant(composite) => crate::composite::Composite::encode(composite, out), )*
                }
            }

            /// The name of its descriptor.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => <$type as crate::composite::Composite<'_>>::NAME, )*
                }
            }
        }

        impl<$a> crate::composite::Field<$a> for $name<$a> {
            fn from_value(value: crate::types::Value<$a>) -> Result<Self, crate::composite::Unfit> {
                use crate::composite::{Composite, Unfit};
                match crate::composite::described_list(value) {
                    $( Some((<$type>::CODE, list)) => Ok(Self::$variant(<$type>::from_list(list)?)), )*
                    _ => Err(Unfit::Type),
                }
            }

            fn put(&self, out: &mut alloc::vec::Vec<u8>) {
                self.encode(out);
            }
        }

        $( impl<$a> From<$type> for $name<$a> {
            fn from(composite: $type) -> Self {
                Self::$variant(composite)
            }
        } )*
    )* };
}

/// Restricted types with few values.
macro_rules! choices {
    ($(
        $(#[$doc:meta])*
        $name:ident: $source:ident {
            $( $(#[$choice_doc:meta])* $choice:ident = $value:literal, )*
        }
    )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$choice_doc])* $choice, )*
        }

        impl<'a> crate::composite::Field<'a> for $name {
            fn from_value(value: crate::types::Value<'a>) -> Result<Self, crate::composite::Unfit> {
                let crate::types::Value::$source(value) = value else {
                    return Err(crate::composite::Unfit::Type);
                };
                #[allow(unreachable_patterns, reason = "a boolean has no other values")]
                match crate::composite::table::plain::$source(value) {
                    $( $value => Ok(Self::$choice), )*
                    _ => Err(crate::composite::Unfit::Value),
                }
            }

            fn put(&self, out: &mut alloc::vec::Vec<u8>) {
                let value = match self {
                    $( Self::$choice => crate::composite::table::value::$source($value), )*
                };
                crate::types::write::put(out, value);
            }
        }
    )* };
}

/// How a choice is matched.
#[allow(non_snake_case, reason = "the names of the values' types")]
pub(crate) mod plain {
    use crate::types::Symbol;

    pub(crate) fn Boolean(value: bool) -> bool {
        value
    }

    pub(crate) fn Ubyte(value: u8) -> u8 {
        value
    }

    pub(crate) fn Uint(value: u32) -> u32 {
        value
    }

    pub(crate) fn Symbol(value: Symbol<'_>) -> &str {
        value.as_str()
    }
}

/// How a choice is written.
#[allow(non_snake_case, reason = "the names of the values' types")]
pub(crate) mod value {
    use crate::types::{Symbol, Value};

    pub(crate) fn Boolean(value: bool) -> Value<'static> {
        Value::Boolean(value)
    }

    pub(crate) fn Ubyte(value: u8) -> Value<'static> {
        Value::Ubyte(value)
    }

    pub(crate) fn Uint(value: u32) -> Value<'static> {
        Value::Uint(value)
    }

    pub(crate) fn Symbol(value: &'static str) -> Value<'static> {
        Value::Symbol(Symbol::from_static(value))
    }
}

pub(crate) use {choices, composite, field_default, field_type, one_of};
