//! What interceptors answer, checked.
//!
//! The layout of the bytes is described in `wit/CONTRACT.md`, "Batches".

use super::{answer, lift, lift::ValuesLeft};
use crate::bindings::v0_2::exports::leveret::routing::interceptor as wit;
use leveret_model::{Change, Name, Patch, Property};
use std::sync::Arc;

/// The most changes in one patch.
pub(crate) const CHANGES_MAX: usize = 256;

/// The verdicts of one call, one for each message, in order.
pub(crate) type Verdicts = Vec<Verdict>;

/// What an interceptor says of one message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// As it is.
    Pass,
    /// With these changes.
    Patch(Patch),
    /// Nowhere, on purpose, for that reason.
    Drop(Option<Arc<str>>),
    /// Not accepted.
    Reject(Arc<str>),
}

/// Checks a verdict in the plain form.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(super) fn plain(verdict: wit::Verdict) -> Result<Verdicts, String> {
    Ok(vec![match verdict {
        wit::Verdict::Pass => Verdict::Pass,
        wit::Verdict::Drop(reason) => Verdict::Drop(drop_reason(&reason)),
        wit::Verdict::Reject(reason) => Verdict::Reject(answer::shown(&reason).into()),
        wit::Verdict::Patch(changes) if changes.len() > CHANGES_MAX => return Err(too_many(changes.len())),
        wit::Verdict::Patch(changes) => {
            let mut left = ValuesLeft::default();
            let changes = changes.into_iter().map(|made| change(made, &mut left));
            Verdict::Patch(changes.collect::<Result<Patch, String>>()?)
        }
    }])
}

fn change(change: wit::Change, left: &mut ValuesLeft) -> Result<Change, String> {
    Ok(match change {
        wit::Change::SetHeader(field) => {
            let (name, value) = lift::field(field, left)?;
            Change::SetHeader { name, value }
        }
        wit::Change::RemoveHeader(name) => Change::RemoveHeader { name: lift::name(&name)? },
        wit::Change::SetProperty((property, value)) => {
            Change::SetProperty { property: lift::property(property), value: lift::value(value, left)? }
        }
        wit::Change::RemoveProperty(property) => {
            Change::RemoveProperty { property: lift::property(property) }
        }
        wit::Change::SetRoutingKey(key) => Change::SetRoutingKey(lift::name(&key)?),
        wit::Change::SetBody(body) => Change::SetBody(body.into()),
    })
}

/// Checks the bytes that a guest answered for `count` messages.
///
/// # Errors
/// What is wrong with them, for people to read.
pub(super) fn from_bytes(bytes: &[u8], count: usize) -> Result<Verdicts, String> {
    let mut rest = Bytes { rest: bytes, left: ValuesLeft::default() };
    let mut verdicts = Vec::with_capacity(count);
    for message in 0..count {
        let at = bytes.len() - rest.rest.len();
        let verdict = rest
            .verdict()
            .map_err(|what| format!("verdict {message} of {count}, which begins at byte {at}: {what}"))?;
        verdicts.push(verdict);
    }
    match rest.rest.len() {
        0 => Ok(verdicts),
        more => Err(format!("the answer has {more} bytes too many after {count} verdicts")),
    }
}

struct Bytes<'a> {
    rest: &'a [u8],
    left: ValuesLeft,
}

/// What comes at an end that comes too early.
const CUT_SHORT: &str = "the answer is cut short";

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    fn reason(&mut self) -> Result<String, String> {
        let length = self.u16()?;
        Ok(answer::shown(&String::from_utf8_lossy(self.take(length.into())?)))
    }

    fn name(&mut self) -> Result<Name, String> {
        let length = self.u8()?;
        lift::name(self.take(length.into())?)
    }

    fn property(&mut self) -> Result<Property, String> {
        let number = self.u8()?;
        let property = Property::ALL.get(usize::from(number)).copied();
        property.ok_or_else(|| format!("there is no property {number}"))
    }

    fn verdict(&mut self) -> Result<Verdict, String> {
        Ok(match self.u8()? {
            0 => Verdict::Pass,
            1 => Verdict::Drop(drop_reason(&self.reason()?)),
            2 => Verdict::Reject(self.reason()?.into()),
            3 => match self.u16()? {
                count if usize::from(count) > CHANGES_MAX => return Err(too_many(count.into())),
                count => {
                    let change = |number| {
                        let change: Result<Change, String> = self.change();
                        change.map_err(|what| format!("change {number} of {count}: {what}"))
                    };
                    Verdict::Patch((0..count).map(change).collect::<Result<Patch, String>>()?)
                }
            },
            kind => return Err(format!("there is no verdict {kind}")),
        })
    }

    fn change(&mut self) -> Result<Change, String> {
        Ok(match self.u8()? {
            0 => Change::SetHeader { name: self.name()?, value: self.left.take(&mut self.rest)? },
            1 => Change::RemoveHeader { name: self.name()? },
            2 => Change::SetProperty { property: self.property()?, value: self.left.take(&mut self.rest)? },
            3 => Change::RemoveProperty { property: self.property()? },
            4 => Change::SetRoutingKey(self.name()?),
            5 => {
                let length = u32::from_le_bytes(self.array()?);
                let length = usize::try_from(length).map_err(|_| CUT_SHORT)?;
                Change::SetBody(self.take(length)?.to_vec().into())
            }
            kind => return Err(format!("there is no change {kind}")),
        })
    }
}

