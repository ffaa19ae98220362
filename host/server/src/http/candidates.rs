//! `/api/plugins-candidates`: versions that are tried beside those that serve. Not in RabbitMQ.
//!
//! A candidate comes as a file in the folder of candidates ([`crate::watch`]); here is how it stands and
//! what becomes of it. A promoted candidate's file is moved over the one that served, so the folder says
//! after a restart what it says now; a withdrawn one's is set aside under another name.

use super::{
    Api,
    body::JsonBody,
    error::ApiError,
    json::candidates::{
        CanaryJson, CandidateJson, CandidateOrderJson, CandidateOrderedJson, CandidateStateJson,
        DifferenceJson, LeftOutJson, OrderJson, RefusedJson, ShadowJson,
    },
    switches::of_others,
};
use axum::{Json, extract::State};
use leveret_model::Name;
use leveret_plugin::registry::CANDIDATES;
use leveret_plugin::{CandidateInfo, Difference, LoadError, Registry, Scope, Share, artifact};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

/// How long a request about candidates waits for the broker's start to be complete.
const START_MAX: Duration = Duration::from_secs(10);
/// What is behind the name of a file whose candidate was withdrawn.
const WITHDRAWN: &str = "withdrawn";

/// By scope and plugin.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Vec<CandidateJson>>, ApiError> {
    wait_for_start(&api).await?;
    Ok(Json(api.shared.plugins.registry().candidates().into_iter().map(describe).collect()))
}

/// At a start candidates come after what serves, and a little after clients may.
///
/// # Errors
/// That takes long: nobody knows yet which there are.
async fn wait_for_start(api: &Api) -> Result<(), ApiError> {
    let registry = api.shared.plugins.registry().clone();
    if registry.wait_until_reviewed(Instant::now()) {
        return Ok(());
    }
    match api.aside.run(move || registry.wait_until_reviewed(Instant::now() + START_MAX)).await? {
        true => Ok(()),
        false => Err(ApiError::Refused(
            "the broker still looks at the files that its start found in the plugins folders; ask again in a moment"
                .to_owned(),
        )),
    }
}

/// Has something become of one, and answers when it has.
pub(super) async fn order(
    State(api): State<Arc<Api>>,
    JsonBody(order): JsonBody<CandidateOrderJson>,
) -> Result<Json<CandidateOrderedJson>, ApiError> {
    let vhost = match &order.vhost {
        Some(vhost) => Some(api.vhost(vhost)?.name().clone()),
        None => None,
    };
    wait_for_start(&api).await?;
    let registry = api.shared.plugins.registry().clone();
    let (candidate, only_in) = find(&registry, &order, vhost)?;
    let share = share(&order)?;
    let doing = Doing { registry, candidate, plugin: order.plugin };
    api.aside
        .run(move || match share {
            Some(share) => doing.canary(share, only_in.as_ref()),
            None if order.order == OrderJson::Promote => doing.promote(),
            None if order.order == OrderJson::Withdraw => doing.withdraw(),
            None => doing.shadow(),
        })
        .await?
        .map(Json)
}

/// The candidate that is meant, and the only virtual host in which it is to be a canary.
fn find(
    registry: &Registry,
    order: &CandidateOrderJson,
    vhost: Option<Name>,
) -> Result<(CandidateInfo, Option<Name>), ApiError> {
    let mut all: Vec<CandidateInfo> =
        registry.candidates().into_iter().filter(|info| info.plugin == order.plugin).collect();
    let mut take = |scope: &Scope| {
        let place = all.iter().position(|info| info.scope == *scope)?;
        Some(all.swap_remove(place))
    };
    if let Some(own) = vhost.as_ref().and_then(|vhost| take(&Scope::Vhost(vhost.clone()))) {
        return Ok((own, None));
    }
    let Some(global) = take(&Scope::Global) else {
        let owners: Vec<Scope> = all.into_iter().map(|info| info.scope).collect();
        return Err(match vhost {
            Some(vhost) if !owners.is_empty() => of_others(&order.plugin, &vhost, &owners),
            _ if !is_known(registry, &order.plugin) => {
                ApiError::Refused(format!("there is no plugin {:?} in service", order.plugin))
            }
            _ => ApiError::NotFound,
        });
    };
    if vhost.is_some() && order.order != OrderJson::Canary {
        return Err(ApiError::BadRequest(format!(
            "the plugin {} is not that virtual host's own; its candidate is there for all",
            order.plugin
        )));
    }
    Ok((global, vhost))
}

/// Whether anything of a plugin is there.
fn is_known(registry: &Registry, plugin: &str) -> bool {
    registry.types().iter().any(|info| info.plugin.as_deref() == Some(plugin))
        || registry.interceptors().iter().any(|info| info.plugin == plugin)
}

/// The share of a canary; `None` where something else is wanted.
fn share(order: &CandidateOrderJson) -> Result<Option<Share>, ApiError> {
    match (order.order, order.percent) {
        (OrderJson::Canary, Some(percent)) => match Share::of_percent(percent) {
            Some(share) => Ok(Some(share)),
            None => Err(ApiError::BadRequest(format!("{percent} percent; it must be 0.01 to 100"))),
        },
        (OrderJson::Canary, None) => Err(ApiError::BadRequest("a canary without percent".to_owned())),
        (_, Some(_)) => Err(ApiError::BadRequest("percent is for a canary alone".to_owned())),
        (_, None) => Ok(None),
    }
}

