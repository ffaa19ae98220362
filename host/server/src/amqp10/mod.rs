//! An AMQP 1.0 connection without its socket: events of the protocol become calls of the broker, its answers become
//! frames.
//!
//! A session is a channel of the broker's client, and a link that receives is a consumer there, whose tag is the
//! link's handle. Refusals become conditions in `leveret-amqp10`'s `refusal` and nowhere else.
//!
//! *Order.* Transfers that come in one read are handed to the broker together (`publish.rs`); everything else is a cut:
//! what was published before it is dealt with first. While the broker's answer for a publish is pending, nothing more
//! that the connection sends is handled. States of deliveries that were sent, and follow each other, are a batch too.
//!
//! *Credit.* Who publishes has a credit, which is renewed at the half. While memory or the disk is short it is not:
//! that is how publishers are told to wait.
//!
//! *Messages.* What is kept of a message is its encoded form (`leveret_amqp10::form`). One that came by another protocol
//! is converted when it is delivered (`crate::conversion`).

mod acquiring;
mod answers;
mod arriving;
mod charge;
mod deliver;
mod departing;
mod dynamic;
mod links;
mod login;
mod management;
pub(crate) mod nodes;
mod offered;
mod opening;
mod outcomes;
mod publish;
mod received;
mod resuming;
mod settle;
mod sources;
pub(crate) mod suspended;
mod terms;
mod transactions;
mod wanted;

use crate::{
    amqp091::{Ends, Reading},
    connection::{ConnectionWake, Forced, OUTPUT_BYTES_HARD_MAX, OUTPUT_BYTES_SOFT_MAX, OnceWake},
    live::Place,
    wiring::Shared,
};
use charge::Charge;
use leveret_access::{Identity, Rights};
use leveret_amqp10::{
    Condition,
    connection::{self as protocol, ConnectionConfig, Event},
    frame,
    sasl::Mechanism,
    transactions::TXN_ID,
    types::Symbol,
};
use leveret_amqp091::SessionConfig;
use leveret_broker::{
    Client, ConnectionId, Publisher, Vhost,
    port::{Router, Wake},
};
use leveret_model::PublisherIdentity;
use links::Session;
use litemap::LiteMap;
use std::{net::IpAddr, sync::Arc};
use terms::Over;

/// Each message may say where it goes.
const ANONYMOUS_RELAY: Symbol<'static> = Symbol::from_static("ANONYMOUS-RELAY");
/// As listings name it, in RabbitMQ's words.
pub const PROTOCOL: &str = "AMQP 1-0";

/// What a listener tells clients of this protocol.
#[derive(Default)]
pub struct Settings {
    /// To all of them.
    pub usual: Arc<ConnectionConfig>,
    /// To those that showed a certificate.
    with_external: Arc<ConnectionConfig>,
    /// Where all users have what SCRAM needs: the same of both.
    with_scram: [Arc<ConnectionConfig>; 2],
}

impl Settings {
    /// As those of the other protocol, but for how large messages may be.
    #[must_use]
    pub fn of(other: &SessionConfig, large_message_bytes_max: u64) -> Self {
        let has_anonymous = other.mechanisms.contains(&leveret_amqp091::Mechanism::Anonymous);
        let anonymous = has_anonymous.then_some(Mechanism::Anonymous);
        let mechanisms = || [Mechanism::Plain].into_iter().chain(anonymous);
        let text = |name, text: &str| (Symbol::from_static(name), text.to_owned());
        let usual = ConnectionConfig {
            container_id: other.cluster_name.clone(),
            frame_bytes_max: other.frame_bytes_max,
            idle_time_out_ms: u32::from(other.heartbeat_seconds) * 1000,
            message_bytes_max: large_message_bytes_max,
            mechanisms: mechanisms().collect(),
            capabilities: vec![leveret_amqp10::management::CAPABILITY, ANONYMOUS_RELAY],
            properties: vec![
                text("product", &other.product),
                text("version", &other.version),
                text("platform", &other.platform),
                text("cluster_name", &other.cluster_name),
                text("node", &other.cluster_name),
            ],
            ..ConnectionConfig::default()
        };
        let with = |further: &[Mechanism]| {
            let mechanisms = mechanisms().chain(further.iter().copied()).collect();
            Arc::new(ConnectionConfig { mechanisms, ..usual.clone() })
        };
        let (external, scram) = (Mechanism::External, Mechanism::ScramSha256);
        let (with_external, with_scram) = (with(&[external]), [with(&[scram]), with(&[external, scram])]);
        Self { usual: Arc::new(usual.clone()), with_external, with_scram }
    }

