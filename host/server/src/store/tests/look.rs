use super::*;
use crate::data_folder::DataFolder;
use crate::store::look::StoreLook;
use std::path::PathBuf;

/// A store that was closed, with a bit of everything.
fn filled() -> (Life, KeptId) {
    let mut life = Life::begin();
    let store = life.store();
    let queue = declare(store, "orders");
    declare(store, "empty");
    let mut group = store.group();
    group
        .topology(&name("/"), TopologyChange::Declared(Topology::Exchange(as_declared(&exchange_spec("x")))));
    for number in 3..10 {
        group.enqueue(&message(&[number as u8; 500]), None, false, &[target(queue, number)]);
    }
    let set = StateChange::Set { key: Arc::from(*b"k"), value: Arc::from(*b"v"), end_ms: None };
    group.change(&[Change { holder: state::holder("x", 1), change: set }]);
    commit(&mut *group, Durability::Always).unwrap();
    store.settled(queue, &[Ranges { first: 3, count: 1 }]);
    life.store.take().unwrap().close();
    (life, queue)
}

#[test]
fn what_a_store_has_is_told_by_name_and_nothing_is_changed() {
    let (mut life, queue) = filled();
    let files = |life: &Life| {
        let files =
            std::fs::read_dir(life.folder.path().join(FOLDER)).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<(PathBuf, Vec<u8>)> =
            files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = files(&life);
    let look = StoreLook::open(life.folder.path()).unwrap();
    let stat = look.stat();
    assert_eq!((stat.clean, stat.messages, stat.problems, stat.vhosts.len()), (true, 6, 0, 1));
    let vhost = &stat.vhosts[0];
    assert_eq!((vhost.name.as_str(), vhost.exchanges, vhost.bindings, vhost.held), ("/", 1, 0, 0));
    let queues: Vec<_> =
        vhost.queues.iter().map(|it| (it.name.as_str(), it.messages, it.first, it.next)).collect();
    assert_eq!(queues, [("orders", 6, 4, 10), ("empty", 0, 0, 0)]);
    assert_eq!(vhost.queues[0].id, queue.0);
    let kept = &stat.kept[0];
    assert_eq!((kept.exchange.as_str(), kept.layer, kept.values, kept.messages), ("x", 1, 1, 0));
    assert!(stat.unnamed.is_empty());
    let check = look.check();
    assert_eq!((check.sound, check.messages_read, check.problem_count), (true, 6, 0));
    // As long as somebody looks, no broker may begin.
    assert!(DataFolder::take(life.folder.path()).is_err());
    drop(look);
    assert!(before == files(&life), "a look changes nothing");
    life.open(now_ms);
    assert_eq!(life.store().kept(queue).messages, 6);
}

#[test]
fn a_broker_that_runs_and_a_folder_without_a_store_are_told() {
    let (life, _) = filled();
    let broker = DataFolder::take(life.folder.path()).unwrap();
    let error = format!("{:#}", StoreLook::open(life.folder.path()).err().unwrap());
    assert!(error.contains("while no broker uses it") && error.contains("process"), "{error}");
    drop(broker);
    let nothing = ScratchDirectory::new("nothing");
    let error = StoreLook::open(nothing.path()).err().unwrap().to_string();
    assert!(error.contains("there is no store in"), "{error}");
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0, "and none is made");
}

#[test]
fn what_is_damaged_is_told_by_name() {
    let (life, _) = filled();
    // A bit of the body of message 7 turns over.
    let folder = life.folder.path().join(FOLDER);
    let mut damaged = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(500).position(|window| window == [7; 500]) {
            bytes[at + 250] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    let check = StoreLook::open(life.folder.path()).unwrap().check();
    assert_eq!((check.sound, check.messages_read, check.problem_count), (false, 5, 1));
    assert_eq!(check.problems[0].what, "message 7 of queue 'orders' of virtual host '/' cannot be read");
    assert!(check.problems[0].advice.contains("publish it again"));
}
