//! Topic patterns, for the messages that are kept by key.

/// Whether a pattern matches a key: `*` stands for one word, `#` for any number of them.
pub(super) fn matches(pattern: &[u8], key: &[u8]) -> bool {
    match_words(&words(pattern), &words(key))
}

/// The words of a key; an empty one has none.
fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|byte| *byte == b'.').collect() }
}

fn match_words(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        ([b"#", rest @ ..], _) => (0..=key.len()).any(|skipped| match_words(rest, &key[skipped..])),
        ([word, rest @ ..], [first, others @ ..]) => {
            (*word == b"*" || word == first) && match_words(rest, others)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_keys() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.#", "a", true),
            ("#", "", true),
            ("*", "", false),
            ("#.c", "a.b.c", true),
            ("a.#.c", "a.b", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), expected, "{pattern} {key}");
        }
    }
}
