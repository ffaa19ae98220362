//! The random numbers of an instance: the same for every instance of one file.
//!
//! Hash maps want a seed and some languages want random bytes to start at all; an answer
//! that depends on real chance could not be remembered by the broker or asked again of
//! another instance. So the stream is fixed, and is no secret: whoever has the file can
//! compute it.
//!
//! Layout: block `n` is SHA-256(`"leveret wasi random"`, digest (32 bytes), `n` (8 bytes,
//! little-endian)); the stream is block 0, block 1, and so on.

use sha2::{Digest, Sha256};

const DOMAIN: &[u8] = b"leveret wasi random";
const BLOCK_BYTES: usize = 32;

/// A stream of bytes that follows from a digest.
pub(super) struct RandomStream {
    digest: [u8; 32],
    next_block: u64,
    block: [u8; BLOCK_BYTES],
    /// Bytes of `block` already given out.
    used_bytes: usize,
}

impl RandomStream {
    pub(super) fn new(digest: [u8; 32]) -> Self {
        Self { digest, next_block: 0, block: [0; BLOCK_BYTES], used_bytes: BLOCK_BYTES }
    }

    /// The next byte of the stream.
    pub(super) fn next_u8(&mut self) -> u8 {
        if self.used_bytes == BLOCK_BYTES {
            let mut hash = Sha256::new();
            hash.update(DOMAIN);
            hash.update(self.digest);
            hash.update(self.next_block.to_le_bytes());
            self.block = hash.finalize().into();
            self.next_block = self.next_block.wrapping_add(1);
            self.used_bytes = 0;
        }
        let byte = self.block[self.used_bytes];
        self.used_bytes += 1;
        byte
    }

    /// The next eight bytes, as a little-endian number.
    pub(super) fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.next_u8()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_documented_one() {
        let mut expected = Vec::new();
        for n in 0..3u64 {
            let input = [DOMAIN, &[7; 32], &n.to_le_bytes()].concat();
            expected.extend_from_slice(&Sha256::digest(input));
        }
        let mut stream = RandomStream::new([7; 32]);
        let given: Vec<u8> = (0..96).map(|_| stream.next_u8()).collect();
        assert_eq!(given, expected);
    }

    /// A plugin whose answers hang on its hash order answers differently once this
    /// changes: that is a change for its users.
    #[test]
    fn the_first_number_never_changes() {
        assert_eq!(RandomStream::new([0; 32]).next_u64(), FIRST_OF_ZERO_DIGEST);
    }

    const FIRST_OF_ZERO_DIGEST: u64 = 17_318_577_473_160_878_162;
}
