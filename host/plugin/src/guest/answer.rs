//! What guests answer, checked: decisions as words, and what an exchange reads.
//!
//! The layout of the words is described in `wit/CONTRACT.md`, "Batches".

use super::{description::missing, instance::Refused};
use crate::bindings::v0_2::leveret::routing::types as wit;
use leveret_broker::exchange::BindingId;
use leveret_model::{BodyReading, HeaderSelection, Name, Property, Reads};
use std::sync::Arc;

/// The most bytes of a reject reason; what is longer is cut.
pub const REJECT_REASON_BYTES_MAX: usize = 1_024;
/// The most headers that are read by name: each is looked for in each message. A type that wants more
/// reads all.
pub(super) const HEADERS_READ_MAX: usize = 1_024;

/// The decisions of one call, checked.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// As the guest laid them out; most are ids.
    words: Vec<BindingId>,
    count: usize,
}

/// What a guest decided for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision<'a> {
    /// To these bindings.
    Deliver(&'a [BindingId]),
    /// Nowhere, on purpose, for that reason.
    Drop(Option<Arc<str>>),
    /// Not accepted.
    Reject(Arc<str>),
    /// As the inner type decides.
    Delegate,
    /// As the inner type decides in so many milliseconds.
    Hold(u64),
}

const DELIVER: u64 = 0;
const DROP: u64 = 1;
const REJECT: u64 = 2;
const DELEGATE: u64 = 3;
const HOLD: u64 = 4;
const COUNT_MASK: u64 = (1 << 56) - 1;

impl Decisions {
    /// Checks the words that a guest answered for `count` messages, each with at most `ids_max` ids.
    ///
    /// # Errors
    /// What is wrong with them, for people to read.
    pub(crate) fn from_words(words: Vec<u64>, count: usize, ids_max: usize) -> Result<Self, String> {
        let mut at = 0_usize;
        let few_max = COUNT_MASK.min(ids_max as u64);
        for message in 0..count {
            let Some(&first) = words.get(at) else {
                return Err(match at > words.len() {
                    true => wrong_length(words.len(), at),
                    false => format!("the answer ends after {message} decisions of {count}"),
                });
            };
            // To bindings, and not too many: what most are.
            if first <= few_max {
                at += 1 + first as usize;
                continue;
            }
            let argument = usize::try_from(first & COUNT_MASK).unwrap_or(usize::MAX);
            let following = match first >> 56 {
                DELIVER => {
                    return Err(format!(
                        "decision {message} of {count} has {argument} ids; the most is {ids_max}"
                    ));
                }
                DROP | REJECT => argument.div_ceil(8),
                DELEGATE if argument == 0 => 0,
                HOLD => 0,
                _ => {
                    return Err(format!(
                        "decision {message} of {count}, at word {at}: there is no word {first:#x}"
                    ));
                }
            };
            at = at.saturating_add(1).saturating_add(following);
        }
        if at != words.len() {
            return Err(wrong_length(words.len(), at));
        }
        // In place: an id is a word.
        Ok(Self { words: words.into_iter().map(BindingId).collect(), count })
    }

    /// Checks the one decision that a guest answered in the plain form, with at most `ids_max` ids.
    ///
    /// # Errors
    /// What is wrong with it, for people to read.
    pub(super) fn one(decision: PlainDecision, ids_max: usize) -> Result<Self, String> {
        let words = match decision {
            PlainDecision::Deliver(mut ids) => {
                ids.insert(0, ids.len() as u64);
                ids
            }
            PlainDecision::Drop(reason) => words_of(DROP, &shown(&reason)),
            PlainDecision::Reject(reason) => words_of(REJECT, &shown(&reason)),
            PlainDecision::Delegate => vec![DELEGATE << 56],
            PlainDecision::Hold(milliseconds) => vec![HOLD << 56 | milliseconds.min(COUNT_MASK)],
        };
        Self::from_words(words, 1, ids_max)
    }

