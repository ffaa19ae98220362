//! The inside: an instance of a plugin, and the functions by which the broker calls it.
//!
//! [`export!`](crate::export) needs this to be public; an author does not.
//!
//! A component has one `Instance`, which holds the open exchanges. The broker prefers
//! `route-batch`, whose export is written by hand: its answer stays in a buffer of the instance that
//! the next call reuses, so there is nothing to free after the broker has read it.

use crate::{
    Binding, BindingId, Declaration, Description, ExchangeType, Message, Reads, Refusal, contract,
    generated::{exports::leveret::routing::exchange_type as exported, leveret::routing::types as wit},
    targets::{Answer, Targets},
    value::Bytes,
};
use std::{cell::RefCell, collections::BTreeMap};

/// A buffer for answers that has grown above this many words is not kept for the next call.
const WORDS_KEPT_MAX: usize = 1 << 17;

/// What [`export!`](crate::export) says of a component.
pub trait Plugin {
    /// The version, for people to read.
    const VERSION: &'static str;
    /// The exchange types in it.
    const EXCHANGE_TYPES: &'static [Registration];
}

/// An exchange type, with its Rust type forgotten.
pub struct Registration {
    describe: fn() -> Description,
    open: fn(&Declaration) -> Result<Box<dyn OpenExchange>, Refusal>,
}

impl Registration {
    /// The registration of this type.
    #[must_use]
    pub const fn of<T: ExchangeType>() -> Self {
        Self {
            describe: T::describe,
            open: |declaration| Ok(Box::new(Open::<T>::new(declaration)?) as Box<dyn OpenExchange>),
        }
    }
}

/// An open exchange, with its Rust type forgotten: one call through here for a whole batch.
trait OpenExchange {
    fn reads(&self) -> &Reads;
    fn bind_all(&mut self, bindings: &mut dyn Iterator<Item = Binding>) -> Result<(), Refusal>;
    fn unbind_all(&mut self, ids: &mut dyn Iterator<Item = BindingId>);
    fn route_batch(&mut self, messages: &[u8], words: &mut Vec<u64>);
    fn route_one(&mut self, projection: &[u8], words: &mut Vec<u64>);
}

/// An open exchange.
pub(crate) struct Open<T> {
    pub(crate) exchange: T,
    pub(crate) reads: Reads,
}

impl<T: ExchangeType> Open<T> {
    pub(crate) fn new(declaration: &Declaration) -> Result<Self, Refusal> {
        let exchange = T::open(declaration)?;
        let reads = exchange.reads();
        Ok(Self { exchange, reads })
    }

    /// Binds all of them, or none and says why.
    pub(crate) fn bind_all(&mut self, bindings: impl Iterator<Item = Binding>) -> Result<(), Refusal> {
        let mut bound = Vec::new();
        for binding in bindings {
            let id = binding.id;
            if let Err(refusal) = self.exchange.bind(binding) {
                bound.into_iter().rev().for_each(|id| self.exchange.unbind(id));
                return Err(refusal);
            }
            bound.push(id);
        }
        self.reads = self.exchange.reads();
        Ok(())
    }

    pub(crate) fn unbind_all(&mut self, ids: impl Iterator<Item = BindingId>) {
        ids.for_each(|id| self.exchange.unbind(id));
        self.reads = self.exchange.reads();
    }

    /// Routes projections that lie back to back, each after its length (u32 LE).
    pub(crate) fn route_batch(&mut self, messages: &[u8], words: &mut Vec<u64>) {
        let mut messages = Bytes(messages);
        while let Some(projection) = messages.u32().and_then(|length| messages.take(length as usize)) {
            self.route_one(projection, words);
        }
    }

    #[inline]
    fn route_one(&mut self, projection: &[u8], words: &mut Vec<u64>) {
        let message = Message::new(&self.reads, projection);
        let mut targets = Targets::begin(words);
        let decision = self.exchange.route(&message, &mut targets);
        targets.end(decision);
    }
}

impl<T: ExchangeType> OpenExchange for Open<T> {
    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn bind_all(&mut self, bindings: &mut dyn Iterator<Item = Binding>) -> Result<(), Refusal> {
        self.bind_all(bindings)
    }

    fn unbind_all(&mut self, ids: &mut dyn Iterator<Item = BindingId>) {
        self.unbind_all(ids);
    }

    fn route_batch(&mut self, messages: &[u8], words: &mut Vec<u64>) {
        self.route_batch(messages, words);
    }

    fn route_one(&mut self, projection: &[u8], words: &mut Vec<u64>) {
        self.route_one(projection, words);
    }
}

