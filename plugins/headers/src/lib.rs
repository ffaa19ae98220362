//! The headers exchange type: to the bindings whose arguments the message's headers meet.
//!
//! The argument `x-match` says how: `all` (as without it), `any`, and `all-with-x`, `any-with-x`,
//! which also look at arguments whose name begins with `x-`. An argument without a value asks only
//! that the header be there. Values are the same only where their classes are; a string is the same as text and as bytes.
//!
//! *Not here:* how conditions are found; that is [`conditions`].
//!
//! *In and out:* reads the headers that its bindings name and no others, in the order of their
//! names (all, where they are very many); names each binding that is met once. The routing key is not looked at.
//!
//! *Invariants:* pure, and each binding decides for itself.
//!
//! Read [`x_match`] first, then [`conditions`].

pub mod conditions;
mod numbers;
pub mod x_match;

use conditions::Conditions;
use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, ExchangeType, Few, Mark, Marks, Message, Reads,
    Refusal, Targets,
};
use x_match::{Quantifier, XMatch};

/// Where bindings name more headers than this, all are read: the broker takes no more by name.
const NAMES_READ_MAX: usize = 1_024;

/// A headers exchange.
#[derive(Debug, Default)]
pub struct Headers {
    conditions: Conditions,
}

impl ExchangeType for Headers {
    fn describe() -> Description {
        Description::new("headers", "To the bindings whose arguments the message's headers meet")
            .pure()
            .independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        if self.conditions.name_count() > NAMES_READ_MAX {
            return Reads::nothing().all_headers();
        }
        Reads::nothing().only_headers(self.conditions.names().map(<[u8]>::to_vec))
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        let x_match = XMatch::of(&binding.arguments)?;
        let conditions = binding.arguments.iter().filter(|argument| x_match.looks_at(argument.name()));
        self.conditions.insert(binding.id, x_match.quantifier(), conditions);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.conditions.remove(id);
    }

    #[inline(always)]
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        self.conditions.find(message.headers(), to);
        Decision::Deliver
    }

    const ROUTES_AT_ONCE: bool = true;

    /// Short headers whose bindings want nothing else, with one binding or none each.
    #[inline(always)]
    fn route_at_once(&mut self, message: &Message<'_>, to: &mut Few<'_>) -> bool {
        self.conditions.find_at_once(message.headers(), to)
    }
}

impl Marks for Headers {
    /// A condition that is met where the binding is.
    fn mark(&self, binding: &Binding) -> Mark {
        let Ok(x_match) = XMatch::of(&binding.arguments) else {
            return Mark::none();
        };
        let conditions = binding.arguments.iter().filter(|argument| x_match.looks_at(argument.name()));
        let mut marks = conditions.map(|argument| conditions::mark(&argument));
        match x_match.quantifier() {
            Quantifier::All => marks.max_by_key(|mark| mark.as_bytes().len()).unwrap_or_default(),
            // Of several it is not known which one is met.
            Quantifier::Any => match (marks.next(), marks.next()) {
                (Some(only), None) => only,
                _ => Mark::none(),
            },
        }
    }
}

leveret_sdk::export!(Headers: Marks);

#[cfg(test)]
mod tests;
