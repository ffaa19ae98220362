//! Exchange types that are a part of the program: for tests, and for what counts instructions.
//!
//! *Not here:* the exchange types of the broker, which are components all of them.
//!
//! *In and out:* they take every exchange, argument and binding that there is, answer each message at once, and want nothing
//! done; timers and effects are not theirs. What they are told of they may look at.

use super::{Answer, Deed, Due, Fired, Layer, Routed, Router, Wake};
use crate::exchange::{Binding, Exchange};
use alloc::sync::Arc;
use alloc::vec::Vec;
use leveret_model::{MessageView, Name, OwnedMessage, Refusal};

/// What types of an exchange are asked or told that is about no message.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// It is declared.
    Open,
    /// A binding is wanted.
    Bind(&'a Binding),
    /// A binding was made.
    Bound(&'a Binding),
    /// A binding is gone.
    Unbound(&'a Binding),
    /// It is gone.
    Closed,
}

/// Exchange types that are code of the program, behind the broker's port.
pub trait FixedTypes {
    /// Appends an answer for each message, as [`Router::route`].
    fn answer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
    );

    /// Takes notice of a call that is about no message.
    fn told(&mut self, exchange: &Exchange, what: Told<'_>) {
        let _ = (exchange, what);
    }

    /// Whether such calls of that type may take long.
    fn is_slow(&self, type_name: &Name) -> bool {
        let _ = type_name;
        false
    }

    /// The time, in milliseconds since 1970.
    fn now_ms(&self) -> u64 {
        0
    }
}

/// To all bindings of an exchange.
#[must_use]
pub fn to_all(exchange: &Exchange) -> Answer {
    let (_, bindings) = exchange.all_bindings();
    Answer::Deliver(exchange.resolve(&mut bindings.iter().map(|binding| binding.id)).0)
}

impl<T: FixedTypes> Router for T {
    fn check_type(&mut self, _: &Name, _: &Name, _: &Name) -> Result<(), Refusal> {
        Ok(())
    }

    fn is_quick(&self, exchange: &Exchange) -> bool {
        !self.is_slow(&exchange.spec.type_name)
    }

    fn declares_quickly(&self, _: &Name, spec: &crate::ExchangeSpec) -> bool {
        !self.is_slow(&spec.type_name)
    }

    fn open(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        self.told(exchange, Told::Open);
        Ok(())
    }

    fn bind(&mut self, exchange: &Arc<Exchange>, candidate: &Binding) -> Result<(), Refusal> {
        self.told(exchange, Told::Bind(candidate));
        Ok(())
    }

    fn bound(
        &mut self,
        exchange: &Arc<Exchange>,
        binding: &Arc<Binding>,
        _: &mut Vec<Deed>,
    ) -> Vec<Arc<OwnedMessage>> {
        self.told(exchange, Told::Bound(binding));
        Vec::new()
    }

    fn unbound(&mut self, exchange: &Arc<Exchange>, binding: &Arc<Binding>, _: &mut Vec<Deed>) {
        self.told(exchange, Told::Unbound(binding));
    }

    fn route(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        _: &Arc<dyn Wake>,
    ) -> Routed {
        self.answer(exchange, layer, messages, answers);
        Routed::Ready
    }

    fn timer(
        &mut self,
        _: &Arc<Exchange>,
        _: Layer,
        _: Due<'_>,
        _: &Arc<dyn Wake>,
        _: &mut Vec<Deed>,
    ) -> Fired {
        Fired::Done
    }

    fn now_ms(&self) -> u64 {
        FixedTypes::now_ms(self)
    }

    fn closed(&mut self, exchange: &Exchange) {
        self.told(exchange, Told::Closed);
    }
}
