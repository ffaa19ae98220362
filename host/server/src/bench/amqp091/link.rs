//! A client connection with one channel.

use super::confirms::Confirms;
use crate::bench::{
    Target,
    publisher::{Inlet, Told, WRITE_BYTES},
    wire::{Patience, Wire},
};
use anyhow::bail;
use leveret_amqp091::{
    Method,
    client::{self, Incoming},
    frame,
};
use leveret_model::{Name, Table, Value};
use serde::Serialize;

/// The frame size that is asked for.
pub(in crate::bench) const FRAME_BYTES_MAX: u32 = 131_072;
/// The smallest that there may be.
const FRAME_BYTES_MIN: u32 = 4096;
/// The one channel.
pub(in crate::bench) const CHANNEL: u16 = 1;

/// The one consumer of a channel.
const CONSUMER_TAG: &[u8] = b"bench";

/// Which program a broker is; empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Its name.
    pub product: String,
    /// Its version.
    pub version: String,
}

/// An open connection with channel 1 open.
pub(in crate::bench) struct Link {
    pub(super) wire: Wire,
    output: Vec<u8>,
    /// The largest frame that either side sends.
    pub(in crate::bench) frame_bytes_max: u32,
    /// What it is, as it says.
    pub(in crate::bench) broker: Product,
    confirms: Confirms,
}

impl Link {
    /// Connects, logs in, opens the virtual host and a channel.
    pub(in crate::bench) fn open(target: &Target, patience: &Patience) -> anyhow::Result<Self> {
        // Without heartbeats nobody waits for a sign of life.
        let mut link = Self::over(Wire::connect(&target.addresses, &[], patience)?, FRAME_BYTES_MAX);
        client::put_protocol_header(&mut link.output);
        link.flush()?;
        link.broker = link.take("connection.start", |answer| match answer {
            Method::ConnectionStart { server_properties, .. } => Some(Product::of(server_properties)),
            _ => None,
        })?;
        client::put_start_ok(
            &mut link.output,
            target.user.as_bytes(),
            target.password.as_bytes(),
            client_properties(),
        );
        link.flush()?;
        let frame_max = link.take("connection.tune (is the password right?)", |answer| match answer {
            Method::ConnectionTune { frame_max, .. } => Some(*frame_max),
            _ => None,
        })?;
        // 0 is without a limit.
        if frame_max > 0 {
            link.frame_bytes_max = frame_max.clamp(FRAME_BYTES_MIN, FRAME_BYTES_MAX);
        }
        let frame_max = link.frame_bytes_max;
        link.send(0, Method::ConnectionTuneOk { channel_max: 1, frame_max, heartbeat: 0 })?;
        link.send(0, Method::ConnectionOpen { virtual_host: target.vhost.as_bytes() })?;
        link.expect("connection.open-ok", |answer| matches!(answer, Method::ConnectionOpenOk { .. }))?;
        link.send(CHANNEL, Method::ChannelOpen {})?;
        link.expect("channel.open-ok", |answer| matches!(answer, Method::ChannelOpenOk { .. }))?;
        Ok(link)
    }

    fn over(wire: Wire, frame_bytes_max: u32) -> Self {
        let (output, broker, confirms) = (Vec::new(), Product::default(), Confirms::default());
        Self { wire, output, frame_bytes_max, broker, confirms }
    }

    /// Sends a method on the channel and waits for any answer that is no error.
    pub(in crate::bench) fn call(&mut self, request: Method<'_>) -> anyhow::Result<()> {
        self.send(CHANNEL, request)?;
        self.expect("an answer", |_| true)
    }

    /// Sends a method on the channel that is not answered, with others behind it.
    pub(in crate::bench) fn put(&mut self, request: &Method<'_>) -> anyhow::Result<()> {
        frame::put_method(&mut self.output, CHANNEL, request);
        if self.output.len() < WRITE_BYTES { Ok(()) } else { self.flush() }
    }

    /// Waits until the broker is done with all that was sent.
    ///
    /// # Errors
    /// If it refused any of it.
    pub(in crate::bench) fn wait_for_all(&mut self) -> anyhow::Result<()> {
        self.call(Method::BasicQos { prefetch_size: 0, prefetch_count: 0, global: false })
    }

    pub(in crate::bench) fn confirm_select(&mut self) -> anyhow::Result<()> {
        self.call(Method::ConfirmSelect { nowait: false })
    }

    pub(in crate::bench) fn qos(&mut self, prefetch: u16) -> anyhow::Result<()> {
        self.call(Method::BasicQos { prefetch_size: 0, prefetch_count: prefetch, global: false })
    }

    pub(in crate::bench) fn consume(&mut self, queue: &str, no_ack: bool) -> anyhow::Result<()> {
        self.send(
            CHANNEL,
            Method::BasicConsume {
                queue: queue.as_bytes(),
                consumer_tag: CONSUMER_TAG,
                no_local: false,
                no_ack,
                exclusive: false,
                nowait: false,
                arguments: Table::new(),
            },
        )?;
        self.expect("basic.consume-ok", |answer| matches!(answer, Method::BasicConsumeOk { .. }))
    }

