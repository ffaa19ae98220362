use super::*;
use alloc::{format, string::ToString};
use leveret_model::Value;

/// Found where a name begins with it.
#[derive(Debug)]
struct Begins(&'static str);

impl NamePattern for Begins {
    fn text(&self) -> &str {
        self.0
    }

    fn is_in(&self, name: &[u8]) -> bool {
        name.starts_with(self.0.as_bytes())
    }
}

fn table(fields: &[(&str, Value)]) -> Table {
    fields.iter().map(|(name, value)| (Name::new(name.as_bytes()).unwrap(), value.clone())).collect()
}

fn number(number: i64) -> Value {
    Value::Integer(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn policy(
    kind: PolicyKind,
    (name, pattern): (&'static str, &'static str),
    (apply_to, priority): (ApplyTo, f64),
    definition: &[(&str, Value)],
) -> Result<Arc<Policy>, String> {
    let (name, pattern) = (Name::from_static(name), Box::new(Begins(pattern)));
    Policy::new(kind, name, pattern, (apply_to, priority), table(definition)).map(Arc::new)
}

fn refusal(kind: PolicyKind, definition: &[(&str, Value)]) -> String {
    let made = policy(kind, ("p", ""), (ApplyTo::All, 0.0), definition);
    made.map_or_else(|why| why, |_| "ok".to_string())
}

/// Said by RabbitMQ 4.3.6.
#[test]
fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
    use PolicyKind::{Operator, User};
    for (key, value, said) in [
        ("message-ttl", number(0), "ok"),
        ("message-ttl", number(-1), "-1 is not a valid message TTL"),
        ("message-ttl", text("a"), "<<\"a\">> is not a valid message TTL"),
        ("message-ttl", Value::Real(1.5), "1.5 is not a valid message TTL"),
        ("message-ttl", Value::Void, "null is not a valid message TTL"),
        ("message-ttl", Value::List(Vec::new()), "[] is not a valid message TTL"),
        ("message-ttl", Value::Map(Vec::new()), "#{} is not a valid message TTL"),
        ("message-ttl", Value::Unsigned(u64::MAX), "ok"),
        ("expires", number(0), "0 is not a valid queue expiry"),
        ("max-length", number(-1), "-1 is not a valid maximum length"),
        ("max-length-bytes", number(-1), "-1 is not a valid maximum length in bytes"),
        ("max-in-memory-length", number(-1), "-1 is not a valid maximum memory in bytes"),
        ("overflow", text("foo"), "<<\"foo\">> is not a valid overflow value"),
        ("dead-letter-exchange", number(5), "5 is not a valid dead letter exchange name"),
        ("dead-letter-routing-key", number(5), "5 is not a valid dead letter routing key"),
        ("dead-letter-strategy", text("foo"), "<<\"foo\">> is not a valid dead letter strategy"),
        ("delivery-limit", number(-2), "ok"),
        ("delivery-limit", text("a"), "<<\"a\">> is not a valid delivery limit"),
        ("alternate-exchange", number(5), "5 is not a valid alternate exchange name"),
        ("max-age", text("7D"), "ok"),
        ("max-age", text("foo"), "<<\"foo\">> is not a valid max age"),
        ("stream-filter-size-bytes", number(5), "5 is not a valid filter size. Valid range is 16-255"),
        ("queue-leader-locator", text("balanced"), "ok"),
        ("queue-leader-locator", text("foo"), "<<\"foo\">> is not a valid queue leader locator value"),
        (
            "queue-master-locator",
            text("client-local"),
            "use of deprecated queue-master-locator argument is not permitted",
        ),
        ("target-group-size", number(0), "0 is not a valid qq target count value"),
        ("queue-version", number(3), "3 is not a valid queue-version value"),
        ("ha-mode", text("all"), "[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings"),
        ("max-priority", number(3), "[{<<\"max-priority\">>,3}] are not recognised policy settings"),
        (
            "delayed-retry-type",
            text("foo"),
            "<<\"foo\">> is not a valid delayed retry type. Must be one of: all, failed, returned, disabled",
        ),
        ("delayed-retry-type", text("all"), "delayed-retry-min is required when delayed-retry-type is all"),
        (
            "delayed-retry-min",
            number(0),
            "0 is not a valid delayed retry minimum delay. Must be a positive integer",
        ),
        ("consumer-timeout", number(-1), "-1 is not a valid consumer timeout"),
    ] {
        assert_eq!(refusal(User, &[(key, value)]), said, "{key}");
    }
    assert_eq!(refusal(User, &[]), "no policy provided");
    let unknown = [("max-length", number(3)), ("foo", number(1)), ("bar", text("x"))];
    let said = "[{<<\"bar\">>,<<\"x\">>},{<<\"foo\">>,1}] are not recognised policy settings";
    assert_eq!(refusal(User, &unknown), said);
    let retry = [("delayed-retry-min", number(10)), ("delayed-retry-max", number(5))];
    let said = "delayed-retry-max (5) must not be smaller than delayed-retry-min (10)";
    assert_eq!(refusal(User, &retry), said);
    for (key, value) in [
        ("dead-letter-exchange", text("x")),
        ("alternate-exchange", text("x")),
        ("consumer-timeout", number(1)),
        ("max-age", text("7D")),
        ("queue-mode", text("lazy")),
    ] {
        let said = refusal(Operator, &[(key, value.clone())]);
        assert!(
            said.starts_with(&format!("[{{<<\"{key}\">>,")) && said.ends_with("policy settings"),
            "{said}"
        );
    }
    for (key, value) in [
        ("message-ttl", number(1)),
        ("expires", number(1)),
        ("max-length", number(1)),
        ("max-length-bytes", number(1)),
        ("overflow", text("reject-publish")),
        ("delivery-limit", number(3)),
        ("target-group-size", number(3)),
        ("delayed-retry-type", text("disabled")),
    ] {
        assert_eq!(refusal(Operator, &[(key, value)]), "ok", "{key}");
    }
}

#[test]
fn of_those_that_match_the_highest_priority_counts_and_then_the_name() {
    let mut all = Policies::default();
    let length = [("max-length", number(1))];
    for (name, pattern, apply_to, priority) in [
        ("b", "x", ApplyTo::All, 1.0),
        ("a", "x", ApplyTo::Queues, 1.0),
        ("half", "x", ApplyTo::QuorumQueues, 1.5),
        ("other", "y", ApplyTo::All, 9.0),
        ("streams", "", ApplyTo::Streams, 9.0),
        ("exchanges", "x", ApplyTo::Exchanges, 0.0),
    ] {
        let made = policy(PolicyKind::User, (name, pattern), (apply_to, priority), &length).unwrap();
        all.put(PolicyKind::User, made);
    }
    // What a classic queue cannot have makes a policy one that is not for it.
    let limit = [("delivery-limit", number(1)), ("max-length", number(1))];
    let made = policy(PolicyKind::User, ("limit", "x"), (ApplyTo::All, 5.0), &limit).unwrap();
    all.put(PolicyKind::User, made);
    let name = |policy: Option<Arc<Policy>>| policy.map(|policy| policy.name().to_text());
    let queue = |all: &Policies, queue, kind| name(all.for_queue(&Name::from_static(queue), kind).policy);
    assert_eq!(queue(&all, "xq", QueueKind::Classic).as_deref(), Some("a"));
    assert_eq!(queue(&all, "xq", QueueKind::Quorum).as_deref(), Some("limit"));
    assert_eq!(queue(&all, "z", QueueKind::Classic), None);
    assert_eq!(name(all.for_exchange(&Name::from_static("xe"))).as_deref(), Some("limit"));
    let gone = all.remove(PolicyKind::User, b"limit").unwrap();
    assert_eq!(gone.name().as_bytes(), b"limit");
    assert_eq!(queue(&all, "xq", QueueKind::Quorum).as_deref(), Some("half"));
    assert_eq!(name(all.for_exchange(&Name::from_static("xe"))).as_deref(), Some("b"));
    let higher = policy(PolicyKind::User, ("b", "x"), (ApplyTo::All, 7.0), &length).unwrap();
    all.put(PolicyKind::User, higher);
    assert_eq!(
        queue(&all, "xq", QueueKind::Classic).as_deref(),
        Some("b"),
        "in the place of the one of its name"
    );
    assert_eq!(all.of(PolicyKind::User).len(), 6);
    assert!(all.for_queue(&Name::from_static("xq"), QueueKind::Classic).operator.is_none());
}

/// Done by RabbitMQ 4.3.6.
#[test]
fn definitions_and_arguments_come_together_as_in_rabbitmq() {
    let both =
        |user: &[(&str, Value)], operator: &[(&str, Value)]| merge::definitions(table(user), table(operator));
    let user =
        [("max-length", number(5)), ("overflow", text("drop-head")), ("dead-letter-exchange", text("d"))];
    let operator = [("max-length", number(9)), ("overflow", text("reject-publish")), ("expires", number(7))];
    let merged = both(&user, &operator);
    let expected = [
        ("dead-letter-exchange", text("d")),
        ("expires", number(7)),
        ("max-length", number(5)),
        ("overflow", text("reject-publish")),
    ];
    assert_eq!(merged, table(&expected));
    let keys: Vec<_> = merged.iter().map(|(key, _)| key.to_text()).collect();
    assert!(keys.is_sorted());
    for (key, user, operator, merged) in [
        ("delivery-limit", -1, 5, 5),
        ("delivery-limit", 7, -1, 7),
        ("delivery-limit", 7, 5, 5),
        ("target-group-size", 1, 3, 3),
        ("delayed-retry-min", 9, 5, 9),
        ("delayed-retry-max", 100, 1000, 100),
        ("queue-version", 1, 2, 2),
    ] {
        assert_eq!(both(&[(key, number(user))], &[(key, number(operator))]), table(&[(key, number(merged))]));
    }
    let with = |kind, own: (&str, Value), key: &str, value: Value| {
        let made = policy(PolicyKind::User, ("p", ""), (ApplyTo::All, 0.0), &[(key, value)]).unwrap();
        let applied = Applied { policy: Some(made), operator: None };
        let name = own.0.as_bytes();
        arguments(&table(&[own]), kind, &applied).get(name).cloned().unwrap()
    };
    let (classic, quorum) = (QueueKind::Classic, QueueKind::Quorum);
    for (own, policy, merged) in [(3, 2, 2), (2, 3, 2)] {
        for kind in [classic, quorum] {
            assert_eq!(
                with(kind, ("x-max-length", number(own)), "max-length", number(policy)),
                number(merged)
            );
        }
    }
    for (own, policy, merged) in [(3, 5, 3), (-1, 5, 5), (5, -1, 5)] {
        let got = with(quorum, ("x-delivery-limit", number(own)), "delivery-limit", number(policy));
        assert_eq!(got, number(merged));
    }
    let overflow = |kind| with(kind, ("x-overflow", text("reject-publish")), "overflow", text("drop-head"));
    assert_eq!([overflow(classic), overflow(quorum)], [text("reject-publish"), text("drop-head")]);
    let exchange = with(classic, ("x-dead-letter-exchange", text("own")), "dead-letter-exchange", text("p"));
    assert_eq!(exchange, text("own"));
}
