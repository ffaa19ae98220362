//! A compiled expression.

use super::{function::Function, pattern::Pattern, selector::Selected};
use crate::{Field, Value, value::Arithmetic};
use alloc::{boxed::Box, vec::Vec};

/// A part of an expression. Every part has a value, or is unknown.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Constant(Value<'static>),
    Reference(Reference),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Compare(Box<[Node; 2]>, Comparison),
    /// The first is not less than the second, and not greater than the third.
    Between(Box<[Node; 3]>),
    In(Box<Node>, Vec<Node>),
    Like(Box<Node>, Pattern),
    IsNull(Reference),
    Arithmetic(Box<[Node; 2]>, Arithmetic),
    /// Whether the sign is a minus. A plus leaves numbers alone, and only them.
    Sign(Box<Node>, bool),
    Call(Function, Vec<Node>),
}

/// What an identifier stands for.
#[derive(Clone, Debug)]
pub(super) enum Reference {
    Field(Field),
    /// A name that JMS defines, and that has no field of its own.
    Selected(Selected),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    /// `<>`; also true of values that are not alike.
    NotEqual,
    /// `<>` of values that are alike.
    NotEqualAndAlike,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}
