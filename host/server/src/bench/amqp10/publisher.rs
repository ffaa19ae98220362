//! What a publisher sends: for each key what goes before the body is ready-made, but for the number of the delivery.

use super::link::{CHANNEL, Link, SENDER, ended};
use crate::bench::{
    KeyOrder, Plan,
    keys::Numbers,
    publisher::{Inlet, Outlet, Told},
    topology::{self, KEY_HEADER, Names},
    wire::{Patience, Wire},
};
use anyhow::bail;
use leveret_amqp10::{
    Performative,
    composite::Composite,
    descriptor,
    form::address,
    frame::{self, AMQP},
    messaging::{DeliveryState, Header, MESSAGE_FORMAT, Properties},
    performatives::{DeliveryTag, Role, Transfer},
    types::write::{MapBuilder, put, put_descriptor},
};

/// What stands in a ready-made transfer where the number of the delivery goes, in its delivery-id and its delivery-tag.
const PLACES: [[u8; 4]; 2] = [[0xf1, 0xf2, 0xf3, 0xf4], [0xe1, 0xe2, 0xe3, 0xe4]];

/// What is sent, message after message.
pub(in crate::bench) struct Publisher<'a> {
    wire: Wire,
    plan: &'a Plan,
    names: &'a Names,
    numbers: Numbers,
    /// For each key what goes before the body, if keys come again.
    heads: Vec<Head>,
    body: Vec<u8>,
    frame_bytes_max: u32,
    /// How many transfers a message takes at most.
    transfers_each: u64,
    is_anonymous: bool,
    /// The number of the next delivery.
    delivery: u32,
    /// How many transfers were put.
    transfers: u64,
}

/// What goes before a body.
enum Head {
    /// The frame, and where the number of the delivery goes.
    Frame(Box<[u8]>, [usize; 2]),
    /// The sections of a message that needs more than one frame.
    Sections(Box<[u8]>),
}

/// A connection that publishes, the half of it that hears what comes back, and what it has heard.
pub(in crate::bench) fn publisher<'a>(
    plan: &'a Plan,
    names: &'a Names,
    index: usize,
    patience: &Patience,
) -> anyhow::Result<(Publisher<'a>, Hearing, Told)> {
    let mut link = Link::open(&plan.target, patience)?;
    let numbers = Numbers::new(plan.key_order, plan.keys, index, plan.publishers)?;
    let addresses = if plan.exchange_type.is_some() { plan.keys } else { names.queues.len().min(plan.keys) };
    let is_anonymous = addresses > 1 || plan.key_order == KeyOrder::New;
    let fixed = (!is_anonymous).then(|| address_of(plan, names, 0));
    let message_bytes_max = link.send_to(fixed.as_deref(), plan.confirm_window.is_none())?;
    // What became of a message is told by sessions in transfers, by links in deliveries; both begin at 0.
    let told = Told { settled: 0, refused: 0, deliveries_max: 0, transfers_max: u64::from(link.window) };
    let hearing = Hearing { wire: link.wire.beside()? };
    let mut publisher = Publisher {
        wire: link.wire,
        plan,
        names,
        numbers,
        heads: Vec::new(),
        body: vec![b'x'; plan.body_bytes],
        frame_bytes_max: link.frame_bytes_max,
        transfers_each: 1,
        is_anonymous,
        delivery: 0,
        transfers: 0,
    };
    publisher.transfers_each = u64::from(publisher.head(0).1);
    if plan.key_order != KeyOrder::New {
        let heads = (0..plan.keys as u64).map(|number| publisher.head(number));
        let (heads, transfers): (Vec<_>, Vec<_>) = heads.unzip();
        publisher.transfers_each = transfers.into_iter().max().map_or(1, u64::from);
        publisher.heads = heads;
    }
    check_size(plan.body_bytes as u64, message_bytes_max, (publisher.transfers_each, told.transfers_max))?;
    Ok((publisher, hearing, told))
}