fn drop_reason(reason: &str) -> Option<Arc<str>> {
    if reason.is_empty() { None } else { Some(answer::shown(reason).into()) }
}

fn too_many(changes: usize) -> String {
    format!("the patch has {changes} changes; the most is {CHANGES_MAX}")
}

#[cfg(test)]
mod tests {
    use super::{super::lift::VALUES_MAX, *};
    use leveret_model::{Value, flat};
    use proptest::prelude::*;

    #[test]
    fn bytes_are_read_as_laid_out() {
        let mut bytes = vec![0, 1, 0, 0, 2, 2, 0, b'n', b'o', 3, 6, 0];
        bytes.extend([0, 1, b'h', flat::BOOLEAN, 1, 1, 1, b'g']);
        bytes.extend([2, 3, flat::INTEGER, 9, 0, 0, 0, 0, 0, 0, 0, 3, 11]);
        bytes.extend([4, 1, b'k', 5, 1, 0, 0, 0, b'b']);
        let verdicts = from_bytes(&bytes, 4).unwrap();
        let name = Name::from_static;
        let changes = [
            Change::SetHeader { name: name("h"), value: Value::Boolean(true) },
            Change::RemoveHeader { name: name("g") },
            Change::SetProperty { property: Property::Priority, value: Value::Integer(9) },
            Change::RemoveProperty { property: Property::AppId },
            Change::SetRoutingKey(name("k")),
            Change::SetBody(b"b".to_vec().into()),
        ];
        let patch = Verdict::Patch(changes.into_iter().collect());
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Drop(None), Verdict::Reject("no".into()), patch]);
        for end in 0..bytes.len() {
            assert!(from_bytes(&bytes[..end], 4).is_err());
        }
        assert!(from_bytes(&bytes, 3).unwrap_err().contains("too many"));
        assert!(from_bytes(&[3, 1, 1], 1).unwrap_err().contains("257 changes"));
        assert!(from_bytes(&[9], 1).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_place() {
        for (bytes, said) in [
            (&[0, 9][..], "verdict 1 of 2, which begins at byte 1: there is no verdict 9"),
            (&[0, 1, 5, 0, b'x'], "verdict 1 of 2, which begins at byte 1: the answer is cut short"),
            (
                &[3, 2, 0, 3, 0, 8],
                "verdict 0 of 2, which begins at byte 0: change 1 of 2: there is no change 8",
            ),
            (&[3, 1, 0, 3, 12], "change 0 of 1: there is no property 12"),
            (&[3, 1, 0, 0, 1, b'h', flat::ABSENT], "not laid out as CONTRACT.md says"),
            (&[3, 1, 0, 0, 1, b'h', flat::TEXT, 1, 0, 0, 0, 0xff], "not laid out as CONTRACT.md says"),
            (&[0, 0, 0], "1 bytes too many after 2 verdicts"),
        ] {
            let error = from_bytes(bytes, 2).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_list_of_many_values_is_refused_before_there_is_room_for_them() {
        let patch = |values: usize| {
            let length = u32::try_from(values).unwrap().to_le_bytes();
            [&[3, 1, 0, 0, 1, b'h', flat::LIST][..], &length, &vec![flat::VOID; values]].concat()
        };
        // The list is a value too.
        from_bytes(&patch(VALUES_MAX - 1), 1).unwrap();
        let error = from_bytes(&patch(VALUES_MAX), 1).unwrap_err();
        assert!(error.contains("more than 65536 values"), "{error}");
        let half = patch(VALUES_MAX / 2);
        let error = from_bytes(&[half.clone(), half].concat(), 2).unwrap_err();
        assert!(error.contains("verdict 1 of 2"), "of all messages of a call together: {error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_verdicts_or_refused(
            bytes in proptest::collection::vec(prop_oneof![0_u8..12, any::<u8>()], 0..200),
            count in 0_usize..12,
        ) {
            match from_bytes(&bytes, count) {
                Ok(verdicts) => prop_assert_eq!(verdicts.len(), count),
                Err(error) => prop_assert!(error.contains("verdict") && error.len() < 300, "{}", error),
            }
        }
    }
}
