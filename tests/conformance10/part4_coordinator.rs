//! Part 4, 4.2 and 4.3: how a request to the coordinator is refused.

use super::{
    Peer,
    part2_transport::transfer,
    part4_transactions::request,
    peer::{awaited, sender, target},
    with_bystander,
};
use leveret_amqp10::{
    Condition, Performative,
    composite::Symbols,
    messaging::{DeliveryState, Rejected, Source},
    performatives::{Attach, Detach, Flow, Transfer},
    transactions::{AnyTarget, Coordinator, Declare, Discharge},
    types::Symbol,
};

/// A request that cannot be is rejected where the source of its link has that outcome; else its link ends, with the same
/// error, and the transactions that it controls are rolled back.
#[test]
fn a_request_is_refused_by_an_outcome_of_its_source_or_by_the_end_of_its_link() {
    const ACCEPTED: &str = "amqp:accepted:list";
    const DECLARED: &str = "amqp:declared:list";
    const REJECTED: &str = "amqp:rejected:list";
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let cases =
            [(&[][..], false), (&[ACCEPTED, DECLARED, REJECTED], false), (&[ACCEPTED, DECLARED], true)];
        for (first, (names, ends)) in (0..).step_by(10).zip(cases) {
            let outcomes: Vec<_> = names.iter().map(|name| Symbol::from_static(name)).collect();
            let from = Source { outcomes: Symbols::Slice(&outcomes), ..Source::default() };
            let to = Some(AnyTarget::Coordinator(Coordinator::default()));
            let attach = Attach { source: Some(from), target: to, ..sender(0, "coordinator", target("")) };
            peer.say(0, &attach);
            awaited!(peer, Attach);
            awaited!(peer, Flow, it => assert!(it.link_credit > Some(0)));
            peer.transfer(0, &transfer(0, first, b"0"), &request(&Declare::default()));
            let txn_id = awaited!(peer, Disposition, it => match it.state {
                Some(DeliveryState::Declared(declared)) => declared.txn_id.to_vec(),
                other => panic!("{other:?}"),
            });
            let other = Discharge { txn_id: b"another", fail: None };
            peer.transfer(0, &transfer(0, first + 1, b"1"), &request(&other));
            let condition = match peer.frame().read().0 {
                Performative::Disposition(it) => match it.state {
                    Some(DeliveryState::Rejected(Rejected { error: Some(error) })) if !ends => {
                        error.condition.to_string()
                    }
                    other => panic!("{other:?}"),
                },
                Performative::Detach(it) if ends && it.closed => it.error.unwrap().condition.to_string(),
                other => panic!("{other:?}"),
            };
            assert_eq!(condition, "amqp:transaction:unknown-id");
            if !ends {
                let rolled_back = Discharge { txn_id: &txn_id, fail: Some(true) };
                peer.transfer(0, &transfer(0, first + 2, b"2"), &request(&rolled_back));
                awaited!(peer, Disposition, it => assert!(matches!(it.state, Some(DeliveryState::Accepted(_)))));
            }
            peer.say(0, &Detach { handle: 0, closed: true, error: None });
            if !ends {
                awaited!(peer, Detach);
            }
            let echo =
                Flow { echo: true, next_incoming_id: Some(0), incoming_window: 1000, ..Flow::default() };
            peer.say(0, &echo);
            awaited!(peer, Flow);
        }
    });
}

/// 4.2 and 4.3: neither request is to be sent settled, since who asks has to hear of the outcome: its link ends, and with it
/// its transactions. 2.8.15: what cannot be decoded is called so.
#[test]
fn a_request_that_is_settled_ends_its_link_and_one_that_is_no_message_is_rejected() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let to = Some(AnyTarget::Coordinator(Coordinator::default()));
        let attach = Attach { target: to, ..sender(0, "coordinator", target("")) };
        let settled = |id| Transfer { settled: Some(true), ..transfer(0, id, b"settled") };
        let discharge = request(&Discharge { txn_id: b"another", fail: Some(true) });
        for (first, asked) in (0..).step_by(10).zip([request(&Declare::default()), discharge]) {
            peer.say(0, &attach);
            awaited!(peer, Attach);
            awaited!(peer, Flow);
            for (id, junk) in (first..).zip([&b"junk"[..], b"\x00\x53\x77"]) {
                peer.transfer(0, &transfer(0, id, b"junk"), junk);
                awaited!(peer, Disposition, it => match it.state {
                    Some(DeliveryState::Rejected(Rejected { error: Some(error) })) => {
                        assert_eq!(error.condition, Condition::DecodeError.symbol());
                    }
                    other => panic!("{other:?}"),
                });
            }
            peer.transfer(0, &settled(first + 2), &asked);
            awaited!(peer, Detach, it => {
                assert!(it.closed);
                assert_eq!(it.error.unwrap().condition, Condition::InvalidField.symbol());
            });
            peer.say(0, &Detach { handle: 0, closed: true, error: None });
        }
    });
}
