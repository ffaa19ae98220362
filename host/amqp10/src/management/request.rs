//! Requests: what a message asks for.

use super::{
    Kind, REPLY_TO, Refused, Status, body,
    uri::{BadUri, BindingSegment, Uri, decode},
};
use crate::{
    composite::Composite,
    descriptor,
    messaging::{MessageId, Properties},
    types::{DecodeError, Reader, Value},
};
use alloc::{format, string::String};
use leveret_model::{Name, Table};

/// A message to the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<'a> {
    /// What the response is to name as what it answers; a message without one has a response that names nothing.
    pub id: Option<MessageId<'a>>,
    /// What it asks for, or why it is refused.
    pub request: Result<Request<'a>, Refused>,
}

/// What is asked for. Whether it may be, and whether what it names is there, is not known here.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// What a queue is like. 200 with [`super::Response::Queue`], or 404.
    GetQueue(Name),
    /// That there is a queue. 201 or 200 with [`super::Response::Queue`]; 409 if there is another one of that name.
    DeclareQueue(QueueDeclaration),
    /// That there is no such queue. 200 with [`super::Response::Messages`], also if there was none.
    DeleteQueue(Name),
    /// That no message is ready in a queue. 200 with [`super::Response::Messages`], or 404.
    PurgeQueue(Name),
    /// That there is an exchange. 204; 409 if there is another one of that name; 403 if there is none of it yet and it
    /// [`is_reserved`](Kind::is_reserved).
    DeclareExchange(ExchangeDeclaration),
    /// That there is no such exchange. 204, also if there was none.
    DeleteExchange(Name),
    /// That there is a binding. 204.
    Bind(Binding),
    /// That there is no such binding. 204, also if there was none.
    Unbind {
        /// The exchange that it begins at.
        source: Name,
        /// Where it leads.
        destination: Destination,
        /// Its key.
        key: Name,
        /// What its arguments are known by ([`super::arguments_key`]).
        arguments: &'a str,
    },
    /// The bindings of a key. 200 with [`super::Response::Bindings`].
    GetBindings {
        /// The exchange that they begin at.
        source: Name,
        /// Where they lead.
        destination: Destination,
        /// Their key.
        key: Name,
    },
    /// That the connection goes on with this token. 204.
    RenewToken(&'a [u8]),
}

/// A queue that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDeclaration {
    /// Its name, which is not empty.
    pub name: Name,
    /// Whether it outlives the process.
    pub durable: bool,
    /// Whether it is of this connection alone.
    pub exclusive: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Its arguments.
    pub arguments: Table,
}

/// An exchange that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDeclaration {
    /// Its name, which is not empty.
    pub name: Name,
    /// Its type.
    pub exchange_type: Name,
    /// Whether it outlives the process.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only other exchanges publish to it.
    pub internal: bool,
    /// Its arguments.
    pub arguments: Table,
}

/// A binding that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange that it begins at.
    pub source: Name,
    /// Where it leads.
    pub destination: Destination,
    /// Its key.
    pub key: Name,
    /// Its arguments.
    pub arguments: Table,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A queue.
    Queue(Name),
    /// An exchange.
    Exchange(Name),
}

impl<'a> Call<'a> {
    /// What a message asks for. The name of the virtual host is part of what is said of names.
    ///
    /// Its sections may come in any order, as on RabbitMQ, whose Python client puts an empty body in front; the last of a
    /// kind counts.
    ///
    /// # Errors
    /// It is no message.
    pub fn read(message: &'a [u8], virtual_host: &str) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        let mut properties = Properties::default();
        // None is as good as null.
        let mut body = Ok(Value::Null);
        while !reader.is_empty() {
            let Value::Described(section) = reader.value()? else { return Err(DecodeError::NotDescribed) };
            match (section.descriptor_code(), section.value()) {
                (Some(descriptor::PROPERTIES), Value::List(fields)) => {
                    properties = Properties::from_list(fields)?
                }
                (Some(descriptor::PROPERTIES), _) => return Err(DecodeError::Content("properties")),
                (Some(descriptor::AMQP_VALUE), value) => body = Ok(value),
                (Some(descriptor::DATA | descriptor::AMQP_SEQUENCE), _) => {
                    body = Err(Refused::bad("expected an amqp-value as the body"));
                }
                _ => {}
            }
        }
        Ok(Self { id: properties.message_id, request: read(&properties, body, virtual_host) })
    }
}

