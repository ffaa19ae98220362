//! Types that may take long: what is left for a thread that may wait, and that nobody else waits meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::queue;
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, Now, Receipt, Vhost,
    exchange::Exchange,
    port::{
        Answer, Layer,
        fixed::{FixedTypes, Told},
    },
};
use leveret_model::{MessageView, Name, Refusal, Table};
use std::{
    sync::{Arc, mpsc},
    thread,
};

const BY: ConnectionId = ConnectionId(1);

/// Whoever asks a slow type, tells what of, and waits for the answer.
struct Slow {
    calls: mpsc::Sender<String>,
    answers: Option<mpsc::Receiver<()>>,
}

impl FixedTypes for Slow {
    fn answer(
        &mut self,
        _: &Arc<Exchange>,
        _: Layer,
        _: &mut dyn Iterator<Item = &MessageView<'_>>,
        _: &mut Vec<Answer>,
    ) {
    }
    fn told(&mut self, exchange: &Exchange, what: Told<'_>) {
        if !self.is_slow(&exchange.spec.type_name) {
            return;
        }
        let what = match what {
            Told::Open => "open",
            Told::Bind(_) => "bind",
            Told::Bound(_) => "bound",
            Told::Unbound(_) => "unbound",
            Told::Closed => "closed",
        };
        self.calls.send(format!("{what} {}", exchange.spec.name)).unwrap();
        if let Some(answers) = &self.answers {
            answers.recv().unwrap();
        }
    }
    fn is_slow(&self, type_name: &Name) -> bool {
        type_name.as_bytes() == b"slow"
    }
}

/// A worker, whose types answer at once, and what was called.
fn worker() -> (Slow, mpsc::Receiver<String>) {
    let (calls, called) = mpsc::channel();
    (Slow { calls, answers: None }, called)
}

