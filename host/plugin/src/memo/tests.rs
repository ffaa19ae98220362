//! Budget, eviction, worth, churn.

use super::*;
use crate::{guest::Decisions, policy::ANSWER_IDS_MAX};
use leveret_broker::{
    exchange::{BindingId, RouteSet},
    port::{Answer, Layer},
};
use std::{collections::HashMap, rc::Rc, sync::Arc};

fn reject(text: &str) -> Kept {
    Kept::Reject(Rc::new(text.into()), Layer::FRONT)
}

fn text(answer: Option<Answer>) -> Option<String> {
    answer.map(|answer| match answer {
        Answer::Reject(reason, _) => reason.to_string(),
        other => format!("{other:?}"),
    })
}

#[test]
fn an_answer_of_another_generation_is_not_given() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.at_generation(Generation(1), KeyForm::Projection);
    memo.insert(b"k", &Kept::Drop(None, Layer::FRONT), 0);
    memo.insert(b"", &reject("empty"), 0);
    assert!(matches!(memo.get(b"k"), Some(Answer::Drop(None, _))));
    assert_eq!(text(memo.get(b"")).as_deref(), Some("empty"));
    memo.at_generation(Generation(1), KeyForm::Projection);
    assert!(memo.get(b"k").is_some());
    memo.at_generation(Generation(2), KeyForm::Projection);
    assert!(memo.get(b"").is_none() && memo.get(b"k").is_none());
}

#[test]
fn a_full_memo_stays_within_its_budget_and_keeps_what_is_hit() {
    let mut memo = Memo::new(64 * 1024);
    let hot: Vec<String> = (0..50).map(|n| format!("hot.{n}")).collect();
    for key in &hot {
        memo.insert(key.as_bytes(), &reject(key), 32);
    }
    for n in 0..20_000 {
        let key = format!("cold.{}", n % 5_000);
        if memo.get(key.as_bytes()).is_none() {
            memo.insert(key.as_bytes(), &reject(&key), 32);
        }
        assert!(memo.bytes() <= memo.bytes_max);
        let key = &hot[n % hot.len()];
        match text(memo.get(key.as_bytes())) {
            Some(found) => assert_eq!(&found, key),
            None => memo.insert(key.as_bytes(), &reject(key), 32),
        }
    }
    assert!(memo.len() > 100);
    let kept = hot.iter().filter(|key| memo.get(key.as_bytes()).is_some()).count();
    assert!(kept > hot.len() / 2, "{kept} of the keys that are hit all the time");
}

#[test]
fn a_memo_that_is_never_hit_stays_away_and_comes_back() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    let mut keys = 0_u32..;
    while !memo.is_away() {
        let key = keys.next().unwrap().to_le_bytes();
        assert!(memo.get(&key).is_none());
        memo.insert(&key, &Kept::Drop(None, Layer::FRONT), 0);
    }
    assert_eq!(memo.len(), 0);
    assert!(keys.start as usize > MEMO_BYTES_MAX / 128, "it was full before");
    let away = AWAY_LOOKUPS - 1;
    for _ in 0..away {
        assert!(memo.is_away());
    }
    assert!(!memo.is_away());
    memo.insert(b"k", &Kept::Drop(None, Layer::FRONT), 0);
    assert!(memo.get(b"k").is_some());
}

#[test]
fn a_memo_that_always_starts_anew_stays_away() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    let mut rounds = 0_u64;
    while !memo.is_away() {
        rounds += 1;
        memo.at_generation(Generation(rounds), KeyForm::Projection);
        assert!(memo.get(b"k").is_none());
        memo.insert(b"k", &Kept::Drop(None, Layer::FRONT), 0);
    }
    assert_eq!(rounds, JUDGED_AFTER_LOOKUPS);
}

#[test]
fn long_keys_are_not_remembered() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.insert(&[0; KEY_BYTES_MAX + 1], &Kept::Drop(None, Layer::FRONT), 0);
    memo.insert(&[0; KEY_BYTES_MAX], &Kept::Drop(None, Layer::FRONT), 0);
    assert_eq!(memo.len(), 1);
}

