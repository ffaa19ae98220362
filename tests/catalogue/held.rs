//! What an operator can do with held messages: count, list and cancel them. No client can yet, so this asks
//! the broker's own library, with the real plugin.

use leveret_amqp091::form::FORM;
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, Publish, Published, Publisher, QueueSpec, Vhost,
    port::{Router as _, Wake},
};
use leveret_model::{MessageView, Name, Table, Value};
use leveret_plugin::{Host, HostConfig, Worker};
use std::sync::Arc;

const BY: ConnectionId = ConnectionId(1);

/// Nobody waits: nothing here is pending.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// The properties of a message with the header `x-delay`, as they go on the wire: flags, the table's length,
/// then name and value.
fn delay(delay_ms: u32) -> Vec<u8> {
    let field = [&b"\x07x-delayI"[..], &delay_ms.to_be_bytes()].concat();
    [&[0x20, 0, 0, 0, 0, field.len() as u8][..], &field].concat()
}

fn send(vhost: &Arc<Vhost>, worker: &mut Worker, key: &str, delay_ms: u32) -> Published {
    let properties = delay(delay_ms);
    let message = MessageView {
        exchange: b"x",
        routing_key: key.as_bytes(),
        form: FORM,
        properties: &properties,
        body: b"body",
        publisher: None,
    };
    let batch = [Publish { channel: 1, message, mandatory: false, more_keys: None }];
    let (mut outcomes, waker): (_, Arc<dyn Wake>) = (Vec::new(), Arc::new(Nobody));
    Publisher::default().publish(vhost, worker, &batch, &mut outcomes, &waker);
    outcomes.pop().unwrap()
}

#[test]
fn held_messages_are_counted_listed_and_cancelled() {
    let host = Host::new(HostConfig { form: Some(FORM), ..HostConfig::default() }).unwrap();
    let mut worker = host.worker(0);
    let vhost = Vhost::new(name("/"), Arc::new(MemoryAccount::new(1 << 30)), &mut worker).unwrap();
    let arguments: Table = [(name("x-delayed-type"), Value::Text("direct".into()))].into_iter().collect();
    let exchange = ExchangeSpec {
        name: name("x"),
        type_name: name("x-delayed-message"),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments,
    };
    vhost.declare_exchange(&mut worker, exchange).unwrap();
    let queue = QueueSpec {
        name: name("q"),
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    };
    vhost.declare_queue(queue, BY).unwrap();
    vhost.bind(&mut worker, b"x", BindTo::Queue(b"q"), b"k", Table::new(), BY).unwrap();

    let now_ms = worker.now_ms();
    for (key, delay_ms) in [("late", 900_000), ("k", 300_000), ("late", 900_000)] {
        assert_eq!(send(&vhost, &mut worker, key, delay_ms), Published::Routed);
    }
    assert_eq!((vhost.hold_count(b"x"), vhost.held().0), (3, 3));
    let held = vhost.holds(b"x", 0, 10);
    let keys: Vec<&[u8]> = held.iter().map(|held| held.routing_key.as_bytes()).collect();
    assert_eq!(keys, [&b"k"[..], b"late", b"late"], "by their times");
    assert!(held[0].due_ms >= now_ms + 300_000 && held[0].due_ms < now_ms + 900_000);
    assert!(vhost.cancel_hold(held[0].id) && !vhost.cancel_hold(held[0].id));
    assert_eq!(vhost.hold_count(b"x"), 2);
    assert_eq!(vhost.cancel_holds(b"x"), 2);
    assert_eq!((vhost.held(), vhost.check_queue(b"q", BY).unwrap().messages), ((0, 0), 0));
}