/// What one instance of a component holds.
#[derive(Default)]
struct Instance {
    exchanges: BTreeMap<u32, Box<dyn OpenExchange>>,
    /// The answers of the last batch.
    words: Vec<u64>,
    /// The projection of the last message that came in the plain form.
    projection: Vec<u8>,
    /// Address and length of the last answer, for the broker to read.
    answer: [usize; 2],
}

impl Instance {
    fn open<P: Plugin>(
        &mut self,
        exchange: u32,
        mut declaration: exported::Declaration,
    ) -> Result<wit::Reads, String> {
        let name = declaration.exchange_type.as_str();
        let Some(registration) =
            P::EXCHANGE_TYPES.iter().find(|registration| (registration.describe)().name == name)
        else {
            return Err(format!("this plugin has no exchange type '{name}'"));
        };
        let declaration = contract::declaration_from_wit(&mut declaration);
        let open = (registration.open)(&declaration).map_err(Refusal::into_reason)?;
        let reads = contract::reads_to_wit(open.reads());
        self.exchanges.insert(exchange, open);
        Ok(reads)
    }

    fn bind(&mut self, exchange: u32, bindings: Vec<wit::Binding>) -> Result<wit::Reads, String> {
        let Some(open) = self.exchanges.get_mut(&exchange) else {
            return Err(not_open(exchange));
        };
        open.bind_all(&mut bindings.into_iter().map(contract::binding_from_wit))
            .map_err(Refusal::into_reason)?;
        Ok(contract::reads_to_wit(open.reads()))
    }

    fn unbind(&mut self, exchange: u32, ids: &[u64]) -> wit::Reads {
        let Some(open) = self.exchanges.get_mut(&exchange) else {
            return contract::reads_nothing();
        };
        open.unbind_all(&mut ids.iter().map(|id| BindingId(*id)));
        contract::reads_to_wit(open.reads())
    }

    fn route(&mut self, exchange: u32, message: &wit::Message) -> wit::Decision {
        let Self { exchanges, words, projection, .. } = self;
        let Some(open) = exchanges.get_mut(&exchange) else { panic!("{}", not_open(exchange)) };
        clear(words);
        projection.clear();
        contract::put_projection(projection, open.reads(), message);
        open.route_one(projection, words);
        match Answer::read(words) {
            Some((answer, _)) => contract::answer_to_wit(answer),
            None => panic!("the answer's own words make no sense"),
        }
    }

    fn route_batch(&mut self, exchange: u32, messages: &[u8]) -> &[usize; 2] {
        let Some(open) = self.exchanges.get_mut(&exchange) else { panic!("{}", not_open(exchange)) };
        clear(&mut self.words);
        open.route_batch(messages, &mut self.words);
        self.answer = [self.words.as_ptr().addr(), self.words.len()];
        &self.answer
    }
}

fn not_open(exchange: u32) -> String {
    format!("exchange {exchange} is not open in this instance")
}

fn clear(words: &mut Vec<u64>) {
    if words.capacity() > WORDS_KEPT_MAX {
        *words = Vec::new();
    }
    words.clear();
}

thread_local! {
    static INSTANCE: RefCell<Instance> = const { RefCell::new(Instance {
        exchanges: BTreeMap::new(),
        words: Vec::new(),
        projection: Vec::new(),
        answer: [0; 2],
    }) };
}

fn with_instance<R>(call: impl FnOnce(&mut Instance) -> R) -> R {
    INSTANCE.with_borrow_mut(call)
}

impl<P: Plugin> exported::Guest for P {
    fn describe() -> exported::Description {
        let describe = |registration: &Registration| contract::description_to_wit((registration.describe)());
        exported::Description {
            version: P::VERSION.into(),
            exchange_types: P::EXCHANGE_TYPES.iter().map(describe).collect(),
        }
    }

    fn open(exchange: u32, declaration: exported::Declaration) -> Result<wit::Reads, String> {
        with_instance(|instance| instance.open::<P>(exchange, declaration))
    }

    fn close(exchange: u32) {
        with_instance(|instance| drop(instance.exchanges.remove(&exchange)));
    }

    fn bind(exchange: u32, bindings: Vec<wit::Binding>) -> Result<wit::Reads, String> {
        with_instance(|instance| instance.bind(exchange, bindings))
    }

    fn unbind(exchange: u32, ids: Vec<u64>) -> wit::Reads {
        with_instance(|instance| instance.unbind(exchange, &ids))
    }

    fn route(exchange: u32, message: wit::Message) -> wit::Decision {
        with_instance(|instance| instance.route(exchange, &message))
    }
}

