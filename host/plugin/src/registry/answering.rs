//! Which code answers in a virtual host, and a number that is raised when that is other code.
//!
//! It says when what was refused too often is worth another try. So what counts is the code, not the file or
//! the instance: the same bytes put there once more, compiled by the better compiler, or switched off and on
//! again, would refuse it as before. That nobody answers is no reason either, unless the operator wants
//! something else to become of messages then.
//!
//! Found out when somebody asks, and once for each change of who serves anything anywhere: what is deployed
//! for others, or answers nobody there, raises nothing.

use super::{Registry, slots::Slots};
use crate::{artifact::Digest, policy::FailurePolicy, version::Version};
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::Mutex;

/// What was found, by virtual host.
#[derive(Default)]
pub(super) struct Answering(Mutex<HashMap<Name, Found>>);

struct Found {
    /// At which [`Registry::interceptors_generation`].
    generation: u64,
    number: u64,
    /// Who answers, or did so last.
    by: HashMap<Place, Answerer>,
}

#[derive(PartialEq, Eq, Hash)]
enum Place {
    Type(Name),
    /// An exchange that stays on a version of its own.
    Pinned(Name),
    /// The version that is tried for a part of a type's messages.
    Canary(Name),
    /// An attachment, by its id.
    Attachment(u64),
}

#[derive(Clone, PartialEq, Eq)]
enum Answerer {
    Code(Digest),
    /// Nobody: this becomes of messages.
    Nobody(FailurePolicy),
}

impl Registry {
    /// Numbers the states of what answers in a virtual host: raised when other code than before answers for a
    /// type that its exchanges have, or for an interceptor that is attached there.
    pub(crate) fn answering_generation(&self, vhost: &Name) -> u64 {
        let mut vhosts = self.answering.0.lock();
        // Read before who answers: a change is published in the other order.
        let generation = self.interceptors_generation();
        if let Some(found) = vhosts.get(vhost).filter(|found| found.generation == generation) {
            return found.number;
        }
        let slots = self.slots.read();
        let mut by = self.answerers_in(&slots, vhost);
        let matters = |place: &Place| match place {
            Place::Type(name) | Place::Canary(name) => slots.is_used(vhost, name),
            Place::Pinned(_) | Place::Attachment(_) => true,
        };
        let mut number = 0;
        if let Some(before) = vhosts.remove(vhost) {
            let is_other = |(place, answerer): (&Place, &Answerer)| {
                before.by.get(place) != Some(answerer) && matters(place)
            };
            // An exchange that stays no more is served as the others.
            let let_go = |place: &Place| matches!(place, Place::Pinned(_)) && !by.contains_key(place);
            let changed = by.iter().any(is_other) || before.by.keys().any(let_go);
            number = before.number + u64::from(changed);
            for (place, answerer) in before.by {
                // Where nobody answers now the same may answer again.
                if !matches!(place, Place::Pinned(_)) && matters(&place) {
                    by.entry(place).or_insert(answerer);
                }
            }
        }
        drop(slots);
        vhosts.insert(vhost.clone(), Found { generation, number, by });
        number
    }

    fn answerers_in(&self, slots: &Slots, vhost: &Name) -> HashMap<Place, Answerer> {
        let answers =
            |version: &Version| version.policy(vhost).enabled && version.not_granted(vhost).is_none();
        let code = |version: &Version| Answerer::Code(version.code.digest);
        let mut by = HashMap::new();
        for (name, version) in slots.types_for(&self.policies, vhost) {
            let parked = slots.parked(vhost, &name);
            if parked.is_none() && answers(&version) {
                by.insert(Place::Type(name), code(&version));
            } else {
                let policy = match parked {
                    Some(parked) => self.policy_while_parked(vhost, &name, parked),
                    None => version.policy(vhost).on_failure.clone(),
                };
                put_nobody(&mut by, Place::Type(name), &policy);
            }
        }
        for group in slots.groups_in(vhost) {
            if let Some(parked) = group.parked {
                let policy = self.policy_while_parked(vhost, &group.type_name, &parked);
                put_nobody(&mut by, Place::Type(group.type_name), &policy);
            }
        }
        for (name, version) in self.candidates.canaries_in(vhost) {
            by.insert(Place::Canary(name), code(&version));
        }
        for pin in self.pins.decisions().into_iter().filter(|pin| pin.vhost == *vhost) {
            let pinned = Answerer::Code(pin.digest);
            if by.get(&Place::Type(pin.exchange_type)) != Some(&pinned) {
                by.insert(Place::Pinned(pin.exchange), pinned);
            }
        }
        for attachment in self.attachments.all().iter().filter(|attachment| attachment.vhost == *vhost) {
            let place = Place::Attachment(attachment.id);
            match self.provider_by(slots, attachment).ok().filter(|version| answers(version)) {
                Some(version) => drop(by.insert(place, code(&version))),
                None => put_nobody(&mut by, place, &attachment.rule.on_failure),
            }
        }
        by
    }
}

/// Notes that nobody answers, where that is something to go by.
fn put_nobody(by: &mut HashMap<Place, Answerer>, place: Place, policy: &FailurePolicy) {
    if *policy != FailurePolicy::Reject {
        by.insert(place, Answerer::Nobody(policy.clone()));
    }
}
