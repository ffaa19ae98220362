//! The functions of "AMQP Filter Expressions Version 1.0".

use super::{eval::Budget, time};
use crate::Value;
use alloc::borrow::Cow;

/// A function. EXISTS is none: it is about a field, not its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Lower,
    Upper,
    Left,
    Right,
    Substring,
    Utc,
    Date,
}

impl Function {
    const ALL: [Self; 7] =
        [Self::Lower, Self::Upper, Self::Left, Self::Right, Self::Substring, Self::Utc, Self::Date];

    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name().eq_ignore_ascii_case(word))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lower => "LOWER",
            Self::Upper => "UPPER",
            Self::Left => "LEFT",
            Self::Right => "RIGHT",
            Self::Substring => "SUBSTRING",
            Self::Utc => "UTC",
            Self::Date => "DATE",
        }
    }

    /// How many arguments it takes, for people to read, and whether these are as many.
    pub(super) fn takes(self, arguments: usize) -> (&'static str, bool) {
        match self {
            Self::Utc => ("no arguments", arguments == 0),
            Self::Lower | Self::Upper | Self::Date => ("one argument", arguments == 1),
            Self::Left | Self::Right => ("two arguments", arguments == 2),
            Self::Substring => ("two or three arguments", matches!(arguments, 2 | 3)),
        }
    }

    /// Of its arguments. `None` if one is unknown or none that it can be called with.
    pub(super) fn call<'v>(
        self,
        mut arguments: impl Iterator<Item = Option<Value<'v>>>,
        now_ms: i64,
        budget: &Budget,
    ) -> Option<Value<'v>> {
        if self == Self::Utc {
            return Some(Value::Integer(now_ms.into()));
        }
        let Some(Value::Text(text)) = arguments.next().flatten() else { return None };
        // Copying is dearer than looking, and characters are counted one by one.
        budget.spend(text.len())?;
        let mut number = || match arguments.next()? {
            Some(Value::Integer(number)) => Some(number),
            _ => None,
        };
        Some(match self {
            Self::Lower => Value::Text(Cow::Owned(text.to_lowercase())),
            Self::Upper => Value::Text(Cow::Owned(text.to_uppercase())),
            Self::Left => Value::Text(slice(text, 0, number()?)),
            Self::Right => {
                let length = text.chars().count() as i128;
                Value::Text(slice(text, length.saturating_sub(number()?), i128::MAX))
            }
            Self::Substring => {
                let from = number()?;
                let length = match arguments.next() {
                    None => i128::MAX,
                    Some(Some(Value::Integer(length))) => length,
                    Some(_) => return None,
                };
                Value::Text(slice(text, from.saturating_sub(1), length))
            }
            Self::Utc | Self::Date => Value::Integer(time::parse(&text)?.into()),
        })
    }
}

/// So many characters of a text from one on, counted from 0; what would lie outside is not there.
fn slice(text: Cow<'_, str>, from: i128, length: i128) -> Cow<'_, str> {
    let end = from.saturating_add(length.max(0)).max(0);
    let place = |characters: i128| {
        let nth = usize::try_from(characters.max(0)).ok();
        nth.and_then(|nth| text.char_indices().nth(nth)).map_or(text.len(), |(at, _)| at)
    };
    let range = place(from)..place(end);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().into()),
    }
}
