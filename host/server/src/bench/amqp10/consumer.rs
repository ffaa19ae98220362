//! Deliveries, counted frame by frame.
//!
//! ```text
//! transfer  00 53 14, c0 size u8 count u8, fields: handle, delivery-id, delivery-tag, message-format, settled, more, …
//! field     40 null   41 42 booleans   43 the uint 0   52 a uint of one byte   70 one of four   a0 length u8, bytes
//! ```
//! Whatever looks different is decoded as a whole.

use super::link::{CHANNEL, FRAME_BYTES_MAX, Link, RECEIVER, ended, flow};
use crate::bench::{
    AckMode, Plan,
    consumer::{Pass, Receiver},
    wire::{Patience, Wire},
};
use leveret_amqp10::{
    Performative,
    form::address,
    frame::{self, AMQP},
    messaging::Accepted,
    performatives::{Disposition, Flow, Role},
};

/// The credit where a plan says none.
pub(in crate::bench) const CREDIT: u16 = 1000;

pub(in crate::bench) struct Consumer {
    link: Link,
    body_bytes: usize,
    ack: AckMode,
    credit: u32,
    /// The next transfer's number.
    next_transfer: u32,
    /// How many deliveries came; counts from where the broker does.
    delivery_count: u32,
    /// Up to which count deliveries may come, as was told.
    granted: u32,
    /// The number of the last delivery.
    last_delivery: u32,
    unacked: u64,
    /// Whether a delivery has begun whose end has not come.
    is_partial: bool,
}

/// A connection that consumes from that queue.
pub(in crate::bench) fn consumer(plan: &Plan, queue: &str, patience: &Patience) -> anyhow::Result<Consumer> {
    let mut link = Link::open(&plan.target, patience)?;
    let settled = plan.ack == AckMode::Auto;
    let delivery_count = link.receive_from(&address::of_queue(queue.as_bytes()), settled)?;
    let mut consumer = Consumer {
        body_bytes: plan.body_bytes,
        ack: plan.ack,
        credit: u32::from(plan.credit()),
        next_transfer: link.first_transfer,
        delivery_count,
        granted: delivery_count,
        last_delivery: 0,
        unacked: 0,
        is_partial: false,
        link,
    };
    let mut out = Vec::new();
    consumer.grant(&mut out);
    consumer.link.wire.send(&out)?;
    Ok(consumer)
}

/// What is looked at in a transfer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    delivery_id: Option<u32>,
    more: bool,
}

/// Of a transfer as brokers write it; `None` if it is anything else.
#[inline]
fn glance(body: &[u8]) -> Option<Seen> {
    const FIELDS: usize = 6;
    let [0x00, 0x53, 0x14, 0xc0, _, count, rest @ ..] = body else { return None };
    let mut seen = Seen::default();
    let mut rest = rest;
    for field in 0..usize::from(*count).min(FIELDS) {
        let (code, after) = rest.split_first()?;
        let length = match code {
            0x40..=0x43 => 0,
            0x52 => 1,
            0x70 => 4,
            0xa0 => 1 + usize::from(*after.first()?),
            _ => return None,
        };
        let (value, after) = after.split_at_checked(length)?;
        match (field, code) {
            (1, 0x43) => seen.delivery_id = Some(0),
            (1, 0x52) => seen.delivery_id = Some(u32::from(value[0])),
            (1, 0x70) => seen.delivery_id = Some(u32::from_be_bytes(*value.first_chunk()?)),
            (5, 0x41) => seen.more = true,
            _ => {}
        }
        rest = after;
    }
    Some(seen)
}

impl Consumer {
    fn on_transfer(&mut self, seen: &Seen, body: &[u8], pass: &mut Pass) {
        self.next_transfer = self.next_transfer.wrapping_add(1);
        if let Some(id) = seen.delivery_id {
            self.last_delivery = id;
        }
        let was_partial = std::mem::replace(&mut self.is_partial, seen.more);
        if seen.more {
            return;
        }
        pass.deliveries += 1;
        // The body is the last section, and all of it is here.
        if !was_partial && let Some(start) = body.len().checked_sub(self.body_bytes) {
            pass.stamp(&body[start..]);
        }
    }

