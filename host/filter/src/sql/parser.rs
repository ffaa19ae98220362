//! From tokens to a compiled expression: a function for each rule of the grammar.

use super::{
    DEPTH_MAX, Dialect,
    function::Function,
    lexer::{Kind, Token, error},
    pattern::Pattern,
    selector, time,
    tree::{Comparison, Node, Reference},
};
use crate::{CompileError, Field, Problem, Section, Value, value::Arithmetic};
use alloc::{borrow::Cow, boxed::Box, format, vec::Vec};

/// Words that are no identifiers, in both languages.
const WORDS: [&str; 10] = ["AND", "OR", "NOT", "LIKE", "IN", "IS", "NULL", "ESCAPE", "TRUE", "FALSE"];
/// The further ones of SQL.
const SQL_WORDS: [&str; 10] =
    ["EXISTS", "NAN", "INF", "LOWER", "UPPER", "LEFT", "RIGHT", "SUBSTRING", "UTC", "DATE"];
/// The further one of JMS.
const JMS_WORDS: [&str; 1] = ["BETWEEN"];
/// What goes on where a value should stand.
const A_VALUE: &str = "a value";

/// The expression that all tokens are.
pub(super) fn parse(text: &str, tokens: &[Token<'_>], dialect: Dialect) -> Result<Node, CompileError> {
    let mut parser = Parser { text, tokens, at: 0, depth: 0, dialect };
    let node = parser.any()?;
    match parser.kind() {
        None | Some(Kind::End) => Ok(node),
        Some(_) => parser.expected("an operator or the end"),
    }
}

struct Parser<'t, 'k> {
    text: &'t str,
    tokens: &'k [Token<'t>],
    at: usize,
    depth: usize,
    dialect: Dialect,
}

impl<'t, 'k> Parser<'t, 'k> {
    fn kind(&self) -> Option<&'k Kind<'t>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn start(&self) -> usize {
        self.tokens.get(self.at).map_or(self.text.len(), |token| token.start)
    }

    fn problem<T>(&self, at: usize, problem: Problem) -> Result<T, CompileError> {
        Err(error(self.text, at, problem))
    }

    /// What is expected at the next token, which is something else.
    fn expected<T>(&self, expected: &'static str) -> Result<T, CompileError> {
        let token = self.tokens.get(self.at).filter(|token| !matches!(token.kind, Kind::End));
        let found = token.and_then(|token| self.text.get(token.start..token.end));
        let found = found.map_or_else(|| "the end".into(), |found| format!("'{found}'").into());
        self.problem(self.start(), Problem::Expected { expected, found })
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_there = matches!(self.kind(), Some(Kind::Symbol(found)) if *found == symbol);
        self.at += usize::from(is_there);
        is_there
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.kind(), Some(Kind::Word(found)) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(is_there);
        is_there
    }

    fn need_symbol(&mut self, symbol: &'static str) -> Result<(), CompileError> {
        if self.take_symbol(symbol) { Ok(()) } else { self.expected(symbol) }
    }

    fn need_word(&mut self, word: &'static str) -> Result<(), CompileError> {
        if self.take_word(word) { Ok(()) } else { self.expected(word) }
    }

