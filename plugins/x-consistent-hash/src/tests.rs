use super::*;
use leveret_sdk::{
    Arguments, Property, Value,
    testkit::{Exchange, Routed, TestMessage},
};

fn open(arguments: Arguments) -> Exchange<ConsistentHash> {
    Exchange::open(arguments).unwrap()
}

fn queue(name: impl Into<String>) -> Destination {
    Destination::Queue(name.into().into_bytes())
}

fn bind(exchange: &mut Exchange<ConsistentHash>, name: &str, weight: &str) -> BindingId {
    exchange.bind_to(queue(name), weight, Arguments::new()).unwrap()
}

fn one(routed: Routed) -> BindingId {
    match routed {
        Routed::Deliver(ids) if ids.len() == 1 => ids[0],
        other => panic!("one binding is expected: {other:?}"),
    }
}

/// Where so many keys go.
fn owners(exchange: &mut Exchange<ConsistentHash>, keys: usize) -> Vec<BindingId> {
    (0..keys).map(|number| one(exchange.route(format!("key.{number}")))).collect()
}

fn share(owners: &[BindingId], ids: &[BindingId]) -> f64 {
    owners.iter().filter(|id| ids.contains(id)).count() as f64 / owners.len() as f64
}

/// Five times what chance makes of it.
fn assert_share(share: f64, expected: f64, keys: usize) {
    let deviation = (expected * (1.0 - expected) / keys as f64).sqrt();
    assert!((share - expected).abs() < 5.0 * deviation, "{share} instead of {expected}");
}

#[test]
fn keys_are_shared_out_evenly_also_with_a_weight_of_1() {
    for count in [2, 4, 10, 100] {
        let mut exchange = open(Arguments::new());
        let ids: Vec<_> = (0..count).map(|number| bind(&mut exchange, &format!("q{number}"), "1")).collect();
        let owners = owners(&mut exchange, 20_000);
        for id in ids {
            assert_share(share(&owners, &[id]), 1.0 / f64::from(count), owners.len());
        }
    }
}

#[test]
fn shares_are_as_the_weights_say() {
    let mut exchange = open(Arguments::new());
    let weights = ["1", "2", "3", "10", "10", "74"];
    let ids: Vec<_> =
        (0..6).map(|number| bind(&mut exchange, &format!("q{number}"), weights[number])).collect();
    let owners = owners(&mut exchange, 50_000);
    for (id, weight) in ids.iter().zip(weights) {
        assert_share(share(&owners, &[*id]), weight.parse::<f64>().unwrap() / 100.0, owners.len());
    }
}

#[test]
fn a_queue_that_comes_takes_its_share_and_one_that_goes_leaves_it_and_no_other_key_moves() {
    for weights in [["1"; 5], ["3", "1", "2", "2", "7"]] {
        let mut exchange = open(Arguments::new());
        let all: f64 = weights.iter().map(|weight| weight.parse::<f64>().unwrap()).sum();
        for (number, weight) in weights[..4].iter().enumerate() {
            bind(&mut exchange, &format!("q{number}"), weight);
        }
        let before = owners(&mut exchange, 20_000);
        let newcomer = bind(&mut exchange, "q4", weights[4]);
        let after = owners(&mut exchange, 20_000);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == newcomer));
        assert_share(share(&after, &[newcomer]), weights[4].parse::<f64>().unwrap() / all, after.len());
        exchange.unbind(newcomer);
        assert_eq!(owners(&mut exchange, 20_000), before);
    }
}

/// On RabbitMQ 4.3.6 only the first binding counts, and when the second goes the queue gets nothing any more.
#[test]
fn bindings_of_one_queue_add_up_and_one_that_goes_takes_its_own_weight() {
    let mut exchange = open(Arguments::new());
    let first = bind(&mut exchange, "a", "1");
    let other = bind(&mut exchange, "b", "1");
    let even = owners(&mut exchange, 20_000);
    let second = bind(&mut exchange, "a", "3");
    let again = exchange.bind_to(queue("a"), "3", Arguments::new().with("x", 1)).unwrap();
    let heavy = owners(&mut exchange, 20_000);
    assert_share(share(&heavy, &[other]), 1.0 / 8.0, heavy.len());
    assert_share(share(&heavy, &[first, second, again]), 7.0 / 8.0, heavy.len());
    let moved_to_b = even.iter().zip(&heavy).any(|(even, heavy)| *even != other && *heavy == other);
    assert!(!moved_to_b, "a heavier queue gives nothing away");
    exchange.unbind(second);
    let owners_then = owners(&mut exchange, 20_000);
    assert_share(share(&owners_then, &[other]), 1.0 / 5.0, owners_then.len());
    exchange.unbind(first);
    exchange.unbind(again);
    assert!(owners(&mut exchange, 100).iter().all(|id| *id == other));
    let first = bind(&mut exchange, "a", "1");
    let owners = owners(&mut exchange, 20_000);
    let same = |(now, even): (&BindingId, &BindingId)| (*now == first) == (*even != other);
    assert!(owners.iter().zip(&even).all(same), "it is as before");
}

