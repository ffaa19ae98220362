//! Policies of a virtual host that change while it is in use.
//!
//! What is declared from then on has the new ones at once; what is there gets them one after the other, each as a whole
//! under its own lock. Nobody who publishes or consumes waits for more than that one.

use super::{Policies, PolicyKind};
use crate::{
    ConnectionId,
    exchange::Exchange,
    queue::{Keeping, Progress, Queue, QueueId, QueueSpec},
    vhost::Vhost,
};
use alloc::sync::Arc;
use parking_lot::{Mutex, RwLock};

/// The policies of a virtual host.
#[derive(Default)]
pub(crate) struct Rule {
    /// Held while they change.
    changing: Mutex<()>,
    /// Written under the lock for changes.
    policies: RwLock<Arc<Policies>>,
}

impl Vhost {
    /// Its policies.
    #[must_use]
    pub fn policies(&self) -> Arc<Policies> {
        self.rule.policies.read().clone()
    }

    /// Has other policies, at the time `now_ms`. When this returns they hold for every queue and exchange. Takes as long as
    /// looking at each of them, and letting go of some messages of each.
    pub fn set_policies(&self, policies: Policies, now_ms: u64) {
        let _in_order = self.rule.changing.lock();
        let policies = Arc::new(policies);
        {
            // Whoever declares holds this lock, so nothing is made with the old ones that is not found below.
            let _changes = self.changes.lock();
            *self.rule.policies.write() = policies.clone();
        }
        for exchange in self.exchanges() {
            govern(&policies, &exchange);
        }
        let mut progress = Progress::default();
        for queue in self.queues() {
            queue.govern(policies.for_queue(queue.name(), queue.kind()), now_ms, &mut progress);
        }
        progress.tell(&*self.store);
    }
}

impl Vhost {
    /// A queue under its policies, that nobody has yet. The lock for changes is held.
    pub(crate) fn new_queue(
        &self,
        id: QueueId,
        (spec, owner): (QueueSpec, Option<ConnectionId>),
        keeping: Option<Keeping>,
    ) -> Arc<Queue> {
        let queue = Queue::new(id, self.name().clone(), spec, owner, self.charged(), keeping);
        Arc::new(queue.governed(&self.rule.policies.read()))
    }
}

/// Gives an exchange the policy that applies to it. None does to the default exchange.
pub(crate) fn govern(policies: &Policies, exchange: &Exchange) {
    if !exchange.spec.name.is_empty() && !policies.of(PolicyKind::User).is_empty()
        || exchange.policy().is_some()
    {
        exchange.set_policy(policies.for_exchange(&exchange.spec.name));
    }
}
