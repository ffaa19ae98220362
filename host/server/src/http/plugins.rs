//! `/api/plugins`: the exchange types, what serves them and what that did. Not in RabbitMQ.
//!
//! `/api/plugins/{type}` is one type, or a refused file by the name of its plugin, `/api/plugins/{type}/vhosts/{vhost}` what one virtual host sees of
//! it.

use super::{
    Api, candidates,
    error::ApiError,
    json::{
        BesideJson, PluginJson, PluginState, ServingJson,
        candidates::{CandidateJson, PinJson},
        refused::RefusedJson,
        seen::{
            CallTimeJson, CallsJson, FailuresJson, LimitsHitJson, PluginInVhostJson, ReasonJson,
            TimeRangeJson, VhostTotalJson,
        },
    },
    path::Names,
    pins, refused,
};
use axum::{Json, extract::State};
use leveret_broker::{Vhost, exchange::Exchange, port::Layer};
use leveret_model::Name;
use leveret_plugin::{
    CallTime, Calls, CodeStrategy, Failures, MetricValue,
    policy::FailurePolicy,
    registry::{TypeInVhost, TypeInfo, TypeState},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// By the name of the type; then the files that were refused and of which nothing with a type serves.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<PluginJson>> {
    let types = api.shared.plugins.registry().types().into_iter();
    let mut told = types.map(|info| describe(&api, info)).collect();
    refused::put_beside(refused_files(&api), &mut told);
    Json(told)
}

fn refused_files(api: &Api) -> Vec<RefusedJson> {
    api.shared.plugins.registry().refused().into_iter().map(refused::describe).collect()
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(type_name): Names<String>,
) -> Result<Json<PluginJson>, ApiError> {
    let mut types = api.shared.plugins.registry().types().into_iter();
    let found = types.find(|info| info.name.as_bytes() == type_name.as_bytes());
    let Some(mut told) = found.map(|info| describe(&api, info)) else {
        return read_refused(&api, &type_name).map(Json).ok_or(ApiError::NotFound);
    };
    let mut with_files = vec![told];
    refused::put_beside(refused_files(&api), &mut with_files);
    told = with_files.swap_remove(0);
    // Where it may be another plugin's, too.
    told.vhosts = in_vhosts(&api, type_name.as_bytes()).collect();
    Ok(Json(told))
}

/// What was refused of a plugin, by its name: its file, or by virtual hosts that did not take it.
fn read_refused(api: &Api, plugin: &str) -> Option<PluginJson> {
    let mut files = refused_files(api).into_iter().filter(|file| file.plugin == plugin);
    let mut told = refused::alone(files.next()?);
    told.refused.extend(files);
    Some(told)
}

pub(super) async fn read_in_vhost(
    State(api): State<Arc<Api>>,
    Names((type_name, vhost)): Names<(String, String)>,
) -> Result<Json<PluginInVhostJson>, ApiError> {
    in_vhost(&api, &*api.vhost(&vhost)?, type_name.as_bytes()).map(Json).ok_or(ApiError::NotFound)
}

fn in_vhosts(api: &Api, type_name: &[u8]) -> impl Iterator<Item = PluginInVhostJson> {
    api.vhosts().into_iter().filter_map(move |vhost| in_vhost(api, &vhost, type_name))
}

