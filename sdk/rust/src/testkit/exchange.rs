//! An open exchange, and where its messages go.

use super::{
    Host, TestMessage, Undecided,
    state::{CallKind, Effect, Outcome},
    undeclared::Watch,
};
use crate::{
    Arguments, Binding, BindingId, Declaration, Destination, Events, ExchangeType, Info, InnerType, Marks,
    Migrate, Reads, Reconfigure, Refusal, Timers, component::exchange_type::Open, targets::Answer,
};
use std::time::Duration;

/// An open exchange of type `T`.
pub struct Exchange<T> {
    open: Open<T>,
    host: Host,
    declaration: Declaration,
    bindings: Vec<Binding>,
    next_id: u64,
    /// The answers of the last [`Self::route_flat`].
    words: Vec<u64>,
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
    /// The decision is thrown away, for the call met a key that is in doubt; the broker asks again later.
    InDoubt,
}

impl Routed {
    /// To these bindings, in this order.
    pub fn to(ids: impl IntoIterator<Item = BindingId>) -> Self {
        Self::Deliver(ids.into_iter().collect())
    }

    /// To none.
    #[must_use]
    pub const fn unroutable() -> Self {
        Self::Deliver(Vec::new())
    }

    /// Nowhere, for this reason.
    pub fn drop(reason: impl Into<String>) -> Self {
        Self::Drop(reason.into())
    }

    /// Not accepted, for this reason.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }

    fn new(answer: Answer) -> Self {
        match answer {
            Answer::Deliver(ids) => Self::to(ids.into_iter().map(BindingId)),
            Answer::Drop(reason) => Self::Drop(reason),
            Answer::Reject(reason) => Self::Reject(reason),
            Answer::Delegate => Self::Delegate,
            Answer::HoldMs(milliseconds) => Self::Hold(Duration::from_millis(milliseconds)),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Deliver(ids) if ids.is_empty() => Outcome::Unroutable,
            Self::Reject(_) => Outcome::Rejected,
            _ => Outcome::Accepted,
        }
    }
}

