//! Bindings: `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind`.

use crate::{
    ConnectionId,
    exchange::{Binding, Destination, Exchange},
    port::{Layer, Router},
    publish::{Publish, Published, Publisher},
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
    /// source stored for it.
    ///
    /// # Errors
    /// Source or destination not there, or the default exchange; an exclusive queue of another
    /// connection; the refusal of the exchange's type.
    pub fn bind(
        self: &Arc<Self>,
        router: &mut dyn Router,
        source: &[u8],
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<(), Refusal> {
        let source = self.source(source, to)?;
        let _order = (!router.is_quick(&source)).then(|| self.order.lock());
        match self.prepare_binding(source, to, routing_key, arguments, by)? {
            Some(prepared) => self.ask_and_bind(router, prepared),
            None => Ok(()),
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
            Some(prepared) if is_quick => self.ask_and_bind(router, prepared).map(Now::Done),
            Some(_) => Ok(Now::Ask),
            None => Ok(Now::Done(())),
        }
    }

    /// Checks what can be checked without the type. `None` if it is bound already.
    fn prepare_binding(
        &self,
        source: Arc<Exchange>,
        to: BindTo<'_>,
        routing_key: &[u8],
        arguments: Table,
        by: ConnectionId,
    ) -> Result<Option<Prepared>, Refusal> {
        let _changes = self.changes.lock();
        if source.is_deleted() {
            return Err(self.no_exchange(&source.spec.name));
        }
        let destination = self.destination(to)?;
        check_owner(&destination, by)?;
        let routing_key = key(routing_key)?;
        if source.find(&destination, &routing_key, &arguments).is_some() {
            return Ok(None);
        }
        let binding = Some(source.prepare(destination, routing_key, arguments));
        Ok(Some(Prepared { source, binding }))
    }

    /// Asks the type whether it takes a binding, and makes it.
    fn ask_and_bind(self: &Arc<Self>, router: &mut dyn Router, mut new: Prepared) -> Result<(), Refusal> {
        let Some(binding) = &new.binding else { return Ok(()) };
        router.bind(&new.source, binding)?;
        // Of what was unbound here before the type is told before.
        if router.is_quick(&new.source) {
            self.tell_quick(router);
        } else {
            self.tell_all(router);
        }
        let Some(binding) = self.commit_binding(&mut new)? else { return Ok(()) };
        let (source, mut deeds) = (&new.source, Vec::new());
        let stored = router.bound(source, &binding, &mut deeds);
        self.perform(&mut deeds, 0);
        if stored.is_empty() {
            return Ok(());
        }
        match &binding.destination {
            // A queue that is deleted meanwhile has no use for them.
            Destination::Queue(queue) => drop(self.put(queue, stored.iter().map(|message| &**message))),
            Destination::Exchange(exchange) => self.publish_stored(router, exchange, &stored),
        }
        Ok(())
    }

    /// Makes a binding visible that its type took; `None` if there is the same one by now. What went
    /// while the type was asked cannot be bound any more.
    fn commit_binding(&self, new: &mut Prepared) -> Result<Option<Arc<Binding>>, Refusal> {
        let mut changes = self.changes.lock();
        let source = new.source.clone();
        let Some(binding) = &new.binding else { return Ok(None) };
        if source.is_deleted() {
            return Err(self.no_exchange(&source.spec.name));
        }
        let name = binding.destination.name();
        match &binding.destination {
            Destination::Queue(queue) if queue.is_deleted() => return Err(self.no_queue(name)),
            Destination::Exchange(exchange) if exchange.is_deleted() => return Err(self.no_exchange(name)),
            Destination::Queue(_) | Destination::Exchange(_) => {}
        }
        if source.find(&binding.destination, &binding.routing_key, &binding.arguments).is_some() {
            return Ok(None);
        }
        Ok(new.binding.take().map(|binding| changes.bind(&source, binding)))
    }

    /// Publishes to an exchange what its new source stored; what it does not take now, soon.
    fn publish_stored(
        self: &Arc<Self>,
        router: &mut dyn Router,
        exchange: &Arc<Exchange>,
        stored: &[Arc<OwnedMessage>],
    ) {
        let batch: Vec<Publish<'_>> = stored
            .iter()
            .map(|message| Publish { channel: 0, message: message.view(), mandatory: false })
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
                self.later.emit(exchange.spec.name.clone(), OwnedMessage::clone(message), 0);
            }
        }
    }

    /// Unbinds (`queue.unbind`, `exchange.unbind`). What is not bound, or not there at all, counts
    /// as unbound. An auto-delete source goes with its last binding.
    ///
    /// # Errors
    /// The default exchange; an exclusive queue of another connection.
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
        self.check_not_default(source, to)?;
        let mut changes = self.changes.lock();
        let Some(source) = self.exchange(source) else {
            return Ok(Now::Done(()));
        };
        let Ok(destination) = self.destination(to) else {
            return Ok(Now::Done(()));
        };
        check_owner(&destination, by)?;
        let Some(binding) = source.find(&destination, routing_key, &arguments) else {
            return Ok(Now::Done(()));
        };
        changes.unbind(&source, &binding);
        let gone = changes.delete_unbound(Vec::from([source]));
        self.forget_exchanges(&gone);
        Ok(self.made(changes, Some(router), ()))
    }

    fn check_not_default(&self, source: &[u8], to: BindTo<'_>) -> Result<(), Refusal> {
        if source.is_empty() || to == BindTo::Exchange(b"") {
            Err(self.protected(Name::EMPTY))
        } else {
            Ok(())
        }
    }

    /// Where a binding that is to be made leads from.
    fn source(&self, source: &[u8], to: BindTo<'_>) -> Result<Arc<Exchange>, Refusal> {
        self.check_not_default(source, to)?;
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
