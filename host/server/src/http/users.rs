//! `/api/users` and `/api/user-limits`: users, as RabbitMQ's API has them, and how much they may have.

use super::{
    Api,
    body::{JsonBody, field, text_field},
    error::ApiError,
    json::users::{
        AttemptJson, AttemptedJson, HashJson, PermissionsJson, TopicPermissionsJson, UserJson, UserLimitsJson,
    },
    kept::{self, Put},
    path::Names,
};
use axum::{Json, extract::State, http::StatusCode};
use leveret_access::{Algorithm, ChangeRefused, Claim, Limits, Secret, User};
use leveret_model::Name;
use serde_json::{Map, Value};
use std::{net::IpAddr, sync::Arc};
use tokio::sync::oneshot;

/// The two limits by their names.
const MAX_CONNECTIONS: &str = "max-connections";
const MAX_CHANNELS: &str = "max-channels";

impl Api {
    /// The user of a name.
    pub(super) fn user(&self, name: &str) -> Result<Arc<User>, ApiError> {
        self.shared.access.user(name.as_bytes()).ok_or(ApiError::NotFound)
    }
}

/// A user's name in a path.
pub(super) fn name_of(text: &str) -> Result<Name, ApiError> {
    Name::new(text.as_bytes()).map_err(|error| ApiError::BadRequest(format!("{text:?}: {error}")))
}

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<UserJson>> {
    Json(api.shared.access.users().iter().map(|user| UserJson::from(&**user)).collect())
}