    /// What a client is told that showed a certificate or did not, where SCRAM is offered or is not.
    fn config(&self, has_certificate: bool, has_scram: bool) -> &Arc<ConnectionConfig> {
        let [scram, external_scram] = &self.with_scram;
        match (has_certificate, has_scram) {
            (false, false) => &self.usual,
            (true, false) => &self.with_external,
            (false, true) => scram,
            (true, true) => external_scram,
        }
    }
}

/// The broker's side of one client.
pub struct Connection {
    id: ConnectionId,
    ends: Ends,
    peer: IpAddr,
    shared: Arc<Shared>,
    protocol: protocol::Connection,
    wake: Arc<ConnectionWake>,
    login: login::Login,
    /// The user that the client's certificate names.
    proved: Option<Vec<u8>>,
    identity: Option<Identity>,
    open: Option<Open>,
    publishing: publish::Publishing,
    arriving: arriving::Arriving,
    departing: departing::Departing,
    outcomes: outcomes::Outcomes,
    /// What the store is to be told of first.
    settling: Vec<settle::Settling>,
    /// Deliveries stopped for want of room.
    deliveries_wait: bool,
    /// Links that want to be told when there is nothing more for them.
    draining: Vec<(u16, u32)>,
    memory_wake: Arc<OnceWake>,
    store_wake: Arc<OnceWake>,
    /// Credit was not renewed, because memory or the disk is short.
    is_credit_due: bool,
    /// It is woken when memory becomes short.
    is_told_of_shortage: bool,
    management: management::Management,
    transactions: transactions::Transactions,
    /// Scratch of deliveries.
    scratch: deliver::Scratch,
    /// Links that can be resumed.
    resuming: resuming::Resuming,
    /// There was a link on which the client receives that does not have every outcome.
    has_limited: bool,
    is_closed_by_client: bool,
    /// What came last and was not used is not whole.
    wants_more_bytes: bool,
    /// The broker is being stopped.
    is_stopping: bool,
    /// Parts of messages, and what is noted of those on links that can be resumed.
    kept: Charge,
}

/// What exists from open on.
struct Open {
    /// The first to be dropped.
    presence: management::Presence,
    vhost: Arc<Vhost>,
    client: Client,
    publisher: Publisher,
    /// As whom it publishes.
    identity: PublisherIdentity,
    /// What the client's container is called.
    container: Arc<str>,
    /// What it may do.
    rights: Rights,
    /// It is counted.
    place: Place,
    sessions: LiteMap<u16, Session>,
}

impl Connection {
    /// A connection that begins.
    pub fn new(
        id: u64,
        ends: Ends,
        shared: Arc<Shared>,
        wake: Arc<ConnectionWake>,
        proved: Option<Option<Vec<u8>>>,
    ) -> Self {
        let settings = &shared.amqp10;
        let kept = Charge::new(shared.memory.clone(), 0);
        let config = settings.config(proved.is_some(), shared.access.offers_scram());
        Self {
            id: ConnectionId(id),
            peer: ends.peer.ip(),
            ends,
            protocol: protocol::Connection::new(shared.globals.connection(config)),
            shared,
            memory_wake: OnceWake::new(wake.clone()),
            store_wake: OnceWake::new(wake.clone()),
            outcomes: outcomes::Outcomes::new(wake.clone()),
            login: login::Login::default(),
            proved: proved.flatten(),
            identity: None,
            open: None,
            publishing: publish::Publishing::default(),
            arriving: arriving::Arriving::default(),
            departing: departing::Departing::default(),
            settling: Vec::new(),
            deliveries_wait: false,
            draining: Vec::new(),
            is_credit_due: false,
            is_told_of_shortage: false,
            management: management::Management::default(),
            transactions: transactions::Transactions::default(),
            scratch: deliver::Scratch::default(),
            resuming: resuming::Resuming::new(wake.clone()),
            wake,
            has_limited: false,
            is_closed_by_client: false,
            wants_more_bytes: false,
            is_stopping: false,
            kept,
        }
    }

