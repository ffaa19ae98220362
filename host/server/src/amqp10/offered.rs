//! The outcomes that there may be on a link, as its source says (section 3.5.3, outcomes); none named are all.
//!
//! *Where the client receives* the answering attach says the same ones, as in RabbitMQ, and the default outcome. A client
//! that settles with another all the same contradicts that: its link ends with `amqp:not-allowed`, and what it has not
//! settled with one that there is goes back to the queue. In a transaction the session ends, for what was done in that is
//! not what was asked for. RabbitMQ does not look.
//!
//! *Where it sends* it is told no other, but that a message is accepted, which is said whatever it knows:
//!
//! ```text
//! released is not offered    rejected instead: amqp:not-found, or amqp:internal-error where the disk did not take it
//! rejected is not offered    the link ends with what would have been said (as the anonymous terminus asks, section 2.2.2)
//! ```

use super::{
    Connection,
    links::Refused,
    outcomes::{Outcome, Why},
};
use leveret_amqp10::{
    Condition,
    messaging::{self, DeliveryState, Released, Source},
    performatives::Error,
    types::Symbol,
};
use leveret_broker::port::Router;
use std::collections::BTreeSet;

/// The outcomes of a message, by the names of their descriptors; the place of each is its bit in [`Offered`].
pub(super) const OUTCOMES: [Symbol<'static>; 4] = [
    Symbol::from_static("amqp:accepted:list"),
    Symbol::from_static("amqp:rejected:list"),
    Symbol::from_static("amqp:released:list"),
    Symbol::from_static("amqp:modified:list"),
];
const REJECTED: u8 = 1 << 1;
const RELEASED: u8 = 1 << 2;
const ALL: u8 = 0b1111;

/// The outcomes that there may be on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered(u8);

impl Offered {
    /// Those of a link on which the client sends.
    ///
    /// # Errors
    /// As [`Self::of_receiver`].
    pub(super) fn of_sender(source: Option<&Source<'_>>) -> Result<Self, Refused> {
        source.map_or(Ok(Self(ALL)), |source| Self::of(source, source.default_outcome))
    }

    /// Those of a link on which it receives.
    ///
    /// # Errors
    /// One of them is not known, or the default outcome is none of a message.
    pub(super) fn of_receiver(source: &Source<'_>) -> Result<Self, Refused> {
        Self::of(source, Some(source.default_outcome.unwrap_or(Released {}.into())))
    }

    fn of(source: &Source<'_>, by_default: Option<messaging::Outcome<'_>>) -> Result<Self, Refused> {
        let by_default = match by_default.as_ref().map(bit) {
            Some(None) => {
                return Err(Refused::new(Condition::InvalidField, "no message is declared by default"));
            }
            Some(Some(bit)) => bit,
            None => 0,
        };
        let mut named = 0;
        for outcome in source.outcomes.iter() {
            let Some(place) = OUTCOMES.iter().position(|known| *known == outcome) else {
                let text = format!("the outcome {outcome} is not known");
                return Err(Refused::new(Condition::NotImplemented, text));
            };
            named |= 1 << place;
        }
        Ok(Self(if named == 0 { ALL } else { named | by_default }))
    }

    /// Whether there is nothing that there may not be.
    pub(super) fn is_all(self) -> bool {
        self.0 == ALL
    }

    fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether a state is one that there may be. One that is no outcome of a message always is.
    pub(super) fn allows(self, state: &DeliveryState<'_>) -> bool {
        stated(state).as_ref().and_then(bit).is_none_or(|bit| self.has(bit))
    }

    /// What a client that sends is told for that.
    ///
    /// # Errors
    /// Nothing that it knows says so: its link is to end with this.
    pub(super) fn fit(self, outcome: Outcome) -> Result<Outcome, Box<Why>> {
        let unroutable = || {
            let description = "no queue takes the message".to_owned();
            Box::new(Why { condition: Condition::NotFound, description, reason: None, queue: None })
        };
        match outcome {
            Outcome::Accepted if !self.has(RELEASED) => Ok(Outcome::AcceptedOrRejected),
            Outcome::Released if !self.has(RELEASED) => self.fit(Outcome::Rejected(unroutable())),
            Outcome::Rejected(why) if !self.has(REJECTED) => Err(why),
            other => Ok(other),
        }
    }
}

