//! Kept messages: drafts, room, order, patterns.

use super::*;
use leveret_model::Name;

fn message(body: &'static str) -> Arc<OwnedMessage> {
    Arc::new(OwnedMessage {
        exchange: Name::EMPTY,
        routing_key: Name::EMPTY,
        form: &crate::testing::PLAIN,
        properties: Default::default(),
        body: body.as_bytes().to_vec().into(),
    })
}

fn bodies(messages: &Messages, ids: Vec<StoredId>) -> Vec<String> {
    let body = |id| String::from_utf8(messages.get(id).unwrap().body.to_vec()).unwrap();
    ids.into_iter().map(body).collect()
}

#[test]
fn the_newest_of_a_key_stay_and_open_ones_are_found_too() {
    let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
    for body in ["1", "2", "3"] {
        let id = messages.keep(DraftId::next(), b"k", message(body), (None, 0), &usage).unwrap();
        messages.commit(id, 2);
    }
    assert_eq!(bodies(&messages, messages.of_key(b"k", 10, 0)), ["2", "3"]);
    let open = messages.keep(DraftId::next(), b"k", message("4"), (None, 0), &usage).unwrap();
    assert_eq!(bodies(&messages, messages.of_key(b"k", 10, 0)), ["2", "3", "4"]);
    assert_eq!((messages.len(), usage.used().1), (2, 3));
    messages.remove(open);
    assert_eq!(bodies(&messages, messages.of_key(b"k", 1, 0)), ["3"]);
    assert_eq!(usage.used().1, 2);
    let fork = messages.fork(&usage);
    assert_eq!(usage.used().1, 4);
    let other = Arc::new(Usage::unlimited());
    messages.charge_to(&other);
    assert_eq!((usage.used().1, other.used().1), (2, 2));
    drop(messages);
    assert_eq!(other.used(), (0, 0));
    assert_eq!(bodies(&fork, fork.of_key(b"k", 10, 0)), ["2", "3"]);
    drop(fork);
    assert_eq!(usage.used(), (0, 0));
}

#[test]
fn open_ones_are_not_counted_and_may_be_accepted_in_any_order() {
    let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
    let ids = ["1", "2", "3", "4"]
        .map(|body| messages.keep(DraftId::next(), b"k", message(body), (None, 0), &usage).unwrap());
    let [first, second, third, fourth] = ids;
    messages.commit(third, 1);
    assert_eq!(bodies(&messages, messages.of_key(b"k", 10, 0)), ["1", "2", "3", "4"]);
    messages.commit(second, 1);
    assert_eq!(bodies(&messages, messages.of_key(b"k", 10, 0)), ["1", "3", "4"], "the older one goes");
    messages.remove(first);
    messages.commit(fourth, 1);
    assert_eq!(bodies(&messages, messages.of_key(b"k", 10, 0)), ["4"]);
    assert_eq!((messages.len(), usage.used().1), (1, 1));
}

#[test]
fn patterns_match_as_topics_do() {
    let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
    for key in ["a.b", "a.c", "b", "", "a.b.c"] {
        let id = messages.keep(DraftId::next(), key.as_bytes(), message(key), (None, 0), &usage).unwrap();
        messages.commit(id, 1);
    }
    let mut search = |pattern: &str, count_max| {
        let mut pieces = 0;
        // However small the pieces are.
        let mut all = [1, 2, 3, 1_000].map(|steps| {
            let mut search = Search::new(pattern.as_bytes(), count_max, 0);
            let found = loop {
                pieces += 1;
                if let Some(found) = messages.matching(&mut search, steps) {
                    break found;
                }
            };
            bodies(&messages, found)
        });
        assert!(pieces > 4 && all.iter().all(|found| *found == all[0]), "{all:?}");
        std::mem::take(&mut all[0])
    };
    let mut found = |pattern: &str| search(pattern, 10);
    assert_eq!(found("a.*"), ["a.b", "a.c"]);
    assert_eq!(found("#"), ["a.b", "a.c", "b", "", "a.b.c"]);
    assert_eq!(found("*"), ["b"]);
    assert_eq!(found("#.b"), ["a.b", "b"]);
    assert_eq!(found("a.#.c"), ["a.c", "a.b.c"]);
    assert_eq!(found(""), [""]);
    assert_eq!(found("#.#"), ["a.b", "a.c", "b", "", "a.b.c"]);
    assert_eq!(found("*.#"), ["a.b", "a.c", "b", "a.b.c"]);
    assert_eq!(search("#", 2), ["", "a.b.c"]);
}

#[test]
fn a_search_goes_on_where_it_left_off_whatever_came_and_went_meanwhile() {
    let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 1_000)));
    let keep = |messages: &mut Messages, key: &str| {
        let id = messages.keep(DraftId::next(), key.as_bytes(), message("m"), (None, 0), &usage).unwrap();
        messages.commit(id, 1);
        id
    };
    let key = |number: usize| format!("{number}.{}", "a.".repeat(100));
    let ids: Vec<_> = (0..20).map(|number| keep(&mut messages, &key(number))).collect();
    let mut search = Search::new(b"#.a.a.", 100, 0);
    assert_eq!(messages.matching(&mut search, 350), None);
    let left_off = search.left_off.as_ref().unwrap().0;
    messages.remove(left_off);
    messages.remove(ids[0]);
    keep(&mut messages, &key(99));
    let found = loop {
        if let Some(found) = messages.matching(&mut search, 350) {
            break found;
        }
    };
    let expected: Vec<_> = ids[1..].iter().copied().filter(|id| *id != left_off).collect();
    assert_eq!(found, expected);
}

