//! Which versions answer in a virtual host, and a number that is raised when these change.
//!
//! Found out when somebody asks, and once for each change of who serves anything anywhere: what is deployed
//! for others, or answers nobody there, raises nothing.

use super::{Registry, slots::Slots};
use crate::version::{Version, VersionId};
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
    by: Versions,
}

/// Who answers; what nobody answers is not in it.
type Versions = HashMap<Place, VersionId>;

#[derive(PartialEq, Eq, Hash)]
enum Place {
    Type(Name),
    /// An attachment, by its id.
    Attachment(u64),
}

impl Registry {
    /// Numbers the states of what answers in a virtual host: raised when a type that its exchanges have, or
    /// an interceptor that is attached there, is another version's, or nobody's, or somebody's again.
    pub(crate) fn answering_generation(&self, vhost: &Name) -> u64 {
        let mut vhosts = self.answering.0.lock();
        // Read before who answers: a change is published in the other order.
        let generation = self.interceptors_generation();
        if let Some(found) = vhosts.get(vhost).filter(|found| found.generation == generation) {
            return found.number;
        }
        let slots = self.slots.read();
        let by = self.versions_in(&slots, vhost);
        let matters = |place: &Place| match place {
            Place::Type(name) => slots.is_used(vhost, name),
            Place::Attachment(_) => true,
        };
        let number = vhosts.get(vhost).map_or(0, |before| {
            let mut places = before.by.keys().chain(by.keys());
            let changed = places.any(|place| before.by.get(place) != by.get(place) && matters(place));
            before.number + u64::from(changed)
        });
        drop(slots);
        vhosts.insert(vhost.clone(), Found { generation, number, by });
        number
    }

    fn versions_in(&self, slots: &Slots, vhost: &Name) -> Versions {
        let answers =
            |version: &Version| version.policy(vhost).enabled && version.not_granted(vhost).is_none();
        let types = slots
            .types_for(&self.policies, vhost)
            .filter(|(name, version)| slots.parked(vhost, name).is_none() && answers(version))
            .map(|(name, version)| (Place::Type(name), version.id));
        let here = self.attachments.all().iter().filter(|attachment| attachment.vhost == *vhost);
        let attached = here.filter_map(|attachment| {
            let version = self.provider_by(slots, attachment).ok().filter(|version| answers(version))?;
            Some((Place::Attachment(attachment.id), version.id))
        });
        types.chain(attached).collect()
    }
}