    /// Gives as much credit as there is to be again.
    fn grant(&mut self, out: &mut Vec<u8>) {
        let unacked = if self.ack == AckMode::Auto { 0 } else { self.unacked as u32 };
        let link_credit = self.credit.saturating_sub(unacked);
        let granted = self.delivery_count.wrapping_add(link_credit);
        if granted.wrapping_sub(self.granted) < (self.credit / 2).max(1) {
            return;
        }
        self.granted = granted;
        let flow = Flow {
            handle: Some(RECEIVER),
            delivery_count: Some(self.delivery_count),
            link_credit: Some(link_credit),
            ..flow(self.next_transfer)
        };
        frame::put_performative(out, CHANNEL, &flow);
    }
}

impl Receiver for Consumer {
    fn scan(&mut self, bytes: &[u8], pass: &mut Pass) -> anyhow::Result<()> {
        while let Some(found) = frame::split(&bytes[pass.used..], AMQP, FRAME_BYTES_MAX)? {
            pass.used += found.length_bytes;
            match glance(found.body) {
                Some(seen) => self.on_transfer(&seen, found.body, pass),
                None if found.body.is_empty() => {}
                None => match Performative::from_body(found.body)?.0 {
                    Performative::Transfer(transfer) => {
                        let seen = Seen { delivery_id: transfer.delivery_id, more: transfer.more };
                        self.on_transfer(&seen, found.body, pass);
                    }
                    other => ended(&other)?,
                },
            }
        }
        self.delivery_count = self.delivery_count.wrapping_add(pass.deliveries as u32);
        self.unacked += pass.deliveries;
        Ok(())
    }

    /// Accepts so many at once, and renews the credit at the half.
    fn answer(&mut self, out: &mut Vec<u8>) {
        if let AckMode::Every(each) = self.ack {
            while self.unacked >= each {
                self.unacked -= each;
                let last = self.last_delivery.wrapping_sub(self.unacked as u32);
                let disposition = Disposition {
                    role: Role::Receiver,
                    first: last.wrapping_sub(each as u32 - 1),
                    last: (each > 1).then_some(last),
                    settled: true,
                    state: Some(Accepted {}.into()),
                    batchable: true,
                };
                frame::put_performative(out, CHANNEL, &disposition);
            }
        }
        self.grant(out);
    }

    fn wire(&mut self) -> &mut Wire {
        &mut self.link.wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_amqp10::{
        composite::Composite,
        performatives::{DeliveryTag, Transfer},
    };

    #[test]
    fn a_glance_sees_what_decoding_would() {
        for (delivery_id, more, handle) in [(0, false, 0), (7, true, 1), (300, false, 70_000)] {
            let transfer = Transfer {
                handle,
                delivery_id: Some(delivery_id),
                delivery_tag: DeliveryTag::new(b"tag"),
                message_format: Some(0),
                settled: Some(true),
                more,
                ..Transfer::default()
            };
            let mut body = Vec::new();
            transfer.encode(&mut body);
            body.extend(b"payload");
            assert_eq!(glance(&body), Some(Seen { delivery_id: Some(delivery_id), more }), "{body:02x?}");
            // However it is cut.
            (0..body.len() - 7).for_each(|end| {
                assert!(
                    glance(&body[..end])
                        .is_none_or(|seen| seen == (Seen { delivery_id: Some(delivery_id), more })),
                    "{end}"
                )
            });
        }
        let mut goes_on = Vec::new();
        Transfer { handle: 1, more: true, ..Transfer::default() }.encode(&mut goes_on);
        assert_eq!(glance(&goes_on), Some(Seen { delivery_id: None, more: true }));
    }

    #[test]
    fn anything_else_is_left_to_the_decoder() {
        let mut flow_body = Vec::new();
        flow(3).encode(&mut flow_body);
        assert_eq!(glance(&flow_body), None);
        assert_eq!(glance(b""), None);
        // A handle as a ulong is none.
        assert_eq!(glance(&[0x00, 0x53, 0x14, 0xc0, 3, 1, 0x53, 1]), None);
    }
}
