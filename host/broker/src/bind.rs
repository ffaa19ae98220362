//! Bindings: `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind`.

use crate::{
    ConnectionId, equivalence,
    exchange::{Binding, Destination, Exchange},
    keep::is_kept_binding,
    origin::Origin,
    port::{Layer, Router},
    publish::{Publish, Published, Publisher},
    receipt::Receipt,
    replies,
    telling::Now,
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::{Name, OwnedMessage, Refusal, Table};

/// What a binding is to lead to, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindTo<'a> {
    /// A queue.
    Queue(&'a [u8]),
    /// An exchange.
    Exchange(&'a [u8]),
}

impl Vhost {
    /// Binds (`queue.bind`, `exchange.bind`). What is bound already stays as it is. When this
    /// returns, publishes that begin afterwards are routed by it, and the destination has what the
    /// source stored for it. It is safe as the receipt says.
    ///
    /// # Errors
    /// Source or destination not there, or the default exchange; an exclusive queue of another
    /// connection; the refusal of the exchange's type; a durable binding that the store does not take.
    pub fn bind(
        self: &Arc<Self>,
        router: &mut dyn Router,
        source: &[u8],
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<Receipt, Refusal> {
        let source = self.source(source, to)?;
        let _order = (!router.is_quick(&source)).then(|| self.order.lock());
        match self.prepare_binding(source, to, routing_key, arguments, by)? {
            Preparation::New(prepared) => self.ask_and_bind(router, prepared),
            Preparation::Bound(receipt) => Ok(receipt),
        }
    }

    /// [`Self::bind`], for whoever must not wait.
    ///
    /// # Errors
    /// The same.
    pub fn bind_now(
        self: &Arc<Self>,
        router: &mut dyn Router,
        source: &[u8],
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<Now<()>, Refusal> {
        let source = self.source(source, to)?;
        let is_quick = router.is_quick(&source);
        match self.prepare_binding(source, to, routing_key, arguments, by)? {
            Preparation::New(prepared) if is_quick => {
                self.ask_and_bind(router, prepared).map(|receipt| Now::Done((), receipt))
            }
            Preparation::New(_) => Ok(Now::Ask),
            Preparation::Bound(receipt) => Ok(Now::Done((), receipt)),
        }
    }

    /// Checks what can be checked without the type.
    fn prepare_binding(
        &self,
        source: Arc<Exchange>,
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<Preparation, Refusal> {
        let changes = self.changes.lock();
        if source.is_deleted() {
            return Err(self.no_exchange(&source.spec.name));
        }
        let destination = self.destination(to)?;
        check_owner(&destination, by)?;
        let routing_key = key(routing_key)?;
        if source.find(&destination, &routing_key, &arguments).is_some() {
            let is_durable = is_kept_binding(&source, &destination);
            return Ok(Preparation::Bound(self.written_before(&changes, is_durable)));
        }
        check_pattern(&source, &routing_key)?;
        let binding = Some(source.prepare(destination, routing_key, arguments));
        Ok(Preparation::New(Prepared { source, binding }))
    }

    /// Asks the type whether it takes a binding, and makes it.
    fn ask_and_bind(
        self: &Arc<Self>,
        router: &mut dyn Router,
        mut new: Prepared,
    ) -> Result<Receipt, Refusal> {
        let Some(binding) = &new.binding else { return Ok(Receipt::default()) };
        router.bind(&new.source, binding).map_err(|refusal| in_its_words(refusal, &new.source))?;
        // Of what was unbound here before the type is told before.
        if router.is_quick(&new.source) {
            self.tell_quick(router);
        } else {
            self.tell_all(router);
        }
        let (binding, receipt) = self.commit_binding(&mut new)?;
        let Some(binding) = binding else { return Ok(receipt) };
        let (source, mut deeds) = (&new.source, Vec::new());
        let stored = router.bound(source, &binding, &mut deeds);
        let now_ms = router.now_ms();
        self.perform(&mut deeds, Origin::default(), now_ms);
        if stored.is_empty() {
            return Ok(receipt);
        }
        match &binding.destination {
            // A queue that is deleted meanwhile has no use for them.
            Destination::Queue(queue) => {
                let _ = self.put(queue, stored.iter().map(|message| &**message), now_ms);
            }
            Destination::Exchange(exchange) => self.publish_stored(router, (source, exchange), &stored),
        }
        Ok(receipt)
    }

    /// Makes a binding visible that its type took; `None` if there is the same one by now. What went
    /// while the type was asked cannot be bound any more.
    fn commit_binding(&self, new: &mut Prepared) -> Result<(Option<Arc<Binding>>, Receipt), Refusal> {
        let mut changes = self.changes.lock();
        let source = new.source.clone();
        let Some(binding) = &new.binding else { return Ok((None, Receipt::default())) };
        if source.is_deleted() {
            return Err(self.no_exchange(&source.spec.name));
        }
        let name = binding.destination.name();
        match &binding.destination {
            Destination::Queue(queue) if queue.is_deleted() => return Err(self.no_queue(name)),
            Destination::Exchange(exchange) if exchange.is_deleted() => return Err(self.no_exchange(name)),
            Destination::Queue(_) | Destination::Exchange(_) => {}
        }
        let is_durable = is_kept_binding(&source, &binding.destination);
        if source.find(&binding.destination, &binding.routing_key, &binding.arguments).is_some() {
            return Ok((None, self.written_before(&changes, is_durable)));
        }
        self.admit(is_durable, format_args!("a binding of exchange '{}'", source.spec.name))?;
        let Some(binding) = new.binding.take() else { return Ok((None, Receipt::default())) };
        let binding = changes.bind(&source, binding);
        let receipt = self.write(&mut changes, |writing| writing.bound(&source, &binding));
        Ok((Some(binding), receipt))
    }

    /// Publishes to an exchange what its new source stored; what it does not take now, soon.
    fn publish_stored(
        self: &Arc<Self>,
        router: &mut dyn Router,
        (source, exchange): (&Exchange, &Arc<Exchange>),
        stored: &[Arc<OwnedMessage>],
    ) {
        let plugin: Arc<str> = Arc::from(source.spec.type_name.to_text());
        let batch: Vec<Publish<'_>> = stored
            .iter()
            .map(|message| Publish { channel: 0, message: message.view(), mandatory: false, more_keys: None })
            .collect();
        let (mut outcomes, waker) = (Vec::new(), self.later.waker());
        let to = (exchange, Layer::FRONT);
        Publisher::default().publish_own(self, router, to, (&batch, &mut Vec::new()), &mut outcomes, &waker);
        for (place, message) in stored.iter().enumerate() {
            let done = matches!(
                outcomes.get(place),
                Some(Published::Routed | Published::Unroutable | Published::Dropped)
            );
            if !done {
                let (name, message) = (exchange.spec.name.clone(), OwnedMessage::clone(message));
                self.later.publish_soon(name, message, plugin.clone(), Origin::default());
            }
        }
    }

    /// Unbinds (`queue.unbind`, `exchange.unbind`). What is not bound, or not there at all, counts
    /// as unbound. An auto-delete source goes with its last binding.
    ///
    /// # Errors
    /// The default exchange; something bound to an exclusive queue of another connection.
    pub fn unbind(
        &self,
        router: &mut dyn Router,
        source: &[u8],
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<(), Refusal> {
        self.unbind_now(router, source, to, routing_key, arguments, by)?;
        self.tell_types(router);
        Ok(())
    }

    /// [`Self::unbind`], for whoever must not wait.
    ///
    /// # Errors
    /// The same.
    pub fn unbind_now(
        &self,
        router: &mut dyn Router,
        source: &[u8],
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<Now<()>, Refusal> {
        self.check_bindable(source, to)?;
        let mut changes = self.changes.lock();
        let Some(source) = self.exchange(source) else {
            return Ok(Now::Done((), self.written_before(&changes, true)));
        };
        let Ok(destination) = self.destination(to) else {
            return Ok(Now::Done((), self.written_before(&changes, true)));
        };
        let Some(binding) = source.find(&destination, routing_key, &arguments) else {
            return Ok(Now::Done((), self.written_before(&changes, true)));
        };
        check_owner(&destination, by)?;
        changes.unbind(&source, &binding);
        let gone = changes.delete_unbound(Vec::from([source.clone()]));
        self.forget_exchanges(&gone);
        let receipt = self.write(&mut changes, |writing| {
            writing.unbound(&source, &binding);
            writing.exchanges_gone(&gone);
        });
        Ok(self.made(changes, Some(router), ((), receipt)))
    }

    fn check_bindable(&self, source: &[u8], to: BindTo<'_>) -> Result<(), Refusal> {
        match to {
            _ if source.is_empty() => Err(self.protected(Name::EMPTY)),
            BindTo::Exchange(b"") => Err(self.protected(Name::EMPTY)),
            BindTo::Queue(name) if replies::is_name(name) => Err(Refusal::NotBindable),
            BindTo::Exchange(_) | BindTo::Queue(_) => Ok(()),
        }
    }

    /// Where a binding that is to be made leads from.
    fn source(&self, source: &[u8], to: BindTo<'_>) -> Result<Arc<Exchange>, Refusal> {
        self.check_bindable(source, to)?;
        self.exchange(source).ok_or_else(|| self.no_exchange(source))
    }

    fn destination(&self, to: BindTo<'_>) -> Result<Destination, Refusal> {
        match to {
            BindTo::Queue(name) => {
                self.queue(name).map(Destination::Queue).ok_or_else(|| self.no_queue(name))
            }
            BindTo::Exchange(name) => {
                let exchange: Option<Arc<Exchange>> = self.exchange(name);
                exchange.map(Destination::Exchange).ok_or_else(|| self.no_exchange(name))
            }
        }
    }
}

/// What came of looking at a binding that is to be made.
enum Preparation {
    /// Its type is to be asked.
    New(Prepared),
    /// It is bound already.
    Bound(Receipt),
}

/// A binding that its type is asked about. Dropped with it, its number may be given to another.
struct Prepared {
    source: Arc<Exchange>,
    binding: Option<Binding>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(binding) = self.binding.take() {
            self.source.give_up(binding.id);
        }
    }
}

fn check_owner(destination: &Destination, by: ConnectionId) -> Result<(), Refusal> {
    match destination {
        Destination::Queue(queue) => queue.check_access(by),
        Destination::Exchange(_) => Ok(()),
    }
}

fn key(routing_key: &[u8]) -> Result<Name, Refusal> {
    Name::new(routing_key)
        .map_err(|error| Refusal::InvalidArgument { text: alloc::format!("routing key: {error}") })
}

/// What the types that are everywhere refuse is told in their words alone, which are RabbitMQ's.
fn in_its_words(refusal: Refusal, source: &Exchange) -> Refusal {
    match refusal {
        Refusal::PluginRefused { text, .. } if equivalence::is_core(&source.spec.type_name) => {
            Refusal::InvalidArgument { text }
        }
        other => other,
    }
}

/// How many words of a topic pattern may be `#`, as in RabbitMQ.
const MULTI_WORDS_MAX: usize = 2;

/// Whether a topic exchange may have a new binding of this pattern. Its type takes others too, since bindings that were
/// made before are bindings still.
///
/// # Errors
/// More than [`MULTI_WORDS_MAX`] of its words are `#`.
fn check_pattern(source: &Exchange, pattern: &Name) -> Result<(), Refusal> {
    if source.spec.type_name.as_bytes() != b"topic" {
        return Ok(());
    }
    let count = pattern.split(|byte| *byte == b'.').filter(|word| *word == b"#").count();
    if count <= MULTI_WORDS_MAX {
        return Ok(());
    }
    let text = alloc::format!(
        "Topic binding key '{pattern}' uses {count} '#' wildcards, at most {MULTI_WORDS_MAX} are allowed"
    );
    Err(Refusal::InvalidArgument { text })
}
