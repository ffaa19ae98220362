//! What the cases share: connections, queues, the names of conditions.

use amqprs::channel::{Channel, QueueDeclareArguments, QueueDeleteArguments};
use amqprs::connection::OpenConnectionArguments;
use amqprs::{FieldTable, FieldValue};
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{Error, ErrorCondition};
use fe2o3_amqp::types::messaging::{Message, Outcome};
use fe2o3_amqp::types::primitives::{Symbol, Value};
use fe2o3_amqp::{Connection, Delivery, Receiver, Sender, Session};
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// For a whole case: reached only when something that was to come never came.
const CASE_MAX: Duration = Duration::from_secs(90);

/// A case; a panic is a failure.
pub(crate) type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// A list of cases from pairs of a name and an async function without arguments.
macro_rules! cases {
    ($($name:literal => $function:path),* $(,)?) => {
        vec![$(($name, (|| Box::pin($function())) as crate::harness::Case)),*]
    };
}
pub(crate) use cases;

/// Runs the cases one after another.
pub(crate) async fn run(cases: Vec<(&'static str, Case)>) -> ExitCode {
    let tasks = tokio::task::LocalSet::new();
    let mut failed = false;
    for (name, case) in cases {
        // A task of its own: what it panics with ends it alone.
        let ended = tasks.run_until(async move {
            tokio::task::spawn_local(async move { tokio::time::timeout(CASE_MAX, case()).await }).await
        });
        match ended.await {
            Ok(Ok(())) => println!("ok {name}"),
            Ok(Err(_)) => {
                failed = true;
                println!("FAIL {name}: waited for something in vain");
            }
            Err(panic) => {
                failed = true;
                println!("FAIL {name}: {panic}");
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

/// A name that no other case and no other run uses.
pub(crate) fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    format!("fe2o3-{stem}-{}-{now:x}-{number}", std::process::id())
}

/// Where the broker is: host and port, without user and virtual host.
fn place() -> (String, u16) {
    let url = std::env::var("AMQP_URL").expect("AMQP_URL names the broker");
    let place = url.rsplit_once('@').expect("a user in the URL").1;
    let (host, port) = place.split('/').next().unwrap().rsplit_once(':').expect("a port in the URL");
    (host.to_owned(), port.parse().expect("a port"))
}

/// The URL of the broker for AMQP 1.0, with or without `user:password@`.
pub(crate) fn url(user: &str) -> String {
    let (host, port) = place();
    format!("amqp://{user}{host}:{port}")
}

/// A connection by AMQP 1.0 with one session.
pub(crate) struct Peer {
    pub(crate) connection: ConnectionHandle<()>,
    pub(crate) session: SessionHandle<()>,
}

impl Peer {
    pub(crate) async fn dial() -> Self {
        Self::over(Connection::open(unique("container"), url("guest:guest@").as_str()).await.unwrap()).await
    }

    /// Begins the session.
    pub(crate) async fn over(mut connection: ConnectionHandle<()>) -> Self {
        let session = Session::begin(&mut connection).await.unwrap();
        Self { connection, session }
    }

    pub(crate) async fn sender(&mut self, address: &str) -> Sender {
        Sender::attach(&mut self.session, unique("sender"), address).await.unwrap()
    }

    /// A receiver with the client's own credit, which settles what it is told to.
    pub(crate) async fn receiver(&mut self, address: &str) -> Receiver {
        Receiver::attach(&mut self.session, unique("receiver"), address).await.unwrap()
    }

    pub(crate) async fn close(mut self) {
        self.session.end().await.unwrap();
        self.connection.close().await.unwrap();
    }
}

/// A connection by the other protocol, which makes queues and counts what is in them.
pub(crate) struct Queues {
    channel: Channel,
    // It ends when it is dropped.
    _connection: amqprs::connection::Connection,
}

impl Queues {
    pub(crate) async fn open() -> Self {
        let (host, port) = place();
        let arguments = OpenConnectionArguments::new(&host, port, "guest", "guest");
        let connection = amqprs::connection::Connection::open(&arguments).await.unwrap();
        let channel = connection.open_channel(None).await.unwrap();
        Self { channel, _connection: connection }
    }

    /// Declares a durable queue; its name and its address.
    pub(crate) async fn declare(&self, arguments: &[(&str, FieldValue)]) -> (String, String) {
        let name = unique("queue");
        let mut table = FieldTable::new();
        for (key, value) in arguments {
            table.insert((*key).try_into().unwrap(), value.clone());
        }
        let declare = QueueDeclareArguments::durable_client_named(&name).arguments(table).finish();
        self.channel.queue_declare(declare).await.unwrap();
        let address = format!("/queues/{name}");
        (name, address)
    }

    /// How many messages are ready.
    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareArguments::new(queue).passive(true).durable(true).finish();
        self.channel.queue_declare(passive).await.unwrap().unwrap().1
    }

    pub(crate) async fn delete(&self, queue: &str) {
        self.channel.queue_delete(QueueDeleteArguments::new(queue)).await.unwrap();
    }
}

/// A text for a field table.
pub(crate) fn text(value: &str) -> FieldValue {
    FieldValue::S(value.try_into().unwrap())
}

/// Sends; it must be accepted.
pub(crate) async fn send(sender: &mut Sender, body: impl Into<Value>) {
    accepted(sender.send(Message::builder().value(body.into()).build()).await.unwrap());
}

/// The outcome must be this one.
pub(crate) fn accepted(outcome: Outcome) {
    assert!(outcome.is_accepted(), "{outcome:?}");
}

/// The next delivery, whose body is a value.
pub(crate) async fn next(receiver: &mut Receiver) -> Delivery<Value> {
    receiver.recv::<Value>().await.unwrap()
}

/// The next one's body; it is accepted.
pub(crate) async fn take(receiver: &mut Receiver) -> Value {
    let delivery = next(receiver).await;
    receiver.accept(&delivery).await.unwrap();
    delivery.into_body()
}

/// The symbol of an error's condition.
pub(crate) fn condition(error: &Error) -> String {
    let symbol = match &error.condition {
        ErrorCondition::AmqpError(one) => Symbol::from(one),
        ErrorCondition::ConnectionError(one) => Symbol::from(one),
        ErrorCondition::SessionError(one) => Symbol::from(one),
        ErrorCondition::LinkError(one) => Symbol::from(one),
        ErrorCondition::TransactionError(one) => Symbol::from(one),
        ErrorCondition::Custom(symbol) => symbol.clone(),
    };
    symbol.0
}

/// Has the broker fail (`cut`, `restart`, `kill`); returns when it is there again.
pub(crate) async fn outage(kind: &str) {
    let control = std::env::var("CONTROL").expect("CONTROL names the port that is asked");
    let mut control = BufReader::new(TcpStream::connect(control).await.unwrap());
    control.write_all(format!("{kind}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    control.read_line(&mut answer).await.unwrap();
    assert_eq!(answer, "over\n", "{kind}");
}
