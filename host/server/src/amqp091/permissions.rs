//! What the user of a connection may do, and which of many publishes it may not make.

use super::Open;
use crate::acting::Acting;
use leveret_amqp091::Publish;
use leveret_model::Refusal;

impl Open {
    /// The user in its virtual host.
    pub(super) fn acting(&mut self) -> Acting<'_> {
        Acting { vhost: &self.vhost, rights: Some(&mut self.rights) }
    }

    /// The first of publishes that the user may not make, and why.
    pub(super) fn first_denied(&mut self, batch: &[Publish<'_>]) -> Option<(usize, Refusal)> {
        let has_topics = self.rights.has_topics();
        // Asked once for those that follow each other to one exchange.
        let mut allowed: Option<&[u8]> = None;
        batch.iter().enumerate().find_map(|(at, publish)| {
            let exchange: &[u8] = &publish.exchange;
            let is_asked = allowed.is_some_and(|allowed| is_same(allowed, exchange));
            let mut denied = if is_asked { None } else { self.acting().demand_write(exchange).err() };
            if denied.is_none() && (has_topics || has_user_id(publish)) {
                let to = (exchange, &*publish.routing_key);
                denied = self.acting().demand_publish(to, &publish.properties).err();
            }
            allowed = Some(exchange);
            denied.map(|denied| (at, denied))
        })
    }
}

/// Whether a message has the property `user-id`: bit 4 of the flags.
#[inline]
fn has_user_id(publish: &Publish<'_>) -> bool {
    publish.properties.get(1).is_some_and(|flags| flags & 0x10 != 0)
}

/// Whether two names are the same. Most are empty, and comparing no bytes at all can be slow.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
