//! A message that comes in parts: what is kept of it in memory, while its body goes to a file.
//!
//! *In:* the bytes from the first on ([`Coming::begin`], which has to have all that stands in front of the body), then
//! the others. *Out:* which of them belong into the file, and at the end what [`super::Kept`] would have said of the whole:
//! the properties, and which part of the file is the body.

use super::parts;
use crate::{
    form::Kept,
    message::{Scanner, Section},
    types::DecodeError,
};
use alloc::vec::Vec;
use core::fmt;
use leveret_model::{Form, far::Far};

/// The form of messages that are kept so ([`leveret_model::far`]).
pub static FAR: &dyn Form = &FAR_FORM;

static FAR_FORM: Far = Far::new(&super::Amqp10, "amqp-1-0, far");

/// The longest footer that is taken of such a message, in bytes.
const FOOTER_BYTES_MAX: usize = 64 * 1024;
/// The longest beginning of a section that is looked at: `amqp:application-properties:map` as a large symbol, with the
/// constructor of its content, has 45 bytes.
const SECTION_HEAD_BYTES_MAX: usize = 64;

/// Why a message is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// It makes no sense.
    Decode(DecodeError),
    /// What stands in front of its body, or behind it, is longer than is taken.
    TooLong(&'static str),
}

impl From<DecodeError> for Unkept {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::TooLong(what) => write!(f, "what stands {what} the body of a large message is too long"),
        }
    }
}

impl core::error::Error for Unkept {}

/// A message of which not all came.
#[derive(Debug)]
pub struct Coming {
    scanner: Scanner,
    /// All that stands in front of the body.
    head: Vec<u8>,
    /// The beginning of the body.
    body_head: Vec<u8>,
    /// The last bytes that came, as many as the beginning of a section may have.
    last: Vec<u8>,
    /// The footer, as far as it came.
    footer: Vec<u8>,
    bytes: usize,
}

/// What is kept of a message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFar {
    /// All but the body, as [`super`] lays it out.
    pub properties: Vec<u8>,
    /// How many bytes of those stand in front of the body: they are a message without one.
    pub head_bytes: usize,
    /// Where the body begins in the file, and where it ends.
    pub body: (u64, u64),
}

impl Coming {
    /// The first bytes of a message came. Gives those that belong into the file.
    ///
    /// # Errors
    /// The message makes no sense, or its body does not begin in them.
    pub fn begin(first: &[u8]) -> Result<(Self, &[u8]), Unkept> {
        let mut scanner = Scanner::default();
        scanner.feed(first)?;
        let start = scanner.body_start().ok_or(Unkept::TooLong("in front of"))?;
        let (head, body) = first.split_at_checked(start).ok_or(Unkept::TooLong("in front of"))?;
        let body_head = body.get(..SECTION_HEAD_BYTES_MAX).unwrap_or(body);
        let (head, body_head, bytes) = (head.to_vec(), body_head.to_vec(), 0);
        let mut coming = Self { scanner, head, body_head, last: Vec::new(), footer: Vec::new(), bytes };
        coming.bytes = start;
        coming.look(body)?;
        Ok((coming, body))
    }

