//! Transactions: publishes and settlements that are on disk together or not at all.
//!
//! What is published in one is in its queues as it comes, when the transaction is committed; only the group for the
//! store waits for the last of it. So there is nothing of it after a crash, or all.

use super::{Publish, Published, Publisher};
use crate::{
    client::{Client, Remark},
    port::{Router, Wake},
    receipt::{Receipt, Slip},
    store::{Durability, Group, Store, Written},
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};

/// The publishes of a transaction that is being committed.
pub struct Transaction {
    vhost: Arc<Vhost>,
    publisher: Publisher,
}

impl Transaction {
    /// Begins the commit.
    #[must_use]
    pub fn begin(vhost: &Arc<Vhost>) -> Self {
        let mut publisher = Publisher::default();
        publisher.scratch.transaction = Some(Durability::Never);
        Self { vhost: vhost.clone(), publisher }
    }

    /// [`Publisher::publish`], as part of it.
    pub fn publish(
        &mut self,
        router: &mut dyn Router,
        batch: &[Publish<'_>],
        outcomes: &mut Vec<Published>,
        waker: &Arc<dyn Wake>,
    ) -> usize {
        self.publisher.publish(&self.vhost, router, batch, outcomes, waker)
    }

    /// Whether consumers of a queue that took some of it are behind: then it is better to publish more slowly.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.publisher.is_behind()
    }

    /// Whether something of it was for the store.
    pub fn take_writes(&mut self) -> bool {
        self.publisher.take_writes()
    }

    /// How many messages of it went to queues since it was asked, once for each queue.
    pub fn take_routed(&mut self) -> u64 {
        self.publisher.take_routed()
    }

    /// [`Client::annotate`], as part of it.
    pub fn annotate(&mut self, client: &mut Client, n: u16, delivery_tag: u64, remark: Remark<'_>) {
        let store = &self.vhost.store;
        let group = match store.keeps() {
            true => {
                let group = self.publisher.scratch.group.get_or_insert_with(|| store.group());
                Some(&mut **group as &mut dyn Group)
            }
            false => None,
        };
        client.annotate_in(n, delivery_tag, remark, group);
    }

    /// The end: what the client settled since it told the store is part of it too. Gives the receipt for all.
    pub fn end(mut self, client: &mut Client, router: &mut dyn Router) -> Receipt {
        let receipt = self.submit(Some(client));
        client.bury(&mut self.publisher, router);
        receipt
    }

    fn submit(&mut self, client: Option<&mut Client>) -> Receipt {
        let Some(durability) = self.publisher.scratch.transaction.take() else { return Receipt::default() };
        let store: &dyn Store = &*self.vhost.store;
        if !store.keeps() {
            return Receipt::default();
        }
        let group = &mut **self.publisher.scratch.group.get_or_insert_with(|| store.group());
        let durability = match client {
            Some(client) => {
                // As the strictest of its queues says, those included from which it takes.
                client.progress().settle_in(group).map_or(durability, |settled| durability.max(settled))
            }
            None => durability,
        };
        if group.is_empty() {
            return Receipt::default();
        }
        let slip = Arc::new(Slip::default());
        let waiter: Arc<dyn Written> = slip.clone();
        group.submit(durability, Some((&waiter, 0)));
        Receipt::of(&slip)
    }
}

/// Given up half way: what is in queues already is written, as part of no transaction.
impl Drop for Transaction {
    fn drop(&mut self) {
        self.submit(None);
    }
}
