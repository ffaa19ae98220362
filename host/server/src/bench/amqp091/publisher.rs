//! What a publisher sends: for each key what goes before the body is ready-made.

use super::link::{CHANNEL, Link};
use crate::bench::{
    KeyOrder, Plan,
    keys::Numbers,
    publisher::{Outlet, Told},
    topology::{self, Names},
    wire::{Patience, Wire},
};
use leveret_amqp091::{Method, client::put_publish, frame, properties::MessageProperties};

/// What is sent, message after message.
pub(in crate::bench) struct Publisher<'a> {
    link: Link,
    plan: &'a Plan,
    names: &'a Names,
    numbers: Numbers,
    /// For each key what goes before the body, if keys come again.
    heads: Vec<Box<[u8]>>,
    /// The frames of the body.
    body: Vec<u8>,
    is_stamped: bool,
    /// Used again for each key that is new.
    key: String,
}

/// A connection that publishes, and the half of it that hears confirms, and whether the broker ended something.
pub(in crate::bench) fn publisher<'a>(
    plan: &'a Plan,
    names: &'a Names,
    index: usize,
    patience: &Patience,
) -> anyhow::Result<(Publisher<'a>, Link)> {
    let mut link = Link::open(&plan.target, patience)?;
    if plan.confirm_window.is_some() {
        link.confirm_select()?;
    }
    let inlet = link.beside()?;
    let numbers = Numbers::new(plan.key_order, plan.keys, index, plan.publishers)?;
    let mut body = Vec::new();
    frame::put_body(&mut body, CHANNEL, &vec![b'x'; plan.body_bytes], link.frame_bytes_max);
    // The body frame is last when the body fits one frame: its content ends before the end octet.
    let is_stamped = plan.body_bytes >= 8 && plan.body_bytes + 8 <= link.frame_bytes_max as usize;
    let (heads, key) = (Vec::new(), String::new());
    let mut publisher = Publisher { link, plan, names, numbers, heads, body, is_stamped, key };
    if plan.key_order != KeyOrder::New {
        publisher.heads = (0..plan.keys as u64).map(|number| publisher.head(number)).collect();
    }
    Ok((publisher, inlet))
}

impl Publisher<'_> {
    /// What goes before the body with key number `number`.
    fn head(&mut self, number: u64) -> Box<[u8]> {
        self.names.put_key(self.plan, number, &mut self.key);
        let exchange = self.names.exchange.as_bytes();
        let mut head = Vec::new();
        let publish = Method::BasicPublish {
            exchange,
            routing_key: self.key.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        frame::put_method(&mut head, CHANNEL, &publish);
        let properties = properties(self.plan, &self.key);
        frame::put_header(&mut head, CHANNEL, &properties, self.plan.body_bytes as u64);
        head.into()
    }
}

impl Outlet for Publisher<'_> {
    #[inline]
    fn put(&mut self, chunk: &mut Vec<u8>, stamp: u64) {
        let number = self.numbers.next();
        match self.heads.get(number as usize) {
            Some(head) => chunk.extend_from_slice(head),
            None => {
                let head = self.head(number);
                chunk.extend_from_slice(&head);
            }
        }
        chunk.extend_from_slice(&self.body);
        if self.is_stamped {
            let at = chunk.len() - 1 - self.plan.body_bytes;
            chunk[at..at + 8].copy_from_slice(&stamp.to_le_bytes());
        }
    }

    fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    fn room(&self, _sent: u64, _told: &Told) -> u64 {
        u64::MAX
    }

    fn wire(&mut self) -> &mut Wire {
        &mut self.link.wire
    }
}

/// Appends a transient message to that queue, with nothing in it but its body.
pub(in crate::bench) fn put_message(chunk: &mut Vec<u8>, queue: &[u8], body: &[u8], frame_bytes_max: u32) {
    let properties = MessageProperties { delivery_mode: Some(1), ..MessageProperties::default() }.encode();
    put_publish(chunk, CHANNEL, b"", queue, &properties, body, frame_bytes_max);
}

/// The properties of a message with that key: how durable it is, and headers where the exchange looks at them.
fn properties(plan: &Plan, key: &str) -> Vec<u8> {
    let delivery_mode = Some(if plan.persistent { 2 } else { 1 });
    let headers = topology::message_headers(plan, key);
    MessageProperties { delivery_mode, headers, ..MessageProperties::default() }.encode()
}
