//! What dead letters tell.

use super::*;

#[test]
fn deaths_are_told_in_the_words_of_each_protocol() {
    let key = |key: &str, value| (text(key), value);
    let death = Model::Map(vec![
        key("original-expiration", text("60")),
        key("count", Model::Integer(2)),
        key("reason", text("expired")),
        key("queue", text("q")),
        key("time", Model::Timestamp(9)),
        key("exchange", text("")),
        key("routing-keys", Model::List(vec![text("k")])),
    ]);
    let deaths = Model::List(vec![death.clone(), death]);
    let set = Change::SetHeader { name: Name::from_static("x-death"), value: deaths.clone() };
    let patch: Patch = [set].into_iter().collect();
    let mut properties = Vec::new();
    FORM.patch(NONE, &patch, &mut properties).unwrap();
    assert_eq!(view(&properties, b"").header(&Name::from_static("x-death")), Some(deaths));
    let parts = Parts::of(&properties);
    let Some(Value::Array(array)) = parts.annotations().get("x-opt-deaths") else { panic!("no array") };
    let Some(Value::Map(first)) = array.iter().next() else { panic!("no map") };
    assert_eq!(first.symbol("count"), Some(Value::Ulong(2)));
    assert_eq!(first.symbol("ttl"), Some(Value::Uint(60)));
    assert_eq!(first.symbol("first-time"), Some(Value::Timestamp(Timestamp(9))));
    assert_eq!(first.symbol("reason"), Some(Value::Symbol(sym("expired"))));
    assert_eq!(first.symbol("last-time"), None);
    let Some(Value::Array(keys)) = first.symbol("routing-keys") else { panic!("no keys") };
    assert!(keys.iter().eq([Value::String("k")]));
}

/// When the last death was is told to receivers of AMQP 1.0 alone; the next death does not lose it.
#[test]
fn the_time_of_an_earlier_death_stays() {
    let key = |key: &str, value| (text(key), value);
    let death = |queue: &str, last: Option<i64>| {
        let told =
            [key("reason", text("rejected")), key("queue", text(queue)), key("time", Model::Timestamp(1))];
        Model::Map(
            told.into_iter().chain(last.map(|last| key("last-time", Model::Timestamp(last)))).collect(),
        )
    };
    let name = Name::from_static("x-death");
    let mut properties = NONE.to_vec();
    for deaths in [vec![death("a", Some(5))], vec![death("b", Some(6)), death("a", None)]] {
        let patch: Patch =
            [Change::SetHeader { name: name.clone(), value: Model::List(deaths) }].into_iter().collect();
        let mut patched = Vec::new();
        FORM.patch(&properties, &patch, &mut patched).unwrap();
        properties = patched;
    }
    let seen = Model::List(vec![death("b", None), death("a", None)]);
    assert_eq!(view(&properties, b"").header(&name), Some(seen));
    let parts = Parts::of(&properties);
    let Some(Value::Array(array)) = parts.annotations().get("x-opt-deaths") else { panic!("no array") };
    let times = array.iter().map(|death| match death {
        Value::Map(death) => death.symbol("last-time"),
        _ => None,
    });
    assert!(times.eq([6, 5].map(|time| Some(Value::Timestamp(Timestamp(time))))));
}