    /// One decision for each message, in order.
    #[inline]
    pub(crate) fn iter(&self) -> DecisionsLeft<'_> {
        DecisionsLeft { words: &self.words, count: self.count }
    }
}

/// Those that come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionsLeft<'a> {
    words: &'a [BindingId],
    count: usize,
}

impl<'a> DecisionsLeft<'a> {
    /// The bindings of the next decision, where that is for one or two, as most are; and those that come after it.
    #[inline]
    pub(crate) fn split_few(self) -> Option<(&'a [BindingId], Self)> {
        let (ids, words) = match self.words {
            [BindingId(1), after @ ..] => after.split_at_checked(1)?,
            [BindingId(2), after @ ..] => after.split_at_checked(2)?,
            _ => return None,
        };
        Some((ids, Self { words, count: self.count.checked_sub(1)? }))
    }
}

impl<'a> Iterator for DecisionsLeft<'a> {
    type Item = Decision<'a>;

    #[inline]
    fn next(&mut self) -> Option<Decision<'a>> {
        let count = self.count.checked_sub(1)?;
        let (first, after) = self.words.split_first()?;
        let argument = (first.0 & COUNT_MASK) as usize;
        let (decision, words) = match first.0 >> 56 {
            DELIVER => {
                let (ids, after) = after.split_at_checked(argument)?;
                (Decision::Deliver(ids), after)
            }
            DROP if argument == 0 => (Decision::Drop(None), after),
            DELEGATE => (Decision::Delegate, after),
            HOLD => (Decision::Hold(first.0 & COUNT_MASK), after),
            kind => {
                let (reason, after) = after.split_at_checked(argument.div_ceil(8))?;
                let reason = reason_from_words(reason, argument);
                let dropped = kind == DROP;
                (if dropped { Decision::Drop(Some(reason)) } else { Decision::Reject(reason) }, after)
            }
        };
        *self = Self { words, count };
        Some(decision)
    }
}

/// A decision in the plain form, of whichever version.
pub(super) enum PlainDecision {
    Deliver(Vec<u64>),
    Drop(String),
    Reject(String),
    Delegate,
    Hold(u64),
}

fn words_of(kind: u64, text: &str) -> Vec<u64> {
    let words = text.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    });
    std::iter::once(kind << 56 | text.len() as u64).chain(words).collect()
}

fn wrong_length(words: usize, expected: usize) -> String {
    format!("the answer has {words} words and should have {expected}")
}

fn reason_from_words(words: &[BindingId], length: usize) -> Arc<str> {
    let mut bytes: Vec<u8> = words
        .iter()
        // A character more than the limit, so that cutting finds its boundary.
        .take(REJECT_REASON_BYTES_MAX / 8 + 1)
        .flat_map(|word| word.0.to_le_bytes())
        .collect();
    bytes.truncate(length);
    shown(&String::from_utf8_lossy(&bytes)).into()
}

/// At most [`REJECT_REASON_BYTES_MAX`] bytes of a stranger's text, whole characters, in one line: it is
/// shown to people, and must not look like a line of the broker's own or command a terminal.
pub(crate) fn shown(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(REJECT_REASON_BYTES_MAX)).unwrap_or_default();
    let plain = |c: char| match c {
        '\n' | '\t' => ' ',
        // One byte, like what it replaces, so that the text is not longer.
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(plain).collect()
}

/// The text of a refusal by a plugin.
pub(super) fn refusal(refusal: wit::Refusal) -> Refused {
    Refused::ByPlugin(match refusal {
        wit::Refusal::MissingArgument(name) => missing(&shown(&name)),
        wit::Refusal::InvalidArgument((name, why)) => {
            format!("invalid arg '{}': {}", shown(&name), shown(&why))
        }
        wit::Refusal::Unsupported(what) => format!("not supported: {}", shown(&what)),
        wit::Refusal::Other(why) => shown(&why),
    })
}