fn read<'a>(
    properties: &Properties<'a>,
    body: Result<Value<'a>, Refused>,
    virtual_host: &str,
) -> Result<Request<'a>, Refused> {
    let path = properties.to.ok_or_else(|| Refused::bad("the request has no path as its 'to'"))?;
    let method =
        properties.subject.ok_or_else(|| Refused::bad("the request has no method as its 'subject'"))?;
    if properties.reply_to != Some(REPLY_TO) {
        return Err(Refused::bad(format!("the request has no '{REPLY_TO}' as its 'reply-to'")));
    }
    let bad_uri = |BadUri(why)| Refused::bad(format!("failed to normalize URI '{path}': {why}"));
    let uri = Uri::parse(path).map_err(bad_uri)?;
    let named = |segment: &str, kind: Kind| name(&decode(segment).map_err(bad_uri)?, kind);
    let ask = Ask { method, path, virtual_host };
    let value = body?;
    match uri.segments[..] {
        ["queues", queue] => ask.queue(named(queue, Kind::Queue)?, value),
        ["queues", queue, "messages"] => {
            ask.only("DELETE")?;
            body::null(value)?;
            Ok(Request::PurgeQueue(named(queue, Kind::Queue)?))
        }
        ["exchanges", exchange] => ask.exchange(named(exchange, Kind::Exchange)?, value),
        ["bindings"] => match method {
            "POST" => bind(value),
            "GET" => {
                body::null(value)?;
                get_bindings(&uri, bad_uri)
            }
            _ => Err(ask.not_allowed()),
        },
        ["bindings", segment] => {
            ask.only("DELETE")?;
            body::null(value)?;
            unbind(segment)
        }
        ["auth", "tokens"] => {
            ask.only("PUT")?;
            match value {
                Value::Binary(token) => Ok(Request::RenewToken(token)),
                other => {
                    Err(Refused::bad(format!("expected a binary as the body, found {}", other.type_name())))
                }
            }
        }
        _ => Err(Refused::new(Status::NotFound, format!("there is no '{path}'"))),
    }
}

/// Whoever asks.
struct Ask<'c> {
    method: &'c str,
    path: &'c str,
    virtual_host: &'c str,
}

impl Ask<'_> {
    fn not_allowed(&self) -> Refused {
        let Self { method, path, .. } = self;
        Refused::new(Status::MethodNotAllowed, format!("method '{method}' is not allowed for '{path}'"))
    }

    fn only(&self, method: &str) -> Result<(), Refused> {
        if self.method == method { Ok(()) } else { Err(self.not_allowed()) }
    }

    fn queue<'a>(&self, name: Name, value: Value<'a>) -> Result<Request<'a>, Refused> {
        match self.method {
            "GET" => {
                body::null(value)?;
                Ok(Request::GetQueue(name))
            }
            "DELETE" => {
                body::null(value)?;
                without_line_ends(&name)?;
                Ok(Request::DeleteQueue(name))
            }
            "PUT" => {
                let declaration = queue_declaration(name, value)?;
                let name = &declaration.name;
                if name.is_empty() {
                    return Err(Refused::bad("declare queue with empty name not allowed"));
                }
                without_line_ends(name)?;
                if Kind::is_reserved(name) {
                    return Err(Refused::reserved(Kind::Queue, name, self.virtual_host));
                }
                Ok(Request::DeclareQueue(declaration))
            }
            _ => Err(self.not_allowed()),
        }
    }

    fn exchange<'a>(&self, name: Name, value: Value<'a>) -> Result<Request<'a>, Refused> {
        match self.method {
            "PUT" => {
                let declaration = exchange_declaration(name, value)?;
                not_the_default(&declaration.name)?;
                without_line_ends(&declaration.name)?;
                Ok(Request::DeclareExchange(declaration))
            }
            "DELETE" => {
                body::null(value)?;
                without_line_ends(&name)?;
                not_the_default(&name)?;
                if Kind::is_reserved(&name) {
                    return Err(Refused::reserved(Kind::Exchange, &name, self.virtual_host));
                }
                Ok(Request::DeleteExchange(name))
            }
            _ => Err(self.not_allowed()),
        }
    }
}

fn queue_declaration(name: Name, value: Value<'_>) -> Result<QueueDeclaration, Refused> {
    let mut queue = QueueDeclaration {
        name,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    };
    let fields = body::Fields { what: "queue", part: "property" };
    fields.each(body::map(value)?, |field, value| match field {
        "durable" => body::set_boolean(&mut queue.durable, value),
        "exclusive" => body::set_boolean(&mut queue.exclusive, value),
        "auto_delete" => body::set_boolean(&mut queue.auto_delete, value),
        "arguments" => body::set_arguments(&mut queue.arguments, value),
        _ => Ok(false),
    })?;
    Ok(queue)
}

