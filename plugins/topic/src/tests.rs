//! The rules as a table, and the trie against a matcher that is too simple to be wrong.

use super::*;
use leveret_sdk::{
    Arguments,
    testkit::{Exchange, Routed, TestMessage},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// (queue's number, pattern); the queue 27 is bound twice, with different arguments.
const BINDINGS: [(u32, &str); 27] = [
    (1, "a.b.c"),
    (2, "a.*.c"),
    (3, "a.#.b"),
    (4, "a.b.b.c"),
    (5, "#"),
    (6, "#.#"),
    (7, "#.b"),
    (8, "*.*"),
    (9, "a.*"),
    (10, "*.b.c"),
    (11, "a.#"),
    (12, "a.#.#"),
    (13, "b.b.c"),
    (14, "a.b.b"),
    (15, "a.b"),
    (16, "b.c"),
    (17, ""),
    (18, "*.*.*"),
    (19, "vodka.martini"),
    (20, "a.b.c"),
    (21, "*.#"),
    (22, "#.*.#"),
    (23, "*.#.#"),
    (25, "*"),
    (26, "#.b.#"),
    (27, "args-test"),
    (27, "args-test"),
];

struct Bound {
    exchange: Exchange<Topic>,
    queues: BTreeMap<BindingId, u32>,
}

impl Bound {
    fn new() -> Self {
        let mut exchange = Exchange::<Topic>::open(Arguments::new()).unwrap();
        let mut bind = |(queue, pattern)| (exchange.bind(pattern, Arguments::new()).unwrap(), queue);
        let queues = BINDINGS.into_iter().map(&mut bind).collect();
        Self { exchange, queues }
    }

    /// Removes the first binding of each of these queues.
    fn unbind(&mut self, queues: &[u32]) {
        for queue in queues {
            let id = *self.queues.iter().find(|(_, bound)| *bound == queue).unwrap().0;
            self.exchange.unbind(id);
            self.queues.remove(&id);
        }
    }

    fn assert_routes(&mut self, key: &str, expected: &[u32]) {
        let Routed::Deliver(ids) = self.exchange.route(key) else { panic!("not delivered") };
        let mut queues: Vec<_> = ids.iter().map(|id| self.queues[id]).collect();
        queues.sort();
        let bindings = queues.len();
        queues.dedup();
        assert_eq!(queues, expected, "{key:?}");
        let twice = self.queues.values().filter(|queue| **queue == 27).count() == 2;
        assert_eq!(bindings - queues.len(), usize::from(twice && queues.contains(&27)), "each binding once");
    }
}

#[test]
fn twenty_six_patterns_against_twelve_keys() {
    let mut bound = Bound::new();
    bound.assert_routes("a.b.c", &[1, 2, 5, 6, 10, 11, 12, 18, 20, 21, 22, 23, 26]);
    bound.assert_routes("a.b", &[3, 5, 6, 7, 8, 9, 11, 12, 15, 21, 22, 23, 26]);
    bound.assert_routes("a.b.b", &[3, 5, 6, 7, 11, 12, 14, 18, 21, 22, 23, 26]);
    bound.assert_routes("", &[5, 6, 17]);
    bound.assert_routes("b.c.c", &[5, 6, 18, 21, 22, 23, 26]);
    bound.assert_routes("a.a.a.a.a", &[5, 6, 11, 12, 21, 22, 23]);
    bound.assert_routes("vodka.gin", &[5, 6, 8, 21, 22, 23]);
    bound.assert_routes("vodka.martini", &[5, 6, 8, 19, 21, 22, 23]);
    bound.assert_routes("b.b.c", &[5, 6, 10, 13, 18, 21, 22, 23, 26]);
    bound.assert_routes("nothing.here.at.all", &[5, 6, 21, 22, 23]);
    bound.assert_routes("oneword", &[5, 6, 21, 22, 23, 25]);
    bound.assert_routes("args-test", &[5, 6, 21, 22, 23, 25, 27]);
}

#[test]
fn the_same_keys_after_six_unbinds() {
    let mut bound = Bound::new();
    bound.unbind(&[1, 5, 11, 19, 21, 27]);
    bound.assert_routes("a.b.c", &[2, 6, 10, 12, 18, 20, 22, 23, 26]);
    bound.assert_routes("a.b", &[3, 6, 7, 8, 9, 12, 15, 22, 23, 26]);
    bound.assert_routes("a.b.b", &[3, 6, 7, 12, 14, 18, 22, 23, 26]);
    bound.assert_routes("", &[6, 17]);
    bound.assert_routes("b.c.c", &[6, 18, 22, 23, 26]);
    bound.assert_routes("a.a.a.a.a", &[6, 12, 22, 23]);
    bound.assert_routes("vodka.gin", &[6, 8, 22, 23]);
    bound.assert_routes("vodka.martini", &[6, 8, 22, 23]);
    bound.assert_routes("b.b.c", &[6, 10, 13, 18, 22, 23, 26]);
    bound.assert_routes("nothing.here.at.all", &[6, 22, 23]);
    bound.assert_routes("oneword", &[6, 22, 23, 25]);
    bound.assert_routes("args-test", &[6, 22, 23, 25, 27]);
}

#[test]
fn without_bindings_nothing_is_left() {
    let mut trie = Trie::default();
    for (id, (_, pattern)) in BINDINGS.into_iter().enumerate() {
        trie.insert(pattern.as_bytes(), BindingId(id as u64));
    }
    for id in [13, 0, 26, 7].into_iter().chain(0..BINDINGS.len()) {
        trie.remove(BindingId(id as u64));
    }
    assert_eq!(trie.size(), (1, 0));
    trie.find(b"a.b.c", |ids| panic!("{ids:?}"));
}

/// Matched by trying each length of a `#` in turn, this takes longer than anybody waits.
#[test]
fn many_wildcards_take_no_exponential_time() {
    let mut exchange = Exchange::<Topic>::open(Arguments::new()).unwrap();
    let pattern = ["#.a"; 60].join(".");
    let id = exchange.bind(&pattern, Arguments::new()).unwrap();
    let key = ["a"; 127].join(".");
    assert_eq!(exchange.route(&key), Routed::Deliver(vec![id]));
    assert_eq!(exchange.route(format!("{key}.b")), Routed::Deliver(vec![]));
}

/// The rules, word by word.
fn matches(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        ([b"#", rest @ ..], key) => matches(rest, key) || !key.is_empty() && matches(pattern, &key[1..]),
        ([b"*", rest @ ..], [_, key @ ..]) => matches(rest, key),
        ([word, rest @ ..], [first, key @ ..]) => word == first && matches(rest, key),
        (_, []) => false,
    }
}

