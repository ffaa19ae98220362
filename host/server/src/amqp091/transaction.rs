//! Class tx (AMQP 0-9-1 section 1.9): publishes and settlements of a channel wait for their commit, and are on disk
//! together or not at all.
//!
//! What can be refused of a publish before its exchange is asked is refused at once; the rest is found when it is
//! committed. A commit of which a message is not accepted is refused with 406, as in RabbitMQ: what was settled is not
//! then, and messages that were accepted stay where they are.

use super::{
    Connection,
    beside::{Answer, Asked},
    publish::{BASIC_PUBLISH, into_owned, more_keys, return_unroutable, view, views_of},
};
use crate::traffic::count_publish;
use leveret_amqp091::{Method, Publish};
use leveret_broker::{
    MemoryAccount, Published, Transaction,
    port::{Router, Wake},
};
use leveret_model::Refusal;
use std::sync::Arc;

/// How many bytes may wait for a commit on a channel.
const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a publish that waits takes beside its bytes, about.
const PUBLISH_OVERHEAD_BYTES: usize = 128;
/// tx.commit, as close methods name it.
const TX_COMMIT: (u16, u16) = (90, 20);

/// What waits for a commit.
pub(super) struct Pending {
    publishes: Vec<Publish<'static>>,
    /// What is charged for them.
    bytes: usize,
    account: Arc<MemoryAccount>,
    /// It is being committed.
    commit: Option<Commit>,
}

struct Commit {
    transaction: Transaction,
    /// A message was not accepted.
    is_partial: bool,
    /// Why the store takes nothing, if that is it.
    unavailable: Option<String>,
}

impl Pending {
    fn new(account: Arc<MemoryAccount>) -> Self {
        Self { publishes: Vec::new(), bytes: 0, account, commit: None }
    }

    fn add(&mut self, publish: Publish<'static>) -> Result<(), Refusal> {
        let bytes = publish.exchange.len()
            + publish.routing_key.len()
            + publish.properties.len()
            + publish.body.len()
            + PUBLISH_OVERHEAD_BYTES;
        if self.bytes + bytes > TRANSACTION_BYTES_MAX {
            let text = format!("transaction larger than {TRANSACTION_BYTES_MAX} bytes");
            return Err(Refusal::InvalidArgument { text });
        }
        self.account.charge(bytes);
        self.bytes += bytes;
        self.publishes.push(publish);
        Ok(())
    }

    fn take(&mut self) -> Vec<Publish<'static>> {
        self.account.release(std::mem::take(&mut self.bytes));
        std::mem::take(&mut self.publishes)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

impl Connection {
    /// tx.select (section 1.9.2.1). Again, it changes nothing. 406 where confirms are on.
    pub(super) fn on_tx_select(&mut self, number: u16) -> Result<Method<'static>, Refusal> {
        let open = self.open()?;
        let account = open.vhost.memory().clone();
        if let Some(channel) = open.channel(number) {
            if channel.confirm_next.is_some() {
                let text = "cannot switch from confirm to tx mode".into();
                return Err(Refusal::InvalidArgument { text });
            }
            channel.transaction.get_or_insert_with(|| Pending::new(account));
            open.client.select_transactions(number);
        }
        Ok(Method::TxSelectOk {})
    }

    /// tx.commit (section 1.9.2.3). 406 without tx.select, or where a message is not accepted.
    pub(super) fn on_tx_commit(&mut self, number: u16, router: &mut dyn Router) -> Answer {
        let open = self.open()?;
        let vhost = open.vhost.clone();
        let pending = transaction_of(open.channel(number))?;
        let publishes = pending.take();
        let commit = Commit { transaction: Transaction::begin(&vhost), is_partial: false, unavailable: None };
        pending.commit = Some(commit);
        self.commit(number, publishes, router)
    }

