use super::*;
use crate::store::message::form_of;
use leveret_amqp091::form::HIDING;
use leveret_broker::{port::Layer, store::HeldAs};
use leveret_model::Form;

/// It died.
const DEAD: Noted = Noted { dead_lettered: true, came_ms: 1_700_000_000_000 };

fn bodies(store: &DiskStore, queue: KeptId) -> Vec<(u64, Vec<u8>)> {
    let all = read_all(store, queue, 100);
    all.into_iter().filter_map(|(number, body, ..)| Some((number, body?))).collect()
}

#[test]
fn messages_come_out_as_they_went_in_after_a_stop_and_after_a_crash() {
    let mut life = Life::begin();
    let [a, b] = ["a", "b"].map(|queue| declare(life.store(), queue));
    let exchange = name("delayed");
    let mut group = life.store().group();
    assert!(group.is_empty());
    group.enqueue(&message(b"one"), None, Noted::default(), &[target(a, 5), target(b, 1)]);
    group.enqueue(&message(b"dead"), None, DEAD, &[target(a, 7)]);
    let held = HeldAs { due_ms: 99, exchange: &exchange, resume: Layer(1), hops: 3 };
    group.hold(&message(b"later"), false, held, target(b, 2));
    assert!(!group.is_empty());
    assert_eq!(commit(&mut *group, Durability::Always), Ok(()));
    life.store().progressed(&[], &[(a, Ranges { first: 5, count: 1 })], false);
    safe(life.store());
    let later = Some((99, "delayed".to_owned(), 1, 3));
    let expected = |again| {
        let a = vec![
            (5, Some(b"one".to_vec()), true, 1, false, None),
            (7, Some(b"dead".to_vec()), again, 0, true, None),
        ];
        let b = vec![
            (1, Some(b"one".to_vec()), again, 0, false, None),
            (2, Some(b"later".to_vec()), again, 0, false, later.clone()),
        ];
        (a, b)
    };
    let found = |store: &DiskStore| (read_all(store, a, 1), read_all(store, b, 1 << 20));
    assert_eq!(found(life.store()), expected(false));
    life.restart();
    assert_eq!(found(life.store()), expected(false));
    life.crash();
    assert_eq!(found(life.store()), expected(true), "they may have been delivered before");
    assert_eq!(life.store().kept(a), Kept { messages: 2, first: 5, next: 8 });
    assert_eq!([life.store().count(a, 0..7), life.store().count(a, 5..8)], [1, 2]);
    assert_eq!(life.store().kept(KeptId(1 << 40)), Kept::default());
}

/// The number of their form is for ever.
#[test]
fn keys_that_receivers_do_not_see_are_kept() {
    let mut life = Life::begin();
    let queue = declare(life.store(), "q");
    let properties = b"\x20\0\0\0\0\x0f\x03BCCA\0\0\0\x06S\0\0\0\x01k";
    let hiding = MessageView { form: HIDING, properties, ..message(b"body") };
    let mut group = life.store().group();
    group.enqueue(&hiding, None, Noted::default(), &[target(queue, 0)]);
    commit(&mut *group, Durability::Always).unwrap();
    drop(group);
    life.crash();
    let mut found = Vec::new();
    life.store().read(queue, 0, 1000, &mut |stored| {
        let message = stored.message.unwrap();
        let more = message.more_keys().unwrap().unwrap();
        found.push((message.form.protocol(), message.properties.to_vec(), more.keys, more.hides));
    });
    assert_eq!(found, [(HIDING.protocol(), properties.to_vec(), vec![Box::from(&b"k"[..])], true)]);
    assert_eq!(form_of(3).map(Form::protocol), Some(HIDING.protocol()));
}

