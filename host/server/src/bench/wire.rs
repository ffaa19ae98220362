//! A client's socket, blocking, and what was read from it and is not used yet.

use super::{Interrupt, Interrupted};
use anyhow::{Context, anyhow, bail};
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long a read or write may block before the stop flag is looked at.
pub(super) const BLOCK_MAX: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may take to connect to an address.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// How long anything may take after an interrupt, where it does not end it at once.
const INTERRUPTED_MAX: Duration = Duration::from_secs(5);
/// After how much silence a broker is told that its client lives. Brokers give up after a minute or so.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How many bytes one read of an answer takes at most.
const READ_BYTES: usize = 16 * 1024;

/// How long a broker is waited for that says nothing, and takes nothing.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    interrupt: Interrupt,
    /// Whether an interrupt ends it at once.
    ends_at_once: bool,
}

impl Patience {
    /// For a load: until somebody interrupts it.
    pub(super) fn until(interrupt: &Interrupt) -> Self {
        Self { interrupt: interrupt.clone(), ends_at_once: true }
    }

    /// To take away what was made, after an interrupt too; but not for long then.
    pub(super) fn in_spite_of(interrupt: &Interrupt) -> Self {
        Self { interrupt: interrupt.clone(), ends_at_once: false }
    }

    /// # Errors
    /// If the broker did not do `what`, for which it has so much time, since then; or of what was interrupted.
    fn check(&self, what: &str, limit: Duration, since: Instant) -> anyhow::Result<()> {
        let mut limit = limit;
        if self.interrupt.is_set() {
            if self.ends_at_once {
                bail!(Interrupted);
            }
            limit = limit.min(INTERRUPTED_MAX);
        }
        if since.elapsed() > limit {
            bail!("the broker did not {what} in {} s", limit.as_secs());
        }
        Ok(())
    }
}

/// One end of a connection.
pub(super) struct Wire {
    stream: TcpStream,
    /// What was read and is not used yet.
    pub(super) buffer: Vec<u8>,
    /// What is sent after a silence; nothing where the broker does not want to hear it.
    sign_of_life: &'static [u8],
    wrote: Instant,
    patience: Patience,
}

impl Wire {
    /// Connects to the first of these addresses that answers. After a silence that sign of life is sent.
    pub(super) fn connect(
        addresses: &[SocketAddr],
        sign_of_life: &'static [u8],
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        let mut connected = Err(anyhow!("no address"));
        for address in addresses {
            connected = connect(*address, (patience, CONNECT_MAX));
            if connected.as_ref().err().is_none_or(anyhow::Error::is::<Interrupted>) {
                break;
            }
        }
        let stream = connected.with_context(|| {
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            format!("no broker answers at {}", addresses.join(" or "))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BLOCK_MAX))?;
        stream.set_write_timeout(Some(BLOCK_MAX))?;
        let patience = patience.clone();
        Ok(Self { stream, buffer: Vec::new(), sign_of_life, wrote: Instant::now(), patience })
    }

    /// The same connection, to read from in another thread; from then on nothing is to be read here.
    pub(super) fn beside(&mut self) -> anyhow::Result<Self> {
        let stream = self.stream.try_clone().context("a second handle of the socket")?;
        let (buffer, patience) = (std::mem::take(&mut self.buffer), self.patience.clone());
        Ok(Self { stream, buffer, sign_of_life: &[], wrote: self.wrote, patience })
    }

