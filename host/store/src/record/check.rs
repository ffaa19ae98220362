//! The checksum of everything: CRC-32, as Ethernet and zip have it.

/// The checksum of bytes.
pub(crate) fn check(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The checksum of what had that one, and then these bytes.
pub(crate) fn append(before: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    #[test]
    fn parts_have_the_checksum_of_the_whole_and_it_is_the_usual_one() {
        assert_eq!(super::check(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::append(super::check(b"1234"), b"56789"), 0xcbf4_3926);
        assert_eq!(super::append(0, b"123456789"), 0xcbf4_3926);
    }
}