fn exchange_declaration(name: Name, value: Value<'_>) -> Result<ExchangeDeclaration, Refused> {
    let mut exchange = ExchangeDeclaration {
        name,
        exchange_type: Name::from_static("direct"),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    let fields = body::Fields { what: "exchange", part: "property" };
    fields.each(body::map(value)?, |field, value| match field {
        "durable" => body::set_boolean(&mut exchange.durable, value),
        "auto_delete" => body::set_boolean(&mut exchange.auto_delete, value),
        "internal" => body::set_boolean(&mut exchange.internal, value),
        "arguments" => body::set_arguments(&mut exchange.arguments, value),
        "type" => match value {
            Value::String(text) => {
                exchange.exchange_type = name_of(text, "exchange type")?;
                Ok(true)
            }
            _ => Ok(false),
        },
        _ => Ok(false),
    })?;
    Ok(exchange)
}

fn bind<'a>(value: Value<'_>) -> Result<Request<'a>, Refused> {
    let (mut source, mut destination, mut key, mut arguments) = (None, None, None, Table::new());
    let mut destinations = 0;
    let fields = body::Fields { what: "binding", part: "field" };
    fields.each(body::map(value)?, |field, value| {
        let Value::String(text) = value else {
            return if field == "arguments" { body::set_arguments(&mut arguments, value) } else { Ok(false) };
        };
        match field {
            "source" => source = Some(name(text, Kind::Exchange)?),
            "destination_queue" => destination = Some(Destination::Queue(name(text, Kind::Queue)?)),
            "destination_exchange" => destination = Some(Destination::Exchange(name(text, Kind::Exchange)?)),
            "binding_key" => key = Some(name_of(text, "binding key")?),
            _ => return Ok(false),
        }
        destinations += usize::from(field.starts_with("destination"));
        Ok(true)
    })?;
    let missing = |field: &str| Refused::bad(format!("missing binding field '{field}'"));
    if destinations > 1 {
        return Err(Refused::bad("a binding has one destination"));
    }
    let source = source.ok_or_else(|| missing("source"))?;
    let destination = destination.ok_or_else(|| missing("destination_queue' or 'destination_exchange"))?;
    let key = key.ok_or_else(|| missing("binding_key"))?;
    check_ends(&source, &destination)?;
    Ok(Request::Bind(Binding { source, destination, key, arguments }))
}

fn get_bindings<'a>(uri: &Uri<'_>, bad_uri: impl Fn(BadUri) -> Refused) -> Result<Request<'a>, Refused> {
    let parameter = |name: &str| uri.parameter(name).map_err(&bad_uri);
    let missing = |name: &str| Refused::bad(format!("missing '{name}' in query: '{}'", uri.query));
    let source = name(&parameter("src")?.ok_or_else(|| missing("src"))?, Kind::Exchange)?;
    let destination = match (parameter("dste")?, parameter("dstq")?) {
        (Some(exchange), _) => Destination::Exchange(name(&exchange, Kind::Exchange)?),
        (None, Some(queue)) => Destination::Queue(name(&queue, Kind::Queue)?),
        (None, None) => return Err(missing("dste' or 'dstq")),
    };
    let key = name_of(&parameter("key")?.ok_or_else(|| missing("key"))?, "binding key")?;
    check_ends(&source, &destination)?;
    Ok(Request::GetBindings { source, destination, key })
}

fn unbind(segment: &str) -> Result<Request<'_>, Refused> {
    let Some(found) = BindingSegment::parse(segment) else {
        return Err(Refused::bad(format!("bad binding path segment '{segment}'")));
    };
    let source = name(&found.source, Kind::Exchange)?;
    let destination = if found.is_queue {
        Destination::Queue(name(&found.destination, Kind::Queue)?)
    } else {
        Destination::Exchange(name(&found.destination, Kind::Exchange)?)
    };
    check_ends(&source, &destination)?;
    let key = name_of(&found.key, "binding key")?;
    Ok(Request::Unbind { source, destination, key, arguments: found.arguments })
}

/// The default exchange is bound to all queues, and to nothing else.
fn check_ends(source: &Name, destination: &Destination) -> Result<(), Refused> {
    not_the_default(source)?;
    without_line_ends(source)?;
    match destination {
        Destination::Queue(queue) => without_line_ends(queue),
        Destination::Exchange(exchange) => {
            not_the_default(exchange)?;
            without_line_ends(exchange)
        }
    }
}

fn not_the_default(exchange: &Name) -> Result<(), Refused> {
    if exchange.is_empty() {
        return Err(Refused::new(
            Status::Forbidden,
            String::from("operation not permitted on the default exchange"),
        ));
    }
    Ok(())
}

fn without_line_ends(name: &Name) -> Result<(), Refused> {
    if name.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        let name = name.to_text();
        return Err(Refused::bad(format!(
            "Bad name '{name}': line feed and carriage return characters not allowed"
        )));
    }
    Ok(())
}

fn name(text: &str, kind: Kind) -> Result<Name, Refused> {
    name_of(text, kind.as_str())
}

fn name_of(text: &str, what: &str) -> Result<Name, Refused> {
    Name::new(text.as_bytes()).map_err(|error| {
        let (bytes, most) = (error.bytes, Name::BYTES_MAX);
        Refused::bad(format!("{what} of {bytes} bytes: there are at most {most}"))
    })
}
