//! Exchange types in a component: the open exchanges, and the exported functions.

use super::{clear, take_over};
use crate::{
    Arguments, Binding, BindingId, Declaration, Description, Events, ExchangeType, Info, InnerType, Mark,
    Marks, Message, Migrate, Reads, Reconfigure, Refusal, StoredId, Timers, contract,
    generated::{
        exports::leveret::routing::{
            exchange_type as exported, exchange_type_events as events, exchange_type_info as info,
            exchange_type_marks as marks, exchange_type_migrate as migrate,
            exchange_type_reconfigure as reconfigure, exchange_type_timers as timers,
        },
        leveret::routing::types as wit,
    },
    targets::{Answer, Few, Targets},
    value::Bytes,
};
use std::{any::Any, cell::RefCell, collections::BTreeMap, mem::MaybeUninit};

/// Bytes of the length before each projection of a batch.
const LENGTH_BYTES: usize = 4;

/// What [`export!`](crate::export) says of a component.
pub trait Plugin {
    /// The version, for people to read.
    const VERSION: &'static str;
    /// The exchange types in it.
    const EXCHANGE_TYPES: &'static [Registration];
}

type MarkCall = fn(&mut dyn Any, &Binding) -> Mark;
type BoundCall = fn(&mut dyn Any, &Binding) -> Vec<StoredId>;
type ReconfigureCall = fn(&mut dyn Any, &Arguments) -> Result<(), Refusal>;
type MigrateCall = fn(&mut dyn Any, &str) -> Result<(), String>;

/// An exchange type, with its Rust type forgotten; what is optional is there if it was registered.
#[derive(Clone, Copy)]
pub struct Registration {
    describe: fn() -> Description,
    open: fn(&Declaration) -> Result<Box<dyn OpenExchange>, Refusal>,
    mark: Option<MarkCall>,
    bound: Option<BoundCall>,
    unbound: Option<fn(&mut dyn Any, &Binding)>,
    timer: Option<fn(&mut dyn Any, &[u8])>,
    info: Option<fn(&mut dyn Any) -> Arguments>,
    reconfigure: Option<ReconfigureCall>,
    migrate: Option<MigrateCall>,
}

/// The methods of the optional traits have the names of the traits, for `export!` turns one into the
/// other.
#[allow(non_snake_case)]
impl Registration {
    /// The registration of this type.
    #[must_use]
    pub const fn of<T: ExchangeType>() -> Self {
        Self {
            describe: T::describe,
            open: |declaration| Ok(Box::new(Open::<T>::new(declaration)?) as Box<dyn OpenExchange>),
            mark: None,
            bound: None,
            unbound: None,
            timer: None,
            info: None,
            reconfigure: None,
            migrate: None,
        }
    }

    /// It says which messages bindings can concern.
    #[must_use]
    pub const fn Marks<T: Marks>(mut self) -> Self {
        self.mark = Some(|open, binding| exchange_of::<T>(open).mark(binding));
        self
    }

    /// It hears of bindings.
    #[must_use]
    pub const fn Events<T: Events>(mut self) -> Self {
        self.bound = Some(|open, binding| exchange_of::<T>(open).bound(binding));
        self.unbound = Some(|open, binding| exchange_of::<T>(open).unbound(binding));
        self
    }

    /// It is called at times.
    #[must_use]
    pub const fn Timers<T: Timers>(mut self) -> Self {
        self.timer = Some(|open, name| exchange_of::<T>(open).timer(name));
        self
    }

    /// It shows what is inside.
    #[must_use]
    pub const fn Info<T: Info>(mut self) -> Self {
        self.info = Some(|open| exchange_of::<T>(open).info());
        self
    }

    /// It takes new arguments.
    #[must_use]
    pub const fn Reconfigure<T: Reconfigure>(mut self) -> Self {
        self.reconfigure = Some(|open, arguments| open_of::<T>(open).reconfigure(arguments));
        self
    }

