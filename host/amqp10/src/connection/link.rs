//! A link: its credit (section 2.6.7), and the delivery that is coming in parts.

use crate::{
    condition::Condition,
    messaging::DeliveryState,
    performatives::{Attach, Flow, ReceiverSettleMode, Role, SenderSettleMode, Transfer},
};
use alloc::{format, string::String, vec::Vec};

/// The longest name of a link that is taken, in bytes. It is kept as long as the link is.
pub const LINK_NAME_BYTES_MAX: usize = 1024;

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The caller has not answered yet. If the client has detached meanwhile: whether for good.
    Attaching {
        detached: Option<bool>,
    },
    Attached,
    /// Detach was sent because of an error; all else that comes is dropped.
    Detaching,
}

/// A delivery of which not every transfer has come.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) delivery_id: u32,
    pub(super) tag: Vec<u8>,
    pub(super) message_format: u32,
    pub(super) settled: bool,
    /// When it is to be settled, if a transfer of it has said.
    pub(super) rcv_settle_mode: Option<ReceiverSettleMode>,
    /// It goes on from an earlier attachment; nothing is kept of its message.
    pub(super) resumed: bool,
    /// The transaction that it is posted in.
    pub(super) txn_id: Option<Vec<u8>>,
    pub(super) message: Vec<u8>,
    /// How much of it was handed over before `message`.
    pub(super) handed_bytes: u64,
}

/// One link, as this side sees it. Both sides use the same handle.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    /// This side's.
    pub(super) role: Role,
    pub(super) stage: Stage,
    pub(super) snd_settle_mode: SenderSettleMode,
    pub(super) rcv_settle_mode: ReceiverSettleMode,
    /// Of the sender, whichever side that is.
    pub(super) delivery_count: u32,
    /// What that was when the link was attached.
    pub(super) first_count: u32,
    /// How many more deliveries may be sent.
    pub(super) credit: u32,
    /// A client was told that it has none left. What it sent before it heard of that is taken.
    pub(super) is_withheld: bool,
    /// The client wants no credit to be left.
    pub(super) drain: bool,
    /// The client asked for the state of the link before it was attached from here.
    pub(super) is_echo_wanted: bool,
    /// The largest message that the client takes, in bytes; 0 is any.
    pub(super) remote_message_bytes_max: u64,
    /// The largest message that is taken, in bytes.
    pub(super) message_bytes_max: u64,
    /// Large messages are handed over in parts.
    pub(super) is_large: bool,
    /// No deliveries are taken but those of an earlier attachment.
    pub(super) takes_resumed_only: bool,
    pub(super) partial: Option<Partial>,
    /// A delivery is being sent in parts.
    pub(super) is_sending: bool,
}

/// The transaction that a transfer is posted in.
pub(super) fn txn_id<'b>(transfer: &Transfer<'b>) -> Option<&'b [u8]> {
    match transfer.state {
        Some(DeliveryState::Transactional(state)) => Some(state.txn_id),
        _ => None,
    }
}

/// A condition, and what is said about it.
pub(super) type Wrong = (Condition, String);

impl Link {
    pub(super) fn new(attach: &Attach<'_>) -> Self {
        let role = match attach.role {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        };
        let delivery_count = attach.initial_delivery_count.filter(|_| role == Role::Receiver).unwrap_or(0);
        Self {
            name: String::from(attach.name),
            role,
            stage: Stage::Attaching { detached: None },
            snd_settle_mode: attach.snd_settle_mode,
            rcv_settle_mode: attach.rcv_settle_mode,
            delivery_count,
            first_count: delivery_count,
            credit: 0,
            is_withheld: false,
            drain: false,
            is_echo_wanted: false,
            remote_message_bytes_max: attach.max_message_size.unwrap_or(0),
            message_bytes_max: 0,
            is_large: false,
            takes_resumed_only: false,
            partial: None,
            is_sending: false,
        }
    }