impl<T: ExchangeType> Exchange<T> {
    /// Declares an exchange `test` in the virtual host `/` with these arguments.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn open(arguments: Arguments) -> Result<Self, Refusal> {
        let name = b"test".to_vec();
        Self::declare(Declaration { name, vhost: b"/".to_vec(), arguments, in_front_of: None })
    }

    /// Declares an exchange.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn declare(declaration: Declaration) -> Result<Self, Refusal> {
        let host = Host::new();
        let open = host.call_and_commit(CallKind::WithoutEffects, || Open::new(&declaration))?;
        Ok(Self { open, host, declaration, bindings: Vec::new(), next_id: 1, words: Vec::new() })
    }

    /// Takes another instance, as the broker may at any time: opens the exchange and binds its bindings
    /// anew. What the host keeps stays.
    ///
    /// # Errors
    /// A refusal of what was taken before, which is a fault of the type.
    pub fn restart(&mut self) -> Result<(), Refusal> {
        let Self { open, host, declaration, bindings, .. } = self;
        *open = host.call_and_commit(CallKind::WithoutEffects, || {
            let mut open = Open::<T>::new(declaration)?;
            if open.exchange.wants_bindings() {
                open.bind_all(bindings.iter().cloned())?;
            }
            Ok::<_, Refusal>(open)
        })?;
        Ok(())
    }

    /// Binds a queue.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn bind(
        &mut self,
        routing_key: impl AsRef<[u8]>,
        arguments: Arguments,
    ) -> Result<BindingId, Refusal> {
        let destination = Destination::Queue(format!("queue-{}", self.next_id).into());
        self.bind_to(destination, routing_key, arguments)
    }

    /// Binds a destination.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn bind_to(
        &mut self,
        destination: Destination,
        routing_key: impl AsRef<[u8]>,
        arguments: Arguments,
    ) -> Result<BindingId, Refusal> {
        let id = BindingId(self.next_id);
        let routing_key = routing_key.as_ref().to_vec();
        self.take([Binding { id, routing_key, arguments, destination }].into())?;
        Ok(id)
    }

    /// Binds queues as the broker does when it replays: the whole list or nothing. The ids are in the
    /// order of the list.
    ///
    /// # Errors
    /// The refusal of the first that the type refuses.
    pub fn bind_all<K: AsRef<[u8]>>(
        &mut self,
        bindings: impl IntoIterator<Item = (K, Arguments)>,
    ) -> Result<Vec<BindingId>, Refusal> {
        let numbered = (self.next_id..).zip(bindings).map(|(id, (key, arguments))| Binding {
            id: BindingId(id),
            routing_key: key.as_ref().to_vec(),
            arguments,
            destination: Destination::Queue(format!("queue-{id}").into()),
        });
        let bindings: Vec<_> = numbered.collect();
        let ids = bindings.iter().map(|binding| binding.id).collect();
        self.take(bindings)?;
        Ok(ids)
    }

    fn take(&mut self, bindings: Vec<Binding>) -> Result<(), Refusal> {
        self.next_id += bindings.len() as u64;
        let Self { open, host, .. } = self;
        if open.exchange.wants_bindings() {
            host.call_and_commit(CallKind::WithoutEffects, || open.bind_all(bindings.iter().cloned()))?;
        }
        self.bindings.extend(bindings);
        Ok(())
    }

    /// Unbinds.
    pub fn unbind(&mut self, id: BindingId) {
        let Self { open, host, bindings, .. } = self;
        bindings.retain(|binding| binding.id != id);
        if open.exchange.wants_bindings() {
            host.call_and_commit(CallKind::WithoutEffects, || open.unbind_all([id].into_iter()));
        }
    }

    /// What the exchange reads now.
    pub fn reads(&self) -> &Reads {
        &self.open.reads
    }

    /// The inner type; none where the exchange is put in front of another.
    pub fn inner(&self) -> Option<InnerType> {
        self.open.inner()
    }

    /// The struct itself.
    pub fn exchange(&self) -> &T {
        &self.open.exchange
    }

    /// What its capabilities reach.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Routes a message that has a routing key and nothing else.
    pub fn route(&mut self, routing_key: impl AsRef<[u8]>) -> Routed {
        self.route_message(&TestMessage::new(routing_key))
    }

    /// Routes a message. Its effects take place if it is accepted: not rejected, and not unroutable.
    pub fn route_message(&mut self, message: &TestMessage) -> Routed {
        let (routed, effects) = self.ask(message);
        self.host.with(|state| state.commit(&effects));
        routed
    }

    /// Routes a message, and leaves open whether the broker accepts it.
    pub fn route_undecided(&mut self, message: &TestMessage) -> (Routed, Undecided) {
        let (routed, effects) = self.ask(message);
        (routed, Undecided::new(&self.host, effects))
    }

    /// Routes messages in one call, which a plugin without effects gets.
    pub fn route_all<'m>(&mut self, messages: impl IntoIterator<Item = &'m TestMessage>) -> Vec<Routed> {
        let (mut batch, mut refused) = (Vec::new(), Vec::new());
        for message in messages {
            let too_long = message.too_long_for(&self.open.reads);
            if too_long.is_none() {
                message.put_into_batch(&self.open.reads, &mut batch);
            }
            refused.push(too_long);
        }
        let Self { open, host, .. } = self;
        let mut routed = host.call_and_commit(CallKind::Messages, || route_batch(open, &batch)).into_iter();
        refused
            .into_iter()
            .filter_map(|reason| reason.map(Routed::Reject).or_else(|| routed.next()))
            .collect()
    }

    fn ask(&mut self, message: &TestMessage) -> (Routed, Vec<Effect>) {
        if let Some(reason) = message.too_long_for(&self.open.reads) {
            return (Routed::Reject(reason), Vec::new());
        }
        let mut batch = Vec::new();
        message.put_into_batch(&self.open.reads, &mut batch);
        let Self { open, host, .. } = self;
        let call = || route_batch(open, &batch).pop();
        let outcome = |routed: &Option<Routed>| routed.as_ref().map_or(Outcome::Rejected, Routed::outcome);
        let (routed, mut effects, in_doubt) = host.call(CallKind::Message(message.clone()), call, outcome);
        let Some(routed) = routed else { panic!("a message got no decision") };
        match routed {
            _ if in_doubt => (Routed::InDoubt, effects),
            Routed::Hold(time) => {
                let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let due_ms = host.now().saturating_add(time_ms);
                effects.push(Effect::Hold { due_ms, message: message.clone() });
                (routed, effects)
            }
            routed => (routed, effects),
        }
    }
}

