//! Patterns for names, as permissions have them.

mod ahead;

use regex::bytes::{Regex, RegexBuilder};
use std::{fmt, sync::Arc};

/// How much memory a compiled pattern may take, in bytes.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// How much memory a pattern may take for what it found out while it searched, in bytes.
const SEARCH_BYTES_MAX: usize = 256 * 1024;
/// The most that a pattern may look for ahead, and behind that.
const PARTS_MAX: usize = 16;
/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// A regular expression that is searched for anywhere in a name. The empty one matches the empty name alone, as
/// `^$` does. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// Matches every name: `.*`, which most permissions are.
    All,
    /// Matches the empty name alone.
    Empty,
    Regex(Arc<Regex>),
    /// Begins with looking ahead: a name matches if each of these is found in it, or is not, as is said with it.
    Ahead(Arc<[(Regex, bool)]>),
    /// Has words for which something is put in before it is searched for; matches nothing before that.
    Template,
}

/// The words for which something is put in: who asks, where, and the name of an MQTT client, which is no word in
/// any other protocol and stands for itself.
const WORDS: [&str; 3] = ["{username}", "{vhost}", "{client_id}"];

/// Not a pattern, and why: for people to read, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// The pattern of a text.
    ///
    /// # Errors
    /// It is no regular expression, too large, or one that this kind cannot be: it looks back, or ahead elsewhere than at
    /// the beginning, `^(?!…)` or `^(?=…)`.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError(format!("a pattern has at most {PATTERN_BYTES_MAX} bytes")));
        }
        let kind = match text {
            ".*" | "^.*$" => Kind::All,
            "" | "^$" => Kind::Empty,
            _ => match ahead::split(text) {
                Some(parts) if parts.len() > PARTS_MAX => {
                    return Err(PatternError(format!(
                        "a pattern looks ahead at most {} times",
                        PARTS_MAX - 1
                    )));
                }
                Some(parts) => {
                    let bytes_max = COMPILED_BYTES_MAX / parts.len();
                    let part =
                        |(part, is_wanted): (String, bool)| Ok((compile(&part, bytes_max)?, is_wanted));
                    Kind::Ahead(parts.into_iter().map(part).collect::<Result<_, _>>()?)
                }
                None => Kind::Regex(Arc::new(compile(text, COMPILED_BYTES_MAX)?)),
            },
        };
        Ok(Self { text: text.into(), kind })
    }

    /// The pattern that matches every name.
    #[must_use]
    pub fn all() -> Self {
        Self { text: ".*".into(), kind: Kind::All }
    }

    /// As it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is found in a name.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.kind {
            Kind::All => true,
            Kind::Empty => name.is_empty(),
            Kind::Template => false,
            Kind::Regex(regex) => regex.is_match(name),
            Kind::Ahead(parts) => parts.iter().all(|(regex, is_wanted)| regex.is_match(name) == *is_wanted),
        }
    }

    /// The pattern of a text that may have the words `{username}` and `{vhost}`.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn template(text: &str) -> Result<Self, PatternError> {
        if !WORDS.iter().any(|word| text.contains(word)) {
            return Self::new(text);
        }
        put_in(text, "u", "v")?;
        Ok(Self { text: text.into(), kind: Kind::Template })
    }

    /// The pattern that it is for a user in a virtual host; `None` if it is the same for everybody. Where that is no
    /// pattern, for its length, it is one that matches nothing.
    pub(crate) fn filled(&self, user: &str, vhost: &str) -> Option<Self> {
        matches!(self.kind, Kind::Template)
            .then(|| put_in(&self.text, user, vhost).unwrap_or_else(|_| self.clone()))
    }
}