fn in_vhost(api: &Api, vhost: &Vhost, type_name: &[u8]) -> Option<PluginInVhostJson> {
    let TypeInVhost { name, state, scope, on_failure, exchanges, used, .. } =
        api.shared.plugins.registry().type_in(vhost.name(), type_name)?;
    let (mut state, serving, mut reason) = describe_state(state);
    if state == PluginState::Serving && used.failures.set_aside_until_ms > Some(now_ms()) {
        state = PluginState::Quarantined;
        reason = used
            .failures
            .last
            .as_ref()
            .map(|(last, _)| format!("it failed too often, the last time: {last}"));
    } else if state == PluginState::Serving && used.slow {
        state = PluginState::Slow;
    }
    let together = api.shared.plugins.together(vhost.name());
    let said = said(vhost, &exchanges, &name);
    Some(PluginInVhostJson {
        vhost: vhost.name().to_text(),
        type_name: name.to_text(),
        state,
        scope: scope.map(|scope| scope.to_string()),
        serving,
        reason,
        fallback: fallback(&on_failure),
        on_failure: Some(on_failure.to_string()),
        held: said.held,
        held_stuck: said.held_stuck,
        rejected: said.rejections.iter().map(|reason| reason.messages).sum(),
        drops: said.drops,
        rejections: said.rejections,
        exchanges: exchanges.len(),
        calls: calls(&used.calls),
        call_time: call_time(&used.calls.call_time),
        limits_hit: LimitsHitJson {
            cpu: used.failures.cpu,
            memory: used.failures.memory,
            state: used.state_refused,
            held: used.held_refused,
            outgoing: used.no_room,
            log_lines: used.log_lines_left_out,
            metrics: used.metrics_ignored,
        },
        instances: used.instances,
        memory_bytes: used.memory_bytes,
        remembered_bytes: used.remembered_bytes,
        vhost_total: VhostTotalJson {
            memory_bytes: together.memory_bytes,
            memory_bytes_max: together.memory_bytes_max,
            remembered_bytes: together.remembered_bytes,
            remembered_bytes_max: together.remembered_bytes_max,
        },
        held_bytes: used.held_bytes,
        cpu_per_message_ns: used.cpu_per_message.map(nanoseconds),
        waiting_in_lane: api.shared.plugins.waiting_in_lane(vhost.name()) as u64,
        failures: failures(used.failures),
        emitted: used.emitted,
        state_bytes: used.state_bytes,
        state_entries: used.state_entries,
        state_kept_bytes: used.state_kept_bytes,
        metrics: used.metrics.into_iter().map(|(name, value)| (name, number(value))).collect(),
        metrics_ignored: used.metrics_ignored,
    })
}

/// What became of messages because a type said so.
#[derive(Default)]
struct SaidOfType {
    held: u64,
    held_stuck: u64,
    drops: Vec<ReasonJson>,
    rejections: Vec<ReasonJson>,
}

/// What one type said in these exchanges. What another type of the same exchange said is that one's.
fn said(vhost: &Vhost, exchanges: &[Arc<Exchange>], type_name: &Name) -> SaidOfType {
    let mut said = SaidOfType::default();
    for exchange in exchanges {
        let (name, text) = (&exchange.spec.name, exchange.spec.name.to_text());
        let layers = (0..).map(Layer).zip(exchange.types());
        for (layer, _) in layers.filter(|(_, spec)| spec.type_name == *type_name) {
            let (held, stuck) = exchange.held_by(layer);
            said.held += held as u64;
            said.held_stuck += stuck as u64;
            said.drops.extend(by_reason(vhost.drops(name, layer), Some(&text)));
            said.rejections.extend(by_reason(vhost.rejections(name, layer), Some(&text)));
        }
    }
    said
}

fn describe(api: &Api, info: TypeInfo) -> PluginJson {
    let scope = info.scope.to_string();
    let there: Vec<PluginInVhostJson> =
        in_vhosts(api, &info.name).filter(|there| there.scope.as_ref() == Some(&scope)).collect();
    let (mut memory_bytes, mut remembered_bytes) = (0, 0);
    let calls = there.iter().fold(CallsJson::default(), |mut sum, there| {
        memory_bytes += there.memory_bytes;
        remembered_bytes += there.remembered_bytes;
        sum.remembered += there.calls.remembered;
        sum.asked += there.calls.asked;
        sum.calls += there.calls.calls;
        sum.failed += there.calls.failed;
        sum.dead_ids += there.calls.dead_ids;
        sum.stood_in += there.calls.stood_in;
        sum
    });
    let (type_name, exchanges) = (info.name.to_text(), info.exchanges);
    let parked_plugin = info.plugin;
    let (mut state, serving, mut reason) = describe_state(info.state);
    if state == PluginState::Serving {
        (state, reason) = worst(&there);
    }
    let of_vhost =
        |there: &PluginInVhostJson| there.scope.as_ref().map_or(there.state == state, |s| *s == scope);
    let fallback = in_vhosts(api, &info.name).filter(of_vhost).find_map(|there| there.fallback);
    let registry = api.shared.plugins.registry();
    let candidate = serving.as_ref().and_then(|serving| {
        let mut all = registry.candidates().into_iter();
        let of_it = all.find(|info| info.plugin == serving.plugin && info.scope.to_string() == scope)?;
        let told = candidates::describe(of_it);
        let tried = told.types.contains(&type_name);
        let CandidateJson { state, version, percent, withdrawn_in, .. } = told;
        let withdrawn_in = withdrawn_in.into_iter().map(|there| there.vhost).collect();
        version.filter(|_| tried).map(|version| BesideJson { state, version, percent, withdrawn_in })
    });
    let mut pinned: Vec<PinJson> = registry.pins().into_iter().map(pins::describe).collect();
    pinned.retain(|pin| pin.type_name == type_name && pin.scope == scope);
    let vhosts = Vec::new();
    PluginJson {
        type_name,
        scope,
        state,
        parked_plugin: parked_plugin.filter(|_| serving.is_none()),
        exchanges,
        serving,
        reason,
        fallback,
        calls,
        memory_bytes,
        remembered_bytes,
        vhosts,
        candidate,
        pinned,
        refused: Vec::new(),
    }
}

