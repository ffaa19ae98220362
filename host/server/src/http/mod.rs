//! The HTTP API: RabbitMQ's management paths and JSON where RabbitMQ has them, `/api/plugins` for
//! what is ours.
//!
//! *Not here:* what RabbitMQ tells and this broker does not have (who declared what): it is left out rather than
//! made up. Parameters of other things than limits and operator policies, streams and federation are not there either.
//!
//! *In and out:* [`start`] takes a listening socket and an [`Api`]; requests are answered on one
//! thread of their own ([`server`]), so that nothing of it runs on the workers. What it reads it
//! reads through the same short locks as they do.
//!
//! *Invariants:* no handler runs before `guard` let the request through: a trusted `Host`, a known
//! caller (but for the few checks that `allowed` has for all), a whole body that is JSON. No answer allows another origin
//! (there are no CORS headers).
//! Whatever a client may make wait, grow or hold has a limit ([`server`], [`body`]).
//!
//! One file a resource; `router` is the list of paths. A resource that comes is a file beside,
//! its JSON in [`json`], and its lines in the list.

mod acting;
mod allowed;
mod alone;
pub(crate) mod arguments;
mod aside;
mod binding;
mod bindings;
pub mod body;
mod candidates;
mod connections;
mod consumers;
mod declare;
mod definitions;
mod error;
mod exchange_info;
mod exchanges;
pub(crate) mod explain;
mod global;
mod gone;
mod holds;
mod host_header;
mod interceptors;
pub mod json;
mod kept;
mod login;
mod messages;
mod metrics;
mod nodes;
mod overview;
mod paging;
mod parameters;
mod path;
mod permissions;
mod pins;
mod plugins;
mod policies;
mod queues;
mod rates;
mod refused;
mod rollback;
pub mod server;
mod stats;
mod store;
mod switches;
pub mod token_file;
mod users;
mod vhosts;
mod warnings;
mod whoami;

pub use server::{HttpServer, Listeners, start};

use crate::{explainer::Explainer, wiring::Shared};
pub use aside::Aside;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::{delete, get, post, put},
};
use error::ApiError;
use leveret_broker::{Vhost, exchange::Exchange, policy::PolicyKind, queue::Queue};
use login::Caller;
use rates::Rates;
use std::{net::SocketAddr, sync::Arc, time::Instant};
use token_file::Token;
use tokio::sync::Semaphore;

/// What the default exchange is called in paths, since its name is empty.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// Where Prometheus finds its numbers, here and at an address of their own.
const METRICS: &str = "/metrics";
const METRICS_PER_OBJECT: &str = "/metrics/per-object";

/// What the handlers read from.
pub struct Api {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// Where AMQP clients connect.
    pub amqp_address: SocketAddr,
    /// Where they connect with TLS.
    pub tls_address: Option<SocketAddr>,
    /// Where HTTP clients connect without TLS.
    pub http_address: Option<SocketAddr>,
    /// Where they connect with TLS.
    pub https_address: Option<SocketAddr>,
    /// The secret of the command line.
    pub token: Token,
    /// Who knows where a message would go.
    pub explainer: Explainer,
    /// Where what takes long is done.
    pub aside: Aside,
    /// When the broker began.
    pub since: Instant,
    /// How fast numbers go up.
    rates: Rates,
    /// Places for answers about each queue.
    of_queues: Arc<Semaphore>,
}

/// The two ends of a request's connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
    with_tls: bool,
}