fn route_batch<T: ExchangeType>(open: &mut Open<T>, batch: &[u8]) -> Vec<Routed> {
    let _watch = Watch::begin();
    let mut words = Vec::new();
    open.route_batch(batch, &mut words);
    let mut words = words.as_slice();
    let mut decisions = Vec::new();
    while let Some((answer, rest)) = Answer::read(words) {
        decisions.push(Routed::new(answer));
        words = rest;
    }
    decisions
}

impl<T: Marks> Exchange<T> {
    /// Routes a message, and says whether it has the mark of each binding that it goes to.
    pub fn marks_hold(&mut self, message: &TestMessage) -> bool {
        let mut projection = Vec::new();
        message.put_into_batch(&self.open.reads, &mut projection);
        let Routed::Deliver(ids) = self.route_message(message) else {
            return true;
        };
        let mut bindings = self.bindings.iter().filter(|binding| ids.contains(&binding.id));
        bindings.all(|binding| self.open.exchange.mark(binding).is_in(&projection))
    }
}

impl<T: Events> Exchange<T> {
    /// Binds a queue as a client does, and gives the kept messages that the queue gets for it.
    ///
    /// # Errors
    /// The type's refusal.
    pub fn bind_and_tell(
        &mut self,
        routing_key: impl AsRef<[u8]>,
        arguments: Arguments,
    ) -> Result<(BindingId, Vec<TestMessage>), Refusal> {
        let id = self.bind(routing_key, arguments)?;
        let Self { open, host, bindings, .. } = self;
        let Some(binding) = bindings.last() else { panic!("a binding that was made is not there") };
        let stored = host.call_and_commit(CallKind::WithoutMessage, || open.exchange.bound(binding));
        Ok((id, stored.into_iter().filter_map(|id| host.stored(id)).collect()))
    }

    /// Unbinds as a client does.
    pub fn unbind_and_tell(&mut self, id: BindingId) {
        let binding = self.bindings.iter().find(|binding| binding.id == id).cloned();
        self.unbind(id);
        if let Some(binding) = binding {
            let Self { open, host, .. } = self;
            host.call_and_commit(CallKind::WithoutMessage, || open.exchange.unbound(&binding));
        }
    }
}

impl<T: Timers> Exchange<T> {
    /// Calls the timers that are due by the host's clock, the first first, those included that fall due
    /// meanwhile. Says how many.
    pub fn fire_timers(&mut self) -> usize {
        let mut fired = 0;
        while let Some(name) = self.host.take_due_timer() {
            let Self { open, host, .. } = self;
            host.call_and_commit(CallKind::WithoutMessage, || open.exchange.timer(&name));
            fired += 1;
        }
        fired
    }
}

impl<T: Info> Exchange<T> {
    /// What an operator sees.
    pub fn info(&self) -> Arguments {
        self.host.call_and_commit(CallKind::WithoutEffects, || self.open.exchange.info())
    }
}

impl<T: Reconfigure> Exchange<T> {
    /// An operator changes the arguments.
    ///
    /// # Errors
    /// The type's refusal.
    ///
    /// # Panics
    /// The inner type is another than before, which the contract forbids.
    pub fn reconfigure(&mut self, arguments: Arguments) -> Result<(), Refusal> {
        let Self { open, host, .. } = self;
        let inner = open.inner();
        host.call_and_commit(CallKind::WithoutEffects, || open.reconfigure(&arguments))?;
        assert_eq!(open.inner(), inner, "the inner type may not change");
        self.declaration.arguments = arguments;
        Ok(())
    }
}

impl<T: Migrate> Exchange<T> {
    /// The state is that of an older version.
    ///
    /// # Errors
    /// The type refuses to take it over.
    pub fn migrate(&mut self, from_version: &str) -> Result<(), String> {
        let Self { open, host, .. } = self;
        host.call_and_commit(CallKind::WithoutMessage, || open.exchange.migrate(from_version))
    }
}
