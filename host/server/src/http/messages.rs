//! Publishing a message and getting messages, as RabbitMQ's API does it: for looking, not for work.

use super::{
    Api, DEFAULT_EXCHANGE,
    acting::{self, NOBODY},
    arguments, aside,
    body::{JsonBody, field, text_fields},
    error::ApiError,
    explain::properties,
    json::explain::PropertiesJson,
    login::Caller,
    path::Names,
};
use crate::{conversion, store::DiskStore};
use axum::{Extension, Json, extract::State};
use base64::{Engine, engine::general_purpose::STANDARD};
use leveret_amqp091::{form::FORM, properties::Properties};
use leveret_broker::{Client, NoRoom, Publish, Published, Publisher, Receipt, Settle, port::Wake};
use leveret_model::{MessageView, Name, Property, PublisherIdentity, Refusal, Stub};
use leveret_plugin::Worker as PluginWorker;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The properties by their names here, but the headers.
const PROPERTIES: [(&str, Property); 12] = [
    ("content_type", Property::ContentType),
    ("content_encoding", Property::ContentEncoding),
    ("delivery_mode", Property::DeliveryMode),
    ("priority", Property::Priority),
    ("correlation_id", Property::CorrelationId),
    ("reply_to", Property::ReplyTo),
    ("expiration", Property::Expiration),
    ("message_id", Property::MessageId),
    ("timestamp", Property::Timestamp),
    ("type", Property::MessageType),
    ("user_id", Property::UserId),
    ("app_id", Property::AppId),
];
/// The most messages in one answer, and the most bytes of their bodies and properties.
const MESSAGES_MAX: u64 = 10_000;
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whoever asks over HTTP may ask again.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// `POST /api/exchanges/{vhost}/{exchange}/publish`.
pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, exchange)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Json<Value>, ApiError> {
    let mut entered = api.enter(&caller, &vhost).map_err(|_| ApiError::NoVhost)?;
    api.exchange(&vhost, &exchange).map_err(|_| ApiError::NothingThere("exchange_not_found".to_owned()))?;
    if api.shared.memory.over_watermark() {
        return Err(ApiError::NotNow(
            "the memory watermark is crossed: publishers wait until messages are consumed",
        ));
    }
    field(&body, "properties")?;
    let [routing_key, payload, encoding] =
        text_fields(&body, ["routing_key", "payload", "payload_encoding"])?;
    let payload = decoded(payload, encoding)?;
    let properties = properties_of(&body)?;
    let exchange = if exchange == DEFAULT_EXCHANGE { String::new() } else { exchange };
    entered.acting().demand_write(exchange.as_bytes())?;
    let key = acting::name(routing_key)?;
    let shown = MessageView {
        exchange: exchange.as_bytes(),
        routing_key: &key,
        form: FORM,
        properties: &properties,
        body: &payload,
        publisher: None,
    };
    // What is no list of keys is refused below, where it is looked at in its turn.
    let more = shown.more_keys().unwrap_or_default();
    entered.acting().demand_publish((shown.exchange, shown.routing_key), shown.properties)?;
    let vhost = entered.vhost;
    let user = match &caller {
        Caller::User(user) => user.name.clone(),
        Caller::Token => Name::EMPTY,
    };
    let place = vhost.name().clone();
    let work = move |worker: &mut PluginWorker| -> Result<(Published, Receipt), Refusal> {
        let identity = PublisherIdentity { user, connection: "HTTP".into(), protocol: FORM.protocol() };
        let message = MessageView {
            exchange: exchange.as_bytes(),
            routing_key: &key,
            form: FORM,
            properties: &properties,
            body: &payload,
            publisher: Some(&identity),
        };
        vhost.check_publish(&message)?;
        let batch = [Publish { channel: 0, message, mandatory: true, more_keys: more.as_deref() }];
        let mut transaction = leveret_broker::Transaction::begin(&vhost);
        let (mut outcomes, waker) = (Vec::new(), Arc::new(Nobody) as Arc<dyn Wake>);
        transaction.publish(worker, &batch, &mut outcomes, &waker);
        let mut client = Client::new(vhost.clone(), NOBODY, waker);
        let receipt = transaction.end(&mut client, worker);
        client.close(worker);
        let later = || Published::Unavailable(Arc::from("the exchange's type answers later"));
        Ok((outcomes.pop().unwrap_or_else(later), receipt))
    };
    let published = aside::in_the_lane(&api, &place, work).await?;
    let (outcome, receipt) = published?;
    aside::safe(&receipt).await?;
    match outcome {
        Published::Routed => Ok(Json(json!({ "routed": true }))),
        Published::Unroutable | Published::Dropped => Ok(Json(json!({ "routed": false }))),
        Published::Rejected(why) | Published::Unavailable(why) | Published::Full(NoRoom { why, .. }) => {
            Err(ApiError::BadRequest(format!("rejected: {why}")))
        }
        Published::Refused(refusal) => Err(refusal.into()),
    }
}

