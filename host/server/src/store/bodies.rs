//! Bodies that are written while they come, and read in windows (`leveret_model::far`).

use super::{DiskStore, Shared, told};
use leveret_broker::{port::Wake, store::StoreFailure};
use leveret_model::Stub;
use leveret_store::{Body, BodyReader, BodyWatch, BodyWriter, DiskError, ExtentRef, Unreadable};
use std::sync::Arc;

/// Wakes a connection when something of a body was written.
struct Woken(Arc<dyn Wake>);

impl BodyWatch for Woken {
    fn moved(&self) {
        self.0.wake();
    }
}

/// The body of a message, which is a part of a file, from its front to its end. It is there as long as this is.
pub struct FarReader {
    reader: BodyReader,
    start: u64,
    end: u64,
    /// The last bytes, where what comes behind them in the file could not be looked at.
    last: Vec<u8>,
    _body: Arc<Body>,
}

/// How often in a row what the disk does not give is tried again.
const TRIES_MAX: u32 = 5;
/// After so long for the first time, in milliseconds, then after twice that.
const RETRY_MS: u64 = 100;
/// After so long where only a resource is short; that is tried for ever.
const SHORT_RETRY_MS: u64 = 1000;

/// When to go on with a body that could not be read: a device that fails may do so once.
#[derive(Default)]
pub struct Patience {
    failures: u32,
    due_ms: Option<u64>,
}

impl Patience {
    /// When it is to be tried again, in milliseconds since 1970; `None` if nothing failed last time.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Whether it is too early for that. If it is not, it is to be tried whenever whoever reads has its turn.
    #[must_use]
    pub fn waits(&mut self, now_ms: u64) -> bool {
        self.due_ms = self.due_ms.filter(|due_ms| *due_ms > now_ms);
        self.due_ms.is_some()
    }

    /// It could be read.
    pub fn read(&mut self) {
        *self = Self::default();
    }

    /// It could not be read.
    ///
    /// # Errors
    /// The same, where it is not to be tried again.
    pub fn failed(&mut self, why: Unreadable, now_ms: u64) -> Result<(), Unreadable> {
        let wait_ms = match &why {
            Unreadable::Disk(error) if error.is_passing() => SHORT_RETRY_MS,
            Unreadable::Disk(error) if !error.is_missing() && self.failures < TRIES_MAX => {
                self.failures += 1;
                RETRY_MS << (self.failures - 1)
            }
            Unreadable::Disk(_) | Unreadable::Damaged => return Err(why),
        };
        tracing::warn!("a large message cannot be read now: {why}");
        self.due_ms = Some(now_ms.saturating_add(wait_ms));
        Ok(())
    }
}

impl DiskStore {
    /// Begins a body that comes in pieces; who puts them is woken whenever some are written. It is on disk when it is whole.
    ///
    /// # Errors
    /// What grows is refused.
    pub fn begin_body(&self, waker: Arc<dyn Wake>) -> Result<BodyWriter, StoreFailure> {
        // Whatever the message says of itself: a quorum queue keeps it, and so does what an interceptor makes durable.
        self.shared.store.begin_body(true, Arc::new(Woken(waker))).map_err(told::refused)
    }

    /// Begins to read the body that a stub stands for, and holds on to it.
    ///
    /// # Errors
    /// It is not there, or cannot be opened now.
    pub fn open_body(&self, stub: &Stub) -> Result<FarReader, DiskError> {
        let body = self.shared.body(stub);
        Ok(FarReader {
            reader: body.open()?,
            start: stub.start,
            end: stub.end,
            last: Vec::new(),
            _body: body,
        })
    }
}

impl FarReader {
    /// How many bytes of the body come.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.last.len() as u64 + self.unread_bytes()
    }

    fn unread_bytes(&self) -> u64 {
        self.end - self.reader.at_bytes().clamp(self.start, self.end)
    }

    /// Appends the next bytes of the body, as many as are wanted and there. Before the last ones are given it is looked at
    /// whether all is as it was written.
    ///
    /// # Errors
    /// It cannot be read, or is damaged; then nothing is appended, and it may be tried again.
    pub fn read(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.reader.skip_to(self.start)?;
        let before = out.len();
        let bytes = self.unread_bytes().min(bytes as u64) as usize;
        self.reader.read(bytes, out)?;
        out.append(&mut self.last);
        if self.unread_bytes() > 0 {
            return Ok(());
        }
        self.reader.check_rest().inspect_err(|_| self.last = out.split_off(before))
    }
}

impl Shared {
    /// The body of a stub.
    pub(super) fn body(&self, stub: &Stub) -> Arc<Body> {
        let Stub { number, file_bytes: bytes, check, .. } = *stub;
        self.store.body(ExtentRef { number, bytes, check })
    }
}
