use super::*;
use leveret_broker::port::Wake;

#[derive(Default)]
struct Woken(Mutex<u32>, Condvar);

impl Wake for Woken {
    fn wake(&self) {
        *self.0.lock() += 1;
        self.1.notify_all();
    }
}

#[test]
fn who_waits_is_woken_once_when_the_disk_has_caught_up() {
    // What rides waits for company that does not come, until something is to be safe.
    let config = Config { pending_bytes_max: 64 * 1024, ride_ms: 3_600_000, ..config() };
    let life = Life::begin_with(config);
    let store = life.store();
    let queue = declare(store, "q");
    let woken = Arc::new(Woken::default());
    let waker: Arc<dyn Wake> = woken.clone();
    assert_eq!(store.pressure(), None);
    assert!(!store.wake_when_relieved(&waker), "nothing to wait for");
    let ranges: Vec<Ranges> = (0..6000).map(|number| Ranges { first: 2 * number, count: 1 }).collect();
    store.settled(queue, &ranges);
    assert_eq!(store.pressure(), Some(Pressure::Behind));
    assert_eq!(store.admit(), Ok(()), "publishers are slowed down; what they sent is taken");
    for _ in 0..2 {
        assert!(store.wake_when_relieved(&waker));
    }
    assert_eq!(*woken.0.lock(), 0);
    safe(store);
    let mut count = woken.0.lock();
    woken.1.wait_while(&mut count, |count| *count < 2);
    drop(count);
    assert_eq!((store.pressure(), store.admit()), (None, Ok(())));
    assert!(!store.wake_when_relieved(&waker));
    store.close();
    assert_eq!(store.pressure(), None);
}

#[test]
fn each_virtual_host_has_its_own_durability() {
    let life = Life::begin();
    let rules = vec![
        (leveret_plugin::attachment::Pattern::new("fast.*"), Durability::Never),
        (leveret_plugin::attachment::Pattern::new("fast.not"), Durability::Always),
    ];
    let usual = Durability::Interval(core::cmp::Reverse(5));
    let store = life.store().of_vhost(VhostDurability { usual, rules });
    let of = |queue| store.durability_of(&name(queue));
    assert_eq!([of("fast.a"), of("fast.not"), of("slow")], [Durability::Never, Durability::Never, usual]);
    assert_eq!((store.durability(), life.store().durability()), (usual, Durability::Always));
}