    /// Ends the consumer of [`Self::consume`]; deliveries that are on their way are passed over.
    pub(in crate::bench) fn cancel(&mut self) -> anyhow::Result<()> {
        self.send(CHANNEL, Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false })?;
        self.expect("basic.cancel-ok", |answer| matches!(answer, Method::BasicCancelOk { .. }))
    }

    /// Closes the channel and opens it again.
    pub(in crate::bench) fn channel_again(&mut self) -> anyhow::Result<()> {
        let close = Method::ChannelClose { reply_code: 200, reply_text: b"done", class_id: 0, method_id: 0 };
        self.send(CHANNEL, close)?;
        self.expect("channel.close-ok", |answer| matches!(answer, Method::ChannelCloseOk { .. }))?;
        self.send(CHANNEL, Method::ChannelOpen {})?;
        self.expect("channel.open-ok", |answer| matches!(answer, Method::ChannelOpenOk { .. }))
    }

    /// Writes what is encoded already.
    pub(in crate::bench) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.wire.send(bytes)
    }

    /// The same connection, to read from in another thread; from then on nothing is to be read here.
    pub(in crate::bench) fn beside(&mut self) -> anyhow::Result<Self> {
        Ok(Self::over(self.wire.beside()?, self.frame_bytes_max))
    }

    /// Notes the confirms that are there.
    fn take_confirms(&mut self, told: &mut Told) -> anyhow::Result<()> {
        let mut used = 0;
        while let Some((consumed, incoming)) = client::next_frame(&self.wire.buffer[used..], FRAME_BYTES_MAX)?
        {
            used += consumed;
            let Incoming::Method { method, .. } = incoming else { continue };
            match method {
                Method::BasicAck { delivery_tag, multiple } => {
                    told.settled += self.confirms.settle(delivery_tag, multiple);
                }
                Method::BasicNack { delivery_tag, multiple, .. } => {
                    let count = self.confirms.settle(delivery_tag, multiple);
                    told.refused += count;
                    told.settled += count;
                }
                Method::ChannelClose { reply_text, .. } | Method::ConnectionClose { reply_text, .. } => {
                    bail!("the broker closed a publisher: {}", String::from_utf8_lossy(reply_text));
                }
                _ => {}
            }
        }
        self.wire.buffer.drain(..used);
        Ok(())
    }

    /// Closes as the protocol wants it.
    pub(in crate::bench) fn close(mut self) -> anyhow::Result<()> {
        self.send(
            0,
            Method::ConnectionClose { reply_code: 200, reply_text: b"done", class_id: 0, method_id: 0 },
        )?;
        self.expect("connection.close-ok", |answer| matches!(answer, Method::ConnectionCloseOk { .. }))
    }

    fn send(&mut self, channel: u16, request: Method<'_>) -> anyhow::Result<()> {
        frame::put_method(&mut self.output, channel, &request);
        self.flush()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.wire.send(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn expect(&mut self, what: &str, is_it: impl Fn(&Method<'_>) -> bool) -> anyhow::Result<()> {
        self.take(what, |method| is_it(method).then_some(()))
    }

    /// The first method of which `take` makes something. What it makes nothing of is passed over.
    fn take<R>(&mut self, what: &str, take: impl Fn(&Method<'_>) -> Option<R>) -> anyhow::Result<R> {
        loop {
            let buffer = &mut self.wire.buffer;
            let Some((consumed, incoming)) = client::next_frame(buffer, FRAME_BYTES_MAX)? else {
                self.wire.wait_for(what)?;
                continue;
            };
            let outcome = match &incoming {
                Incoming::Method {
                    method:
                        Method::ChannelClose { reply_text, .. } | Method::ConnectionClose { reply_text, .. },
                    ..
                } => Err(anyhow::anyhow!("the broker refused: {}", String::from_utf8_lossy(reply_text))),
                Incoming::Method { method, .. } => Ok(take(method)),
                Incoming::Header { .. } | Incoming::Body { .. } | Incoming::Heartbeat => Ok(None),
            };
            buffer.drain(..consumed);
            if let Some(taken) = outcome? {
                return Ok(taken);
            }
        }
    }
}

impl Inlet for Link {
    fn hear(&mut self, told: &mut Told) -> anyhow::Result<bool> {
        let came = self.wire.fill()?;
        self.take_confirms(told)?;
        Ok(came)
    }
}

impl Product {
    fn of(properties: &Table) -> Self {
        let text = |name: &[u8]| match properties.get(name) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        };
        Self { product: text(b"product"), version: text(b"version") }
    }
}

fn client_properties() -> Table {
    let text = |text: &str| Value::Text(text.to_owned());
    let capabilities = ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked"];
    let capabilities = capabilities.iter().map(|name| (text(name), Value::Boolean(true))).collect();
    [
        (Name::from_static("product"), text("leveret bench")),
        (Name::from_static("version"), text(env!("CARGO_PKG_VERSION"))),
        (Name::from_static("capabilities"), Value::Map(capabilities)),
    ]
    .into_iter()
    .collect()
}
