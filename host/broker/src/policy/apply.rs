//! Policies of a virtual host that change while it is in use.
//!
//! What is declared from then on has the new ones at once; what is there gets them one after the other, each as a whole
//! under its own lock. Nobody who publishes or consumes waits for more than that one.

use super::{Applied, Policies, Policy};
use crate::{
    ConnectionId,
    exchange::Exchange,
    port::Wake,
    queue::{Keeping, Progress, Queue, QueueId, QueueSpec},
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};

/// The policies of a virtual host.
#[derive(Default)]
pub(crate) struct Rule {
    /// Held while they change.
    changing: Mutex<()>,
    /// Written under the lock for changes.
    policies: RwLock<Arc<Policies>>,
    /// How often it changed how long deliveries may take.
    timeouts: AtomicU64,
    /// Who may have some of those.
    connections: Mutex<HashMap<ConnectionId, Arc<dyn Wake>>>,
}

impl Rule {
    /// A connection is there, to be woken when [`Self::timeouts`] changes. Gives what that is.
    pub(crate) fn join(&self, id: ConnectionId, wake: &Arc<dyn Wake>) -> u64 {
        self.connections.lock().insert(id, wake.clone());
        self.timeouts()
    }

    /// A connection is gone.
    pub(crate) fn leave(&self, id: ConnectionId) {
        self.connections.lock().remove(&id);
    }

    /// Another number than before if policies changed how long deliveries of any queue may take.
    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Acquire)
    }

    /// Deliveries may take another time: whoever has some looks at what is overdue.
    fn retime(&self) {
        self.timeouts.fetch_add(1, Ordering::Release);
        self.connections.lock().values().for_each(|connection| connection.wake());
    }
}

impl Vhost {
    /// Its policies.
    #[must_use]
    pub fn policies(&self) -> Arc<Policies> {
        self.rule.policies.read().clone()
    }

    /// Has other policies, at the time `now_ms`. When this returns they hold for every queue and exchange. Takes as long as
    /// looking for the patterns of new ones in each name, and letting go of some messages. A limit in bytes holds for what
    /// was there at a start once the housekeeper has counted it.
    pub fn set_policies(&self, policies: Policies, now_ms: u64) {
        let _in_order = self.rule.changing.lock();
        let policies = Arc::new(policies);
        let before = {
            // Whoever declares holds this lock, so nothing is made with the old ones that is not found below.
            let _changes = self.changes.lock();
            core::mem::replace(&mut *self.rule.policies.write(), policies.clone())
        };
        let difference = Difference::between(&before, &policies);
        for exchange in self.exchanges().iter().filter(|exchange| difference.concerns_exchange(exchange)) {
            govern(&policies, exchange);
        }
        let (mut progress, mut is_retimed) = (Progress::default(), false);
        for queue in self.queues().iter().filter(|queue| difference.concerns_queue(queue)) {
            let applied = policies.for_queue(queue.name(), queue.kind());
            is_retimed |= queue.govern(applied, now_ms, &mut progress);
        }
        progress.tell(&*self.store);
        if is_retimed {
            self.rule.retime();
        }
    }
}

/// What is different between the policies that there were and those that there are: where there are many and one changes,
/// not each is looked for in each name.
struct Difference<'a> {
    /// All that there are, the very ones.
    all: HashSet<*const Policy>,
    added: Vec<&'a Arc<Policy>>,
}

impl<'a> Difference<'a> {
    fn between(before: &Policies, after: &'a Policies) -> Self {
        let known: HashSet<*const Policy> = before.all().map(Arc::as_ptr).collect();
        let added = after.all().filter(|policy| !known.contains(&Arc::as_ptr(policy))).collect();
        Self { all: after.all().map(Arc::as_ptr).collect(), added }
    }

    fn is_gone(&self, policy: Option<&Arc<Policy>>) -> bool {
        policy.is_some_and(|policy| !self.all.contains(&Arc::as_ptr(policy)))
    }

    fn concerns_queue(&self, queue: &Queue) -> bool {
        let Applied { policy, operator } = queue.applied();
        self.is_gone(policy.as_ref())
            || self.is_gone(operator.as_ref())
            || self.added.iter().any(|policy| policy.is_for_queue(queue.name(), queue.kind()))
    }

    fn concerns_exchange(&self, exchange: &Exchange) -> bool {
        self.is_gone(exchange.policy().as_ref())
            || self.added.iter().any(|policy| policy.is_for_exchange(&exchange.spec.name))
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
        self.traffic.queues_created.add_shared(1);
        let outside = (keeping, self.pager());
        let queue = Queue::new(id, self.name().clone(), spec, owner, self.charged(), outside);
        Arc::new(queue.governed(&self.rule.policies.read()))
    }
}

/// Gives an exchange the policy that applies to it. None does to the default exchange.
pub(crate) fn govern(policies: &Policies, exchange: &Exchange) {
    if !exchange.spec.name.is_empty() {
        exchange.set_policy(policies.for_exchange(&exchange.spec.name));
    }
}
