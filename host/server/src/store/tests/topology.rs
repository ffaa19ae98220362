use super::*;
use leveret_broker::store::BindingSpec;

/// What there is, in words, in the order in which it is handed over.
fn told(store: &DiskStore, vhost: &str) -> Vec<String> {
    let mut told = Vec::new();
    store.topology(&name(vhost), &mut |part| {
        told.push(match part {
            Topology::Exchange(KeptExchange { spec, arguments, types, .. }) => {
                assert!(types.is_empty());
                format!("exchange {} {} {:?}", spec.name, spec.type_name, arguments)
            }
            Topology::Queue(id, spec) => format!("queue {} {} {:?}", id.0, spec.name, spec.arguments),
            Topology::Binding(spec) => {
                let BindingSpec { source, to_queue, destination, routing_key, arguments } = spec;
                let kind = if to_queue { "queue" } else { "exchange" };
                format!("{source} to {kind} {destination} by {routing_key} {}", arguments.len())
            }
            Topology::Holds(id) => format!("holds {}", id.0),
            Topology::Lane(_) => panic!("a lane is its queue's"),
        });
        // Whoever gets it may ask the store.
        let _ = store.kept(KeptId(64));
    });
    told
}

struct Ends<'a>(&'a str, bool, &'a str, &'a str, Table);

fn with<'a>(names: &'a [Name; 3], to_queue: bool, arguments: &'a Table) -> BindingSpec<'a> {
    let [source, destination, routing_key] = names;
    BindingSpec { source, to_queue, destination, routing_key, arguments }
}

fn change(store: &DiskStore, vhost: &str, change: TopologyChange<'_>) {
    let mut group = store.group();
    group.topology(&name(vhost), change);
    commit(&mut *group, Durability::Never).unwrap();
}

fn bind(store: &DiskStore, vhost: &str, Ends(source, to_queue, to, key, arguments): &Ends<'_>, is: bool) {
    let names = [source, to, key].map(|text| name(text));
    let spec = with(&names, *to_queue, arguments);
    let declared = TopologyChange::Declared(Topology::Binding(spec));
    change(store, vhost, if is { declared } else { TopologyChange::Unbound(spec) });
}

fn bindings(store: &DiskStore) -> Vec<String> {
    told(store, "/").into_iter().filter(|told| told.contains(" to ")).collect()
}

#[test]
fn it_is_handed_over_in_order_and_each_virtual_host_has_its_own() {
    let mut life = Life::begin();
    let store = life.store();
    let args = table(&[("x", Value::Real(-0.0)), ("y", Value::Text("z".into()))]);
    let with_args = ExchangeSpec { arguments: args.clone(), ..exchange_spec("b") };
    let holds = store.next_id();
    change(store, "/", TopologyChange::Declared(Topology::Holds(holds)));
    let ids = ["second", "first"].map(|queue| declare(store, queue).0);
    bind(store, "/", &Ends("b", true, "second", "k", Table::new()), true);
    bind(store, "/", &Ends("b", false, "a", "", Table::new()), true);
    for spec in [&with_args, &exchange_spec("a")] {
        change(store, "/", TopologyChange::Declared(Topology::Exchange(as_declared(spec))));
    }
    change(store, "/other", TopologyChange::Declared(Topology::Exchange(as_declared(&exchange_spec("a")))));
    let expected = vec![
        "exchange a topic Table([])".to_owned(),
        format!("exchange b topic {args:?}"),
        format!("queue {} second Table([])", ids[0]),
        format!("queue {} first Table([])", ids[1]),
        "b to queue second by k 0".to_owned(),
        "b to exchange a by  0".to_owned(),
        format!("holds {}", holds.0),
    ];
    assert_eq!(told(store, "/"), expected);
    life.restart();
    assert_eq!(told(life.store(), "/"), expected);
    assert_eq!(told(life.store(), "/other"), ["exchange a topic Table([])"]);
    assert_eq!(told(life.store(), ""), Vec::<String>::new());
    let all = life.store().vhosts();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [name("/"), name("/other")]);
    // Declared again with other arguments it has those.
    change(life.store(), "/", TopologyChange::Declared(Topology::Exchange(as_declared(&exchange_spec("b")))));
    assert_eq!(told(life.store(), "/")[1], "exchange b topic Table([])");
}

