//! A client connection with one channel.

use crate::bench::{
    Target,
    publisher::{Inlet, Told, WRITE_BYTES},
    wire::Wire,
};
use anyhow::bail;
use leveret_amqp091::{
    Method,
    client::{self, Incoming},
    frame,
};
use leveret_model::{Name, Table, Value};

/// The frame size that is asked for.
pub(in crate::bench) const FRAME_BYTES_MAX: u32 = 131_072;
/// The one channel.
pub(in crate::bench) const CHANNEL: u16 = 1;

/// The one consumer of a channel.
const CONSUMER_TAG: &[u8] = b"bench";

/// An open connection with channel 1 open.
pub(in crate::bench) struct Link {
    pub(super) wire: Wire,
    output: Vec<u8>,
}

impl Link {
    /// Connects, logs in, opens the virtual host and a channel.
    pub(in crate::bench) fn open(target: &Target) -> anyhow::Result<Self> {
        // Without heartbeats nobody waits for a sign of life.
        let mut link = Self { wire: Wire::connect(target.address, &[])?, output: Vec::new() };
        client::put_protocol_header(&mut link.output);
        link.flush()?;
        link.expect("connection.start", |answer| matches!(answer, Method::ConnectionStart { .. }))?;
        client::put_start_ok(
            &mut link.output,
            target.user.as_bytes(),
            target.password.as_bytes(),
            client_properties(),
        );
        link.flush()?;
        link.expect("connection.tune (is the password right?)", |answer| {
            matches!(answer, Method::ConnectionTune { .. })
        })?;
        link.send(0, Method::ConnectionTuneOk { channel_max: 1, frame_max: FRAME_BYTES_MAX, heartbeat: 0 })?;
        link.send(0, Method::ConnectionOpen { virtual_host: target.vhost.as_bytes() })?;
        link.expect("connection.open-ok", |answer| matches!(answer, Method::ConnectionOpenOk { .. }))?;
        link.send(CHANNEL, Method::ChannelOpen {})?;
        link.expect("channel.open-ok", |answer| matches!(answer, Method::ChannelOpenOk { .. }))?;
        Ok(link)
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
        Ok(Self { wire: self.wire.beside()?, output: Vec::new() })
    }

    /// Notes the confirms that are there.
    fn take_confirms(&mut self, told: &mut Told) -> anyhow::Result<()> {
        let mut used = 0;
        while let Some((consumed, incoming)) = client::next_frame(&self.wire.buffer[used..], FRAME_BYTES_MAX)?
        {
            used += consumed;
            let Incoming::Method { method, .. } = incoming else { continue };
            match method {
                Method::BasicAck { delivery_tag, .. } => told.settled = told.settled.max(delivery_tag),
                Method::BasicNack { delivery_tag, multiple, .. } => {
                    told.refused += if multiple { delivery_tag.saturating_sub(told.settled) } else { 1 };
                    told.settled = told.settled.max(delivery_tag);
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
                Incoming::Method { method, .. } => Ok(is_it(method)),
                Incoming::Header { .. } | Incoming::Body { .. } | Incoming::Heartbeat => Ok(false),
            };
            buffer.drain(..consumed);
            if outcome? {
                return Ok(());
            }
        }
    }
}

impl Inlet for Link {
    fn hear(&mut self, told: &mut Told) -> anyhow::Result<()> {
        if self.wire.fill()? { self.take_confirms(told) } else { Ok(()) }
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
