//! A client connection with one session, and at most one link each way.

use crate::bench::{
    Target,
    topology::run_name,
    wire::{Patience, Wire},
};
use anyhow::bail;
use leveret_amqp10::{
    Performative, SaslFrame,
    composite::Composite,
    frame::{self, AMQP, ProtocolId, SASL},
    messaging::{self, Source},
    performatives::{Attach, Begin, Close, Error, Flow, Open, Role, SenderSettleMode},
    security::{Code, Init},
    types::Symbol,
};

/// The frame size that is asked for, and the largest that is taken.
pub(super) const FRAME_BYTES_MAX: u32 = 131_072;
/// The one session.
pub(super) const CHANNEL: u16 = 0;
/// The link that sends.
pub(super) const SENDER: u32 = 0;
/// The link that receives.
pub(super) const RECEIVER: u32 = 1;
/// How many transfers this side takes: more than any credit lets come.
pub(super) const WINDOW: u32 = 1 << 30;

/// An open connection with a session.
pub(in crate::bench) struct Link {
    pub(super) wire: Wire,
    /// The largest frame that is sent, in bytes.
    pub(super) frame_bytes_max: u32,
    /// How many transfers the broker takes at first.
    pub(super) window: u32,
    /// The number of the first transfer that the broker sends.
    pub(super) first_transfer: u32,
}