    /// Uses bytes from the front of `bytes`, until more than `output_bytes_max` wait to be written; returns how many.
    /// What is not used is to be given again, with more behind it, after a wake, or when there is less to write.
    pub fn handle_bytes(&mut self, bytes: &[u8], output_bytes_max: usize, router: &mut dyn Router) -> usize {
        self.wants_more_bytes = false;
        let mut used = 0;
        let mut batch = Vec::new();
        let mut settled = false;
        while !self.protocol.is_closed()
            && !self.is_waiting()
            && self.protocol.output_bytes() <= output_bytes_max
        {
            let rest = bytes.get(used..).unwrap_or_default();
            if !batch.is_empty() && !frame::is_transfer(rest) {
                // It may have to wait for an answer, and then the end of a session or of the connection waits too.
                self.publish(std::mem::take(&mut batch), router);
                continue;
            }
            let (consumed, event) = self.protocol.next(rest);
            used += consumed;
            match event {
                Some(Event::Delivery(delivery)) if !delivery.resumed => {
                    self.end_settling(&mut settled, router);
                    batch.push(delivery.into());
                    if batch.len() == publish::BATCH_MAX {
                        self.publish(std::mem::take(&mut batch), router);
                    }
                }
                Some(event) => {
                    if !batch.is_empty() {
                        self.publish(std::mem::take(&mut batch), router);
                    }
                    match event {
                        Event::Disposition { channel, disposition } => {
                            settled = true;
                            self.on_disposition(channel, &disposition, router);
                        }
                        event => {
                            self.end_settling(&mut settled, router);
                            self.handle_event(event, router);
                            // Of a link that is gone something came back.
                            settled = self.open.as_ref().is_some_and(|open| open.client.has_dead_letters());
                        }
                    }
                }
                None if consumed == 0 => {
                    self.wants_more_bytes = true;
                    break;
                }
                None => {}
            }
        }
        if !batch.is_empty() {
            self.publish(batch, router);
        }
        self.end_settling(&mut settled, router);
        self.charge_kept();
        used
    }

    /// Whether what [`Self::handle_bytes`] did not use was left because it is not whole.
    pub fn wants_more_bytes(&self) -> bool {
        self.wants_more_bytes
    }

    /// Charges memory for what is kept of messages, and of what is known of them.
    fn charge_kept(&mut self) {
        let of_messages = self.protocol.kept_bytes() + self.arriving.kept_bytes();
        self.kept.change(of_messages + self.outcomes.tracked.kept_bytes());
    }

    fn handle_event(&mut self, event: Event<'_>, router: &mut dyn Router) {
        match event {
            Event::Sasl(event) => self.on_sasl(event),
            Event::Open(open) => self.on_open(&open),
            Event::Began { channel } => self.on_began(channel),
            Event::Attach { channel, attach } => self.on_attach(channel, &attach, router),
            Event::Credit { channel, handle, credit, drain, echo, properties } => {
                match properties.and_then(|properties| properties.get(TXN_ID.as_str())) {
                    None => self.on_credit((channel, handle), credit, drain, echo),
                    Some(txn_id) => {
                        if self.begin_acquiring((channel, handle), txn_id, router) {
                            self.on_credit((channel, handle), credit, drain, echo);
                        }
                    }
                }
            }
            Event::Aborted { channel, handle } => self.on_aborted(channel, handle),
            Event::Part(part) => self.on_part(part, router),
            Event::Window { .. } => {
                self.send_responses();
                self.deliveries_wait = true;
            }
            Event::Detached { channel, handle, closed, .. } => {
                self.end_link((channel, handle), (!closed).then_some(Over::Link), router);
            }
            Event::Ended { channel } => self.on_ended(channel, router),
            Event::Closed => {
                self.is_closed_by_client = self.protocol.is_closed() && self.open.is_some();
                self.end(router);
            }
            Event::Delivery(delivery) => self.on_resumed(&delivery),
            Event::Disposition { .. } => {}
        }
    }

