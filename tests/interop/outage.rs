//! A broker that fails when the client program says so.
//!
//! The program speaks to it through a relay, so that the address stays, and asks for an outage on a port
//! beside it: one word a line, answered by a line when it is over.
//!
//! | word | what happens |
//! |---|---|
//! | `cut` | all connections end without a word of the protocol |
//! | `restart` | the broker stops as an operator stops it, and starts again |
//! | `kill` | the broker is killed, and starts again |

use leveret_testkit::{Broker, Relay, broker::Builder};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// The broker with its relay and the port that is asked.
pub(crate) struct Outage {
    shared: Arc<Shared>,
    control: SocketAddr,
}

struct Shared {
    relay: Relay,
    /// `None` between two lives, and at the end.
    broker: Mutex<Option<Broker>>,
}

impl Outage {
    /// Starts the broker and listens.
    pub(crate) fn new(broker: Builder) -> Self {
        let broker = broker.start();
        let relay = Relay::to(broker.address());
        let shared = Arc::new(Shared { relay, broker: Mutex::new(Some(broker)) });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = listener.local_addr().unwrap();
        let asked = Arc::clone(&shared);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for asker in listener.incoming().flatten() {
                asked.answer(asker);
            }
        });
        Self { shared, control }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.relay.address()
    }

    /// The same for clients that take all in one.
    pub(crate) fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// Where an outage is asked for, as `host:port`.
    pub(crate) fn control(&self) -> String {
        self.control.to_string()
    }

    /// Brings one about.
    pub(crate) fn bring(&self, what: &str) {
        self.shared.bring(what);
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        // The thread that answers holds on to the rest.
        drop(self.shared.broker.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Shared {
    fn answer(&self, mut asker: TcpStream) {
        let lines = BufReader::new(asker.try_clone().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            self.bring(&line);
            if writeln!(asker, "over").is_err() {
                return;
            }
        }
    }

    fn bring(&self, what: &str) {
        let mut place = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = place.take().expect("the broker runs");
        // Whoever connects waits until it is over; its port may be another's soon.
        self.relay.turn_to(None);
        let broker = match what {
            "restart" => broker.stop_for_a_while().start(),
            "kill" => broker.kill_for_a_while().start(),
            "cut" => {
                self.relay.cut();
                broker
            }
            _ => panic!("no such outage: {what}"),
        };
        self.relay.turn_to(Some(broker.address()));
        *place = Some(broker);
    }
}
