//! Part 4: transactions, which RabbitMQ does not have.

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, credit, receiver, sender, source, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    Performative,
    composite::{Composite, Fields},
    descriptor,
    message::Message,
    messaging::{Accepted, DeliveryState, Header, Rejected, Released},
    performatives::{Attach, Detach, Disposition, Flow, Role, SenderSettleMode, Transfer},
    transactions::{AnyTarget, Coordinator, Declare, Discharge, TransactionalState},
    types::{MapBuilder, Symbol, write},
};
use leveret_testkit::{Broker, WatchedDisk};

/// A client with a link to the coordinator (handle 0), one to a queue (1) and one from it (2).
pub(crate) struct Transacting {
    pub(crate) peer: Peer,
    pub(crate) other: Other,
    queue: String,
    pub(crate) sent: u32,
    /// How many deliveries came.
    received: u32,
}

/// The bytes of a request to the coordinator.
pub(crate) fn request<'a>(request: &impl Composite<'a>) -> Vec<u8> {
    let mut payload = Vec::new();
    write::put_descriptor(&mut payload, descriptor::AMQP_VALUE);
    request.encode(&mut payload);
    payload
}

impl Transacting {
    pub(crate) fn new(broker: &Broker, arguments: &[(&str, &str)]) -> Self {
        let mut other = Other::new(broker);
        let queue = other.queue(arguments);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let coordinator = AnyTarget::Coordinator(Coordinator::default());
        let to = Attach { target: Some(coordinator), ..sender(0, "coordinator", target("")) };
        peer.say(0, &to);
        awaited!(peer, Attach, it => match it.target {
            Some(AnyTarget::Coordinator(offered)) => {
                for capability in ["local-transactions", "multi-txns-per-ssn", "multi-ssns-per-txn"] {
                    assert!(offered.capabilities.contains(&format!("amqp:{capability}")), "{capability}");
                }
            }
            other => panic!("{other:?}"),
        });
        awaited!(peer, Flow);
        peer.attach(0, &sender(1, "s", target(&address)));
        peer.attach(0, &receiver(2, "r", source(&address)));
        Self { peer, other, queue, sent: 0, received: 0 }
    }

    /// Asks the coordinator; what it says.
    fn coordinate<'a, R>(
        &mut self,
        request: &impl Composite<'a>,
        outcome: impl FnOnce(DeliveryState<'_>) -> R,
    ) -> R {
        let id = self.sent;
        self.sent += 1;
        self.peer.transfer(0, &transfer(0, id, &id.to_be_bytes()), &self::request(request));
        self.disposition(|it| {
            assert_eq!((it.role, it.first, it.settled), (Role::Receiver, id, true));
            outcome(it.state.expect("a state"))
        })
    }