#[test]
fn keys_lie_as_questions() {
    for (form, head) in [(KeyForm::RoutingKey, &[3, 0, 0, 0, 1, 0][..]), (KeyForm::Projection, &[1, 0, 0, 0])]
    {
        let mut memo = Memo::new(MEMO_BYTES_MAX);
        memo.at_generation(Generation(1), form);
        memo.insert(b"a", &Kept::Drop(None, Layer::FRONT), 0);
        memo.insert(b"b", &Kept::Nowhere, 0);
        let asked: Vec<_> = memo.keys.questions(10, 100).map(|q| (q.bytes.to_vec(), q.count())).collect();
        assert_eq!(asked, [([head, b"a", head, b"b"].concat(), 2)]);
        assert_eq!(memo.keys.questions(1, 100).count(), 2);
        assert_eq!(memo.keys.questions(10, 1).count(), 2, "a question is never cut");
        assert!(memo.get(b"a").is_some());
    }
}

/// Words in which the nth question goes to the nth of these, 0 for nowhere.
fn decisions(ids: &[u64]) -> Decisions {
    let words = ids.iter().flat_map(|id| if *id == 0 { vec![0] } else { vec![1, *id] }).collect();
    Decisions::from_words(words, ids.len(), ANSWER_IDS_MAX).unwrap()
}

fn named(ids: &[BindingId]) -> (Kept, usize) {
    let routes = RouteSet::default();
    let kept = match *ids {
        [] => Kept::Nowhere,
        [id] => Kept::One(id, routes),
        _ => Kept::several(ids, routes).0,
    };
    (kept, 8 * ids.len())
}

fn ids(memo: &Memo, key: &[u8]) -> Vec<u64> {
    memo.peek(key).unwrap().ids().unwrap().iter().map(|id| id.0).collect()
}

#[test]
fn bindings_are_added_to_and_taken_from_the_answers_they_are_in() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.at_generation(Generation(1), KeyForm::RoutingKey);
    for (key, named_ids) in [(b"a", &[][..]), (b"b", &[BindingId(1)]), (b"c", &[BindingId(1), BindingId(2)])]
    {
        memo.insert(key, &named(named_ids).0, 0);
    }
    let bytes = memo.bytes();
    let added = memo.add_bindings(None, |_, count| Ok::<_, NotAUnion>(decisions(&[7, 0, 7][..count])), named);
    assert_eq!(added, Ok(()));
    assert!(memo.bytes() > bytes, "what they take is charged");
    assert_eq!([ids(&memo, b"a"), ids(&memo, b"b"), ids(&memo, b"c")], [vec![7], vec![1], vec![1, 2, 7]]);
    memo.add_bindings(None, |_, _| Ok::<_, NotAUnion>(decisions(&[7, 0, 0])), named).unwrap();
    assert_eq!(ids(&memo, b"a"), [7], "twice is once");
    memo.remove_bindings(&[BindingId(1), BindingId(7)], named);
    assert_eq!([ids(&memo, b"a"), ids(&memo, b"b"), ids(&memo, b"c")], [vec![], vec![], vec![2]]);
}

#[test]
fn what_is_no_union_is_not_carried_on() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.insert(b"a", &Kept::Drop(None, Layer::FRONT), 0);
    assert_eq!(memo.add_bindings(None, |_, _| Ok(decisions(&[1])), named), Err(NotAUnion));
    memo.remove_bindings(&[BindingId(1)], named);
    assert!(matches!(memo.get(b"a"), Some(Answer::Drop(None, _))), "an unbind does not concern it");
    let dropped =
        |_: &[u8], _| Ok::<_, NotAUnion>(Decisions::from_words(vec![1 << 56], 1, ANSWER_IDS_MAX).unwrap());
    assert_eq!(memo.add_bindings(None, dropped, named), Err(NotAUnion));
}

