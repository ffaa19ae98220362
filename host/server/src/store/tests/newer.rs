//! What a newer version of the broker keeps.

use super::*;
use crate::store::spaces::{EXCHANGES, QUEUES, VHOSTS};
use leveret_store::{Group, Space, Store, disk::real::RealDisk};

fn write(folder: &Path, space: Space, value: &[u8]) {
    let (store, _) = Store::open(Arc::new(RealDisk::open(folder).unwrap()), config()).unwrap();
    let mut group = Group::default();
    group.set(space, b"key", value, 0);
    store.submit(&mut group, Sync::Always, None).unwrap();
    store.close();
}

#[test]
fn a_store_with_values_of_a_later_version_is_not_served_and_says_what_to_do() {
    for (space, what, later) in
        [(EXCHANGES, "an exchange", 3), (QUEUES, "a queue", 2), (VHOSTS, "a virtual host", 2)]
    {
        let scratch = ScratchDirectory::new("store");
        let folder = scratch.path();
        write(folder, space, &[later, 1, 2, 3]);
        let refused = format!("{:#}", DiskStore::open_with(folder, config()).map(drop).unwrap_err());
        let says = format!("{what} is kept in version {later}");
        assert!(refused.contains(&says) && refused.contains("start that one again"), "{refused}");
        // It is there still, for whoever can read it.
        let again = format!("{:#}", DiskStore::open_with(folder, config()).map(drop).unwrap_err());
        assert_eq!(again, refused);
    }
}
