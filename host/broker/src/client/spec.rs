//! What clients ask for, and what they get.

use crate::selector::Selector;
use alloc::sync::Arc;
use leveret_model::{MessageView, Name, Table};

/// What `basic.consume` says.
#[derive(Clone, Debug, Default)]
pub struct ConsumeSpec {
    /// The queue's name.
    pub queue: Name,
    /// The consumer's tag; empty to have one made.
    pub tag: Name,
    /// Messages count as acknowledged when they are handed to the sink.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
    /// All arguments; `x-priority` is honoured.
    pub arguments: Table,
    /// How many messages it may be given, settled or not, until [`grant`](crate::Client::grant) says otherwise; `None`
    /// is as many as it likes.
    pub credit: Option<u32>,
    /// Which messages it is given; `None` is any.
    pub selector: Option<Arc<dyn Selector>>,
    /// It is given copies, and messages stay where they are: there is nothing to acknowledge. For queues whose deliveries no
    /// interceptor looks at.
    pub copies: bool,
}

/// A message that was got.
#[derive(Clone, Copy, Debug)]
pub struct Got<'a> {
    /// The number to acknowledge it with; counts up by one in each channel.
    pub delivery_tag: u64,
    /// It was delivered before, to whomever.
    pub redelivered: bool,
    /// How many ready messages are left.
    pub messages_left: u64,
    /// The message, with the exchange and the key it was published with.
    pub message: MessageView<'a>,
}