#[test]
fn keys_that_nobody_asks_for_are_forgotten_rather_than_asked_about_again_and_again() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.at_generation(Generation(1), KeyForm::RoutingKey);
    let (count, hot) = (8 * KEYS_ASKED_ALWAYS as u32, 10_u32);
    for key in 0..count {
        memo.insert(&key.to_le_bytes(), &named(&[BindingId(key.into())]).0, 0);
    }
    let lookups = count / KEYS_ASKED_PER_LOOKUP_MAX as u32;
    (0..lookups).for_each(|key| drop(memo.get(&key.to_le_bytes())));
    let mut asked = 0;
    let mut ask = |memo: &mut Memo| {
        let before = std::mem::take(&mut asked);
        let nothing = |_: &[u8], count| {
            asked += count;
            Ok::<_, NotAUnion>(decisions(&vec![0; count]))
        };
        memo.add_bindings(None, nothing, named).unwrap();
        before
    };
    ask(&mut memo);
    assert_eq!(memo.len(), count as usize, "enough lookups came");
    assert_eq!(ask(&mut memo), count as usize);
    (0..hot).for_each(|key| drop(memo.get(&key.to_le_bytes())));
    assert_eq!(ask(&mut memo), count as usize, "all were new");
    ask(&mut memo);
    assert_eq!(memo.len(), hot as usize);
    assert_eq!(ids(&memo, &7_u32.to_le_bytes()), [7]);
    assert!(memo.get(&hot.to_le_bytes()).is_none());
}

#[test]
fn only_keys_with_a_mark_of_a_new_binding_are_asked_about() {
    let mut memo = Memo::new(16 * 1024);
    memo.at_generation(Generation(1), KeyForm::RoutingKey);
    let count = 60_usize;
    for n in 0..count {
        memo.insert(format!("k{n}.").as_bytes(), &Kept::Nowhere, 0);
    }
    let ask = |memo: &mut Memo, marks: &[&[u8]]| {
        let marks: Vec<Vec<u8>> = marks.iter().map(|mark| mark.to_vec()).collect();
        let mut asked = Vec::new();
        let id = |questions: &[u8], count| {
            asked.push(String::from_utf8_lossy(questions).replace(|c: char| c.is_control(), ""));
            Ok::<_, NotAUnion>(decisions(&vec![9; count]))
        };
        memo.add_bindings(Marks::new(&marks).as_ref(), id, named).unwrap();
        assert_eq!(memo.take_asked_again() as usize, asked.concat().matches('k').count());
        asked.concat()
    };
    assert_eq!(ask(&mut memo, &[b"nowhere"]), "");
    assert_eq!(ask(&mut memo, &[b"7."]), "k7.k17.k27.k37.k47.k57.");
    assert_eq!(ask(&mut memo, &[&[3, 0, b'k', b'7', b'.'], b"k5."]), "k5.k7.");
    assert_eq!(ask(&mut memo, &[b".\x05\0", b".\x06\0"]), "", "what lies across two keys is in neither");
    assert_eq!(ask(&mut memo, &[b"7.", b""]).matches('k').count(), count, "one may concern any");
    assert_eq!(ids(&memo, b"k1."), [9]);
}

#[test]
fn the_first_hits_are_audited_and_then_few() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.insert(b"k", &Kept::Drop(None, Layer::FRONT), 0);
    let mut audited = Vec::new();
    for hit in 1..=4 * HITS_PER_AUDIT {
        assert!(memo.get(b"k").is_some());
        if memo.is_audit_due() {
            audited.push(hit);
        }
    }
    assert_eq!(audited[..5], [1, 2, 4, 8, 16]);
    assert_eq!(audited[audited.len() - 3..], [2, 3, 4].map(|n| n * HITS_PER_AUDIT));
}

