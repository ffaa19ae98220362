//! What came of the messages that met an attachment, over all workers.

use leveret_broker::port::{Intercepted, Ruling};
use std::sync::atomic::{AtomicU64, Ordering};

/// What came of the messages that met an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachmentUse {
    /// Messages answered from memory.
    pub remembered: u64,
    /// Messages that the plugin was asked about.
    pub asked: u64,
    /// Calls for them.
    pub calls: u64,
    /// Messages that met the failure policy.
    pub failed: u64,
    /// Messages that were changed.
    pub changed: u64,
    /// Messages that were dropped.
    pub dropped: u64,
    /// Messages that were not accepted, by the interceptor or by the failure policy.
    pub rejected: u64,
}

/// Counts them: a few additions for each batch that meets the attachment.
#[derive(Debug, Default)]
pub(crate) struct AttachmentCounts([AtomicU64; 7]);

impl AttachmentCounts {
    /// These messages were answered, from memory or not, with these rulings.
    pub(crate) fn add(&self, mut more: AttachmentUse, rulings: &[Ruling]) {
        for ruling in rulings {
            match ruling {
                Ruling::Said(Intercepted::Patch(_), _) => more.changed += 1,
                Ruling::Said(Intercepted::Drop, _) => more.dropped += 1,
                Ruling::Said(Intercepted::Reject(_), _) => more.rejected += 1,
                Ruling::Said(Intercepted::Continue, _) | Ruling::Unroutable | Ruling::Unavailable(_) => {}
            }
        }
        let AttachmentUse { remembered, asked, calls, failed, changed, dropped, rejected } = more;
        let all = [remembered, asked, calls, failed, changed, dropped, rejected];
        for (count, more) in self.0.iter().zip(all).filter(|(_, more)| *more > 0) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What was counted until now.
    pub(crate) fn read(&self) -> AttachmentUse {
        let [remembered, asked, calls, failed, changed, dropped, rejected] =
            self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        AttachmentUse { remembered, asked, calls, failed, changed, dropped, rejected }
    }
}
