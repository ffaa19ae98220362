//! What interceptors answer, checked.
//!
//! The layout of the bytes is described in `wit/CONTRACT.md`, "Batches".

use super::{answer, lift};
use crate::bindings::v0_2::exports::leveret::routing::interceptor as wit;
use leveret_model::{Change, Name, Patch, Property, flat};
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

/// The properties in the order of `types.wit`.
const PROPERTIES: [Property; 12] = [
    Property::ContentType,
    Property::ContentEncoding,
    Property::DeliveryMode,
    Property::Priority,
    Property::CorrelationId,
    Property::ReplyTo,
    Property::Expiration,
    Property::MessageId,
    Property::Timestamp,
    Property::MessageType,
    Property::UserId,
    Property::AppId,
];

/// Checks a verdict in the plain form.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(super) fn plain(verdict: wit::Verdict) -> Result<Verdicts, String> {
    Ok(vec![match verdict {
        wit::Verdict::Pass => Verdict::Pass,
        wit::Verdict::Drop(reason) => Verdict::Drop(drop_reason(&reason)),
        wit::Verdict::Reject(reason) => Verdict::Reject(answer::cut(&reason).into()),
        wit::Verdict::Patch(changes) if changes.len() > CHANGES_MAX => return Err(too_many(changes.len())),
        wit::Verdict::Patch(changes) => {
            Verdict::Patch(changes.into_iter().map(change).collect::<Result<Patch, String>>()?)
        }
    }])
}

fn change(change: wit::Change) -> Result<Change, String> {
    Ok(match change {
        wit::Change::SetHeader(field) => {
            let (name, value) = lift::field(field)?;
            Change::SetHeader { name, value }
        }
        wit::Change::RemoveHeader(name) => Change::RemoveHeader { name: lift::name(&name)? },
        wit::Change::SetProperty((property, value)) => {
            Change::SetProperty { property: lift::property(property), value: lift::value(value)? }
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
    let mut rest = Bytes(bytes);
    let mut verdicts = Vec::with_capacity(count);
    for message in 0..count {
        match rest.verdict()? {
            Some(verdict) => verdicts.push(verdict),
            None => {
                return Err(format!(
                    "the answer is cut short or makes no sense at verdict {message} of {count}"
                ));
            }
        }
    }
    if rest.0.is_empty() {
        Ok(verdicts)
    } else {
        Err(format!("the answer has {} bytes too many", rest.0.len()))
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn reason(&mut self) -> Option<String> {
        let length = self.u16()?;
        Some(String::from_utf8_lossy(self.take(length.into())?).into_owned())
    }

    fn name(&mut self) -> Option<Name> {
        let length = self.u8()?;
        Name::new(self.take(length.into())?).ok()
    }

    fn property(&mut self) -> Option<Property> {
        let number = self.u8()?;
        PROPERTIES.get(usize::from(number)).copied()
    }

    /// The next verdict; `None` where the bytes are none.
    fn verdict(&mut self) -> Result<Option<Verdict>, String> {
        Ok(match self.u8() {
            Some(0) => Some(Verdict::Pass),
            Some(1) => self.reason().map(|reason| Verdict::Drop(drop_reason(&reason))),
            Some(2) => self.reason().map(|reason| Verdict::Reject(answer::cut(&reason).into())),
            Some(3) => match self.u16() {
                Some(count) if usize::from(count) > CHANGES_MAX => return Err(too_many(count.into())),
                Some(count) => {
                    (0..count).map(|_| self.change()).collect::<Option<Patch>>().map(Verdict::Patch)
                }
                None => None,
            },
            _ => None,
        })
    }

    fn change(&mut self) -> Option<Change> {
        Some(match self.u8()? {
            0 => Change::SetHeader { name: self.name()?, value: flat::take_value(&mut self.0)? },
            1 => Change::RemoveHeader { name: self.name()? },
            2 => Change::SetProperty { property: self.property()?, value: flat::take_value(&mut self.0)? },
            3 => Change::RemoveProperty { property: self.property()? },
            4 => Change::SetRoutingKey(self.name()?),
            5 => {
                let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
                Change::SetBody(self.take(usize::try_from(length).ok()?)?.to_vec().into())
            }
            _ => return None,
        })
    }
}

fn drop_reason(reason: &str) -> Option<Arc<str>> {
    if reason.is_empty() { None } else { Some(answer::cut(reason).into()) }
}

fn too_many(changes: usize) -> String {
    format!("the patch has {changes} changes; the most is {CHANGES_MAX}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::Value;

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
}
