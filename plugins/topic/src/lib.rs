//! The topic exchange type: to the bindings whose pattern matches the routing key.
//!
//! A key is words with dots between them; the empty key is no words at all. In a pattern `*` stands
//! for exactly one word and `#` for any number of them, none included.
//!
//! *Not here:* how patterns are kept and matched; that is [`trie`].
//!
//! *In and out:* reads the routing key; names each binding that matches once, arguments ignored.
//!
//! *Invariants:* pure, and each binding decides for itself. Words are bytes.
//!
//! Read [`trie`] first.

mod mark;
pub mod trie;
mod words;

use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, ExchangeType, Few, Mark, Marks, Message, Reads,
    Refusal, Targets,
};
use trie::Trie;

/// A topic exchange.
#[derive(Debug, Default)]
pub struct Topic {
    patterns: Trie,
}

impl ExchangeType for Topic {
    fn describe() -> Description {
        Description::new("topic", "To the bindings whose pattern, with * and #, matches the routing key")
            .pure()
            .independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.patterns.insert(&binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.patterns.remove(id);
    }

    #[inline(always)]
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        self.patterns.find(message.routing_key(), |ids| to.extend_from_slice(ids));
        Decision::Deliver
    }

    const ROUTES_AT_ONCE: bool = true;

    /// Keys of short words that lead through one node after the other.
    #[inline(always)]
    fn route_at_once(&mut self, message: &Message<'_>, to: &mut Few<'_>) -> bool {
        self.patterns.find_at_once(message.routing_key()).is_some_and(|ids| to.push_one_of(ids))
    }
}

impl Marks for Topic {
    fn mark(&self, binding: &Binding) -> Mark {
        mark::of(&binding.routing_key)
    }
}

leveret_sdk::export!(Topic: Marks);

#[cfg(test)]
mod tests;
