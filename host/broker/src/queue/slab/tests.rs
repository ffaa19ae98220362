//! Messages come in order, are forgotten once, and hold no more memory than they may.

use super::*;
use leveret_amqp091::FORM;

fn message(body: &[u8]) -> MessageView<'_> {
    MessageView { exchange: b"e", routing_key: b"k", form: FORM, properties: &[], body, publisher: None }
}

fn taken(store: &mut Store) -> Option<MessageRef> {
    match store.take() {
        Next::Message(message) => Some(message),
        Next::Load | Next::Nothing => None,
    }
}

fn body(store: &Store, message: MessageRef) -> Vec<u8> {
    store.stored(message).unwrap().message.body.to_vec()
}

#[test]
fn an_empty_store_holds_nothing_and_messages_come_in_order() {
    let mut store = Store::default();
    for round in 0..3_u32 {
        for i in 0..10_000_u32 {
            store.append(&message(&(round + i).to_le_bytes()), None, Marks::default());
        }
        let taken: Vec<_> = core::iter::from_fn(|| taken(&mut store)).collect();
        assert_eq!(taken.len(), 10_000);
        for (i, taken) in taken.iter().enumerate() {
            assert_eq!(body(&store, *taken), (round + i as u32).to_le_bytes());
        }
        for taken in taken {
            assert!(store.settle(taken).bytes > 0);
        }
        assert_eq!((store.live(), store.held_bytes(), store.segment_count()), ((0, 0), 0, 0));
    }
}

#[test]
fn settling_twice_counts_once() {
    let mut store = Store::default();
    store.append(&message(b"a"), None, Marks::default());
    store.append(&message(b"b"), None, Marks::default());
    let first = taken(&mut store).unwrap();
    assert!(store.settle(first).bytes > 0);
    assert_eq!(store.settle(first).bytes, 0);
    assert_eq!(store.live().0, 1);
}

#[test]
fn stuck_messages_do_not_keep_dead_segments() {
    let mut store = Store::default();
    let filler = [0_u8; 1000];
    let mut stuck = Vec::new();
    for i in 0..200_000_u32 {
        store.append(&message(&filler), None, Marks::default());
        let taken = taken(&mut store).unwrap();
        // One in five thousand is never settled: some in every segment.
        if i % 5000 == 0 {
            stuck.push(taken)
        } else {
            assert!(store.settle(taken).bytes > 0)
        }
        let (_, live_bytes) = store.live();
        assert!(store.held_bytes() <= HELD_FACTOR * live_bytes + HELD_SLACK_BYTES + SEGMENT_BYTES_MAX);
    }
    assert!(store.segment_count() < 20, "{}", store.segment_count());
    for (i, taken) in stuck.into_iter().enumerate() {
        assert!(!store.stored(taken).unwrap().redelivered);
        store.mark_redelivered(taken);
        assert!(store.stored(taken).unwrap().redelivered, "stuck message {i} can be marked");
        assert_eq!(body(&store, taken), filler);
        assert!(store.settle(taken).bytes > 0);
        assert_eq!(store.settle(taken).bytes, 0);
    }
    assert_eq!((store.live(), store.held_bytes()), ((0, 0), 0));
}

#[test]
fn a_record_larger_than_a_segment_has_one_of_its_own() {
    let mut store = Store::default();
    let large = alloc::vec![9; 3 * SEGMENT_BYTES_MAX];
    store.append(&message(b"small"), None, Marks::default());
    store.append(&message(&large), None, Marks::default());
    store.append(&message(b"small again"), None, Marks::default());
    let taken: Vec<_> = core::iter::from_fn(|| taken(&mut store)).collect();
    let bodies: Vec<_> = taken.iter().map(|taken| body(&store, *taken).len()).collect();
    assert_eq!(bodies, [5, large.len(), 11]);
    for taken in taken {
        store.settle(taken);
    }
    assert_eq!(store.held_bytes(), 0);
}