    /// What a flow says of the link.
    pub(super) fn on_flow(&mut self, flow: &Flow<'_>) {
        match self.role {
            Role::Sender => {
                // Without it, the client has not heard of ours: it counts from where we began, which is 0.
                let seen = flow.delivery_count.unwrap_or(0);
                if let Some(credit) = flow.link_credit {
                    // The formula of section 2.6.7, with sequence numbers. The client is behind by what is under way. It
                    // may be ahead too: of a drain it has heard at once, and then counted what came before that.
                    let ahead = seen.wrapping_sub(self.delivery_count).cast_signed();
                    self.credit = credit.saturating_add_signed(ahead);
                }
                self.drain = flow.drain;
            }
            Role::Receiver => {
                // A sender goes ahead of what it sent when it gives credit back.
                if let Some(count) = flow.delivery_count {
                    let given_up = count.wrapping_sub(self.delivery_count);
                    if given_up <= self.credit {
                        self.credit -= given_up;
                        self.delivery_count = count;
                    }
                }
            }
        }
    }

    /// How many more deliveries whoever sends may send, as far as it was told.
    pub(super) fn credit_told(&self) -> u32 {
        if self.is_withheld { 0 } else { self.credit }
    }

    /// A flow with the state of the link.
    pub(super) fn put_state(&self, handle: u32, flow: &mut Flow<'_>) {
        flow.handle = Some(handle);
        flow.delivery_count = Some(self.delivery_count);
        flow.link_credit = Some(self.credit_told());
        flow.drain = self.drain;
    }

    /// A delivery begins; its number and its tag.
    pub(super) fn begin_delivery<'b>(&mut self, transfer: &Transfer<'b>) -> Result<(u32, &'b [u8]), Wrong> {
        let Some(credit) = self.credit.checked_sub(1) else {
            return Err((
                Condition::TransferLimitExceeded,
                String::from("there is no credit for this delivery"),
            ));
        };
        let (Some(delivery_id), Some(tag)) = (transfer.delivery_id, transfer.delivery_tag) else {
            let text = "the first transfer of a delivery has to have a delivery-id and a delivery-tag";
            return Err((Condition::InvalidField, String::from(text)));
        };
        if self.takes_resumed_only && !transfer.resume {
            let text = "a new delivery, though not all unsettled ones were named when the link was attached";
            return Err((Condition::IllegalState, String::from(text)));
        }
        self.credit = credit;
        self.delivery_count = self.delivery_count.wrapping_add(1);
        Ok((delivery_id, tag.bytes()))
    }

    /// A transfer that is not the first one says nothing else than the first one did. It has to name its transaction
    /// too, unless it is aborted (section 4.4.1).
    pub(super) fn check_same(partial: &Partial, transfer: &Transfer<'_>) -> Result<(), Wrong> {
        let other_id = transfer.delivery_id.is_some_and(|id| id != partial.delivery_id);
        let other_tag = transfer.delivery_tag.is_some_and(|tag| tag.bytes() != partial.tag);
        let other_format = transfer.message_format.is_some_and(|format| format != partial.message_format);
        let other_transaction = !transfer.aborted && txn_id(transfer) != partial.txn_id.as_deref();
        let field = match (other_id, other_tag, other_format, other_transaction) {
            (true, ..) => "delivery-id",
            (_, true, ..) => "delivery-tag",
            (_, _, true, _) => "message-format",
            (_, _, _, true) => "transaction",
            _ => return Ok(()),
        };
        Err((Condition::InvalidField, format!("the {field} of a delivery changed between its transfers")))
    }

    /// Whether a delivery is settled as the link's sender said that it settles, and may be as it says itself: where the
    /// receiver settles first it does so with each that is not settled by then (2.7.5, rcv-settle-mode).
    pub(super) fn check_settled(
        &self,
        settled: bool,
        rcv_settle_mode: Option<ReceiverSettleMode>,
    ) -> Result<(), Wrong> {
        let is_first = self.rcv_settle_mode == ReceiverSettleMode::First;
        if is_first && !settled && rcv_settle_mode == Some(ReceiverSettleMode::Second) {
            let text = "receiver settle mode 'second' of a delivery, where that of the link is 'first'";
            return Err((Condition::InvalidField, String::from(text)));
        }
        let mode = match (self.snd_settle_mode, settled) {
            (SenderSettleMode::Settled, false) => "settled",
            (SenderSettleMode::Unsettled, true) => "unsettled",
            _ => return Ok(()),
        };
        let text = format!(
            "sender settle mode is '{mode}' but transfer settled flag is interpreted as being '{settled}'"
        );
        Err((Condition::InvalidField, text))
    }
}
