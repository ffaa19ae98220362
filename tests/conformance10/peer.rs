//! A client in small, that sends what it is told, right or wrong, and reads frame by frame.

use leveret_amqp10::{
    Performative,
    composite::Composite,
    frame::{self, AMQP, ProtocolId, SASL},
    messaging::{Source, Target},
    performatives::{Attach, Begin, Flow, Open, Role, Transfer},
    security::{Init, SaslFrame},
    types::Symbol,
};
use leveret_testkit::Broker;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

/// A socket, or TLS on one.
pub(crate) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A frame that came.
pub(crate) struct Came {
    pub(crate) channel: u16,
    body: Vec<u8>,
}

impl Came {
    /// What it says, and what follows that.
    pub(crate) fn read(&self) -> (Performative<'_>, &[u8]) {
        Performative::from_body(&self.body).expect("a performative")
    }
}

macro_rules! awaited {
    ($peer:expr, $variant:ident) => {
        $crate::peer::awaited!($peer, $variant, _it => ())
    };
    ($peer:expr, $variant:ident, $it:ident => $what:expr) => {{
        let came = $peer.frame();
        match came.read().0 {
            leveret_amqp10::Performative::$variant($it) => $what,
            other => panic!("expected {}, came {other:?}", stringify!($variant)),
        }
    }};
}
pub(crate) use awaited;

pub(crate) fn open() -> Open<'static> {
    Open { container_id: "peer", ..Open::default() }
}

pub(crate) fn begin() -> Begin<'static> {
    Begin { incoming_window: 10_000, outgoing_window: 10_000, ..Begin::default() }
}

pub(crate) fn target(address: &str) -> Target<'_> {
    Target { address: Some(address), ..Target::default() }
}

pub(crate) fn source(address: &str) -> Source<'_> {
    Source { address: Some(address), ..Source::default() }
}

/// Of a client that sends.
pub(crate) fn sender<'a>(handle: u32, name: &'a str, target: Target<'a>) -> Attach<'a> {
    Attach {
        name,
        handle,
        role: Role::Sender,
        initial_delivery_count: Some(0),
        source: Some(Source::default()),
        target: Some(target.into()),
        ..Attach::default()
    }
}

/// Of a client that receives.
pub(crate) fn receiver<'a>(handle: u32, name: &'a str, source: Source<'a>) -> Attach<'a> {
    Attach {
        name,
        handle,
        role: Role::Receiver,
        source: Some(source),
        target: Some(Target::default().into()),
        ..Attach::default()
    }
}

/// The credit of a link, with windows that are wide.
pub(crate) fn credit(handle: u32, delivery_count: u32, credit: u32) -> Flow<'static> {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 100_000,
        next_outgoing_id: 0,
        outgoing_window: 100_000,
        handle: Some(handle),
        delivery_count: Some(delivery_count),
        link_credit: Some(credit),
        ..Flow::default()
    }
}

