//! Opens, binds and routes in a plain `cargo test`, without a broker and without WebAssembly.
//!
//! Messages pass through the very bytes that the broker would lay out: what the type did not
//! declare to read is not there.
//!
//! ```
//! # use leveret_sdk::{Binding, BindingId, Decision, Declaration, Description, ExchangeType, Message, Reads, Refusal, Targets};
//! # struct Last(Option<BindingId>);
//! # impl ExchangeType for Last {
//! #     fn describe() -> Description { Description::new("x-last", "To the binding made last") }
//! #     fn open(_: &Declaration) -> Result<Self, Refusal> { Ok(Self(None)) }
//! #     fn reads(&self) -> Reads { Reads::nothing() }
//! #     fn bind(&mut self, binding: Binding) -> Result<(), Refusal> { self.0 = Some(binding.id); Ok(()) }
//! #     fn unbind(&mut self, _: BindingId) {}
//! #     fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision { to.extend(self.0); Decision::Deliver }
//! # }
//! use leveret_sdk::{Arguments, testkit::{Exchange, Routed, TestMessage}};
//!
//! let mut exchange = Exchange::<Last>::open(Arguments::new())?;
//! let first = exchange.bind("key", Arguments::new())?;
//! let last = exchange.bind("key", Arguments::new().with("x-weight", 3))?;
//! assert_eq!(exchange.route("key"), Routed::Deliver(vec![last]));
//! let message = TestMessage::new("key").header("kind", "report").body("text");
//! assert_ne!(exchange.route_message(&message), Routed::Deliver(vec![first]));
//! # Ok::<(), Refusal>(())
//! ```

use crate::{
    Arguments, Binding, BindingId, Declaration, ExchangeType, Property, Reads, Refusal, Value,
    component::Open,
    message::{put_absent, put_body, put_field, put_headers, put_routing_key},
    reads::HeaderSelection,
    targets::Answer,
};

/// An open exchange of type `T`.
pub struct Exchange<T> {
    open: Open<T>,
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
    Drop,
    /// Not accepted, for this reason.
    Reject(String),
}

impl<T: ExchangeType> Exchange<T> {
    /// Declares an exchange with these arguments.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn open(arguments: Arguments) -> Result<Self, Refusal> {
        let open = Open::new(&Declaration { name: b"test".to_vec(), arguments })?;
        Ok(Self { open, next_id: 1, batch: Vec::new(), words: Vec::new() })
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
            Binding { id, routing_key: key.as_ref().to_vec(), arguments }
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
            let mut projection = Vec::new();
            message.project(&self.open.reads, &mut projection);
            self.batch.extend_from_slice(&u32::try_from(projection.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.batch.extend_from_slice(&projection);
        }
        self.open.route_batch(&self.batch, &mut self.words);
        let mut words = self.words.as_slice();
        let mut decisions = Vec::new();
        while let Some((answer, rest)) = Answer::read(words) {
            decisions.push(match answer {
                Answer::Deliver(ids) => Routed::Deliver(ids.into_iter().map(BindingId).collect()),
                Answer::Drop => Routed::Drop,
                Answer::Reject(reason) => Routed::Reject(reason),
            });
            words = rest;
        }
        decisions
    }
}

/// For benchmarks.
impl<T: ExchangeType> Exchange<T> {
    /// Routes messages that are laid out already as `wit/CONTRACT.md` says under "Batches"; the
    /// answer is words, as there. Nothing else is done: this is the time of the type itself.
    pub fn route_flat(&mut self, projections: &[u8]) -> &[u64] {
        self.words.clear();
        self.open.route_batch(projections, &mut self.words);
        &self.words
    }
}

/// A message to route.
#[derive(Clone, Debug, Default)]
pub struct TestMessage {
    routing_key: Vec<u8>,
    headers: Arguments,
    properties: Vec<(Property, Vec<u8>)>,
    body: Vec<u8>,
}

impl TestMessage {
    /// With this routing key, without headers, properties and body.
    pub fn new(routing_key: impl AsRef<[u8]>) -> Self {
        Self { routing_key: routing_key.as_ref().to_vec(), ..Self::default() }
    }

    /// With this header too, unless one of that name is there.
    #[must_use]
    pub fn header<'v>(mut self, name: impl AsRef<[u8]>, value: impl Into<Value<'v>>) -> Self {
        self.headers = self.headers.with(name, value);
        self
    }

    /// With this property too, unless it is there.
    #[must_use]
    pub fn property<'v>(mut self, property: Property, value: impl Into<Value<'v>>) -> Self {
        let mut flat = Vec::new();
        value.into().put_flat(&mut flat);
        self.properties.push((property, flat));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Appends what an exchange reads of it, as the broker lays it out.
    fn project(&self, reads: &Reads, out: &mut Vec<u8>) {
        if reads.routing_key {
            put_routing_key(out, &self.routing_key);
        }
        match &reads.headers {
            HeaderSelection::None => {}
            HeaderSelection::All => put_headers(out, |out| self.put_headers(out, |_| true)),
            HeaderSelection::Named(names) => put_headers(out, |out| {
                names.iter().map(|name| self.put_headers(out, |header| header == name.as_slice())).sum()
            }),
        }
        for property in &reads.properties {
            match self.properties.iter().find(|(there, _)| there == property) {
                Some((_, flat)) => out.extend_from_slice(flat),
                None => put_absent(out),
            }
        }
        if let Some(bytes_max) = reads.body_bytes_max {
            put_body(out, Some(self.body.as_slice()).filter(|body| body.len() <= bytes_max as usize));
        }
    }

    fn put_headers(&self, out: &mut Vec<u8>, mut wanted: impl FnMut(&[u8]) -> bool) -> u16 {
        let headers = self.headers.iter().filter(|header| wanted(header.name()));
        let put = headers
            .filter(|header| put_field(out, header.name(), |out| out.extend_from_slice(header.flat_value())));
        u16::try_from(put.count()).unwrap_or(u16::MAX)
    }
}
