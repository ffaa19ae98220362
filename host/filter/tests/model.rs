//! Expressions come to what a naive model of the languages says; and no text makes compiling panic.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_filter::{Dialect, Expression, Field, Message, Truth, Value};
use proptest::{collection::vec, prelude::*};

/// A value, as the model has it: all numbers are floats, and small enough to be exact as such.
#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Boolean(bool),
    Whole(i32),
    Quarters(i32),
    Text(String),
}

impl Plain {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(whole) => Some((*whole).into()),
            Self::Quarters(quarters) => Some(f64::from(*quarters) / 4.0),
            _ => None,
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Boolean(boolean) => if *boolean { "TRUE" } else { "false" }.into(),
            Self::Whole(whole) => whole.to_string(),
            Self::Quarters(_) => format!("{:?}", self.number().unwrap()),
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
        }
    }
}

/// A value with the type that arithmetic gave it.
#[derive(Clone, Debug)]
enum Made {
    Boolean(bool),
    Number { value: f64, is_whole: bool },
    Text(String),
}

/// A part of an expression.
#[derive(Clone, Debug)]
enum Part {
    Constant(Plain),
    Field(usize),
    Not(Box<Part>),
    Logic(bool, Vec<Part>),
    Compare(usize, Box<(Part, Part)>),
    Between(bool, Box<(Part, Part, Part)>),
    In(bool, Box<Part>, Vec<Part>),
    Like(bool, Box<Part>, String),
    IsNull(bool, usize),
    Arithmetic(usize, Box<(Part, Part)>),
    Minus(Box<Part>),
}

const FIELDS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];
const OPERATORS: [&str; 5] = ["+", "-", "*", "/", "%"];

impl Part {
    /// As text, with parentheses around everything that has parts.
    fn written(&self) -> String {
        let not = |is_not: &bool| if *is_not { "NOT " } else { "" };
        let list =
            |parts: &[Self], between: &str| parts.iter().map(Self::written).collect::<Vec<_>>().join(between);
        match self {
            Self::Constant(constant) => constant.written(),
            Self::Field(field) => FIELDS[*field].into(),
            Self::Not(part) => format!("(NOT {})", part.written()),
            Self::Logic(is_and, parts) => {
                format!("({})", list(parts, if *is_and { " AND " } else { " or " }))
            }
            Self::Compare(comparison, sides) => {
                format!("({} {} {})", sides.0.written(), COMPARISONS[*comparison], sides.1.written())
            }
            Self::Between(is_not, parts) => {
                let (value, low, high) = (parts.0.written(), parts.1.written(), parts.2.written());
                format!("({value} {}BETWEEN {low} AND {high})", not(is_not))
            }
            Self::In(is_not, part, parts) => {
                format!("({} {}IN ({}))", part.written(), not(is_not), list(parts, ", "))
            }
            Self::Like(is_not, part, pattern) => {
                format!("({} {}LIKE '{pattern}' ESCAPE '!')", part.written(), not(is_not))
            }
            Self::IsNull(is_not, field) => format!("({} IS {}NULL)", FIELDS[*field], not(is_not)),
            Self::Arithmetic(operator, sides) => {
                format!("({} {} {})", sides.0.written(), OPERATORS[*operator], sides.1.written())
            }
            Self::Minus(part) => format!("(- {})", part.written()),
        }
    }
}

/// Truth as a number: false is 0, unknown 1, true 2. AND is the least, OR the greatest.
type Grade = u8;

struct Model<'m> {
    fields: &'m [Option<Plain>],
    dialect: Dialect,
}