#[test]
fn what_is_settled_is_gone_with_what_came_in_its_place() {
    let mut life = Life::begin();
    let [work, dead] = ["work", "dead"].map(|queue| declare(life.store(), queue));
    let mut group = life.store().group();
    for number in 0..10 {
        group.enqueue(&message(&[number as u8]), None, Noted::default(), &[target(work, number)]);
    }
    commit(&mut *group, Durability::Never).unwrap();
    group.settle(work, &[Ranges { first: 0, count: 2 }, Ranges { first: 5, count: 1 }]);
    group.enqueue(&message(&[0]), None, DEAD, &[target(dead, 0)]);
    commit(&mut *group, Durability::Interval(core::cmp::Reverse(5))).unwrap();
    life.store().settled(work, &[Ranges { first: 9, count: 1 }]);
    drop(group);
    life.crash();
    let numbers: Vec<_> = bodies(life.store(), work).iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 3, 4, 6, 7, 8]);
    assert_eq!(bodies(life.store(), dead), [(0, vec![0])]);
}

#[test]
fn large_bodies_are_files_of_their_own_unless_the_group_keeps_its_order() {
    let mut life = Life::begin();
    let queue = declare(life.store(), "q");
    let body: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
    let extents = |life: &Life| {
        let files = std::fs::read_dir(life.folder.path().join(FOLDER)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("extent")).count()
    };
    let mut group = life.store().group();
    group.enqueue(&message(&body), None, Noted::default(), &[target(queue, 0)]);
    group.enqueue(&message(b"small"), None, Noted::default(), &[target(queue, 1)]);
    commit(&mut *group, Durability::Always).unwrap();
    assert_eq!(extents(&life), 1);
    group.enqueue(&message(&body), None, Noted::default(), &[target(queue, 2)]);
    let delete = StateChange::Delete { key: Arc::from(*b"k") };
    group.change(&[Change { holder: state::holder("x", 0), change: delete }]);
    commit(&mut *group, Durability::Always).unwrap();
    assert_eq!(extents(&life), 1);
    drop(group);
    life.crash();
    let expected = vec![(0, body.clone()), (1, b"small".to_vec()), (2, body)];
    assert_eq!(bodies(life.store(), queue), expected);
    assert_eq!(life.store().count(queue, 0..9), 3);
    // And it is told what is safe behind one that takes long.
    let mut group = life.store().group();
    group.enqueue(&message(&expected[0].1), None, Noted::default(), &[target(queue, 3)]);
    group.submit(Durability::Never, None);
    safe(life.store());
    assert_eq!(life.store().count(queue, 3..4), 1);
}

#[test]
fn a_batch_longer_than_a_group_is_there_as_a_whole_once_it_is_told_of() {
    let mut life = Life::begin();
    let [a, b] = ["a", "b"].map(|queue| declare(life.store(), queue));
    let mut group = life.store().group();
    for number in 0..30_u64 {
        group.enqueue(&message(&vec![number as u8; 100_000]), None, Noted::default(), &[target(a, number)]);
    }
    // Large ones among them, which are written apart and later.
    for number in 30..33_u64 {
        group.enqueue(&message(&vec![number as u8; 400_000]), None, Noted::default(), &[target(a, number)]);
    }
    group.settle(b, &[Ranges { first: 0, count: 1 }]);
    commit(&mut *group, Durability::Always).unwrap();
    let found = bodies(life.store(), a);
    assert_eq!(found.len(), 33);
    drop(group);
    life.crash();
    assert_eq!(bodies(life.store(), a), found);
    assert!(found.iter().all(|(number, body)| body.iter().all(|byte| u64::from(*byte) == *number)));

    // The same in a group that keeps its order.
    let mut group = life.store().group();
    for number in 0..4_u64 {
        group.enqueue(&message(&vec![1; 400_000]), None, Noted::default(), &[target(b, number + 1)]);
    }
    let set = StateChange::Set { key: Arc::from(*b"k"), value: Arc::from(*b"v"), end_ms: None };
    group.change(&[Change { holder: state::holder("x", 0), change: set }]);
    commit(&mut *group, Durability::Always).unwrap();
    assert_eq!(life.store().count(b, 0..9), 4);
    assert_eq!(life.store().load(&state::holder("x", 0)).unwrap().len(), 1);
}