#[test]
fn without_room_the_oldest_of_the_key_make_it_and_no_other() {
    let one = bytes(b"k", &message("1"));
    for (bytes_max, entries_max) in [(3 * one, 100), (1 << 20, 3)] {
        let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(bytes_max, entries_max)));
        let keep = |messages: &mut Messages, key: &[u8], body| {
            messages.keep(DraftId::next(), key, message(body), (None, 0), &usage)
        };
        for body in ["1", "2", "3", "4"] {
            let id = keep(&mut messages, b"k", body).unwrap();
            messages.commit(id, 9);
            assert!(!usage.is_over());
        }
        assert_eq!(bodies(&messages, messages.of_key(b"k", 9, 0)), ["2", "3", "4"]);
        // What is not accepted takes nothing away; neither does another key.
        let open = keep(&mut messages, b"k", "5").unwrap();
        assert_eq!(messages.of_key(b"k", 9, 0).len(), 4);
        messages.remove(open);
        assert_eq!(bodies(&messages, messages.of_key(b"k", 9, 0)), ["2", "3", "4"]);
        assert_eq!((keep(&mut messages, b"l", "6"), usage.refused()), (Err(Full), 1));
        // Of those that are open at once each may have the room of the older ones, and no more have it.
        let open: Vec<_> = (0..9).map_while(|_| keep(&mut messages, b"k", "7").ok()).collect();
        assert_eq!(open.len(), 3);
        open.iter().for_each(|id| messages.commit(*id, 9));
        assert_eq!(bodies(&messages, messages.of_key(b"k", 9, 0)), ["7", "7", "7"]);
        assert_eq!(usage.used().1, 3);
    }
}

#[test]
fn many_are_forgotten_at_once_and_let_go_of_piece_by_piece() {
    let count = 3 * PIECE_MESSAGES;
    let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 30, count as u64)));
    let keep = |messages: &mut Messages, newest| {
        let id = messages.keep(DraftId::next(), b"k", message("m"), (None, 0), &usage)?;
        messages.commit(id, newest);
        Ok::<_, Full>(id)
    };
    let ids: Vec<_> = (0..count).map(|_| keep(&mut messages, count).unwrap()).collect();
    let (settled, up_to) = messages.settled_of(b"k");
    let open = messages.keep(DraftId::next(), b"k", message("open"), (None, 0), &usage).unwrap();
    assert_eq!(settled, count);
    messages.forget(b"k", up_to);
    assert_eq!((messages.len(), messages.of_key(b"k", 9, 0)), (0, vec![open]));
    assert!(messages.get(ids[0]).is_none() && messages.get(ids[count - 1]).is_none());
    assert_eq!(usage.used().1, (count - PIECE_MESSAGES + 1) as u64, "a piece at once");
    assert_eq!((messages.size(), messages.fork(&Arc::new(Usage::unlimited())).len()), ((0, 0), 0));
    let mut search = Search::new(b"#", 9, 0);
    assert_eq!(messages.matching(&mut search, 100), None);
    messages.commit(open, 9);
    while messages.matching(&mut search, 100).is_none() {}
    assert_eq!((usage.used().1, messages.of_key(b"k", 9, 0)), (1, vec![open]));
    // More than there is room for are never asked to wait for that.
    assert!((0..count).all(|_| keep(&mut messages, count).is_ok()));
    messages.forget(b"k", StoredId::MAX);
    assert!((0..count).all(|_| keep(&mut messages, count).is_ok()));
    assert_eq!(messages.len(), count);
    drop(messages);
    assert_eq!(usage.used(), (0, 0));
}

#[test]
fn what_is_expired_is_found_no_more_and_goes() {
    let (mut messages, usage) = (Messages::default(), Arc::new(Usage::new(1 << 20, 100)));
    messages.note_ended();
    for (body, end_ms) in [("1", Some(20)), ("2", None), ("3", Some(10)), ("4", Some(30))] {
        let id = messages.keep(DraftId::next(), b"k", message(body), (end_ms, 0), &usage).unwrap();
        messages.commit(id, 9);
    }
    let open = messages.keep(DraftId::next(), b"k", message("open"), (Some(15), 0), &usage).unwrap();
    let matching = |messages: &mut Messages, now_ms| {
        let found = messages.matching(&mut Search::new(b"#", 9, now_ms), 1000).unwrap();
        bodies(messages, found)
    };
    for (now_ms, left) in [
        (9, &["1", "2", "3", "4", "open"][..]),
        (10, &["1", "2", "4", "open"]),
        (20, &["2", "4"]),
        (30, &["2"]),
    ] {
        assert_eq!(bodies(&messages, messages.of_key(b"k", 9, now_ms)), left, "at {now_ms}");
        assert_eq!(matching(&mut messages, now_ms), left, "at {now_ms}");
    }
    assert_eq!(bodies(&messages, messages.of_key(b"k", 1, 10)), ["open"]);
    assert_eq!(bodies(&messages, messages.of_key(b"k", 2, 29)), ["2", "4"], "those that are not expired");
    assert_eq!(bodies(&messages.fork(&usage), messages.of_key(b"k", 9, 25)), ["2", "4"]);
    messages.commit(open, 9);
    assert_eq!((messages.len(), usage.used().1), (5, 5), "they go with those that come");
    let last = messages.keep(DraftId::next(), b"other", message("5"), (None, 25), &usage).unwrap();
    messages.commit(last, 1);
    assert_eq!((messages.len(), usage.used().1), (3, 3));
    assert_eq!(messages.take_ended().len(), 3, "and the store is told");
    drop(messages);
    assert_eq!(usage.used(), (0, 0));
}
