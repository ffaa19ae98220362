//! A connection as a task: the socket, the timers, and turns of read, handle, deliver, write.
//!
//! It is a future written by hand, so that one turn does everything that is ready and registers
//! for the rest, and so that the worker's read buffer is borrowed only inside a turn.
//!
//! *Buffers.* A connection reads into the worker's buffer; what it could not use stays in
//! `leftover`, normally empty. Its output buffer comes from the worker's spares and goes back
//! when it is drained: an idle connection holds neither.
//!
//! *Back-pressure.* While more than [`OUTPUT_BYTES_SOFT_MAX`] wait for the socket nothing is
//! delivered, and above [`OUTPUT_BYTES_HARD_MAX`] no request is handled, so a slow reader costs that
//! much and one message more. While queued messages exceed the memory limit, or the disk is full, publishes of a
//! connection are kept aside, within bounds, and what else it sends is handled (`amqp091/held.rs`). What is not
//! handled is read only until the read buffer is full, and much less of it of a connection whose publishes are kept.
//!
//! *The end.* When the socket is gone, what came whole before and waits for an answer is still dealt with, for
//! at most [`ALONE_MAX`] (`alone.rs`).

mod alone;
mod spoken;
mod timers;
mod waking;

use crate::{
    amqp091::{Ends, Reading, dead_letter},
    tls::stream::Stream,
    worker::Worker,
};
pub use alone::ALONE_MAX;
use alone::Alone;
use atomic_waker::AtomicWaker;
use leveret_broker::port::{Router, Wake};
use parking_lot::Mutex;
use spoken::{Header, Spoken};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use timers::{Stage, Tick, Timers};
use tokio::{io::ReadBuf, net::TcpStream, time::Sleep};
pub(crate) use waking::{LoginCheck, OnceWake};

/// With this many bytes waiting for the socket, a connection delivers no more.
pub const OUTPUT_BYTES_SOFT_MAX: usize = 64 * 1024;
/// With this many bytes waiting for the socket, a connection handles no more requests.
pub const OUTPUT_BYTES_HARD_MAX: usize = 1024 * 1024;
/// How long a publisher waits after each read while consumers are behind.
const BRAKE: Duration = Duration::from_millis(1);
/// How many turns a connection takes before it lets others on the worker have theirs.
const TURNS_MAX: usize = 8;
/// How many bytes are read at once of a connection whose publishes are held back; with so many not used, no more are.
const HELD_BACK_READ_BYTES: usize = 16 * 1024;

/// Wakes a connection's task from anywhere.
#[derive(Default)]
pub struct ConnectionWake {
    woken: AtomicBool,
    waker: AtomicWaker,
    /// Why the connection is to end.
    forced: Mutex<Option<Forced>>,
}

/// Why a connection is to end.
#[derive(Debug)]
pub struct Forced {
    /// In words.
    pub why: Box<str>,
    /// Its queues go too: consumers are told that first.
    pub with_queues: bool,
}