proptest::proptest! {
    #[test]
    fn whatever_is_remembered_is_what_was_answered(
        steps in proptest::collection::vec((0_u16..600, 0_u8..50), 1..3000),
    ) {
        let mut memo = Memo::new(16 * 1024);
        let mut generation = 0;
        let mut truth: HashMap<u16, String> = HashMap::new();
        for (key, action) in steps {
            if action == 0 {
                generation += 1;
                truth.clear();
            }
            memo.at_generation(Generation(generation), KeyForm::Projection);
            let bytes = key.to_le_bytes();
            match text(memo.get(&bytes)) {
                Some(found) => proptest::prop_assert_eq!(Some(&found), truth.get(&key)),
                None => {
                    let answer = format!("{key} at {generation}");
                    memo.insert(&bytes, &reject(&answer), 16);
                    truth.insert(key, answer);
                }
            }
            proptest::prop_assert!(memo.bytes() <= memo.bytes_max);
        }
    }
}

/// A memo of a virtual host whose memos may have so much together.
fn charged(vhost: &Arc<VhostRoom>) -> Memo {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.charge_to(&Arc::new(PluginRoom::new(vhost)));
    memo
}

/// Asks for keys, and remembers what is missing; gives how many were there.
fn use_keys(memo: &mut Memo, keys: impl Iterator<Item = u32>) -> usize {
    let mut hits = 0;
    for key in keys {
        match memo.get(&key.to_le_bytes()) {
            Some(_) => hits += 1,
            None => memo.insert(&key.to_le_bytes(), &Kept::Nowhere, 0),
        }
    }
    hits
}

#[test]
fn what_is_charged_is_what_is_allocated_and_begins_small() {
    let broker = Arc::new(BrokerRoom::new(1 << 30));
    let vhost = Arc::new(VhostRoom::new(&broker, 1 << 30));
    let mut memo = charged(&vhost);
    use_keys(&mut memo, 0..1);
    assert!((1..4096).contains(&vhost.taken()), "{} bytes for one key", vhost.taken());
    use_keys(&mut memo, 0..100_000);
    assert!(memo.bytes() <= vhost.taken() && vhost.taken() <= memo.bytes() + 8192);
    assert!(vhost.taken() > 100_000 * 32, "entries alone have 32 bytes");
    memo.give_up();
    assert_eq!((vhost.taken(), broker.taken(), memo.bytes()), (0, 0, 0));
    use_keys(&mut memo, 0..1);
    drop(memo);
    assert_eq!(broker.taken(), 0);
}

#[test]
fn without_room_for_all_a_memo_lives_within_what_it_has_and_says_that_it_wants_more() {
    let broker = Arc::new(BrokerRoom::new(1 << 30));
    let vhost = Arc::new(VhostRoom::new(&broker, 256 * 1024));
    let (mut first, mut second) = (charged(&vhost), charged(&vhost));
    use_keys(&mut second, 0..10);
    for _ in 0..4 {
        // More than the worth of it is judged after: that there is no room is not for its want of worth.
        use_keys(&mut first, 0..6_000);
        assert!(vhost.taken() <= vhost.bytes_max());
    }
    assert!(first.len() > 1_000, "{} keys", first.len());
    assert_eq!(use_keys(&mut second, 0..10), 10, "nobody else's goes");
    let shortage = vhost.shortage();
    assert!(
        shortage.number > 0 && broker.wants() == shortage.number && shortage.had > 128 * 1024,
        "{shortage:?}"
    );
    while first.bytes() > 100 * 1024 {
        first.shrink();
    }
    assert!(vhost.taken() < 120 * 1024, "what is forgotten is given back");
    use_keys(&mut second, 0..1_000);
    assert_eq!(use_keys(&mut second, 0..1_000), 1_000);
}

fn long_key(number: u32) -> Vec<u8> {
    let mut key = vec![b'-'; 66];
    key.extend_from_slice(&number.to_le_bytes());
    key
}

