//! A client in small, and the caller of the connection that it speaks to.
//!
//! The caller lets everybody in, attaches every link as it was asked for but one whose name begins with `no`, leaves
//! those alone whose name begins with `later`, and answers nothing else. What happens is kept as short texts.

use crate::{
    Condition, Performative,
    composite::Composite,
    connection::{Attached, Connection, ConnectionConfig, Event},
    frame::{self, AMQP, ProtocolId, SASL, put_frame, put_performative, put_sasl},
    performatives::{Attach, Begin, Error, Open, Role},
    sasl,
    security::Init,
    types::Symbol,
};
use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

pub(super) struct Peer {
    pub(super) connection: Connection,
    unread: Vec<u8>,
    /// What the caller was told since it was asked the last time.
    events: Vec<String>,
    /// The bodies of the messages that came.
    pub(super) messages: Vec<Vec<u8>>,
}

pub(super) fn config() -> ConnectionConfig {
    ConnectionConfig {
        frame_bytes_max: 1024,
        channel_max: 3,
        handle_max: 7,
        incoming_window: 10,
        message_bytes_max: 3000,
        mechanisms: Arc::new([sasl::Mechanism::Anonymous]),
        ..ConnectionConfig::default()
    }
}

/// The words of a client up to open.
pub(super) fn login() -> Vec<u8> {
    let mut out = ProtocolId::Sasl.header().to_vec();
    put_sasl(&mut out, &Init { mechanism: Symbol::from_static("ANONYMOUS"), ..Init::default() });
    out.extend(ProtocolId::Amqp.header());
    out
}

pub(super) fn put<'a>(channel: u16, performative: &impl Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    put_performative(&mut out, channel, performative);
    out
}

pub(super) fn open() -> Open<'static> {
    Open { container_id: "client", ..Open::default() }
}

pub(super) fn begin() -> Begin<'static> {
    Begin { incoming_window: 100, outgoing_window: 100, ..Begin::default() }
}

/// Of a client that sends.
pub(super) fn sender(handle: u32, name: &str) -> Attach<'_> {
    Attach { name, handle, role: Role::Sender, initial_delivery_count: Some(0), ..Attach::default() }
}

/// Of a client that receives.
pub(super) fn receiver(handle: u32, name: &str) -> Attach<'_> {
    Attach { name, handle, role: Role::Receiver, ..Attach::default() }
}

impl Peer {
    pub(super) fn new(config: ConnectionConfig) -> Self {
        let connection = Connection::new(Arc::new(config));
        Self { connection, unread: Vec::new(), events: Vec::new(), messages: Vec::new() }
    }

    /// With an open connection.
    pub(super) fn opened() -> Self {
        let mut peer = Self::new(config());
        peer.give(&[login(), put(0, &open())].concat());
        peer.events();
        peer.connection.output().clear();
        peer
    }

    /// With a session on channel 1.
    pub(super) fn begun() -> Self {
        let mut peer = Self::opened();
        peer.give(&put(1, &begin()));
        peer.events();
        peer.connection.output().clear();
        peer
    }

    /// With a link of the session besides.
    pub(super) fn with_link(attach: &Attach<'_>) -> Self {
        let mut peer = Self::begun();
        peer.give(&put(1, attach));
        peer.events();
        peer.connection.output().clear();
        peer
    }

    /// The connection is given these bytes.
    pub(super) fn give(&mut self, bytes: &[u8]) -> &mut Self {
        self.unread.extend_from_slice(bytes);
        let bytes = core::mem::take(&mut self.unread);
        let mut at = 0;
        loop {
            let (took, event) = self.connection.next(&bytes[at..]);
            at += took;
            let Some(event) = event else { break };
            self.on(event);
        }
        self.unread = bytes[at..].to_vec();
        self
    }

