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
    _body: Arc<Body>,
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
        Ok(FarReader { reader: body.open()?, start: stub.start, end: stub.end, _body: body })
    }
}

impl FarReader {
    /// How many bytes of the body come.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.end - self.reader.at_bytes().clamp(self.start, self.end)
    }

    /// Appends the next bytes of the body, as many as are wanted and there. Before the last ones are given it is looked at
    /// whether all is as it was written.
    ///
    /// # Errors
    /// It cannot be read, or is damaged; then nothing is appended.
    pub fn read(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.reader.skip_to(self.start)?;
        let before = out.len();
        let bytes = self.left_bytes().min(bytes as u64) as usize;
        self.reader.read(bytes, out)?;
        if self.left_bytes() > 0 {
            return Ok(());
        }
        self.reader.check_rest().inspect_err(|_| out.truncate(before))
    }
}

impl Shared {
    /// The body of a stub.
    pub(super) fn body(&self, stub: &Stub) -> Arc<Body> {
        let Stub { number, file_bytes: bytes, check, .. } = *stub;
        self.store.body(ExtentRef { number, bytes, check })
    }
}