impl Api {
    /// Where clients connect, by RabbitMQ's names for the protocols.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let tls = self.tls_address.map(|address| ("amqp/ssl", address));
        let https = self.https_address.map(|address| ("https", address));
        let plain = [("amqp", self.amqp_address)].into_iter().chain(tls);
        plain.chain(self.http_address.map(|address| ("http", address))).chain(https)
    }

    /// All virtual hosts that a caller may look into, by name.
    fn vhosts_of(&self, caller: &Caller) -> Vec<Arc<Vhost>> {
        self.vhosts().into_iter().filter(|vhost| caller.may_look_into(vhost.name())).collect()
    }

    /// All virtual hosts that a caller may know of, by name.
    fn vhosts_known_to(&self, caller: &Caller) -> Vec<Arc<Vhost>> {
        self.vhosts().into_iter().filter(|vhost| caller.may_know_of(vhost.name())).collect()
    }

    /// All virtual hosts, by name.
    fn vhosts(&self) -> Vec<Arc<Vhost>> {
        self.shared.vhosts.list().into_iter().map(|place| place.vhost).collect()
    }

    fn vhost(&self, name: &str) -> Result<Arc<Vhost>, ApiError> {
        self.shared.vhosts.get(name.as_bytes()).map(|place| place.vhost).ok_or(ApiError::NotFound)
    }

    fn exchange(&self, vhost: &str, name: &str) -> Result<(Arc<Vhost>, Arc<Exchange>), ApiError> {
        let vhost = self.vhost(vhost)?;
        let name: &[u8] = if name == DEFAULT_EXCHANGE { b"" } else { name.as_bytes() };
        let exchange = vhost.exchange(name).ok_or(ApiError::NotFound)?;
        Ok((vhost, exchange))
    }

    fn queue(&self, vhost: &str, name: &str) -> Result<(Arc<Vhost>, Arc<Queue>), ApiError> {
        let vhost = self.vhost(vhost)?;
        let queue = vhost.queue(name.as_bytes()).ok_or(ApiError::NotFound)?;
        Ok((vhost, queue))
    }
}

/// All paths, behind the [`guard`].
fn router(api: &Arc<Api>) -> Router {
    Router::new()
        .route(METRICS, get(metrics::all))
        .route(METRICS_PER_OBJECT, get(metrics::per_object))
        .route("/api/overview", get(overview::read))
        .route("/api/whoami", get(whoami::read))
        .route("/api/store", get(store::read))
        .route("/api/vhosts", get(vhosts::list))
        .route("/api/vhosts/{vhost}", get(vhosts::read).put(vhosts::put).delete(vhosts::delete))
        .route("/api/vhosts/{vhost}/deletion/protection", post(vhosts::protect).delete(vhosts::unprotect))
        .route("/api/vhost-limits", get(vhosts::limits))
        .route("/api/vhost-limits/{vhost}", get(vhosts::limits_of))
        .route("/api/vhost-limits/{vhost}/{limit}", put(vhosts::put_limit).delete(vhosts::delete_limit))
        .route("/api/exchanges", get(exchanges::list))
        .route("/api/exchanges/{vhost}", get(exchanges::list_of_vhost))
        .route(
            "/api/exchanges/{vhost}/{exchange}",
            get(exchanges::read).put(declare::put_exchange).delete(declare::delete_exchange),
        )
        .route("/api/exchanges/{vhost}/{exchange}/publish", post(messages::publish))
        .route("/api/exchanges/{vhost}/{exchange}/bindings/source", get(bindings::list_from_exchange))
        .route("/api/exchanges/{vhost}/{exchange}/bindings/destination", get(bindings::list_to_exchange))
        .route("/api/exchanges-info/{vhost}/{exchange}", get(exchange_info::read))
        .route("/api/exchanges-arguments/{vhost}/{exchange}", put(exchange_info::configure))
        .route("/api/queues", get(queues::list))
        .route("/api/queues/detailed", get(queues::list))
        .route("/api/queues/{vhost}", get(queues::list_of_vhost))
        .route(
            "/api/queues/{vhost}/{queue}",
            get(queues::read).put(declare::put_queue).delete(declare::delete_queue),
        )
        .route("/api/queues/{vhost}/{queue}/contents", delete(declare::purge_queue))
        .route("/api/queues/{vhost}/{queue}/get", post(messages::get))
        .route("/api/queues/{vhost}/{queue}/bindings", get(bindings::list_to_queue))
        .route("/api/bindings", get(bindings::list))
        .route("/api/bindings/{vhost}", get(bindings::list_of_vhost))
        .route(
            "/api/bindings/{vhost}/e/{source}/{kind}/{destination}",
            get(binding::list).post(binding::create),
        )
        .route(
            "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}",
            get(binding::read).delete(binding::delete),
        )
        .route("/api/plugins", get(plugins::list))
        .route("/api/plugins/explain", post(explain::explain))
        .route("/api/plugins/{type}", get(plugins::read))
        .route("/api/plugins/{type}/vhosts/{vhost}", get(plugins::read_in_vhost))
        .route("/api/plugins-candidates", get(candidates::list).put(candidates::order))
        .route("/api/plugins-pins", get(pins::list))
        .route("/api/plugins-pins/{vhost}/{exchange}", put(pins::pin).delete(pins::unpin))
        .route("/api/plugins-switches", get(switches::list).put(switches::turn))
        .route("/api/plugins-warnings", get(warnings::list))
        .route("/api/plugins-interceptors", get(interceptors::list))
        .route("/api/plugins-interceptors/{interceptor}", get(interceptors::read))
        .route("/api/plugins-versions/{plugin}", get(rollback::list))
        .route("/api/plugins-versions/{plugin}/vhosts/{vhost}", get(rollback::list_of_vhost))
        .route("/api/plugins-rollback", post(rollback::go_back))
        .route("/api/plugins-retry", post(refused::retry))
        .route("/api/plugins-effects/{vhost}", get(holds::later))
        .route("/api/holds/{vhost}/{exchange}", get(holds::list).delete(holds::cancel_all))
        .route("/api/holds/{vhost}/{exchange}/{id}", delete(holds::cancel))
        .merge(users_router())
        .merge(node_router())
        .merge(policies_router())
        .merge(definitions_router())
        .merge(alone::router())
        .fallback(async || ApiError::NotFound)
        .layer(middleware::from_fn(paging::pages))
        .layer(middleware::from_fn_with_state(api.clone(), gone::wait))
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .layer(middleware::map_response(seal))
        .with_state(api.clone())
}