impl Link {
    /// Connects, logs in, opens the virtual host and begins a session.
    pub(in crate::bench) fn open(target: &Target, patience: &Patience) -> anyhow::Result<Self> {
        let wire = Wire::connect(&target.addresses, &frame::EMPTY_FRAME, patience)?;
        let mut link = Self { wire, frame_bytes_max: FRAME_BYTES_MAX, window: 0, first_transfer: 0 };
        link.log_in(target)?;
        link.header(ProtocolId::Amqp)?;
        let (container, host) = (format!("leveret-{}", run_name()?), format!("vhost:{}", target.vhost));
        let open = Open {
            container_id: &container,
            hostname: Some(&host),
            max_frame_size: FRAME_BYTES_MAX,
            channel_max: CHANNEL,
            ..Open::default()
        };
        link.say(&open)?;
        let frame_bytes_max = link.expect("open", |said| match said {
            Performative::Open(open) => Some(open.max_frame_size),
            _ => None,
        })?;
        link.frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_MAX);
        link.say(&Begin { incoming_window: WINDOW, outgoing_window: WINDOW, ..Begin::default() })?;
        (link.window, link.first_transfer) = link.expect("begin", |said| match said {
            Performative::Begin(begin) => Some((begin.incoming_window, begin.next_outgoing_id)),
            _ => None,
        })?;
        Ok(link)
    }

    fn log_in(&mut self, target: &Target) -> anyhow::Result<()> {
        self.header(ProtocolId::Sasl)?;
        let response = format!("\0{}\0{}", target.user, target.password);
        let init = Init {
            mechanism: Symbol::from_static("PLAIN"),
            initial_response: Some(response.as_bytes()),
            ..Init::default()
        };
        let mut out = Vec::new();
        frame::put_sasl(&mut out, &init);
        self.wire.send(&out)?;
        loop {
            let found = frame::split(&self.wire.buffer, SASL, FRAME_BYTES_MAX)?;
            let Some(found) = found else {
                self.wire.wait_for("the outcome of the login")?;
                continue;
            };
            let length = found.length_bytes;
            let outcome = match SaslFrame::from_body(found.body)? {
                SaslFrame::Outcome(outcome) => Some(outcome.code),
                _ => None,
            };
            self.wire.buffer.drain(..length);
            match outcome {
                None => {}
                Some(Code::Ok) => return Ok(()),
                Some(code) => bail!("the broker refused the login: {code:?}"),
            }
        }
    }

    /// Sends a protocol header; the broker's has to be the same.
    fn header(&mut self, of: ProtocolId) -> anyhow::Result<()> {
        self.wire.send(&of.header())?;
        loop {
            if let Some(header) = self.wire.buffer.first_chunk::<{ frame::PROTOCOL_HEADER_BYTES }>() {
                if *header != of.header() {
                    bail!("the broker wants another protocol: {header:?}");
                }
                self.wire.buffer.drain(..frame::PROTOCOL_HEADER_BYTES);
                return Ok(());
            }
            self.wire.wait_for("its protocol header")?;
        }
    }

    /// Attaches a link to that address; without one each message says where it goes. Gives the largest message that the
    /// broker takes, in bytes; 0 is any.
    pub(in crate::bench) fn send_to(&mut self, address: Option<&str>, settled: bool) -> anyhow::Result<u64> {
        let target = messaging::Target { address, ..messaging::Target::default() };
        self.say(&Attach {
            name: "bench-out",
            handle: SENDER,
            role: Role::Sender,
            snd_settle_mode: settle_mode(settled),
            initial_delivery_count: Some(0),
            source: Some(Source::default()),
            target: Some(target.into()),
            ..Attach::default()
        })?;
        self.expect("attach", |said| match said {
            Performative::Attach(attach) => attach.target.map(|_| attach.max_message_size.unwrap_or(0)),
            _ => None,
        })
    }

    /// Attaches a link from that address; gives where the broker begins to count deliveries.
    pub(in crate::bench) fn receive_from(&mut self, address: &str, settled: bool) -> anyhow::Result<u32> {
        self.say(&Attach {
            name: "bench-in",
            handle: RECEIVER,
            role: Role::Receiver,
            snd_settle_mode: settle_mode(settled),
            source: Some(Source { address: Some(address), ..Source::default() }),
            target: Some(messaging::Target::default().into()),
            ..Attach::default()
        })?;
        self.expect("attach", |said| match said {
            Performative::Attach(attach) => attach.source.map(|_| attach.initial_delivery_count.unwrap_or(0)),
            _ => None,
        })
    }

    /// Closes as the protocol wants it.
    pub(in crate::bench) fn close(mut self) -> anyhow::Result<()> {
        self.say(&Close::default())?;
        self.expect("close", |said| matches!(said, Performative::Close(_)).then_some(()))
    }

    fn say<'a>(&mut self, performative: &impl Composite<'a>) -> anyhow::Result<()> {
        let mut out = Vec::new();
        frame::put_performative(&mut out, CHANNEL, performative);
        self.wire.send(&out)
    }

    /// The first thing that is said of which `take` makes something. What it makes nothing of is passed over.
    fn expect<R>(&mut self, what: &str, take: impl Fn(&Performative<'_>) -> Option<R>) -> anyhow::Result<R> {
        loop {
            let Some(found) = frame::split(&self.wire.buffer, AMQP, FRAME_BYTES_MAX)? else {
                self.wire.wait_for(what)?;
                continue;
            };
            let length = found.length_bytes;
            let mut taken = Ok(None);
            if !found.body.is_empty() {
                let (said, _) = Performative::from_body(found.body)?;
                taken = match take(&said) {
                    None => ended(&said).map(|()| None),
                    taken => Ok(taken),
                };
            }
            self.wire.buffer.drain(..length);
            if let Some(taken) = taken? {
                return Ok(taken);
            }
        }
    }
}

/// How a sender settles.
fn settle_mode(settled: bool) -> SenderSettleMode {
    if settled { SenderSettleMode::Settled } else { SenderSettleMode::Unsettled }
}

/// # Errors
/// If that ends the link, the session or the connection.
pub(super) fn ended(said: &Performative<'_>) -> anyhow::Result<()> {
    let error: &Option<Error<'_>> = match said {
        Performative::Detach(detach) => &detach.error,
        Performative::End(end) => &end.error,
        Performative::Close(close) => &close.error,
        _ => return Ok(()),
    };
    match error {
        Some(error) => {
            bail!("the broker refused: {}: {}", error.condition, error.description.unwrap_or_default())
        }
        None => bail!("the broker ended it: {}", said.name()),
    }
}

/// What is told of the session's windows: so many transfers came.
pub(super) fn flow(next_incoming_id: u32) -> Flow<'static> {
    Flow {
        next_incoming_id: Some(next_incoming_id),
        incoming_window: WINDOW,
        next_outgoing_id: 0,
        outgoing_window: WINDOW,
        ..Flow::default()
    }
}