    /// What is said next of a delivery; windows and credit may be renewed before.
    fn disposition<R>(&mut self, read: impl FnOnce(Disposition<'_>) -> R) -> R {
        loop {
            let came = self.peer.frame();
            match came.read().0 {
                Performative::Disposition(it) => return read(it),
                Performative::Flow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn declare(&mut self) -> Vec<u8> {
        self.coordinate(&Declare::default(), |state| match state {
            DeliveryState::Declared(declared) => declared.txn_id.to_vec(),
            other => panic!("{other:?}"),
        })
    }

    /// The condition of a discharge that was rejected.
    pub(crate) fn discharge(&mut self, txn_id: &[u8], fail: bool) -> Option<String> {
        self.coordinate(&Discharge { txn_id, fail: Some(fail) }, |state| match state {
            DeliveryState::Accepted(_) => None,
            DeliveryState::Rejected(Rejected { error }) => Some(error.unwrap().condition.to_string()),
            other => panic!("{other:?}"),
        })
    }

    /// Sends a message in a transaction.
    fn send(&mut self, txn_id: &[u8], body: &[u8]) {
        self.send_on(1, txn_id, body);
    }

    /// Sends one on a link.
    pub(crate) fn send_on(&mut self, handle: u32, txn_id: &[u8], body: &[u8]) {
        self.send_whole(handle, txn_id, &message(body));
    }

    fn send_whole(&mut self, handle: u32, txn_id: &[u8], message: &[u8]) {
        let id = self.sent;
        self.sent += 1;
        let state = TransactionalState { txn_id, outcome: None };
        let tag = id.to_be_bytes();
        let transfer = Transfer { state: Some(state.into()), ..transfer(handle, id, &tag) };
        self.peer.transfer(0, &transfer, message);
        self.disposition(|it| {
            assert_eq!((it.first, it.settled), (id, true));
            match it.state {
                Some(DeliveryState::Transactional(state)) => assert_eq!(state.txn_id, txn_id),
                other => panic!("{other:?}"),
            }
        });
    }

    fn settle(&mut self, txn_id: &[u8], id: u32) {
        self.say_accepted(txn_id, id, true);
    }

    /// Says that a delivery is accepted if the transaction is committed, and settles it from here, or not.
    fn say_accepted(&mut self, txn_id: &[u8], id: u32, settled: bool) {
        let state = TransactionalState { txn_id, outcome: Some(Accepted {}.into()) };
        let disposition = Disposition {
            role: Role::Receiver,
            first: id,
            settled,
            state: Some(state.into()),
            ..Disposition::default()
        };
        self.peer.say(0, &disposition);
    }

    /// Puts a message into the queue and takes it out of there; the number of its delivery.
    fn receive(&mut self) -> u32 {
        let txn = self.declare();
        self.send(&txn, b"m");
        assert_eq!(self.discharge(&txn, false), None);
        self.take()
    }

    /// Takes a message out of the queue.
    fn take(&mut self) -> u32 {
        self.peer.say(0, &credit(2, self.received, 1));
        self.received += 1;
        self.transfer().0
    }

    /// The next delivery: its number, and its message.
    fn transfer(&mut self) -> (u32, Vec<u8>) {
        loop {
            let came = self.peer.frame();
            match came.read() {
                (Performative::Transfer(it), payload) => {
                    return (it.delivery_id.unwrap(), payload.to_vec());
                }
                (Performative::Flow(_), _) => {}
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    /// Detaches the link from the queue.
    fn detach(&mut self) {
        self.peer.say(0, &Detach { handle: 2, closed: true, error: None });
        awaited!(self.peer, Detach);
    }

    fn ready(&mut self) -> u32 {
        self.other.ready(&self.queue)
    }
}

/// 4.4.1, 4.4.2: what is sent is there once the transaction is committed, and not if it is rolled back.
#[test]
fn messages_count_with_their_commit() {
    with_bystander(|broker| {
        for kind in ["classic", "quorum"] {
            let mut client = Transacting::new(broker, &[("x-queue-type", kind)]);
            let (first, second) = (client.declare(), client.declare());
            assert_ne!(first, second);
            for body in [b"1", b"2"] {
                client.send(&first, body);
                client.send(&second, b"never");
            }
            assert_eq!(client.ready(), 0);
            assert_eq!(client.discharge(&second, true), None);
            assert_eq!(client.discharge(&first, false), None);
            assert_eq!(client.ready(), 2);
            client.peer.say(0, &credit(2, 0, 5));
            for body in [b"1", b"2"] {
                assert!(client.transfer().1.ends_with(body));
            }
        }
    });
}

/// 4.4.2: outcomes count with the commit; after a roll-back deliveries that were not settled can be settled again.
#[test]
fn outcomes_count_with_their_commit() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[]);
        let txn = client.declare();
        (0..3).for_each(|_| client.send(&txn, b"m"));
        assert_eq!(client.discharge(&txn, false), None);
        client.peer.say(0, &credit(2, 0, 3));
        let ids: Vec<u32> =
            (0..3).map(|_| awaited!(client.peer, Transfer, it => it.delivery_id.unwrap())).collect();
        let txn = client.declare();
        ids.iter().for_each(|id| client.say_accepted(&txn, *id, false));
        assert_eq!(client.discharge(&txn, true), None);
        assert_eq!(client.ready(), 0, "nothing goes back");
        let txn = client.declare();
        client.settle(&txn, ids[0]);
        client.settle(&txn, ids[2]);
        client.send(&txn, b"answer");
        assert_eq!(client.discharge(&txn, false), None);
        // What was not settled comes back; what was does not.
        client.detach();
        assert_eq!(client.ready(), 2, "one that was not settled, and the answer");
    });
}

/// 4.4.4: what the client has settled it can say no more of: after a roll-back, and after a commit that cannot be, it has
/// the default outcome, which is released.
#[test]
fn what_is_settled_in_a_transaction_that_is_rolled_back_is_released() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[("x-queue-type", "quorum")]);
        let first = client.receive();
        let txn = client.declare();
        client.settle(&txn, first);
        assert_eq!(client.discharge(&txn, true), None);
        assert_eq!(client.ready(), 1);
        // The link goes on, and that was no failure.
        client.peer.say(0, &credit(2, client.received, 1));
        client.received += 1;
        let (again, came) = client.transfer();
        assert_eq!(Message::new(&came).unwrap().header().delivery_count, Some(0));
        // A commit of which a message goes nowhere.
        client.peer.attach(0, &sender(3, "nowhere", target("/exchanges/amq.fanout")));
        let txn = client.declare();
        client.settle(&txn, again);
        client.send_on(3, &txn, b"to nobody");
        assert_eq!(client.discharge(&txn, false).as_deref(), Some("amqp:transaction:rollback"));
        assert_eq!(client.ready(), 1);
        // The link to the coordinator ends.
        let last = client.take();
        let txn = client.declare();
        client.settle(&txn, last);
        client.peer.say(0, &Detach { handle: 0, closed: true, error: None });
        awaited!(client.peer, Detach);
        assert_eq!(client.ready(), 1);
    });
}

