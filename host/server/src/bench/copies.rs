//! To how many consumers each message is to come: what the bindings that the load made say of its key.
//!
//! Bindings are evaluated for each key before the load begins. Which keys a publisher sent is not noted while it runs: they
//! come in the same order each time ([`Numbers`]), so how often its messages number a to b are to come is looked up when
//! the load is over.

use super::{KeyOrder, Plan, keys::Numbers, topology::Names};
use std::{collections::HashMap, ops::Range};

/// Why it is not known how often messages are to come.
const FOREIGN: &str = "what becomes of a message is up to an exchange of a type that is not known here";
/// The same of a hash, or of chance.
const CHOSEN: &str = "which messages go to the queues without a consumer is up to the exchange";

/// How often messages are to come.
pub(super) struct Copies<'a> {
    routes: Routes<'a>,
    /// For how many of the routing keys there is no binding; `None` where no key comes twice.
    pub(super) keys_unbound: Option<usize>,
}

enum Routes<'a> {
    /// All alike.
    Each(u64),
    /// By the number of the key.
    Keys(Vec<u32>),
    /// None comes twice: each is looked at when it is asked for.
    New(&'a Plan, &'a Names, Bound<'a>),
}

impl<'a> Copies<'a> {
    /// Looks at all keys.
    ///
    /// # Errors
    /// Why it cannot be known.
    pub(super) fn new(plan: &'a Plan, names: &'a Names) -> Result<Self, &'static str> {
        let bound_queues = || names.bindings.iter().map(|(queue, _)| *queue);
        let keys_unbound = Some(if names.bindings.is_empty() { plan.keys } else { 0 });
        let all = |count| Ok(Self { routes: Routes::Each(count), keys_unbound });
        match plan.exchange_type.as_deref() {
            None | Some("direct" | "topic" | "headers" | "x-lvc") => Ok(Self::of_keys(plan, names)),
            Some("fanout" | "x-recent-history") => all(consumed(plan, bound_queues().collect())),
            Some("x-consistent-hash" | "x-modulus-hash" | "x-random" | "x-local-random") => {
                let is_consumed = |queue| queue < plan.consumers;
                match (bound_queues().any(is_consumed), bound_queues().all(is_consumed)) {
                    (true, false) => Err(CHOSEN),
                    (some, _) => all(u64::from(some)),
                }
            }
            Some(_) if plan.consumers == 0 => all(0),
            Some(_) => Err(FOREIGN),
        }
    }

    fn of_keys(plan: &'a Plan, names: &'a Names) -> Self {
        let bound = Bound::new(plan, names);
        if plan.key_order == KeyOrder::New {
            return Self { routes: Routes::New(plan, names, bound), keys_unbound: None };
        }
        let (mut key, mut unbound) = (String::new(), 0);
        let mut count = |number| {
            names.put_key(plan, number, &mut key);
            let queues = bound.queues(&key);
            unbound += usize::from(queues.is_empty());
            consumed(plan, queues)
        };
        let counts: Vec<u32> = (0..plan.keys as u64).map(|number| count(number) as u32).collect();
        let first = counts.first().copied().unwrap_or(0);
        let are_alike = counts.iter().all(|count| *count == first);
        let routes = if are_alike { Routes::Each(first.into()) } else { Routes::Keys(counts) };
        Self { routes, keys_unbound: Some(unbound) }
    }

    /// How often a message is to come at most.
    pub(super) fn max(&self) -> u64 {
        match &self.routes {
            Routes::Each(count) => *count,
            Routes::Keys(counts) => counts.iter().copied().max().unwrap_or(0).into(),
            Routes::New(plan, names, _) => consumed(plan, (0..names.queues.len()).collect()),
        }
    }

    /// Of the messages of publisher `index`.
    ///
    /// # Errors
    /// If its keys cannot be had.
    pub(super) fn of_publisher(&self, plan: &Plan, index: usize) -> anyhow::Result<Sums<'_>> {
        let numbers = || Numbers::new(plan.key_order, plan.keys, index, plan.publishers);
        Ok(match &self.routes {
            Routes::Each(count) => Sums::Each(*count),
            Routes::Keys(counts) => {
                let mut numbers = numbers()?;
                let mut before = vec![0];
                let mut all = 0;
                for _ in 0..numbers.period().unwrap_or(0) {
                    all += u64::from(counts.get(numbers.next() as usize).copied().unwrap_or(0));
                    before.push(all);
                }
                Sums::Period(before)
            }
            Routes::New(plan, names, bound) => Sums::New { plan, names, bound, index: index as u64 },
        })
    }
}

