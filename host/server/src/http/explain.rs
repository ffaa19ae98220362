//! `/api/plugins/explain`: where a message would go, and why. Not in RabbitMQ.

use super::{
    Api, DEFAULT_EXCHANGE, arguments,
    body::JsonBody,
    error::ApiError,
    json::{
        DestinationType,
        explain::{
            AskedInterceptorJson, AskedJson, ExplainRequest, ExplanationJson, HeldByJson, NamedBindingJson,
            PropertiesJson, StepJson, WhomJson,
        },
    },
};
use crate::explainer::{Question, Recalled};
use axum::{Json, extract::State};
use leveret_amqp091::{form::FORM, properties::MessageProperties};
use leveret_broker::{
    Explanation, NoRoom, Published,
    exchange::{Binding, Destination},
    explain::{Asked, AskedInterceptor, AskedPlugin, Said, SaidInterceptor, Standing, Step, Wanted},
};
use leveret_model::{Name, OwnedMessage, Patch};
use std::sync::Arc;

pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<ExplainRequest>,
) -> Result<Json<ExplanationJson>, ApiError> {
    let vhost = api.vhost(&request.vhost)?.clone();
    let mandatory = request.mandatory;
    let message = message(&request)?;
    let question = Question { vhost, message, mandatory };
    let explained = api.explainer.ask(question).await.map_err(|_| ApiError::Busy)?;
    Ok(Json(describe(&explained.explanation, &explained.recalled)))
}

/// The message as a client would have published it.
pub(crate) fn message(request: &ExplainRequest) -> Result<OwnedMessage, ApiError> {
    let exchange = if request.exchange == DEFAULT_EXCHANGE { "" } else { &request.exchange };
    let name =
        |text: &str| Name::new(text.as_bytes()).map_err(|error| ApiError::BadRequest(error.to_string()));
    let headers = arguments::from_json(&request.headers).map_err(ApiError::BadRequest)?;
    Ok(OwnedMessage {
        exchange: name(exchange)?,
        routing_key: name(&request.routing_key)?,
        form: FORM,
        properties: properties(&request.properties, headers)?.into(),
        body: request.body.clone().into(),
    })
}

pub(super) fn properties(said: &PropertiesJson, headers: leveret_model::Table) -> Result<Vec<u8>, ApiError> {
    fn short(text: Option<&String>) -> Result<Option<&[u8]>, ApiError> {
        match text {
            Some(text) if text.len() > Name::BYTES_MAX => {
                Err(ApiError::BadRequest(format!("a property of {} bytes; the most is 255", text.len())))
            }
            text => Ok(text.map(String::as_bytes)),
        }
    }
    let properties = MessageProperties {
        content_type: short(said.content_type.as_ref())?,
        content_encoding: short(said.content_encoding.as_ref())?,
        headers: (!headers.is_empty()).then_some(headers),
        delivery_mode: said.delivery_mode,
        priority: said.priority,
        correlation_id: short(said.correlation_id.as_ref())?,
        reply_to: short(said.reply_to.as_ref())?,
        expiration: short(said.expiration.as_ref())?,
        message_id: short(said.message_id.as_ref())?,
        timestamp: said.timestamp,
        message_type: short(said.message_type.as_ref())?,
        user_id: short(said.user_id.as_ref())?,
        app_id: short(said.app_id.as_ref())?,
    };
    Ok(properties.encode())
}

/// An explanation as JSON.
fn describe(explained: &Explanation, recalled: &Recalled) -> ExplanationJson {
    let (outcome, reason) = match &explained.outcome {
        None => ("later", None),
        Some(Published::Routed) => ("routed", None),
        Some(Published::Dropped) => ("dropped", None),
        Some(Published::Unroutable) => ("unroutable", None),
        Some(
            Published::Rejected(reason)
            | Published::Unavailable(reason)
            | Published::Full(NoRoom { why: reason, .. }),
        ) => ("rejected", Some(reason.to_string())),
        Some(Published::Refused(refusal)) => ("refused", Some(refusal.to_string())),
    };
    let holds = explained.holds.iter();
    ExplanationJson {
        intercepted: explained.intercepted.iter().map(intercepted).collect(),
        went_on_with_key: explained.went_on_as.as_ref().map(|message| message.routing_key.to_text()),
        steps: explained.steps.iter().enumerate().map(|(at, step)| step_json(step, at, recalled)).collect(),
        queues: explained.queues.iter().map(Name::to_text).collect(),
        holds: holds
            .map(|(by, delay_ms)| HeldByJson { exchange: by.to_text(), delay_ms: *delay_ms })
            .collect(),
        due_queues: explained.due_queues.iter().map(Name::to_text).collect(),
        outcome: outcome.to_owned(),
        reason,
    }
}