/// Checks what a guest says is read.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(super) fn reads(reads: wit::Reads) -> Result<Reads, String> {
    let body = reads.body.map(|body| BodyReading {
        bytes_max: body.limit,
        rejects_above: matches!(body.above, wit::AboveLimit::Reject),
    });
    Ok(Reads {
        routing_key: reads.routing_key,
        headers: headers(reads.headers)?,
        properties: properties(&reads.properties)?,
        body,
        publisher: reads.publisher,
        exchange: reads.exchange,
        queue: reads.queue,
        reason: reads.reason,
    })
}

/// Checks which headers a guest wants to read.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(super) fn headers(headers: wit::HeaderSelection) -> Result<HeaderSelection, String> {
    let names = match headers {
        wit::HeaderSelection::None => return Ok(HeaderSelection::None),
        wit::HeaderSelection::All => return Ok(HeaderSelection::All),
        wit::HeaderSelection::Named(names) if names.len() > HEADERS_READ_MAX => {
            return Err(format!(
                "{} headers are read by name; the most is {HEADERS_READ_MAX}, or all",
                names.len()
            ));
        }
        wit::HeaderSelection::Named(names) => names,
    };
    let names = names.iter().map(|name| Name::new(name)).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|error| format!("a header to read: {error}"))?;
    let distinct = names.iter().map(Name::as_bytes).collect::<hashbrown::HashSet<_>>().len();
    if distinct != names.len() {
        return Err(String::from("a header to read is named twice"));
    }
    Ok(HeaderSelection::Named(names))
}

/// Checks which properties a guest wants to read.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(super) fn properties(properties: &[wit::Property]) -> Result<Vec<Property>, String> {
    let properties: Vec<Property> = properties.iter().map(|property| property_of(*property)).collect();
    if properties.iter().enumerate().any(|(at, property)| properties.iter().take(at).any(|p| p == property)) {
        return Err(String::from("a property to read is named twice"));
    }
    Ok(properties)
}