/// The bit of an outcome; `None` if it is none of a message.
fn bit(outcome: &messaging::Outcome<'_>) -> Option<u8> {
    Some(match outcome {
        messaging::Outcome::Accepted(_) => 1,
        messaging::Outcome::Rejected(_) => REJECTED,
        messaging::Outcome::Released(_) => RELEASED,
        messaging::Outcome::Modified(_) => 1 << 3,
        messaging::Outcome::Declared(_) => return None,
    })
}

/// The outcome that a state says, at once or for the end of a transaction.
fn stated<'a>(state: &DeliveryState<'a>) -> Option<messaging::Outcome<'a>> {
    match state {
        DeliveryState::Transactional(state) => state.outcome,
        state => state.outcome(),
    }
}

impl Connection {
    /// A client says a state of deliveries. Links on which there may not be such are over; whether the session is.
    pub(super) fn end_unoffered(
        &mut self,
        channel: u16,
        (first, last): (u32, u32),
        state: &DeliveryState<'_>,
        router: &mut dyn Router,
    ) -> bool {
        let Some(session) = self.session(channel).filter(|session| !session.limited.is_empty()) else {
            return false;
        };
        let of = |handle: u32| session.limited.get(&handle).filter(|offered| !offered.allows(state));
        let handles = session.sent.within(first, last).filter_map(|delivered| delivered.handle);
        let breached: BTreeSet<u32> = handles.filter(|handle| of(*handle).is_some()).collect();
        let text = "the source of the link does not have that outcome";
        if !breached.is_empty() && matches!(state, DeliveryState::Transactional(_)) {
            self.protocol.end_session(channel, Condition::NotAllowed, text);
            return true;
        }
        for handle in breached {
            let error = Error::new(Condition::NotAllowed, text);
            self.protocol.detach(channel, handle, true, Some(&error));
            self.on_detached(channel, handle, router);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_amqp10::{composite::Symbols, messaging::Accepted};

    fn offered(names: &[usize], by_default: Option<messaging::Outcome<'_>>) -> Offered {
        let names: Vec<_> = names.iter().map(|place| OUTCOMES[*place]).collect();
        let source = Source { outcomes: Symbols::Slice(&names), ..Source::default() };
        let offered = Offered::of(&source, by_default);
        offered.unwrap_or_else(|refused| panic!("{}", refused.text))
    }

    #[test]
    fn none_named_are_all_and_the_default_is_one_of_them() {
        let released = Some(Released {}.into());
        let all = offered(&[], None);
        assert!(all.is_all() && offered(&[], released).is_all() && offered(&[0, 1, 3], released).is_all());
        let some = offered(&[0], released);
        assert!(!some.is_all() && some.allows(&Released {}.into()) && some.allows(&Accepted {}.into()));
        assert!(!some.allows(&messaging::Rejected::default().into()));
        assert!(!offered(&[0], None).allows(&Released {}.into()));
    }

    #[test]
    fn a_sender_is_told_what_it_knows() {
        let why =
            |condition| Box::new(Why { condition, description: String::new(), reason: None, queue: None });
        let told = |names: &[usize], outcome| match offered(names, None).fit(outcome) {
            Ok(Outcome::Rejected(why)) => format!("rejected {:?}", why.condition),
            Ok(outcome) => format!("{outcome:?}"),
            Err(why) => format!("detach {:?}", why.condition),
        };
        let full = || Outcome::Rejected(why(Condition::ResourceLimitExceeded));
        let all = |names: &[usize]| {
            [told(names, Outcome::Accepted), told(names, Outcome::Released), told(names, full())]
        };
        let full = "ResourceLimitExceeded";
        assert_eq!(all(&[]), ["Accepted", "Released", &format!("rejected {full}")]);
        assert_eq!(all(&[0, 1]), ["AcceptedOrRejected", "rejected NotFound", &format!("rejected {full}")]);
        assert_eq!(all(&[0, 2]), ["Accepted", "Released", &format!("detach {full}")]);
        assert_eq!(all(&[0]), ["AcceptedOrRejected", "detach NotFound", &format!("detach {full}")]);
    }
}
