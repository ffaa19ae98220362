//! Part 4: transactions, which RabbitMQ does not have.

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, credit, receiver, sender, source, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    composite::Composite,
    descriptor,
    messaging::{Accepted, DeliveryState, Rejected},
    performatives::{Attach, Detach, Disposition, Role, Transfer},
    transactions::{AnyTarget, Coordinator, Declare, Discharge, TransactionalState},
    types::write,
};
use leveret_testkit::Broker;

/// A client with a link to the coordinator (handle 0), one to a queue (1) and one from it (2).
struct Transacting {
    peer: Peer,
    other: Other,
    queue: String,
    sent: u32,
}

impl Transacting {
    fn new(broker: &Broker, arguments: &[(&str, &str)]) -> Self {
        let mut other = Other::new(broker);
        let queue = other.queue(arguments);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let coordinator = AnyTarget::Coordinator(Coordinator::default());
        let to = Attach { target: Some(coordinator), ..sender(0, "coordinator", target("")) };
        peer.say(0, &to);
        awaited!(peer, Attach, it => match it.target {
            Some(AnyTarget::Coordinator(offered)) => {
                assert!(offered.capabilities.contains("amqp:local-transactions"));
            }
            other => panic!("{other:?}"),
        });
        awaited!(peer, Flow);
        peer.attach(0, &sender(1, "s", target(&address)));
        peer.attach(0, &receiver(2, "r", source(&address)));
        Self { peer, other, queue, sent: 0 }
    }

    /// Asks the coordinator; what it says.
    fn coordinate<'a, R>(
        &mut self,
        request: &impl Composite<'a>,
        outcome: impl FnOnce(DeliveryState<'_>) -> R,
    ) -> R {
        let mut payload = Vec::new();
        write::put_descriptor(&mut payload, descriptor::AMQP_VALUE);
        request.encode(&mut payload);
        let id = self.sent;
        self.sent += 1;
        self.peer.transfer(0, &transfer(0, id, &id.to_be_bytes()), &payload);
        awaited!(self.peer, Disposition, it => {
            assert_eq!((it.role, it.first, it.settled), (Role::Receiver, id, true));
            outcome(it.state.expect("a state"))
        })
    }

    fn declare(&mut self) -> Vec<u8> {
        self.coordinate(&Declare::default(), |state| match state {
            DeliveryState::Declared(declared) => declared.txn_id.to_vec(),
            other => panic!("{other:?}"),
        })
    }

    /// The condition of a discharge that was rejected.
    fn discharge(&mut self, txn_id: &[u8], fail: bool) -> Option<String> {
        self.coordinate(&Discharge { txn_id, fail: Some(fail) }, |state| match state {
            DeliveryState::Accepted(_) => None,
            DeliveryState::Rejected(Rejected { error }) => Some(error.unwrap().condition.to_string()),
            other => panic!("{other:?}"),
        })
    }

    /// Sends a message in a transaction.
    fn send(&mut self, txn_id: &[u8], body: &[u8]) {
        let id = self.sent;
        self.sent += 1;
        let state = TransactionalState { txn_id, outcome: None };
        let tag = id.to_be_bytes();
        let transfer = Transfer { state: Some(state.into()), ..transfer(1, id, &tag) };
        self.peer.transfer(0, &transfer, &message(body));
        awaited!(self.peer, Disposition, it => {
            assert_eq!((it.first, it.settled), (id, true));
            match it.state {
                Some(DeliveryState::Transactional(state)) => assert_eq!(state.txn_id, txn_id),
                other => panic!("{other:?}"),
            }
        });
    }

    fn settle(&mut self, txn_id: &[u8], id: u32) {
        let state = TransactionalState { txn_id, outcome: Some(Accepted {}.into()) };
        let disposition = Disposition {
            role: Role::Receiver,
            first: id,
            settled: true,
            state: Some(state.into()),
            ..Disposition::default()
        };
        self.peer.say(0, &disposition);
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
                let came = client.peer.frame();
                assert!(came.read().1.ends_with(body));
            }
        }
    });
}

/// 4.4.3: outcomes count with the commit; after a roll-back the deliveries can be settled again.
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
        ids.iter().for_each(|id| client.settle(&txn, *id));
        assert_eq!(client.discharge(&txn, true), None);
        let txn = client.declare();
        client.settle(&txn, ids[0]);
        client.settle(&txn, ids[2]);
        client.send(&txn, b"answer");
        assert_eq!(client.discharge(&txn, false), None);
        // What was not settled comes back; what was does not.
        client.peer.say(0, &Detach { handle: 2, closed: true, error: None });
        awaited!(client.peer, Detach);
        assert_eq!(client.ready(), 2, "one that was not settled, and the answer");
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
