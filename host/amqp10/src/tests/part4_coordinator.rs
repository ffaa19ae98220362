//! Part 4: the coordinator.

use super::{
    encoded, hex,
    peer::{Peer, sender},
};
use crate::{
    Condition, DecodeError,
    coordinator::{
        Ended, LinkId, Retired, TransactionError, TransactionId, TransactionLimits, Transactions, Verdict,
        presumptive, request,
    },
    message::Message,
    messaging::{Accepted, DeliveryState},
    performatives::{DeliveryTag, Transfer},
    transactions::{Declare, Declared, Discharge, Request, TransactionalState},
};
use alloc::{vec, vec::Vec};

const CONTROL: LinkId = LinkId { channel: 0, handle: 0 };
const OTHER_CONTROL: LinkId = LinkId { channel: 0, handle: 1 };
/// The session of what is received.
const RECEIVING: u16 = 1;
const LIMITS: TransactionLimits =
    TransactionLimits { transactions_max: 3, work_max: 4, bytes_max: 100, time_out_ms: 1000 };

type Ours = Transactions<&'static str, char>;
type Over = Ended<&'static str, char>;

fn transactions() -> Ours {
    Transactions::new(LIMITS)
}

fn declared(ours: &mut Ours) -> TransactionId {
    ours.declare(CONTROL, false, 0).unwrap()
}

fn retired(delivery_id: u32, outcome: char) -> Retired<char> {
    Retired { channel: RECEIVING, delivery_id, outcome }
}

fn discharge(ours: &mut Ours, id: TransactionId, fail: bool) -> Result<Over, TransactionError> {
    ours.discharge(CONTROL, &Discharge { txn_id: id.as_bytes(), fail: Some(fail) }, false)
}

fn refused(id: TransactionId, why: TransactionError) -> Over {
    Ended { id, posted: Vec::new(), retired: Vec::new(), acquired: Vec::new(), verdict: Verdict::Refuse(why) }
}

// 4.2 Declaring a transaction

#[test]
fn each_transaction_has_an_identifier_of_its_own() {
    let mut ours = transactions();
    let (a, b) = (declared(&mut ours), declared(&mut ours));
    assert_ne!(a, b);
    assert_eq!((ours.find(a.as_bytes()), ours.len()), (Ok(a), 2));
    let state = Declared { txn_id: a.as_bytes() };
    assert_eq!(encoded(&state), hex("00 53 33 c0 0b 01 a0 08 0000000000000001"));
    // One that is over is not known again by another.
    discharge(&mut ours, a, false).unwrap();
    assert_eq!(ours.find(a.as_bytes()), Err(TransactionError::UnknownId));
    assert!(!(0..2).any(|_| declared(&mut ours) == a));
}

#[test]
fn there_are_only_so_many_transactions_and_none_of_several_resources() {
    let mut ours = transactions();
    let ids: Vec<_> = (0..3).map(|_| declared(&mut ours)).collect();
    assert_eq!(ours.declare(CONTROL, false, 0), Err(TransactionError::TooMany));
    discharge(&mut ours, ids[1], true).unwrap();
    assert_eq!(ours.declare(CONTROL, true, 0), Err(TransactionError::Distributed));
    assert!(ours.declare(CONTROL, false, 0).is_ok());
    assert_eq!(TransactionError::TooMany.condition(), Condition::ResourceLimitExceeded);
    assert_eq!(TransactionError::Distributed.condition(), Condition::NotImplemented);
}

#[test]
fn a_request_is_the_one_value_of_a_message() {
    let declare = [hex("00 53 77"), encoded(&Declare::default())].concat();
    let message = Message::new(&declare).unwrap();
    assert_eq!(request(&message), Ok(Request::Declare(Declare::default())));
    let discharge = Discharge { txn_id: b"t", fail: Some(true) };
    let bytes = [hex("00 53 77"), encoded(&discharge)].concat();
    assert_eq!(request(&Message::new(&bytes).unwrap()), Ok(Request::Discharge(discharge)));
    for bytes in ["", "00 53 75 a0 00", "00 53 76 45"] {
        let bytes = hex(bytes);
        let error = DecodeError::Content("a request to the coordinator");
        assert_eq!(request(&Message::new(&bytes).unwrap()), Err(error));
    }
}