fn decoded(payload: &str, encoding: &str) -> Result<Vec<u8>, ApiError> {
    match encoding {
        "string" => Ok(payload.as_bytes().to_vec()),
        "base64" => STANDARD.decode(payload).map_err(|_| ApiError::BadRequest("payload_invalid".into())),
        other => Err(ApiError::BadRequest(format!("{{unsupported_encoding,{other:?}}}"))),
    }
}

fn properties_of(body: &Map<String, Value>) -> Result<Vec<u8>, ApiError> {
    let mut said = match body.get("properties") {
        Some(Value::Object(said)) => said.clone(),
        _ => Map::new(),
    };
    let headers = match said.remove("headers") {
        Some(Value::Object(headers)) => arguments::from_json(&headers).map_err(ApiError::BadRequest)?,
        _ => leveret_model::Table::new(),
    };
    // What else somebody says means nothing, as in RabbitMQ.
    said.retain(|said, _| PROPERTIES.iter().any(|(name, _)| *name == said.replace('-', "_")));
    let said: PropertiesJson = serde_json::from_value(Value::Object(said))
        .map_err(|error| ApiError::BadRequest(format!("properties: {error}")))?;
    properties(&said, headers)
}

/// How to settle what was got.
fn settlement(ackmode: &str) -> Option<Settle> {
    match ackmode {
        "ack_requeue_false" => Some(Settle::Accepted),
        "ack_requeue_true" => Some(Settle::Requeue { failed: false }),
        "reject_requeue_true" => Some(Settle::Requeue { failed: true }),
        "reject_requeue_false" => Some(Settle::Rejected),
        _ => None,
    }
}