/// Whether such messages can be sent: no larger than the broker takes, in bytes, where 0 is any, and in no more transfers
/// than its session's window has room for, since they are sent as a whole.
fn check_size(
    body_bytes: u64,
    message_bytes_max: u64,
    (transfers, window): (u64, u64),
) -> anyhow::Result<()> {
    if message_bytes_max > 0 && body_bytes > message_bytes_max {
        bail!("--size {body_bytes}: the broker takes messages of at most {message_bytes_max} bytes");
    }
    if transfers > window {
        bail!(
            "--size {body_bytes}: such a message takes {transfers} transfers, and the broker's window is {window} of them"
        );
    }
    Ok(())
}

/// Where messages with key number `number` go.
fn address_of(plan: &Plan, names: &Names, number: u64) -> String {
    let mut key = String::new();
    names.put_key(plan, number, &mut key);
    if plan.exchange_type.is_none() {
        return address::of_queue(key.as_bytes());
    }
    let mut text = String::from("/exchanges/");
    address::put_encoded(&mut text, names.exchange.as_bytes());
    text.push('/');
    address::put_encoded(&mut text, key.as_bytes());
    text
}

impl Publisher<'_> {
    /// What goes before the body with key number `number`, and how many transfers such a message takes.
    fn head(&self, number: u64) -> (Head, u32) {
        let mut sections = Vec::new();
        Header { durable: Some(self.plan.persistent), ..Header::default() }.encode(&mut sections);
        if self.is_anonymous {
            let to = address_of(self.plan, self.names, number);
            Properties { to: Some(&to), ..Properties::default() }.encode(&mut sections);
        }
        if topology::looks_at_headers(self.plan) {
            let mut key = String::new();
            self.names.put_key(self.plan, number, &mut key);
            put_descriptor(&mut sections, descriptor::APPLICATION_PROPERTIES);
            put(&mut sections, MapBuilder::new().push(KEY_HEADER, key.as_str()).view());
        }
        put_descriptor(&mut sections, descriptor::DATA);
        put(&mut sections, self.body.as_slice());
        let [id, tag] = PLACES;
        let mut frame = Vec::new();
        let transfer = transfer(u32::from_be_bytes(id), &tag, self.plan.confirm_window.is_none());
        let transfers =
            frame::put_transfer(&mut frame, CHANNEL, &transfer, &[&sections], self.frame_bytes_max);
        let place = |of: [u8; 4]| frame.windows(4).position(|bytes| bytes == of);
        if let (1, Some(id), Some(tag)) = (transfers, place(id), place(tag)) {
            frame.truncate(frame.len() - self.body.len());
            return (Head::Frame(frame.into(), [id, tag]), transfers);
        }
        sections.truncate(sections.len() - self.body.len());
        (Head::Sections(sections.into()), transfers)
    }
}

/// The transfer of a delivery.
fn transfer(delivery_id: u32, tag: &[u8], settled: bool) -> Transfer<'_> {
    Transfer {
        handle: SENDER,
        delivery_id: Some(delivery_id),
        delivery_tag: DeliveryTag::new(tag),
        message_format: Some(MESSAGE_FORMAT),
        settled: Some(settled),
        ..Transfer::default()
    }
}