    /// tx.rollback (section 1.9.2.5). What was delivered stays delivered. 406 without tx.select.
    pub(super) fn on_tx_rollback(&mut self, number: u16) -> Result<Method<'static>, Refusal> {
        let open = self.open()?;
        transaction_of(open.channel(number))?.take();
        open.client.roll_back(number);
        Ok(Method::TxRollbackOk {})
    }

    /// Publishes of a channel with transactions: they wait for the commit, or for an answer in the middle of one.
    pub(super) fn publish_in_transaction(
        &mut self,
        number: u16,
        batch: Vec<Publish<'_>>,
        router: &mut dyn Router,
    ) {
        let Some(open) = &mut self.open else { return };
        let vhost = open.vhost.clone();
        let Some(channel) = open.channels.get_mut(number) else {
            return;
        };
        let Some(pending) = &mut channel.transaction else { return };
        if pending.commit.is_some() {
            let rest = batch.into_iter().map(into_owned).collect();
            match self.commit(number, rest, router) {
                Ok(Some(reply)) => self.session.reply(number, reply),
                Ok(None) => {}
                Err(refusal) => self.session.refuse(number, &refusal, TX_COMMIT),
            }
            return;
        }
        for publish in batch {
            let checked = vhost.check_publish(&view(&publish, &open.identity));
            if let Err(refusal) = checked.and_then(|()| pending.add(into_owned(publish))) {
                return self.session.refuse(number, &refusal, BASIC_PUBLISH);
            }
        }
    }

    /// Goes on with a commit: publishes the rest; when that is all, what was settled counts too.
    fn commit(&mut self, number: u16, mut rest: Vec<Publish<'static>>, router: &mut dyn Router) -> Answer {
        let Some(open) = &mut self.open else { return Ok(None) };
        let Some(channel) = open.channels.get_mut(number) else {
            return Ok(None);
        };
        let wake = channel.wake.clone();
        let Some(mut commit) = channel.transaction.as_mut().and_then(|pending| pending.commit.take()) else {
            return Ok(None);
        };
        let waker: Arc<dyn Wake> = wake.clone();
        // What makes no sense was refused when it came.
        let (more, _) = more_keys(&rest, None);
        let views = views_of(&rest, &open.identity, &more);
        let mut outcomes = Vec::with_capacity(views.len());
        let done = commit.transaction.publish(router, &views, &mut outcomes, &waker);
        self.publishing.slowed |= commit.transaction.is_behind();
        self.publishing.writes |= commit.transaction.take_writes();
        open.place.about().traffic.count_bodies(views.iter().take(done).map(|view| view.message.body.len()));
        channel.traffic.routed.add(commit.transaction.take_routed());
        for (publish, outcome) in views.iter().zip(outcomes) {
            count_publish(&channel.traffic, publish.mandatory, &outcome, false);
            match outcome {
                Published::Routed | Published::Dropped => {}
                Published::Unroutable if publish.mandatory => {
                    return_unroutable(&mut self.session, number, &publish.message);
                }
                Published::Unroutable => {}
                Published::Rejected(_) | Published::Full(_) => commit.is_partial = true,
                Published::Unavailable(text) => {
                    commit.is_partial = true;
                    commit.unavailable = Some(text.to_string());
                }
                Published::Refused(refusal) => return Err(refusal),
            }
        }
        if done < views.len() {
            drop(views);
            if let Some(pending) = &mut channel.transaction {
                pending.commit = Some(commit);
            }
            self.held.add(number, &wake, rest.drain(done..));
            return Ok(None);
        }
        if commit.is_partial {
            let why = commit.unavailable.map_or_else(String::new, |why| format!(": {why}"));
            return Err(Refusal::InvalidArgument { text: format!("partial tx completion{why}") });
        }
        open.client.commit(number);
        let receipt = commit.transaction.end(&mut open.client, router);
        self.end_settling(router);
        // A consumer at its limit may have room again.
        self.deliveries_wait = true;
        let asked = Asked { channel: number, ids: TX_COMMIT, nowait: false };
        self.answer_when_safe(asked, &receipt, Method::TxCommitOk {})
    }
}

/// The transaction of a channel.
fn transaction_of(channel: Option<&mut super::Channel>) -> Result<&mut Pending, Refusal> {
    let pending = channel.and_then(|channel| channel.transaction.as_mut());
    pending.ok_or_else(|| Refusal::InvalidArgument { text: "channel is not transactional".into() })
}
