//! The hash of a routing key: what `erlang:phash2([Key], 134217728)` comes to, which RabbitMQ divides.
//!
//! Bob Jenkins' hash of 1996 (`lookup2`) over the bytes, with constants of Erlang's for a binary; then one round more for
//! the end of the list that the key is in there. Erlang promises that it stays as it is. The test has values that
//! Erlang/OTP 29 gave.

/// What Erlang's constants are multiples of: the golden ratio.
const RATIO: u32 = 0x9e37_79b9;
/// A binary begins with it.
const BINARY: u32 = RATIO.wrapping_mul(13);
/// Goes in with the end of a list.
const LIST_END: u32 = RATIO.wrapping_mul(2);
/// The number of the type "empty list".
const EMPTY_LIST: u32 = 2;
/// The hash of an empty list where what came before is 0.
const LIST_END_FIRST: u32 = 3_468_870_702;
/// As many bits the hash has.
const BITS: u32 = 27;

/// The hash of a routing key, below 2^27.
#[must_use]
pub fn of_key(key: &[u8]) -> u32 {
    let before = of_binary(key);
    let whole = match before {
        0 => LIST_END_FIRST,
        _ => mixed([LIST_END.wrapping_add(EMPTY_LIST), LIST_END, before])[2],
    };
    whole % (1 << BITS)
}

fn of_binary(bytes: &[u8]) -> u32 {
    if bytes.is_empty() {
        return BINARY;
    }
    let mut state = [RATIO, RATIO, BINARY];
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        state = mixed(with(state, words(block)));
    }
    let [a, b, c] = words(blocks.remainder());
    // In place of a twelfth byte the length is added, all of it.
    let length = bytes.len() as u32;
    mixed(with(state, [a, b, (c << 8).wrapping_add(length)]))[2]
}

/// At most twelve bytes as three words, little end first; what is missing is 0.
fn words(bytes: &[u8]) -> [u32; 3] {
    let mut words = [0; 3];
    for (word, part) in words.iter_mut().zip(bytes.chunks(4)) {
        *word = part.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    words
}

fn with(state: [u32; 3], words: [u32; 3]) -> [u32; 3] {
    [0, 1, 2].map(|place: usize| state[place].wrapping_add(words[place]))
}

/// One round, of three shifts for each word thrice: all bits of the last word come to depend on all before.
fn mixed([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    for [for_a, for_b, for_c] in [[13, 8, 13], [12, 16, 5], [3, 10, 15]] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> for_a);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << for_b);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> for_c);
    }
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_erlangs() {
        for (key, expected) in [
            (&b""[..], 38_220_213),
            (b"a", 53_691_870),
            (b"k0", 91_343_558),
            (b"abcdefghijk", 95_467_487),
            (b"abcdefghijkl", 89_208_944),
            (b"order.eu.17.and.more.words.than.twelve", 36_037_787),
            (&[0xff, 0x00, 0x80], 80_491_239),
        ] {
            assert_eq!(of_key(key), expected, "{key:?}");
        }
    }
}
