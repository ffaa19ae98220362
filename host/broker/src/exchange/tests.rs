use super::*;
use crate::{
    MemoryAccount,
    queue::{QueueId, QueueSpec},
};

fn exchange() -> Exchange {
    let spec = ExchangeSpec {
        name: Name::from_static("x"),
        type_name: Name::from_static("direct"),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    Exchange::new(ExchangeId(1), Name::from_static("/"), spec)
}

fn queue(id: u64) -> Destination {
    let account = Arc::new(MemoryAccount::new(1));
    let later = Arc::new(crate::later::Later::new(&account, Arc::new(crate::store::Volatile)));
    let charged = (account, Arc::new(crate::dead_letter::Deaths::new(later)));
    let spec = QueueSpec { name: Name::from_static("q"), ..QueueSpec::default() };
    let vhost = Name::from_static("/");
    Destination::Queue(Arc::new(Queue::new(QueueId(id), vhost, spec, None, charged, (None, None))))
}

fn bind(exchange: &Exchange, to: &Destination, key: &'static str, arguments: Table) -> BindingId {
    let binding = exchange.prepare(to.clone(), Name::from_static(key), arguments);
    let id = binding.id;
    exchange.commit(binding);
    id
}

#[test]
fn changes_are_net_and_in_order() {
    let (x, q) = (exchange(), queue(1));
    let before = bind(&x, &q, "before", Table::new());
    let since = x.generation();
    let a = bind(&x, &q, "a", Table::new());
    let b = bind(&x, &q, "b", Table::new());
    assert!(x.remove(before).is_some() && x.remove(a).is_some() && x.remove(a).is_none());
    let again = bind(&x, &q, "a", Table::new());
    assert_ne!(a, again, "the slot is used again, the id is not");
    x.type_changed();
    let changes = x.changes_since(since).unwrap();
    let bound: Vec<_> = changes.bound.iter().map(|binding| binding.id).collect();
    assert_eq!(
        (bound, changes.unbound, changes.generation),
        (Vec::from([b, again]), Vec::from([before]), x.generation())
    );
    let none = x.changes_since(x.generation()).unwrap();
    assert!(none.bound.is_empty() && none.unbound.is_empty());
}

#[test]
fn who_lags_too_far_is_told() {
    let (x, q) = (exchange(), queue(1));
    for _ in 0..CHANGES_MAX / 2 {
        let id = bind(&x, &q, "k", Table::new());
        x.remove(id);
    }
    let changes = x.changes_since(Generation(0)).unwrap();
    assert!(changes.bound.is_empty() && changes.unbound.is_empty());
    x.type_changed();
    assert_eq!(x.changes_since(Generation(0)).map(|_| ()), Err(Lagging));
    assert!(x.changes_since(Generation(1)).is_ok());
}

#[test]
fn bindings_are_found_by_all_that_they_are() {
    let (x, q, other) = (exchange(), queue(1), queue(2));
    let table = |a: i64, b: f64| -> Table {
        let fields = [(Name::from_static("a"), Value::Integer(a)), (Name::from_static("b"), Value::Real(b))];
        fields.into_iter().collect()
    };
    let plain = bind(&x, &q, "k", Table::new());
    let one = bind(&x, &q, "k", table(1, 0.0));
    let two = bind(&x, &q, "k", table(2, 0.0));
    let find = |to: &Destination, key: &[u8], table: &Table| x.find(to, key, table).map(|binding| binding.id);
    assert_eq!(find(&q, b"k", &Table::new()), Some(plain));
    assert_eq!(find(&q, b"k", &table(2, -0.0)), Some(two), "both zeros are equal");
    let turned: Table =
        [(Name::from_static("b"), Value::Real(0.0)), (Name::from_static("a"), Value::Integer(1))]
            .into_iter()
            .collect();
    assert_eq!(find(&q, b"k", &turned), Some(one), "the order of arguments does not matter");
    assert_eq!(find(&q, b"l", &Table::new()), None);
    assert_eq!(find(&other, b"k", &Table::new()), None, "of the same name, another queue");
    let (set, dead) = x.resolve(&mut [two, one, BindingId(99), plain].into_iter());
    assert_eq!((set.targets().queues.len(), dead), (1, 1));
}

#[test]
fn ids_of_bindings_are_exact_as_floats() {
    for uses in [0, 1, BindingId::USES_MAX] {
        let id = BindingId::new(0xffff_fffe, uses);
        assert!(id.0 < 1 << 53 && id.slot() == 0xffff_fffe, "{uses}");
    }
    assert_ne!(BindingId::new(7, 0), BindingId::new(7, BindingId::USES_MAX));
}

#[test]
fn a_slot_whose_ids_are_used_up_is_not_used_again() {
    let (x, q) = (exchange(), queue(1));
    let first = bind(&x, &q, "k", Table::new());
    x.remove(first);
    x.bindings.write().slots[0].uses = BindingId::USES_MAX - 1;
    let mut ids = std::collections::HashSet::from([first]);
    for round in 0..10 {
        let id = bind(&x, &q, "k", Table::new());
        assert!(ids.insert(id), "round {round}: {id:?} comes again");
        let slots: Vec<usize> = ids.iter().map(|id| id.slot()).collect();
        assert_eq!(slots.contains(&1), round >= 2, "the first slot had two ids left");
        assert_eq!(x.resolve(&mut ids.iter().copied()).1, ids.len() - 1, "only the last is alive");
        assert!(x.remove(id).is_some());
    }
    assert_eq!((x.binding_count(), x.bindings.read().slots.len()), (0, 2));
}