    /// What stands in front of the body: a message of its own, without one.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The next bytes came; all of them belong into the file.
    ///
    /// # Errors
    /// The message makes no sense.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Unkept> {
        self.scanner.feed(bytes)?;
        self.look(bytes)
    }

    /// Collects the footer.
    fn look(&mut self, bytes: &[u8]) -> Result<(), Unkept> {
        let before = self.bytes;
        self.bytes += bytes.len();
        if let Some(start) = self.scanner.footer_start() {
            if self.footer.is_empty() {
                // It may have begun with what came before.
                let earlier = self.last.len().saturating_sub(before.saturating_sub(start));
                self.footer.extend_from_slice(self.last.get(earlier..).unwrap_or_default());
            }
            self.footer.extend_from_slice(bytes.get(start.saturating_sub(before)..).unwrap_or_default());
            if self.footer.len() > FOOTER_BYTES_MAX {
                return Err(Unkept::TooLong("behind"));
            }
        } else {
            let tail = bytes.get(bytes.len().saturating_sub(SECTION_HEAD_BYTES_MAX)..).unwrap_or_default();
            self.last.extend_from_slice(tail);
            let beyond = self.last.len().saturating_sub(SECTION_HEAD_BYTES_MAX);
            self.last.drain(..beyond);
        }
        Ok(())
    }

    /// All of it came.
    ///
    /// # Errors
    /// It is cut short, or a section makes no sense.
    pub fn finish(self) -> Result<KeptFar, Unkept> {
        let layout = self.scanner.finish()?;
        let body = layout.body.ok_or(Unkept::TooLong("in front of"))?;
        let kept = Kept::of(&self.head)?;
        let mut properties = kept.properties(&self.head).to_vec();
        let before = properties.len();
        let is_one_data = body.kind == Section::Data && body.sections == 1;
        let head_bytes = if is_one_data { parts::data_head(&self.body_head).unwrap_or(0) } else { 0 };
        properties.extend_from_slice(self.body_head.get(..head_bytes).unwrap_or_default());
        if layout.footer.is_some() {
            // It is to be one.
            Kept::of(&self.footer)?;
            properties.extend_from_slice(&self.footer);
        }
        Ok(KeptFar { properties, head_bytes: before, body: (head_bytes as u64, body.span.len() as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        composite::Composite as _,
        descriptor,
        form::{Giving, Head, give},
        messaging::{Header, Properties},
        types::write,
    };
    use alloc::vec;

    fn section(descriptor: u64, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write::put_descriptor(&mut out, descriptor);
        write::put(&mut out, content);
        out
    }

    fn head() -> Vec<u8> {
        let mut out = Vec::new();
        Header { durable: Some(true), ..Header::default() }.encode(&mut out);
        // Delivery-annotations, which are for the hop that is over.
        write::put_descriptor(&mut out, descriptor::DELIVERY_ANNOTATIONS);
        out.extend_from_slice(&[0xc1, 1, 0]);
        Properties { subject: Some("s"), ..Properties::default() }.encode(&mut out);
        out
    }

    /// What is kept of a message that comes in pieces of that length is what is kept of the whole.
    fn check(message: &[u8], piece: usize) {
        let whole = Kept::of(message).unwrap();
        let first = message.len().min(piece.max(600));
        let (mut coming, file) = Coming::begin(&message[..first]).unwrap();
        let mut file = file.to_vec();
        for bytes in message[first..].chunks(piece) {
            coming.feed(bytes).unwrap();
            file.extend_from_slice(bytes);
        }
        let kept = coming.finish().unwrap();
        let body = &file[kept.body.0 as usize..kept.body.1 as usize];
        assert_eq!(kept.properties, whole.properties(message), "pieces of {piece}");
        assert!(body == whole.body(message), "pieces of {piece}");
        let mut head = Head::default();
        let given = give(&kept.properties, body, &Giving::default(), &mut head).concat();
        assert_eq!(Kept::of(&given).unwrap().body(&given), body);
    }

    #[test]
    fn what_comes_in_parts_is_kept_as_what_comes_whole() {
        let footer = || {
            let mut out = Vec::new();
            write::put_descriptor(&mut out, descriptor::FOOTER);
            out.extend_from_slice(&[0xc1, 9, 2, 0xa3, 1, b'k', 0xa1, 3, b'a', b'b', b'c']);
            out
        };
        let data = |bytes: usize| section(descriptor::DATA, &vec![7; bytes]);
        let mut value = Vec::new();
        write::put_descriptor(&mut value, descriptor::AMQP_VALUE);
        write::put(&mut value, &*vec![9_u8; 3000]);
        let bodies = [data(3000), [data(700), data(9), data(3000)].concat(), value];
        for body in &bodies {
            for footer in [Vec::new(), footer()] {
                let message = [head(), body.clone(), footer].concat();
                [1, 7, 100, 1000, 10_000].into_iter().for_each(|piece| check(&message, piece));
            }
        }
    }

    #[test]
    fn what_makes_no_sense_or_is_too_long_is_not_kept() {
        assert_eq!(Coming::begin(&head()).err(), Some(Unkept::TooLong("in front of")));
        assert!(matches!(Coming::begin(b"no message"), Err(Unkept::Decode(_))));
        let message = [head(), section(descriptor::DATA, &[7; 3000])].concat();
        let (coming, _) = Coming::begin(&message[..message.len() - 1]).unwrap();
        assert_eq!(coming.finish(), Err(Unkept::Decode(DecodeError::Truncated)));
        let (mut coming, _) = Coming::begin(&message).unwrap();
        let mut footer = Vec::new();
        write::put_descriptor(&mut footer, descriptor::FOOTER);
        footer.extend_from_slice(&[0xd1, 0, 2, 0, 0, 0, 0, 0, 0]);
        coming.feed(&footer).unwrap();
        let fed = (0..9).try_for_each(|_| coming.feed(&[0; 8000]));
        assert_eq!(fed, Err(Unkept::TooLong("behind")));
    }
}