    /// One level deeper.
    fn nested<T>(
        &mut self,
        rule: impl FnOnce(&mut Self) -> Result<T, CompileError>,
    ) -> Result<T, CompileError> {
        if self.depth == DEPTH_MAX {
            return self.problem(self.start(), Problem::TooDeep);
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    fn any(&mut self) -> Result<Node, CompileError> {
        self.chain("OR", Self::all, Node::Any)
    }

    fn all(&mut self) -> Result<Node, CompileError> {
        self.chain("AND", Self::not, Node::All)
    }

    /// Operands with a word between them.
    fn chain(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Result<Node, CompileError>,
        of: fn(Vec<Node>) -> Node,
    ) -> Result<Node, CompileError> {
        let first = operand(self)?;
        let mut operands = Vec::from([first]);
        while self.take_word(word) {
            operands.push(operand(self)?);
        }
        Ok(if operands.len() > 1 { of(operands) } else { operands.pop().unwrap_or(Node::Any(Vec::new())) })
    }

    fn not(&mut self) -> Result<Node, CompileError> {
        if self.take_word("NOT") {
            return self.nested(Self::not).map(|operand| Node::Not(Box::new(operand)));
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Node, CompileError> {
        let start = self.start();
        let left = self.sum()?;
        if let Some(comparison) = self.comparison() {
            let right = self.sum()?;
            return Ok(Node::Compare(Box::new([left, right]), comparison));
        }
        if self.take_word("IS") {
            let is_not = self.take_word("NOT");
            self.need_word("NULL")?;
            let Node::Reference(reference) = left else {
                let found = "something else".into();
                return self.problem(start, Problem::Expected { expected: "a field before IS", found });
            };
            return Ok(negated(Node::IsNull(reference), is_not));
        }
        let is_not = self.take_word("NOT");
        if self.take_word("LIKE") {
            self.like(left).map(|like| negated(like, is_not))
        } else if self.take_word("IN") {
            self.list().map(|list| negated(Node::In(Box::new(left), list), is_not))
        } else if self.take_word("BETWEEN") {
            let low = self.sum()?;
            self.need_word("AND")?;
            let high = self.sum()?;
            Ok(negated(Node::Between(Box::new([left, low, high])), is_not))
        } else if is_not {
            self.expected("LIKE, IN or BETWEEN")
        } else {
            Ok(left)
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let Some(Kind::Symbol(symbol)) = self.kind() else { return None };
        let comparison = match *symbol {
            "=" => Comparison::Equal,
            "<>" | "!=" if self.dialect == Dialect::AmqpSql => Comparison::NotEqual,
            "<>" | "!=" => Comparison::NotEqualAndAlike,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn list(&mut self) -> Result<Vec<Node>, CompileError> {
        self.need_symbol("(")?;
        let first = self.nested(Self::sum)?;
        let mut list = Vec::from([first]);
        while self.take_symbol(",") {
            list.push(self.nested(Self::sum)?);
        }
        if self.take_symbol(")") { Ok(list) } else { self.expected("',' or ')'") }
    }

    fn like(&mut self, operand: Node) -> Result<Node, CompileError> {
        let at = self.start();
        let pattern = self.string()?;
        let mut escape = None;
        if self.take_word("ESCAPE") {
            let at = self.start();
            let mut characters = self.string()?.chars();
            escape = characters.next();
            if escape.is_none() || characters.next().is_some() {
                return self.problem(at, Problem::Escape);
            }
        }
        match Pattern::new(pattern, escape) {
            Ok(pattern) => Ok(Node::Like(Box::new(operand), pattern)),
            Err(problem) => self.problem(at, problem),
        }
    }

    fn string(&mut self) -> Result<&'k str, CompileError> {
        let Some(Kind::Text(text)) = self.kind() else { return self.expected("a string") };
        self.at += 1;
        Ok(text)
    }

    fn sum(&mut self) -> Result<Node, CompileError> {
        let mut left = self.product()?;
        loop {
            let arithmetic = match self.kind() {
                Some(Kind::Symbol("+")) => Arithmetic::Add,
                Some(Kind::Symbol("-")) => Arithmetic::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.product()?;
            left = Node::Arithmetic(Box::new([left, right]), arithmetic);
        }
    }

    fn product(&mut self) -> Result<Node, CompileError> {
        let mut left = self.sign()?;
        loop {
            let arithmetic = match self.kind() {
                Some(Kind::Symbol("*")) => Arithmetic::Multiply,
                Some(Kind::Symbol("/")) if self.dialect == Dialect::JmsSelector => Arithmetic::DivideWhole,
                Some(Kind::Symbol("/")) => Arithmetic::Divide,
                Some(Kind::Symbol("%")) => Arithmetic::Remainder,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.sign()?;
            left = Node::Arithmetic(Box::new([left, right]), arithmetic);
        }
    }

    fn sign(&mut self) -> Result<Node, CompileError> {
        let is_minus = self.take_symbol("-");
        if is_minus || self.take_symbol("+") {
            return self.nested(Self::sign).map(|operand| Node::Sign(Box::new(operand), is_minus));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Node, CompileError> {
        let Some(kind) = self.kind() else { return self.expected(A_VALUE) };
        match kind {
            Kind::Symbol("(") => {
                self.at += 1;
                let node = self.nested(Self::any)?;
                if self.take_symbol(")") { Ok(node) } else { self.expected("an operator or ')'") }
            }
            Kind::Constant(constant) => {
                self.at += 1;
                Ok(Node::Constant(constant.clone()))
            }
            Kind::Text(text) => {
                self.at += 1;
                Ok(Node::Constant(Value::Text(Cow::Owned(text.clone()))))
            }
            Kind::Word(word) => self.word(word),
            Kind::Name(_) | Kind::Qualified { .. } => self.field().map(Node::Reference),
            Kind::Symbol(_) | Kind::End => self.expected(A_VALUE),
        }
    }

    /// A word where a value stands: a constant, a function or a field.
    fn word(&mut self, word: &str) -> Result<Node, CompileError> {
        let constant = match word {
            _ if word.eq_ignore_ascii_case("TRUE") => Value::Boolean(true),
            _ if word.eq_ignore_ascii_case("FALSE") => Value::Boolean(false),
            _ if self.dialect == Dialect::JmsSelector => return self.field().map(Node::Reference),
            _ if word.eq_ignore_ascii_case("INF") => Value::Real(f64::INFINITY),
            _ if word.eq_ignore_ascii_case("NAN") => Value::Real(f64::NAN),
            _ if word.eq_ignore_ascii_case("EXISTS") => {
                self.open_call(word)?;
                let field = self.field()?;
                self.need_symbol(")")?;
                return Ok(negated(Node::IsNull(field), true));
            }
            _ => match Function::named(word) {
                Some(function) => {
                    self.open_call(word)?;
                    return self.arguments(function);
                }
                None => return self.field().map(Node::Reference),
            },
        };
        self.at += 1;
        Ok(Node::Constant(constant))
    }

    /// The name of a function and its parenthesis.
    fn open_call(&mut self, word: &str) -> Result<(), CompileError> {
        let start = self.start();
        self.at += 1;
        if self.take_symbol("(") { Ok(()) } else { self.problem(start, Problem::Reserved(word.into())) }
    }

    /// What follows the parenthesis of a function.
    fn arguments(&mut self, function: Function) -> Result<Node, CompileError> {
        let first = self.start();
        let mut arguments = Vec::new();
        if !self.take_symbol(")") {
            arguments.push(self.nested(Self::any)?);
            while self.take_symbol(",") {
                arguments.push(self.nested(Self::any)?);
            }
            if !self.take_symbol(")") {
                return self.expected("',' or ')'");
            }
        }
        let (takes, is_fit) = function.takes(arguments.len());
        if !is_fit {
            return self.problem(first, Problem::Arguments { function: function.name(), takes });
        }
        if let (Function::Date, [Node::Constant(Value::Text(text))]) = (function, &arguments[..])
            && time::parse(text).is_none()
        {
            return self.problem(first, Problem::Date((&**text).into()));
        }
        Ok(Node::Call(function, arguments))
    }

    /// An identifier.
    fn field(&mut self) -> Result<Reference, CompileError> {
        let start = self.start();
        let reference = match self.kind() {
            Some(Kind::Word(word)) => self.identifier(start, word)?,
            Some(Kind::Name(name)) => Reference::Field(Field::ApplicationProperty(name.as_str().into())),
            Some(Kind::Qualified { section, name }) => {
                let Some(found) = Section::named(section) else {
                    return self.problem(start, Problem::UnknownSection((*section).into()));
                };
                match found.field(name) {
                    Some(field) => Reference::Field(field),
                    None => {
                        let name = format!("{section}.{name}").into();
                        return self.problem(start, Problem::UnknownField(name));
                    }
                }
            }
            _ => return self.expected("a field"),
        };
        self.at += 1;
        Ok(reference)
    }

    /// A word that is to be an identifier.
    fn identifier(&self, start: usize, word: &str) -> Result<Reference, CompileError> {
        let of_dialect = if self.dialect == Dialect::AmqpSql { &SQL_WORDS[..] } else { &JMS_WORDS[..] };
        if WORDS.iter().chain(of_dialect).any(|reserved| reserved.eq_ignore_ascii_case(word)) {
            if self.dialect == Dialect::AmqpSql
                && SQL_WORDS.iter().any(|other| other.eq_ignore_ascii_case(word))
            {
                return self.problem(start, Problem::Reserved(word.into()));
            }
            return self.expected(A_VALUE);
        }
        match self.dialect {
            Dialect::AmqpSql => Ok(Reference::Field(Field::ApplicationProperty(word.into()))),
            Dialect::JmsSelector => match selector::reference(word) {
                Some(reference) => Ok(reference),
                None => self.problem(start, Problem::UnknownField(word.into())),
            },
        }
    }
}

fn negated(node: Node, is_not: bool) -> Node {
    if is_not { Node::Not(Box::new(node)) } else { node }
}
