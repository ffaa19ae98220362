//! Reads the arguments of a method, or the fields of a content header.

/// Takes values from the front of some bytes. Panics where they end too early: what a broker sent
/// is then wrong, and so the test fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    bytes: Vec<u8>,
    position: usize,
}

impl Reader {
    /// Reads `bytes` from their beginning.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), position: 0 }
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let end = self.position + count;
        let taken = self.bytes.get(self.position..end).unwrap_or_else(|| {
            panic!(
                "{count} octets wanted at {}, but there are {}: {:02x?}",
                self.position,
                self.bytes.len(),
                self.bytes
            )
        });
        self.position = end;
        taken
    }

    fn take_array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as many as were asked for")
    }

    /// One octet.
    pub fn octet(&mut self) -> u8 {
        self.take_array::<1>()[0]
    }

    /// A 16-bit number.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take_array())
    }

    /// A 32-bit number.
    pub fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.take_array())
    }

    /// A 64-bit number.
    pub fn long_long(&mut self) -> u64 {
        u64::from_be_bytes(self.take_array())
    }

    /// A short string, which a broker writes in UTF-8.
    pub fn short_string(&mut self) -> String {
        let length = usize::from(self.octet());
        String::from_utf8(self.take(length).to_vec()).expect("a name in UTF-8")
    }

    /// A long string, or the content of a field table.
    pub fn long_string(&mut self) -> Vec<u8> {
        let length = self.long() as usize;
        self.take(length).to_vec()
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }
}