    /// It takes over state.
    #[must_use]
    pub const fn Migrate<T: Migrate>(mut self) -> Self {
        self.migrate = Some(|open, from_version| exchange_of::<T>(open).migrate(from_version));
        self
    }
}

/// What was opened by the same registration.
fn open_of<T: ExchangeType>(open: &mut dyn Any) -> &mut Open<T> {
    match open.downcast_mut::<Open<T>>() {
        Some(open) => open,
        None => panic!("an exchange is of another type than the one it was opened as"),
    }
}

fn exchange_of<T: ExchangeType>(open: &mut dyn Any) -> &mut T {
    &mut open_of::<T>(open).exchange
}

/// An open exchange, with its Rust type forgotten: one call through here for a whole batch.
trait OpenExchange: Any {
    fn reads(&self) -> &Reads;
    fn inner(&self) -> Option<InnerType>;
    fn wants_bindings(&self) -> bool;
    fn bind_all(&mut self, bindings: &mut dyn Iterator<Item = Binding>) -> Result<(), Refusal>;
    fn unbind_all(&mut self, ids: &mut dyn Iterator<Item = BindingId>);
    fn route_batch(&mut self, messages: &[u8], words: &mut Vec<u64>);
}

/// An open exchange.
pub(crate) struct Open<T> {
    pub(crate) exchange: T,
    pub(crate) reads: Reads,
    /// It is put in front of another type, which decides instead of its own inner one.
    is_stage: bool,
}

impl<T: ExchangeType> Open<T> {
    pub(crate) fn new(declaration: &Declaration) -> Result<Self, Refusal> {
        let exchange = T::open(declaration)?;
        let reads = exchange.reads();
        Ok(Self { exchange, reads, is_stage: declaration.in_front_of.is_some() })
    }

    pub(crate) fn inner(&self) -> Option<InnerType> {
        if self.is_stage { None } else { self.exchange.inner() }
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
        loop {
            if T::ROUTES_AT_ONCE {
                self.route_at_once(&mut messages, words);
            }
            let Some(projection) = messages.u32().and_then(|length| messages.take(length as usize)) else {
                return;
            };
            let message = Message::new(&self.reads, projection);
            let mut targets = Targets::begin(words);
            // Called here alone, so that it becomes a part of this loop: in a component a call looks at the stack's
            // limit and the clock each time.
            let decision = self.exchange.route(&message, &mut targets);
            targets.end(decision);
        }
    }

    /// Routes those in front that are easily routed.
    fn route_at_once(&mut self, messages: &mut Bytes<'_>, words: &mut Vec<u64>) {
        // Some more than the words of messages that go to one binding each.
        words.reserve(messages.0.len() / 4 + 2);
        let (left, written) = self.route_easy(*messages, words.spare_capacity_mut());
        *messages = left;
        // SAFETY: so many words were written, from the end of those that there were on.
        unsafe { words.set_len(words.len() + written) };
    }

    /// The loop of that; what is left, and how many words were written to the room. A function of its own: in a
    /// component what a loop needs stays in registers where nothing near it calls a function.
    #[inline(never)]
    fn route_easy<'m>(&mut self, messages: Bytes<'m>, room: &mut [MaybeUninit<u64>]) -> (Bytes<'m>, usize) {
        let (mut left, mut written) = (messages, 0);
        loop {
            let mut ahead = left;
            let Some(projection) = ahead.u32().and_then(|length| ahead.take(length as usize)) else { break };
            let message = Message::new(&self.reads, projection);
            let Some(room) = room.get_mut(written..) else { break };
            let mut few = Few::begin(room);
            if !self.exchange.route_at_once(&message, &mut few) {
                break;
            }
            let Some(words) = few.end() else { break };
            (left, written) = (ahead, written + words);
        }
        (left, written)
    }
}

impl<T: Reconfigure> Open<T> {
    pub(crate) fn reconfigure(&mut self, arguments: &Arguments) -> Result<(), Refusal> {
        self.exchange.reconfigure(arguments)?;
        self.reads = self.exchange.reads();
        Ok(())
    }
}

