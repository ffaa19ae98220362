//! The attachments of interceptors that an instance serves. They have no generations: what is
//! attached does not change while the broker runs.

use super::{Replica, check_reads};
use crate::{
    attachment::Attachment,
    capability::{Call, Outcome, Purpose},
    guest::{Attaching, GuestFailure, Refused, Verdicts, check_arguments},
    state::{Cell, Owner},
};
use leveret_broker::port::Layer;
use leveret_model::{OwnedMessage, Reads};
use std::{sync::Arc, time::Duration};

/// How many messages an interceptor is asked about in one call.
const MESSAGES_PER_CALL_MAX: usize = 256;

/// An attachment in an instance.
pub(super) struct Attached {
    guest_id: u32,
    reads: Arc<Reads>,
    /// The state, where the plugin imports anything.
    cell: Option<Arc<Cell>>,
}

impl Replica {
    /// Attaches an interceptor, unless it is attached already.
    pub(crate) fn attach(&mut self, attachment: &Attachment) -> Result<(), Refused> {
        if self.attached.contains_key(&attachment.id) {
            return Ok(());
        }
        let rule = &attachment.rule;
        let refused = |text: String| Err(Refused::ByPlugin(text));
        let Some(described) = self.version.describes_interceptor(&rule.interceptor) else {
            return refused(format!("the plugin has no interceptor '{}'", rule.interceptor));
        };
        if !described.points.contains(&rule.point) {
            return refused(format!("it cannot be attached on {}", rule.point));
        }
        check_arguments(&rule.arguments, &described.arguments).map_err(Refused::ByPlugin)?;
        let has_state = self.version.code.has_capabilities();
        let cell = has_state.then(|| self.services.cells.of(Owner::Attachment(attachment.id)));
        let guest_id = self.take_id();
        self.instance.begin_call(cell.as_ref().map(|cell| call(cell, Purpose::Setup, None)));
        let attaching = Attaching {
            interceptor: &rule.interceptor,
            point: rule.point,
            vhost: &attachment.vhost,
            arguments: &rule.arguments,
        };
        let reads = match self.instance.attach(guest_id, attaching) {
            Ok(reads) => reads,
            Err(refused) => {
                self.free_ids.push(guest_id);
                return Err(refused);
            }
        };
        check_reads(&reads, self.version.policy(&attachment.vhost).grants)?;
        self.attached.insert(attachment.id, Attached { guest_id, reads: Arc::new(reads), cell });
        Ok(())
    }

    /// What an attachment reads, if it is there.
    pub(crate) fn attached_reads(&self, attachment: u64) -> Option<&Arc<Reads>> {
        self.attached.get(&attachment).map(|attached| &attached.reads)
    }

    /// How many messages [`Self::intercept`] takes at most.
    pub(crate) fn verdicts_per_call_max(&self) -> usize {
        let many = self.instance.has_intercept_batch() && !self.version.code.exported.has_effects;
        if many { MESSAGES_PER_CALL_MAX } else { 1 }
    }

    /// Asks for verdicts: `projections` back to back, each after its length (4 bytes). The call is cut off
    /// where it does not end `within` a time.
    pub(crate) fn intercept(
        &mut self,
        attachment: &Attachment,
        on_hand: Option<&Arc<OwnedMessage>>,
        projections: &[u8],
        count: usize,
        within: Option<Duration>,
    ) -> Result<(Verdicts, Outcome), GuestFailure> {
        let Some(attached) = self.attached.get(&attachment.id) else {
            return Err(GuestFailure::Answer(String::from("the interceptor is not attached")));
        };
        if let Some(cell) = &attached.cell {
            self.instance.begin_call(Some(call(cell, Purpose::Decide, on_hand)));
        }
        let verdicts =
            self.instance.intercept(attached.guest_id, projections, count, &attached.reads, within);
        let outcome = if attached.cell.is_some() { self.instance.end_call() } else { Outcome::default() };
        Ok((verdicts?, outcome))
    }
}

fn call(cell: &Arc<Cell>, purpose: Purpose, on_hand: Option<&Arc<OwnedMessage>>) -> Call {
    Call {
        exchange: None,
        layer: Layer::FRONT,
        cell: cell.clone(),
        purpose,
        on_hand: on_hand.cloned(),
        inside: None,
    }
}
