use super::*;
use leveret_model::{Value, limits::VALUE_DEPTH_MAX};
use proptest::prelude::*;

pub(crate) fn name() -> impl Strategy<Value = Name> {
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Name::cut(&bytes))
}

fn value() -> impl Strategy<Value = Value> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        (i64::MAX as u64 + 1..).prop_map(Value::Unsigned),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        (any::<u8>(), any::<i64>()).prop_map(|(scale, unscaled)| Value::Decimal { scale, unscaled }),
        ".*".prop_map(Value::Text),
        bytes().prop_map(|bytes| Value::Binary(bytes.into())),
        any::<i64>().prop_map(Value::Timestamp),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::List),
            proptest::collection::vec(pair, 0..4).prop_map(Value::Map),
        ]
    })
}

pub(crate) fn table() -> impl Strategy<Value = Table> {
    proptest::collection::vec((name(), value()), 0..20).prop_map(Table::from_iter)
}

fn type_spec() -> impl Strategy<Value = TypeSpec> {
    (name(), table(), proptest::option::of(name())).prop_map(|(type_name, arguments, in_front_of)| TypeSpec {
        type_name,
        arguments,
        in_front_of,
    })
}

/// The bits of reals count too, and the order of fields.
fn exactly(table: &Table) -> Vec<String> {
    fn bits(value: &Value) -> String {
        match value {
            Value::Real(real) => format!("real {:x}", real.to_bits()),
            Value::List(values) => format!("{:?}", values.iter().map(bits).collect::<Vec<_>>()),
            Value::Map(pairs) => {
                format!("{:?}", pairs.iter().map(|(key, value)| (bits(key), bits(value))).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        }
    }
    table.iter().map(|(name, value)| format!("{:?} {}", name.as_bytes(), bits(value))).collect()
}

proptest! {
    #[test]
    fn specs_are_read_as_they_were_written(
        (name, type_name, arguments, now) in (name(), name(), table(), table()),
        types in proptest::collection::vec(type_spec(), 0..3),
        flags in any::<[bool; 3]>(),
        number in any::<u64>(),
    ) {
        let [durable, auto_delete, internal] = flags;
        let spec = ExchangeSpec { name, type_name, durable, auto_delete, internal, arguments };
        let id = KeptId(number);
        let kept = KeptExchange { id, spec: &spec, arguments: &now, types: &types };
        let OwnedExchange { id: read, .. } = take_exchange(spec.name.clone(), &exchange(&kept)).unwrap();
        prop_assert_eq!(read, id);
        let OwnedExchange { spec: read, arguments, types: types_read, .. } =
            take_exchange(spec.name.clone(), &exchange(&kept)).unwrap();
        prop_assert_eq!((&read.name, &read.type_name), (&spec.name, &spec.type_name));
        prop_assert_eq!([read.durable, read.auto_delete, read.internal], flags);
        prop_assert_eq!(exactly(&read.arguments), exactly(&spec.arguments));
        prop_assert_eq!(exactly(&arguments), exactly(&now));
        let told = |types: &[TypeSpec]| -> Vec<_> {
            let each = |it: &TypeSpec| (it.type_name.clone(), exactly(&it.arguments), it.in_front_of.clone());
            types.iter().map(each).collect()
        };
        prop_assert_eq!(told(&types_read), told(&types));

        let [durable, exclusive, auto_delete] = flags;
        let spec = QueueSpec { name: spec.name, durable, exclusive, auto_delete, arguments: spec.arguments };
        let read = take_queue(&queue(&spec)).unwrap();
        prop_assert_eq!(&read.name, &spec.name);
        prop_assert_eq!([read.durable, read.exclusive, read.auto_delete], flags);
        prop_assert_eq!(exactly(&read.arguments), exactly(&spec.arguments));

        let (found, arguments) = take_binding(&binding(number, &spec.arguments)).unwrap();
        prop_assert_eq!((found, exactly(&arguments)), (number, exactly(&spec.arguments)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = take_exchange(Name::EMPTY, &bytes);
        let _ = take_queue(&bytes);
        let _ = take_binding(&bytes);
    }
}

#[test]
fn cut_values_and_other_versions_are_refused() {
    let arguments: Table = [(Name::from_static("x-max"), Value::Integer(3))].into_iter().collect();
    let spec = QueueSpec { name: Name::from_static("q"), durable: true, arguments, ..QueueSpec::default() };
    let bytes = queue(&spec);
    for end in 0..bytes.len() {
        assert_eq!(take_queue(&bytes[..end]).unwrap_err(), Malformed, "cut at {end}");
    }
    for (at, byte) in [(0, 2), (1, 8)] {
        let mut other = bytes.clone();
        other[at] = byte;
        assert!(take_queue(&other).is_err());
    }
    assert!(take_queue(&[&*bytes, b"x"].concat()).is_err(), "what follows is not looked over");
}

#[test]
fn as_deep_as_arguments_may_nest() {
    let nested = (0..VALUE_DEPTH_MAX).fold(Value::Void, |value, _| Value::List(vec![value]));
    let arguments: Table = [(Name::from_static("deep"), nested)].into_iter().collect();
    assert_eq!(take_binding(&binding(1, &arguments)).unwrap(), (1, arguments));
}

/// What version 1 wrote is read by every later one.
#[test]
fn the_bytes_of_version_1() {
    let fields = [
        ("v", Value::Void),
        ("b", Value::Boolean(true)),
        ("i", Value::Integer(-2)),
        ("u", Value::Unsigned(u64::MAX)),
        ("r", Value::Real(1.5)),
        ("d", Value::Decimal { scale: 2, unscaled: 7 }),
        ("t", Value::Text("hi".into())),
        ("y", Value::Binary(vec![0xff].into())),
        ("s", Value::Timestamp(3)),
        ("l", Value::List(vec![Value::Void])),
        ("m", Value::Map(vec![(Value::Text("k".into()), Value::Integer(1))])),
    ];
    let arguments: Table = fields.into_iter().map(|(name, value)| (Name::from_static(name), value)).collect();
    let table = b"\x0b\0\0\0\x01v\x00\x01b\x01\x01\x01i\x02\xfe\xff\xff\xff\xff\xff\xff\xff\
        \x01u\x09\xff\xff\xff\xff\xff\xff\xff\xff\x01r\x03\0\0\0\0\0\0\xf8\x3f\
        \x01d\x0a\x02\x07\0\0\0\0\0\0\0\x01t\x04\x02\0\0\0hi\x01y\x05\x01\0\0\0\xff\
        \x01s\x06\x03\0\0\0\0\0\0\0\x01l\x07\x01\0\0\0\0\
        \x01m\x08\x0f\0\0\0\x04\x01\0\0\0k\x02\x01\0\0\0\0\0\0\0";
    let in_front = b"\x02\x03top\0\0\0\0\x01\x05topic\x05topic\0\0\0\0\0";
    let exchange_1 = [&b"\x01\x05\x05topic"[..], table, b"\0\0\0\0", in_front].concat();
    let OwnedExchange { id, spec, arguments: now, types } =
        take_exchange(Name::from_static("x"), &exchange_1).unwrap();
    assert_eq!(id, KeptId(0), "it has no number");
    assert_eq!(spec.type_name.as_bytes(), b"topic");
    assert_eq!((spec.durable, spec.auto_delete, spec.internal), (true, false, true));
    assert_eq!((&spec.arguments, &now), (&arguments, &Table::new()));
    let names: Vec<_> =
        types.iter().map(|it| (it.type_name.to_text(), it.in_front_of.as_ref().map(Name::to_text))).collect();
    let in_front_of = Some("topic".to_owned());
    assert_eq!(names, [("top".to_owned(), in_front_of), ("topic".to_owned(), None)]);
    let kept = KeptExchange { id, spec: &spec, arguments: &now, types: &types };
    assert_eq!(exchange(&kept), exchange_1, "and written alike");
    let kept = KeptExchange { id: KeptId(258), ..kept };
    let mut exchange_2 = [&exchange_1[..], b"\x02\x01\0\0\0\0\0\0"].concat();
    exchange_2[0] = 2;
    assert_eq!(exchange(&kept), exchange_2);
    let queue_1 = [&b"\x01\x06\x01q"[..], table].concat();
    let read = take_queue(&queue_1).unwrap();
    assert_eq!(
        (read.name.as_bytes(), read.durable, read.exclusive, read.auto_delete),
        (&b"q"[..], false, true, true)
    );
    assert_eq!(read.arguments, arguments);
    assert_eq!(queue(&read), queue_1);
    let binding_1 = [&b"\x01\x09\0\0\0\0\0\0\0"[..], table].concat();
    assert_eq!(take_binding(&binding_1).unwrap(), (9, arguments.clone()));
    assert_eq!(binding(9, &arguments), binding_1);
}
