//! Patterns for names, as permissions have them.

mod backtracking;

use backtracking::Backtracking;
use regex::bytes::{Regex, RegexBuilder};
use std::{fmt, sync::Arc};

/// How much memory a compiled pattern may take, in bytes.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// How much memory a pattern may take for what it found out while it searched, in bytes.
const SEARCH_BYTES_MAX: usize = 256 * 1024;
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
    /// Looks around or refers back.
    Backtracking(Arc<Backtracking>),
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

impl PatternError {
    fn of(text: &str, error: &dyn fmt::Display) -> Self {
        // The library may draw a picture of where; its last line says what.
        let whole = error.to_string();
        let what = whole.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Self(format!("{text:?}: {what}"))
    }
}

impl Pattern {
    /// The pattern of a text.
    ///
    /// # Errors
    /// It is no regular expression, or too large.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError(format!("a pattern has at most {PATTERN_BYTES_MAX} bytes")));
        }
        let kind = match text {
            ".*" | "^.*$" => Kind::All,
            "" | "^$" => Kind::Empty,
            _ => match compile(text) {
                Ok(regex) => Kind::Regex(Arc::new(regex)),
                Err(error) => match Backtracking::new(text) {
                    Ok(backtracking) => Kind::Backtracking(Arc::new(backtracking)),
                    Err(other) => return Err(if has_more(text) { other } else { error }),
                },
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
            Kind::Backtracking(backtracking) => backtracking.is_match(name),
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

/// Compiled.
fn compile(text: &str) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(SEARCH_BYTES_MAX);
    builder.build().map_err(|error| PatternError::of(text, &error))
}

/// Whether a pattern seems to look around or to refer back.
fn has_more(text: &str) -> bool {
    ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|begin| text.contains(begin))
        || text.as_bytes().windows(2).any(|two| matches!(two, [b'\\', b'1'..=b'9']))
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
        for (wrong, why) in [("(", "unclosed group"), ("a(?!x", "parenthesis"), ("a{60000}{60000}", "limit")]
        {
            let error = Pattern::new(wrong).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains('\n'), "{error}");
        }
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_pattern_may_look_around_and_refer_back() {
        for (pattern, matches, does_not) in [
            (r"^(?!amq\.).*", &["q", "amq", "x.amq.", ""][..], &["amq.", "amq.gen-x"][..]),
            ("^(?!.*(tmp|old)$)q", &["q", "q-tmp-1"], &["q-tmp", "qold", "x"]),
            (r"^(?!a)(?!b[)|]\))(?=.*z$)", &["z", "b)z", "b)-z"], &["az", "b))z", "y"]),
            ("^(?!x)", &["", "y"], &["x"]),
            ("^(?=ab)a", &["abc"], &["ac"]),
            ("^(?!a|b)(c|d|a)", &["c1", "d"], &["a", "b", "e"]),
            (r"^tenant\.(?!system\.)", &["tenant.q", "tenant.systems"], &["tenant.system.q", "tenant"]),
            ("^(?!a)b|c", &["b", "ac"], &["ab", "d"]),
            (r"(?<!tmp)\.q$", &["a.q", ".q"], &["tmp.q"]),
            (r"(?<=^a|^bc)-", &["a-", "bc-"], &["c-", "-"]),
            (r"^(\w+)\.\1$", &["a.a", "ü.ü"], &["a.b", "a.ab"]),
        ] {
            for (names, found_in) in [(matches, true), (does_not, false)] {
                for name in names {
                    assert_eq!(found(pattern, name), found_in, "{pattern} in {name}");
                }
            }
        }
        let pattern = Pattern::new("^q(?!x)").unwrap();
        assert!(pattern.matches(b"q\xff") && !pattern.matches(b"qx\xff") && !pattern.matches(b"\xffq"));
        for wrong in ["^(?!a", "(?<=a", r"(a)\2"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::new(&format!("^(?!{})", "a".repeat(PATTERN_BYTES_MAX))).is_err());
        // All together they take no more than one that does not look ahead.
        let ahead =
            |times: usize, what: &str| Pattern::new(&format!("^{}", format!("(?!{what})").repeat(times)));
        assert!(ahead(100, "a").is_ok());
        assert!(ahead(1, r"\w{5}").is_ok() && ahead(15, r"\w{5}").is_err());
    }

    #[test]
    fn a_pattern_that_would_take_for_ever_does_not_match() {
        let name = [b"a".repeat(254), b"!".to_vec()].concat();
        for hostile in [
            r"^(?:a|a)*(?!.)b",
            // Not even where it would in the end.
            r"^(?:a|a)*(?!.)b|!",
            r"(a*)*\1b",
            "^(?:(?=(a+))a+)+$",
            r"(.*)(.*)(.*)(.*)(.*)\5x$",
        ] {
            assert!(!Pattern::new(hostile).unwrap().matches(&name), "{hostile}");
        }
        // Where each byte is tried as the beginning it does not take that long.
        assert!(found("(?:(?!b).)*!(?<!y)", &format!("{}!", "a".repeat(254))));
        assert!(!found("(?:(?!b).)*x(?<!y)", &"a".repeat(255)));
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
