//! What people are told of a candidate.

use super::{Candidate, Given, Share, Standing};
use crate::{artifact::Digest, registry::LoadError, scope::Scope};
use leveret_broker::exchange::Exchange;
use leveret_model::Name;
use std::{collections::VecDeque, path::PathBuf, sync::atomic::Ordering, time::SystemTime};

/// How many differences are shown: the latest, each exchange and key once.
pub const DIFFERENCES_SHOWN_MAX: usize = 20;

/// The candidate of a plugin, for people to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateInfo {
    /// For whom the plugin is there.
    pub scope: Scope,
    /// The plugin's name: its file's without `.wasm`.
    pub plugin: String,
    /// The file that serves, whose place the candidate would take.
    pub path: PathBuf,
    /// What became of the candidate; `None` if no file was taken yet.
    pub state: Option<CandidateState>,
    /// The last file, if it was not taken: the stage that refused it and why.
    pub refused: Option<LoadError>,
}

/// A candidate that passed all stages.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateState {
    /// The virtual hosts that did not take it, and why: it is not asked there.
    pub left_out: Vec<(Name, String)>,
    /// Of its bytes.
    pub digest: Digest,
    /// Its version as it describes itself.
    pub version: String,
    /// The exchange types it provides.
    pub exchange_types: Vec<Name>,
    /// Since when it is there.
    pub since: SystemTime,
    /// The share of keys that it answers for; `None` for a shadow.
    pub canary: Option<Share>,
    /// The only virtual host in which it does.
    pub canary_vhost: Option<Name>,
    /// The virtual hosts in which the canary was withdrawn by itself, and why: it is asked nothing there.
    pub withdrawn_in: Vec<(Name, String)>,
    /// Why it is asked nothing any more, where that is so in every virtual host that it would be a canary in.
    pub withdrawn: Option<String>,
    /// Messages that the shadow answered as the serving version did.
    pub equal: u64,
    /// Messages that it answered differently.
    pub different: u64,
    /// Messages that it failed on.
    pub shadow_failed: u64,
    /// Messages that it was not asked about: too many came, or bindings changed meanwhile.
    pub not_asked: u64,
    /// Messages that the canary answered, remembered ones included.
    pub canary_asked: u64,
    /// Those of them that were answered from memory.
    pub canary_remembered: u64,
    /// Messages that the canary failed on; the serving version answered for them.
    pub canary_failed: u64,
    /// The last failure, in shadow or as a canary.
    pub last_error: Option<String>,
    /// The latest differences, at most [`DIFFERENCES_SHOWN_MAX`].
    pub examples: Vec<Difference>,
}

/// A message that two versions answer differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The virtual host.
    pub vhost: Name,
    /// The exchange.
    pub exchange: Name,
    /// Which of its types was asked.
    pub exchange_type: Name,
    /// The message's routing key.
    pub routing_key: Name,
    /// What the serving version answered, in words.
    pub serving: String,
    /// What the candidate answers, in words.
    pub candidate: String,
}

/// What is remembered to be told.
#[derive(Debug, Default)]
pub(super) struct Told {
    last_error: Option<String>,
    pub(super) examples: VecDeque<Difference>,
}

impl Told {
    pub(super) fn failed(&mut self, what: &str) {
        self.last_error = Some(String::from(what));
    }

    fn differs(&mut self, difference: Difference) {
        let same = |known: &Difference| {
            known.exchange == difference.exchange
                && known.routing_key == difference.routing_key
                && known.vhost == difference.vhost
        };
        self.examples.retain(|known| !same(known));
        if self.examples.len() >= DIFFERENCES_SHOWN_MAX {
            self.examples.pop_front();
        }
        self.examples.push_back(difference);
    }
}

impl Candidate {
    /// A shadow answered for a message that the serving version answered for.
    pub(super) fn compared(
        &self,
        (exchange, exchange_type, routing_key): (&Exchange, &Name, &Name),
        serving: &Given,
        candidate: &Given,
    ) {
        if serving == candidate {
            self.counts.equal.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counts.different.fetch_add(1, Ordering::Relaxed);
        self.told.lock().differs(Difference {
            vhost: exchange.vhost.clone(),
            exchange: exchange.spec.name.clone(),
            exchange_type: exchange_type.clone(),
            routing_key: routing_key.clone(),
            serving: serving.to_string(),
            candidate: candidate.to_string(),
        });
    }

    /// A shadow failed on a message.
    pub(super) fn shadow_failed(&self, what: &str) {
        self.counts.shadow_failed.fetch_add(1, Ordering::Relaxed);
        self.told.lock().failed(what);
    }

    /// All that is known of it. `asked_in` are the virtual hosts with exchanges of its plugin.
    pub(crate) fn state_among(&self, asked_in: &[Name]) -> CandidateState {
        let mut state = self.state();
        let is_left_out = |vhost: &Name| state.left_out.iter().any(|(there, _)| there == vhost);
        let is_canarys = |vhost: &Name| state.canary_vhost.as_ref().is_none_or(|only| only == vhost);
        let mut canarys = asked_in.iter().filter(|vhost| is_canarys(vhost) && !is_left_out(vhost));
        let last = state.withdrawn_in.last().map(|(_, why)| why.clone());
        if last.is_some() && canarys.all(|vhost| state.withdrawn_in.iter().any(|(there, _)| there == vhost)) {
            (state.canary, state.canary_vhost, state.withdrawn) = (None, None, last);
        }
        state
    }

    fn state(&self) -> CandidateState {
        let (canary, canary_vhost, withdrawn_in) = match self.standing.read().clone() {
            Standing::Canary { share, vhost, withdrawn } => (Some(share), vhost, withdrawn),
            Standing::Shadow | Standing::Gone => (None, None, Vec::new()),
        };
        let counts = &self.counts;
        let [equal, different, shadow_failed, not_asked, remembered, asked, failed] = [
            &counts.equal,
            &counts.different,
            &counts.shadow_failed,
            &counts.not_asked,
            &counts.remembered,
            &counts.asked,
            &counts.failed,
        ]
        .map(|count| count.load(Ordering::Relaxed));
        let told = self.told.lock();
        CandidateState {
            left_out: self.left_out.read().clone(),
            digest: self.version.code.digest,
            version: self.version.description.version.clone(),
            exchange_types: self.names.clone(),
            since: self.since,
            canary,
            canary_vhost,
            withdrawn_in,
            withdrawn: None,
            equal,
            different,
            shadow_failed,
            not_asked,
            canary_asked: asked + remembered,
            canary_remembered: remembered,
            canary_failed: failed,
            last_error: told.last_error.clone(),
            examples: told.examples.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_differences_are_told_each_key_once() {
        let difference = |key: usize, answer: &str| Difference {
            vhost: Name::from_static("/"),
            exchange: Name::from_static("x"),
            exchange_type: Name::from_static("x-test"),
            routing_key: Name::new(key.to_string().as_bytes()).unwrap(),
            serving: String::from("drop"),
            candidate: String::from(answer),
        };
        let mut told = Told::default();
        for key in 0..DIFFERENCES_SHOWN_MAX + 5 {
            told.differs(difference(key, "first"));
        }
        told.differs(difference(7, "second"));
        assert_eq!(told.examples.len(), DIFFERENCES_SHOWN_MAX);
        assert_eq!(told.examples.front(), Some(&difference(5, "first")));
        assert_eq!(told.examples.back(), Some(&difference(7, "second")));
    }
}