#[test]
fn a_binding_goes_by_all_that_makes_it_and_by_equal_arguments() {
    let mut life = Life::begin();
    let arguments = |real| table(&[("r", Value::Real(real)), ("l", Value::List(vec![Value::Real(real)]))]);
    let reversed = |real| table(&[("l", Value::List(vec![Value::Real(real)])), ("r", Value::Real(real))]);
    let ends = [
        Ends("x", true, "q", "k", Table::new()),
        Ends("x", false, "q", "k", Table::new()),
        Ends("x", true, "q", "other", Table::new()),
        Ends("x", true, "q", "k", arguments(0.0)),
        Ends("x", true, "q", "k", arguments(f64::NAN)),
        Ends("xq", true, "", "k", Table::new()),
    ];
    ends.iter().for_each(|ends| bind(life.store(), "/", ends, true));
    assert_eq!(bindings(life.store()).len(), 6);
    life.restart();
    bind(life.store(), "/", &Ends("x", true, "q", "k", reversed(-0.0)), false);
    let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
    bind(life.store(), "/", &Ends("x", true, "q", "k", reversed(other_nan)), false);
    bind(life.store(), "/", &Ends("x", true, "q", "k", arguments(1.0)), false);
    let expected =
        ["x to queue q by k 0", "x to exchange q by k 0", "x to queue q by other 0", "xq to queue  by k 0"];
    assert_eq!(bindings(life.store()), expected);
    life.crash();
    assert_eq!(bindings(life.store()), expected);
}

#[test]
fn what_is_gone_takes_its_bindings_both_ways_and_its_messages() {
    for restarts in [false, true] {
        let mut life = Life::begin();
        let store = life.store();
        let queue = declare(store, "q");
        let chain =
            [("x", false, "y"), ("y", false, "x"), ("y", false, "y"), ("xx", false, "y"), ("xx", true, "x")];
        for (source, to_queue, to) in
            chain.into_iter().chain([("y", true, "q"), ("xx", true, "q"), ("y", true, "y")])
        {
            bind(store, "/", &Ends(source, to_queue, to, "k", Table::new()), true);
        }
        let mut group = store.group();
        group.enqueue(&message(b"m"), None, Noted::default(), &[target(queue, 0)]);
        commit(&mut *group, Durability::Never).unwrap();
        drop(group);
        if restarts {
            life.restart();
        }
        change(life.store(), "/", TopologyChange::ExchangeGone(&name("x")));
        let expected = [
            "y to exchange y by k 0",
            "xx to exchange y by k 0",
            "xx to queue x by k 0",
            "y to queue q by k 0",
            "xx to queue q by k 0",
            "y to queue y by k 0",
        ];
        assert_eq!(bindings(life.store()), expected);
        // Another of that name was declared before the old one's end was told.
        let newer = declare(life.store(), "q");
        change(life.store(), "/", TopologyChange::QueueGone(queue, &name("q")));
        assert_eq!(bindings(life.store()), [&expected[..3], &expected[5..]].concat());
        life.crash();
        assert_eq!(bindings(life.store()), [&expected[..3], &expected[5..]].concat());
        assert_eq!(told(life.store(), "/")[0], format!("queue {} q Table([])", newer.0));
        assert_eq!(life.store().kept(queue), Kept::default());
        change(life.store(), "/", TopologyChange::ExchangeGone(&name("y")));
        assert_eq!(bindings(life.store()), ["xx to queue x by k 0"]);
    }
}

#[test]
fn no_number_comes_again_whatever_was_deleted() {
    let mut life = Life::begin();
    let mut last = 0;
    for round in 0..6 {
        // More than are set aside at once.
        let ids: Vec<u64> = (0..700).map(|_| life.store().next_id().0).collect();
        assert!(ids[0] > last && ids.is_sorted(), "{last} {ids:?}");
        last = ids[699];
        let queue = declare(life.store(), "q");
        assert!(queue.0 > last);
        last = queue.0;
        change(life.store(), "/", TopologyChange::QueueGone(queue, &name("q")));
        if round % 2 == 0 { life.restart() } else { life.crash() }
    }
}

#[test]
fn of_a_virtual_host_that_is_forgotten_nothing_stays() {
    let mut life = Life::begin();
    let mut queues = Vec::new();
    for (vhost, text) in [("/gone", "q"), ("/stays", "q")] {
        let (id, lane) = (life.store().next_id(), |id: KeptId| id.lane(7));
        let mut group = life.store().group();
        group.topology(&name(vhost), TopologyChange::Declared(Topology::Queue(id, &queue_spec(text))));
        group.topology(&name(vhost), TopologyChange::Declared(Topology::Lane(lane(id))));
        group.enqueue(&message(b"m"), None, Noted::default(), &[target(id, 1), target(lane(id), 1)]);
        group.added(lane(id), 1, &[], 3);
        commit(&mut *group, Durability::Always).unwrap();
        queues.extend([id, lane(id)]);
    }
    life.store().forget_vhost(&name("/gone"), Box::new(|_| {}));
    for _ in 0..2 {
        let store = life.store();
        safe(store);
        let counts: Vec<_> = queues.iter().map(|id| store.count(*id, 0..u64::MAX)).collect();
        assert_eq!(counts, [0, 0, 1, 1]);
        let there = store.shared.store.queues().into_iter().map(|(id, ..)| KeptId(id.0)).collect::<Vec<_>>();
        assert!(queues[2..].iter().all(|id| there.contains(id)), "{there:?}");
        assert!(queues[..2].iter().all(|id| !there.contains(id)), "{there:?}");
        let mut added = 0;
        store.shared.store.values_with(crate::store::spaces::ADDED, b"", |_, _, _| added += 1);
        assert_eq!(added, 1);
        life.crash();
    }
}