impl<T: ExchangeType> OpenExchange for Open<T> {
    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn inner(&self) -> Option<InnerType> {
        self.inner()
    }

    fn wants_bindings(&self) -> bool {
        self.exchange.wants_bindings()
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
}

struct Exchange {
    registration: &'static Registration,
    open: Box<dyn OpenExchange>,
}

impl Exchange {
    fn as_any(&mut self) -> &mut dyn Any {
        &mut *self.open
    }

    fn opened(&self) -> exported::Opened {
        exported::Opened {
            reads: contract::reads_to_wit(self.open.reads()),
            inner: self.open.inner().map(contract::inner_to_wit),
            bindings: self.open.wants_bindings(),
        }
    }
}

/// What one instance of a component holds.
#[derive(Default)]
struct Instance {
    exchanges: BTreeMap<u32, Exchange>,
    /// The answers of the last batch.
    words: Vec<u64>,
    /// The projection of the last message that came in the plain form, after its length.
    projection: Vec<u8>,
    /// Address and length of the last answer, for the broker to read.
    answer: [usize; 2],
}

impl Instance {
    fn open<P: Plugin>(
        &mut self,
        exchange: u32,
        declaration: exported::Declaration,
    ) -> Result<exported::Opened, Refusal> {
        let name = declaration.exchange_type.as_str();
        let Some(registration) =
            P::EXCHANGE_TYPES.iter().find(|registration| (registration.describe)().name == name)
        else {
            return Err(Refusal::new(format!("this plugin has no exchange type '{name}'")));
        };
        let open = (registration.open)(&contract::declaration_from_wit(declaration))?;
        let exchange_opened = Exchange { registration, open };
        let opened = exchange_opened.opened();
        self.exchanges.insert(exchange, exchange_opened);
        Ok(opened)
    }

    fn bind(&mut self, exchange: u32, bindings: Vec<wit::Binding>) -> Result<wit::Reads, Refusal> {
        let Some(Exchange { open, .. }) = self.exchanges.get_mut(&exchange) else {
            return Err(Refusal::new(not_open(exchange)));
        };
        open.bind_all(&mut bindings.into_iter().map(contract::binding_from_wit))?;
        Ok(contract::reads_to_wit(open.reads()))
    }

    fn unbind(&mut self, exchange: u32, ids: &[u64]) -> wit::Reads {
        let Some(Exchange { open, .. }) = self.exchanges.get_mut(&exchange) else {
            return contract::reads_to_wit(&Reads::nothing());
        };
        open.unbind_all(&mut ids.iter().map(|id| BindingId(*id)));
        contract::reads_to_wit(open.reads())
    }

