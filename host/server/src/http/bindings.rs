//! Bindings: all of them, and those of one exchange or queue.
//!
//! As in RabbitMQ, each queue is shown bound to the default exchange by its name. Unlike there, the
//! bindings of an exchange or queue that does not exist are 404, not a list.

use super::{
    Api, arguments,
    error::ApiError,
    json::{BindingJson, DestinationType},
    login::Caller,
    path::Names,
};
use axum::{Extension, Json, extract::State};
use leveret_broker::{
    Vhost,
    exchange::{Binding, Destination, Exchange},
    queue::Queue,
};
use leveret_model::{Name, Table};
use percent_encoding::percent_decode_str;
use std::{cmp::Ordering, sync::Arc};

/// What a list of bindings is answered with.
type Listed = Result<Json<Vec<BindingJson>>, ApiError>;

/// `/api/bindings`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<BindingJson>> {
    Json(api.vhosts_of(&caller).into_iter().flat_map(|vhost| of_vhost(&vhost)).collect())
}

/// `/api/bindings/{vhost}`.
pub(super) async fn list_of_vhost(State(api): State<Arc<Api>>, Names(vhost): Names<String>) -> Listed {
    Ok(Json(of_vhost(&*api.vhost(&vhost)?)))
}

/// `/api/exchanges/{vhost}/{exchange}/bindings/source`.
pub(super) async fn list_from_exchange(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Listed {
    let (vhost, exchange) = api.exchange(&vhost, &exchange)?;
    Ok(Json(sorted(from_exchange(&vhost, &exchange))))
}

/// `/api/exchanges/{vhost}/{exchange}/bindings/destination`.
pub(super) async fn list_to_exchange(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Listed {
    let (vhost, exchange) = api.exchange(&vhost, &exchange)?;
    Ok(Json(sorted(leading_to(&vhost, &Destination::Exchange(exchange)))))
}

/// `/api/queues/{vhost}/{queue}/bindings`.
pub(super) async fn list_to_queue(
    State(api): State<Arc<Api>>,
    Names((vhost, queue)): Names<(String, String)>,
) -> Listed {
    let (vhost, queue) = api.queue(&vhost, &queue)?;
    let mut bindings = vec![by_default(&vhost, &queue)];
    bindings.extend(leading_to(&vhost, &Destination::Queue(queue)));
    Ok(Json(sorted(bindings)))
}

pub(super) fn of_vhost(vhost: &Vhost) -> Vec<BindingJson> {
    sorted(vhost.exchanges().iter().flat_map(|exchange| from_exchange(vhost, exchange)).collect())
}

fn from_exchange(vhost: &Vhost, exchange: &Exchange) -> Vec<BindingJson> {
    if exchange.spec.name == Name::EMPTY {
        return vhost.queues().iter().map(|queue| by_default(vhost, queue)).collect();
    }
    let (_, bindings) = exchange.all_bindings();
    bindings.iter().map(|binding| describe(exchange, binding)).collect()
}

/// A binding, and how it is shown; none of those to the default exchange, which nobody made.
pub(super) struct Found {
    pub(super) shown: BindingJson,
    pub(super) binding: Option<Arc<Binding>>,
}

/// Those from an exchange to a queue or an exchange.
pub(super) fn between(vhost: &Vhost, source: &Exchange, to: &Destination) -> Vec<Found> {
    if source.spec.name.is_empty() {
        let queue = match to {
            Destination::Queue(queue) => Some(Found { shown: by_default(vhost, queue), binding: None }),
            Destination::Exchange(_) => None,
        };
        return queue.into_iter().collect();
    }
    let to = vhost.bindings_to(to);
    let from_there = to.into_iter().filter(|(from, _)| from.spec.name == source.spec.name);
    let found = |(source, binding): (Arc<Exchange>, Arc<Binding>)| Found {
        shown: describe(&source, &binding),
        binding: Some(binding),
    };
    let mut all: Vec<Found> = from_there.map(found).collect();
    all.sort_by(|a, b| order(&a.shown, &b.shown));
    all
}

/// The binding that is meant by a key in a path: `key`, and as it stands there, `raw`. Some clients quote what is
/// quoted already.
pub(super) fn by_key(all: Vec<Found>, raw: &str, key: &str) -> Option<Found> {
    let means = |found: &Found| {
        let found = &found.shown.properties_key;
        if found == raw { Some(0) } else { is_key(found, key).then_some(1) }
    };
    let ranked = all.into_iter().filter_map(|found| Some((means(&found)?, found)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, found)| found)
}

/// Whether a binding's key is meant by one in a path, where its quoting may have been undone.
fn is_key(properties_key: &str, key: &str) -> bool {
    let decoded = percent_decode_str(properties_key).decode_utf8_lossy();
    properties_key == key || decoded == key || decoded.replace('+', " ") == key
}

fn leading_to(vhost: &Vhost, destination: &Destination) -> Vec<BindingJson> {
    let found = vhost.bindings_to(destination);
    found.iter().map(|(source, binding)| describe(source, binding)).collect()
}

fn sorted(mut bindings: Vec<BindingJson>) -> Vec<BindingJson> {
    bindings.sort_by(order);
    bindings
}

fn order(a: &BindingJson, b: &BindingJson) -> Ordering {
    fn key(of: &BindingJson) -> impl Ord + '_ {
        (&of.source, of.destination_type, &of.destination, &of.routing_key, &of.properties_key)
    }
    key(a).cmp(&key(b))
}

fn describe(source: &Exchange, binding: &Binding) -> BindingJson {
    let destination_type = match &binding.destination {
        Destination::Queue(_) => DestinationType::Queue,
        Destination::Exchange(_) => DestinationType::Exchange,
    };
    let (vhost, from, to) = (&source.vhost, &source.spec.name, binding.destination.name());
    describe_parts(vhost, from, (destination_type, to), &binding.routing_key, &binding.arguments)
}

/// A queue's binding that nobody made.
fn by_default(vhost: &Vhost, queue: &Queue) -> BindingJson {
    let to = (DestinationType::Queue, queue.name());
    describe_parts(vhost.name(), &Name::EMPTY, to, queue.name(), &Table::new())
}

fn describe_parts(
    vhost: &Name,
    source: &Name,
    (destination_type, destination): (DestinationType, &Name),
    routing_key: &Name,
    arguments: &Table,
) -> BindingJson {
    let arguments = arguments::to_json(arguments);
    BindingJson {
        source: source.to_text(),
        vhost: vhost.to_text(),
        destination: destination.to_text(),
        destination_type,
        routing_key: routing_key.to_text(),
        properties_key: arguments::properties_key(routing_key, &arguments),
        arguments,
    }
}