fn spec(name: &'static str, type_name: &'static str) -> ExchangeSpec {
    ExchangeSpec {
        name: Name::from_static(name),
        type_name: Name::from_static(type_name),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

/// A virtual host with a slow exchange, a quick one, and a queue.
fn vhost(router: &mut Slow) -> Arc<Vhost> {
    let memory = Arc::new(MemoryAccount::new(1 << 30));
    let vhost = Vhost::new(Name::from_static("/"), memory, router).unwrap();
    vhost.declare_exchange(router, spec("slow", "slow")).unwrap();
    vhost.declare_exchange(router, spec("quick", "direct")).unwrap();
    vhost.declare_queue(queue("q"), BY).unwrap();
    vhost
}

fn all(called: &mpsc::Receiver<String>) -> Vec<String> {
    called.try_iter().collect()
}

#[test]
fn what_asks_a_slow_type_is_left_to_others_and_what_tells_it_is_made_at_once() {
    let (mut router, called) = worker();
    let router = &mut router;
    let vhost = vhost(router);
    assert_eq!(all(&called), ["open slow"]);
    let (q, none) = (BindTo::Queue(b"q"), Table::new);
    assert_eq!(vhost.declare_exchange_now(router, spec("new", "slow")), Ok(Now::Ask));
    assert_eq!(
        vhost.declare_exchange_now(router, spec("slow", "slow")),
        Ok(Now::Done((), Receipt::default()))
    );
    assert_eq!(vhost.bind_now(router, b"slow", q, b"k", none(), BY), Ok(Now::Ask));
    assert!(vhost.exchange(b"new").is_none() && vhost.exchange(b"slow").unwrap().binding_count() == 0);
    assert_eq!(vhost.bind_now(router, b"quick", q, b"k", none(), BY), Ok(Now::Done((), Receipt::default())));
    assert!(all(&called).is_empty() && !vhost.errands_due(0));
    for key in [b"k", b"l"] {
        vhost.bind(router, b"slow", q, key, none(), BY).unwrap();
    }
    assert_eq!(
        vhost.bind_now(router, b"slow", q, b"k", none(), BY),
        Ok(Now::Done((), Receipt::default())),
        "it is bound"
    );
    assert_eq!(all(&called), ["bind slow", "bound slow", "bind slow", "bound slow"]);

    assert_eq!(vhost.unbind_now(router, b"slow", q, b"k", none(), BY), Ok(Now::Tell((), Receipt::default())));
    assert_eq!(vhost.exchange(b"slow").unwrap().binding_count(), 1);
    assert!(all(&called).is_empty() && vhost.errands_due(0), "to be told by somebody who may wait");
    // Told before anything later.
    vhost.bind(router, b"slow", q, b"k", none(), BY).unwrap();
    assert_eq!(all(&called), ["bind slow", "unbound slow", "bound slow"]);
    assert_eq!(vhost.delete_queue_now(router, b"q", false, false, BY), Ok(Now::Tell(0, Receipt::default())));
    assert!(vhost.queue(b"q").is_none() && all(&called).is_empty());
    vhost.run_errands(router);
    assert_eq!(all(&called), ["unbound slow", "unbound slow"]);
    assert_eq!(vhost.delete_exchange_now(router, b"slow", false), Ok(Now::Tell((), Receipt::default())));
    vhost.run_errands(router);
    assert_eq!(all(&called), ["closed slow"]);
    assert_eq!(vhost.delete_exchange_now(router, b"quick", false), Ok(Now::Done((), Receipt::default())));
}

/// While a type is asked, everything else of the virtual host goes on, also what makes its answer void.
#[test]
fn nobody_waits_while_a_slow_type_is_asked() {
    let (mut router, _called) = worker();
    let vhost = vhost(&mut router);
    let (calls, called) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let mut beside = Slow { calls, answers: Some(answers) };
    let to_bind = vhost.clone();
    let binds = thread::spawn(move || {
        let (q, vhost) = (BindTo::Queue(b"q"), to_bind);
        let first = vhost.bind(&mut beside, b"slow", q, b"first", Table::new(), BY);
        (first, vhost.bind(&mut beside, b"slow", q, b"second", Table::new(), BY))
    });
    assert_eq!(called.recv().unwrap(), "bind slow");
    let router = &mut router;
    vhost.declare_queue(queue("r"), BY).unwrap();
    let r = BindTo::Queue(b"r");
    assert_eq!(
        vhost.bind_now(router, b"quick", r, b"k", Table::new(), BY),
        Ok(Now::Done((), Receipt::default()))
    );
    assert_eq!(vhost.bind_now(router, b"slow", r, b"k", Table::new(), BY), Ok(Now::Ask));
    assert_eq!(
        vhost.unbind_now(router, b"quick", r, b"k", Table::new(), BY),
        Ok(Now::Done((), Receipt::default()))
    );
    answer.send(()).unwrap();
    assert_eq!(called.recv().unwrap(), "bound slow");
    answer.send(()).unwrap();
    assert_eq!(called.recv().unwrap(), "bind slow");
    // Its queue goes while the type thinks about the second.
    assert_eq!(vhost.delete_queue_now(router, b"q", false, false, BY), Ok(Now::Tell(0, Receipt::default())));
    answer.send(()).unwrap();
    assert_eq!(called.recv().unwrap(), "unbound slow");
    answer.send(()).unwrap();
    let (first, second) = binds.join().unwrap();
    assert_eq!(first, Ok(Receipt::default()));
    assert!(matches!(second, Err(Refusal::NotFound { .. })), "{second:?}");
    assert_eq!(vhost.exchange(b"slow").unwrap().binding_count(), 0);
}

/// Of two who declare the same exchange at the same time one makes it, and both are answered alike.
#[test]
fn an_exchange_that_came_meanwhile_must_be_equivalent() {
    let (mut router, _called) = worker();
    let vhost = vhost(&mut router);
    for (kind, other_wins) in [("direct", false), ("slow", true)] {
        let (calls, called) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let mut beside = Slow { calls, answers: Some(answers) };
        let (to_declare, name) = (vhost.clone(), if other_wins { "same" } else { "other" });
        let declares = thread::spawn(move || to_declare.declare_exchange(&mut beside, spec(name, "slow")));
        assert_eq!(called.recv().unwrap(), format!("open {name}"));
        if !other_wins {
            vhost.declare_exchange(&mut router, spec(name, kind)).unwrap();
            answer.send(()).unwrap();
            assert_eq!(called.recv().unwrap(), format!("closed {name}"), "nobody is to see it");
        }
        answer.send(()).unwrap();
        assert_eq!(declares.join().unwrap().is_ok(), other_wins);
        assert_eq!(vhost.exchange(name.as_bytes()).unwrap().spec.type_name.as_bytes(), kind.as_bytes());
    }
}
