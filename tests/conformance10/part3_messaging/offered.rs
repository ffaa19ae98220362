//! 3.5.3, outcomes: which ones there may be on a link. RabbitMQ tells them and does not look.

use super::*;
use crate::part4_transactions::Transacting;
use leveret_amqp10::{performatives::Error, transactions::TransactionalState};
use leveret_testkit::wire::Arguments;

const ACCEPTED: Symbol<'static> = Symbol::from_static("amqp:accepted:list");
const REJECTED: Symbol<'static> = Symbol::from_static("amqp:rejected:list");
const RELEASED: Symbol<'static> = Symbol::from_static("amqp:released:list");

/// A source with no more outcomes than these.
fn limited<'a>(address: &'a str, outcomes: &'a [Symbol<'a>]) -> Source<'a> {
    Source { outcomes: Symbols::Slice(outcomes), ..source(address) }
}

fn settle<'a>(peer: &mut Peer, (first, last): (u32, u32), state: impl Into<DeliveryState<'a>>) {
    let settled = Disposition { first, last: Some(last), settled: true, ..Disposition::default() };
    peer.say(0, &Disposition { role: Role::Receiver, state: Some(state.into()), ..settled });
}

/// A client that settles with an outcome that its source does not have loses its link. What it did not settle otherwise is
/// in the queue, and those of other links that it named beside are settled. The default outcome is one that there is.
#[test]
fn a_receiver_settles_with_outcomes_of_its_source() {
    with_bystander(|broker| {
        for by_default in [None, Some(Rejected::default().into())] {
            let mut both = Both::new(broker, &[]);
            let address = queue_address(&both.queue);
            for body in [b"0", b"1", b"2", b"3"] {
                both.accepted(&message(body));
            }
            let mut peer = Peer::begun(broker);
            let few = Source { default_outcome: by_default, ..limited(&address, &[ACCEPTED]) };
            peer.attach(0, &receiver(0, "few", few));
            peer.attach(0, &receiver(1, "all", source(&address)));
            for (handle, count) in [(0, 3), (1, 1)] {
                peer.say(0, &credit(handle, 0, count));
                (0..count).for_each(|_| awaited!(peer, Transfer, it => assert_eq!(it.handle, handle)));
            }
            settle(&mut peer, (0, 0), Accepted {});
            match by_default {
                None => settle(&mut peer, (1, 1), Released {}),
                Some(_) => settle(&mut peer, (1, 1), Rejected::default()),
            }
            peer.expect_alive();
            let back = u32::from(by_default.is_none());
            assert_eq!(both.other.ready(&both.queue), back);
            let failed = Modified { undeliverable_here: Some(true), ..Modified::default() };
            settle(&mut peer, (2, 3), failed);
            awaited!(peer, Detach, it => {
                assert_eq!((it.handle, it.closed), (0, true));
                assert_eq!(it.error.unwrap().condition.as_str(), "amqp:not-allowed");
            });
            assert_eq!(both.other.ready(&both.queue), back + 1);
            let (_, came) = both.receive();
            assert_eq!(header_of(&came).delivery_count, Some(0), "what goes back is no failure");
        }
    });
}

/// The same in a transaction, of which the client would not know what counts: the session ends.
#[test]
fn a_receiver_that_settles_otherwise_in_a_transaction_loses_its_session() {
    with_bystander(|broker| {
        let mut both = Both::new(broker, &[]);
        both.accepted(&message(b"m"));
        let mut transacting = Transacting::new(broker, &[]);
        let txn_id = transacting.declare();
        let peer = &mut transacting.peer;
        peer.attach(0, &receiver(7, "few", limited(&queue_address(&both.queue), &[ACCEPTED])));
        peer.say(0, &credit(7, 0, 1));
        let id = awaited!(peer, Transfer, it => it.delivery_id.unwrap());
        let outcome = Some(Rejected::default().into());
        settle(peer, (id, id), TransactionalState { txn_id: &txn_id, outcome });
        awaited!(peer, End, it => assert_eq!(it.error.unwrap().condition.as_str(), "amqp:not-allowed"));
        peer.say(0, &End::default());
        peer.expect_alive();
        assert_eq!(both.other.ready(&both.queue), 1);
    });
}

/// What came of a message: the words for its outcome, or for the end of its link.
fn told(peer: &mut Peer) -> String {
    let condition = |error: Option<Error<'_>>| error.unwrap().condition.to_string();
    loop {
        let came = peer.frame();
        return match came.read().0 {
            Performative::Flow(_) => continue,
            Performative::Disposition(it) => match it.state.unwrap() {
                DeliveryState::Accepted(_) => "accepted".to_owned(),
                DeliveryState::Released(_) => "released".to_owned(),
                DeliveryState::Rejected(rejected) => format!("rejected {}", condition(rejected.error)),
                other => panic!("{other:?}"),
            },
            Performative::Detach(it) => format!("detach {}", condition(it.error)),
            other => panic!("{other:?}"),
        };
    }
}

/// A sender is told no outcome that its source does not have: where none says what became of a message its link ends.
#[test]
fn a_sender_is_told_outcomes_of_its_source() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let full = Arguments::new().short_string("x-overflow").octet(b'S').long_string("reject-publish");
        let full = full.short_string("x-max-length").octet(b'l').long_long(1).into_bytes();
        let full = queue_address(&other.declare(|declare| declare.long_string(full)));
        let mut first = Peer::begun(broker);
        first.attach(0, &sender(0, "first", target(&full)));
        first.transfer(0, &transfer(0, 0, b"0"), &message(b"m"));
        assert_eq!(told(&mut first), "accepted");
        let nowhere = "/exchanges/amq.direct/nowhere";
        let is_full = "amqp:resource-limit-exceeded";
        for (address, outcomes, expected) in [
            (nowhere, &[][..], "released".to_owned()),
            (nowhere, &[ACCEPTED, RELEASED], "released".to_owned()),
            (nowhere, &[ACCEPTED, REJECTED], "rejected amqp:not-found".to_owned()),
            (nowhere, &[ACCEPTED], "detach amqp:not-found".to_owned()),
            (&full, &[ACCEPTED, REJECTED], format!("rejected {is_full}")),
            (&full, &[ACCEPTED, RELEASED], format!("detach {is_full}")),
            (&queue_address(&other.queue(&[])), &[REJECTED], "accepted".to_owned()),
        ] {
            let mut peer = Peer::begun(broker);
            let from = limited("", outcomes);
            peer.attach(0, &Attach { source: Some(from), ..sender(0, "s", target(address)) });
            peer.transfer(0, &transfer(0, 0, b"0"), &message(b"m"));
            assert_eq!(told(&mut peer), expected, "{address} {outcomes:?}");
            peer.expect_alive();
        }
    });
}

/// The anonymous terminus, 2.2.2: where the source has no rejected, a message that goes nowhere ends the link, by name.
#[test]
fn an_anonymous_link_that_knows_nothing_of_rejections_ends_with_the_message_s_tag() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let from = limited("", &[ACCEPTED, RELEASED]);
        peer.attach(0, &Attach { source: Some(from), ..sender(0, "anywhere", Target::default()) });
        peer.transfer(0, &transfer(0, 0, b"its tag"), &message(b"m"));
        awaited!(peer, Detach, it => {
            let error = it.error.unwrap();
            assert_eq!(error.condition.as_str(), "amqp:precondition-failed");
            assert_eq!(error.info.unwrap().get("delivery-tag"), Some(Value::Binary(b"its tag")));
        });
    });
}