/// How often the messages of a publisher are to come.
pub(super) enum Sums<'a> {
    /// All alike.
    Each(u64),
    /// They come again and again: how often those before each, and at last all of them.
    Period(Vec<u64>),
    /// None comes twice.
    New { plan: &'a Plan, names: &'a Names, bound: &'a Bound<'a>, index: u64 },
}

impl Sums<'_> {
    /// Of these of its messages, counted from 0, all together.
    pub(super) fn of(&self, messages: Range<u64>) -> u64 {
        match self {
            Self::Each(count) => count * (messages.end - messages.start),
            Self::Period(before) => {
                let all = before.last().copied().unwrap_or(0);
                let period = (before.len() as u64 - 1).max(1);
                let until = |message: u64| all * (message / period) + before[(message % period) as usize];
                until(messages.end) - until(messages.start)
            }
            Self::New { plan, names, bound, index } => {
                let mut key = String::new();
                let count = |message: u64| {
                    names.put_key(plan, index + message * plan.publishers as u64, &mut key);
                    consumed(plan, bound.queues(&key))
                };
                messages.map(count).sum()
            }
        }
    }
}

/// How many of these queues have a consumer, each counted once: what goes to the others never comes.
fn consumed(plan: &Plan, mut queues: Vec<usize>) -> u64 {
    queues.sort_unstable();
    queues.dedup();
    queues.iter().filter(|queue| **queue < plan.consumers).count() as u64
}

/// The queues that are bound, by key or by the words of a pattern.
pub(super) struct Bound<'a> {
    keys: HashMap<&'a str, Vec<usize>>,
    patterns: Patterns<'a>,
}

impl<'a> Bound<'a> {
    fn new(plan: &Plan, names: &'a Names) -> Self {
        let mut bound = Self { keys: HashMap::new(), patterns: Patterns::default() };
        if plan.exchange_type.is_none() {
            bound.keys =
                names.queues.iter().enumerate().map(|(queue, key)| (key.as_str(), vec![queue])).collect();
        }
        let is_topic = plan.exchange_type.as_deref() == Some("topic");
        for (queue, key) in &names.bindings {
            if is_topic && words(key).any(|word| matches!(word, "*" | "#")) {
                bound.patterns.insert(key, *queue);
            } else {
                bound.keys.entry(key).or_default().push(*queue);
            }
        }
        bound
    }

    /// Those that get a message with that key; one may be among them twice.
    fn queues(&self, key: &str) -> Vec<usize> {
        let mut queues = self.keys.get(key).cloned().unwrap_or_default();
        self.patterns.put_matching(key, &mut queues);
        queues
    }
}

/// The words of a routing key or a topic's pattern: what is between dots. The empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').skip(usize::from(key.is_empty()))
}

/// Patterns of a topic exchange: places that are gone through word by word, from the first one.
struct Patterns<'a> {
    places: Vec<Place>,
    next: HashMap<(usize, &'a str), usize>,
}

#[derive(Default)]
struct Place {
    /// Behind a `#`: any words may come, and it is still there.
    stays: bool,
    /// Of the patterns that end here.
    queues: Vec<usize>,
}

impl Default for Patterns<'_> {
    fn default() -> Self {
        Self { places: vec![Place::default()], next: HashMap::new() }
    }
}