impl ConnectionWake {
    /// Wakes the task even if it was woken already.
    pub fn wake_now(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Has the connection closed (320), for that reason, and its consumers told before if its queues go too.
    pub fn force_close(&self, why: &str, with_queues: bool) {
        *self.forced.lock() = Some(Forced { why: why.into(), with_queues });
        self.wake_now();
    }

    /// Why the connection is to end, if so.
    pub fn forced(&self) -> Option<Forced> {
        self.forced.lock().take()
    }

    /// Whether somebody woke it since the last time.
    pub fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for ConnectionWake {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// Serves one client from accept to the end.
pub struct ConnectionTask {
    stream: Stream,
    /// TLS has something that the socket did not take.
    unflushed: bool,
    id: u64,
    ends: Ends,
    peer: SocketAddr,
    worker: Rc<Worker>,
    connection: Spoken,
    /// The client showed a certificate, and the user that it names, if it names one.
    proved: Option<Option<Vec<u8>>>,
    wake: Arc<ConnectionWake>,
    timers: Timers,
    /// Bytes that were read and not used yet.
    leftover: Vec<u8>,
    /// How much of the output is written already.
    written: usize,
    /// The client sends no more.
    read_ended: bool,
    /// Until when its publishes wait for consumers that are behind.
    brake: Option<Pin<Box<Sleep>>>,
    /// Until refused dead letters are due, and when that is in milliseconds since 1970.
    retry: Option<(u64, Pin<Box<Sleep>>)>,
    /// What the client speaks was looked at.
    greeted: bool,
    /// The socket is gone, and until when what it left is dealt with.
    alone: Option<Alone>,
}

/// What a client speaks that begins with these bytes, if that is well known and not AMQP.
fn foreign_protocol(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x16, 0x03, ..] => Some("TLS"),
        [b'G', b'E', b'T', b' ', ..] | [b'P', b'O', b'S', b'T', ..] | [b'P', b'U', b'T', b' ', ..] => {
            Some("HTTP")
        }
        _ => None,
    }
}

enum Turn {
    /// Something moved: take another turn.
    Again,
    /// Nothing to do until something registered for happens.
    Wait,
    /// The connection is over.
    End(&'static str),
}

impl ConnectionTask {
    /// A task for this socket.
    ///
    /// # Errors
    /// If the socket is unusable already.
    pub fn new(id: u64, stream: std::net::TcpStream, with_tls: bool, worker: Rc<Worker>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let wake = Arc::new(ConnectionWake::default());
        let ends = Ends { peer, local: stream.local_addr()?, with_tls, tls: None };
        let connection = Spoken::new(id, ends.clone(), worker.shared.clone(), wake.clone());
        let tls = if with_tls { worker.shared.tls.as_ref().map(|tls| tls.config()) } else { None };
        tracing::debug!(%peer, id, with_tls, "connection accepted");
        Ok(Self {
            stream: Stream::new(TcpStream::from_std(stream)?, tls),
            unflushed: false,
            id,
            ends,
            peer,
            worker,
            connection,
            proved: None,
            wake,
            timers: Timers::new(),
            leftover: Vec::new(),
            written: 0,
            read_ended: false,
            brake: None,
            retry: None,
            greeted: false,
            alone: None,
        })
    }

    /// What wakes this task.
    #[must_use]
    pub fn wake_handle(&self) -> Arc<ConnectionWake> {
        self.wake.clone()
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut moved = false;
        if self.wake.take() || self.connection.has_deliveries() || self.connection.has_waited() {
            let worker = self.worker.clone();
            let mut router = worker.router.borrow_mut();
            self.lend_output();
            if worker.is_stopping() {
                self.connection.stop(&mut *router);
            }
            if let Some(forced) = self.wake.forced() {
                self.connection.force_close(&forced, &mut *router);
            }
            self.connection.woken(&mut *router);
            self.connection.deliver(OUTPUT_BYTES_SOFT_MAX, &mut *router);
        }
        match self.stream.poll_begin(cx) {
            Poll::Ready(Ok(false)) => {}
            Poll::Ready(Ok(true)) => self.tls_began(),
            Poll::Ready(Err(error)) => {
                tracing::info!("TLS with {} failed: {error}", self.peer);
                return Turn::End("TLS failed");
            }
            Poll::Pending if self.connection.is_closed() => return Turn::End("closed"),
            Poll::Pending => return Turn::Wait,
        }
        match self.read(cx) {
            Ok(read) => moved |= read,
            Err(why) => return Turn::End(why),
        }
        match self.write(cx) {
            Ok(wrote) => moved |= wrote,
            Err(why) => return Turn::End(why),
        }
        moved |= self.retry(cx);
        let all_written = self.connection.output().is_empty() && !self.unflushed;
        if self.connection.is_closed() && all_written && !self.lingers() {
            return Turn::End("closed");
        }
        if self.read_ended && self.leftover.is_empty() && all_written {
            return Turn::End("the client closed the socket");
        }
        if moved { Turn::Again } else { Turn::Wait }
    }

    /// TLS is there: whoever showed a certificate may log in with that.
    fn tls_began(&mut self) {
        self.ends.tls = self.stream.secured().map(Arc::new);
        self.connection.secured(self.ends.tls.clone());
        let Some(certificate) = self.stream.client_certificate() else { return };
        let user = self.worker.shared.tls.as_ref().and_then(|tls| tls.user_of(&certificate));
        self.proved = Some(user.clone());
        self.connection.proved(user);
    }

    /// Whether a connection that is closed waits for its client to close the socket. A socket that is closed while
    /// bytes are on their way resets the client, who may not have seen connection.close-ok then: some send that they
    /// close before what they had published.
    fn lingers(&self) -> bool {
        self.connection.is_closed_by_client() && !self.read_ended && !self.worker.is_stopping()
    }