impl Peer {
    /// Connected, and no more.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Connected by that.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new() }
    }

    /// Logged in as guest.
    pub(crate) fn logged_in(broker: &Broker) -> Self {
        let mut peer = Self::connect(broker.address());
        assert_eq!(peer.log_in(b"\0guest\0guest"), 0);
        peer
    }

    /// With an open connection.
    pub(crate) fn opened(broker: &Broker) -> Self {
        let mut peer = Self::logged_in(broker);
        peer.open();
        peer
    }

    /// With a session on channel 0.
    pub(crate) fn begun(broker: &Broker) -> Self {
        let mut peer = Self::opened(broker);
        peer.begin();
        peer
    }

    pub(crate) fn open(&mut self) {
        self.say(0, &open());
        awaited!(self, Open);
    }

    /// Begins a session on channel 0.
    pub(crate) fn begin(&mut self) {
        self.say(0, &begin());
        awaited!(self, Begin);
    }

    /// Sends the headers and a login by PLAIN; the code that it comes to.
    pub(crate) fn log_in(&mut self, response: &[u8]) -> u8 {
        self.log_in_by("PLAIN", response)
    }

    /// The same by another mechanism.
    pub(crate) fn log_in_by(&mut self, mechanism: &'static str, response: &[u8]) -> u8 {
        self.send(&ProtocolId::Sasl.header());
        let init = Init {
            mechanism: Symbol::from_static(mechanism),
            initial_response: Some(response),
            ..Init::default()
        };
        let mut out = Vec::new();
        frame::put_sasl(&mut out, &init);
        self.send(&out);
        assert_eq!(self.take(8), ProtocolId::Sasl.header());
        self.sasl(|frame| assert!(matches!(frame, SaslFrame::Mechanisms(_)), "{frame:?}"));
        let code = self.sasl(|frame| match frame {
            SaslFrame::Outcome(outcome) => outcome.code as u8,
            other => panic!("{other:?}"),
        });
        if code == 0 {
            self.send(&ProtocolId::Amqp.header());
            assert_eq!(self.take(8), ProtocolId::Amqp.header());
        }
        code
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker takes bytes");
    }

    pub(crate) fn say<'a>(&mut self, channel: u16, performative: &impl Composite<'a>) {
        let mut out = Vec::new();
        frame::put_performative(&mut out, channel, performative);
        self.send(&out);
    }

    /// A transfer with its payload.
    pub(crate) fn transfer(&mut self, channel: u16, transfer: &Transfer<'_>, payload: &[u8]) {
        let mut out = Vec::new();
        frame::put_frame(&mut out, AMQP, channel, |out| {
            transfer.encode(out);
            out.extend_from_slice(payload);
        });
        self.send(&out);
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 64 * 1024];
        let count = self.stream.read(&mut chunk).expect("an answer in time");
        self.unread.extend_from_slice(&chunk[..count]);
        count
    }

    /// So many bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.fill() > 0, "the broker closed the socket");
        }
        self.unread.drain(..count).collect()
    }

    pub(crate) fn sasl<R>(&mut self, read: impl FnOnce(SaslFrame<'_>) -> R) -> R {
        loop {
            if let Some(frame) = frame::split(&self.unread, SASL, u32::MAX).expect("a frame of SASL") {
                let (length, answer) =
                    (frame.length_bytes, read(SaslFrame::from_body(frame.body).expect("SASL")));
                self.unread.drain(..length);
                return answer;
            }
            assert!(self.fill() > 0, "the broker closed the socket");
        }
    }

    /// The next frame that says something.
    pub(crate) fn frame(&mut self) -> Came {
        loop {
            let frame = frame::split(&self.unread, AMQP, u32::MAX).expect("a frame");
            if let Some(frame) = frame {
                let (length, came) =
                    (frame.length_bytes, Came { channel: frame.channel, body: frame.body.to_vec() });
                self.unread.drain(..length);
                if !came.body.is_empty() {
                    return came;
                }
                continue;
            }
            assert!(self.fill() > 0, "the broker closed the socket");
        }
    }

    /// An empty frame, which is a sign of life, and nothing else.
    pub(crate) fn expect_sign_of_life(&mut self) {
        assert_eq!(self.take(8), frame::EMPTY_FRAME);
    }

    /// The socket is closed, and nothing more came.
    pub(crate) fn expect_end(&mut self) {
        while self.fill() > 0 {}
        assert!(self.unread.is_empty(), "something came before the end: {:?}", self.unread);
    }

    /// It has not noticed anything.
    pub(crate) fn expect_alive(&mut self) {
        self.say(7, &begin());
        awaited!(self, Begin);
    }

    /// Attaches a link; the answer leads somewhere. A sender is given credit.
    pub(crate) fn attach(&mut self, channel: u16, attach: &Attach<'_>) {
        self.say(channel, attach);
        let role = attach.role;
        awaited!(self, Attach, it => match role {
            Role::Sender => assert!(it.target.is_some(), "{it:?}"),
            Role::Receiver => assert!(it.source.is_some(), "{it:?}"),
        });
        if role == Role::Sender {
            awaited!(self, Flow, it => assert!(it.link_credit > Some(0), "{it:?}"));
        }
    }

    /// Tries to attach a link; the condition with which it is refused.
    pub(crate) fn refused(&mut self, channel: u16, attach: &Attach<'_>) -> String {
        self.say(channel, attach);
        awaited!(self, Attach, it => assert!(it.source.is_none() && it.target.is_none(), "{it:?}"));
        let condition = awaited!(self, Detach, it => {
            assert!(it.closed);
            it.error.expect("an error").condition.to_string()
        });
        let detach =
            leveret_amqp10::performatives::Detach { handle: attach.handle, closed: true, error: None };
        self.say(channel, &detach);
        condition
    }
}
