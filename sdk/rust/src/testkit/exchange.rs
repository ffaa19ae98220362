//! An open exchange, and where its messages go.

use super::TestMessage;
use crate::{
    Arguments, Binding, BindingId, Declaration, Destination, ExchangeType, InnerType, Reads, Refusal,
    component::exchange_type::Open, targets::Answer,
};
use std::time::Duration;

/// An open exchange of type `T`.
pub struct Exchange<T> {
    open: Open<T>,
    bindings: Vec<Binding>,
    next_id: u64,
    batch: Vec<u8>,
    words: Vec<u64>,
}

/// The decision for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// To these bindings, in the order and as often as the type named them; none is unroutable.
    Deliver(Vec<BindingId>),
    /// Nowhere, on purpose.
    Drop(String),
    /// Not accepted, for this reason.
    Reject(String),
    /// As the inner type decides.
    Delegate,
    /// Kept for so long, then as the inner type decides.
    Hold(Duration),
}

impl<T: ExchangeType> Exchange<T> {
    /// Declares an exchange with these arguments.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn open(arguments: Arguments) -> Result<Self, Refusal> {
        let declaration =
            Declaration { name: b"test".to_vec(), vhost: b"/".to_vec(), arguments, in_front_of: None };
        let open = Open::new(&declaration)?;
        Ok(Self { open, bindings: Vec::new(), next_id: 1, batch: Vec::new(), words: Vec::new() })
    }

    /// Binds.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn bind(
        &mut self,
        routing_key: impl AsRef<[u8]>,
        arguments: Arguments,
    ) -> Result<BindingId, Refusal> {
        let id = BindingId(self.next_id);
        self.bind_all([(routing_key, arguments)])?;
        Ok(id)
    }

    /// Binds a list as the broker does when it replays: whole or not at all. The ids are in the
    /// order of the list.
    ///
    /// # Errors
    /// The refusal of the first that the type refuses.
    pub fn bind_all<K: AsRef<[u8]>>(
        &mut self,
        bindings: impl IntoIterator<Item = (K, Arguments)>,
    ) -> Result<Vec<BindingId>, Refusal> {
        let mut ids = Vec::new();
        let next_id = &mut self.next_id;
        self.open.bind_all(bindings.into_iter().map(|(key, arguments)| {
            let id = BindingId(*next_id);
            *next_id += 1;
            ids.push(id);
            let destination = Destination::Queue(format!("queue-{}", id.0).into());
            Binding { id, routing_key: key.as_ref().to_vec(), arguments, destination }
        }))?;
        Ok(ids)
    }

    /// Unbinds.
    pub fn unbind(&mut self, id: BindingId) {
        self.open.unbind_all([id].into_iter());
    }

    /// What the exchange reads now.
    pub fn reads(&self) -> &Reads {
        &self.open.reads
    }

    /// The inner type.
    pub fn inner(&self) -> Option<InnerType> {
        self.open.inner()
    }

    /// The struct itself.
    pub fn exchange(&self) -> &T {
        &self.open.exchange
    }

    /// Routes a message that has a routing key and nothing else.
    pub fn route(&mut self, routing_key: impl AsRef<[u8]>) -> Routed {
        self.route_message(&TestMessage::new(routing_key))
    }

    /// Routes a message.
    pub fn route_message(&mut self, message: &TestMessage) -> Routed {
        let routed = self.route_all([message]).pop();
        routed.unwrap_or_else(|| panic!("one message gets one decision"))
    }

    /// Routes messages in one batch.
    pub fn route_all<'m>(&mut self, messages: impl IntoIterator<Item = &'m TestMessage>) -> Vec<Routed> {
        self.batch.clear();
        self.words.clear();
        for message in messages {
            message.put_into_batch(&self.open.reads, &mut self.batch);
        }
        self.open.route_batch(&self.batch, &mut self.words);
        let mut words = self.words.as_slice();
        let mut decisions = Vec::new();
        while let Some((answer, rest)) = Answer::read(words) {
            decisions.push(match answer {
                Answer::Deliver(ids) => Routed::Deliver(ids.into_iter().map(BindingId).collect()),
                Answer::Drop(reason) => Routed::Drop(reason),
                Answer::Reject(reason) => Routed::Reject(reason),
                Answer::Delegate => Routed::Delegate,
                Answer::HoldMs(milliseconds) => Routed::Hold(Duration::from_millis(milliseconds)),
            });
            words = rest;
        }
        decisions
    }
}
