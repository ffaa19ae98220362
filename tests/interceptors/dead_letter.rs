//! On dead-letter: what the host says of a letter, with what the one before made of it.

use super::guests;
use leveret_amqp091::form::FORM;
use leveret_broker::port::Intercepted;
use leveret_model::{MessageView, Name, Table, Value};
use leveret_plugin::{
    AttachmentPoint, AttachmentRule, Attachments, Host, HostConfig, attachment::Pattern,
    policy::FailurePolicy,
};
use std::{path::Path, sync::Arc};

fn attached(interceptor: &str, order: i64, arguments: &[(&'static str, &str)]) -> AttachmentRule {
    let arguments = arguments.iter();
    AttachmentRule {
        interceptor: interceptor.into(),
        point: AttachmentPoint::DeadLetter,
        vhost: None,
        names: Some(Pattern::new("dying*")),
        order,
        on_failure: FailurePolicy::Reject,
        arguments: arguments
            .map(|(n, v)| (Name::from_static(n), Value::Text((*v).into())))
            .collect::<Table>(),
    }
}

#[test]
fn letters_are_changed_dropped_and_kept_back() {
    let vhost = Name::from_static("/");
    let append = |order, value| attached("append", order, &[("header", "x-seen"), ("value", value)]);
    let rules = vec![append(20, "b"), append(10, "a"), attached("by-key", 30, &[])];
    let attachments = Arc::new(Attachments::new(rules, std::slice::from_ref(&vhost)).unwrap());
    let config = HostConfig { attachments, form: Some(FORM), ..HostConfig::default() };
    let host = Host::new(config).unwrap();
    let mut worker = host.worker(0);
    let mut ask = |queue: &str, key: &str| {
        let message = MessageView {
            exchange: b"dlx",
            routing_key: key.as_bytes(),
            form: FORM,
            properties: FORM.empty(),
            body: b"body",
            publisher: None,
        };
        worker.intercept_letter(&vhost, queue.as_bytes(), "rejected", &message)
    };
    // No plugin: it stays where it is; other queues are not concerned.
    assert!(matches!(ask("dying", "k"), Intercepted::Reject(why) if why.contains("no plugin")));
    assert_eq!(ask("other", "k"), Intercepted::Continue);
    let component = std::fs::read(guests::component("interceptors_v1")).unwrap();
    host.registry().offer(Path::new("interceptors.wasm"), &component).unwrap();
    for _ in 0..2 {
        let Intercepted::Patch(patch) = ask("dying.1", "move") else { panic!("no patch") };
        assert_eq!(patch.headers()[0].value, Some(Value::Text("ab".into())));
        assert_eq!(patch.routing_key(), Some(&Name::from_static("moved")));
        assert_eq!(ask("dying", "drop"), Intercepted::Drop);
        assert_eq!(ask("dying", "reject"), Intercepted::Reject("asked to".into()));
        assert!(matches!(ask("dying", "trap"), Intercepted::Reject(why) if why.contains("by-key")));
    }
    let counters = worker.counters();
    assert!(counters.remembered >= 6, "verdicts of pure interceptors are remembered: {counters:?}");
}