#[test]
fn a_hundred_thousand_long_keys_fit() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.at_generation(Generation(1), KeyForm::Projection);
    let (answer, count) = (named(&[BindingId(5)]).0, 100_000);
    for _ in 0..2 {
        for key in (0..count).map(long_key) {
            if memo.get(&key).is_none() {
                memo.insert(&key, &answer, 0);
            }
            assert!(memo.bytes() <= MEMO_BYTES_MAX);
        }
    }
    let hits = (0..count).filter(|number| memo.get(&long_key(*number)).is_some()).count();
    assert_eq!(hits, count as usize);
    assert!(memo.get(&long_key(count)).is_none() && memo.peek(&long_key(count)).is_none());
    assert_eq!(ids(&memo, &long_key(0)), [5]);
    assert_eq!(
        memo.get(&memo.secret.as_ref().unwrap().digest(&long_key(0))).map(drop),
        None,
        "no key itself"
    );
    // An unbind reaches the answers that only digests lead to.
    memo.remove_bindings(&[BindingId(5)], named);
    assert!(ids(&memo, &long_key(0)).is_empty() && ids(&memo, &long_key(count - 1)).is_empty());
}

#[test]
fn a_hundred_thousand_different_pairs_of_bindings_fit() {
    let mut memo = Memo::new(MEMO_BYTES_MAX);
    memo.at_generation(Generation(1), KeyForm::Projection);
    let (key, count) = (|number: u64| [&[7; 24][..], &number.to_le_bytes()].concat(), 100_000);
    let pair = |number| [BindingId(number % 1_000), BindingId(1_000 + number / 1_000)];
    for number in 0..count {
        // One in ten leads to queues that none before led to.
        memo.insert(&key(number), &named(&pair(number)).0, if number % 10 == 0 { 112 } else { 0 });
    }
    let is_right = |number: &u64| ids(&memo, &key(*number)) == pair(*number).map(|id| id.0);
    let there = (0..count).filter(|number| memo.peek(&key(*number)).is_some()).filter(is_right).count();
    assert!(there >= 80_000 && memo.bytes() <= MEMO_BYTES_MAX, "{there}");
}

#[test]
fn what_only_a_digest_is_kept_of_is_forgotten_where_it_would_have_to_be_asked_about() {
    let mut memo = Memo::new(64 * 1024);
    memo.at_generation(Generation(1), KeyForm::Projection);
    let count = 700;
    for key in (0..count).map(long_key) {
        memo.insert(&key, &Kept::Nowhere, 0);
    }
    assert!(!memo.digests.is_empty() && memo.len() == count as usize);
    let mut asked = 0;
    let ask = |_: &[u8], count| {
        asked += count;
        Ok::<_, NotAUnion>(decisions(&vec![9; count]))
    };
    memo.add_bindings(None, ask, named).unwrap();
    let there: Vec<u32> = (0..count).filter(|number| memo.peek(&long_key(*number)).is_some()).collect();
    assert!(
        asked > 0 && asked < count as usize && there.len() == asked,
        "{asked} asked, {} left",
        there.len()
    );
    assert!(there.iter().all(|number| ids(&memo, &long_key(*number)) == [9]));
}

proptest::proptest! {
    #[test]
    fn whatever_is_remembered_of_long_keys_is_what_was_answered(
        steps in proptest::collection::vec((0_u32..900, 0_u8..60), 1..4000),
        bytes_max in 20_usize..40,
    ) {
        let mut memo = Memo::new(bytes_max * 1024);
        let mut generation = 0;
        let mut truth: HashMap<u32, String> = HashMap::new();
        for (number, action) in steps {
            match action {
                0 => {
                    generation += 1;
                    truth.clear();
                }
                1 => memo.shrink(),
                _ => {}
            }
            memo.at_generation(Generation(generation), KeyForm::Projection);
            let key = long_key(number);
            match text(memo.get(&key)) {
                Some(found) => proptest::prop_assert_eq!(Some(&found), truth.get(&number)),
                None => {
                    let answer = format!("{number} at {generation}");
                    memo.insert(&key, &reject(&answer), 16);
                    truth.insert(number, answer);
                }
            }
            proptest::prop_assert!(memo.bytes() <= memo.bytes_max);
        }
    }
}
