//! A client's socket, blocking, and what was read from it and is not used yet.

use anyhow::{Context, bail};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long a read or write may block before the stop flag is looked at.
pub(super) const BLOCK_MAX: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// After how much silence a broker is told that its client lives. Brokers give up after a minute or so.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How many bytes one read of an answer takes at most.
const READ_BYTES: usize = 16 * 1024;

/// One end of a connection.
pub(super) struct Wire {
    stream: TcpStream,
    /// What was read and is not used yet.
    pub(super) buffer: Vec<u8>,
    /// What is sent after a silence; nothing where the broker does not want to hear it.
    sign_of_life: &'static [u8],
    wrote: Instant,
}

impl Wire {
    /// Connects to the first of these addresses that answers. After a silence that sign of life is sent.
    pub(super) fn connect(addresses: &[SocketAddr], sign_of_life: &'static [u8]) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addresses).with_context(|| {
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            format!("no broker answers at {}", addresses.join(" or "))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BLOCK_MAX))?;
        stream.set_write_timeout(Some(BLOCK_MAX))?;
        Ok(Self { stream, buffer: Vec::new(), sign_of_life, wrote: Instant::now() })
    }

    /// The same connection, to read from in another thread; from then on nothing is to be read here.
    pub(super) fn beside(&mut self) -> anyhow::Result<Self> {
        let stream = self.stream.try_clone().context("a second handle of the socket")?;
        Ok(Self { stream, buffer: std::mem::take(&mut self.buffer), sign_of_life: &[], wrote: self.wrote })
    }

    /// Writes all.
    pub(super) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.write_unless(bytes, &AtomicBool::new(false)).map(drop)
    }

    /// Writes all, or gives up when `stop` is set; says whether all went.
    pub(super) fn write_unless(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> anyhow::Result<bool> {
        if bytes.is_empty() {
            return Ok(true);
        }
        self.wrote = Instant::now();
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
        while !self.fill().with_context(|| format!("waiting for {what}"))? {
            if began.elapsed() > ANSWER_MAX {
                bail!("the broker did not send {what} in {} s", ANSWER_MAX.as_secs());
            }
        }
        Ok(())
    }

    /// Leaves without a word.
    pub(super) fn drop_socket(&self) {
        // The other side may have closed it already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
