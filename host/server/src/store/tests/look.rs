use super::*;
use crate::data_folder::DataFolder;
use crate::store::look::StoreLook;
use std::path::{Path, PathBuf};

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
        group.enqueue(&message(&[number as u8; 500]), None, Noted::default(), &[target(queue, number)]);
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
    let stat = look.stat().unwrap();
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
    let what = &check.problems[0].what;
    assert!(
        what.starts_with("message 7 of queue 'orders' of virtual host '/' cannot be read: the "),
        "{what}"
    );
    assert!(what.contains(" of segment-"), "{what}");
    assert!(check.problems[0].advice.contains("publish it again"));
}

/// Of a store that was closed: the files of its checkpoints, the older first.
fn checkpoints(life: &Life) -> Vec<PathBuf> {
    let folder = life.folder.path().join(FOLDER);
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("checkpoint-")).collect();
    files.sort();
    files
}

fn turn_over(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_store_that_does_not_serve_says_why_and_goes_on_once_somebody_says_so() {
    let (mut life, queue) = filled();
    checkpoints(&life).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    // The second batch declares a queue.
    let folder = life.folder.path().join(FOLDER);
    turn_over(&folder.join("segment-0000000000000000"), 2 * 4096 + 60);
    let error = format!("{:#}", DiskStore::open_at(&folder, config(), now_ms).err().unwrap());
    assert!(error.contains("no checkpoint is there, and of batches 2 to 2 something is missing"), "{error}");
    assert!(error.contains("`leveret store salvage` goes on"), "{error}");
    let look = StoreLook::open(life.folder.path()).unwrap();
    let check = look.check();
    let is_same = |refusal: &String| {
        let (what, advice) = refusal.split_once(". ").unwrap();
        error.contains(what) && error.ends_with(advice)
    };
    assert!(!check.sound && check.refusal.as_ref().is_some_and(is_same), "{:?}", check.refusal);
    let words = "lost are 1 groups of others; of batches up to 1 everything is there";
    assert!(check.lost.as_ref().is_some_and(|lost| lost.starts_with(words)), "{:?}", check.lost);
    assert_eq!(look.stat().unwrap().refusal, check.refusal);
    let (lost, set_aside) = look.salvage().unwrap().unwrap();
    assert_eq!((&lost, set_aside.len()), (&check.lost, 0));
    assert!(StoreLook::open(life.folder.path()).unwrap().salvage().unwrap().is_none(), "now it serves");
    life.open(now_ms);
    assert!(life.store().report().verdict.is_sound());
    assert_eq!(life.store().kept(queue).messages, 6);
}

#[test]
fn a_damaged_checkpoint_that_is_not_needed_is_told_and_set_aside() {
    let (mut life, queue) = filled();
    let [older, _] = &checkpoints(&life)[..] else { panic!("two are there") };
    turn_over(older, 20);
    let look = StoreLook::open(life.folder.path()).unwrap();
    let (check, stat) = (look.check(), look.stat().unwrap());
    assert_eq!((check.sound, check.problem_count, &check.refusal, &check.lost), (false, 1, &None, &None));
    let seen: Vec<_> = stat.checkpoints.iter().map(|seen| (seen.readable, seen.used)).collect();
    assert_eq!(seen, [(false, false), (true, true)]);
    drop(look);
    life.open(now_ms);
    let report = life.store().report();
    assert_eq!((report.problem_count, report.verdict.checkpoints_unreadable, report.clean), (1, 1, true));
    assert_eq!(life.store().kept(queue).messages, 6);
    let name = older.file_name().unwrap().to_str().unwrap();
    assert_eq!(report.set_aside, [format!("set-aside.{name}")]);
}
