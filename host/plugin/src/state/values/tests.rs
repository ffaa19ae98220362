//! Values and counters: drafts, ends, room, order, copies.

use super::*;

fn usage() -> Arc<Usage> {
    Arc::new(Usage::new(1 << 20, 1_000))
}

fn put(values: &mut Values, key: &str, value: &str, end_ms: Option<u64>, usage: &Arc<Usage>) {
    let draft = DraftId::next();
    values.write(draft, key.as_bytes(), Some(value.as_bytes()), (end_ms, 0), usage).unwrap();
    values.commit(draft, key.as_bytes(), 0);
}

fn get(values: &Values, key: &str, now_ms: u64) -> Option<String> {
    let bytes = values.get(None, key.as_bytes(), now_ms).unwrap();
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn a_draft_is_seen_by_itself_and_in_doubt_to_others_until_it_is_committed() {
    let (mut values, usage) = (Values::default(), usage());
    let (mine, other) = (DraftId::next(), DraftId::next());
    values.write(mine, b"k", Some(b"v"), (None, 0), &usage).unwrap();
    assert_eq!(values.get(Some(mine), b"k", 0).unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(values.get(Some(other), b"k", 0), Err(InDoubt));
    assert_eq!(values.write(other, b"k", None, (None, 0), &usage), Err(ValueError::InDoubt));
    assert!(values.has_doubts());
    assert_eq!(values.len(0), Some(0));
    values.commit(mine, b"k", 0);
    assert_eq!(get(&values, "k", 0).as_deref(), Some("v"));
    assert!(!values.has_doubts());
    values.write(other, b"k", None, (None, 0), &usage).unwrap();
    values.forget(other, b"k");
    assert_eq!(get(&values, "k", 0).as_deref(), Some("v"));
    values.write(other, b"new", Some(b"v"), (None, 0), &usage).unwrap();
    values.forget(other, b"new");
    assert_eq!(get(&values, "new", 0), None);
    assert_eq!(usage.used().1, 1);
}

#[test]
fn what_was_written_first_goes_first_and_time_ends_values() {
    let (mut values, usage) = (Values::default(), usage());
    values.set_capacity(2);
    put(&mut values, "a", "1", None, &usage);
    put(&mut values, "b", "1", None, &usage);
    put(&mut values, "a", "2", None, &usage);
    put(&mut values, "c", "1", Some(100), &usage);
    assert_eq!(get(&values, "b", 0), None, "a was written again after b");
    assert_eq!(get(&values, "a", 0).as_deref(), Some("2"));
    assert_eq!(get(&values, "c", 99).as_deref(), Some("1"));
    assert_eq!(get(&values, "c", 100), None);
    assert_eq!(values.len(100), Some(1));
    assert_eq!(usage.used().1, 1);
    drop(values);
    assert_eq!(usage.used(), (0, 0));
}

#[test]
fn counters_add_up_end_and_are_taken_back() {
    let (mut values, usage) = (Values::default(), usage());
    let mut add = |more, end, now| values.add(b"n", more, end, now, &usage).unwrap();
    assert_eq!(add(0, None, 0).sum, 0);
    let Sum { sum: 5, counter } = add(5, Some(100), 0) else { panic!("it began") };
    assert_eq!(add(2, Some(900), 50), Sum { sum: 7, counter });
    values.subtract(b"n", 5, counter);
    let mut add = |more, end, now| values.add(b"n", more, end, now, &usage).unwrap();
    assert_eq!(add(0, None, 99).sum, 2);
    assert_eq!(add(0, None, 100).sum, 0, "its time counts from its begin");
    // What was added to one that is over is not taken from the next.
    let next = add(3, None, 100);
    assert_ne!(next.counter, counter);
    values.subtract(b"n", 2, counter);
    assert_eq!(values.add(b"n", 0, None, 100, &usage), Ok(next));
    // One of which all was undone takes no room, even if its sum is not what it was.
    let before = usage.used();
    values.subtract(b"n", 3, next.counter);
    assert_eq!(values.add(b"n", 0, None, 100, &usage), Ok(Sum::default()));
    assert_eq!(usage.used().1 + 1, before.1);
    assert_eq!(usage.used(), (0, 0));
}

#[test]
fn quota_and_sizes_are_held() {
    let mut values = Values::default();
    let small = Arc::new(Usage::new(ENTRY_BYTES + 2, 10));
    let draft = DraftId::next();
    values.write(draft, b"k", Some(b"v"), (None, 0), &small).unwrap();
    assert_eq!(values.write(draft, b"l", Some(b"v"), (None, 0), &small), Err(ValueError::Quota));
    let long = vec![0; KEY_BYTES_MAX + 1];
    assert_eq!(values.write(draft, &long, None, (None, 0), &small), Err(ValueError::TooLarge));
    let long = vec![0; VALUE_BYTES_MAX + 1];
    assert_eq!(values.write(draft, b"k", Some(&long), (None, 0), &small), Err(ValueError::TooLarge));
}

#[test]
fn another_value_for_a_key_takes_what_it_has_more_than_the_one_before() {
    let mut values = Values::default();
    let usage = Arc::new(Usage::new(2 * cost(b"k", b"12345"), 2));
    for key in ["k", "l"] {
        put(&mut values, key, "12345", None, &usage);
    }
    let draft = DraftId::next();
    values.write(draft, b"k", Some(b"54321"), (None, 0), &usage).unwrap();
    values.write(draft, b"k", Some(b"5432"), (None, 0), &usage).unwrap();
    assert_eq!(values.write(draft, b"k", Some(b"543210"), (None, 0), &usage), Err(ValueError::Quota));
    assert_eq!(values.write(draft, b"m", Some(b""), (None, 0), &usage), Err(ValueError::Quota));
    values.commit(draft, b"k", 0);
    assert_eq!(usage.used(), (2 * cost(b"k", b"12345") - 1, 2));
    let draft = DraftId::next();
    values.write(draft, b"l", Some(b"123456"), (None, 0), &usage).unwrap();
    values.forget(draft, b"l");
    assert_eq!(usage.used(), (2 * cost(b"k", b"12345") - 1, 2), "undone, it takes nothing");
}

#[test]
fn a_scan_is_in_order_and_goes_on_where_it_stopped() {
    let (mut values, usage) = (Values::default(), usage());
    for key in ["b.2", "a.1", "b.1", "b.3", "c"] {
        put(&mut values, key, key, None, &usage);
    }
    let draft = DraftId::next();
    values.write(draft, b"b.25", Some(b"open"), (None, 0), &usage).unwrap();
    let keys = |after: Option<&[u8]>| -> Vec<String> {
        let mut found = Vec::new();
        assert_eq!(values.scan(b"b.", after, 2, 0, &mut found), None);
        found.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    };
    assert_eq!(keys(None), ["b.1", "b.2"]);
    assert_eq!(keys(Some(b"b.2")), ["b.3"]);
    assert_eq!(keys(Some(b"a")), ["b.1", "b.2"]);
}

#[test]
fn a_fork_has_what_is_committed_and_goes_its_own_way() {
    let (mut values, usage) = (Values::default(), usage());
    put(&mut values, "k", "old", None, &usage);
    let draft = DraftId::next();
    values.write(draft, b"k", Some(b"open"), (None, 0), &usage).unwrap();
    let mut fork = values.fork(&usage);
    assert_eq!(get(&fork, "k", 0).as_deref(), Some("old"));
    put(&mut fork, "k", "new", None, &usage);
    values.forget(draft, b"k");
    assert_eq!(get(&values, "k", 0).as_deref(), Some("old"));
    drop((values, fork));
    assert_eq!(usage.used(), (0, 0));
}

#[test]
fn what_ends_or_is_too_many_at_once_goes_piece_by_piece() {
    let count = 2 * PIECE_ENTRIES + 1;
    let usage = Arc::new(Usage::new(1 << 30, count as u64));
    let mut values = Values::default();
    (0..count).for_each(|n| put(&mut values, &format!("{n:05}"), "v", Some(10), &usage));
    assert!(!values.set_capacity(count as u64 - PIECE_ENTRIES as u64 - 1));
    assert_eq!(usage.used().1, (count - PIECE_ENTRIES) as u64);
    assert!(values.set_capacity(count as u64));
    (0..PIECE_ENTRIES).for_each(|n| put(&mut values, &format!("{n:05}"), "v", Some(10), &usage));
    assert_eq!([values.len(10), values.len(10), values.len(10)], [None, None, Some(0)]);
    assert_eq!(usage.used(), (0, 0));
    (0..count).for_each(|n| put(&mut values, &format!("{n:05}"), "v", Some(10), &usage));
    // What has ended makes room, and none that has not goes in its place.
    values.write(DraftId::next(), b"new", Some(b"v"), (None, 10), &usage).unwrap();
    let mut found = Vec::new();
    let after = values.scan(b"", None, usize::MAX, 0, &mut found).unwrap();
    assert!(found.len() <= SCAN_PIECE_ENTRIES && found.last().is_some_and(|(key, _)| **key == *after));
    drop(values);
    assert_eq!(usage.used(), (0, 0));
}

#[test]
fn a_counter_that_has_ended_is_over_however_much_else_has() {
    let usage = Arc::new(Usage::new(1 << 30, 10_000));
    let mut values = Values::default();
    (0..PIECE_ENTRIES + 1).for_each(|n| put(&mut values, &format!("{n:05}"), "v", Some(5), &usage));
    values.add(b"n", 7, Some(9), 0, &usage).unwrap();
    assert_eq!(values.add(b"n", 1, None, 9, &usage).unwrap().sum, 1);
}

#[test]
fn nothing_lingers_of_what_is_written_again_and_again() {
    let (mut values, usage) = (Values::default(), usage());
    (0..1_000).for_each(|n| put(&mut values, &format!("{}", n % 3), "v", Some(100 + n), &usage));
    assert_eq!((values.order.len(), values.ends.len(), values.len(0)), (3, 3, Some(3)));
}