/// An order on its way.
struct Doing {
    registry: Arc<Registry>,
    candidate: CandidateInfo,
    plugin: String,
}

type Done = Result<CandidateOrderedJson, ApiError>;

impl Doing {
    fn shadow(self) -> Done {
        self.registry.shadow(&self.candidate.scope, &self.plugin).map_err(refused)?;
        Ok(self.done(None))
    }

    fn canary(self, share: Share, vhost: Option<&Name>) -> Done {
        self.registry.canary(&self.candidate.scope, &self.plugin, share, vhost).map_err(refused)?;
        Ok(self.done(None))
    }

    fn promote(self) -> Done {
        let file = self.file();
        let read = artifact::read(&file);
        let bytes =
            read.map_err(|error| ApiError::Refused(format!("the file {}: {error}", file.display())))?;
        self.registry.promote(&self.candidate.scope, &self.plugin, &bytes).map_err(refused)?;
        let place = self.candidate.path.clone();
        if let Err(error) = fs::rename(&file, &place) {
            let (file, place) = (file.display(), place.display());
            tracing::error!("the candidate serves, but {file} could not be moved to {place}: {error}");
            return Err(ApiError::Refused(format!(
                "the candidate serves now, but its file {file} could not be moved to {place}, which would serve \
                 after a restart: {error}"
            )));
        }
        Ok(self.done(Some(&place)))
    }

    fn withdraw(self) -> Done {
        let file = self.file();
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(WITHDRAWN);
        let place = file.with_file_name(name);
        let moved = match fs::rename(&file, &place) {
            Ok(()) => Some(&*place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(ApiError::Refused(format!(
                    "the file {} could not be set aside: {error}",
                    file.display()
                )));
            }
        };
        self.registry.withdraw_candidate(&self.candidate.scope, &self.plugin);
        Ok(self.done(moved))
    }

    /// The candidate's file.
    fn file(&self) -> PathBuf {
        let serving = &self.candidate.path;
        let folder = serving.parent().unwrap_or(serving).join(CANDIDATES);
        folder.join(serving.file_name().unwrap_or_default())
    }

    fn done(&self, file: Option<&Path>) -> CandidateOrderedJson {
        let state = self.candidate.state.as_ref();
        CandidateOrderedJson {
            scope: self.candidate.scope.to_string(),
            version: state.map(|state| state.version.clone()),
            digest: state.map(|state| state.digest.to_hex()),
            file: file.map(|file| file.display().to_string()),
        }
    }
}

fn refused(error: LoadError) -> ApiError {
    ApiError::Refused(error.to_string())
}

/// A candidate as JSON.
pub(super) fn describe(info: CandidateInfo) -> CandidateJson {
    let refused =
        info.refused.map(|LoadError { stage, reason }| RefusedJson { stage: stage.to_string(), reason });
    let mut told = CandidateJson {
        plugin: info.plugin,
        scope: info.scope.to_string(),
        state: CandidateStateJson::Refused,
        version: None,
        digest: None,
        since_ms: None,
        types: Vec::new(),
        percent: None,
        vhost: None,
        reason: None,
        left_out: Vec::new(),
        withdrawn_in: Vec::new(),
        refused,
        shadow: ShadowJson::default(),
        canary: CanaryJson::default(),
        last_error: None,
        differences: Vec::new(),
    };
    let Some(state) = info.state else {
        return told;
    };
    told.state = match (&state.canary, &state.withdrawn) {
        (Some(_), _) => CandidateStateJson::Canary,
        (None, Some(_)) => CandidateStateJson::Withdrawn,
        (None, None) => CandidateStateJson::Shadow,
    };
    let since = state.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    told.since_ms = u64::try_from(since.as_millis()).ok();
    told.digest = Some(state.digest.to_hex());
    told.version = Some(state.version);
    told.types = state.exchange_types.iter().map(Name::to_text).collect();
    told.percent = state.canary.map(Share::percent);
    told.vhost = state.canary_vhost.as_ref().map(Name::to_text);
    told.reason = state.withdrawn;
    let not_in = |vhosts: Vec<(Name, String)>| {
        vhosts.into_iter().map(|(vhost, reason)| LeftOutJson { vhost: vhost.to_text(), reason }).collect()
    };
    told.left_out = not_in(state.left_out);
    told.withdrawn_in = not_in(state.withdrawn_in);
    told.shadow = ShadowJson {
        compared: state.equal + state.different,
        equal: state.equal,
        different: state.different,
        failed: state.shadow_failed,
        not_asked: state.not_asked,
    };
    told.canary = CanaryJson {
        answered: state.canary_asked,
        remembered: state.canary_remembered,
        failed: state.canary_failed,
    };
    told.last_error = state.last_error;
    told.differences = state.examples.into_iter().map(difference).collect();
    told
}

fn difference(difference: Difference) -> DifferenceJson {
    let Difference { vhost, exchange, exchange_type, routing_key, serving, candidate } = difference;
    DifferenceJson {
        vhost: vhost.to_text(),
        exchange: exchange.to_text(),
        type_name: exchange_type.to_text(),
        routing_key: routing_key.to_text(),
        serving,
        candidate,
    }
}
