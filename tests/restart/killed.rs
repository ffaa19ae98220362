//! Killed while a change is on its way: what was answered before is there, and the change is there or not, whole.

use crate::*;
use leveret_testkit::wire::{Arguments, RawConnection, id};
use std::collections::BTreeSet;

const LIVES: u64 = 12;
const CHANGES_A_LIFE: u64 = 12;

/// A small deterministic generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What there is, as lines.
type State = BTreeSet<String>;

/// A change that clients ask for, and what it leads to.
struct Change {
    method: id::MethodId,
    arguments: Arguments,
    after: State,
}

/// The next change from this state on.
fn change(random: &mut Random, state: &State) -> Change {
    const EXCHANGE_DELETE: id::MethodId = id::EXCHANGE_DELETE;
    const QUEUE_DELETE: id::MethodId = (50, 40);
    let name = |kind: &str, random: &mut Random| format!("{kind}{}", random.below(3));
    let (x, q) = (name("x", random), name("q", random));
    let (exchange, queue) = (format!("exchange {x}"), format!("queue {q}"));
    let key = format!("k{}", random.below(2));
    let binding = format!("binding {x} {q} {key}");
    let mut after = state.clone();
    let start = || Arguments::new().short(0);
    let is_there = |line: &String| state.contains(line);
    let (method, arguments) = match random.below(10) {
        0..=1 => {
            after.insert(exchange);
            let arguments = start().short_string(&x).short_string("direct");
            (id::EXCHANGE_DECLARE, arguments.bits(&[false, true, false, false, false]).empty_table())
        }
        2..=3 => {
            after.insert(queue);
            let arguments = start().short_string(&q).bits(&[false, true, false, false, false]);
            (id::QUEUE_DECLARE, arguments.empty_table())
        }
        4..=6 if is_there(&exchange) && is_there(&queue) => {
            after.insert(binding);
            let arguments = start().short_string(&q).short_string(&x).short_string(&key);
            (id::QUEUE_BIND, arguments.bits(&[false]).empty_table())
        }
        7 if is_there(&exchange) && is_there(&queue) => {
            after.remove(&binding);
            let arguments = start().short_string(&q).short_string(&x).short_string(&key);
            (id::QUEUE_UNBIND, arguments.empty_table())
        }
        8 => {
            after.retain(|line| *line != exchange && !line.starts_with(&format!("binding {x} ")));
            (EXCHANGE_DELETE, start().short_string(&x).bits(&[false, false]))
        }
        9 => {
            after.retain(|line| *line != queue && !line.contains(&format!(" {q} ")));
            (QUEUE_DELETE, start().short_string(&q).bits(&[false, false, false]))
        }
        _ => return change(random, state),
    };
    Change { method, arguments, after }
}

/// What the broker has.
fn there(broker: &Broker) -> State {
    let names = |path: &str, kind: &str| -> State {
        let all = read(broker, path);
        let names = all.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
        let own = names.filter(|name| !name.is_empty() && !name.starts_with("amq."));
        own.map(|name| format!("{kind} {name}")).collect()
    };
    let mut state = names("exchanges/%2F", "exchange");
    state.extend(names("queues/%2F", "queue"));
    state.extend(bindings(broker).iter().map(|line| format!("binding {}", line.trim_end_matches(" {}"))));
    state
}

#[test]
fn what_was_answered_is_there_and_nothing_is_half() {
    let (mut random, mut state) = (Random(7), State::new());
    let mut broker = Broker::start(BINARY);
    for life in 0..LIVES {
        let mut client = RawConnection::open_with_channel(broker.address());
        for _ in 0..random.below(CHANGES_A_LIFE) {
            let Change { method, arguments, after } = change(&mut random, &state);
            client.send_method(1, method, arguments);
            client.expect_method(1, (method.0, method.1 + 1));
            state = after;
        }
        // The last one is on its way, or done and not answered, or answered and not read.
        let Change { method, arguments, after } = change(&mut random, &state);
        client.send_method(1, method, arguments);
        let stopped = broker.kill_for_a_while();
        let answered = client.read_frame().is_some();
        broker = stopped.start();
        let found = there(&broker);
        assert!(
            found == after || (!answered && found == state),
            "life {life}: {found:#?}\n{state:#?}\n{after:#?}"
        );
        state = found;
    }
    assert!(!state.is_empty());
}