/// Reasons of an exchange's type, or of interceptors.
pub(super) fn by_reason(reasons: Vec<(Arc<str>, u64)>, exchange: Option<&str>) -> Vec<ReasonJson> {
    let told = reasons.into_iter().map(|(reason, messages)| ReasonJson {
        exchange: exchange.map(str::to_owned),
        reason: String::from(&*reason),
        messages,
    });
    told.collect()
}

/// How a type stands that is served: as in the virtual host where it stands worst, and why it does not serve
/// there. Parked in some of them alone, it serves.
fn worst(there: &[PluginInVhostJson]) -> (PluginState, Option<String>) {
    let first = |state| there.iter().find(|there| there.state == state);
    let why = |there: &PluginInVhostJson| {
        there.reason.as_ref().map(|reason| format!("in virtual host {}: {reason}", there.vhost))
    };
    if let Some(aside) = first(PluginState::Quarantined) {
        return (PluginState::Quarantined, why(aside));
    }
    let parked = there.iter().find(|there| there.state == PluginState::Parked && there.exchanges > 0);
    let state = first(PluginState::Slow).map_or(PluginState::Serving, |slow| slow.state);
    (state, parked.and_then(why))
}

fn fallback(on_failure: &FailurePolicy) -> Option<String> {
    match on_failure {
        FailurePolicy::Fallback(type_name) => Some(type_name.to_text()),
        _ => None,
    }
}

fn describe_state(state: TypeState) -> (PluginState, Option<ServingJson>, Option<String>) {
    match state {
        TypeState::Serving {
            plugin,
            version,
            digest,
            strategy,
            builtin,
            summary,
            pure,
            purity_withdrawn,
            arguments: _,
            stage: _,
        } => {
            let (digest, compiler) = (hexadecimal(&digest.0), compiler(strategy).to_owned());
            let serving =
                ServingJson { plugin, version, digest, compiler, builtin, summary, pure, purity_withdrawn };
            (PluginState::Serving, Some(serving), None)
        }
        TypeState::Parked { why } => (PluginState::Parked, None, Some(why)),
    }
}

fn calls(calls: &Calls) -> CallsJson {
    let Calls { remembered, asked, calls, failed, dead_ids, stood_in, call_time: _ } = *calls;
    CallsJson { remembered, asked, calls, failed, dead_ids, stood_in }
}

fn call_time(times: &CallTime) -> CallTimeJson {
    let ranges = times.ranges().map(|(end, calls)| TimeRangeJson { below_ns: end.map(nanoseconds), calls });
    CallTimeJson {
        p50_ns: times.at(0.5).map(nanoseconds),
        p99_ns: times.at(0.99).map(nanoseconds),
        ranges: ranges.collect(),
    }
}

pub(super) fn failures(failures: Failures) -> FailuresJson {
    let (last_error, last_error_ms) = failures.last.unzip();
    FailuresJson {
        traps: failures.traps,
        cpu_limit: failures.cpu,
        memory_limit: failures.memory,
        bad_answers: failures.answers,
        others: failures.others,
        last_error,
        last_error_ms,
    }
}

fn number(value: MetricValue) -> f64 {
    match value {
        MetricValue::Counter(sum) => sum as f64,
        MetricValue::Gauge(value) => value,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn now_ms() -> u64 {
    millis(SystemTime::now())
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes in hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compiler(strategy: CodeStrategy) -> &'static str {
    match strategy {
        CodeStrategy::Cranelift => "cranelift",
        CodeStrategy::Winch => "winch",
    }
}