/// "If the control link is closed while there exist non-discharged transactions it created, then all such transactions
/// are immediately rolled back, and attempts to perform further transactional work on them will lead to failure."
#[test]
fn the_end_of_a_control_link_rolls_back() {
    let mut ours = transactions();
    let (a, b) = (declared(&mut ours), declared(&mut ours));
    let other = ours.declare(OTHER_CONTROL, false, 0).unwrap();
    ours.post(a.as_bytes(), 1, "m").unwrap();
    ours.retire(a.as_bytes(), retired(5, 'r')).unwrap();
    ours.post(other.as_bytes(), 1, "n").unwrap();
    let expected = [
        Ended {
            id: a,
            posted: vec!["m"],
            retired: vec![retired(5, 'r')],
            acquired: vec![],
            verdict: Verdict::RollBack,
        },
        Ended { id: b, posted: vec![], retired: vec![], acquired: vec![], verdict: Verdict::RollBack },
    ];
    assert_eq!(ours.link_ended(CONTROL), expected);
    assert_eq!(ours.post(a.as_bytes(), 1, "m"), Err(TransactionError::UnknownId));
    assert_eq!(ours.of_delivery(1, 5), None);
    assert_eq!((ours.find(other.as_bytes()), ours.len()), (Ok(other), 1));
    assert_eq!(ours.session_ended(0).len(), 1);
    assert!(ours.is_empty());
}

// 4.3 Discharging a transaction

#[test]
fn a_discharge_gives_all_that_was_done_in_its_order() {
    for (fail, verdict) in
        [(Some(false), Verdict::Commit), (None, Verdict::Commit), (Some(true), Verdict::RollBack)]
    {
        let mut ours = transactions();
        let (id, other) = (declared(&mut ours), declared(&mut ours));
        ours.post(id.as_bytes(), 10, "first").unwrap();
        ours.post(other.as_bytes(), 10, "of another").unwrap();
        ours.retire(id.as_bytes(), retired(9, 'a')).unwrap();
        ours.retire(id.as_bytes(), retired(4, 'b')).unwrap();
        ours.post(id.as_bytes(), 10, "second").unwrap();
        let ended = ours.discharge(CONTROL, &Discharge { txn_id: id.as_bytes(), fail }, false);
        let (posted, retired) = (vec!["first", "second"], vec![retired(4, 'b'), retired(9, 'a')]);
        assert_eq!(ended, Ok(Ended { id, posted, retired, acquired: vec![], verdict }));
        assert_eq!(discharge(&mut ours, id, false), Err(TransactionError::UnknownId));
        assert_eq!(discharge(&mut ours, other, false).unwrap().posted, ["of another"]);
    }
}

#[test]
fn nobody_discharges_what_is_not_there_or_not_theirs() {
    let mut ours = transactions();
    let id = declared(&mut ours);
    for txn_id in [&b""[..], b"1", &[0; 8], &[0, 0, 0, 0, 0, 0, 0, 1, 0]] {
        let unknown = ours.discharge(CONTROL, &Discharge { txn_id, fail: None }, false);
        assert_eq!(unknown, Err(TransactionError::UnknownId));
        assert_eq!(ours.post(txn_id, 0, "m"), Err(TransactionError::UnknownId));
        assert_eq!(ours.retire(txn_id, retired(1, 'a')), Err(TransactionError::UnknownId));
    }
    let of_another = ours.discharge(OTHER_CONTROL, &Discharge { txn_id: id.as_bytes(), fail: None }, false);
    assert_eq!(of_another, Err(TransactionError::UnknownId));
    assert_eq!(TransactionError::UnknownId.condition(), Condition::TransactionUnknownId);
    assert!(discharge(&mut ours, id, false).is_ok());
}

