//! What texts and messages may cost.

use super::{Fake, outcome, text};
use crate::{
    Dialect, Expression, Problem, Truth, Value,
    sql::{CHARACTERS_MAX, DEPTH_MAX, STEPS_MAX, TOKENS_MAX},
};
use alloc::{format, string::String, vec::Vec};

const DIALECTS: [Dialect; 2] = [Dialect::AmqpSql, Dialect::JmsSelector];

fn problem(text: &str, dialect: Dialect) -> Option<(usize, Problem)> {
    Expression::compile(text, dialect).err().map(|error| (error.position, error.problem))
}

#[test]
fn texts_have_a_longest() {
    for dialect in DIALECTS {
        // Characters count, not bytes.
        let fits = format!("'{}'='x'", "🥕".repeat(CHARACTERS_MAX - 6));
        assert_eq!(problem(&fits, dialect), None);
        assert_eq!(problem(&format!("{fits} "), dialect), Some((CHARACTERS_MAX + 1, Problem::TooLong)));
    }
}

#[test]
fn tokens_are_counted() {
    for dialect in DIALECTS {
        let sum = |terms: usize| (1..terms).fold(String::from("1"), |sum, _| sum + "+1");
        // A sum of n terms has 2n - 1 tokens, and the comparison two.
        let terms = (TOKENS_MAX - 1) / 2;
        let fits = format!("{}=1", sum(terms));
        assert_eq!(problem(&fits, dialect), None);
        let beyond = format!("{}=1", sum(terms + 1));
        assert_eq!(problem(&beyond, dialect), Some((beyond.len(), Problem::TooManyTokens)));
    }
}

#[test]
fn nesting_has_a_depth() {
    for dialect in DIALECTS {
        for (open, close) in [("(", ")"), ("NOT ", ""), ("-", ""), ("+ ", "")] {
            let nested = |depth| format!("{}{}{}", open.repeat(depth), "a", close.repeat(depth));
            assert_eq!(problem(&nested(DEPTH_MAX), dialect), None, "{open}");
            let beyond = problem(&nested(DEPTH_MAX + 1), dialect);
            assert!(matches!(beyond, Some((_, Problem::TooDeep))), "{open}: {beyond:?}");
        }
    }
    let calls = |depth| format!("{}'a'{} = 'a'", "LOWER(".repeat(depth), ")".repeat(depth));
    assert_eq!(problem(&calls(DEPTH_MAX), Dialect::AmqpSql), None);
    assert!(matches!(problem(&calls(DEPTH_MAX + 1), Dialect::AmqpSql), Some((_, Problem::TooDeep))));
}

/// A pattern for which trying every way would take more steps than there are atoms.
#[test]
fn patterns_are_not_tried_in_every_way() {
    let pattern = "%a".repeat(60) + "%b";
    let expression = format!("k LIKE '{pattern}'");
    let message = Fake::default().app("k", text(&"a".repeat(5000)));
    assert_eq!(outcome(&expression, Dialect::JmsSelector, &message), Truth::False);
    let pattern = "%_a_".repeat(60) + "%b%";
    let expression = format!("k LIKE '{pattern}'");
    assert_eq!(outcome(&expression, Dialect::JmsSelector, &message), Truth::False);
}

/// What costs too much is unknown; what is known without it is not.
#[test]
fn a_message_costs_no_more_than_the_limit() {
    let pattern = format!("%{}b%", "_".repeat(2000));
    let dear = format!("k LIKE '{pattern}'");
    let message = Fake::default().app("k", text(&"a".repeat(100_000))).app("yes", Value::Boolean(true));
    for (expression, expected) in [
        (dear.clone(), Truth::Unknown),
        (format!("NOT {dear}"), Truth::Unknown),
        (format!("yes OR {dear}"), Truth::True),
        (format!("NOT yes AND {dear}"), Truth::False),
    ] {
        assert_eq!(outcome(&expression, Dialect::AmqpSql, &message), expected);
    }
    let text_of_steps = Fake::default().app("k", text(&"a".repeat(STEPS_MAX + 1)));
    assert_eq!(outcome("LOWER(k) = 'a'", Dialect::AmqpSql, &text_of_steps), Truth::Unknown);
    assert_eq!(outcome("k = 'a'", Dialect::AmqpSql, &text_of_steps), Truth::False);
}

#[test]
fn what_nests_deepest_is_compiled_evaluated_and_dropped() {
    let mut filters = Vec::new();
    for dialect in DIALECTS {
        let nots = format!("{}(a IS NULL)", "NOT ".repeat(DEPTH_MAX - 1));
        let sums = (0..98).fold(String::from("1"), |sum, _| sum + "-1") + "<0";
        for text in [nots, sums] {
            filters.push(Expression::compile(&text, dialect));
        }
    }
    assert_eq!(filters.len(), 4);
    for filter in filters {
        let filter = filter.unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(filter.evaluate(&Fake::default(), 0), Truth::Unknown);
    }
}
