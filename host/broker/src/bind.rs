//! Bindings: `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind`.

use crate::{
    ConnectionId,
    exchange::{Destination, Exchange},
    port::{Layer, Router},
    publish::{Publish, Published, Publisher},
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
        self.check_not_default(source, to)?;
        let mut changes = self.changes.lock();
        let source = self.exchange(source).ok_or_else(|| self.no_exchange(source))?;
        let destination = self.destination(to)?;
        check_owner(&destination, by)?;
        let routing_key = key(routing_key)?;
        if source.find(&destination, &routing_key, &arguments).is_some() {
            return Ok(());
        }
        let binding = source.prepare(destination, routing_key, arguments);
        router.bind(&source, &binding)?;
        if matches!(&binding.destination, Destination::Queue(queue) if queue.is_deleted()) {
            // Its last consumer went while the type was asked; its removal waits for our lock.
            return Err(self.no_queue(binding.destination.name()));
        }
        // Of what was unbound here before the type is told before.
        self.tell(&mut changes, Some(&mut *router));
        let binding = changes.bind(&source, binding);
        let mut deeds = Vec::new();
        let stored = router.bound(&source, &binding, &mut deeds);
        self.perform(&mut deeds, 0);
        match &binding.destination {
            Destination::Queue(queue) if !stored.is_empty() => {
                // A queue that is deleted meanwhile has no use for them.
                self.put(queue, stored.iter().map(|message| &**message));
            }
            Destination::Exchange(exchange) if !stored.is_empty() => {
                drop(changes);
                self.publish_stored(router, exchange, &stored);
            }
            Destination::Queue(_) | Destination::Exchange(_) => {}
        }
        Ok(())
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
        self.check_not_default(source, to)?;
        let mut changes = self.changes.lock();
        let Some(source) = self.exchange(source) else {
            return Ok(());
        };
        let Ok(destination) = self.destination(to) else {
            return Ok(());
        };
        check_owner(&destination, by)?;
        let Some(binding) = source.find(&destination, routing_key, &arguments) else {
            return Ok(());
        };
        changes.unbind(&source, &binding);
        let gone = changes.delete_unbound(Vec::from([source]));
        self.forget_exchanges(&gone);
        self.tell(&mut changes, Some(router));
        Ok(())
    }

    fn check_not_default(&self, source: &[u8], to: BindTo<'_>) -> Result<(), Refusal> {
        if source.is_empty() || to == BindTo::Exchange(b"") {
            Err(self.protected(Name::EMPTY))
        } else {
            Ok(())
        }
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