/// 4.4.1: a commit of which a message is not accepted is told as rolled back, and settles nothing.
#[test]
fn a_commit_that_cannot_be_is_rolled_back() {
    with_bystander(|broker| {
        let arguments = [("x-overflow", "reject-publish")];
        let mut client = Transacting::new(broker, &arguments);
        let queue = client.queue.clone();
        client.other.delete(&queue);
        awaited!(client.peer, Detach);
        let txn = client.declare();
        client.send(&txn, b"to nobody");
        assert_eq!(client.discharge(&txn, false).as_deref(), Some("amqp:transaction:rollback"));
        assert_eq!(client.discharge(&txn, false).as_deref(), Some("amqp:transaction:unknown-id"));
        assert_eq!(client.discharge(b"nonsense", true).as_deref(), Some("amqp:transaction:unknown-id"));
    });
}

/// 4.3: a commit that the disk does not take is told as rolled back, and there is nothing of it.
#[test]
fn a_commit_that_the_disk_does_not_take_is_rolled_back() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(env!("CARGO_BIN_EXE_leveret"))).start();
    let mut client = Transacting::new(&broker, &[]);
    let mut durable = Vec::new();
    Header { durable: Some(true), ..Header::default() }.encode(&mut durable);
    durable.extend(message(&[b'x'; 100_000]));
    disk.fill(true);
    // There may be room left for some.
    let (mut committed, mut why) = (0, None);
    while why.is_none() {
        assert_eq!(client.ready(), committed);
        let txn = client.declare();
        for _ in 0..50 {
            client.send_whole(1, &txn, &durable);
        }
        why = client.discharge(&txn, false);
        committed += 50;
    }
    assert_eq!(why.as_deref(), Some("amqp:transaction:rollback"));
    assert_eq!(client.ready(), committed - 50);
}

/// 4.4.2: until the transaction ends no other outcome of a delivery counts, and it cannot be in two of them.
#[test]
fn a_delivery_has_its_outcome_in_one_transaction() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[]);
        let id = client.receive();
        let txn = client.declare();
        client.settle(&txn, id);
        let plain = Disposition {
            role: Role::Receiver,
            first: id,
            settled: true,
            state: Some(Released {}.into()),
            ..Disposition::default()
        };
        client.peer.say(0, &plain);
        assert_eq!(client.discharge(&txn, false), None);
        assert_eq!(client.ready(), 0, "it is accepted");
        let id = client.receive();
        let (first, second) = (client.declare(), client.declare());
        client.settle(&first, id);
        client.settle(&second, id);
        awaited!(client.peer, End, it => {
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:illegal-state");
        });
        assert_eq!(client.ready(), 1);
    });
}