    fn route(&mut self, exchange: u32, message: &wit::Message) -> exported::Decision {
        let Self { exchanges, words, projection, .. } = self;
        let Some(Exchange { open, .. }) = exchanges.get_mut(&exchange) else {
            panic!("{}", not_open(exchange))
        };
        clear(words);
        // A batch of one.
        projection.clear();
        projection.extend_from_slice(&[0; LENGTH_BYTES]);
        contract::put_projection(projection, open.reads(), message);
        let length = u32::try_from(projection.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
        if let Some(place) = projection.first_chunk_mut() {
            *place = length.to_le_bytes();
        }
        open.route_batch(projection, words);
        match Answer::read(words) {
            Some((answer, _)) => contract::answer_to_wit(answer),
            None => panic!("the answer's own words make no sense"),
        }
    }

    fn route_batch(&mut self, exchange: u32, messages: &[u8]) -> &[usize; 2] {
        let Some(Exchange { open, .. }) = self.exchanges.get_mut(&exchange) else {
            panic!("{}", not_open(exchange))
        };
        clear(&mut self.words);
        open.route_batch(messages, &mut self.words);
        self.answer = [self.words.as_ptr().addr(), self.words.len()];
        &self.answer
    }

    /// An exchange that must be open.
    fn exchange(&mut self, exchange: u32) -> &mut Exchange {
        match self.exchanges.get_mut(&exchange) {
            Some(open) => open,
            None => panic!("{}", not_open(exchange)),
        }
    }
}

fn not_open(exchange: u32) -> String {
    format!("exchange {exchange} is not open in this instance")
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

    fn open(exchange: u32, declaration: exported::Declaration) -> Result<exported::Opened, wit::Refusal> {
        with_instance(|instance| instance.open::<P>(exchange, declaration)).map_err(contract::refusal_to_wit)
    }

    fn close(exchange: u32) {
        with_instance(|instance| drop(instance.exchanges.remove(&exchange)));
    }

    fn bind(exchange: u32, bindings: Vec<wit::Binding>) -> Result<wit::Reads, wit::Refusal> {
        with_instance(|instance| instance.bind(exchange, bindings)).map_err(contract::refusal_to_wit)
    }

    fn unbind(exchange: u32, ids: Vec<u64>) -> wit::Reads {
        with_instance(|instance| instance.unbind(exchange, &ids))
    }

    fn route(exchange: u32, message: wit::Message) -> exported::Decision {
        with_instance(|instance| instance.route(exchange, &message))
    }
}

impl<P: Plugin> marks::Guest for P {
    fn marks(exchange: u32, bindings: Vec<wit::Binding>) -> Vec<Vec<u8>> {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            let mark = exchange.registration.mark;
            let mark_of = |binding| match mark {
                Some(mark) => mark(exchange.as_any(), &contract::binding_from_wit(binding)).into(),
                None => Vec::new(),
            };
            bindings.into_iter().map(mark_of).collect()
        })
    }
}

impl<P: Plugin> events::Guest for P {
    fn bound(exchange: u32, binding: wit::Binding) -> Vec<u64> {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            let bound = exchange.registration.bound;
            let binding = contract::binding_from_wit(binding);
            let stored = bound.map(|bound| bound(exchange.as_any(), &binding)).unwrap_or_default();
            stored.into_iter().map(|StoredId(id)| id).collect()
        })
    }

    fn unbound(exchange: u32, binding: wit::Binding) {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            if let Some(unbound) = exchange.registration.unbound {
                unbound(exchange.as_any(), &contract::binding_from_wit(binding));
            }
        });
    }
}

impl<P: Plugin> timers::Guest for P {
    fn timer(exchange: u32, name: Vec<u8>) {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            if let Some(timer) = exchange.registration.timer {
                timer(exchange.as_any(), &name);
            }
        });
    }
}

impl<P: Plugin> info::Guest for P {
    fn info(exchange: u32) -> Vec<wit::Field> {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            let info = exchange.registration.info.map(|info| info(exchange.as_any()));
            contract::arguments_to_wit(&info.unwrap_or_default())
        })
    }
}

impl<P: Plugin> reconfigure::Guest for P {
    fn reconfigure(exchange: u32, arguments: Vec<wit::Field>) -> Result<exported::Opened, wit::Refusal> {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            let Some(reconfigure) = exchange.registration.reconfigure else {
                return Err(Refusal::unsupported("other arguments for an open exchange of this type"));
            };
            reconfigure(exchange.as_any(), &contract::arguments_from_wit(&arguments))?;
            Ok(exchange.opened())
        })
        .map_err(contract::refusal_to_wit)
    }
}

impl<P: Plugin> migrate::Guest for P {
    fn migrate(exchange: u32, from_version: String) -> Result<(), String> {
        with_instance(|instance| {
            let exchange = instance.exchange(exchange);
            exchange.registration.migrate.map_or(Ok(()), |migrate| migrate(exchange.as_any(), &from_version))
        })
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
    // SAFETY: what this function is promised.
    let messages = unsafe { take_over(messages, length_bytes) };
    with_instance(|instance| instance.route_batch(exchange, &messages).as_ptr())
}

#[cfg(test)]
mod tests;