/// `POST /api/queues/{vhost}/{queue}/get`.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, queue)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let missing: Vec<_> = ["ackmode", "count", "encoding"]
        .into_iter()
        .filter(|key| !body.contains_key(*key))
        .map(|key| format!("{{key_missing,{key}}}"))
        .collect();
    if !missing.is_empty() {
        return Err(ApiError::BadRequest(format!("[{}]", missing.join(","))));
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |key: &str| match body.get(key) {
        Some(Value::String(text)) => text.parse().ok(),
        value => value.and_then(Value::as_u64),
    };
    let settle =
        settlement(&text("ackmode")).ok_or_else(|| ApiError::BadRequest("ackmode_invalid".into()))?;
    let (encoding, truncate) = (text("encoding"), number("truncate"));
    let most = truncate.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    if !["auto", "base64"].contains(&encoding.as_str()) {
        return Err(ApiError::BadRequest(format!("{{unsupported_encoding,{encoding:?}}}")));
    }
    let count = number("count").ok_or_else(|| ApiError::BadRequest("count is no number".into()))?;
    let mut entered = api.enter(&caller, &vhost).map_err(|_| ApiError::NoVhost)?;
    api.queue(&vhost, &queue).map_err(|_| ApiError::NothingThere("queue_not_found".to_owned()))?;
    entered.acting().demand_read(queue.as_bytes())?;
    let (vhost, place) = (entered.vhost.clone(), entered.vhost.name().clone());
    let store = api.shared.store.clone();
    let work = move |worker: &mut PluginWorker| -> Result<Vec<Value>, Refusal> {
        let mut client = Client::new(vhost, NOBODY, Arc::new(Nobody));
        client.open_channel(1);
        let mut got = Vec::new();
        let mut bytes = 0;
        let is_base64 = encoding == "base64";
        while (got.len() as u64) < count.min(MESSAGES_MAX) && bytes <= MESSAGE_BYTES_MAX {
            let mut far = None;
            let any = client.get(1, queue.as_bytes(), false, worker, &mut |message| {
                // The queue waits for this: what is in a file is read afterwards.
                far = message.message.far();
                let body = if far.is_none() { message.message.body } else { &[] };
                let body = body.get(..most).unwrap_or(body);
                bytes += body.len() + message.message.properties.len();
                got.push(describe(&message, body, is_base64));
            });
            if !any? {
                break;
            }
            if let (Some(stub), Some(shown)) = (far, got.last_mut()) {
                let body = far_body(&store, &stub, most);
                bytes += body.len();
                put_payload(shown, &body, is_base64);
            }
        }
        if !got.is_empty() {
            client.settle(1, 0, true, settle)?;
            client.tell_store();
            client.bury(&mut Publisher::default(), worker);
            if client.has_dead_letters() {
                client.dead_letter(worker);
            }
        }
        client.close(worker);
        Ok(got)
    };
    let got = aside::in_the_lane(&api, &place, work).await?;
    Ok(Json(got?))
}

/// The first bytes of a body that is in a file, no more than any other has. Its message is not settled, so the file is there.
fn far_body(store: &DiskStore, stub: &Stub, most: usize) -> Vec<u8> {
    let most = most.min(leveret_model::limits::MESSAGE_BODY_BYTES_MAX as usize);
    let mut body = Vec::new();
    let read = store.open_body(stub).map_err(|error| error.to_string());
    let read = read.and_then(|mut reader| reader.read(most, &mut body).map_err(|why| why.to_string()));
    if let Err(why) = read {
        tracing::error!("a large message cannot be read: {why}");
    }
    body
}

fn describe(got: &leveret_broker::Got<'_>, body: &[u8], is_base64: bool) -> Value {
    let message = &got.message;
    let converted = (!conversion::is_of(message.form, FORM)).then(|| conversion::to_amqp091(message).0);
    let properties = Properties::new(converted.as_deref().unwrap_or(message.properties));
    let mut shown = Map::new();
    for (name, property) in PROPERTIES {
        if let Some(value) = properties.get(property) {
            let value = match (property, value.to_value()) {
                // Milliseconds in the broker's model, seconds on the wire.
                (Property::Timestamp, leveret_model::Value::Timestamp(ms)) => Value::from(ms / 1000),
                (_, value) => arguments::value_to_json(&value),
            };
            shown.insert(name.to_owned(), value);
        }
    }
    let headers: Map<String, Value> = properties
        .headers()
        .map(|(name, field)| {
            (String::from_utf8_lossy(name).into_owned(), arguments::value_to_json(&field.to_value()))
        })
        .collect();
    if !headers.is_empty() {
        shown.insert("headers".to_owned(), Value::Object(headers));
    }
    let mut told = json!({
        "payload_bytes": message.body_bytes(),
        "redelivered": got.redelivered,
        "exchange": String::from_utf8_lossy(message.exchange),
        "routing_key": String::from_utf8_lossy(message.routing_key),
        "message_count": got.messages_left,
        "properties": shown,
    });
    put_payload(&mut told, body, is_base64);
    told
}

fn put_payload(told: &mut Value, body: &[u8], is_base64: bool) {
    let (payload, encoding) = match std::str::from_utf8(body) {
        Ok(text) if !is_base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(body), "base64"),
    };
    told["payload"] = payload.into();
    told["payload_encoding"] = encoding.into();
}