#[test]
fn what_is_doomed_is_given_up_at_once_and_refused_at_its_discharge() {
    let mut ours = transactions();
    let id = declared(&mut ours);
    ours.post(id.as_bytes(), 60, "m").unwrap();
    ours.retire(id.as_bytes(), retired(1, 'a')).unwrap();
    let ended = ours.doom(id.as_bytes(), TransactionError::TooMuch).unwrap();
    let verdict = Verdict::Refuse(TransactionError::TooMuch);
    assert_eq!(
        ended,
        Ended { id, posted: vec!["m"], retired: vec![retired(1, 'a')], acquired: vec![], verdict }
    );
    assert_eq!(ours.doom(id.as_bytes(), TransactionError::TimeOut), None);
    assert_eq!(ours.post(id.as_bytes(), 1, "m"), Err(TransactionError::TooMuch));
    // Its delivery and its bytes are free for others.
    let other = declared(&mut ours);
    assert_eq!(ours.retire(other.as_bytes(), retired(1, 'a')), Ok(other));
    assert_eq!(ours.post(other.as_bytes(), 100, "m"), Ok(other));
    assert_eq!(discharge(&mut ours, id, false), Ok(refused(id, TransactionError::TooMuch)));
    assert_eq!(discharge(&mut ours, id, false), Err(TransactionError::UnknownId));
    assert_eq!(TransactionError::TooMuch.condition(), Condition::TransactionRollback);
    // Who wants it rolled back gets that.
    let id = declared(&mut ours);
    ours.doom(id.as_bytes(), TransactionError::TooMuch).unwrap();
    assert_eq!(discharge(&mut ours, id, true).unwrap().verdict, Verdict::RollBack);
}

#[test]
fn a_transaction_takes_only_so_long() {
    let mut ours = transactions();
    let early = ours.declare(CONTROL, false, 0).unwrap();
    let late = ours.declare(CONTROL, false, 500).unwrap();
    ours.post(early.as_bytes(), 1, "m").unwrap();
    assert_eq!(ours.next_deadline_ms(), Some(1000));
    assert_eq!(ours.time_out(999), []);
    let ended = ours.time_out(1000);
    assert_eq!(
        ended.iter().map(|ended| (ended.id, &ended.posted[..])).collect::<Vec<_>>(),
        [(early, &["m"][..])]
    );
    assert_eq!(ours.next_deadline_ms(), Some(1500));
    assert_eq!(ours.post(early.as_bytes(), 1, "m"), Err(TransactionError::TimeOut));
    assert_eq!(discharge(&mut ours, early, false), Ok(refused(early, TransactionError::TimeOut)));
    assert_eq!(discharge(&mut ours, late, false).unwrap().verdict, Verdict::Commit);
    assert_eq!((ours.next_deadline_ms(), ours.time_out(u64::MAX)), (None, vec![]));
    assert_eq!(TransactionError::TimeOut.condition(), Condition::TransactionTimeout);
}

// 4.4.1 Transactional posting

#[test]
fn a_transaction_has_only_so_much_in_it() {
    let mut ours = transactions();
    let (a, b) = (declared(&mut ours), declared(&mut ours));
    // Bytes are counted over all of them.
    ours.post(a.as_bytes(), 60, "m").unwrap();
    assert_eq!(ours.post(b.as_bytes(), 41, "n"), Err(TransactionError::TooMuch));
    assert_eq!(ours.post(b.as_bytes(), 40, "n"), Ok(b));
    assert_eq!(ours.post(b.as_bytes(), usize::MAX, "n"), Err(TransactionError::TooMuch));
    discharge(&mut ours, a, false).unwrap();
    assert_eq!(ours.post(b.as_bytes(), 60, "n"), Ok(b));
    // Deliveries and outcomes in each.
    ours.retire(b.as_bytes(), retired(1, 'a')).unwrap();
    ours.retire(b.as_bytes(), retired(2, 'a')).unwrap();
    assert_eq!(ours.post(b.as_bytes(), 0, "n"), Err(TransactionError::TooMuch));
    assert_eq!(ours.retire(b.as_bytes(), retired(3, 'a')), Err(TransactionError::TooMuch));
    assert_eq!(ours.of_delivery(1, 3), None);
    assert_eq!(ours.retire(b.as_bytes(), retired(2, 'b')), Ok(b), "that one has its place");
    assert_eq!(discharge(&mut ours, b, false).unwrap().retired, [retired(1, 'a'), retired(2, 'b')]);
}