pub(super) async fn list_without_permissions(State(api): State<Arc<Api>>) -> Json<Vec<UserJson>> {
    let users = api.shared.access.users();
    Json(
        users.iter().filter(|user| user.permissions.is_empty()).map(|user| UserJson::from(&**user)).collect(),
    )
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<UserJson>, ApiError> {
    Ok(Json(UserJson::from(&*api.user(&name)?)))
}

pub(super) async fn permissions(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<Vec<PermissionsJson>>, ApiError> {
    Ok(Json(PermissionsJson::of(&*api.user(&name)?)))
}

pub(super) async fn topic_permissions(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<Vec<TopicPermissionsJson>>, ApiError> {
    Ok(Json(TopicPermissionsJson::of(&*api.user(&name)?)))
}

/// Makes a user, or gives it another password and other tags. Without a password nobody logs in with one.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Put, ApiError> {
    let name = name_of(&name)?;
    let tags = tags(body.get("tags").ok_or_else(|| ApiError::BadRequest("tags_not_present".to_owned()))?)?;
    let secret = secret(&api, &body).await?;
    let (done, kept) = kept::done();
    let is_new = api.shared.access.put_user(&name, Some(secret), Some(tags), done).map_err(refused)?;
    kept.wait().await?;
    Ok(Put::new(is_new))
}

/// Gives a user other tags, and leaves its password as it is. Not in RabbitMQ's API; its command line does that.
pub(super) async fn put_tags(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    JsonBody(body): JsonBody<Value>,
) -> Result<Put, ApiError> {
    api.user(&name)?;
    let (done, kept) = kept::done();
    let tags = Some(tags(&body)?);
    let is_new = api.shared.access.put_user(&name_of(&name)?, None, tags, done).map_err(refused)?;
    kept.wait().await?;
    Ok(Put::new(is_new))
}

/// A user is gone, and its connections with it.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<StatusCode, ApiError> {
    delete_one(&api, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_one(api: &Api, name: &str) -> Result<(), ApiError> {
    let name = name_of(name)?;
    let (done, kept) = kept::done();
    api.shared.access.delete_user(&name, done).map_err(refused)?;
    api.shared.live.close_user(&name);
    kept.wait().await
}

/// Deletes those of the users that there are.
pub(super) async fn delete_all(
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<StatusCode, ApiError> {
    let Value::Array(names) = field(&body, "users")? else {
        return Err(ApiError::BadRequest("users must be a list of names".to_owned()));
    };
    for name in names {
        let name =
            name.as_str().ok_or_else(|| ApiError::BadRequest("users must be a list of names".to_owned()))?;
        match delete_one(&api, name).await {
            Ok(()) | Err(ApiError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `/api/auth/hash_password/{password}`: as RabbitMQ hashes it.
pub(super) async fn hash(Names(password): Names<String>) -> Result<Json<HashJson>, ApiError> {
    let secret = Secret::for_rabbitmq(password.as_bytes());
    let secret = secret.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    Ok(Json(HashJson { ok: secret.text() }))
}

/// Whether that is a user's password. Not in RabbitMQ's API; its command line does that.
pub(super) async fn attempt(
    State(api): State<Arc<Api>>,
    JsonBody(AttemptJson { name, password }): JsonBody<AttemptJson>,
) -> Result<Json<AttemptedJson>, ApiError> {
    let (told, outcome) = oneshot::channel();
    let claim = Claim::Password { user: name.as_bytes(), password: password.as_bytes() };
    let here = IpAddr::from([127, 0, 0, 1]);
    let at_once = api.shared.access.authenticate(claim, here, move |outcome| {
        // Whoever asked may be gone.
        let _ = told.send(outcome);
    });
    let outcome = match at_once {
        Some(outcome) => outcome,
        None => outcome.await.map_err(|_| ApiError::Busy)?,
    };
    Ok(Json(AttemptedJson { authenticated: outcome.is_ok() }))
}

pub(super) async fn limits(State(api): State<Arc<Api>>) -> Json<Vec<UserLimitsJson>> {
    let users = api.shared.access.users();
    let limited = users.iter().filter(|user| user.limits != Limits::default());
    Json(limited.map(|user| UserLimitsJson::from(&**user)).collect())
}

pub(super) async fn limits_of(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<Vec<UserLimitsJson>>, ApiError> {
    let user = api.user(&name)?;
    Ok(Json((user.limits != Limits::default()).then(|| UserLimitsJson::from(&*user)).into_iter().collect()))
}

/// Sets one limit; a negative one is none.
pub(super) async fn put_limit(
    State(api): State<Arc<Api>>,
    Names((name, limit)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<StatusCode, ApiError> {
    let value = field(&body, "value")?;
    if limit != MAX_CONNECTIONS && limit != MAX_CHANNELS {
        let why = format!("Unrecognised terms [{{<<\"{limit}\">>,{value}}}] in user-limits");
        return Err(ApiError::BadRequest(why));
    }
    let number = value.as_i64().ok_or_else(|| {
        ApiError::BadRequest(format!("{limit} should be a number, actually was {}", kept::term(value)))
    })?;
    if api.user(&name).is_err() {
        return Err(ApiError::BadRequest(format!("no_such_user: {name}")));
    }
    set_limit(&api, &name, &limit, u64::try_from(number).ok()).await
}

pub(super) async fn delete_limit(
    State(api): State<Arc<Api>>,
    Names((name, limit)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_limit(&api, &name, &limit, None).await
}

async fn set_limit(api: &Api, name: &str, limit: &str, value: Option<u64>) -> Result<StatusCode, ApiError> {
    let (done, kept) = kept::done();
    let set = |limits: &mut Limits| match limit {
        MAX_CONNECTIONS => limits.connections_max = value,
        MAX_CHANNELS => limits.channels_max = value,
        _ => {}
    };
    api.shared.access.set_limits(&name_of(name)?, set, done).map_err(refused)?;
    kept.wait().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `"a,b"`, or a list.
pub(super) fn tags(value: &Value) -> Result<Vec<String>, ApiError> {
    let clean = |text: &str| Some(text.trim().to_owned()).filter(|tag| !tag.is_empty());
    match value {
        Value::String(text) => Ok(text.split(',').filter_map(clean).collect()),
        Value::Array(list) => {
            let tag = |tag: &Value| tag.as_str().map(clean);
            let tags = list.iter().map(tag).collect::<Option<Vec<_>>>();
            tags.map(|tags| tags.into_iter().flatten().collect()).ok_or_else(wrong_tags)
        }
        _ => Err(wrong_tags()),
    }
}

fn wrong_tags() -> ApiError {
    ApiError::BadRequest("tags must be a text with commas, or a list of texts".to_owned())
}

async fn secret(api: &Api, body: &Map<String, Value>) -> Result<Secret, ApiError> {
    let bad = |error: leveret_access::SecretError| ApiError::BadRequest(error.to_string());
    match (body.get("password"), body.get("password_hash")) {
        (Some(_), Some(_)) => {
            Err(ApiError::BadRequest("both_password_and_password_hash_are_provided".to_owned()))
        }
        (Some(_), None) => {
            let password = text_field(body, "password")?.to_owned();
            api.aside.run(move || Secret::new(password.as_bytes())).await?.map_err(bad)
        }
        (None, Some(_)) => {
            let hash = text_field(body, "password_hash")?;
            let usual = if hash.starts_with("$argon2") { "argon2id" } else { "sha256" };
            let named = if body.contains_key("hashing_algorithm") {
                text_field(body, "hashing_algorithm")?
            } else {
                usual
            };
            named.parse::<Algorithm>().and_then(|algorithm| Secret::read(algorithm, hash)).map_err(bad)
        }
        (None, None) => Ok(Secret::none()),
    }
}

/// A change that was not made.
pub(super) fn refused(why: ChangeRefused) -> ApiError {
    match why {
        ChangeRefused::NoUser | ChangeRefused::NothingThere => ApiError::NotFound,
        why @ (ChangeRefused::Declared(_) | ChangeRefused::NotKept(_)) => ApiError::Refused(why.to_string()),
    }
}