impl Outlet for Publisher<'_> {
    #[inline]
    fn put(&mut self, chunk: &mut Vec<u8>, stamp: u64) {
        let number = self.numbers.next();
        let made;
        let head = match self.heads.get(number as usize) {
            Some(head) => head,
            None => {
                made = self.head(number).0;
                &made
            }
        };
        let delivery = self.delivery.to_be_bytes();
        match head {
            Head::Frame(bytes, places) => {
                let start = chunk.len();
                chunk.extend_from_slice(bytes);
                for place in places {
                    chunk[start + place..start + place + 4].copy_from_slice(&delivery);
                }
                let start = chunk.len();
                chunk.extend_from_slice(&self.body);
                if let Some(place) = chunk[start..].first_chunk_mut() {
                    *place = stamp.to_le_bytes();
                }
                self.transfers += 1;
            }
            Head::Sections(sections) => {
                let transfer = transfer(self.delivery, &delivery, self.plan.confirm_window.is_none());
                let pieces: [&[u8]; 2] = [sections, &self.body];
                let count = frame::put_transfer(chunk, CHANNEL, &transfer, &pieces, self.frame_bytes_max);
                self.transfers += u64::from(count);
            }
        }
        self.delivery = self.delivery.wrapping_add(1);
    }

    fn is_stamped(&self) -> bool {
        self.plan.body_bytes >= 8 && self.transfers_each == 1
    }

    fn room(&self, sent: u64, told: &Told) -> u64 {
        let transfers = told.transfers_max.saturating_sub(self.transfers) / self.transfers_each;
        told.deliveries_max.saturating_sub(sent).min(transfers)
    }

    fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// The half of a connection that hears of credit and outcomes.
pub(in crate::bench) struct Hearing {
    wire: Wire,
}

impl Inlet for Hearing {
    fn hear(&mut self, told: &mut Told) -> anyhow::Result<bool> {
        // Credit may have come with the answer to attach.
        let mut came = frame::split(&self.wire.buffer, AMQP, u32::MAX)?.is_some();
        if !came {
            came = self.wire.fill()?;
        }
        let mut used = 0;
        while let Some(found) = frame::split(&self.wire.buffer[used..], AMQP, u32::MAX)? {
            used += found.length_bytes;
            if found.body.is_empty() {
                continue;
            }
            match Performative::from_body(found.body)?.0 {
                Performative::Flow(flow) => {
                    let next = flow.next_incoming_id.unwrap_or(0);
                    go_to(&mut told.transfers_max, next.wrapping_add(flow.incoming_window));
                    if let (Some(SENDER), Some(credit)) = (flow.handle, flow.link_credit) {
                        let count = flow.delivery_count.unwrap_or(0);
                        go_to(&mut told.deliveries_max, count.wrapping_add(credit));
                    }
                }
                Performative::Disposition(disposition)
                    if disposition.role == Role::Receiver && disposition.settled =>
                {
                    let (first, last) = (disposition.first, disposition.last.unwrap_or(disposition.first));
                    let count = u64::from(last.wrapping_sub(first)) + 1;
                    told.settled += count;
                    if !matches!(disposition.state, Some(DeliveryState::Accepted(_))) {
                        told.refused += count;
                    }
                }
                other => ended(&other)?,
            }
        }
        self.wire.buffer.drain(..used);
        Ok(came)
    }
}

/// A count goes on to what its low bits are now (RFC 1982).
fn go_to(count: &mut u64, low: u32) {
    let ahead = low.wrapping_sub(*count as u32).cast_signed();
    *count = count.saturating_add_signed(i64::from(ahead));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_sent_is_told() {
        assert!(check_size(1000, 0, (1, 400)).is_ok());
        assert!(check_size(1000, 1000, (400, 400)).is_ok());
        let why = |checked: anyhow::Result<()>| checked.unwrap_err().to_string();
        assert!(why(check_size(1001, 1000, (1, 400))).contains("at most 1000 bytes"));
        assert!(why(check_size(60_000_000, 0, (459, 400))).contains("459 transfers"));
    }

    #[test]
    fn counts_go_on_beyond_what_fits_the_wire() {
        let mut count = 0;
        go_to(&mut count, 1000);
        go_to(&mut count, 1000);
        assert_eq!(count, 1000);
        let mut count = u64::from(u32::MAX) - 10;
        go_to(&mut count, 5);
        assert_eq!(count, (1 << 32) + 5);
        go_to(&mut count, 3);
        assert_eq!(count, (1 << 32) + 3);
    }
}