#[test]
fn what_outcomes_take_is_counted_too() {
    let mut ours = transactions();
    let (a, b) = (declared(&mut ours), declared(&mut ours));
    ours.post(a.as_bytes(), 60, "m").unwrap();
    assert_eq!(ours.charge(b.as_bytes(), 41), Err(TransactionError::TooMuch));
    assert_eq!(ours.charge(b.as_bytes(), 40), Ok(()));
    assert_eq!(ours.charge(b"unknown", 0), Err(TransactionError::UnknownId));
    assert_eq!(ours.post(a.as_bytes(), 1, "m"), Err(TransactionError::TooMuch));
    discharge(&mut ours, b, false).unwrap();
    assert_eq!(ours.post(a.as_bytes(), 40, "m"), Ok(a));
}

/// "It is an error for the controller to attempt to discharge a transaction against which a partial delivery has been
/// posted. If this happens, the control link MUST be terminated with the transaction-rollback error."
#[test]
fn a_delivery_in_parts_must_be_whole_before_the_end() {
    for fail in [false, true] {
        let mut ours = transactions();
        let id = declared(&mut ours);
        ours.post(id.as_bytes(), 1, "m").unwrap();
        let ended =
            ours.discharge(CONTROL, &Discharge { txn_id: id.as_bytes(), fail: Some(fail) }, true).unwrap();
        assert_eq!((ended.posted, ended.verdict), (vec!["m"], Verdict::Refuse(TransactionError::Partial)));
        assert!(ours.is_empty());
    }
    assert_eq!(TransactionError::Partial.condition(), Condition::TransactionRollback);
}

/// "if delivery is split across several transfer frames then all frames MUST be explicitly associated with the same
/// transaction"
#[test]
fn all_transfers_of_a_delivery_name_its_transaction() {
    fn transfer(txn_id: Option<&[u8]>) -> Transfer<'_> {
        let state = txn_id.map(|txn_id| TransactionalState { txn_id, outcome: None }.into());
        Transfer { handle: 0, state, ..Transfer::default() }
    }
    let first = |txn_id| Transfer {
        delivery_id: Some(0),
        delivery_tag: DeliveryTag::new(b"tag"),
        more: true,
        ..transfer(txn_id)
    };
    let refused = "detach 1/0 closed amqp:invalid-field";
    for (first_id, next_id, expected) in [
        (Some(&b"t"[..]), Some(&b"t"[..]), None),
        (None, None, None),
        (Some(b"t"), Some(b"u"), Some(refused)),
        (Some(b"t"), None, Some(refused)),
        (None, Some(b"t"), Some(refused)),
    ] {
        let mut peer = Peer::with_link(&sender(0, "out"));
        peer.connection.grant(1, 0, 1);
        peer.said();
        peer.transfer(1, &first(first_id), b"a");
        assert_eq!(peer.connection.has_partial(b"t"), first_id == Some(b"t"));
        assert!(!peer.connection.has_partial(b"u"));
        peer.transfer(1, &transfer(next_id), b"b");
        assert!(!peer.connection.has_partial(b"t"));
        assert_eq!(peer.said().first().map(|said| said.as_str()), expected, "{first_id:?} {next_id:?}");
    }
    // One that is aborted need not.
    let mut peer = Peer::with_link(&sender(0, "out"));
    peer.connection.grant(1, 0, 1);
    peer.said();
    peer.transfer(1, &first(Some(b"t")), b"a");
    peer.transfer(1, &Transfer { aborted: true, ..transfer(None) }, b"");
    assert_eq!(peer.said(), [""; 0]);
    assert!(!peer.connection.has_partial(b"t"));
}