#[test]
fn more_queues_than_an_operation_has_room_for_get_the_message() {
    let mut life = Life::begin();
    let config = Config { own_segment_bytes: 2 << 20, segment_bytes: 4 << 20, ..config() };
    life.store = None;
    life.config = config;
    life.open(now_ms);
    let queues: Vec<KeptId> = (0..40_000).map(|_| life.store().next_id()).collect();
    let spec = queue_spec("q");
    let mut group = life.store().group();
    for queue in &queues {
        group.topology(&name("/"), TopologyChange::Declared(Topology::Queue(*queue, &spec)));
    }
    commit(&mut *group, Durability::Never).unwrap();
    let targets: Vec<Target> = queues.iter().map(|queue| target(*queue, 3)).collect();
    let body = vec![7; 300_000];
    group.enqueue(&message(b"to all"), None, Noted::default(), &targets);
    group.enqueue(&message(&body), None, Noted::default(), &[&targets[..], &[target(queues[0], 4)]].concat());
    commit(&mut *group, Durability::Never).unwrap();
    let counted: u64 = queues.iter().map(|queue| life.store().count(*queue, 0..9)).sum();
    assert_eq!(counted, 40_001);
    for at in [queues[1], queues[39_999]] {
        assert_eq!(bodies(life.store(), at), [(3, b"to all".to_vec())]);
    }
}

#[test]
fn once_it_is_closed_everybody_is_told_and_nothing_is_taken() {
    let life = Life::begin();
    let store = life.store().clone();
    let queue = declare(&store, "q");
    assert_eq!(store.admit(), Ok(()));
    store.close();
    assert!(store.admit().unwrap_err().to_string().contains("the broker stops"));
    let mut group = store.group();
    group.enqueue(&message(b"late"), None, Noted::default(), &[target(queue, 0)]);
    assert!(commit(&mut *group, Durability::Always).unwrap_err().to_string().contains("closed"));
    let waiting = Arc::new(Waiting::default());
    let to: Arc<dyn Written> = waiting.clone();
    store.when_safe(&to, 3);
    assert!(waiting.wait(3).is_err());
    store.settled(queue, &[Ranges { first: 0, count: 1 }]);
    let clear = Change { holder: state::holder("x", 0), change: StateChange::Clear };
    assert!(store.append(&[clear]).is_err());
}

#[test]
fn a_message_of_an_unknown_form_is_not_taken_and_that_is_told() {
    struct Foreign;
    impl leveret_model::Form for Foreign {
        fn protocol(&self) -> &'static str {
            "foreign"
        }
        fn put_headers(&self, _: &[u8], _: &leveret_model::HeaderSelection, _: &mut Vec<u8>) {}
        fn put_property(&self, _: &[u8], _: leveret_model::Property, _: &mut Vec<u8>) {}
        fn is_persistent(&self, _: &[u8]) -> bool {
            true
        }
        fn empty(&self) -> &'static [u8] {
            b""
        }
        fn patch(
            &self,
            _: &[u8],
            _: &leveret_model::Patch,
            _: &mut Vec<u8>,
        ) -> Result<(), leveret_model::PatchError> {
            Ok(())
        }
    }
    let life = Life::begin();
    let queue = declare(life.store(), "q");
    let mut group = life.store().group();
    group.enqueue(&message(b"known"), None, Noted::default(), &[target(queue, 0)]);
    group.enqueue(
        &MessageView { form: &Foreign, ..message(b"m") },
        None,
        Noted::default(),
        &[target(queue, 1)],
    );
    assert!(commit(&mut *group, Durability::Never).unwrap_err().to_string().contains("foreign"));
    safe(life.store());
    assert_eq!(life.store().kept(queue).messages, 0, "all of a group or nothing");
}
