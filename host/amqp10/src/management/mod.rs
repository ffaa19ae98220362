//! Management over AMQP: requests and responses of the node [`ADDRESS`], as clients of RabbitMQ 4 speak to it.
//!
//! A request is a message with a method as its subject and a path as its `to`, as "HTTP over AMQP" (working draft 6)
//! has it; the response goes back on the link of the same name ("AMQP Link Pairing 1.0").
//!
//! | request | body | response |
//! |---|---|---|
//! | `GET /queues/Q` | null | 200 and the queue |
//! | `PUT /queues/Q` | map: `durable` (true), `exclusive`, `auto_delete`, `arguments` | 201 or 200 and the queue |
//! | `DELETE /queues/Q` | null | 200 and `message_count` |
//! | `DELETE /queues/Q/messages` | null | 200 and `message_count` |
//! | `PUT /exchanges/X` | map: `type` ("direct"), `durable` (true), `auto_delete`, `internal`, `arguments` | 204 |
//! | `DELETE /exchanges/X` | null | 204 |
//! | `POST /bindings` | map: `source`, `destination_queue` or `destination_exchange`, `binding_key`, `arguments` | 204 |
//! | `GET /bindings?src=S&dstq=Q&key=K` (or `dste`) | null | 200 and a list of bindings |
//! | `DELETE /bindings/src=S;dstq=Q;key=K;args=A` (or `dste`) | null | 204 |
//! | `PUT /auth/tokens` | binary | 204 |
//!
//! *In:* [`Call::read`] takes a message and gives a typed [`Request`], or why it is refused. *Out:*
//! [`Response::encode`] appends the message of a response. What a request comes to is its caller's business, and so is
//! the pair of links.
//!
//! *Invariants:* every message that is one has a response: what RabbitMQ ends the session for is refused with 400, 404 or
//! 405 here. Names have at most 255 bytes; what the paths and bodies say of them was checked as RabbitMQ does.

mod arguments;
mod body;
mod refusal;
mod request;
mod response;
mod uri;

pub use arguments::arguments_key;
pub use request::{Binding, Call, Destination, ExchangeDeclaration, QueueDeclaration, Request};
pub use response::{BindingInfo, Kind, QueueInfo, Refused, Response, Status};

use crate::types::Symbol;

/// The node.
pub const ADDRESS: &str = "/management";
/// The property of the links of a pair, which is true.
pub const PAIRED: Symbol<'static> = Symbol::from_static("paired");
/// The `reply-to` of requests: the other link of the pair.
pub const REPLY_TO: &str = "$me";
/// The capability of connections that know pairs of links.
pub const CAPABILITY: Symbol<'static> = Symbol::from_static("LINK_PAIR_V1_0");
