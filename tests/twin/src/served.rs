//! What a message costs in the server: the broker itself, with its sockets, tasks and store, under callgrind, and a client at
//! its port.
//!
//! Counted is what a connection does with what was read (`handle`: to the queue, and to the store), and what it does to have
//! something to write (`deliver`). A batch is sent when all of the one before came back, so that much the same comes in a read
//! however busy the machine is.

use leveret_amqp091::{Method, client, properties};
use leveret_instructions::guard::{Counts, counted, no_valgrind, under_callgrind};
use leveret_model::Table;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

/// How many messages are sent together, and how often.
const BATCH: usize = 512;
const ROUNDS: usize = 40;
/// What the broker logs before its address, once it listens.
const LISTENING: &str = "listening on ";
const CHANNEL: u16 = 1;
const QUEUE: &[u8] = b"work";
const FRAME_BYTES_MAX: u32 = 131_072;
/// With delivery mode 2.
const PERSISTENT: &[u8] = b"\x10\x00\x02";

/// The steps by name, with their functions.
const STEPS: [(&str, &str); 2] = [
    ("handle", "leveret_server::amqp091::Connection::handle"),
    ("deliver", "leveret_server::amqp091::Connection::deliver"),
];

/// What is put on the broker.
struct Load {
    name: &'static str,
    /// To a topic exchange, or to the default one.
    exchange: &'static [u8],
    /// To a durable queue, and confirmed.
    persistent: bool,
}

const LOADS: [Load; 3] = [
    Load { name: "served", exchange: b"", persistent: false },
    Load { name: "served-topic", exchange: b"amq.topic", persistent: false },
    Load { name: "served-persistent", exchange: b"", persistent: true },
];

/// Counts all steps of all loads.
///
/// # Errors
/// What went wrong, for people to read.
pub(crate) fn count(counts: &mut Counts) -> Result<(), String> {
    for load in &LOADS {
        for (step, function) in STEPS {
            let of = |error| format!("{}.{step}: {error}", load.name);
            let all = load.count(function).map_err(of)?;
            counts.insert(format!("{}.{step}", load.name), all / (BATCH * ROUNDS) as u64);
        }
    }
    Ok(())
}

/// The broker's program: what this program is when it is called like that.
pub(crate) fn is_called_so(arguments: &[&str]) -> bool {
    arguments.first() == Some(&"--listen")
}

/// The broker, and its folder; both go with this.
struct Served {
    child: Child,
    said: BufReader<ChildStderr>,
    folder: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where it has ended that says so, and nothing is to be done.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Served {
    /// Starts it. Callgrind counts within that function.
    fn start(function: &str) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("leveret-twin-{}", std::process::id()));
        let place = |name: &str| folder.join(name).display().to_string();
        let (data, plugins) = (place("data"), place("plugins"));
        let arguments = ["--listen", "127.0.0.1:0", "--http-listen", "none"];
        let folders = ["--data-dir", &data, "--plugins-dir", &plugins];
        let mut command = under_callgrind(&[arguments, folders].concat(), &[function], None)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| no_valgrind(&error))?;
        let said = child.stderr.take().ok_or("its standard error is not piped")?;
        Ok(Self { child, said: BufReader::new(said), folder })
    }

    /// Where it listens, once it does.
    fn address(&mut self) -> Result<SocketAddr, String> {
        let mut said = String::new();
        loop {
            let start = said.len();
            match self.said.read_line(&mut said) {
                Ok(0) => return Err(format!("the broker does not listen: {said}")),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
            if let Some((_, address)) = said[start..].split_once(LISTENING) {
                let address = address.split_whitespace().next().unwrap_or_default();
                return address.parse().map_err(|error| format!("'{address}': {error}"));
            }
        }
    }

    /// Ends it; what callgrind counted.
    fn end(mut self) -> Result<u64, String> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        asked.map_err(|error| format!("kill cannot be run: {error}"))?;
        let mut stderr = Vec::new();
        self.said.read_to_end(&mut stderr).map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        counted(&Output { status, stdout: Vec::new(), stderr })
    }
}

impl Load {
    fn count(&self, function: &str) -> Result<u64, String> {
        let mut served = Served::start(function)?;
        let stream =
            served.address().and_then(|at| TcpStream::connect(at).map_err(|error| error.to_string()))?;
        self.drive(stream).map_err(|error| error.to_string())?;
        served.end()
    }