pub(super) fn property_of(property: wit::Property) -> Property {
    match property {
        wit::Property::ContentType => Property::ContentType,
        wit::Property::ContentEncoding => Property::ContentEncoding,
        wit::Property::DeliveryMode => Property::DeliveryMode,
        wit::Property::Priority => Property::Priority,
        wit::Property::CorrelationId => Property::CorrelationId,
        wit::Property::ReplyTo => Property::ReplyTo,
        wit::Property::Expiration => Property::Expiration,
        wit::Property::MessageId => Property::MessageId,
        wit::Property::Timestamp => Property::Timestamp,
        wit::Property::MessageType => Property::MessageType,
        wit::Property::UserId => Property::UserId,
        wit::Property::AppId => Property::AppId,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ANSWER_IDS_MAX as IDS_MAX;
    use proptest::prelude::*;

    fn word(kind: u64, argument: u64) -> u64 {
        kind << 56 | argument
    }

    #[test]
    fn words_are_read_as_laid_out() {
        let reason = u64::from_le_bytes(*b"too lon\0");
        let words = vec![
            word(0, 2),
            7,
            9,
            word(1, 0),
            word(0, 0),
            word(2, 7),
            reason,
            word(3, 0),
            word(4, 99),
            word(1, 7),
            reason,
        ];
        let decisions = Decisions::from_words(words, 7, IDS_MAX).unwrap();
        let all: Vec<_> = decisions.iter().collect();
        assert_eq!(
            all,
            [
                Decision::Deliver(&[BindingId(7), BindingId(9)]),
                Decision::Drop(None),
                Decision::Deliver(&[]),
                Decision::Reject("too lon".into()),
                Decision::Delegate,
                Decision::Hold(99),
                Decision::Drop(Some("too lon".into())),
            ]
        );
    }

    #[test]
    fn decisions_for_one_or_two_are_split_off_and_no_others() {
        let words = vec![word(0, 1), 7, word(0, 2), 8, 9, word(0, 0), word(0, 1), 1];
        let decisions = Decisions::from_words(words, 4, IDS_MAX).unwrap();
        let (one, left) = decisions.iter().split_few().unwrap();
        let (two, mut left) = left.split_few().unwrap();
        assert_eq!((one, two), (&[BindingId(7)][..], &[BindingId(8), BindingId(9)][..]));
        assert!(left.split_few().is_none());
        assert_eq!(left.next(), Some(Decision::Deliver(&[])));
        let (last, left) = left.split_few().unwrap();
        assert_eq!((last, left.count()), (&[BindingId(1)][..], 0));
        for first in [word(1, 1), word(0, 3), word(4, 2)] {
            let decisions = Decisions { words: [first, 1, 2, 3].map(BindingId).into(), count: 1 };
            assert!(decisions.iter().split_few().is_none(), "{first:#x}");
        }
    }

    #[test]
    fn malformed_words_are_refused() {
        let refused = |words: Vec<u64>, count| Decisions::from_words(words, count, IDS_MAX).unwrap_err();
        assert!(refused(vec![], 1).contains("0 decisions of 1"));
        assert!(refused(vec![word(0, 2), 1], 1).contains("should have 3"));
        assert!(refused(vec![word(1, 0), word(1, 0)], 1).contains("should have 1"));
        assert!(refused(vec![word(5, 0)], 1).contains("there is no word"));
        assert!(refused(vec![word(3, 1)], 1).contains("there is no word"));
        assert!(refused(vec![word(1, 1)], 1).contains("should have"));
        assert!(refused(vec![word(2, COUNT_MASK)], 1).contains("should have"));
        assert!(refused(vec![word(0, IDS_MAX as u64 + 1)], 1).contains("the most is 65536"));
        Decisions::from_words([vec![word(0, IDS_MAX as u64)], vec![1; IDS_MAX]].concat(), 1, IDS_MAX)
            .unwrap();
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "ü".repeat(REJECT_REASON_BYTES_MAX);
        let mut words = vec![word(2, long.len() as u64)];
        words.extend(long.as_bytes().chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())));
        match Decisions::from_words(words, 1, IDS_MAX).unwrap().iter().next() {
            Some(Decision::Reject(reason)) => assert_eq!(reason.len(), 1_024),
            other => panic!("{other:?}"),
        }
        assert_eq!(shown(&format!("x{long}")).len(), 1_023);
        assert_eq!(shown("one\nline \u{1b}[2J and\u{85}no more"), "one line ?[2J and?no more");
    }

    #[test]
    fn reads_that_name_something_twice_are_refused() {
        let plain = |headers, properties| wit::Reads {
            routing_key: true,
            headers,
            properties,
            body: None,
            publisher: false,
            exchange: false,
            queue: false,
            reason: false,
        };
        let twice = wit::HeaderSelection::Named(vec![b"a".to_vec(), b"a".to_vec()]);
        assert!(reads(plain(twice, vec![])).unwrap_err().contains("header"));
        let properties = vec![wit::Property::AppId, wit::Property::UserId, wit::Property::AppId];
        assert!(reads(plain(wit::HeaderSelection::None, properties)).unwrap_err().contains("property"));
        let long = wit::HeaderSelection::Named(vec![vec![b'x'; 256]]);
        assert!(reads(plain(long, vec![])).unwrap_err().contains("256 bytes"));
        let many = |count: usize| (0..count).map(|n| n.to_string().into_bytes()).collect();
        reads(plain(wit::HeaderSelection::Named(many(HEADERS_READ_MAX)), vec![])).unwrap();
        let error =
            reads(plain(wit::HeaderSelection::Named(many(HEADERS_READ_MAX + 1)), vec![])).unwrap_err();
        assert!(error.contains("1025 headers") && error.contains("1024"), "{error}");
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(
            words in proptest::collection::vec(
                prop_oneof![any::<u64>(), (0_u64..6, 0_u64..20).prop_map(|(k, a)| word(k, a))], 0..40),
            count in 0_usize..20,
        ) {
            match Decisions::from_words(words, count, IDS_MAX) {
                Ok(decisions) => prop_assert_eq!(decisions.iter().count(), count),
                Err(error) => prop_assert!(error.contains("decision") || error.contains("words"), "{}", error),
            }
        }
    }
}