    /// Reads what a client sends that has closed, and looks at none of it; true if anything came.
    fn discard(&mut self, cx: &mut Context<'_>) -> Result<bool, &'static str> {
        let mut buffer = self.worker.read_buffer.borrow_mut();
        let mut into = ReadBuf::new(&mut buffer);
        match self.stream.poll_read(cx, &mut into) {
            Poll::Ready(Ok(())) => {
                self.read_ended = into.filled().is_empty();
                Ok(!self.read_ended)
            }
            Poll::Ready(Err(_)) => Err("closed"),
            Poll::Pending => Ok(false),
        }
    }

    /// Reads what there is, and handles what may be handled now; true if anything came or was used.
    ///
    /// Reading goes on while handling waits, until the read buffer is full: so a client that is gone
    /// is noticed, and one that sends heartbeats is not taken for silent.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, &'static str> {
        if self.connection.is_closed() {
            return if self.lingers() { self.discard(cx) } else { Ok(false) };
        }
        // Asked in every turn, even if nothing came: a client that was told to wait sends nothing.
        let mut reading = self.connection.reading();
        if reading == Reading::Slowed && self.brake_is_over(cx) {
            reading = Reading::Open;
        }
        let worker = self.worker.clone();
        let mut buffer = worker.read_buffer.borrow_mut();
        let kept = self.leftover.len().min(buffer.len());
        let (front, mut rest) = buffer.split_at_mut(kept);
        front.copy_from_slice(&self.leftover[..kept]);
        let mut came = 0;
        if self.connection.holds_back() {
            let is_paused = reading == Reading::Paused;
            let most = HELD_BACK_READ_BYTES.saturating_sub(if is_paused { kept } else { 0 });
            let end = most.min(rest.len());
            rest = &mut rest[..end];
        }
        if rest.is_empty() {
            // Nothing can come in, which is not the client's silence.
            self.timers.note_read(1);
        } else if !self.read_ended {
            let mut into = ReadBuf::new(rest);
            match self.stream.poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) => {
                    came = into.filled().len();
                    self.read_ended = came == 0;
                }
                Poll::Ready(Err(_)) => return Err("the connection was reset"),
                Poll::Pending if kept == 0 => return Ok(false),
                Poll::Pending => {}
            }
        }
        self.timers.note_read(came);
        self.connection.count_bytes(came, 0);
        let bytes = &buffer[..kept + came];
        let used = self.handle(bytes, bytes.len() == buffer.len(), reading)?;
        self.keep(bytes.get(used..).unwrap_or_default(), came);
        let had_its_turn =
            reading == Reading::Open && self.connection.output().len() <= OUTPUT_BYTES_HARD_MAX;
        if self.read_ended && used == 0 && had_its_turn {
            // What is left will never be whole.
            self.leftover = Vec::new();
        }
        Ok(came > 0 || used > 0)
    }

