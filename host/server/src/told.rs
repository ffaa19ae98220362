//! What the store tells a connection of batches that it published: from the store's threads in, to the connection's out.

use crate::connection::ConnectionWake;
use leveret_broker::{
    port::Wake as _,
    store::{StoreFailure, Written},
};
use std::sync::{Arc, Mutex, PoisonError};

/// What was told and the connection did not look at yet.
pub(crate) struct Told {
    tokens: Mutex<Vec<(u64, bool)>>,
    connection: Arc<ConnectionWake>,
}

impl Told {
    /// For that connection, which is woken when there is something.
    pub(crate) fn new(connection: Arc<ConnectionWake>) -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::default(), connection })
    }

    /// The tokens of batches that were told since, and whether what they stand for is safe.
    pub(crate) fn take(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut *self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Written for Told {
    fn written(&self, token: u64, outcome: Result<(), StoreFailure>) {
        if let Err(failure) = &outcome {
            tracing::warn!("published messages are not confirmed: {failure}");
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push((token, outcome.is_ok()));
        drop(tokens);
        self.connection.wake();
    }
}