    /// Sends all batches, each when the one before came back.
    fn drive(&self, stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
        stream.set_nodelay(true)?;
        let mut client = Client { stream, came: Vec::new() };
        client.connect()?;
        client.prepare(self)?;
        let properties = if self.persistent { PERSISTENT } else { properties::NONE };
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            let body = b"sixteen bytes...";
            client::put_publish(&mut batch, CHANNEL, self.exchange, QUEUE, properties, body, FRAME_BYTES_MAX);
        }
        for round in 1..=ROUNDS {
            client.stream.write_all(&batch)?;
            client.wait_for(BATCH, self.persistent.then_some((BATCH * round) as u64))?;
        }
        Ok(())
    }
}

/// A client of a few methods.
struct Client {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Client {
    fn connect(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let mut bytes = Vec::new();
        client::put_protocol_header(&mut bytes);
        client::put_start_ok(&mut bytes, b"guest", b"guest", Table::new());
        let tune_ok = Method::ConnectionTuneOk { channel_max: 10, frame_max: FRAME_BYTES_MAX, heartbeat: 0 };
        client::put_method(&mut bytes, 0, &tune_ok);
        client::put_method(&mut bytes, 0, &Method::ConnectionOpen { virtual_host: b"/" });
        client::put_method(&mut bytes, CHANNEL, &Method::ChannelOpen {});
        self.stream.write_all(&bytes)?;
        self.wait(|method| matches!(method, Method::ChannelOpenOk {}))
    }

    /// The queue, its binding and consumer, and confirms.
    fn prepare(&mut self, load: &Load) -> Result<(), Box<dyn std::error::Error>> {
        let declare = Method::QueueDeclare {
            queue: QUEUE,
            passive: false,
            durable: load.persistent,
            exclusive: false,
            auto_delete: false,
            nowait: true,
            arguments: Table::new(),
        };
        let bind = Method::QueueBind {
            queue: QUEUE,
            exchange: load.exchange,
            routing_key: b"*",
            nowait: true,
            arguments: Table::new(),
        };
        let consume = Method::BasicConsume {
            queue: QUEUE,
            consumer_tag: b"c",
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: Table::new(),
        };
        let mut bytes = Vec::new();
        client::put_method(&mut bytes, CHANNEL, &declare);
        if !load.exchange.is_empty() {
            client::put_method(&mut bytes, CHANNEL, &bind);
        }
        if load.persistent {
            client::put_method(&mut bytes, CHANNEL, &Method::ConfirmSelect { nowait: true });
        }
        client::put_method(&mut bytes, CHANNEL, &consume);
        self.stream.write_all(&bytes)?;
        self.wait(|method| matches!(method, Method::BasicConsumeOk { .. }))
    }

    /// Until so many were delivered, and that one is confirmed.
    fn wait_for(&mut self, count: usize, confirmed: Option<u64>) -> Result<(), Box<dyn std::error::Error>> {
        let (mut delivered, mut is_confirmed) = (0, confirmed.is_none());
        self.wait(|method| {
            match method {
                Method::BasicDeliver { .. } => delivered += 1,
                Method::BasicAck { delivery_tag, .. } => is_confirmed |= confirmed == Some(*delivery_tag),
                _ => {}
            }
            delivered == count && is_confirmed
        })
    }

    /// Reads methods until one is the last that is waited for.
    fn wait(
        &mut self,
        mut is_last: impl FnMut(&Method<'_>) -> bool,
    ) -> Result<(), Box<dyn std::error::Error>> {
        loop {
            let mut used = 0;
            while let Some((took, _, method)) = client::next_method(&self.came[used..])? {
                used += took;
                if let Method::ConnectionClose { reply_text, .. } | Method::ChannelClose { reply_text, .. } =
                    &method
                {
                    return Err(String::from_utf8_lossy(reply_text).into());
                }
                if is_last(&method) {
                    self.came.drain(..used);
                    return Ok(());
                }
            }
            self.came.drain(..used);
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer)? {
                0 => return Err("the broker closed the connection".into()),
                count => self.came.extend_from_slice(&buffer[..count]),
            }
        }
    }
}