fn step_json(step: &Step, at: usize, recalled: &Recalled) -> StepJson {
    let by = |place| recalled.by.get(at).and_then(|by| by.get(place)).copied().unwrap_or_default();
    StepJson {
        exchange: step.exchange.to_text(),
        when_due: step.when_due,
        asked: step
            .asked
            .iter()
            .enumerate()
            .map(|(place, it)| AskedJson {
                remembered: by(place) > 0,
                remembered_by: by(place),
                workers: recalled.workers,
                ..asked(it)
            })
            .collect(),
        alternate_exchange: step.alternate.as_ref().map(Name::to_text),
    }
}

fn asked(asked: &Asked) -> AskedJson {
    let plugin = asked.plugin.as_ref();
    let mut told = AskedJson {
        type_name: asked.type_name.to_text(),
        layer: asked.layer.0,
        stands_in: asked.stands_in,
        whom: whom(plugin),
        standing: plugin.and_then(|plugin| standing(plugin.standing)).map(str::to_owned),
        effects: asked.effects.iter().map(in_words).collect(),
        ..AskedJson::default()
    };
    let answer = match &asked.said {
        Said::Deliver { bindings, dead_ids } => {
            told.bindings = bindings.iter().map(|binding| named(binding)).collect();
            told.dead_ids = *dead_ids;
            "deliver"
        }
        Said::Drop(reason) => {
            told.reason = reason.as_ref().map(ToString::to_string);
            "drop"
        }
        Said::Reject(reason) => {
            told.reason = Some(reason.to_string());
            "reject"
        }
        Said::Delegate => "delegate",
        Said::Hold(delay_ms) => {
            told.delay_ms = Some(*delay_ms);
            "hold"
        }
        Said::Failed(refusal) => {
            told.reason = Some(refusal.to_string());
            told.on_failure = Some(asked.on_failure.clone());
            "failed"
        }
        Said::Later => "later",
    };
    answer.clone_into(&mut told.answer);
    told
}

fn in_words(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Enqueue(queue) => format!("a message into queue '{queue}'"),
        Wanted::Publish(exchange, key) => format!("a message to exchange '{exchange}' with key '{key}'"),
        Wanted::Keep => String::from("the message is kept for those that bind later"),
        Wanted::Write(1) => String::from("1 value is written"),
        Wanted::Write(values) => format!("{values} values are written"),
        Wanted::SetTimer(name) => format!("timer '{name}' is set"),
    }
}

fn whom(plugin: Option<&AskedPlugin>) -> WhomJson {
    WhomJson {
        plugin: plugin.map(|plugin| plugin.name.clone()),
        version: plugin.map(|plugin| plugin.version.clone()),
        digest: plugin.map(|plugin| plugin.digest.clone()),
        pure: plugin.is_some_and(|plugin| plugin.pure),
    }
}

fn standing(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Serving => None,
        Standing::Canary => Some("canary"),
        Standing::Pinned => Some("pinned"),
    }
}

fn intercepted(asked: &AskedInterceptor) -> AskedInterceptorJson {
    let plugin = asked.plugin.as_ref();
    let mut told = AskedInterceptorJson {
        interceptor: asked.interceptor.clone(),
        whom: whom(plugin),
        failed: asked.failed.clone(),
        ..AskedInterceptorJson::default()
    };
    let verdict = match &asked.said {
        SaidInterceptor::Pass => "pass",
        SaidInterceptor::Patch(patch) => {
            told.changes = changes(patch);
            "patch"
        }
        SaidInterceptor::Drop => "drop",
        SaidInterceptor::Reject(reason) => {
            told.reason = Some(reason.to_string());
            "reject"
        }
        SaidInterceptor::Unroutable => "unroutable",
        SaidInterceptor::Later => "later",
    };
    verdict.clone_into(&mut told.verdict);
    told
}

/// What a patch changes, in words.
fn changes(patch: &Patch) -> Vec<String> {
    let mut told = Vec::new();
    for header in patch.headers() {
        let name = header.name.to_text();
        told.push(match &header.value {
            Some(value) => format!("header {name} = {}", arguments::value_to_json(value)),
            None => format!("without header {name}"),
        });
    }
    for (property, value) in patch.properties() {
        told.push(match value {
            Some(value) => format!("property {property:?} = {}", arguments::value_to_json(value)),
            None => format!("without property {property:?}"),
        });
    }
    told.extend(patch.routing_key().map(|key| format!("routing key = {}", key.to_text())));
    told.extend(patch.body().map(|body| format!("a body of {} bytes", body.len())));
    told
}

fn named(binding: &Binding) -> NamedBindingJson {
    NamedBindingJson {
        id: binding.id.0,
        destination: binding.destination.name().to_text(),
        destination_type: match binding.destination {
            Destination::Queue(_) => DestinationType::Queue,
            Destination::Exchange(_) => DestinationType::Exchange,
        },
        routing_key: binding.routing_key.to_text(),
        arguments: arguments::to_json(&binding.arguments),
    }
}