/// The export `route-batch` of `leveret:routing/exchange-type-batch`.
///
/// Returns where address and length of the answer are. They stay valid until the next call, which
/// the component model lets come only after the broker has copied them.
///
/// # Safety
/// `messages` is `length_bytes` bytes long and was allocated for this call by `cabi_realloc` with
/// alignment 1: the component model's promise for a list of bytes.
pub unsafe fn route_batch(exchange: u32, messages: *mut u8, length_bytes: usize) -> *const usize {
    // SAFETY: `cabi_realloc` is the global allocator's; for no bytes its pointer is dangling and
    // aligned, which is what an empty vector has.
    let messages = unsafe { Vec::from_raw_parts(messages, length_bytes, length_bytes) };
    with_instance(|instance| instance.route_batch(exchange, &messages).as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindingIndex, Decision, generated::exports::leveret::routing::exchange_type::Guest};

    /// Direct, which refuses the key "refused".
    struct Picky(BindingIndex);

    impl ExchangeType for Picky {
        fn describe() -> Description {
            Description::new("x-picky", "Refuses a key").pure()
        }

        fn open(declaration: &Declaration) -> Result<Self, Refusal> {
            match declaration.arguments.optional::<&str>("x-mood")? {
                Some("bad") => Err("not in the mood".into()),
                _ => Ok(Self(BindingIndex::new())),
            }
        }

        fn reads(&self) -> Reads {
            if self.0.is_empty() { Reads::nothing() } else { Reads::nothing().routing_key() }
        }

        fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
            if binding.routing_key == b"refused" {
                return Err("refused".into());
            }
            self.0.insert(binding.routing_key, binding.id);
            Ok(())
        }

        fn unbind(&mut self, id: BindingId) {
            self.0.remove(id);
        }

        fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
            to.extend_from_slice(self.0.get(message.routing_key()));
            Decision::Deliver
        }
    }

    struct Component;

    impl Plugin for Component {
        const VERSION: &'static str = "1.2.3";
        const EXCHANGE_TYPES: &'static [Registration] = &[Registration::of::<Picky>()];
    }

    fn declaration(exchange_type: &str, arguments: Vec<wit::Field>) -> exported::Declaration {
        exported::Declaration { name: b"e".to_vec(), exchange_type: exchange_type.into(), arguments }
    }

    fn binding(id: u64, key: &str) -> wit::Binding {
        wit::Binding { id, routing_key: key.into(), arguments: Vec::new() }
    }

    fn message(key: &str) -> wit::Message {
        wit::Message { routing_key: key.into(), headers: vec![], properties: vec![], body: None }
    }

    fn delivered_to(exchange: u32, key: &str) -> Vec<u64> {
        match Component::route(exchange, message(key)) {
            wit::Decision::Deliver(ids) => ids,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_plain_form_opens_binds_routes_and_closes() {
        let description = Component::describe();
        assert_eq!(description.version, "1.2.3");
        assert!(description.exchange_types[0].pure && !description.exchange_types[0].independent_bindings);

        assert!(Component::open(4, declaration("x-picky", vec![])).is_ok_and(|reads| !reads.routing_key));
        assert!(
            Component::bind(4, vec![binding(8, "a"), binding(9, "b")]).is_ok_and(|reads| reads.routing_key)
        );
        assert_eq!(delivered_to(4, "b"), [9]);
        assert!(!Component::unbind(4, vec![8, 9, 10]).routing_key);
        Component::close(4);
        assert_eq!(
            Component::bind(4, vec![]).map(drop),
            Err("exchange 4 is not open in this instance".into())
        );
    }

    #[test]
    fn refusals_reach_the_client_as_text() {
        let bad = wit::Field { name: b"x-mood".to_vec(), value: wit::Value::Text("bad".into()) };
        let refusal = Component::open(1, declaration("x-picky", vec![bad])).map(drop);
        assert_eq!(refusal, Err("not in the mood".into()));
        let refusal = Component::open(1, declaration("x-other", vec![])).map(drop);
        assert_eq!(refusal, Err("this plugin has no exchange type 'x-other'".into()));
    }

    #[test]
    fn a_list_of_bindings_is_taken_whole_or_not_at_all() {
        assert!(Component::open(2, declaration("x-picky", vec![])).is_ok());
        assert!(Component::bind(2, vec![binding(1, "a")]).is_ok());
        let refusal = Component::bind(
            2,
            vec![binding(2, "a"), binding(3, "b"), binding(4, "refused"), binding(5, "c")],
        );
        assert_eq!(refusal.map(drop), Err("refused".into()));
        assert_eq!(delivered_to(2, "a"), [1]);
        assert_eq!(delivered_to(2, "b"), []);
    }

    #[test]
    fn a_large_answer_is_not_kept() {
        let mut words = Vec::with_capacity(WORDS_KEPT_MAX + 1);
        clear(&mut words);
        assert_eq!(words.capacity(), 0);
    }
}
