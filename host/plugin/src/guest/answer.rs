//! What guests answer, checked: decisions as words, and what an exchange reads.
//!
//! The layout of the words is described in `wit/CONTRACT.md`, "Batches".

use crate::bindings::plain::leveret::routing::types as wit;
use leveret_broker::exchange::BindingId;
use leveret_model::{HeaderSelection, Name, Property, Reads};
use std::{ops::Range, sync::Arc};

/// The most bytes of a reject reason; what is longer is cut.
pub const REJECT_REASON_BYTES_MAX: usize = 1_024;

/// The decisions of one call.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    words: Vec<BindingId>,
    decisions: Vec<Decision>,
}

/// What a guest decided for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To the bindings at these places of [`Decisions::ids`].
    Deliver(Range<usize>),
    /// Nowhere, on purpose.
    Drop,
    /// Not accepted.
    Reject(Arc<str>),
}

const DELIVER: u64 = 0;
const DROP: u64 = 1;
const REJECT: u64 = 2;
const COUNT_MASK: u64 = (1 << 56) - 1;

impl Decisions {
    /// Checks the words that a guest answered for `count` messages, each with at most `ids_max` ids.
    ///
    /// # Errors
    /// What is wrong with them, for people to read.
    pub(crate) fn from_words(words: Vec<u64>, count: usize, ids_max: usize) -> Result<Self, String> {
        let mut decisions = Vec::with_capacity(count);
        let mut at = 0;
        for message in 0..count {
            let Some(&first) = words.get(at) else {
                return Err(format!("the answer ends after {message} decisions of {count}"));
            };
            at += 1;
            let argument = usize::try_from(first & COUNT_MASK).unwrap_or(usize::MAX);
            let decision = match first >> 56 {
                DELIVER if argument > ids_max => return Err(too_many(argument, ids_max)),
                DELIVER => {
                    let ids = at..at + argument;
                    at = ids.end;
                    Decision::Deliver(ids)
                }
                DROP if argument == 0 => Decision::Drop,
                REJECT => {
                    let reason = at..at.saturating_add(argument.div_ceil(8));
                    at = reason.end;
                    Decision::Reject(reason_from_words(words.get(reason).unwrap_or_default(), argument))
                }
                _ => return Err(format!("the answer has the unknown word {first:#x}")),
            };
            if at > words.len() {
                return Err(format!("the answer has {} words and should have {at}", words.len()));
            }
            decisions.push(decision);
        }
        if at != words.len() {
            return Err(format!("the answer has {} words and should have {at}", words.len()));
        }
        // In place: an id is a word.
        Ok(Self { words: words.into_iter().map(BindingId).collect(), decisions })
    }

    /// Checks the decision that a guest answered in the plain form, with at most `ids_max` ids.
    ///
    /// # Errors
    /// What is wrong with it, for people to read.
    pub(crate) fn from_plain(decision: wit::Decision, ids_max: usize) -> Result<Self, String> {
        Ok(match decision {
            wit::Decision::Deliver(ids) if ids.len() > ids_max => return Err(too_many(ids.len(), ids_max)),
            wit::Decision::Deliver(ids) => {
                let all = Decision::Deliver(0..ids.len());
                Self { words: ids.into_iter().map(BindingId).collect(), decisions: vec![all] }
            }
            wit::Decision::Drop => Self { words: Vec::new(), decisions: vec![Decision::Drop] },
            wit::Decision::Reject(reason) => {
                let reason = Decision::Reject(cut(&reason).into());
                Self { words: Vec::new(), decisions: vec![reason] }
            }
        })
    }

    /// One decision for each message, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// The ids of a [`Decision::Deliver`].
    pub(crate) fn ids(&self, range: &Range<usize>) -> &[BindingId] {
        self.words.get(range.clone()).unwrap_or_default()
    }
}

fn too_many(ids: usize, ids_max: usize) -> String {
    format!("the decision has {ids} ids; the most is {ids_max}")
}

fn reason_from_words(words: &[u64], length: usize) -> Arc<str> {
    let mut bytes: Vec<u8> = words
        .iter()
        // A character more than the limit, so that cutting finds its boundary.
        .take(REJECT_REASON_BYTES_MAX / 8 + 1)
        .flat_map(|word| word.to_le_bytes())
        .collect();
    bytes.truncate(length);
    cut(&String::from_utf8_lossy(&bytes)).into()
}