/// "the resource MUST send a disposition performative which covers the posted transfer with the state of the delivery
/// being a transactional-state with the correct transaction identified, and a terminal outcome"
#[test]
fn a_delivery_has_a_presumptive_outcome() {
    let mut ours = transactions();
    let id = declared(&mut ours);
    let state = presumptive(&id, Accepted {}.into());
    assert_eq!(encoded(&state), hex("00 53 34 c0 0f 02 a0 08 0000000000000001 00 53 24 45"));
    assert_eq!(DeliveryState::from(state).outcome(), None, "it is none yet");
}

// 4.4.2 Transactional retirement

#[test]
fn a_delivery_has_its_outcome_in_one_transaction() {
    let mut ours = transactions();
    let (a, b) = (declared(&mut ours), declared(&mut ours));
    ours.retire(a.as_bytes(), retired(5, 'a')).unwrap();
    assert_eq!(ours.of_delivery(1, 5), Some(a));
    assert_eq!(ours.retire(b.as_bytes(), retired(5, 'b')), Err(TransactionError::OtherTransaction));
    assert_eq!(TransactionError::OtherTransaction.condition(), Condition::IllegalState);
    // The same number in another session is another delivery.
    let elsewhere = Retired { channel: 2, ..retired(5, 'c') };
    assert_eq!(ours.retire(b.as_bytes(), elsewhere.clone()), Ok(b));
    assert_eq!(discharge(&mut ours, a, true).unwrap().retired, [retired(5, 'a')]);
    assert_eq!(ours.retire(b.as_bytes(), retired(5, 'b')), Ok(b));
    assert_eq!(discharge(&mut ours, b, false).unwrap().retired, [retired(5, 'b'), elsewhere]);
}

/// Deliveries are of their session: the end of their link changes nothing.
#[test]
fn the_end_of_a_session_dooms_the_outcomes_of_its_deliveries() {
    let mut ours = transactions();
    let (a, b) = (declared(&mut ours), declared(&mut ours));
    ours.retire(a.as_bytes(), retired(5, 'a')).unwrap();
    ours.post(b.as_bytes(), 1, "stays").unwrap();
    assert_eq!(ours.link_ended(LinkId { channel: RECEIVING, handle: 0 }), []);
    let ended = ours.session_ended(RECEIVING);
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].id, &ended[0].retired[..]), (a, &[retired(5, 'a')][..]));
    assert_eq!(ours.session_ended(RECEIVING), []);
    assert_eq!(discharge(&mut ours, a, false), Ok(refused(a, TransactionError::SessionEnded)));
    assert_eq!(discharge(&mut ours, b, false).unwrap().verdict, Verdict::Commit);
}

// 4.4.3 Transactional acquisition

#[test]
fn what_was_acquired_is_told_at_the_end_but_of_sessions_that_ended() {
    let mut ours = transactions();
    for (fail, verdict) in [(false, Verdict::Commit), (true, Verdict::RollBack)] {
        let id = declared(&mut ours);
        for delivery in [(5, 2), (4, 9), (5, 1)] {
            assert_eq!(ours.acquire(id, delivery), Ok(()));
        }
        assert_eq!(ours.session_ended(4), []);
        let ended = discharge(&mut ours, id, fail).unwrap();
        assert_eq!((ended.acquired, ended.verdict), (vec![(5, 1), (5, 2)], verdict));
        assert_eq!(ours.acquire(id, (5, 3)), Err(TransactionError::UnknownId));
    }
    // It is a part of what there may be in one.
    let id = declared(&mut ours);
    (0..4).for_each(|delivery| ours.acquire(id, (5, delivery)).unwrap());
    assert_eq!(ours.acquire(id, (5, 4)), Err(TransactionError::TooMuch));
    let doomed = ours.doom(id.as_bytes(), TransactionError::TooMuch).unwrap();
    assert_eq!(doomed.acquired.len(), 4);
    assert_eq!(ours.acquire(id, (5, 4)), Err(TransactionError::TooMuch));
}