/// 4.4.2: a delivery with an outcome in a transaction waits for its end though its link ends before: it is done if that
/// is committed, and goes back if it is not. Deliveries of another link with the same handle are others.
#[test]
fn a_link_that_ends_takes_nothing_of_a_transaction_along() {
    with_bystander(|broker| {
        for (commit, settled) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut client = Transacting::new(broker, &[]);
            let (id, bare) = (client.receive(), client.receive());
            let txn = client.declare();
            client.say_accepted(&txn, id, settled);
            client.send(&txn, b"answer");
            client.detach();
            assert_eq!(client.ready(), 1, "what is in no transaction goes back at once: {bare}");
            let queue = queue_address(&client.queue);
            client.peer.attach(0, &receiver(2, "another", source(&queue)));
            client.received = 0;
            client.take();
            client.detach();
            assert_eq!(client.ready(), 1);
            assert_eq!(client.discharge(&txn, !commit), None);
            assert_eq!(client.ready(), 2, "{commit} {settled}: the answer, or the message");
        }
    });
}

/// 4.4.1: a discharge while a message of the transaction has not come whole ends the link to the coordinator.
#[test]
fn a_discharge_before_the_last_part_of_a_message_is_wrong() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[]);
        let txn = client.declare();
        let id = client.sent;
        client.sent += 1;
        let (state, tag) = (TransactionalState { txn_id: &txn, outcome: None }, id.to_be_bytes());
        let first = Transfer { state: Some(state.into()), more: true, ..transfer(1, id, &tag) };
        client.peer.transfer(0, &first, &message(b"m"));
        assert_eq!(client.discharge(&txn, false).as_deref(), Some("amqp:transaction:rollback"));
        awaited!(client.peer, Detach, it => {
            assert_eq!(it.handle, 0);
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:transaction:rollback");
        });
        assert_eq!(client.ready(), 0);
    });
}

/// 4.3: a transaction is discharged on the link that declared it, and on no other.
#[test]
fn transactions_are_of_the_link_that_declared_them() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[]);
        let txn = client.declare();
        let coordinator = AnyTarget::Coordinator(Coordinator::default());
        client.peer.say(0, &Attach { target: Some(coordinator), ..sender(3, "another", target("")) });
        awaited!(client.peer, Attach);
        awaited!(client.peer, Flow);
        let mut payload = Vec::new();
        write::put_descriptor(&mut payload, descriptor::AMQP_VALUE);
        Discharge { txn_id: &txn, fail: Some(true) }.encode(&mut payload);
        let id = client.sent;
        client.sent += 1;
        client.peer.transfer(0, &transfer(3, id, &id.to_be_bytes()), &payload);
        awaited!(client.peer, Disposition, it => match it.state {
            Some(DeliveryState::Rejected(Rejected { error })) => {
                assert_eq!(error.unwrap().condition.as_str(), "amqp:transaction:unknown-id");
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(client.discharge(&txn, true), None);
    });
}

/// 4.3: transactions that are not discharged when their link to the coordinator ends are rolled back.
#[test]
fn transactions_end_with_their_link() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[]);
        let txn = client.declare();
        client.send(&txn, b"m");
        client.peer.say(0, &Detach { handle: 0, closed: true, error: None });
        awaited!(client.peer, Detach);
        assert_eq!(client.ready(), 0);
        let id = client.sent;
        let state = TransactionalState { txn_id: &txn, outcome: None };
        let tag = id.to_be_bytes();
        let late = Transfer { state: Some(state.into()), ..transfer(1, id, &tag) };
        client.peer.transfer(0, &late, &message(b"late"));
        awaited!(client.peer, Disposition, it => match it.state {
            Some(DeliveryState::Rejected(Rejected { error })) => {
                assert_eq!(error.unwrap().condition.as_str(), "amqp:transaction:unknown-id");
            }
            other => panic!("{other:?}"),
        });
    });
}

/// The credit of the link from the queue, as part of a transaction.
fn acquiring<'a>(properties: &'a MapBuilder, delivery_count: u32, messages: u32) -> Flow<'a> {
    Flow { properties: Fields::new(properties.view()), ..credit(2, delivery_count, messages) }
}

