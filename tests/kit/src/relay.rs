//! A relay between clients and a broker: a stable address whose connections can be cut, or stand still.
//!
//! What a client sees of a cut is what it sees when a router or the broker's machine goes: its socket ends
//! without a word of the protocol. And behind the same address there may be another broker afterwards.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The most bytes that are carried at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A running relay. Dropping it cuts all connections and ends it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is a broker again, or the end.
    changed: Condvar,
    /// How many bytes a connection carries each way.
    bytes_max: u64,
}

#[derive(Debug)]
struct State {
    /// While there is none, whoever connects waits.
    broker: Option<SocketAddr>,
    ended: bool,
    /// Both sockets of each connection since the last cut; they may have ended.
    open: Vec<[TcpStream; 2]>,
}

impl Relay {
    /// Listens on a free port of the loopback address, for this broker.
    #[must_use]
    pub fn to(broker: SocketAddr) -> Self {
        Self::that_stands_still(broker, u64::MAX)
    }

    /// The same; of a connection, once it has carried so many bytes one way, nothing more is read there. It stays open:
    /// what a client sees is a broker that stands still.
    #[must_use]
    pub fn that_stands_still(broker: SocketAddr, after_bytes: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port that was bound");
        let state = Mutex::new(State { broker: Some(broker), ended: false, open: Vec::new() });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), bytes_max: after_bytes });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = accepting.with_broker();
                if state.ended {
                    return;
                }
                // If the broker ends at this moment, the client's connection ends.
                if let Some(broker) = state.broker
                    && let Ok(pair) =
                        TcpStream::connect(broker).and_then(|server| carry(&client, &server, &accepting))
                {
                    state.open.push(pair);
                }
            }
        });
        Self { address, shared }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections go to this broker, or wait for one; those that are open stay.
    pub fn turn_to(&self, broker: Option<SocketAddr>) {
        self.shared.lock().broker = broker;
        self.shared.changed.notify_all();
    }

    /// Ends all connections, on both sides.
    pub fn cut(&self) {
        for socket in self.shared.lock().open.drain(..).flatten() {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        self.cut();
        // What is accepted last wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a broker, or the relay ends.
    fn with_broker(&self) -> MutexGuard<'_, State> {
        let waiting = |state: &mut State| state.broker.is_none() && !state.ended;
        self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_end(&self) {
        drop(self.changed.wait_while(self.lock(), |state| !state.ended));
    }
}

/// Carries bytes both ways on threads of their own, until either side ends.
fn carry(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) -> std::io::Result<[TcpStream; 2]> {
    for socket in [client, server] {
        socket.set_nodelay(true)?;
    }
    for (from, to) in [(client, server), (server, client)] {
        let (from, to, shared) = (from.try_clone()?, to.try_clone()?, Arc::clone(shared));
        std::thread::spawn(move || carry_one_way(from, to, &shared));
    }
    Ok([client.try_clone()?, server.try_clone()?])
}

fn carry_one_way(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut carried = 0;
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        carried += count as u64;
        if carried > shared.bytes_max {
            shared.wait_for_end();
            break;
        }
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EVENT_WAIT_MAX;

    /// A connection through the relay and its end at the other side.
    fn through(relay: &Relay, broker: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(relay.address()).unwrap();
        let (server, _) = broker.accept().unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(EVENT_WAIT_MAX)).unwrap();
        }
        (client, server)
    }

    #[test]
    fn carries_cuts_and_turns() {
        let (one, other) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let relay = Relay::to(one.local_addr().unwrap());
        let (mut client, mut server) = through(&relay, &one);
        let mut said = [0; 4];
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"ping");
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"pong");

        relay.cut();
        assert_eq!((client.read(&mut said).unwrap(), server.read(&mut said).unwrap()), (0, 0));

        relay.turn_to(Some(other.local_addr().unwrap()));
        let (client, mut server) = through(&relay, &other);
        drop(client);
        assert_eq!(server.read(&mut said).unwrap(), 0);
    }

    #[test]
    fn stands_still_and_ends() {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::that_stands_still(broker.local_addr().unwrap(), 4);
        let (mut client, mut server) = through(&relay, &broker);
        let (mut other_client, mut other_server) = through(&relay, &broker);
        let mut said = [0; 4];
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut said).unwrap();
        client.write_all(b"lost").unwrap();
        // The other way and other connections go on.
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"pong");
        other_client.write_all(b"ping").unwrap();
        other_server.read_exact(&mut said).unwrap();
        drop(relay);
        assert_eq!((client.read(&mut said).unwrap(), server.read(&mut said).unwrap()), (0, 0));
    }
}