#[test]
fn neither_order_nor_instance_matters() {
    let names = ["a", "b", "c", "d", "e"];
    let mut expected = None;
    for rotation in 0..names.len() {
        let mut exchange = open(Arguments::new());
        let mut by_id = BTreeMap::new();
        for place in 0..names.len() {
            let place = (place + rotation) % names.len();
            by_id.insert(bind(&mut exchange, names[place], &place.max(1).to_string()), names[place]);
        }
        let names_of = |owners: Vec<BindingId>| owners.iter().map(|id| by_id[id]).collect::<Vec<_>>();
        let owners_now = names_of(owners(&mut exchange, 2_000));
        assert_eq!(*expected.get_or_insert(owners_now.clone()), owners_now);
        exchange.restart().unwrap();
        assert_eq!(names_of(owners(&mut exchange, 2_000)), owners_now);
    }
}

/// Else an update of the broker would send the messages of most keys elsewhere.
#[test]
fn keys_stay_where_they_are_for_ever() {
    let mut exchange = open(Arguments::new());
    let mut letters = BTreeMap::new();
    for (name, weight) in [("a", "1"), ("b", "1"), ("c", "2")] {
        letters.insert(bind(&mut exchange, name, weight), name);
    }
    let onward = exchange.bind_to(Destination::Exchange(b"a".to_vec()), "1", Arguments::new()).unwrap();
    letters.insert(onward, "x");
    let taken: String = owners(&mut exchange, 32).iter().map(|id| letters[id]).collect();
    assert_eq!(taken, "ccxxbccaxaccbcbxaaaacccaxcccbxcc");
}

#[test]
fn a_header_is_hashed_by_class_and_value() {
    let mut exchange = open(Arguments::new().with("hash-header", "user"));
    let ids: Vec<_> = (0..50).map(|number| bind(&mut exchange, &format!("q{number}"), "1")).collect();
    let mut to = |message: TestMessage| one(exchange.route_message(&message));
    let by_text = to(TestMessage::new("one").header("user", "7"));
    assert_eq!(to(TestMessage::new("two").header("user", "7").header("other", 1)), by_text);
    assert_ne!(to(TestMessage::new("one").header("user", 7)), by_text);
    let without = to(TestMessage::new("one"));
    assert_eq!(to(TestMessage::new("two").header("other", 3)), without);
    let owners: Vec<_> = (0..5_000).map(|number| to(TestMessage::new("").header("user", number))).collect();
    assert!(ids.iter().all(|id| share(&owners, &[*id]) > 0.01));
}

#[test]
fn a_property_is_hashed() {
    for (name, property) in [
        ("message_id", Property::MessageId),
        ("correlation_id", Property::CorrelationId),
        ("timestamp", Property::Timestamp),
    ] {
        let mut exchange = open(Arguments::new().with("hash-property", name));
        let ids: Vec<_> = (0..4).map(|number| bind(&mut exchange, &format!("q{number}"), "1")).collect();
        let mut owners = Vec::new();
        for number in 0..2_000 {
            let text = number.to_string();
            let value = match property {
                Property::Timestamp => Value::Timestamp(number * 1000),
                _ => Value::Text(&text),
            };
            let message = TestMessage::new("").property(property, value);
            owners.push(one(exchange.route_message(&message)));
            let same = TestMessage::new("any").property(property, value).property(Property::AppId, "a");
            assert_eq!(one(exchange.route_message(&same)), *owners.last().unwrap());
        }
        assert!(ids.iter().all(|id| (share(&owners, &[*id]) - 0.25).abs() < 0.05), "{name}");
        let without = TestMessage::new("a").property(Property::AppId, "a");
        assert_eq!(exchange.route_message(&without), exchange.route("b"));
    }
}

/// The texts were seen on RabbitMQ 4.3.6, which ends the connection where a name is no text.
#[test]
fn what_is_refused_is_refused_in_rabbitmqs_words() {
    let refusal = |arguments| Exchange::<ConsistentHash>::open(arguments).err().unwrap().to_string();
    let both = Arguments::new().with("hash-header", "h").with("hash-property", "message_id");
    assert_eq!(refusal(both), "hash-header and hash-property are mutually exclusive");
    let other = Arguments::new().with("hash-property", "app_id");
    assert_eq!(refusal(other), "Unsupported property: app_id");
    let number = Arguments::new().with("hash-header", 5);
    assert_eq!(refusal(number), "argument 'hash-header' must be a string, not an integer");
    let long = Arguments::new().with("hash-header", "h".repeat(256).as_str());
    assert_eq!(refusal(long), "argument 'hash-header' must be the name of a header, of 255 bytes at most");
    let mut exchange = open(Arguments::new());
    assert!(exchange.bind("many", Arguments::new()).is_err());
    assert_eq!(exchange.route("key"), Routed::unroutable());
}

#[test]
fn a_thousand_queues_get_their_shares() {
    let mut exchange = open(Arguments::new());
    let bindings = (0..1_000).map(|number| ((number % 4 + 1).to_string(), Arguments::new()));
    let ids = exchange.bind_all(bindings).unwrap();
    let owners = owners(&mut exchange, 40_000);
    for weight in 0..4 {
        let of_weight: Vec<_> = ids.iter().skip(weight).step_by(4).copied().collect();
        assert_share(share(&owners, &of_weight), (weight + 1) as f64 / 10.0, owners.len());
    }
    for id in &ids[..500] {
        exchange.unbind(*id);
    }
    assert!(owners_are_among(&mut exchange, &ids[500..]));
}

fn owners_are_among(exchange: &mut Exchange<ConsistentHash>, ids: &[BindingId]) -> bool {
    owners(exchange, 5_000).iter().all(|id| ids.contains(id))
}
