//! Each limit of what a guest may do in a call, reached by calling the imports as a guest does.

use super::{draft::EFFECTS_MAX, *};
use crate::{
    account::Accounts,
    bindings::v0_2::leveret::routing::{
        emit::Host as _, enqueue::Host as _, enqueue::OutgoingMessage, holds::Host as Holds,
        key_value as wit_values, key_value::Host as _, message_store as wit_store, message_store::Host as _,
        metric as wit_metric, metric::Host as _, random::Host as _, timers::Host as Timers,
    },
    pace::InlineTimes,
    policy::{Limit, PluginRules, Policies, PolicyRules},
    scope::Scope,
    testing::PLAIN,
};
use leveret_broker::port::Fate;
use leveret_model::Name;
use std::time::Duration;

const MEMORY: wit_values::Space = wit_values::Space::Memory;

/// A call about a message with a body of so many bytes.
fn context(purpose: Purpose, body_bytes: usize, limits: &[(Limit, u64)]) -> Context {
    let rules = PluginRules { limits: limits.iter().copied().collect(), ..PluginRules::default() };
    let plugins = [(String::from("guest"), rules)].into_iter().collect();
    let policies = Policies::new(PolicyRules { plugins, ..PolicyRules::default() }).unwrap();
    let account = Accounts::new(Arc::new(policies), InlineTimes::default()).of(
        &Scope::Global,
        &Name::from_static("/"),
        "guest",
    );
    let mut context = Context::new(account, Some(&PLAIN));
    let message = OwnedMessage {
        exchange: Name::EMPTY,
        routing_key: Name::EMPTY,
        form: &PLAIN,
        properties: Default::default(),
        body: vec![b'x'; body_bytes].into(),
    };
    let (layer, cell) = (Layer::FRONT, Arc::new(Cell::default()));
    context.begin(Some(Call {
        exchange: None,
        layer,
        cell,
        purpose,
        on_hand: Some(Arc::new(message)),
        inside: None,
    }));
    context.deadline.begin(Duration::from_secs(10), Duration::ZERO, 0, None);
    context
}

/// What the host does in pieces is the call's own time, and ends with it.
#[test]
fn time_in_the_host() {
    let mut context = context(Purpose::Decide, 1, &[]);
    for number in 0..200 {
        context.keep(format!("{number}.{}", "a.".repeat(400)).into_bytes(), 1).unwrap().unwrap();
    }
    let pattern = || b"#.a.#.b".to_vec();
    assert!(context.matching(pattern(), 10).unwrap().is_empty());
    context.deadline.begin(Duration::ZERO, Duration::ZERO, 0, None);
    let error = context.matching(pattern(), 10).unwrap_err().to_string();
    assert!(error.contains("of CPU; the limit is"), "{error}");
    let error = context.matching(vec![b'.'; 1_025], 10).unwrap_err().to_string();
    assert!(error.contains("a pattern of 1025 bytes; at most 1024"), "{error}");
}

fn deciding() -> Context {
    context(Purpose::Decide, 1, &[])
}

fn made(body_bytes: usize) -> OutgoingMessage {
    OutgoingMessage { headers: Vec::new(), properties: Vec::new(), body: vec![b'x'; body_bytes] }
}

#[test]
fn effects_of_a_call() {
    let mut context = deciding();
    for number in 0..EFFECTS_MAX {
        let key = number.to_string().into_bytes();
        context.put(MEMORY, key, Vec::new(), None).unwrap().unwrap();
    }
    let full = |error| matches!(error, Err(wit_values::Error::Quota));
    assert!(full(context.put(MEMORY, b"k".to_vec(), Vec::new(), None).unwrap()));
    assert!(full(context.delete(MEMORY, b"0".to_vec()).unwrap().map(drop)));
    assert!(full(context.compare_and_swap(MEMORY, b"n".to_vec(), None, None, None).unwrap().map(drop)));
    assert!(full(context.add(MEMORY, b"sum".to_vec(), 1, None).unwrap().map(drop)));
    assert!(matches!(context.add(MEMORY, b"sum".to_vec(), 0, None).unwrap(), Ok(0)), "to read is no effect");
    assert!(matches!(context.keep(b"k".to_vec(), 1).unwrap(), Err(wit_store::Error::Quota)));
    assert!(matches!(context.forget(b"k".to_vec()).unwrap(), Err(wit_store::Error::Quota)));
    for trapped in [
        context.set(b"timer".to_vec(), 1),
        timers_cancel(&mut context),
        holds_cancel(&mut context),
        context.enqueue_copy(b"q".to_vec()),
        context.publish_copy(b"e".to_vec(), Vec::new()),
    ] {
        assert!(trapped.unwrap_err().to_string().contains("more than 10000 effects"));
    }
}

