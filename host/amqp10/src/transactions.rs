//! Transactions (section 4.5).

use crate::{
    composite::{
        Symbols,
        table::{composite, one_of},
    },
    descriptor,
    messaging::{Outcome, Target},
    types::{DecodeError, Reader, Symbol},
};

/// Transactions of one resource (section 4.5.7).
pub const LOCAL_TRANSACTIONS: Symbol<'static> = Symbol::from_static("amqp:local-transactions");
/// Transactions of several resources.
pub const DISTRIBUTED_TRANSACTIONS: Symbol<'static> = Symbol::from_static("amqp:distributed-transactions");
/// Local ones that may become distributed ones.
pub const PROMOTABLE_TRANSACTIONS: Symbol<'static> = Symbol::from_static("amqp:promotable-transactions");
/// Several of them at a time in a session.
pub const MULTI_TXNS_PER_SSN: Symbol<'static> = Symbol::from_static("amqp:multi-txns-per-ssn");
/// One of them in several sessions.
pub const MULTI_SSNS_PER_TXN: Symbol<'static> = Symbol::from_static("amqp:multi-ssns-per-txn");
/// The property of a flow that names the transaction of what is sent from then on (section 4.4.3).
pub const TXN_ID: Symbol<'static> = Symbol::from_static("txn-id");

composite! {
    /// The target of a link that controls transactions (4.5.1).
    Coordinator<'a> = descriptor::COORDINATOR {
        /// What transactions can do.
        capabilities: Symbols<'a>, default(Symbols::None);
    }

    /// Asks for a transaction (4.5.2).
    Declare<'a> = descriptor::DECLARE {
        /// Of a distributed transaction, its name.
        global_id: crate::types::Value<'a>, optional;
    }

    /// Ends a transaction (4.5.3).
    Discharge<'a> = descriptor::DISCHARGE {
        /// The transaction.
        txn_id: &'a [u8], mandatory;
        /// Whether it is rolled back; absent is no.
        fail: bool, optional;
    }

    /// A transaction was declared (4.5.5).
    Declared<'a> = descriptor::DECLARED {
        /// The transaction.
        txn_id: &'a [u8], mandatory;
    }

    /// A delivery is part of a transaction (4.5.6).
    TransactionalState<'a> = descriptor::TRANSACTIONAL_STATE {
        /// The transaction.
        txn_id: &'a [u8], mandatory;
        /// What becomes of the delivery when it is committed.
        outcome: Outcome<'a>, optional;
    }
}

one_of! {
    /// Where the messages of a link go.
    AnyTarget<'a> {
        /// To a node.
        Node(Target<'a>),
        /// To the coordinator of transactions.
        Coordinator(Coordinator<'a>),
    }

    /// What is said to a coordinator, as the amqp-value of a message.
    Request<'a> {
        /// Declare a transaction.
        Declare(Declare<'a>),
        /// End one.
        Discharge(Discharge<'a>),
    }
}

impl<'a> Request<'a> {
    /// Of the content of an amqp-value section, all of it.
    ///
    /// # Errors
    /// If it is neither.
    pub fn from_content(content: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(content);
        let request = Self::decode(&mut reader)?;
        if reader.is_empty() { Ok(request) } else { Err(DecodeError::Trailing(request.name())) }
    }
}