    pub(super) fn say<'a>(&mut self, channel: u16, performative: &impl Composite<'a>) -> &mut Self {
        self.give(&put(channel, performative))
    }

    /// A performative with bytes behind it.
    pub(super) fn transfer<'a>(
        &mut self,
        channel: u16,
        transfer: &impl Composite<'a>,
        payload: &[u8],
    ) -> &mut Self {
        let mut out = Vec::new();
        put_frame(&mut out, AMQP, channel, |out| {
            transfer.encode(out);
            out.extend_from_slice(payload);
        });
        self.give(&out)
    }

    fn on(&mut self, event: Event<'_>) {
        let text = match &event {
            Event::Sasl(_) => {
                self.connection.sasl().unwrap().authenticated();
                String::from("login")
            }
            Event::Open(open) => {
                match open.hostname {
                    Some("nowhere") => self.connection.open_refused(Condition::NotFound, "no such host"),
                    _ => self.connection.opened(),
                }
                format!("open {}", open.container_id)
            }
            Event::Began { channel } => format!("began {channel}"),
            Event::Attach { channel, attach } => {
                let error = Error::new(Condition::NotFound, "no such node");
                match attach.name {
                    name if name.starts_with("later") => {}
                    name if name.starts_with("no") => {
                        self.connection.attach_refused(*channel, attach.handle, &error);
                    }
                    _ => self.connection.attached(*channel, attach.handle, &Attached::as_asked(attach)),
                }
                format!("attach {channel}/{} {}", attach.handle, attach.name)
            }
            Event::Credit { channel, handle, credit, drain, echo, .. } => {
                if *echo {
                    self.connection.tell(*channel, *handle, Some(3));
                }
                format!("credit {channel}/{handle} {credit}{}", if *drain { " drain" } else { "" })
            }
            Event::Window { channel } => format!("window {channel}"),
            Event::Delivery(delivery) => {
                self.messages.push(delivery.message.to_vec());
                let settled = if delivery.settled { " settled" } else { "" };
                let resumed = if delivery.resumed { " resumed" } else { "" };
                let (channel, handle, id) = (delivery.channel, delivery.handle, delivery.delivery_id);
                format!("delivery {channel}/{handle} {id} of {}{settled}{resumed}", delivery.message.len())
            }
            Event::Aborted { channel, handle } => format!("aborted {channel}/{handle}"),
            Event::Part(part) => format!("part {}/{} of {}", part.channel, part.handle, part.bytes.len()),
            Event::Disposition { channel, disposition } => {
                format!("disposition {channel} {}-{:?}", disposition.first, disposition.last)
            }
            Event::Detached { channel, handle, closed, error } => {
                let error = error.map_or("", |error| error.condition.as_str());
                format!("detached {channel}/{handle}{} {error}", if *closed { " closed" } else { "" })
            }
            Event::Ended { channel } => format!("ended {channel}"),
            Event::Closed => String::from("closed"),
        };
        self.events.push(text.trim_end().to_string());
    }

    /// What the caller was told.
    pub(super) fn events(&mut self) -> Vec<String> {
        core::mem::take(&mut self.events)
    }

    /// What the client was told: the frames, by a short text each. What comes before frames is skipped.
    pub(super) fn said(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        self.frames(|channel, performative, payload| all.push(short(channel, performative, payload)));
        all
    }

    /// What the client was told, frame by frame.
    pub(super) fn frames(&mut self, mut each: impl FnMut(u16, &Performative<'_>, &[u8])) {
        let output = core::mem::take(self.connection.output());
        let mut rest = &output[..];
        while !rest.is_empty() {
            if rest.starts_with(b"AMQP") {
                rest = &rest[8..];
            } else if let Ok(Some(of_sasl)) = frame::split(rest, SASL, u32::MAX) {
                rest = &rest[of_sasl.length_bytes..];
            } else {
                let whole = frame::split(rest, AMQP, u32::MAX).unwrap().unwrap();
                assert!(whole.length_bytes <= self.connection.frame_bytes_max() as usize);
                rest = &rest[whole.length_bytes..];
                if !whole.body.is_empty() {
                    let (performative, payload) = Performative::from_body(whole.body).unwrap();
                    each(whole.channel, &performative, payload);
                }
            }
        }
    }
}

fn short(channel: u16, performative: &Performative<'_>, payload: &[u8]) -> String {
    let condition =
        |error: &Option<Error<'_>>| error.map_or(String::new(), |error| error.condition.to_string());
    let text = match performative {
        Performative::Open(_) => String::from("open"),
        Performative::Begin(begin) => format!("begin {channel} window {}", begin.incoming_window),
        Performative::Attach(attach) => {
            let is_refused = attach.source.is_none() && attach.target.is_none();
            format!(
                "attach {channel}/{} {}{}",
                attach.handle,
                attach.name,
                if is_refused { " nowhere" } else { "" }
            )
        }
        Performative::Flow(flow) => {
            let link = flow.handle.map_or(String::new(), |handle| {
                let (count, credit) = (flow.delivery_count.unwrap(), flow.link_credit.unwrap());
                let available = flow.available.map_or(String::new(), |count| format!(" available {count}"));
                let drain = if flow.drain { " drain" } else { "" };
                format!("/{handle} count {count} credit {credit}{available}{drain}")
            });
            let ids = (flow.next_incoming_id.unwrap(), flow.next_outgoing_id);
            format!("flow {channel}{link} window {} next {}, {}", flow.incoming_window, ids.0, ids.1)
        }
        Performative::Transfer(transfer) => {
            let more = if transfer.more { " more" } else { "" };
            let id = transfer.delivery_id.map_or(String::new(), |id| format!(" {id}"));
            format!("transfer {channel}/{}{id} of {}{more}", transfer.handle, payload.len())
        }
        Performative::Disposition(disposition) => format!("disposition {channel} {}", disposition.first),
        Performative::Detach(detach) => {
            let closed = if detach.closed { " closed" } else { "" };
            format!("detach {channel}/{}{closed} {}", detach.handle, condition(&detach.error))
        }
        Performative::End(end) => format!("end {channel} {}", condition(&end.error)),
        Performative::Close(close) => format!("close {}", condition(&close.error)),
    };
    text.trim_end().to_string()
}