    /// A run of states is over: has the store told of them, and sends on what was rejected.
    fn end_settling(&mut self, any: &mut bool, router: &mut dyn Router) {
        if std::mem::take(any) {
            self.tell_settled();
            let Some(open) = &mut self.open else { return };
            if open.client.has_dead_letters() {
                open.client.dead_letter(router);
            }
            self.deliveries_wait = true;
        }
    }

    /// After a wake: what waited may go on.
    pub fn woken(&mut self, router: &mut dyn Router) {
        self.finish_login();
        self.outcomes.settle(&mut self.protocol);
        self.retry_publishes(router);
        self.publish_arrived(router);
        self.go_on_committing(router);
        self.go_on_managing();
        self.publish_behind(router);
        self.publish_arrived(router);
        self.go_on_resuming(router);
        self.renew_all_credit();
        self.withhold_credit();
        self.handle_bytes(&[], OUTPUT_BYTES_HARD_MAX, router);
        self.retry_dead_letters(router);
        self.tell_deleted(router);
        self.tell_activity();
        self.deliveries_wait = true;
    }

    /// Whether [`Self::deliver`] stopped for want of room and there is room again.
    pub fn has_deliveries(&self) -> bool {
        self.deliveries_wait && self.protocol.output_bytes() < OUTPUT_BYTES_SOFT_MAX
    }

    /// Whether to handle what is read.
    pub fn reading(&self) -> Reading {
        if self.protocol.is_closing() {
            Reading::Open
        } else if self.is_waiting() {
            Reading::Paused
        } else if self.publishing.slowed {
            Reading::Slowed
        } else {
            Reading::Open
        }
    }

    /// Whether the answer of a type is waited for, or much that was asked for: then nothing that comes is handled.
    fn is_waiting(&self) -> bool {
        self.publishing.is_waiting()
            || self.arriving.is_waiting()
            || self.transactions.is_waiting()
            || self.management.is_full()
    }

