//! What an expression comes to for a message.

use super::tree::{Comparison, Node, Reference};
use crate::{
    Field, Header, Message, Value,
    value::{Arithmetic, negate},
};
use core::{cell::Cell, cmp::Ordering};

/// How much evaluating an expression may cost for one message, in steps: a part of the expression, sixteen bytes that are
/// compared or searched, or a character that is looked at by itself. What is not known by then is unknown.
pub const STEPS_MAX: usize = 1 << 20;
/// How many bytes are compared or searched in a step.
const BYTES_PER_STEP: usize = 16;
/// The priority of a message that names none (AMQP 1.0, section 3.2.1).
const PRIORITY_DEFAULT: i128 = 4;

/// What an expression comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The message matches.
    True,
    /// It does not.
    False,
    /// Nobody knows, so it does not match either.
    Unknown,
}

/// The steps that are left.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    /// `None` if there are not as many left.
    pub(super) fn spend(&self, steps: usize) -> Option<()> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.map(drop)
    }

    pub(super) fn spend_bytes(&self, bytes: usize) -> Option<()> {
        self.spend(bytes / BYTES_PER_STEP + 1)
    }
}

pub(super) fn evaluate(node: &Node, message: &dyn Message, now_ms: i64) -> Truth {
    truth(Evaluation { message, now_ms, budget: &Budget(Cell::new(STEPS_MAX)) }.value(node))
}

/// Whatever is no truth value is unknown where one is needed.
fn truth(value: Option<Value<'_>>) -> Truth {
    match value {
        Some(Value::Boolean(true)) => Truth::True,
        Some(Value::Boolean(false)) => Truth::False,
        _ => Truth::Unknown,
    }
}

fn known<'v>(truth: Truth) -> Option<Value<'v>> {
    match truth {
        Truth::True => Some(Value::Boolean(true)),
        Truth::False => Some(Value::Boolean(false)),
        Truth::Unknown => None,
    }
}

impl From<Option<bool>> for Truth {
    fn from(known: Option<bool>) -> Self {
        match known {
            Some(true) => Self::True,
            Some(false) => Self::False,
            None => Self::Unknown,
        }
    }
}

#[derive(Clone, Copy)]
struct Evaluation<'e> {
    message: &'e dyn Message,
    now_ms: i64,
    budget: &'e Budget,
}

impl<'e> Evaluation<'e> {
    /// The value of a part; `None` if it is unknown.
    fn value(self, node: &'e Node) -> Option<Value<'e>> {
        self.budget.spend(1)?;
        match node {
            Node::Constant(constant) => Some(borrowed(constant)),
            Node::Reference(reference) => self.reference(reference),
            Node::Not(operand) => match truth(self.value(operand)) {
                Truth::True => Some(Value::Boolean(false)),
                Truth::False => Some(Value::Boolean(true)),
                Truth::Unknown => None,
            },
            Node::All(operands) => self.first(operands, Truth::False),
            Node::Any(operands) => self.first(operands, Truth::True),
            Node::Compare(operands, comparison) => {
                let [left, right] = &**operands;
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.compare(&left, *comparison, &right).map(Value::Boolean)
            }
            Node::Between(operands) => self.between(operands),
            Node::In(operand, list) => self.is_in(operand, list),
            Node::Like(operand, pattern) => {
                let text = self.value(operand)?.into_text()?;
                pattern.fits(&text, self.budget).map(Value::Boolean)
            }
            Node::IsNull(reference) => Some(Value::Boolean(self.reference(reference).is_none())),
            Node::Arithmetic(operands, arithmetic) => {
                let [left, right] = &**operands;
                arithmetic.of(&self.value(left)?, &self.value(right)?)
            }
            Node::Sign(operand, is_minus) => {
                let value = self.value(operand)?;
                if *is_minus { negate(&value) } else { Arithmetic::Add.of(&value, &Value::Integer(0)) }
            }
            Node::Call(function, arguments) => {
                function.call(arguments.iter().map(|argument| self.value(argument)), self.now_ms, self.budget)
            }
        }
    }

    fn reference(self, reference: &Reference) -> Option<Value<'e>> {
        match reference {
            Reference::Field(field) => self.message.field(field).or_else(|| absent(field)),
            Reference::Selected(selected) => selected.value(self.message),
        }
    }

    /// AND and OR: what decides alone is looked for; else the whole is unknown if anything is, else the contrary.
    fn first(self, operands: &'e [Node], deciding: Truth) -> Option<Value<'e>> {
        let mut is_unknown = false;
        for operand in operands {
            match truth(self.value(operand)) {
                Truth::Unknown => is_unknown = true,
                found if found == deciding => return known(deciding),
                _ => {}
            }
        }
        (!is_unknown).then_some(Value::Boolean(deciding == Truth::False))
    }

    fn compare(self, left: &Value<'_>, comparison: Comparison, right: &Value<'_>) -> Option<bool> {
        self.budget.spend_bytes(left.compared_bytes(right))?;
        let is_ordered = |fits: fn(Ordering) -> bool| left.order(right).is_some_and(fits);
        Some(match comparison {
            Comparison::Equal => left.equals(right),
            Comparison::NotEqual => !left.equals(right),
            Comparison::NotEqualAndAlike => left.is_like(right) && !left.equals(right),
            Comparison::Less => is_ordered(Ordering::is_lt),
            Comparison::LessOrEqual => is_ordered(Ordering::is_le),
            Comparison::Greater => is_ordered(Ordering::is_gt),
            Comparison::GreaterOrEqual => is_ordered(Ordering::is_ge),
        })
    }

    fn between(self, operands: &'e [Node; 3]) -> Option<Value<'e>> {
        let [operand, low, high] = operands;
        let value = self.value(operand)?;
        let bound = |node, comparison| {
            let bound = self.value(node)?;
            self.compare(&value, comparison, &bound)
        };
        let above = bound(low, Comparison::GreaterOrEqual);
        let below = bound(high, Comparison::LessOrEqual);
        match (above, below) {
            (Some(false), _) | (_, Some(false)) => Some(Value::Boolean(false)),
            (Some(true), Some(true)) => Some(Value::Boolean(true)),
            _ => None,
        }
    }

    fn is_in(self, operand: &'e Node, list: &'e [Node]) -> Option<Value<'e>> {
        let value = self.value(operand)?;
        let mut is_unknown = false;
        for candidate in list {
            let equal = self
                .value(candidate)
                .and_then(|candidate| self.compare(&value, Comparison::Equal, &candidate));
            match equal {
                Some(true) => return Some(Value::Boolean(true)),
                Some(false) => {}
                None => is_unknown = true,
            }
        }
        (!is_unknown).then_some(Value::Boolean(false))
    }
}

/// What counts where a field of the header is absent.
fn absent(field: &Field) -> Option<Value<'static>> {
    Some(match field {
        Field::Header(Header::Durable | Header::FirstAcquirer) => Value::Boolean(false),
        Field::Header(Header::Priority) => Value::Integer(PRIORITY_DEFAULT),
        Field::Header(Header::DeliveryCount) => Value::Integer(0),
        _ => return None,
    })
}

fn borrowed<'e>(constant: &'e Value<'static>) -> Value<'e> {
    match constant {
        Value::Text(text) => Value::Text((&**text).into()),
        Value::Binary(bytes) => Value::Binary((&**bytes).into()),
        Value::Boolean(boolean) => Value::Boolean(*boolean),
        Value::Integer(integer) => Value::Integer(*integer),
        Value::Real(real) => Value::Real(*real),
        Value::Uuid(uuid) => Value::Uuid(*uuid),
        Value::Opaque => Value::Opaque,
    }
}
