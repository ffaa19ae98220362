//! Writes the arguments of a method (book, section 4.2.5).

/// Arguments in the order of the method's definition. Consecutive bits share an octet: give them
/// together to [`Arguments::bits`].
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    bytes: Vec<u8>,
}

impl Arguments {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One octet.
    #[must_use]
    pub fn octet(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    /// Up to eight bits, the first one lowest.
    #[must_use]
    pub fn bits(self, values: &[bool]) -> Self {
        assert!(values.len() <= 8, "an octet has eight bits");
        let octet = values.iter().enumerate().fold(0, |octet, (place, set)| octet | u8::from(*set) << place);
        self.octet(octet)
    }

    /// A 16-bit number.
    #[must_use]
    pub fn short(mut self, value: u16) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A 32-bit number.
    #[must_use]
    pub fn long(mut self, value: u32) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A 64-bit number.
    #[must_use]
    pub fn long_long(mut self, value: u64) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A short string: at most 255 octets.
    #[must_use]
    pub fn short_string(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.bytes.push(u8::try_from(value.len()).expect("a short string has at most 255 octets"));
        self.bytes.extend_from_slice(value);
        self
    }

    /// A long string.
    #[must_use]
    pub fn long_string(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.bytes.extend_from_slice(&u32::try_from(value.len()).expect("below 4 GiB").to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// A field table without fields.
    #[must_use]
    pub fn empty_table(self) -> Self {
        self.long(0)
    }

    /// A field table of long strings.
    #[must_use]
    pub fn table(self, fields: &[(&str, &str)]) -> Self {
        let content = fields.iter().fold(Self::new(), |content, (name, value)| {
            content.short_string(name).octet(b'S').long_string(value)
        });
        self.long_string(content.bytes)
    }

    /// Octets that are no argument at all.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// As they go on the wire.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bit_is_the_lowest() {
        assert_eq!(Arguments::new().bits(&[true, false, true]).into_bytes(), [0b101]);
    }

    #[test]
    fn a_table_has_its_length_in_octets() {
        assert_eq!(Arguments::new().table(&[("a", "b")]).into_bytes(), b"\0\0\0\x08\x01aS\0\0\0\x01b");
    }
}
