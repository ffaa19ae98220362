//! Conflicts, and what a message meets.

use super::*;

fn rule(interceptor: &str, order: i64, names: Option<&str>) -> AttachmentRule {
    AttachmentRule {
        interceptor: String::from(interceptor),
        point: AttachmentPoint::Publish,
        vhost: None,
        names: names.map(Pattern::new),
        order,
        on_failure: FailurePolicy::Reject,
        arguments: Table::new(),
    }
}

fn vhosts() -> [Name; 2] {
    [Name::from_static("/"), Name::from_static("v")]
}

#[test]
fn the_same_order_is_refused_where_a_message_can_meet_both() {
    let new = |rules: Vec<AttachmentRule>| Attachments::new(rules, &vhosts());
    let error = new(vec![rule("a", 1, Some("orders.*")), rule("b", 1, None)]).unwrap_err();
    assert_eq!(error.rule(), 1);
    let text = error.to_string();
    assert!(text.contains("'a' on publish, exchange \"orders.*\" in every vhost"), "{text}");
    assert!(text.contains("'b' on publish, every exchange"), "{text}");
    new(vec![rule("a", 1, Some("orders.*")), rule("b", 1, Some("bills.*"))]).unwrap();
    new(vec![rule("a", 1, None), rule("b", 2, None)]).unwrap();
    let on = |point, vhost| AttachmentRule { point, vhost, ..rule("b", 1, None) };
    new(vec![rule("a", 1, None), on(AttachmentPoint::Deliver, None)]).unwrap();
    let [root, other] = vhosts();
    let (first, second) =
        (on(AttachmentPoint::Publish, Some(root)), on(AttachmentPoint::Publish, Some(other)));
    new(vec![first.clone(), second]).unwrap();
    new(vec![first, rule("a", 1, None)]).unwrap_err();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let on_failure = FailurePolicy::DeadLetter;
    let error = Attachments::new(vec![AttachmentRule { on_failure, ..rule("a", 1, None) }], &vhosts());
    assert!(error.unwrap_err().to_string().contains("makes no sense"));
    let vhost = Some(Name::from_static("w"));
    let error = Attachments::new(vec![AttachmentRule { vhost, ..rule("a", 1, None) }], &vhosts());
    assert!(matches!(error, Err(AttachmentError::NoVhost { rule: 0, .. })));
}

#[test]
fn a_chain_is_in_order_whatever_the_order_of_the_rules() {
    let rules = vec![rule("late", 30, None), rule("early", -1, Some("a*")), rule("other", 5, Some("b"))];
    let attachments = Attachments::new(rules, &vhosts()).unwrap();
    let named = |vhost: &Name, name: &[u8]| -> Vec<String> {
        let chain = attachments.chain(vhost, AttachmentPoint::Publish, name);
        let of = |at: usize| attachments.all()[at].rule.interceptor.clone();
        chain.into_iter().map(of).collect()
    };
    assert_eq!(named(&vhosts()[1], b"abc"), ["early", "late"]);
    assert_eq!(named(&vhosts()[0], b""), ["late"]);
    assert!(named(&Name::from_static("w"), b"abc").is_empty());
    assert!(attachments.any(&vhosts()[0], AttachmentPoint::Publish));
    assert!(!attachments.any(&vhosts()[0], AttachmentPoint::Deliver));
}

#[test]
fn what_is_attached_everywhere_is_attached_in_a_virtual_host_that_comes_later() {
    let rules = vec![rule("late", 2, None), rule("early", 1, None)];
    let attachments = Attachments::new(rules, &vhosts()).unwrap();
    let late = Name::from_static("late");
    assert!(!attachments.any(&late, AttachmentPoint::Publish));
    let (before, count) = (attachments.generation(), attachments.all().len());
    attachments.vhost_begins(&late);
    assert!(attachments.any(&late, AttachmentPoint::Publish) && attachments.generation() > before);
    let orders = |attachments: &Attachments| -> Vec<i64> {
        let chain = attachments.chain(&late, AttachmentPoint::Publish, b"x");
        chain.into_iter().map(|at| attachments.get(at).unwrap().rule.order).collect()
    };
    assert_eq!(orders(&attachments), [1, 2]);
    attachments.vhost_begins(&late);
    assert_eq!((orders(&attachments).len(), attachments.all().len()), (2, count + 2), "once");
    let first = attachments.chain(&late, AttachmentPoint::Publish, b"x");
    attachments.vhost_ends(&late);
    assert!(first.iter().all(|at| attachments.get(*at).is_none()) && orders(&attachments).is_empty());
    attachments.vhost_begins(&late);
    assert_ne!(attachments.chain(&late, AttachmentPoint::Publish, b"x"), first, "with state of its own");
}