    /// Handles what came and what was left, as far as that is done now; how many bytes were used.
    fn handle(&mut self, bytes: &[u8], is_full: bool, reading: Reading) -> Result<usize, &'static str> {
        let is_greeted = self.greeted || self.greet(bytes);
        match reading {
            Reading::Open if is_greeted => {}
            Reading::Paused if self.read_ended => {
                return Err("the client closed the socket while it was kept waiting");
            }
            Reading::Open | Reading::Paused | Reading::Slowed => return Ok(0),
        }
        self.lend_output();
        let worker = self.worker.clone();
        let router = &mut *worker.router.borrow_mut();
        let used = self.connection.handle_bytes(bytes, OUTPUT_BYTES_HARD_MAX, router);
        let is_stuck =
            is_full && used == 0 && self.stage() == Stage::Open && self.connection.wants_more_bytes();
        if is_stuck {
            // Every frame that is taken fits, so this is a defect; to wait for more would be for ever.
            tracing::error!(peer = %self.peer, "what a client sent fills the read buffer, and none of it can be used");
            return Err("the read buffer is full, and nothing of it can be used");
        }
        Ok(used)
    }

    /// Finds out what a client speaks; false if it has not said enough for that.
    fn greet(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let Some(header) = spoken::header(bytes) else { return false };
        self.greeted = true;
        if header == Header::Amqp10 {
            let common = (self.worker.shared.clone(), self.wake.clone());
            self.connection.turn_to_amqp10(self.id, self.ends.clone(), common, self.proved.take());
        } else if let Some(protocol) = foreign_protocol(bytes) {
            tracing::info!(
                "a client at {} speaks {protocol}; what is spoken here is AMQP 0-9-1 and 1.0 without TLS",
                self.peer
            );
        }
        true
    }

    /// Tries again what could not be done before and is due, dead letters and deliveries; registers for the
    /// time when the next of that is. True if it tried.
    fn retry(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due_ms) = self.connection.retry_due_ms() else {
            self.retry = None;
            return false;
        };
        let worker = self.worker.clone();
        let sleep = || {
            let now_ms = worker.router.borrow().now_ms();
            Box::pin(tokio::time::sleep(dead_letter::wait_until(due_ms, now_ms)))
        };
        let retry = match &mut self.retry {
            Some((set_to_ms, retry)) if *set_to_ms == due_ms => retry,
            other => &mut other.insert((due_ms, sleep())).1,
        };
        if retry.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.retry = None;
        self.connection.retry(&mut *worker.router.borrow_mut());
        true
    }

    /// Holds a publisher back for a moment, so that at most a read buffer of publishes goes in each
    /// moment while consumers are behind; registers for its end.
    fn brake_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let brake = self.brake.get_or_insert_with(|| Box::pin(tokio::time::sleep(BRAKE)));
        if brake.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.brake = None;
        self.connection.release();
        true
    }

    /// Keeps what was not used, of which the last `came` bytes are new.
    fn keep(&mut self, left: &[u8], came: usize) {
        if left.is_empty() {
            self.leftover = Vec::new();
        } else if left.len() == self.leftover.len() + came {
            self.leftover.extend_from_slice(&left[self.leftover.len()..]);
        } else {
            self.leftover.clear();
            self.leftover.extend_from_slice(left);
        }
    }

    /// Writes what there is; true if anything went.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, &'static str> {
        self.worker.shared.store.sending();
        let mut wrote = false;
        loop {
            let output = self.connection.output();
            let Some(rest) = output.get(self.written..).filter(|rest| !rest.is_empty()) else {
                output.clear();
                self.written = 0;
                let spare = std::mem::take(output);
                if spare.capacity() > 0 {
                    self.worker.return_output(spare);
                }
                if wrote || self.unflushed {
                    self.unflushed = match self.stream.poll_flush(cx) {
                        Poll::Ready(Ok(())) => false,
                        Poll::Ready(Err(_)) => return Err("the client is gone"),
                        Poll::Pending => true,
                    };
                }
                return Ok(wrote);
            };
            match self.stream.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err("the socket takes no more"),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.connection.count_bytes(0, count);
                    wrote = true;
                }
                Poll::Ready(Err(_)) => return Err("the client is gone"),
                Poll::Pending => return Ok(wrote),
            }
        }
    }

    /// Gives the session an output buffer with room, if it has none.
    fn lend_output(&mut self) {
        let output = self.connection.output();
        if output.capacity() == 0 {
            *output = self.worker.take_output();
        }
    }

    fn stage(&self) -> Stage {
        if self.connection.is_closing() || self.connection.is_closed() {
            Stage::Closing
        } else if self.connection.is_open() {
            Stage::Open
        } else {
            Stage::Handshake
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        let beats = self.connection.beats();
        match self.timers.poll(cx, self.stage(), beats) {
            Tick::Nothing => None,
            Tick::SendHeartbeat => {
                self.lend_output();
                self.connection.put_heartbeat();
                self.wake.wake_now();
                None
            }
            Tick::PeerSilent => Some("missed heartbeats from the client"),
            Tick::HandshakeTooSlow => Some("the client did not open a connection in time"),
            Tick::ClosingTooSlow => Some("the client did not close in time"),
        }
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        task.wake.waker.register(cx.waker());
        if task.alone.is_some() {
            return task.poll_alone(cx);
        }
        let mut end = task.tick(cx);
        for _ in 0..TURNS_MAX {
            if end.is_some() {
                break;
            }
            match task.turn(cx) {
                Turn::Again => {}
                Turn::Wait => {
                    // Between the turn and now a wake may have come: the flag is looked at again
                    // after the waker was registered, so none is lost.
                    if !task.wake.woken.load(Ordering::Acquire) {
                        end = if task.timers.is_new(task.stage()) { task.tick(cx) } else { None };
                        if end.is_none() {
                            return Poll::Pending;
                        }
                    }
                }
                Turn::End(why) => end = Some(why),
            }
        }
        let Some(why) = end else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        task.stream.say_end(cx);
        tracing::debug!(peer = %task.peer, "connection ended: {why}");
        if task.is_left_alone() { task.poll_alone(cx) } else { Poll::Ready(()) }
    }
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        let worker = self.worker.clone();
        let mut router = worker.router.borrow_mut();
        self.connection.end(&mut *router);
    }
}
