//! Deliveries, counted frame by frame.
//!
//! ```text
//! frame: type u8 | channel u16 | length u32 | payload | 0xce
//! basic.deliver payload: class 60 u16 | method 60 u16 | tag length u8, tag | delivery-tag u64 | …
//! ```

use super::link::{CHANNEL, Link};
use crate::bench::{
    AckMode, Plan,
    consumer::{Pass, Receiver},
    wire::{Patience, Wire},
};
use anyhow::bail;
use leveret_amqp091::{Method, frame};

const FRAME_METHOD: u8 = 1;
const FRAME_BODY: u8 = 3;
const BASIC_DELIVER: [u8; 4] = [0, 60, 0, 60];
const BASIC_CANCEL: [u8; 4] = [0, 60, 0, 30];
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
const CONNECTION_CLOSE: [u8; 4] = [0, 10, 0, 50];

pub(in crate::bench) struct Consumer {
    link: Link,
    body_bytes: usize,
    ack: AckMode,
    last_tag: u64,
    unacked: u64,
}

/// A connection that consumes from that queue.
pub(in crate::bench) fn consumer(plan: &Plan, queue: &str, patience: &Patience) -> anyhow::Result<Consumer> {
    let mut link = Link::open(&plan.target, patience)?;
    let no_ack = plan.ack == AckMode::Auto;
    if !no_ack && plan.prefetch > 0 {
        link.qos(plan.prefetch)?;
    }
    link.consume(queue, no_ack)?;
    Ok(Consumer { link, body_bytes: plan.body_bytes, ack: plan.ack, last_tag: 0, unacked: 0 })
}

impl Receiver for Consumer {
    fn scan(&mut self, bytes: &[u8], pass: &mut Pass) -> anyhow::Result<()> {
        while let Some((header, rest)) = bytes[pass.used..].split_first_chunk::<7>() {
            let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            if rest.len() == length {
                break;
            }
            match header[0] {
                FRAME_METHOD => match payload.get(..4) {
                    Some(id) if id == BASIC_DELIVER => {
                        let tag_bytes = payload.get(4).map_or(0, |length| usize::from(*length));
                        if let Some(tag) = payload.get(5 + tag_bytes..).and_then(|rest| rest.first_chunk()) {
                            self.last_tag = u64::from_be_bytes(*tag);
                        }
                        pass.deliveries += 1;
                    }
                    Some(id) if id == CHANNEL_CLOSE || id == CONNECTION_CLOSE => {
                        // Code, length of the text, text.
                        let text = payload.get(7..).unwrap_or_default();
                        let text = text.get(..usize::from(payload.get(6).copied().unwrap_or(0)));
                        bail!(
                            "the broker closed a consumer: {}",
                            String::from_utf8_lossy(text.unwrap_or_default())
                        );
                    }
                    Some(id) if id == BASIC_CANCEL => {
                        bail!("the broker cancelled a consumer: its queue is gone");
                    }
                    _ => {}
                },
                FRAME_BODY if length == self.body_bytes => pass.stamp(payload),
                _ => {}
            }
            pass.used += header.len() + length + 1;
        }
        self.unacked += pass.deliveries;
        Ok(())
    }

    /// Acknowledges so many at once.
    fn answer(&mut self, out: &mut Vec<u8>) {
        let AckMode::Every(each) = self.ack else { return };
        while self.unacked >= each {
            self.unacked -= each;
            let ack = Method::BasicAck { delivery_tag: self.last_tag - self.unacked, multiple: each > 1 };
            frame::put_method(out, CHANNEL, &ack);
        }
    }

    fn wire(&mut self) -> &mut Wire {
        &mut self.link.wire
    }
}