impl Model<'_> {
    fn field(&self, field: usize) -> Option<Made> {
        self.fields[field].as_ref().map(made)
    }

    fn grade(&self, part: &Part) -> Grade {
        match self.value(part) {
            Some(Made::Boolean(boolean)) => 2 * Grade::from(boolean),
            _ => 1,
        }
    }

    fn value(&self, part: &Part) -> Option<Made> {
        let truth = |grade: Grade| (grade != 1).then_some(Made::Boolean(grade == 2));
        let turned = |is_not: bool, grade: Grade| truth(if is_not { 2 - grade } else { grade });
        match part {
            Part::Constant(constant) => Some(made(constant)),
            Part::Field(field) => self.field(*field),
            Part::Not(part) => truth(2 - self.grade(part)),
            Part::Logic(is_and, parts) => {
                let grades = parts.iter().map(|part| self.grade(part));
                truth(if *is_and { grades.min() } else { grades.max() }.unwrap())
            }
            Part::Compare(comparison, sides) => truth(self.compare(*comparison, &sides.0, &sides.1)),
            Part::Between(is_not, parts) => {
                let (above, below) =
                    (self.compare(5, &parts.0, &parts.1), self.compare(3, &parts.0, &parts.2));
                turned(*is_not, above.min(below))
            }
            Part::In(is_not, part, parts) => {
                turned(*is_not, parts.iter().map(|other| self.compare(0, part, other)).max().unwrap())
            }
            Part::Like(is_not, part, pattern) => match self.value(part)? {
                Made::Text(text) => {
                    let (text, pattern): (Vec<char>, Vec<char>) =
                        (text.chars().collect(), pattern.chars().collect());
                    turned(*is_not, 2 * Grade::from(fits(&pattern, &text)))
                }
                _ => None,
            },
            Part::IsNull(is_not, field) => Some(Made::Boolean(self.field(*field).is_none() != *is_not)),
            Part::Arithmetic(operator, sides) => {
                self.arithmetic(*operator, self.value(&sides.0)?, self.value(&sides.1)?)
            }
            Part::Minus(part) => match self.value(part)? {
                Made::Number { value, is_whole } => Some(Made::Number { value: -value, is_whole }),
                _ => None,
            },
        }
    }

    fn arithmetic(&self, operator: usize, left: Made, right: Made) -> Option<Made> {
        let (Made::Number { value: a, is_whole: x }, Made::Number { value: b, is_whole: y }) = (left, right)
        else {
            return None;
        };
        if operator > 2 && b == 0.0 {
            return None;
        }
        let is_whole = x && y;
        let value = match operator {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            3 if is_whole && self.dialect == Dialect::JmsSelector => (a / b).trunc(),
            3 => a / b,
            _ => a % b,
        };
        Some(Made::Number { value, is_whole: is_whole && value.fract() == 0.0 })
    }

    fn compare(&self, comparison: usize, left: &Part, right: &Part) -> Grade {
        let (Some(left), Some(right)) = (self.value(left), self.value(right)) else { return 1 };
        let is_equal = match (&left, &right) {
            (Made::Boolean(a), Made::Boolean(b)) => Some(a == b),
            (Made::Number { value: a, .. }, Made::Number { value: b, .. }) => Some(a == b),
            (Made::Text(a), Made::Text(b)) => Some(a == b),
            _ => None,
        };
        let is_less = match (&left, &right) {
            (Made::Number { value: a, .. }, Made::Number { value: b, .. }) => Some(a < b),
            (Made::Text(a), Made::Text(b)) => Some(a < b),
            _ => None,
        };
        let holds = match (comparison, is_equal, is_less) {
            (0, equal, _) => equal == Some(true),
            (1, None, _) => self.dialect == Dialect::AmqpSql,
            (1, equal, _) => equal == Some(false),
            (_, _, None) => false,
            (2, _, less) => less == Some(true),
            (3, equal, less) => less == Some(true) || equal == Some(true),
            (4, equal, less) => less == Some(false) && equal == Some(false),
            (_, _, less) => less == Some(false),
        };
        2 * Grade::from(holds)
    }
}

fn made(plain: &Plain) -> Made {
    match plain {
        Plain::Boolean(boolean) => Made::Boolean(*boolean),
        Plain::Text(text) => Made::Text(text.clone()),
        number => {
            Made::Number { value: number.number().unwrap(), is_whole: matches!(number, Plain::Whole(_)) }
        }
    }
}

/// Whether a text fits a pattern, in every way that there is.
fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|taken| fits(rest, &text[taken..])),
        ['_', rest @ ..] => !text.is_empty() && fits(rest, &text[1..]),
        ['!', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && fits(rest, &text[1..])
        }
    }
}

struct Fields<'m>(&'m [Option<Plain>]);

