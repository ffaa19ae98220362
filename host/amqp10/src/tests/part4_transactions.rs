//! Part 4: transactions.

use super::{decode, described, encoded, hex, is};
use crate::{
    composite::Symbols,
    descriptor,
    messaging::{Accepted, Modified},
    transactions::{
        AnyTarget, Coordinator, DISTRIBUTED_TRANSACTIONS, Declare, Declared, Discharge, LOCAL_TRANSACTIONS,
        MULTI_SSNS_PER_TXN, MULTI_TXNS_PER_SSN, PROMOTABLE_TRANSACTIONS, Request, TransactionalState,
    },
    types::{DecodeError, ListBuilder, Reader},
};

// 4.5.1 Coordinator, 4.5.7 Transaction capability

#[test]
fn a_coordinator_is_a_target() {
    let capabilities = [
        LOCAL_TRANSACTIONS,
        DISTRIBUTED_TRANSACTIONS,
        PROMOTABLE_TRANSACTIONS,
        MULTI_TXNS_PER_SSN,
        MULTI_SSNS_PER_TXN,
    ];
    let coordinator = Coordinator { capabilities: Symbols::Slice(&capabilities) };
    let bytes = encoded(&coordinator);
    assert_eq!(AnyTarget::decode(&mut Reader::new(&bytes)), Ok(AnyTarget::Coordinator(coordinator)));
    is(&Coordinator::default(), &hex("00 53 30 45"));
}

// 4.5.2 Declare, 4.5.3 Discharge

#[test]
fn a_request_is_a_declare_or_a_discharge() {
    is(&Declare::default(), &hex("00 53 31 45"));
    is(&Discharge { txn_id: b"t", fail: Some(true) }, &hex("00 53 32 c0 05 02 a0 01 74 41"));
    is(&Discharge { txn_id: b"t", fail: None }, &hex("00 53 32 c0 04 01 a0 01 74"));
    assert_eq!(Request::from_content(&hex("00 53 31 45")), Ok(Request::Declare(Declare::default())));
    let discharge = Discharge { txn_id: b"t", fail: Some(false) };
    assert_eq!(Request::from_content(&hex("00 53 32 c0 05 02 a0 01 74 42")), Ok(discharge.into()));
    assert_eq!(
        Request::from_content(&hex("00 53 31 45 40")),
        Err(DecodeError::Trailing("amqp:declare:list"))
    );
    assert_eq!(Request::from_content(&hex("00 53 24 45")), Err(DecodeError::Descriptor(0x24)));
    assert_eq!(Request::from_content(&hex("40")), Err(DecodeError::NotDescribed));
    let error = DecodeError::Missing { composite: "amqp:discharge:list", field: "txn_id" };
    assert_eq!(Request::from_content(&hex("00 53 32 45")), Err(error));
}

// 4.5.5 Declared, 4.5.6 Transactional state

#[test]
fn states_name_their_transaction() {
    is(&Declared { txn_id: &[1, 2] }, &hex("00 53 33 c0 05 01 a0 02 01 02"));
    let state = TransactionalState { txn_id: &[1], outcome: Some(Accepted {}.into()) };
    is(&state, &hex("00 53 34 c0 08 02 a0 01 01 00 53 24 45"));
    let modified = Modified { delivery_failed: Some(true), ..Modified::default() };
    let state = TransactionalState { txn_id: &[1], outcome: Some(modified.into()) };
    assert_eq!(decode(&encoded(&state)), Ok(state));
    let bytes = described(descriptor::TRANSACTIONAL_STATE, &ListBuilder::new());
    let error = DecodeError::Missing { composite: "amqp:transactional-state:list", field: "txn_id" };
    assert_eq!(decode::<TransactionalState<'_>>(&bytes), Err(error));
}
