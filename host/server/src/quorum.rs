//! Quorum queues without replication: whether they may be declared, and that it is said what they are not.

use crate::config::QuorumQueues;
use leveret_broker::{QueueSettings, queue::QueueKind};
use leveret_model::{Name, Refusal, Table};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the configuration says of them.
#[derive(Debug, Default)]
pub struct QuorumRule {
    wanted: QuorumQueues,
    /// The log says that there is no replication.
    warned: AtomicBool,
}

impl QuorumRule {
    /// Of a configuration.
    #[must_use]
    pub fn of(wanted: QuorumQueues) -> Self {
        Self { wanted, warned: AtomicBool::new(false) }
    }

    /// Whether a queue with these arguments may be declared that is not there yet.
    ///
    /// # Errors
    /// It is a quorum queue, and there are to be none.
    pub fn check(&self, queue: &Name, vhost: &Name, arguments: &Table) -> Result<(), Refusal> {
        if QueueSettings::of(arguments).kind != QueueKind::Quorum {
            return Ok(());
        }
        match self.wanted {
            QuorumQueues::AcceptSingle => {
                self.warn();
                Ok(())
            }
            QuorumQueues::Refuse => {
                let text = format!(
                    "invalid arg 'x-queue-type' for queue '{queue}' in vhost '{vhost}': there is no \
                     replication, and the configuration refuses quorum queues without it"
                );
                Err(Refusal::InvalidArgument { text })
            }
        }
    }

    /// Says in the log that there is no replication, once.
    pub fn warn(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "there are quorum queues, and there is no replication yet: each has one replica, and what is in it \
                 is lost with this node's disk (quorum = \"refuse\" in the configuration refuses them)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::Value;

    #[test]
    fn quorum_queues_alone_are_refused_where_that_is_wanted() {
        let of = |kind: &str| -> Table {
            [(Name::from_static("x-queue-type"), Value::Text(kind.into()))].into_iter().collect()
        };
        let (queue, vhost) = (Name::from_static("q"), Name::from_static("/"));
        let check = |wanted, arguments: &Table| QuorumRule::of(wanted).check(&queue, &vhost, arguments);
        for arguments in [of("quorum"), of("classic"), Table::new()] {
            assert_eq!(check(QuorumQueues::AcceptSingle, &arguments), Ok(()));
        }
        assert_eq!(check(QuorumQueues::Refuse, &of("classic")), Ok(()));
        assert_eq!(check(QuorumQueues::Refuse, &Table::new()), Ok(()));
        let refused = check(QuorumQueues::Refuse, &of("quorum")).unwrap_err().to_string();
        assert!(refused.starts_with("invalid arg 'x-queue-type' for queue 'q' in vhost '/': "), "{refused}");
    }
}