fn naive(pattern: &str, key: &str) -> bool {
    let pattern: Vec<_> = words::words_of(pattern.as_bytes()).collect();
    let key: Vec<_> = words::words_of(key.as_bytes()).collect();
    matches(&pattern, &key)
}

proptest! {
    /// Binds and unbinds in any order, then routes: the answer is that of the simple matcher.
    #[test]
    fn the_trie_agrees_with_the_rules(
        patterns in prop::collection::vec("([ab*#]?(\\.([ab*#]{0,2}|long-words?)){0,4})", 1..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        keys in prop::collection::vec("([abc]?(\\.([abc]{0,2}|long-words?)){0,5})", 1..20),
    ) {
        let mut exchange = Exchange::<Topic>::open(Arguments::new()).unwrap();
        let mut bound = BTreeMap::new();
        for pattern in &patterns {
            bound.insert(exchange.bind(pattern, Arguments::new()).unwrap(), pattern);
        }
        for index in removed {
            let id = BindingId(index.index(patterns.len()) as u64 + 1);
            exchange.unbind(id);
            bound.remove(&id);
        }
        for key in &keys {
            let Routed::Deliver(mut ids) = exchange.route(key) else { panic!("not delivered") };
            ids.sort();
            let expected: Vec<_> =
                bound.iter().filter(|(_, pattern)| naive(pattern, key)).map(|(id, _)| *id).collect();
            prop_assert_eq!(ids, expected, "key {:?}", key);
            prop_assert!(exchange.marks_hold(&TestMessage::new(key)), "key {:?}", key);
        }
    }
}
