//! The tokens of an expression.

use super::{CHARACTERS_MAX, Dialect, TOKENS_MAX};
use crate::{CompileError, Problem, Value};
use alloc::{borrow::Cow, string::String, vec::Vec};

/// A token and the byte at which it begins.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Kind<'t> {
    /// A number or a binary.
    Constant(Value<'static>),
    /// A string, without its quotes.
    Text(String),
    /// A word of the language, or an identifier.
    Word(&'t str),
    /// An identifier that is none of the language's words, whatever it is.
    Name(String),
    /// A section and the name of one of its fields.
    Qualified { section: &'t str, name: Cow<'t, str> },
    /// An operator, a parenthesis or a comma.
    Symbol(&'static str),
    /// Behind the last one.
    End,
}

/// What is none of letters and digits. The longer ones first.
const SYMBOLS: [&str; 15] = ["<>", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ","];
/// Sections whose names have a hyphen, which would else be a minus.
const HYPHENATED: [&str; 3] = ["delivery-annotations", "message-annotations", "application-properties"];

/// An error at a byte of a text.
pub(super) fn error(text: &str, at: usize, problem: Problem) -> CompileError {
    let before = text.get(..at).unwrap_or(text);
    CompileError { position: before.chars().count() + 1, problem }
}

/// All tokens of a text, and the end.
pub(super) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<Token<'_>>, CompileError> {
    if let Some((at, _)) = text.char_indices().nth(CHARACTERS_MAX) {
        return Err(error(text, at, Problem::TooLong));
    }
    let mut lexer = Lexer { text, at: 0, dialect };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let kind = lexer.next()?;
        let is_end = matches!(kind, Kind::End);
        if !is_end && tokens.len() == TOKENS_MAX {
            return Err(error(text, start, Problem::TooManyTokens));
        }
        tokens.push(Token { kind, start, end: lexer.at });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    dialect: Dialect,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn problem<T>(&self, at: usize, problem: Problem) -> Result<T, CompileError> {
        Err(error(self.text, at, problem))
    }

    /// Takes what comes next as long as it fits.
    fn take_while(&mut self, mut fits: impl FnMut(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|character| !fits(character)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn take(&mut self, what: &str) -> bool {
        let is_there = self.rest().starts_with(what);
        if is_there {
            self.at += what.len();
        }
        is_there
    }

    /// Space, tab, form feed and the ends of lines.
    fn skip_space(&mut self) {
        self.take_while(|character| matches!(character, ' ' | '\t' | '\x0c' | '\n' | '\r'));
    }

    fn next(&mut self) -> Result<Kind<'t>, CompileError> {
        let is_sql = self.dialect == Dialect::AmqpSql;
        let Some(first) = self.peek() else { return Ok(Kind::End) };
        match first {
            '\'' => self.quoted('\'').map(Kind::Text),
            '"' if is_sql => self.quoted('"').map(Kind::Text),
            '[' if is_sql => self.bracketed().map(Kind::Name),
            '0'..='9' => self.number().map(Kind::Constant),
            '.' if self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                self.number().map(Kind::Constant)
            }
            _ if is_sql && first.is_ascii_alphabetic() => self.word(),
            _ if !is_sql && (first.is_alphabetic() || matches!(first, '_' | '$')) => {
                // Names of properties have dots in them, though identifiers of Java have none.
                let part =
                    |character: char| character.is_alphanumeric() || matches!(character, '_' | '$' | '.');
                Ok(Kind::Word(self.take_while(part)))
            }
            _ => match SYMBOLS.into_iter().find(|symbol| self.take(symbol)) {
                Some(symbol) => Ok(Kind::Symbol(symbol)),
                None => self.problem(self.at, Problem::Character(first)),
            },
        }
    }

    /// A string; in it the quote stands twice.
    fn quoted(&mut self, quote: char) -> Result<String, CompileError> {
        let start = self.at;
        self.at += quote.len_utf8();
        let mut string = String::new();
        loop {
            string.push_str(self.take_while(|character| character != quote));
            if self.peek().is_none() {
                return self.problem(start, Problem::Unterminated("the string that begins here"));
            }
            self.at += quote.len_utf8();
            if self.peek() != Some(quote) {
                return Ok(string);
            }
            string.push(quote);
            self.at += quote.len_utf8();
        }
    }

    /// An identifier in brackets; in it brackets stand twice.
    fn bracketed(&mut self) -> Result<String, CompileError> {
        let start = self.at;
        self.at += 1;
        let mut name = String::new();
        loop {
            name.push_str(
                self.take_while(|character| !matches!(character, '[' | ']') && !character.is_control()),
            );
            match self.peek() {
                Some('[') if self.take("[[") => name.push('['),
                Some(']') if self.take("]]") => name.push(']'),
                Some(']') => {
                    self.at += 1;
                    return Ok(name);
                }
                Some(other) => return self.problem(self.at, Problem::Character(other)),
                None => return self.problem(start, Problem::Unterminated("the identifier that begins here")),
            }
        }
    }

    /// A word, or a field with its section in front.
    fn word(&mut self) -> Result<Kind<'t>, CompileError> {
        let part = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let start = self.at;
        let hyphenated = HYPHENATED
            .into_iter()
            .find(|name| self.rest().strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
        match hyphenated {
            Some(name) => self.at += name.len(),
            None => {
                self.take_while(part);
            }
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        if !self.take(".") {
            return Ok(Kind::Word(word));
        }
        let name = match self.peek() {
            Some('[') => Cow::Owned(self.bracketed()?),
            Some(first) if first.is_ascii_alphabetic() => Cow::Borrowed(self.take_while(part)),
            other => {
                let found =
                    other.map_or_else(|| "the end".into(), |other| alloc::format!("'{other}'").into());
                return self.problem(self.at, Problem::Expected { expected: "the name of a field", found });
            }
        };
        Ok(Kind::Qualified { section: word, name })
    }

    fn number(&mut self) -> Result<Value<'static>, CompileError> {
        let start = self.at;
        let is_jms = self.dialect == Dialect::JmsSelector;
        let value = if self.take("0x") || self.take("0X") {
            if is_jms { self.radix(16)? } else { self.binary()? }
        } else {
            self.decimal()?
        };
        if is_jms {
            self.suffix(&value);
        }
        match self.peek() {
            Some(next) if next.is_alphanumeric() || next == '_' => {
                self.problem(start, Problem::Number("letters follow a number without a space"))
            }
            _ => Ok(value),
        }
    }

    /// The letter behind a number that says in Java of which type it is.
    fn suffix(&mut self, value: &Value<'_>) {
        let letters =
            if matches!(value, Value::Integer(_)) { ['L', 'l', 'L', 'l'] } else { ['F', 'f', 'D', 'd'] };
        if self.peek().is_some_and(|next| letters.contains(&next)) {
            self.at += 1;
        }
    }

    fn decimal(&mut self) -> Result<Value<'static>, CompileError> {
        let start = self.at;
        let whole = self.take_while(|character| character.is_ascii_digit());
        let is_octal = self.dialect == Dialect::JmsSelector && whole.len() > 1 && whole.starts_with('0');
        let mut is_exact = true;
        if self.take(".") {
            is_exact = false;
            self.take_while(|character| character.is_ascii_digit());
        }
        is_exact &= !self.exponent();
        if is_exact && is_octal {
            self.at = start + 1;
            return self.radix(8);
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let value = if is_exact {
            text.parse().ok().map(Value::Integer)
        } else {
            text.parse::<f64>().ok().filter(|real| real.is_finite()).map(Value::Real)
        };
        value.map_or_else(|| self.problem(start, Problem::Number("the number is too large")), Ok)
    }

    /// Takes an exponent, if there is one.
    fn exponent(&mut self) -> bool {
        let before = self.at;
        if self.take("E") || self.take("e") {
            let _ = self.take("+") || self.take("-");
            if !self.take_while(|character| character.is_ascii_digit()).is_empty() {
                return true;
            }
        }
        self.at = before;
        false
    }

    fn radix(&mut self, radix: u32) -> Result<Value<'static>, CompileError> {
        let start = self.at;
        let digits = self.take_while(|character| character.is_digit(radix));
        match i128::from_str_radix(digits, radix) {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => self.problem(start, Problem::Number("there is no number that can be read here")),
        }
    }

    fn binary(&mut self) -> Result<Value<'static>, CompileError> {
        let start = self.at;
        let digits = self.take_while(|character| character.is_ascii_hexdigit());
        let pairs: Option<Vec<u8>> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [_, _] => core::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()),
                _ => None,
            })
            .collect();
        match pairs {
            Some(bytes) if !bytes.is_empty() => Ok(Value::Binary(Cow::Owned(bytes))),
            _ => self.problem(start, Problem::Number("a binary is 0x and pairs of hexadecimal digits")),
        }
    }
}