    /// Writes all.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        self.wrote = Instant::now();
        let mut since = self.wrote;
        while !bytes.is_empty() {
            self.patience.check("take what is sent", ANSWER_MAX, since)?;
            let count = self.write_some(bytes)?;
            if count > 0 {
                since = Instant::now();
            }
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Writes some of it; gives how many bytes, 0 where nothing can be written for a moment.
    fn write_some(&mut self, bytes: &[u8]) -> anyhow::Result<usize> {
        match self.stream.write(bytes) {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(count) => Ok(count),
            Err(error) if is_timeout(&error) => Ok(0),
            Err(error) => Err(error).context("the broker closed the connection"),
        }
    }

    /// Writes all, or gives up when `stop` is set; says whether all went.
    pub(super) fn write_unless(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> anyhow::Result<bool> {
        if bytes.is_empty() {
            return Ok(true);
        }
        self.wrote = Instant::now();
        while !bytes.is_empty() {
            let count = self.write_some(bytes)?;
            if count == 0 && stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            bytes = &bytes[count..];
        }
        Ok(true)
    }

    /// Tells the broker that this side lives, if it heard nothing for a while.
    pub(super) fn keep_alive(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        if !self.sign_of_life.is_empty() && self.wrote.elapsed() > SILENCE_MAX {
            self.write_unless(self.sign_of_life, stop)?;
        }
        Ok(())
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
                    self.keep_alive(stop)?;
                }
                Err(error) => return Err(error).context("reading from the broker"),
            }
        }
    }

    /// Waits a moment for more, which goes behind what is there; says whether something came.
    pub(super) fn fill(&mut self) -> anyhow::Result<bool> {
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) => return Err(error).context("reading from the broker"),
        }
        Ok(true)
    }

    /// Waits for more, which is to be `what`.
    pub(super) fn wait_for(&mut self, what: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            self.patience.check(&format!("send {what}"), ANSWER_MAX, began)?;
            if self.fill().with_context(|| format!("waiting for {what}"))? {
                return Ok(());
            }
        }
    }

    /// Leaves without a word.
    pub(super) fn drop_socket(&self) {
        // The other side may have closed it already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A connection to that address, if it answers in so much time.
fn connect(address: SocketAddr, (patience, limit): (&Patience, Duration)) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Linux takes it for connect too, which goes on meanwhile, and is waited for again when it is called again.
    socket.set_write_timeout(Some(BLOCK_MAX))?;
    let began = Instant::now();
    loop {
        patience.check("answer", limit, began)?;
        match socket.connect(&address.into()) {
            Ok(()) => return Ok(socket.into()),
            Err(error) if is_on_its_way(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a connection is being made.
fn is_on_its_way(error: &io::Error) -> bool {
    /// EALREADY and EINPROGRESS, as Linux has them.
    const ON_ITS_WAY: [i32; 2] = [114, 115];
    is_timeout(error) || error.raw_os_error().is_some_and(|code| ON_ITS_WAY.contains(&code))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Nobody accepts from it, and its queue is full: who connects more waits.
    fn full() -> (Socket, Vec<Socket>, SocketAddr) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let clients = (0..8).map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            assert!(client.connect(&address.into()).is_err_and(|error| is_on_its_way(&error)));
            client
        });
        let clients = clients.collect();
        (listener, clients, address)
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for_without_end() {
        let (_listener, _clients, address) = full();
        let limit = Duration::from_millis(300);
        let patience = Patience::until(&Interrupt::default());
        let why = connect(address, (&patience, limit)).unwrap_err();
        assert_eq!(why.to_string(), "the broker did not answer in 0 s");
    }

    #[test]
    fn an_interrupt_ends_who_connects() {
        let (_listener, _clients, address) = full();
        let interrupt = Interrupt::default();
        let patience = Patience::until(&interrupt);
        let waits = patience.clone();
        thread::scope(|scope| {
            let endless = Duration::from_secs(100_000);
            let connecting = scope.spawn(move || connect(address, (&waits, endless)));
            interrupt.set();
            assert!(connecting.join().unwrap().unwrap_err().is::<Interrupted>());
        });
        let why = Wire::connect(&[address], &[], &patience).err().unwrap();
        assert!(why.is::<Interrupted>(), "{why:#}");
    }

    #[test]
    fn an_interrupt_ends_who_waits_or_writes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let interrupt = Interrupt::default();
        let patience = Patience::until(&interrupt);
        let mut wire = Wire::connect(&[listener.local_addr().unwrap()], &[], &patience).unwrap();
        interrupt.set();
        assert!(wire.wait_for("an answer").unwrap_err().is::<Interrupted>());
        assert!(wire.send(b"request").unwrap_err().is::<Interrupted>());
        // What takes away goes on, for a while.
        let patience = Patience::in_spite_of(&interrupt);
        let now = Instant::now();
        assert!(patience.check("answer", ANSWER_MAX, now).is_ok());
        let before = now.checked_sub(INTERRUPTED_MAX + BLOCK_MAX).unwrap();
        assert!(patience.check("answer", ANSWER_MAX, before).is_err());
        let patience = Patience::in_spite_of(&Interrupt::default());
        assert!(patience.check("answer", ANSWER_MAX, before).is_ok());
    }

    #[test]
    fn the_second_address_is_tried_where_the_first_is_nobodys() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let patience = Patience::until(&Interrupt::default());
        assert!(Wire::connect(&[nobody, listener.local_addr().unwrap()], &[], &patience).is_ok());
        let why = Wire::connect(&[nobody], &[], &patience).err().unwrap();
        assert!(format!("{why:#}").starts_with("no broker answers at 127.0.0.1:"), "{why:#}");
    }
}