impl<'a> Patterns<'a> {
    fn insert(&mut self, pattern: &'a str, queue: usize) {
        let mut place = 0;
        for word in words(pattern) {
            let new = self.places.len();
            place = *self.next.entry((place, word)).or_insert(new);
            if place == new {
                self.places.push(Place { stays: word == "#", queues: Vec::new() });
            }
        }
        self.places[place].queues.push(queue);
    }

    /// Appends the queues of all patterns that match.
    fn put_matching(&self, key: &str, queues: &mut Vec<usize>) {
        if self.next.is_empty() {
            return;
        }
        let mut at = vec![0];
        self.pass_over(&mut at);
        for word in words(key) {
            let before = std::mem::take(&mut at);
            for place in before {
                if self.places[place].stays {
                    at.push(place);
                }
                let literal = (!matches!(word, "*" | "#")).then_some(word);
                at.extend(literal.into_iter().chain(["*"]).filter_map(|word| self.next.get(&(place, word))));
            }
            self.pass_over(&mut at);
        }
        at.iter().for_each(|place| queues.extend(&self.places[*place].queues));
    }

    /// Adds the places that are reached over a `#` that stands for no word; each is there once then.
    fn pass_over(&self, at: &mut Vec<usize>) {
        let mut index = 0;
        while let Some(place) = at.get(index) {
            at.extend(self.next.get(&(*place, "#")));
            index += 1;
        }
        at.sort_unstable();
        at.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::topology::tests::plan;

    /// How often the first messages of a publisher are to come.
    fn first(plan: &Plan, index: usize, count: u64) -> Vec<u64> {
        let names = Names::new(plan).unwrap();
        let copies = Copies::new(plan, &names).unwrap();
        let sums = copies.of_publisher(plan, index).unwrap();
        let each: Vec<u64> = (0..count).map(|message| sums.of(message..message + 1)).collect();
        assert_eq!(sums.of(0..count), each.iter().sum::<u64>());
        assert_eq!(sums.of(1..count), each[1..].iter().sum::<u64>());
        assert!(each.iter().all(|count| *count <= copies.max()));
        each
    }

    fn unknown(plan: &Plan) -> &'static str {
        Copies::new(plan, &Names::new(plan).unwrap()).err().unwrap()
    }

    #[test]
    fn each_key_comes_as_often_as_its_bindings_say() {
        assert_eq!(first(&plan(None, 6, 6), 0, 7), [1; 7]);
        assert_eq!(first(&plan(None, 6, 2), 0, 7), [1, 1, 0, 0, 0, 0, 1]);
        assert_eq!(first(&plan(None, 6, 2), 1, 7), [1, 0, 0, 0, 0, 1, 1]);
        for name in ["direct", "topic", "headers", "x-lvc"] {
            assert_eq!(first(&plan(Some(name), 3, 3), 0, 7), [1; 7], "{name}");
            let all = Plan { fan_out: true, ..plan(Some(name), 3, 3) };
            assert_eq!(first(&all, 0, 7), [3; 7], "{name}");
            assert_eq!(first(&Plan { consumers: 2, ..all }, 0, 7), [2; 7], "{name}");
            let two = Plan { bindings: Some(2), ..plan(Some(name), 1, 1) };
            assert_eq!(first(&two, 0, 8), [1, 1, 0, 0, 0, 0, 1, 1], "{name}");
            assert_eq!(first(&two, 1, 7), [1, 0, 0, 0, 0, 1, 1], "{name}");
            let idle = Plan { idle_bindings: 5, ..plan(Some(name), 2, 2) };
            assert_eq!(first(&idle, 0, 6), [1; 6], "{name}");
            // Numbers 0 and 4 are the same key, of two queues.
            let twice = Plan { key: "key{4}".parse().unwrap(), ..plan(Some(name), 3, 3) };
            assert_eq!(first(&twice, 0, 6), [2, 2, 1, 1, 2, 2], "{name}");
            // Of a key that never comes again.
            let new = Plan {
                key_order: KeyOrder::New,
                publishers: 2,
                binding: Some("key{}".parse().unwrap()),
                bindings: Some(4),
                ..plan(Some(name), 1, 1)
            };
            assert_eq!(first(&new, 1, 3), [1, 1, 0], "{name}");
        }
    }

