//! Messages for which memory has no room, with real files.

use super::*;
use leveret_amqp10::form::large::FAR;
use leveret_broker::port::Wake;

const PAGED: Paged<'_> = Paged {
    sequence: 3,
    message: MessageView {
        exchange: b"x",
        routing_key: b"key",
        form: FORM,
        properties: &[0, 0],
        body: b"body",
        publisher: None,
    },
    noted: Noted { dead_lettered: false, came_ms: 0 },
    redelivered: false,
    is_kept: false,
};

/// Writes a page, and waits until it can be read.
fn page(store: &DiskStore, messages: &[Paged<'_>]) -> KeptId {
    let page = store.page(&mut messages.iter().copied()).unwrap();
    safe(store);
    assert_eq!(store.count(page, 0..u64::MAX), messages.len() as u64);
    page
}

#[test]
fn a_page_comes_back_as_it_was_until_it_is_dropped_and_not_after_a_start() {
    let mut life = Life::begin();
    let noted = Noted { dead_lettered: true, came_ms: 7 };
    let wide = vec![b'w'; 900 * 1024];
    let messages = [
        PAGED,
        Paged { sequence: 4, redelivered: true, noted, ..PAGED },
        Paged { sequence: 9, is_kept: true, message: message(&wide), ..PAGED },
    ];
    let [first, second] = [0, 1].map(|_| page(life.store(), &messages));
    let mut seen = Vec::new();
    let next = life.store().read(first, 4, 1, &mut |stored| {
        seen.push((stored.sequence, stored.redelivered, stored.dead_lettered, stored.came_ms));
    });
    assert_eq!((seen, next), (vec![(4, true, true, 7)], Some(9)));
    life.store().read(first, 9, 1, &mut |stored| {
        assert!(stored.is_kept && !stored.redelivered);
        assert_eq!(stored.message.unwrap().body, wide);
    });
    life.store().drop_pages(&[first]);
    safe(life.store());
    assert_eq!([first, second].map(|page| life.store().count(page, 0..10)), [0, 3]);
    life.crash();
    safe(life.store());
    assert_eq!((life.store().count(second, 0..10), life.store().stat().messages), (0, 0));
}

/// Who publishes what is persistent is held back where the disk is behind: pages are not to be why.
#[test]
fn no_page_is_taken_while_a_quarter_of_what_may_wait_does() {
    // What rides waits for company that does not come, until something is to be safe.
    let config = Config { pending_bytes_max: 64 * 1024, ride_ms: 3_600_000, ..config() };
    let life = Life::begin_with(config);
    let (store, queue) = (life.store(), declare(life.store(), "q"));
    safe(store);
    assert!(store.takes_pages());
    let ranges: Vec<Ranges> = (0..2500).map(|number| Ranges { first: 2 * number, count: 1 }).collect();
    store.settled(queue, &ranges);
    assert_eq!((store.pressure(), store.takes_pages()), (None, false));
    assert_eq!(store.page(&mut [PAGED].into_iter()), None);
    safe(store);
    assert!(store.takes_pages());
    page(store, &[PAGED]);
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// A transient message whose body is in a file has that file for as long as it is in a page.
#[test]
fn a_body_in_a_file_stays_there_while_its_message_is_in_a_page() {
    let life = Life::begin();
    let writer = life.store().begin_body(Arc::new(Nobody)).unwrap();
    writer.put(&[7; 5000]);
    writer.end();
    let body = loop {
        match writer.outcome() {
            Some(outcome) => break outcome.unwrap(),
            None => std::thread::yield_now(),
        }
    };
    let extent = body.extent();
    let (number, file_bytes, check) = (extent.number, extent.bytes, extent.check);
    let stub = Stub { number, file_bytes, check, start: 10, end: 4000 };
    let encoded = stub.encode();
    let far = MessageView { form: FAR, properties: &[], ..message(&encoded) };
    let paged = page(life.store(), &[Paged { message: far, ..PAGED }]);
    drop((body, writer));
    safe(life.store());
    life.store().read(paged, 0, 1 << 20, &mut |stored| {
        assert_eq!(stored.message.unwrap().far(), Some(stub));
    });
    let mut read = Vec::new();
    life.store().open_body(&stub).unwrap().read(5000, &mut read).unwrap();
    assert_eq!(read, [7; 3990]);
    let files = || std::fs::read_dir(life.folder.path().join(FOLDER)).unwrap();
    let is_body = |name: std::io::Result<std::fs::DirEntry>| {
        name.unwrap().file_name().to_string_lossy().starts_with("extent")
    };
    assert!(files().any(is_body));
    life.store().drop_pages(&[paged]);
    while files().any(is_body) {
        safe(life.store());
    }
}
