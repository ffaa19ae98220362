use super::*;
use leveret_sdk::{
    Arguments,
    testkit::{Exchange, Routed},
};

fn bind<T: ExchangeType>(exchange: &mut Exchange<T>, key: &str) -> BindingId {
    exchange.bind(key, Arguments::new()).unwrap()
}

/// How many of so many messages each binding gets.
fn counts<T: ExchangeType>(exchange: &mut Exchange<T>, messages: usize) -> HashMap<BindingId, usize> {
    let mut counts = HashMap::new();
    for _ in 0..messages {
        let Routed::Deliver(ids) = exchange.route("key") else {
            panic!("nothing is dropped or refused here")
        };
        assert_eq!(ids.len(), 1);
        *counts.entry(ids[0]).or_default() += 1;
    }
    counts
}

/// Within five times what chance makes of it.
fn is_even(count: usize, of: usize, among: usize) -> bool {
    let part = 1.0 / among as f64;
    let deviation = (part * (1.0 - part) * of as f64).sqrt();
    (count as f64 - of as f64 * part).abs() < 5.0 * deviation
}

#[test]
fn each_binding_gets_as_many_also_when_others_went() {
    let mut exchange = Exchange::<Random>::open(Arguments::new()).unwrap();
    let ids: Vec<_> = (0..6).map(|_| bind(&mut exchange, "any")).collect();
    let all = counts(&mut exchange, 12_000);
    assert!(ids.iter().all(|id| is_even(all[id], 12_000, 6)), "{all:?}");
    for id in [ids[1], ids[5], ids[0]] {
        exchange.unbind(id);
        exchange.unbind(id);
    }
    let left = counts(&mut exchange, 12_000);
    assert_eq!(left.len(), 3);
    assert!([2, 3, 4].iter().all(|place: &usize| is_even(left[&ids[*place]], 12_000, 3)), "{left:?}");
}

/// Else all instances would choose the same queues at the same time.
#[test]
fn two_instances_have_two_series() {
    let series = || {
        let mut exchange = Exchange::<Random>::open(Arguments::new()).unwrap();
        exchange.host().seed_random(7);
        for _ in 0..4 {
            bind(&mut exchange, "");
        }
        let mut routed = Vec::new();
        for _ in 0..2 {
            routed.push((0..40).map(|_| exchange.route("")).collect::<Vec<_>>());
            exchange.restart().unwrap();
        }
        routed
    };
    let first = series();
    assert_ne!(first[0], first[1]);
    assert_eq!(series(), first, "with a seed it is repeatable");
}

#[test]
fn without_bindings_a_message_goes_nowhere() {
    let mut exchange = Exchange::<LocalRandom>::open(Arguments::new()).unwrap();
    assert_eq!(exchange.route("key"), Routed::unroutable());
    let id = bind(&mut exchange, "");
    assert_eq!(exchange.route("key"), Routed::to([id]));
    exchange.unbind(id);
    assert_eq!(exchange.route("key"), Routed::unroutable());
}

#[test]
fn the_local_one_takes_queues_without_a_key() {
    let mut exchange = Exchange::<LocalRandom>::open(Arguments::new()).unwrap();
    let refusal = exchange.bind("any", Arguments::new()).unwrap_err().to_string();
    assert_eq!(refusal, "Non empty binding 'any' key not permitted");
    let onward = Destination::Exchange(b"x".to_vec());
    let refusal = exchange.bind_to(onward.clone(), "", Arguments::new()).unwrap_err().to_string();
    assert_eq!(refusal, "only queues can be bound");
    let ids = [bind(&mut exchange, ""), bind(&mut exchange, "")];
    let all = counts(&mut exchange, 4_000);
    assert!(ids.iter().all(|id| is_even(all[id], 4_000, 2)), "{all:?}");
    let mut exchange = Exchange::<Random>::open(Arguments::new()).unwrap();
    assert!(exchange.bind_to(onward, "any", Arguments::new()).is_ok());
}
