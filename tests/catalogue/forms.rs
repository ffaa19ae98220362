//! Versions that share their state and one that migrates it, gone to and fro between. The store and the plugin are the
//! real ones: its value is in the form of version 1 or of version 2, and a version counts on from its own form alone.

use crate::{disk::Disk, life::Life};
use leveret_plugin::{
    Scope,
    registry::{GoTo, PinTo, StateChange},
};
use std::sync::Arc;

/// Two versions in the form of the first.
const FIRST: &[u8] = &[0, 3, 1, b'n', 1];
const SECOND: &[u8] = &[0, 3, 1, b'n', 2];
/// One that migrates again.
const LAST: &[u8] = &[0, 3, 1, b'n', 3];

impl Life {
    /// Goes to the version of this digest. Gives what became of the state, or why not.
    fn go(&self, digits: &str) -> Result<StateChange, String> {
        let to = GoTo::Named(String::from(digits));
        let went = self.host.registry().go_to(&Scope::Global, "stateful", &to);
        went.map(|report| report.state).map_err(|error| error.to_string())
    }

    /// The digests of what is kept, the newest first.
    fn kept(&self) -> Vec<String> {
        let versions = self.host.registry().versions(&Scope::Global, "stateful");
        versions.iter().map(|version| version.digest.to_hex()).collect()
    }
}

/// A broker in which a first and a second version counted two and one, and a third that migrates counted one more.
/// Gives the digests of the three.
fn migrated(disk: &Arc<Disk>) -> (Life, [String; 3]) {
    let mut life = Life::begin(disk);
    life.deploy_file(1, FIRST).unwrap();
    life.declare("x-stateful", true, &[]).unwrap();
    life.bind("q", "k");
    life.count_more(2);
    life.deploy_file(1, SECOND).unwrap();
    life.count_more(1);
    life.deploy(2).unwrap();
    life.count_more(1);
    assert_eq!(life.counted(), 4);
    let mut digests = life.kept();
    digests.reverse();
    (life, digests.try_into().unwrap())
}

/// Migrated, restored, emptied.
fn counts(change: StateChange) -> (usize, usize, usize) {
    (change.migrated, change.restored, change.emptied)
}

#[test]
fn a_version_that_shares_what_was_migrated_finds_it_again() {
    for restart in [false, true] {
        let disk = Disk::new();
        let (mut life, [first, _, third]) = migrated(&disk);
        let again = |life: Life| {
            if !restart {
                return life;
            }
            drop(life);
            let mut life = Life::begin(&disk);
            // The file lies there; it is left alone where it was gone back from.
            let _ = life.deploy(2);
            life.bind("q", "k");
            life
        };
        life = again(life);
        let went = life.go(&first).unwrap();
        // The count, and what the version notes in memory.
        assert_eq!((counts(went), went.discarded_entries), ((0, 1, 0), if restart { 1 } else { 2 }));
        assert_eq!(life.counted(), 3, "what the second version left, which the first one reads");
        life.count_more(1);
        life = again(life);
        assert_eq!(life.counted(), 4);
        assert_eq!(counts(life.go(&third).unwrap()), (1, 0, 0));
        life.count_more(1);
        assert_eq!(life.counted(), 5);
    }
}

#[test]
fn it_does_not_matter_which_of_those_that_share_it_served_before() {
    let disk = Disk::new();
    let (mut life, [first, second, _]) = migrated(&disk);
    for (to, expected) in [(&second, 3), (&first, 4), (&second, 5)] {
        life.go(to).unwrap();
        assert_eq!(life.counted(), expected);
        life.count_more(1);
    }
    // Forward, and at once to the one further back.
    let newest = life.host.registry().go_to(&Scope::Global, "stateful", &GoTo::Newest).unwrap();
    assert_eq!(counts(newest.state), (1, 0, 0));
    life.go(&first).unwrap();
    assert_eq!(life.counted(), 6);
    // One that was gone back to and is then followed by another migration.
    let mut third = Life::begin(&Disk::new());
    third.deploy_file(1, FIRST).unwrap();
    third.declare("x-stateful", true, &[]).unwrap();
    third.bind("q", "k");
    third.deploy_file(1, SECOND).unwrap();
    third.count_more(2);
    third.roll_back();
    third.count_more(1);
    third.deploy(2).unwrap();
    third.count_more(1);
    third.go(&second).unwrap();
    assert_eq!(third.counted(), 3);
}

#[test]
fn what_a_version_does_not_read_is_not_given_to_it() {
    let disk = Disk::new();
    let (mut life, [_, second, third]) = migrated(&disk);
    life.deploy_file(2, LAST).unwrap();
    let exchange = life.vhost.exchange(b"x").unwrap();
    let pinned = life.host.registry().pin(&exchange, &PinTo::Named(second.clone()));
    assert!(pinned.unwrap_err().to_string().contains("its state was migrated"));
    // The older file once more is no way back, for nobody said that anything is to be discarded.
    let refused = life.deploy_file(1, SECOND).unwrap_err();
    assert!(refused.contains("has state in the form of version 2"), "{refused}");
    assert_eq!(life.counted(), 4);
    life.go(&second).unwrap();
    assert_eq!(life.counted(), 3);
    life.go(&third).unwrap();
    assert_eq!(life.counted(), 3);
}

#[test]
fn an_exchange_that_began_later_has_nothing_again_and_that_is_said() {
    let disk = Disk::new();
    let mut life = Life::begin(&disk);
    life.deploy_file(1, FIRST).unwrap();
    life.deploy_file(1, SECOND).unwrap();
    life.deploy(2).unwrap();
    life.declare("x-stateful", true, &[]).unwrap();
    life.bind("q", "k");
    life.count_more(2);
    let first = life.kept().pop().unwrap();
    let went = life.go(&first).unwrap();
    assert_eq!((counts(went), went.discarded_entries, life.counted()), ((0, 0, 1), 1, 0));
}
