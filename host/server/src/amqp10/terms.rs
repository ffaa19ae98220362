//! How long what is not settled of a link is kept (sections 3.5.5 and 3.5.6): what its attach asks for, and what is granted.

use super::suspended::{Until, after};
use leveret_amqp10::{
    management::ADDRESS,
    messaging::{COPY, Source, Target, TerminusDurability, TerminusExpiryPolicy},
    performatives::{Attach, Role, SenderSettleMode},
    transactions::AnyTarget,
};

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Over {
    Link,
    Session,
    Connection,
}

/// How long what is not settled of a link is kept (section 3.5.6), as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(super) policy: TerminusExpiryPolicy,
    /// In seconds, from when the policy says.
    pub(super) timeout: u32,
}

impl Terms {
    /// Until when it is kept when that is over, on that session of that connection.
    pub(super) fn until(self, over: Over, (connection, channel): (u64, u16), now_ms: u64) -> Until {
        let expires_with = match self.policy {
            TerminusExpiryPolicy::LinkDetach => Over::Link,
            TerminusExpiryPolicy::SessionEnd => Over::Session,
            TerminusExpiryPolicy::ConnectionClose => Over::Connection,
            TerminusExpiryPolicy::Never => return Until::Never,
        };
        match expires_with {
            with if with <= over => Until::Ms(after(now_ms, self.timeout)),
            Over::Connection => Until::Connection(connection, self.timeout),
            Over::Link | Over::Session => Until::Session(connection, channel, self.timeout),
        }
    }
}

/// What a link asks for its terminus here; `None` if it is not to be resumed, or is of a kind that cannot.
pub(super) fn asked(attach: &Attach<'_>) -> Option<Terms> {
    let (durable, policy, timeout) = match attach.role {
        Role::Receiver => {
            let source = attach.source?;
            let is_fit = !source.dynamic
                && source.address.is_some_and(|address| address != ADDRESS)
                && source.distribution_mode != Some(COPY)
                && attach.snd_settle_mode != SenderSettleMode::Settled;
            Some((source.durable, source.expiry_policy, source.timeout)).filter(|_| is_fit)?
        }
        Role::Sender => {
            let Some(AnyTarget::Node(target)) = attach.target else { return None };
            let is_fit = !target.dynamic && target.address != Some(ADDRESS);
            Some((target.durable, target.expiry_policy, target.timeout)).filter(|_| is_fit)?
        }
    };
    let is_long =
        matches!(policy, TerminusExpiryPolicy::ConnectionClose | TerminusExpiryPolicy::Never) || timeout > 0;
    let is_asked = is_long || durable != TerminusDurability::None || attach.unsettled.is_some();
    is_asked.then_some(Terms { policy, timeout })
}

/// The durability that is granted: what is not settled ends with the process, and where the node does not, all that the
/// terminus is set to comes with the next attach.
fn durability(asked: TerminusDurability, terms: Option<Terms>, is_durable: bool) -> TerminusDurability {
    match asked {
        TerminusDurability::None => TerminusDurability::None,
        _ if terms.is_some() && is_durable => TerminusDurability::Configuration,
        _ => TerminusDurability::None,
    }
}

/// A source as it is granted.
pub(super) fn granted_source<'a>(source: Source<'a>, terms: Option<Terms>, is_durable: bool) -> Source<'a> {
    let (expiry_policy, timeout) = granted(terms);
    Source { durable: durability(source.durable, terms, is_durable), expiry_policy, timeout, ..source }
}

/// A target as it is granted.
pub(super) fn granted_target<'a>(target: Target<'a>, terms: Option<Terms>, is_durable: bool) -> Target<'a> {
    let (expiry_policy, timeout) = granted(terms);
    Target { durable: durability(target.durable, terms, is_durable), expiry_policy, timeout, ..target }
}

fn granted(terms: Option<Terms>) -> (TerminusExpiryPolicy, u32) {
    terms.map_or((TerminusExpiryPolicy::LinkDetach, 0), |terms| (terms.policy, terms.timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_say_when_time_begins() {
        use TerminusExpiryPolicy::{ConnectionClose, LinkDetach, Never, SessionEnd};
        let until = |policy, over| Terms { policy, timeout: 2 }.until(over, (7, 3), 1000);
        let at = Until::Ms(3000);
        for (policy, expected) in [
            (LinkDetach, [at, at, at]),
            (SessionEnd, [Until::Session(7, 3, 2), at, at]),
            (ConnectionClose, [Until::Connection(7, 2), Until::Connection(7, 2), at]),
            (Never, [Until::Never; 3]),
        ] {
            assert_eq!(
                [Over::Link, Over::Session, Over::Connection].map(|over| until(policy, over)),
                expected
            );
        }
    }
}