/// Where numbers are for whoever connects, as RabbitMQ's plugin has them: no credentials. Where it listens on the
/// loopback address, a page in a browser there is kept out by `Host`.
fn metrics_router(api: &Arc<Api>) -> Router {
    Router::new()
        .route(METRICS, get(metrics::all))
        .route(METRICS_PER_OBJECT, get(metrics::per_object))
        .fallback(async || ApiError::NotFound)
        .layer(middleware::from_fn(local_guard))
        .layer(middleware::map_response(seal))
        .with_state(api.clone())
}

/// Lets through what means this broker, where only this machine can connect.
async fn local_guard(request: Request, next: Next) -> Result<Response, ApiError> {
    let ends = request.extensions().get::<Ends>().copied().ok_or(ApiError::ForeignHost)?;
    if ends.local.ip().to_canonical().is_loopback() {
        host_header::check(request.uri(), request.headers(), ends.local)?;
    }
    Ok(next.run(request).await)
}

/// What holds for queues and exchanges by their names.
fn policies_router() -> Router<Arc<Api>> {
    let one = |kind| {
        get(move |api, names| policies::read(kind, api, names))
            .put(move |api, names, body| policies::put(kind, api, names, body))
            .delete(move |api, names| policies::delete(kind, api, names))
    };
    let all = |kind| get(move |api, caller| policies::list(kind, api, caller));
    let of_vhost = |kind| get(move |api, names| policies::list_of_vhost(kind, api, names));
    Router::new()
        .route("/api/policies", all(PolicyKind::User))
        .route("/api/policies/{vhost}", of_vhost(PolicyKind::User))
        .route("/api/policies/{vhost}/{policy}", one(PolicyKind::User))
        .route("/api/operator-policies", all(PolicyKind::Operator))
        .route("/api/operator-policies/{vhost}", of_vhost(PolicyKind::Operator))
        .route("/api/operator-policies/{vhost}/{policy}", one(PolicyKind::Operator))
}

/// All that was made, as files.
fn definitions_router() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/definitions", get(definitions::read).post(definitions::take))
        .route("/api/definitions/{vhost}", get(definitions::read_of_vhost).post(definitions::take_into_vhost))
        .route("/api/global-parameters", get(global::list))
        .route("/api/global-parameters/{name}", get(global::read).put(global::put).delete(global::delete))
        .route("/api/parameters", get(parameters::list))
        .route("/api/parameters/{component}", get(parameters::list_of_component))
        .route("/api/parameters/{component}/{vhost}", get(parameters::list_of_vhost))
        .route(
            "/api/parameters/{component}/{vhost}/{name}",
            get(parameters::read).put(parameters::put).delete(parameters::delete),
        )
}

