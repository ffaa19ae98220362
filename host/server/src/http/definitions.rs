//! `/api/definitions`: all that was made in a broker or in a virtual host, in the form of RabbitMQ's definition files.
//!
//! *Out:* users with the hashes of their passwords, virtual hosts, permissions, policies, limits, and all queues,
//! exchanges and bindings but what every virtual host has and what belongs to one connection.
//!
//! *In:* each thing is made in the way of its own path, so it meets the same checks. What is there stays if it is equal.
//! Else a user, a policy or a permission becomes what the file says, and a queue or an exchange stays as it is, as in
//! RabbitMQ. Nothing is taken away. Other parameters, of shovels for one, are refused before anything is changed; the
//! default queue type of a virtual host is not looked at.
//!
//! *Passed over,* with a line in the log: exchanges and queues whose names brokers alone give (`amq.rabbitmq.log`, of the
//! log that RabbitMQ publishes; server-named queues) and that are not here, and the bindings from and to them. RabbitMQ
//! passes such exchanges and queues over too, and refuses their bindings.
//!
//! What fails ends it; the reason names it, and says what was taken before and what was not.
//!
//! All of it is for administrators.

use super::{
    Api, binding, bindings,
    body::{JsonBody, text_field},
    declare,
    error::ApiError,
    exchanges, global,
    json::{
        BindingJson, DestinationType,
        users::{PermissionsJson, TopicPermissionsJson, UserJson},
    },
    login::Caller,
    parameters,
    path::Names,
    permissions, policies, queues, users, vhosts,
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use leveret_broker::{Vhost, policy::PolicyKind};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{borrow::Borrow, collections::HashSet, sync::Arc};

pub(super) type Object = Map<String, Value>;

/// The sections of what is around virtual hosts, in the order in which it can be made.
const OUTSIDE: [&str; 5] = ["global_parameters", "users", "vhosts", "permissions", "topic_permissions"];
/// The sections of what is in a virtual host, in the order in which it can be made.
const INSIDE: [&str; 5] = ["parameters", "policies", "queues", "exchanges", "bindings"];

/// What is told of each, in the file.
const OF_USER: &[&str] = &["name", "password_hash", "hashing_algorithm", "tags", "limits"];
const OF_PERMISSION: &[&str] = &["user", "vhost", "configure", "write", "read"];
const OF_TOPIC_PERMISSION: &[&str] = &["user", "vhost", "exchange", "write", "read"];
const OF_POLICY: &[&str] = &["vhost", "name", "pattern", "apply-to", "definition", "priority"];
const OF_QUEUE: &[&str] = &["name", "vhost", "durable", "auto_delete", "arguments", "type"];
const OF_EXCHANGE: &[&str] = &["name", "vhost", "type", "durable", "auto_delete", "internal", "arguments"];
const OF_BINDING: &[&str] =
    &["source", "vhost", "destination", "destination_type", "routing_key", "arguments"];

/// `GET /api/definitions`.
pub(super) async fn read(State(api): State<Arc<Api>>) -> Json<Object> {
    Json(all(&api))
}

/// `GET /api/definitions/{vhost}`.
pub(super) async fn read_of_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Object>, ApiError> {
    let vhost = api.vhost(&vhost)?;
    let mut told = about(&api);
    for (section, mut list) in of_vhosts(&api, &[vhost]) {
        for one in &mut list {
            one.remove("vhost");
        }
        told.insert(section.to_owned(), json!(list));
    }
    Ok(Json(told))
}

/// Who tells it.
fn about(api: &Api) -> Object {
    let version = &api.shared.session.version;
    fields(json!({
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": api.shared.session.product,
        "product_version": version,
    }))
}

fn all(api: &Arc<Api>) -> Object {
    let users = api.shared.access.users();
    let of_each = |list: Vec<Object>| json!(list);
    let of_topics = users.iter().flat_map(|user| TopicPermissionsJson::of(user));
    let mut told = about(api);
    let its_users = users.iter().map(|user| picked(&UserJson::from(&**user), OF_USER)).collect();
    told.insert("users".to_owned(), of_each(its_users));
    let its = users.iter().flat_map(|user| PermissionsJson::of(user));
    told.insert("permissions".to_owned(), of_each(its.map(|its| picked(&its, OF_PERMISSION)).collect()));
    let its = of_topics.map(|its| picked(&its, OF_TOPIC_PERMISSION)).collect();
    told.insert("topic_permissions".to_owned(), of_each(its));
    told.insert("vhosts".to_owned(), of_each(vhosts::definitions(api)));
    told.insert("global_parameters".to_owned(), json!(global::describe_all(api)));
    for (section, list) in of_vhosts(api, &api.vhosts()) {
        told.insert(section.to_owned(), of_each(list));
    }
    told
}

/// What is in these virtual hosts.
fn of_vhosts(api: &Arc<Api>, vhosts: &[Arc<Vhost>]) -> [(&'static str, Vec<Object>); 5] {
    let policies = policies::describe_all(api, PolicyKind::User, vhosts);
    let (mut queues, mut exchanges, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for vhost in vhosts {
        let its = queues::describe_all(api, vhost);
        let own: HashSet<&str> =
            its.iter().filter(|queue| queue.exclusive).map(|queue| &*queue.name).collect();
        let is_own = |binding: &BindingJson| {
            binding.destination_type == DestinationType::Queue && own.contains(&*binding.destination)
        };
        let its_bindings = bindings::of_vhost(vhost).into_iter();
        let lasting = its_bindings.filter(|binding| !binding.source.is_empty() && !is_own(binding));
        bindings.extend(lasting.map(|binding| picked(&binding, OF_BINDING)));
        queues.extend(its.iter().filter(|queue| !queue.exclusive).map(|queue| picked(queue, OF_QUEUE)));
        let its = exchanges::describe_all(api, vhost).into_iter();
        let made = its.filter(|exchange| !exchange.name.is_empty() && !exchange.name.starts_with("amq."));
        exchanges.extend(made.map(|exchange| picked(&exchange, OF_EXCHANGE)));
    }
    [
        ("parameters", parameters::of_vhosts(api, vhosts)),
        ("policies", policies.iter().map(|policy| picked(policy, OF_POLICY)).collect()),
        ("queues", queues),
        ("exchanges", exchanges),
        ("bindings", bindings),
    ]
}

pub(super) fn fields(value: Value) -> Object {
    match value {
        Value::Object(fields) => fields,
        _ => Object::new(),
    }
}

/// These fields of something.
pub(super) fn picked(of: &impl Serialize, keys: &[&str]) -> Object {
    // What is told over HTTP can be told here.
    let all = serde_json::to_value(of).map(fields).unwrap_or_default();
    all.into_iter().filter(|(key, _)| keys.contains(&key.as_str())).collect()
}

/// `POST /api/definitions`.
pub(super) async fn take(
    State(api): State<Arc<Api>>,
    JsonBody(file): JsonBody<Object>,
) -> Result<StatusCode, ApiError> {
    let sections: Vec<&str> = OUTSIDE.iter().chain(&INSIDE).copied().collect();
    Import::new(api, file, None, &sections)?.take_all(&sections).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/definitions/{vhost}`: what is for a virtual host, into that one, whatever it is called in the file.
pub(super) async fn take_into_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
    JsonBody(file): JsonBody<Object>,
) -> Result<StatusCode, ApiError> {
    api.vhost(&vhost)?;
    Import::new(api, file, Some(vhost), &INSIDE)?.take_all(&INSIDE).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A file that is being taken in.
struct Import {
    api: Arc<Api>,
    file: Object,
    /// What was there before, in the form of a file.
    before: Object,
    /// The virtual host that it all goes into.
    into: Option<String>,
}

impl Import {
    /// # Errors
    /// One of the sections that are wanted is no list of objects, or has parameters that mean nothing here.
    fn new(
        api: Arc<Api>,
        file: Object,
        into: Option<String>,
        sections: &[&'static str],
    ) -> Result<Self, ApiError> {
        let before = all(&api);
        let import = Self { api, file, before, into };
        for section in sections {
            import.section(section)?;
        }
        for parameter in import.section("parameters")? {
            let component = text_field(&parameter, "component")?;
            parameters::check_component(component)?;
        }
        Ok(import)
    }

    /// What the file says of one kind.
    fn section(&self, section: &str) -> Result<Vec<Object>, ApiError> {
        let wrong = || ApiError::BadRequest(format!("{section} must be a list of objects"));
        let Some(list) = self.file.get(section) else { return Ok(Vec::new()) };
        let one = |one: &Value| {
            let mut one = one.as_object().cloned().ok_or_else(wrong)?;
            if let Some(vhost) = &self.into {
                one.insert("vhost".to_owned(), json!(vhost));
            }
            Ok(one)
        };
        list.as_array().ok_or_else(wrong)?.iter().map(one).collect()
    }

    /// Takes one section after the other. What fails ends it, and the reason says how far it came.
    async fn take_all(&self, sections: &[&str]) -> Result<(), ApiError> {
        let mut taken: Vec<String> = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let list = self.section(section)?;
            let before = self.before.get(*section).and_then(Value::as_array);
            let there: HashSet<String> = before.into_iter().flatten().map(Value::to_string).collect();
            let count = list.len();
            for (index, one) in list.into_iter().enumerate() {
                if there.contains(&json!(one).to_string()) {
                    continue;
                }
                let name = name_in(&one).to_owned();
                let Err(why) = self.take(section, one).await else { continue };
                if index > 0 {
                    taken.push(format!("{index} of {count} {section}"));
                }
                let rest = sections.iter().skip(at + 1).filter(|section| self.has(section));
                let (taken, rest) = (listed(&taken), listed(&rest.copied().collect::<Vec<_>>()));
                let why = why.to_string();
                let why = why.trim_end();
                return Err(ApiError::BadRequest(format!(
                    "{section} {name:?}: {why} (taken before it: {taken}; not taken: {rest})"
                )));
            }
            if count > 0 {
                taken.push((*section).to_owned());
            }
        }
        Ok(())
    }

    /// Whether the file says something of one kind.
    fn has(&self, section: &str) -> bool {
        self.file.get(section).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    }

    /// Makes one thing, or passes it over.
    async fn take(&self, section: &str, one: Object) -> Result<(), ApiError> {
        match self.anothers_own(section, &one) {
            Some(what) => {
                tracing::info!("definitions: {what} is passed over: clients may not declare that name")
            }
            None => make(&self.api, section, one).await?,
        }
        Ok(())
    }

    /// What that is, or is bound to, if another broker made it for itself under a name that is no client's to declare,
    /// and it is not here.
    fn anothers_own(&self, section: &str, one: &Object) -> Option<String> {
        let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
        let vhost = self.api.vhost(text("vhost")).ok()?;
        let is_missing = |is_queue: bool, name: &str| {
            let is_there = match is_queue {
                true => vhost.queue(name.as_bytes()).is_some(),
                false => vhost.exchange(name.as_bytes()).is_some(),
            };
            !is_there && leveret_broker::is_reserved_name(name.as_bytes())
        };
        let (name, source, destination) = (text("name"), text("source"), text("destination"));
        let what = match section {
            "queues" if is_missing(true, name) => format!("queue '{name}'"),
            "exchanges" if is_missing(false, name) => format!("exchange '{name}'"),
            "bindings"
                if is_missing(false, source)
                    || is_missing(text("destination_type") == "queue", destination) =>
            {
                format!("the binding of '{destination}' to '{source}'")
            }
            _ => return None,
        };
        Some(format!("{what} in vhost '{}'", vhost.name()))
    }
}

/// What a thing in a file is called.
fn name_in(one: &Object) -> &str {
    ["name", "user", "source"].iter().find_map(|key| one.get(*key)?.as_str()).unwrap_or_default()
}

/// These, for people to read.
fn listed(these: &[impl Borrow<str>]) -> String {
    if these.is_empty() { "nothing".to_owned() } else { these.join(", ") }
}

/// Makes one thing as a section says it.
async fn make(api: &Arc<Api>, section: &str, one: Object) -> Result<(), ApiError> {
    match section {
        "global_parameters" => global::take(api, &one).await,
        "users" => put_user(api, one).await,
        "vhosts" => put_vhost(api, one).await,
        "permissions" => put_permissions(api, one).await,
        "topic_permissions" => put_topic_permissions(api, one).await,
        "parameters" => put_parameter(api, one).await,
        "policies" => put_policy(api, PolicyKind::User, one).await,
        "queues" => put_queue(api, one).await,
        "exchanges" => put_exchange(api, one).await,
        _ => bind(api, one).await,
    }
}

fn owned<const N: usize>(one: &Object, keys: [&str; N]) -> Result<[String; N], ApiError> {
    Ok(super::body::text_fields(one, keys)?.map(str::to_owned))
}

fn read_as<T: DeserializeOwned>(one: Object) -> Result<JsonBody<T>, ApiError> {
    let read = serde_json::from_value(Value::Object(one));
    read.map(JsonBody).map_err(|error| ApiError::BadRequest(error.to_string()))
}

fn limits_of(one: &Object) -> Object {
    // RabbitMQ before 3.8 said an empty list.
    one.get("limits").and_then(Value::as_object).cloned().unwrap_or_default()
}

async fn put_user(api: &Arc<Api>, user: Object) -> Result<(), ApiError> {
    let ([name], limits) = (owned(&user, ["name"])?, limits_of(&user));
    users::put(State(api.clone()), Names(name.clone()), JsonBody(user)).await?;
    for (limit, value) in limits {
        let body = JsonBody(fields(json!({ "value": value })));
        users::put_limit(State(api.clone()), Names((name.clone(), limit)), body).await?;
    }
    Ok(())
}

async fn put_vhost(api: &Arc<Api>, vhost: Object) -> Result<(), ApiError> {
    let ([name], limits) = (owned(&vhost, ["name"])?, limits_of(&vhost));
    let mut about = vhost.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    about.extend(vhost);
    vhosts::put(State(api.clone()), Extension(Caller::Token), Names(name.clone()), Some(JsonBody(about)))
        .await?;
    parameters::put_limits(api, &name, limits).await
}

async fn put_permissions(api: &Arc<Api>, its: Object) -> Result<(), ApiError> {
    let [vhost, user] = owned(&its, ["vhost", "user"])?;
    permissions::put(State(api.clone()), Names((vhost, user)), JsonBody(its)).await.map(|_| ())
}

async fn put_topic_permissions(api: &Arc<Api>, its: Object) -> Result<(), ApiError> {
    let [vhost, user] = owned(&its, ["vhost", "user"])?;
    permissions::set_topic(api, [&vhost, &user], &its).await.map(|_| ())
}

async fn put_parameter(api: &Arc<Api>, mut parameter: Object) -> Result<(), ApiError> {
    let [component, vhost, name] = owned(&parameter, ["component", "vhost", "name"])?;
    let value = parameter.remove("value").unwrap_or_default();
    parameters::set(api, [component, vhost, name], value).await
}

async fn put_policy(api: &Arc<Api>, kind: PolicyKind, policy: Object) -> Result<(), ApiError> {
    let [vhost, name] = owned(&policy, ["vhost", "name"])?;
    policies::put(kind, State(api.clone()), Names((vhost, name)), Some(JsonBody(policy))).await.map(|_| ())
}

async fn put_queue(api: &Arc<Api>, queue: Object) -> Result<(), ApiError> {
    let [vhost, name] = owned(&queue, ["vhost", "name"])?;
    if api.queue(&vhost, &name).is_ok() {
        return Ok(());
    }
    let (caller, body) = (Extension(Caller::Token), Some(read_as(queue)?));
    declare::put_queue(State(api.clone()), caller, Names((vhost, name)), body).await.map(|_| ())
}

async fn put_exchange(api: &Arc<Api>, exchange: Object) -> Result<(), ApiError> {
    let [vhost, name] = owned(&exchange, ["vhost", "name"])?;
    if api.exchange(&vhost, &name).is_ok() {
        return Ok(());
    }
    let (caller, body) = (Extension(Caller::Token), Some(read_as(exchange)?));
    declare::put_exchange(State(api.clone()), caller, Names((vhost, name)), body).await.map(|_| ())
}

async fn bind(api: &Arc<Api>, binding: Object) -> Result<(), ApiError> {
    let [vhost, source, destination, kind] =
        owned(&binding, ["vhost", "source", "destination", "destination_type"])?;
    let kind = match kind.as_str() {
        "queue" => "q",
        "exchange" => "e",
        _ => return Err(ApiError::BadRequest("destination_type must be queue or exchange".to_owned())),
    };
    // Every queue is bound to the default exchange.
    if source.is_empty() {
        return Ok(());
    }
    let ends = Names((vhost, source, kind.to_owned(), destination));
    let (caller, body) = (Extension(Caller::Token), Some(read_as(binding)?));
    binding::create(State(api.clone()), caller, ends, body).await.map(|_| ())
}
