//! What the author of an interceptor implements, and the words it is said in.
//!
//! Verdicts are written as `wit/CONTRACT.md` lays them out under "Batches":
//!
//! ```text
//! 0 pass
//! 1 drop      length (u16 LE), reason
//! 2 reject    length (u16 LE), reason
//! 3 patch     number (u16 LE), changes
//! ```

use crate::{Arguments, InterceptorDescription, Message, Patch, Point, Reads, Refusal};
use std::borrow::Cow;

/// What an author may write at most as a reason; the broker cuts there too.
const REASON_BYTES_MAX: usize = 1024;

/// An interceptor: looks at messages on their way and may change, drop or reject them. One value of the
/// implementing struct stands for one place where the operator attached it.
///
/// Instances come and go as those of an [`ExchangeType`](crate::ExchangeType) do.
pub trait Interceptor: Sized + 'static {
    /// Called once for each new instance: the interceptor's name, and where it can be attached.
    fn describe() -> InterceptorDescription;

    /// Called for each place where it is attached, on each new instance.
    ///
    /// # Errors
    /// Refuses the configuration, or this version of the plugin.
    fn open(attachment: &Attachment) -> Result<Self, Refusal>;

    /// What [`intercept`](Self::intercept) looks at. Asked after `open`; nothing else of a message
    /// arrives.
    fn reads(&self) -> Reads;

    /// Called for a message. After a panic, or when a limit is exceeded, the message is rejected
    /// unless the operator chose otherwise.
    fn intercept(&mut self, message: &Message<'_>) -> Verdict;
}

/// One place where the operator attached an interceptor.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// Where on a message's way.
    pub point: Point,
    /// The virtual host.
    pub vhost: Vec<u8>,
    /// The arguments the operator gave.
    pub arguments: Arguments,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it is.
    Pass,
    /// With these changes.
    Patch(Patch),
    /// Nowhere, on purpose. On publish: confirmed and not returned. On deliver and dead-letter: it is
    /// gone from its queue. Messages are counted by the reason, which may be empty.
    Drop(Cow<'static, str>),
    /// On publish: not accepted, a negative confirm. On deliver: dead-lettered, or dropped where there
    /// is no dead-letter exchange. On dead-letter: it stays in its queue and is tried again later.
    Reject(Cow<'static, str>),
}

impl From<Patch> for Verdict {
    fn from(patch: Patch) -> Self {
        if patch.is_empty() { Self::Pass } else { Self::Patch(patch) }
    }
}

impl Verdict {
    /// Appends the bytes of the verdict.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Pass => out.push(0),
            Self::Drop(reason) => put_reason(out, 1, reason),
            Self::Reject(reason) => put_reason(out, 2, reason),
            Self::Patch(patch) => {
                out.push(3);
                patch.put(out);
            }
        }
    }
}

fn put_reason(out: &mut Vec<u8>, kind: u8, reason: &str) {
    let (reason, _) = reason.split_at(reason.floor_char_boundary(REASON_BYTES_MAX));
    out.push(kind);
    // It fits, for it was cut above.
    out.extend_from_slice(&(reason.len() as u16).to_le_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_documented_ones() {
        let mut bytes = Vec::new();
        Verdict::Pass.put(&mut bytes);
        Verdict::Drop("why".into()).put(&mut bytes);
        Verdict::Reject("".into()).put(&mut bytes);
        Verdict::Patch(Patch::new().remove_header("h")).put(&mut bytes);
        assert_eq!(bytes, [0, 1, 3, 0, b'w', b'h', b'y', 2, 0, 0, 3, 1, 0, 1, 1, b'h']);
        assert_eq!(Verdict::from(Patch::new()), Verdict::Pass);
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let mut bytes = Vec::new();
        Verdict::Drop(format!("x{}", "é".repeat(600)).into()).put(&mut bytes);
        assert_eq!(bytes.len(), 3 + 1023);
        assert!(std::str::from_utf8(bytes.get(3..).unwrap()).is_ok());
    }
}