/// The node itself, and who is connected to it.
fn node_router() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/nodes", get(nodes::list))
        .route("/api/nodes/{node}", get(nodes::read))
        .route("/api/cluster-name", get(global::read_cluster_name).put(global::put_cluster_name))
        .route("/api/version", get(nodes::version))
        .route("/api/aliveness-test/{vhost}", get(nodes::aliveness))
        .route("/api/healthchecks/node", get(nodes::healthy))
        .route("/api/healthchecks/node/{node}", get(nodes::healthy_by_name))
        .route("/api/health/checks/{check}", get(nodes::health))
        .route("/api/health/checks/port-listener/{port}", get(nodes::port_listener))
        .route("/api/health/checks/protocol-listener/{protocol}", get(nodes::protocol_listener))
        .route("/api/connections", get(connections::list))
        .route("/api/connections/{connection}", get(connections::read).delete(connections::delete))
        .route("/api/connections/{connection}/channels", get(connections::channels_of_connection))
        .route(
            "/api/connections/username/{user}",
            get(connections::list_of_user).delete(connections::delete_of_user),
        )
        .route("/api/vhosts/{vhost}/connections", get(connections::list_of_vhost))
        .route("/api/vhosts/{vhost}/channels", get(connections::channels_of_vhost))
        .route("/api/consumers", get(consumers::list))
        .route("/api/consumers/{vhost}", get(consumers::list_of_vhost))
        .route("/api/channels", get(connections::channels))
        .route("/api/channels/{channel}", get(connections::channel))
}

/// Users and what they may do.
fn users_router() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/users", get(users::list))
        .route("/api/users/without-permissions", get(users::list_without_permissions))
        .route("/api/users/bulk-delete", post(users::delete_all))
        .route("/api/users/{user}", get(users::read).put(users::put).delete(users::delete))
        .route("/api/users/{user}/permissions", get(users::permissions))
        .route("/api/users/{user}/topic-permissions", get(users::topic_permissions))
        .route("/api/users-tags/{user}", put(users::put_tags))
        .route("/api/users-authenticate", post(users::attempt))
        .route("/api/auth/hash_password/{password}", get(users::hash))
        .route("/api/user-limits", get(users::limits))
        .route("/api/user-limits/{user}", get(users::limits_of))
        .route("/api/user-limits/{user}/{limit}", put(users::put_limit).delete(users::delete_limit))
        .route("/api/permissions", get(permissions::list))
        .route(
            "/api/permissions/{vhost}/{user}",
            get(permissions::read).put(permissions::put).delete(permissions::delete),
        )
        .route("/api/topic-permissions", get(permissions::list_topics))
        .route(
            "/api/topic-permissions/{vhost}/{user}",
            get(permissions::read_topics).put(permissions::put_topic).delete(permissions::delete_topics),
        )
        .route("/api/topic-permissions/{vhost}/{user}/{exchange}", delete(permissions::delete_topic))
        .route("/api/vhosts/{vhost}/permissions", get(permissions::list_of_vhost))
        .route("/api/vhosts/{vhost}/topic-permissions", get(permissions::list_topics_of_vhost))
}

/// Lets through what comes from a caller that may, to the name this broker has, with a body that
/// handlers may read.
async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let ends = request.extensions().get::<Ends>().copied().ok_or(ApiError::ForeignHost)?;
    // With TLS the name in the certificate is what a browser trusted: nobody else's name leads here.
    if !ends.with_tls {
        host_header::check(request.uri(), request.headers(), ends.local)?;
    }
    if allowed::is_for_all(request.method(), request.uri().path()) {
        return Ok(next.run(body::read_whole(request).await?).await);
    }
    let caller = login::check(request.headers(), ends.peer, &api.token, &api.shared.access).await?;
    caller.check(request.method(), request.uri().path())?;
    let mut request = body::read_whole(request).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Answers are for the one who asked: nobody keeps them, and no browser takes them for a page.
async fn seal(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
