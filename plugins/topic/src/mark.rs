//! What every key has that a pattern matches.

use crate::words::words_of;
use leveret_sdk::Mark;

/// The whole key where the pattern has no wildcard, else the longest run of its words, with the dots
/// that are sure to be around it: a word comes before or after where the pattern has more there than `#`.
pub(crate) fn of(pattern: &[u8]) -> Mark {
    let words: Vec<&[u8]> = words_of(pattern).collect();
    if !words.iter().any(|word| is_wildcard(word)) {
        return Mark::routing_key(pattern);
    }
    let is_word_in = |words: &[&[u8]]| words.iter().any(|word| *word != b"#");
    let mut longest = Vec::new();
    let mut start = 0;
    for run in words.split(|word| is_wildcard(word)) {
        let end = start + run.len();
        if !run.is_empty() {
            let before = words.get(..start).is_some_and(is_word_in);
            let after = words.get(end..).is_some_and(is_word_in);
            let dot = |there: bool| if there { &b"."[..] } else { b"" };
            let bytes = [dot(before), &run.join(&b'.'), dot(after)].concat();
            if bytes.len() > longest.len() {
                longest = bytes;
            }
        }
        start = end + 1;
    }
    Mark::in_routing_key(&longest)
}

fn is_wildcard(word: &[u8]) -> bool {
    matches!(word, b"*" | b"#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_longest_run_of_words_with_the_dots_that_are_sure() {
        let marks = [
            ("a.*", "a."),
            ("*.a", ".a"),
            ("a.#", "a"),
            ("#.a", "a"),
            ("*.#.a.#.*", ".a."),
            ("a.*.bc.#", ".bc"),
            ("orders.10001.*", "orders.10001."),
            ("#", ""),
            ("*.*", ""),
            ("*..*", ".."),
        ];
        for (pattern, mark) in marks {
            assert_eq!(of(pattern.as_bytes()), Mark::in_routing_key(mark.as_bytes()), "{pattern}");
        }
        for key in ["a.b", "", "."] {
            assert_eq!(of(key.as_bytes()), Mark::routing_key(key.as_bytes()));
        }
    }
}