impl Message for Fields<'_> {
    fn field(&self, field: &Field) -> Option<Value<'_>> {
        let Field::ApplicationProperty(name) = field else { return None };
        let at = FIELDS.iter().position(|field| **field == **name)?;
        Some(match self.0[at].as_ref()? {
            Plain::Boolean(boolean) => Value::Boolean(*boolean),
            Plain::Whole(whole) => Value::Integer((*whole).into()),
            Plain::Text(text) => Value::Text(text.as_str().into()),
            quarters => Value::Real(quarters.number().unwrap()),
        })
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    prop_oneof![
        any::<bool>().prop_map(Plain::Boolean),
        (0..6_i32).prop_map(Plain::Whole),
        (0..20_i32).prop_map(Plain::Quarters),
        "[ab%_']{0,5}".prop_map(Plain::Text),
    ]
}

/// Without quotes, and with something behind each escape character.
fn pattern() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!["a", "b", "%", "_", "!%", "!_", "!!", "!a"]), 0..7)
        .prop_map(|units| units.concat())
}

fn part() -> impl Strategy<Value = Part> {
    let leaf = prop_oneof![
        plain().prop_map(Part::Constant),
        (0..FIELDS.len()).prop_map(Part::Field),
        (0..FIELDS.len()).prop_map(Part::Field),
        (any::<bool>(), 0..FIELDS.len()).prop_map(|(is_not, field)| Part::IsNull(is_not, field)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let one = || inner.clone().prop_map(Box::new);
        prop_oneof![
            one().prop_map(Part::Not),
            (any::<bool>(), vec(inner.clone(), 2..4)).prop_map(|(is_and, parts)| Part::Logic(is_and, parts)),
            (0..6_usize, (inner.clone(), inner.clone()).prop_map(Box::new))
                .prop_map(|(comparison, sides)| Part::Compare(comparison, sides)),
            (any::<bool>(), (inner.clone(), inner.clone(), inner.clone()).prop_map(Box::new))
                .prop_map(|(is_not, parts)| Part::Between(is_not, parts)),
            (any::<bool>(), one(), vec(inner.clone(), 1..4))
                .prop_map(|(is_not, part, parts)| Part::In(is_not, part, parts)),
            (any::<bool>(), one(), pattern())
                .prop_map(|(is_not, part, pattern)| Part::Like(is_not, part, pattern)),
            (0..5_usize, (inner.clone(), inner.clone()).prop_map(Box::new))
                .prop_map(|(operator, sides)| Part::Arithmetic(operator, sides)),
            one().prop_map(Part::Minus),
        ]
    })
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(vec![Dialect::AmqpSql, Dialect::JmsSelector])
}

/// Texts of which many are nearly expressions.
fn soup() -> impl Strategy<Value = String> {
    let words = vec![
        "a",
        "p.subject",
        "h.",
        "[x",
        "]",
        "'s'",
        "\"",
        "'",
        "AND",
        "or",
        "NOT",
        "IS",
        "NULL",
        "LIKE",
        "ESCAPE",
        "IN",
        "(",
        ")",
        ",",
        "BETWEEN",
        "=",
        "<>",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "1",
        "0x",
        "0xAB",
        "1.5E",
        "9L",
        ".",
        "UTC(",
        "LEFT",
        "TRUE",
        "🥕",
        "\n",
        "JMSType",
        "EXISTS(",
        "DATE('2026-01-01')",
    ];
    prop_oneof![vec(prop::sample::select(words), 0..30).prop_map(|words| words.join(" ")), ".{0,60}",]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn expressions_come_to_what_the_model_says(
        part in part(),
        fields in vec(prop::option::weighted(0.8, plain()), FIELDS.len()),
        dialect in dialect(),
    ) {
        let text = part.written();
        let compiled = match Expression::compile(&text, dialect) {
            Ok(compiled) => compiled,
            // The model knows no limits.
            Err(error) => {
                prop_assert!(matches!(error.problem, leveret_filter::Problem::TooManyTokens), "{text}: {error}");
                return Ok(());
            }
        };
        let expected = [Truth::False, Truth::Unknown, Truth::True]
            [usize::from(Model { fields: &fields, dialect }.grade(&part))];
        prop_assert_eq!(compiled.evaluate(&Fields(&fields), 0), expected, "{}", text);
    }

    #[test]
    fn every_text_is_an_expression_or_has_a_place_where_it_is_none(text in soup(), dialect in dialect()) {
        match Expression::compile(&text, dialect) {
            Ok(compiled) => {
                let _ = compiled.evaluate(&Fields(&[None, None, None, None]), 0);
            }
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.position), "{text}: {error}");
            }
        }
    }
}