/// The pattern with values for the words, each quoted so that it stands for itself.
fn put_in(text: &str, user: &str, vhost: &str) -> Result<Pattern, PatternError> {
    let values = [user, vhost, "{client_id}"];
    let put_in = |text: String, (word, value): (&str, &str)| text.replace(word, &regex::escape(value));
    Pattern::new(&WORDS.into_iter().zip(values).fold(text.to_owned(), put_in))
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// Compiled, to so many bytes at most.
fn compile(text: &str, bytes_max: usize) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(bytes_max).dfa_size_limit(SEARCH_BYTES_MAX);
    builder.build().map_err(|error| {
        // The library draws a picture of where; its last line says what.
        let whole = error.to_string();
        let what = whole.lines().last().unwrap_or_default().trim_start_matches("error: ");
        PatternError(format!("{text:?}: {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn a_pattern_is_searched_for_and_the_empty_one_is_the_empty_name() {
        assert!(found(".*", "") && found(".*", "anything"));
        assert!(found("b", "abc") && !found("^b", "abc") && !found("b$", "abc") && found("^a.c$", "abc"));
        assert!(found("^(amq\\.gen.*|amq\\.default)$", "amq.gen-x"));
        for empty in ["", "^$"] {
            assert!(found(empty, "") && !found(empty, "a"), "{empty}");
        }
    }

    #[test]
    fn names_need_not_be_text() {
        let pattern = Pattern::new("^q-").unwrap();
        assert!(pattern.matches(b"q-\xff\xfe") && !pattern.matches(b"\xffq-"));
    }

    #[test]
    fn what_is_no_pattern_says_why_on_one_line() {
        for (wrong, why) in [("(", "unclosed group"), ("a(?!x)", "look-around"), ("a{60000}{60000}", "limit")]
        {
            let error = Pattern::new(wrong).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains('\n'), "{error}");
        }
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_pattern_may_look_ahead_at_its_beginning() {
        for (pattern, matches, does_not) in [
            (r"^(?!amq\.).*", &["q", "amq", "x.amq.", ""][..], &["amq.", "amq.gen-x"][..]),
            ("^(?!.*(tmp|old)$)q", &["q", "q-tmp-1"], &["q-tmp", "qold", "x"]),
            (r"^(?!a)(?!b[)|]\))(?=.*z$)", &["z", "b)z", "b)-z"], &["az", "b))z", "y"]),
            ("^(?!x)", &["", "y"], &["x"]),
            ("^(?=ab)a", &["abc"], &["ac"]),
            ("^(?!a|b)(c|d|a)", &["c1", "d"], &["a", "b", "e"]),
        ] {
            for (names, found_in) in [(matches, true), (does_not, false)] {
                for name in names {
                    assert_eq!(found(pattern, name), found_in, "{pattern} in {name}");
                }
            }
        }
        // Where it begins with one of several.
        for wrong in ["^(?!a)b|c", "^(?!a", "^(?!a)*", "^(?!(?!a))", "(?!a)b"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::new(&format!("^(?!{})", "a".repeat(PATTERN_BYTES_MAX))).is_err());
        // All together they take no more than one that does not look ahead.
        let ahead =
            |times: usize, what: &str| Pattern::new(&format!("^{}", format!("(?!{what})").repeat(times)));
        assert!(ahead(15, "a").is_ok() && ahead(16, "a").is_err());
        assert!(ahead(1, r"\w{5}").is_ok() && ahead(15, r"\w{5}").is_err());
    }

    #[test]
    fn what_is_put_in_stands_for_itself() {
        let pattern = Pattern::template("^{username}\\.{vhost}{client_id}$").unwrap();
        assert!(!pattern.matches(b"a.*.v{client_id}"));
        let filled = pattern.filled("a.*", "v").unwrap();
        assert!(filled.matches(b"a.*.v{client_id}") && !filled.matches(b"abc.v{client_id}"));
        assert!(Pattern::template("(").is_err() && Pattern::template("{username}(").is_err());
        let same = Pattern::template("^a").unwrap();
        assert!(same.matches(b"a") && same.filled("u", "v").is_none());
    }
}
