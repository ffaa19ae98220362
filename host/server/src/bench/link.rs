//! A client connection with one channel, blocking.

use super::Target;
use anyhow::{Context, bail};
use leveret_amqp091::{
    Method,
    client::{self, Incoming},
    frame,
};
use leveret_model::{Name, Table, Value};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// The frame size that is asked for.
pub(super) const FRAME_BYTES_MAX: u32 = 131_072;
/// How long a read or write may block before the stop flag is looked at.
const BLOCK_MAX: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER_SECONDS_MAX: u32 = 60;
/// The one channel.
pub(super) const CHANNEL: u16 = 1;

/// The one consumer of a channel.
const CONSUMER_TAG: &[u8] = b"bench";

/// An open connection with channel 1 open.
pub(super) struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    output: Vec<u8>,
}

/// What confirms came to.
pub(super) struct Confirms {
    /// All up to here are settled.
    pub(super) up_to: u64,
    /// So many of the new ones were refused.
    pub(super) refused: u64,
}

impl Link {
    /// Connects, logs in, opens the virtual host and a channel.
    pub(super) fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address)
            .with_context(|| format!("no broker answers at {}", target.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BLOCK_MAX))?;
        stream.set_write_timeout(Some(BLOCK_MAX))?;
        let mut link = Self { stream, buffer: Vec::new(), output: Vec::new() };
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
    pub(super) fn call(&mut self, request: Method<'_>) -> anyhow::Result<()> {
        self.send(CHANNEL, request)?;
        self.expect("an answer", |_| true)
    }

    pub(super) fn confirm_select(&mut self) -> anyhow::Result<()> {
        self.call(Method::ConfirmSelect { nowait: false })
    }

    pub(super) fn qos(&mut self, prefetch: u16) -> anyhow::Result<()> {
        self.call(Method::BasicQos { prefetch_size: 0, prefetch_count: prefetch, global: false })
    }

    pub(super) fn consume(&mut self, queue: &str, no_ack: bool) -> anyhow::Result<()> {
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
    pub(super) fn cancel(&mut self) -> anyhow::Result<()> {
        self.send(CHANNEL, Method::BasicCancel { consumer_tag: CONSUMER_TAG, nowait: false })?;
        self.expect("basic.cancel-ok", |answer| matches!(answer, Method::BasicCancelOk { .. }))
    }

    /// Closes the channel and opens it again.
    pub(super) fn channel_again(&mut self) -> anyhow::Result<()> {
        let close = Method::ChannelClose { reply_code: 200, reply_text: b"done", class_id: 0, method_id: 0 };
        self.send(CHANNEL, close)?;
        self.expect("channel.close-ok", |answer| matches!(answer, Method::ChannelCloseOk { .. }))?;
        self.send(CHANNEL, Method::ChannelOpen {})?;
        self.expect("channel.open-ok", |answer| matches!(answer, Method::ChannelOpenOk { .. }))
    }

    /// Acknowledges in steps of `each`, up to `last_tag`; `unacked` is what is left.
    pub(super) fn ack(&mut self, unacked: &mut u64, each: u64, last_tag: u64) -> anyhow::Result<()> {
        self.output.clear();
        while *unacked >= each {
            *unacked -= each;
            let ack = Method::BasicAck { delivery_tag: last_tag - *unacked, multiple: each > 1 };
            frame::put_method(&mut self.output, CHANNEL, &ack);
        }
        let output = std::mem::take(&mut self.output);
        let written = self.write_unless(&output, &AtomicBool::new(false));
        self.output = output;
        written.map(drop)
    }

    /// The same connection, to read from in another thread; from then on nothing is to be read here.
    pub(super) fn beside(&mut self) -> anyhow::Result<Self> {
        let stream = self.stream.try_clone().context("a second handle of the socket")?;
        Ok(Self { stream, buffer: std::mem::take(&mut self.buffer), output: Vec::new() })
    }

    /// Waits a moment for confirms; there may be none yet.
    pub(super) fn read_confirms(&mut self, confirmed: u64) -> anyhow::Result<Confirms> {
        let mut confirms = Confirms { up_to: confirmed, refused: 0 };
        while confirms.up_to == confirmed {
            match self.read_more() {
                Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(is_timeout) => break,
                more => more?,
            }
            let mut used = 0;
            while let Some((consumed, incoming)) = client::next_frame(&self.buffer[used..], FRAME_BYTES_MAX)?
            {
                used += consumed;
                let Incoming::Method { method, .. } = incoming else {
                    continue;
                };
                match method {
                    Method::BasicAck { delivery_tag, .. } => {
                        confirms.up_to = confirms.up_to.max(delivery_tag)
                    }
                    Method::BasicNack { delivery_tag, multiple, .. } => {
                        confirms.refused += if multiple { delivery_tag - confirms.up_to } else { 1 };
                        confirms.up_to = confirms.up_to.max(delivery_tag);
                    }
                    Method::ChannelClose { reply_text, .. } | Method::ConnectionClose { reply_text, .. } => {
                        bail!("the broker closed a publisher: {}", String::from_utf8_lossy(reply_text));
                    }
                    _ => {}
                }
            }
            self.buffer.drain(..used);
        }
        Ok(confirms)
    }

    /// Writes all, or gives up when `stop` is set; says whether all went.
    pub(super) fn write_unless(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> anyhow::Result<bool> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error).context("the broker closed the connection"),
            }
        }
        Ok(true)
    }

    /// Reads something, or gives up when `stop` is set. What came with the last answer comes first.
    pub(super) fn read_unless(
        &mut self,
        into: &mut [u8],
        stop: &AtomicBool,
    ) -> anyhow::Result<Option<usize>> {
        if !self.buffer.is_empty() {
            let count = self.buffer.len().min(into.len());
            into[..count].copy_from_slice(&self.buffer[..count]);
            self.buffer.drain(..count);
            return Ok(Some(count));
        }
        loop {
            match self.stream.read(into) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => return Ok(Some(count)),
                Err(error) if is_timeout(&error) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error).context("reading from the broker"),
            }
        }
    }

    /// Closes as the protocol wants it.
    pub(super) fn close(mut self) -> anyhow::Result<()> {
        self.send(
            0,
            Method::ConnectionClose { reply_code: 200, reply_text: b"done", class_id: 0, method_id: 0 },
        )?;
        self.expect("connection.close-ok", |answer| matches!(answer, Method::ConnectionCloseOk { .. }))
    }

    /// Leaves without a word.
    pub(super) fn drop_socket(self) {
        // The other side may have closed it already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn send(&mut self, channel: u16, request: Method<'_>) -> anyhow::Result<()> {
        frame::put_method(&mut self.output, channel, &request);
        self.flush()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.output).context("the broker closed the connection")?;
        self.output.clear();
        Ok(())
    }

    fn expect(&mut self, what: &str, is_it: impl Fn(&Method<'_>) -> bool) -> anyhow::Result<()> {
        let mut waits = 0;
        loop {
            if let Some((consumed, incoming)) = client::next_frame(&self.buffer, FRAME_BYTES_MAX)? {
                let outcome = match &incoming {
                    Incoming::Method {
                        method:
                            Method::ChannelClose { reply_text, .. } | Method::ConnectionClose { reply_text, .. },
                        ..
                    } => Err(anyhow::anyhow!("the broker refused: {}", String::from_utf8_lossy(reply_text))),
                    Incoming::Method { method, .. } => Ok(is_it(method)),
                    Incoming::Header { .. } | Incoming::Body { .. } | Incoming::Heartbeat => Ok(false),
                };
                self.buffer.drain(..consumed);
                if outcome? {
                    return Ok(());
                }
                continue;
            }
            match self.read_more() {
                Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(is_timeout) => {
                    waits += 1;
                    if BLOCK_MAX * waits > Duration::from_secs(u64::from(ANSWER_SECONDS_MAX)) {
                        bail!("the broker did not send {what} in {ANSWER_SECONDS_MAX} s");
                    }
                }
                Err(error) => return Err(error.context(format!("waiting for {what}"))),
                Ok(()) => {}
            }
        }
    }

    fn read_more(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => bail!("the broker closed the connection"),
            count => self.buffer.extend_from_slice(&chunk[..count]),
        }
        Ok(())
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
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