    #[test]
    fn drawn_keys_are_drawn_again() {
        let drawn = Plan { key_order: KeyOrder::Random, bindings: Some(3), ..plan(Some("direct"), 1, 1) };
        let mut numbers = Numbers::new(drawn.key_order, drawn.keys, 0, 1).unwrap();
        let sent: Vec<u64> = (0..70_000).map(|_| u64::from(numbers.next() < 3)).collect();
        let names = Names::new(&drawn).unwrap();
        let copies = Copies::new(&drawn, &names).unwrap();
        let sums = copies.of_publisher(&drawn, 0).unwrap();
        for range in [0..1, 5..6, 65_000..70_000, 0..70_000] {
            let count: u64 = sent[range.start..range.end].iter().sum();
            assert_eq!(sums.of(range.start as u64..range.end as u64), count, "{range:?}");
        }
    }

    #[test]
    fn exchanges_that_take_one_queue_or_all_do_so_whatever_the_key() {
        for name in ["fanout", "x-recent-history"] {
            assert_eq!(first(&plan(Some(name), 4, 4), 0, 2), [4; 2]);
            assert_eq!(first(&plan(Some(name), 4, 3), 0, 2), [3; 2]);
            assert_eq!(first(&Plan { bindings: Some(0), ..plan(Some(name), 4, 4) }, 0, 2), [0; 2]);
        }
        for name in ["x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random"] {
            assert_eq!(first(&plan(Some(name), 4, 4), 0, 2), [1; 2]);
            assert_eq!(first(&plan(Some(name), 4, 0), 0, 2), [0; 2]);
            assert_eq!(first(&Plan { bindings: Some(0), ..plan(Some(name), 4, 4) }, 0, 2), [0; 2]);
            assert_eq!(unknown(&plan(Some(name), 4, 3)), CHOSEN);
        }
        assert_eq!(unknown(&plan(Some("x-mine"), 2, 2)), FOREIGN);
        assert_eq!(first(&plan(Some("x-mine"), 2, 0), 0, 2), [0; 2]);
    }

    #[test]
    fn keys_without_a_binding_are_counted() {
        let unbound = |plan: &Plan| Copies::new(plan, &Names::new(plan).unwrap()).unwrap().keys_unbound;
        assert_eq!(unbound(&plan(None, 3, 0)), Some(0));
        assert_eq!(unbound(&Plan { bindings: Some(2), ..plan(Some("direct"), 1, 1) }), Some(4));
        assert_eq!(unbound(&Plan { bindings: Some(0), ..plan(Some("fanout"), 1, 1) }), Some(6));
    }

    #[test]
    fn patterns_match_as_a_topic_exchange_has_it() {
        let matches = |pattern: &str, key: &str| {
            let mut patterns = Patterns::default();
            // Others are beside it.
            ["a.b.#.x", "*.*.*.*.*", "q"].iter().for_each(|other| patterns.insert(other, 7));
            patterns.insert(pattern, 1);
            let mut found = Vec::new();
            patterns.put_matching(key, &mut found);
            found.contains(&1)
        };
        for (pattern, key, is_match) in [
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a..c", true),
            ("*", "", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#.c", "a.c", true),
            ("a.#.c", "a.b.b.c", true),
            ("a.#.c", "a.b.b", false),
            ("#.b.#", "a.b.c", true),
            ("#.#.#", "a", true),
            ("#.*", "", false),
            ("#.*", "a.b", true),
            ("*.#", "a", true),
            ("*.*.#", "a", false),
            ("a.*", "a.*", true),
            ("#.a.#.a", "a", false),
            ("#.a.#.a", "x.a.y.a", true),
        ] {
            assert_eq!(matches(pattern, key), is_match, "{pattern} {key}");
        }
    }
}