    /// The moment of [`Reading::Slowed`] is over.
    pub fn release(&mut self) {
        self.publishing.slowed = false;
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.protocol.output()
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether close was sent and is not answered yet.
    pub fn is_closing(&self) -> bool {
        self.protocol.is_closing()
    }

    /// Whether to drop the socket once the output is written.
    pub fn is_closed(&self) -> bool {
        self.protocol.is_closed()
    }

    /// Whether the client closed it.
    pub fn is_closed_by_client(&self) -> bool {
        self.is_closed_by_client
    }

    /// After how much silence of this side the client gives up, in milliseconds; 0 is never.
    pub fn remote_idle_time_out_ms(&self) -> u32 {
        self.protocol.remote_idle_time_out_ms()
    }

    /// After how much silence the client is taken for gone, in milliseconds.
    pub fn idle_time_out_ms(&self) -> u32 {
        self.shared.amqp10.usual.idle_time_out_ms
    }

    /// Puts a frame that says nothing.
    pub fn put_heartbeat(&mut self) {
        self.protocol.put_empty_frame();
    }

    /// The broker is being stopped: tells the client.
    pub fn stop(&mut self, router: &mut dyn Router) {
        self.is_stopping = true;
        let why = "broker forced connection closure with reason 'shutdown'".into();
        self.force_close(&Forced { why, with_queues: false }, router);
    }

    /// So many bytes were read, and so many written. What came before it was open is not counted.
    pub fn count_bytes(&self, received: usize, sent: usize) {
        if let Some(open) = &self.open {
            open.place.about().traffic.count_bytes(received, sent);
        }
    }

    /// Somebody wants it to end: tells the client.
    pub fn force_close(&mut self, forced: &Forced, router: &mut dyn Router) {
        if !self.protocol.is_closing() {
            // RabbitMQ's clients look for these words.
            let text = format!("Connection forced: {:?}", forced.why);
            self.protocol.close(Condition::ConnectionForced, &text);
            self.end(router);
        }
    }

    /// The socket is gone: nothing can be delivered any more.
    pub fn hang_up(&mut self, router: &mut dyn Router) {
        self.deliveries_wait = false;
        self.departing.end();
        self.outcomes.tracked.is_left_alone();
        if let Some(open) = &mut self.open {
            open.client.stop_consuming(router);
        }
    }

    /// Goes on without a socket, after [`Self::hang_up`]: deals with what waited, and with `bytes` that were read
    /// before, as far as that goes; returns how many of them were used. Answers go nowhere.
    pub fn go_on_alone(&mut self, bytes: &[u8], woken: bool, router: &mut dyn Router) -> usize {
        if woken {
            self.woken(router);
        }
        let mut used = 0;
        loop {
            self.protocol.output().clear();
            self.release();
            if self.is_waiting() {
                return used;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let more = self.handle_bytes(rest, OUTPUT_BYTES_HARD_MAX, router);
            used += more;
            let was_full = self.protocol.output_bytes() > OUTPUT_BYTES_HARD_MAX;
            self.protocol.output().clear();
            if more == 0 && !was_full {
                return used;
            }
        }
    }

    /// Whether something that came whole is not dealt with yet, or somebody will want to know what became of it.
    pub fn has_unfinished(&self) -> bool {
        (self.open.is_some() && !self.protocol.is_closed() && self.is_waiting()) || self.outcomes.is_owed()
    }

    /// When [`Self::retry`] is due, in milliseconds since 1970.
    pub fn retry_due_ms(&self) -> Option<u64> {
        let client = &self.open.as_ref()?.client;
        let others = client.deliver_due_ms().into_iter().chain(client.overdue_ms());
        let others = others.chain(self.departing.due_ms());
        client.dead_letters_due_ms().into_iter().chain(others).min()
    }

    /// Tries again what is due then. Deliveries follow in the next turn.
    pub fn retry(&mut self, router: &mut dyn Router) {
        self.retry_dead_letters(router);
        self.requeue_overdue(router);
        let due_ms = self.open.as_ref().and_then(|open| open.client.deliver_due_ms());
        let due_ms = due_ms.into_iter().chain(self.departing.due_ms()).min();
        self.deliveries_wait |= due_ms.is_some_and(|due_ms| due_ms <= router.now_ms());
    }

    fn retry_dead_letters(&mut self, router: &mut dyn Router) {
        if let Some(open) = &mut self.open
            && open.client.dead_letters_waiting() > 0
        {
            open.client.dead_letter(router);
        }
    }

    /// The connection is over: gives back what the client held.
    pub fn end(&mut self, router: &mut dyn Router) {
        self.publishing.end();
        self.arriving.end();
        self.departing.end();
        let channels = self.open.iter().flat_map(|open| open.sessions.keys().copied()).collect::<Vec<_>>();
        channels.iter().for_each(|channel| self.outcomes.forget(*channel));
        self.suspend_all(None, router);
        channels.into_iter().for_each(|channel| self.leave_nodes(channel, router));
        if let Some(mut open) = self.open.take() {
            open.presence.end();
            for (channel, session) in &open.sessions {
                session.sent.fail(&mut open.client, *channel);
            }
            let wake: Arc<dyn Wake> = self.wake.clone();
            router.forget(&wake);
            open.client.close(router);
        }
    }
}