/// At most [`REJECT_REASON_BYTES_MAX`] bytes of it, whole characters.
fn cut(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REJECT_REASON_BYTES_MAX)).unwrap_or_default()
}

/// Checks what a guest says an exchange reads.
///
/// # Errors
/// What is wrong with it, for people to read.
pub(super) fn reads(reads: wit::Reads) -> Result<Reads, String> {
    let headers = match reads.headers {
        wit::HeaderSelection::None => HeaderSelection::None,
        wit::HeaderSelection::All => HeaderSelection::All,
        wit::HeaderSelection::Named(names) => {
            let names = names.iter().map(|name| Name::new(name)).collect::<Result<Vec<_>, _>>();
            let names = names.map_err(|error| format!("a header to read: {error}"))?;
            let distinct = names.iter().map(Name::as_bytes).collect::<hashbrown::HashSet<_>>().len();
            if distinct != names.len() {
                return Err(String::from("a header to read is named twice"));
            }
            HeaderSelection::Named(names)
        }
    };
    let properties: Vec<Property> = reads.properties.iter().map(|property| property_of(*property)).collect();
    if properties.iter().enumerate().any(|(at, property)| properties.iter().take(at).any(|p| p == property)) {
        return Err(String::from("a property to read is named twice"));
    }
    Ok(Reads { routing_key: reads.routing_key, headers, properties, body_bytes_max: reads.body_limit })
}

fn property_of(property: wit::Property) -> Property {
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
        let words = vec![word(0, 2), 7, 9, word(1, 0), word(0, 0), word(2, 7), reason];
        let decisions = Decisions::from_words(words, 4, IDS_MAX).unwrap();
        let all: Vec<_> = decisions.iter().cloned().collect();
        assert_eq!(
            all,
            [
                Decision::Deliver(1..3),
                Decision::Drop,
                Decision::Deliver(5..5),
                Decision::Reject("too lon".into())
            ]
        );
        assert_eq!(decisions.ids(&(1..3)), [BindingId(7), BindingId(9)]);
    }

    #[test]
    fn malformed_words_are_refused() {
        let refused = |words: Vec<u64>, count| Decisions::from_words(words, count, IDS_MAX).unwrap_err();
        assert!(refused(vec![], 1).contains("0 decisions of 1"));
        assert!(refused(vec![word(0, 2), 1], 1).contains("should have 3"));
        assert!(refused(vec![word(1, 0), word(1, 0)], 1).contains("should have 1"));
        assert!(refused(vec![word(3, 0)], 1).contains("unknown word"));
        assert!(refused(vec![word(1, 1)], 1).contains("unknown word"));
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
        let plain = wit::Decision::Reject(format!("x{long}"));
        for (decisions, expected) in
            [(Decisions::from_words(words, 1, 9), 1_024), (Decisions::from_plain(plain, 9), 1_023)]
        {
            match decisions.unwrap().iter().next() {
                Some(Decision::Reject(reason)) => assert_eq!(reason.len(), expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn reads_that_name_something_twice_are_refused() {
        let plain =
            |headers, properties| wit::Reads { routing_key: true, headers, properties, body_limit: None };
        let twice = wit::HeaderSelection::Named(vec![b"a".to_vec(), b"a".to_vec()]);
        assert!(reads(plain(twice, vec![])).unwrap_err().contains("header"));
        let properties = vec![wit::Property::AppId, wit::Property::UserId, wit::Property::AppId];
        assert!(reads(plain(wit::HeaderSelection::None, properties)).unwrap_err().contains("property"));
        let long = wit::HeaderSelection::Named(vec![vec![b'x'; 256]]);
        assert!(reads(plain(long, vec![])).unwrap_err().contains("256 bytes"));
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(
            words in proptest::collection::vec(
                prop_oneof![any::<u64>(), (0_u64..4, 0_u64..20).prop_map(|(k, a)| word(k, a))], 0..40),
            count in 0_usize..20,
        ) {
            let length = words.len();
            if let Ok(decisions) = Decisions::from_words(words, count, IDS_MAX) {
                prop_assert_eq!(decisions.iter().len(), count);
                for decision in decisions.iter() {
                    if let Decision::Deliver(range) = decision {
                        prop_assert!(range.end <= length);
                        prop_assert_eq!(decisions.ids(range).len(), range.len());
                    }
                }
            }
        }
    }
}