fn naming(txn_id: &[u8]) -> MapBuilder {
    let mut properties = MapBuilder::new();
    properties.push(Symbol::from_static("txn-id"), txn_id);
    properties
}

/// 4.4.3: what is acquired in a transaction goes back if that is rolled back, and is a delivery as any if it is committed.
#[test]
fn messages_are_acquired_in_a_transaction() {
    with_bystander(|broker| {
        for kind in ["classic", "quorum"] {
            let mut client = Transacting::new(broker, &[("x-queue-type", kind)]);
            let txn = client.declare();
            (0..4).for_each(|_| client.send(&txn, b"m"));
            assert_eq!(client.discharge(&txn, false), None);
            let txn = client.declare();
            let acquire = |client: &mut Transacting, txn: &[u8], seen: u32, messages: u32| {
                client.peer.say(0, &acquiring(&naming(txn), seen, messages));
                let mut ids = Vec::new();
                while ids.len() < messages as usize {
                    let came = client.peer.frame();
                    match came.read() {
                        (Performative::Transfer(it), payload) => {
                            let header = Message::new(payload).unwrap().header();
                            assert_eq!(header.delivery_count, Some(0), "to go back is no failure");
                            let state = TransactionalState { txn_id: txn, outcome: None };
                            assert_eq!(it.state, Some(state.into()));
                            ids.push(it.delivery_id.unwrap());
                        }
                        // Whether the link is active.
                        (Performative::Flow(_), _) => {}
                        (other, _) => panic!("{other:?}"),
                    }
                }
                ids
            };
            let ids = acquire(&mut client, &txn, 0, 3);
            client.say_accepted(&txn, ids[0], false);
            assert_eq!(client.ready(), 1);
            let id = client.sent;
            client.sent += 1;
            let discharge = Discharge { txn_id: &txn, fail: Some(true) };
            client.peer.transfer(0, &transfer(0, id, b"discharge"), &request(&discharge));
            for acquired in ids {
                client.disposition(|it| {
                    assert_eq!((it.role, it.first, it.settled), (Role::Sender, acquired, true));
                    assert!(matches!(it.state, Some(DeliveryState::Released(_))), "{it:?}");
                });
            }
            client.disposition(|it| {
                assert_eq!((it.role, it.first), (Role::Receiver, id));
                assert!(matches!(it.state, Some(DeliveryState::Accepted(_))), "{it:?}");
            });
            assert_eq!(client.ready(), 4, "{kind}");
            let txn = client.declare();
            let ids = acquire(&mut client, &txn, 3, 2);
            client.settle(&txn, ids[0]);
            assert_eq!(client.discharge(&txn, false), None);
            assert_eq!(client.ready(), 2, "{kind}");
            // The next is part of nothing.
            client.peer.say(0, &credit(2, 5, 1));
            awaited!(client.peer, Transfer, it => assert_eq!(it.state, None));
            client.detach();
            assert_eq!(client.ready(), 3, "{kind}");
        }
    });
}

/// 4.4.3: a link that cannot acquire in the transaction that is named ends, with the reason.
#[test]
fn a_link_that_cannot_acquire_in_a_transaction_ends() {
    with_bystander(|broker| {
        let mut client = Transacting::new(broker, &[]);
        let detached = |client: &mut Transacting| {
            awaited!(client.peer, Detach, it => {
                assert_eq!((it.handle, it.closed), (2, true));
                it.error.unwrap().condition.to_string()
            })
        };
        client.peer.say(0, &acquiring(&naming(b"nothing"), 0, 1));
        assert_eq!(detached(&mut client), "amqp:transaction:unknown-id");
        client.peer.say(0, &Detach { handle: 2, closed: true, error: None });
        let address = queue_address(&client.queue);
        let settled = SenderSettleMode::Settled;
        client.peer.attach(0, &Attach { snd_settle_mode: settled, ..receiver(2, "t", source(&address)) });
        let txn = client.declare();
        client.peer.say(0, &acquiring(&naming(&txn), 0, 1));
        assert_eq!(detached(&mut client), "amqp:not-implemented");
    });
}