fn timers_cancel(context: &mut Context) -> wasmtime::Result<()> {
    crate::bindings::v0_2::leveret::routing::timers::Host::cancel(context, b"timer".to_vec())
}

fn holds_cancel(context: &mut Context) -> wasmtime::Result<()> {
    crate::bindings::v0_2::leveret::routing::holds::Host::cancel(context, 1)
}

#[test]
fn bytes_of_messages_that_are_made_or_copied() {
    let mut context = context(Purpose::Decide, 10 << 20, &[]);
    for _ in 0..3 {
        context.enqueue_copy(b"q".to_vec()).unwrap();
    }
    let error = context.publish_copy(b"e".to_vec(), Vec::new()).unwrap_err().to_string();
    assert!(error.contains("32 MiB of messages"), "{error}");
    let mut context = deciding();
    let error = context.enqueue(b"q".to_vec(), made((16 << 20) + 1)).unwrap_err().to_string();
    assert!(error.contains("a body of 16777217 bytes; the most is 16777216"), "{error}");
    let error = context.enqueue(vec![b'q'; 256], made(1)).unwrap_err().to_string();
    assert!(error.contains("256 bytes; the most is 255"), "{error}");
}

#[test]
fn keys_values_and_what_is_kept() {
    let mut context = context(Purpose::Decide, 1, &[(Limit::StateEntries, 2_500)]);
    let too_large = |answer| matches!(answer, Err(wit_values::Error::TooLarge));
    assert!(too_large(context.put(MEMORY, vec![0; 1_025], Vec::new(), None).unwrap()));
    assert!(too_large(context.put(MEMORY, Vec::new(), vec![0; 65_537], None).unwrap()));
    assert!(matches!(context.keep(vec![0; 1_025], 1).unwrap(), Err(wit_store::Error::Quota)));
    context.keep(vec![0; 1_024], 1).unwrap().unwrap();
    for number in 0..2_499_u32 {
        context.put(MEMORY, number.to_be_bytes().to_vec(), Vec::new(), None).unwrap().unwrap();
    }
    let full = context.put(MEMORY, b"one more".to_vec(), Vec::new(), None).unwrap();
    assert!(matches!(full, Err(wit_values::Error::Quota)), "{full:?}");
    context.end().draft.unwrap().settle(Fate::Routed, &mut Vec::new());
}

#[test]
fn the_length_of_a_scan_and_of_chance() {
    let mut context = deciding();
    let cell = context.cell().unwrap().clone();
    for number in 0..1_500_u32 {
        context.put(MEMORY, number.to_be_bytes().to_vec(), Vec::new(), None).unwrap().unwrap();
    }
    context.end().draft.unwrap().settle(Fate::Routed, &mut Vec::new());
    let (layer, purpose) = (Layer::FRONT, Purpose::Decide);
    context.begin(Some(Call { exchange: None, layer, cell, purpose, on_hand: None, inside: None }));
    let found = context.scan(MEMORY, Vec::new(), None, u32::MAX).unwrap().unwrap();
    assert_eq!(found.len(), 1_000);
    let rest = context.scan(MEMORY, Vec::new(), found.last().map(|(key, _)| key.clone()), u32::MAX);
    assert_eq!(rest.unwrap().unwrap().len(), 500);
    assert_eq!(context.bytes(u32::MAX).unwrap().len(), 1_024);
    assert!(Holds::first(&mut context, u32::MAX).unwrap().is_empty());
    assert!(Timers::first(&mut context, u32::MAX).unwrap().is_empty());
}

#[test]
fn metrics_and_their_names() {
    let mut context = context(Purpose::Decide, 1, &[(Limit::Metrics, 3)]);
    for name in ["a", "b", "c", "d", "", &"n".repeat(65)] {
        wit_metric::Host::count(&mut context, String::from(name), 2).unwrap();
    }
    for number in [f64::NAN, f64::INFINITY, 1.5] {
        context.gauge(String::from("a"), number).unwrap();
    }
    let (metrics, ignored) = context.account.metrics().read();
    let names: Vec<_> = metrics.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, ignored), (vec!["a", "b", "c"], 5));
}

/// While it only is told something, a guest has no effects.
#[test]
fn there_are_no_effects_while_it_is_told() {
    let mut context = context(Purpose::Setup, 1, &[]);
    let put = context.put(MEMORY, b"k".to_vec(), Vec::new(), None).unwrap();
    assert!(matches!(put, Err(wit_values::Error::NotHere)));
    assert!(matches!(context.keep(b"k".to_vec(), 1).unwrap(), Err(wit_store::Error::NotHere)));
    for trapped in
        [context.set(b"t".to_vec(), 1), context.enqueue_copy(b"q".to_vec()), holds_cancel(&mut context)]
    {
        assert!(trapped.unwrap_err().to_string().contains("not possible in this call"));
    }
    assert!(context.end().draft.is_none());
}
