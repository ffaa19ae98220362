//! Nodes that were made on demand and do not go with the link that made them (sections 3.5.11 to 3.5.13), of all
//! connections: how many links lead to each or from it, so that it goes when it is to.

use leveret_amqp10::messaging::LifetimePolicy;
use leveret_broker::queue::Queue;
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// All of them.
#[derive(Default)]
pub(crate) struct Nodes {
    /// There ever was one.
    any: AtomicBool,
    /// By virtual host and name.
    nodes: Mutex<HashMap<(Name, Name), Node>>,
}

struct Node {
    queue: Weak<Queue>,
    policy: LifetimePolicy,
    links: usize,
    /// The link that made it is there.
    has_maker: bool,
}

/// A link that counts for the life of a node.
pub(super) struct Use {
    pub(super) queue: Name,
    /// It made the node.
    pub(super) is_maker: bool,
}

impl Nodes {
    /// A link made a node. It counts as one.
    pub(super) fn made(&self, vhost: &Name, queue: &Arc<Queue>, policy: LifetimePolicy) -> Use {
        let name = queue.name().clone();
        let node = Node { queue: Arc::downgrade(queue), policy, links: 1, has_maker: true };
        let mut nodes = self.nodes.lock();
        nodes.retain(|_, node| node.queue.upgrade().is_some_and(|queue| !queue.is_deleted()));
        nodes.insert((vhost.clone(), name.clone()), node);
        self.any.store(true, Ordering::Relaxed);
        Use { queue: name, is_maker: true }
    }

    /// A link leads to a queue or from it; `None` if that is no such node.
    pub(super) fn attach(&self, vhost: &Name, queue: &Name) -> Option<Use> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut nodes = self.nodes.lock();
        let node = nodes.get_mut(&(vhost.clone(), queue.clone()))?;
        node.links += 1;
        node.govern();
        Some(Use { queue: queue.clone(), is_maker: false })
    }

    /// A link is gone that counted. Whether the node goes with it.
    pub(super) fn detach(&self, vhost: &Name, link: &Use) -> bool {
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.get_mut(&(vhost.clone(), link.queue.clone())) else { return false };
        node.links = node.links.saturating_sub(1);
        node.has_maker &= !link.is_maker;
        node.govern();
        node.is_over()
    }
}

impl Node {
    fn is_over(&self) -> bool {
        match self.policy {
            LifetimePolicy::DeleteOnClose => !self.has_maker,
            LifetimePolicy::DeleteOnNoLinks => self.links == 0,
            LifetimePolicy::DeleteOnNoMessages | LifetimePolicy::DeleteOnNoLinksOrMessages => false,
        }
    }

    /// Has its queue go when it is empty, or not.
    fn govern(&self) {
        let ends = match self.policy {
            LifetimePolicy::DeleteOnClose | LifetimePolicy::DeleteOnNoLinks => return,
            LifetimePolicy::DeleteOnNoMessages => !self.has_maker,
            LifetimePolicy::DeleteOnNoLinksOrMessages => self.links == 0,
        };
        if let Some(queue) = self.queue.upgrade() {
            queue.end_when_empty(ends);
        }
    }
}
