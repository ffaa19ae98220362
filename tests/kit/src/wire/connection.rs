//! A connection that sends whatever a test wants and reads frame by frame.

use super::{Arguments, FRAME_END, Frame, METHOD, PROTOCOL_HEADER, Reader, frame_bytes, id, method_bytes};
use crate::EVENT_WAIT_MAX;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// A TCP connection to a broker.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
}

/// What connection.tune proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tune {
    /// The highest channel number; 0 is no limit.
    pub channel_max: u16,
    /// The largest frame in octets, its header and end included; 0 is no limit.
    pub frame_max_bytes: u32,
    /// Seconds; 0 is no heartbeats.
    pub heartbeat_seconds: u16,
}

/// What connection.close or channel.close said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The reply code.
    pub code: u16,
    /// The reply text, the code's name included.
    pub text: String,
    /// The method that caused it, or (0, 0).
    pub method: id::MethodId,
}

impl RawConnection {
    /// A TCP connection, nothing said yet. Reads fail after [`EVENT_WAIT_MAX`].
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
        stream.set_read_timeout(Some(EVENT_WAIT_MAX)).expect("a limit on reads");
        stream.set_nodelay(true).expect("no delay");
        Self { stream }
    }

    /// A connection that has come as far as connection.open-ok on the virtual host `/`.
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        Self::open_in(address, "/")
    }

    /// The same for another virtual host.
    #[must_use]
    pub fn open_in(address: SocketAddr, vhost: &str) -> Self {
        let mut connection = Self::connect(address);
        connection.log_in("guest", "guest");
        connection.tune_and_open(vhost);
        connection
    }

    fn tune_and_open(&mut self, vhost: &str) {
        let tune = self.expect_tune();
        self.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune));
        self.send_method(0, id::CONNECTION_OPEN, Arguments::open(vhost));
        self.expect_method(0, id::CONNECTION_OPEN_OK);
    }

    /// [`RawConnection::open`] of a client that can be told that it is blocked.
    #[must_use]
    pub fn open_to_be_blocked(address: SocketAddr) -> Self {
        Self::open_with_capability(address, "/", "connection.blocked")
    }

    /// [`RawConnection::open_in`] of a client that says that it has a capability.
    #[must_use]
    pub fn open_with_capability(address: SocketAddr, vhost: &str, capability: &str) -> Self {
        let mut connection = Self::connect(address);
        connection.send(&super::PROTOCOL_HEADER);
        connection.expect_method(0, id::CONNECTION_START);
        let capability = [&[capability.len() as u8], capability.as_bytes(), b"t\x01"].concat();
        let length = (capability.len() as u32).to_be_bytes();
        let content = [b"\x0ccapabilitiesF".as_slice(), &length, &capability].concat();
        let start_ok = Arguments::new().long_string(content).short_string("PLAIN");
        let start_ok = start_ok.long_string("\0guest\0guest").short_string("en_US");
        connection.send_method(0, id::CONNECTION_START_OK, start_ok);
        connection.tune_and_open(vhost);
        connection
    }

    /// [`RawConnection::open`], and channel 1 open.
    #[must_use]
    pub fn open_with_channel(address: SocketAddr) -> Self {
        let mut connection = Self::open(address);
        connection.open_channel(1);
        connection
    }

    /// The socket, for whoever reads and writes by itself from now on.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The same connection once more: one may read while the other writes.
    #[must_use]
    pub fn other_half(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("another handle on the socket") }
    }

    /// Opens a channel.
    pub fn open_channel(&mut self, channel: u16) {
        self.send_method(channel, id::CHANNEL_OPEN, Arguments::new().short_string(""));
        self.expect_method(channel, id::CHANNEL_OPEN_OK);
    }

    /// Sends the protocol header, awaits connection.start and answers with PLAIN.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.send(&PROTOCOL_HEADER);
        self.expect_method(0, id::CONNECTION_START);
        let response = format!("\0{user}\0{password}");
        self.send_method(0, id::CONNECTION_START_OK, Arguments::start_ok("PLAIN", response.as_bytes()));
    }

    /// Declares an exclusive queue named by the server and gives its name.
    pub fn declare_queue(&mut self, channel: u16) -> String {
        let arguments = Arguments::new().short(0).short_string("").bits(&[false, false, true]).empty_table();
        self.send_method(channel, id::QUEUE_DECLARE, arguments);
        self.expect_method(channel, id::QUEUE_DECLARE_OK).short_string()
    }

    /// Sends bytes. A peer that has closed is no failure here: its answer is what the test reads.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_closed(&error), "cannot write: {error}");
        }
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.send(&frame_bytes(kind, channel, payload, FRAME_END));
    }

    /// Sends a method.
    pub fn send_method(&mut self, channel: u16, method: id::MethodId, arguments: Arguments) {
        self.send(&method_bytes(channel, method, arguments));
    }

    /// Says that nothing more will be sent, and can still read.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next frame; `None` when the peer has closed the connection.
    ///
    /// Panics when nothing comes in time, and on a wrong frame end.
    pub fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 7];
        self.read_exactly(&mut head)?;
        let [kind, c0, c1, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([s0, s1, s2, s3]) as usize + 1];
        self.read_exactly(&mut payload)?;
        assert_eq!(payload.pop(), Some(FRAME_END), "the broker's frame ends wrongly");
        Some(Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload })
    }

    /// Exactly `count` bytes that are no frame.
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exactly(&mut bytes).expect("the broker closed the connection instead");
        bytes
    }

    fn read_exactly(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof || is_closed(&error) => None,
            Err(error) => panic!("nothing came from the broker: {error}"),
        }
    }

    /// The next frame that is no heartbeat.
    pub fn expect_frame(&mut self) -> Frame {
        loop {
            let frame = self.read_frame().expect("the broker closed the connection instead");
            if frame.kind != super::HEARTBEAT {
                return frame;
            }
        }
    }

    /// The next frame must be this method on this channel; gives its arguments.
    pub fn expect_method(&mut self, channel: u16, method: id::MethodId) -> Reader {
        let frame = self.expect_frame();
        let mut arguments = Reader::new(&frame.payload);
        assert_eq!(frame.kind, METHOD, "a method frame wanted, not {frame:?}");
        let came = (frame.channel, (arguments.short(), arguments.short()));
        assert_eq!(
            came,
            (channel, method),
            "another method came: {}",
            String::from_utf8_lossy(&frame.payload)
        );
        arguments
    }

    /// The next method must be connection.tune.
    pub fn expect_tune(&mut self) -> Tune {
        let mut arguments = self.expect_method(0, id::CONNECTION_TUNE);
        Tune {
            channel_max: arguments.short(),
            frame_max_bytes: arguments.long(),
            heartbeat_seconds: arguments.short(),
        }
    }

    /// The next method must be connection.close with this code; answers it, and the broker must then
    /// close the connection.
    pub fn expect_connection_close(&mut self, code: u16) -> Closed {
        let closed = Closed::read(self.expect_method(0, id::CONNECTION_CLOSE));
        assert_eq!(closed.code, code, "{closed:?}");
        self.send_method(0, id::CONNECTION_CLOSE_OK, Arguments::new());
        self.expect_end();
        closed
    }

    /// The broker must close the connection, with this code if it says why at all.
    ///
    /// For errors after which RabbitMQ ends the connection without a word.
    pub fn expect_connection_close_or_end(&mut self, code: u16) {
        let Some(frame) = self.read_frame() else { return };
        let mut arguments = Reader::new(&frame.payload);
        assert_eq!((arguments.short(), arguments.short()), id::CONNECTION_CLOSE, "{frame:?}");
        let closed = Closed::read(arguments);
        assert_eq!(closed.code, code, "{closed:?}");
        self.send_method(0, id::CONNECTION_CLOSE_OK, Arguments::new());
        self.expect_end();
    }

    /// The next method must be channel.close with this code; answers it.
    pub fn expect_channel_close(&mut self, channel: u16, code: u16) -> Closed {
        let closed = Closed::read(self.expect_method(channel, id::CHANNEL_CLOSE));
        assert_eq!(closed.code, code, "{closed:?}");
        self.send_method(channel, id::CHANNEL_CLOSE_OK, Arguments::new());
        closed
    }

    /// The broker must close the connection; whatever it says until then does not matter.
    pub fn expect_end(&mut self) {
        while self.read_frame().is_some() {}
    }

    /// The connection must still serve: opens one more channel.
    pub fn expect_alive(&mut self) {
        self.open_channel(1999);
    }
}

impl Closed {
    fn read(mut arguments: Reader) -> Self {
        Self {
            code: arguments.short(),
            text: arguments.short_string(),
            method: (arguments.short(), arguments.short()),
        }
    }
}

impl Arguments {
    /// Of connection.start-ok, without client properties.
    #[must_use]
    pub fn start_ok(mechanism: &str, response: &[u8]) -> Self {
        Self::new().empty_table().short_string(mechanism).long_string(response).short_string("en_US")
    }

    /// Of connection.tune-ok.
    #[must_use]
    pub fn tune_ok(tune: Tune) -> Self {
        Self::new().short(tune.channel_max).long(tune.frame_max_bytes).short(tune.heartbeat_seconds)
    }

    /// Of connection.open.
    #[must_use]
    pub fn open(virtual_host: &str) -> Self {
        Self::new().short_string(virtual_host).short_string("").octet(0)
    }

    /// Of basic.publish, neither mandatory nor immediate.
    #[must_use]
    pub fn publish(exchange: &str, routing_key: &str) -> Self {
        Self::new().short(0).short_string(exchange).short_string(routing_key).octet(0)
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}
