//! What the account of memory is charged for what a connection keeps of messages: those that wait for a discharge, and
//! parts of those that have not come, or cannot go, whole.

use leveret_broker::MemoryAccount;
use std::sync::Arc;

/// A charge, as long as it is there.
pub(super) struct Charge {
    account: Arc<MemoryAccount>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(account: Arc<MemoryAccount>, bytes: usize) -> Self {
        account.charge(bytes);
        Self { account, bytes }
    }

    /// From now on it is for so many bytes.
    pub(super) fn change(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.account.charge(more),
            None => self.account.release(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_has_what_is_charged_at_the_moment() {
        let account = Arc::new(MemoryAccount::new(100));
        let mut charge = Charge::new(account.clone(), 10);
        for bytes in [30, 30, 5] {
            charge.change(bytes);
            assert_eq!(account.bytes(), bytes as u64);
        }
        drop(charge);
        assert_eq!(account.bytes(), 0);
    }
}
