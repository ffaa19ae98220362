//! Answers of two versions to one message, to be compared: where it goes, not by which bindings.

use leveret_broker::{
    exchange::{Exchange, RouteSet},
    port::{Answer, Layer},
    queue::Queue,
};
use std::{fmt, sync::Arc};

/// How many destinations an answer shows in words.
const SHOWN_MAX: usize = 8;

/// An answer, as far as it decides where a message goes. Unlike [`Answer`] it can be sent to another
/// thread.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    /// To these.
    Deliver { queues: Vec<Arc<Queue>>, exchanges: Vec<Arc<Exchange>> },
    /// Nowhere, on purpose.
    Drop(Option<Arc<str>>),
    /// Not accepted.
    Reject(Arc<str>),
    /// As the types from that layer on decide, in so many milliseconds.
    Hold(u64, Layer),
    /// It could not be asked, or failed.
    Failed(String),
}

impl Given {
    /// To these destinations.
    pub(super) fn deliver(routes: &RouteSet) -> Self {
        let targets = routes.targets();
        Self::Deliver { queues: targets.queues.clone(), exchanges: targets.exchanges.clone() }
    }
}

impl From<&Answer> for Given {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Deliver(routes) => Self::deliver(routes),
            Answer::Drop(reason, _) => Self::Drop(reason.clone()),
            Answer::Reject(reason, _) => Self::Reject(reason.clone()),
            Answer::Hold(hold) => Self::Hold(hold.delay_ms, hold.resume),
            Answer::Effective(effective) => Self::from(&effective.answer),
            Answer::Failed(refusal) => Self::Failed(refusal.to_string()),
        }
    }
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Deliver { queues, exchanges }, Self::Deliver { queues: q, exchanges: e }) => {
                same(queues, q) && same(exchanges, e)
            }
            (Self::Drop(a), Self::Drop(b)) => a == b,
            (Self::Reject(a), Self::Reject(b)) => a == b,
            (Self::Hold(a, at), Self::Hold(b, bt)) => a == b && at == bt,
            (Self::Failed(_), Self::Failed(_)) => true,
            _ => false,
        }
    }
}

/// Whether two lists, in each of which each is once, have the same in any order.
fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b)) {
        return true;
    }
    let sorted = |list: &[Arc<T>]| {
        let mut addresses: Vec<*const T> = list.iter().map(Arc::as_ptr).collect();
        addresses.sort_unstable();
        addresses
    };
    sorted(a) == sorted(b)
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver { queues, exchanges } if queues.is_empty() && exchanges.is_empty() => {
                f.write_str("to no queue")
            }
            Self::Deliver { queues, exchanges } => {
                let queues = queues.iter().map(|queue| format!("queue {}", queue.name()));
                let exchanges = exchanges.iter().map(|exchange| format!("exchange {}", exchange.spec.name));
                let mut all: Vec<String> = queues.chain(exchanges).collect();
                all.sort();
                let (count, mut shown) = (all.len(), all);
                shown.truncate(SHOWN_MAX);
                write!(f, "to {}", shown.join(", "))?;
                match count.saturating_sub(SHOWN_MAX) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Drop(None) => f.write_str("drop"),
            Self::Drop(Some(reason)) => write!(f, "drop: {reason}"),
            Self::Reject(reason) => write!(f, "reject: {reason}"),
            Self::Hold(0, _) => f.write_str("delegate"),
            Self::Hold(delay_ms, _) => write!(f, "hold for {delay_ms} ms"),
            Self::Failed(what) => write!(f, "failed: {what}"),
        }
    }
}
