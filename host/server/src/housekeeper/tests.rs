#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use leveret_amqp091::form::FORM;
use leveret_broker::{
    BindTo, Client, ConnectionId, ConsumeSpec, Delivery, ExchangeSpec, MemoryAccount, Publish, Published,
    Publisher, QueueSpec, Sink,
    exchange::Exchange,
    later::Why,
    port::{
        Answer, Hold, Layer,
        fixed::{FixedTypes, to_all},
    },
};
use leveret_model::{MessageView, Name, Table};
use std::time::{SystemTime, UNIX_EPOCH};

/// Types that hold for as many milliseconds as the routing key says, then deliver to all.
struct Holding;

impl FixedTypes for Holding {
    fn answer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
    ) {
        answers.extend(messages.map(|message| {
            if layer == Layer::FRONT {
                let delay_ms = std::str::from_utf8(message.routing_key).unwrap().parse().unwrap();
                Answer::Hold(Hold { delay_ms, resume: Layer(1) })
            } else {
                to_all(exchange)
            }
        }));
    }
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
    }
}

#[derive(Default)]
struct Bodies(Vec<Vec<u8>>);

impl Sink for Bodies {
    fn has_room(&self) -> bool {
        true
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.0.push(delivery.message.body.to_vec());
    }
}

/// A vhost with an exchange `x`, a queue `q` bound to it, and a consumer with its wake.
fn prepared(router: &mut Holding) -> (Arc<Vhost>, Client, Arc<HousekeeperWake>) {
    let vhost = Vhost::new(Name::from_static("/"), Arc::new(MemoryAccount::new(1 << 30)), router).unwrap();
    let (wake, by) = (Arc::new(HousekeeperWake::default()), ConnectionId(1));
    let spec = ExchangeSpec {
        name: Name::from_static("x"),
        type_name: Name::from_static("hold"),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    vhost.declare_exchange(router, spec).unwrap();
    let q = Name::from_static("q");
    vhost.declare_queue(QueueSpec { name: q.clone(), ..QueueSpec::default() }, by).unwrap();
    vhost.bind(router, b"x", BindTo::Queue(b"q"), b"", Table::new(), by).unwrap();
    let mut client = Client::new(vhost.clone(), by, wake.clone());
    client.open_channel(1);
    client.consume(1, ConsumeSpec { queue: q, no_ack: true, ..ConsumeSpec::default() }).unwrap();
    (vhost, client, wake)
}

#[test]
fn what_is_held_comes_when_it_is_due_also_if_something_earlier_is_held_later() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let router = RefCell::new(Holding);
    let (vhost, mut client, wake) = prepared(&mut router.borrow_mut());
    let publish = |delays: &[&str]| {
        let batch: Vec<_> = delays
            .iter()
            .map(|delay| Publish {
                channel: 1,
                message: MessageView {
                    exchange: b"x",
                    routing_key: delay.as_bytes(),
                    form: FORM,
                    properties: &[0, 0],
                    body: delay.as_bytes(),
                    publisher: None,
                },
                mandatory: false,
                more_keys: None,
            })
            .collect();
        let (mut outcomes, waker) = (Vec::new(), wake.clone() as Arc<dyn Wake>);
        Publisher::default().publish(&vhost, &mut *router.borrow_mut(), &batch, &mut outcomes, &waker);
        assert!(outcomes.iter().all(|outcome| *outcome == Published::Routed));
    };
    let consume = async {
        let mut bodies = Bodies::default();
        let started = Instant::now();
        publish(&["60000", "30"]);
        tokio::task::yield_now().await;
        // The housekeeper sleeps until the first is due; this is due before.
        publish(&["1"]);
        while bodies.0.len() < 2 {
            wake.0.notified().await;
            client.deliver(&mut *router.borrow_mut(), &mut bodies);
        }
        assert!(started.elapsed() >= Duration::from_millis(29));
        bodies.0
    };
    let bodies = runtime.block_on(async {
        tokio::select! {
            () = keep(vhost.clone(), &router, |errand| errand(&mut Holding)) => unreachable!("it never ends"),
            bodies = consume => bodies,
        }
    });
    assert_eq!(bodies, [b"1".to_vec(), b"30".to_vec()]);
    assert_eq!(vhost.held().0, 1);
}

#[test]
fn losses_are_added_up_until_it_is_time_to_tell_them() {
    let mut router = Holding;
    let (vhost, ..) = prepared(&mut router);
    let loss = |name, count| Loss { why: Why::NoQueue, name: Name::from_static(name), count };
    let mut losses = Losses::default();
    losses.tell(&vhost);
    assert!(losses.told.is_none(), "nothing to tell");
    losses.add(vec![loss("a", 1)]);
    losses.tell(&vhost);
    assert!(losses.kept.is_empty() && losses.due().is_none());
    losses.add(vec![loss("a", 2), loss("b", 1)]);
    losses.add(vec![loss("a", 3)]);
    losses.tell(&vhost);
    assert_eq!(losses.kept, [loss("a", 5), loss("b", 1)], "told just now");
    assert!(losses.due().is_some_and(|due| due > Instant::now()));
}
