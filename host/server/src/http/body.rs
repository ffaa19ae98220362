//! Bodies of requests: JSON, of a bounded length, within a bounded time.

use super::error::ApiError;
use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{FromRequest, OptionalFromRequest, Request},
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The longest body with definitions, in bytes. Only administrators send some.
pub const DEFINITIONS_BYTES_MAX: usize = 20 * 1024 * 1024;
/// How long a body may take to arrive.
pub const BODY_READ_MAX: Duration = Duration::from_secs(10);

/// The request with its body read to the end, before any handler sees it. One without a body stays
/// as it is.
///
/// That a body must be called JSON keeps web forms of other pages out: a browser asks before it
/// sends another page's JSON, and gets no permission.
///
/// # Errors
/// [`ApiError::NotJson`], [`ApiError::BodyTooLarge`], [`ApiError::BodyTooSlow`].
pub(super) async fn read_whole(request: Request) -> Result<Request, ApiError> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let said_to_be_json = is_json(request.headers());
    let has_definitions = request.uri().path().starts_with("/api/definitions");
    let bytes_max = if has_definitions { DEFINITIONS_BYTES_MAX } else { BODY_BYTES_MAX };
    let (head, body) = request.into_parts();
    if !said_to_be_json {
        // One that turns out to be empty is none.
        let read = tokio::time::timeout(BODY_READ_MAX, to_bytes(body, 0)).await;
        let read = read.map_err(|_| ApiError::BodyTooSlow)?;
        return read.map(|_| Request::from_parts(head, Body::empty())).map_err(|_| ApiError::NotJson);
    }
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let read = tokio::time::timeout(BODY_READ_MAX, to_bytes(body, bytes_max)).await;
    // Where it broke off instead, nobody is left to read the difference.
    let bytes = read.map_err(|_| ApiError::BodyTooSlow)?.map_err(|_| ApiError::BodyTooLarge)?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

/// The body of a request, which is JSON of that kind.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        // What came this far was not longer than it may be.
        let bytes = to_bytes(request.into_body(), DEFINITIONS_BYTES_MAX).await;
        let bytes = bytes.map_err(|_| ApiError::BodyTooLarge)?;
        let body = serde_json::from_slice(&bytes);
        body.map(Self).map_err(|error| ApiError::BadRequest(format!("the body: {error}")))
    }
}

/// A key of a body that must be there.
///
/// # Errors
/// It is not.
pub(super) fn field<'a>(body: &'a Map<String, Value>, key: &str) -> Result<&'a Value, ApiError> {
    body.get(key).ok_or_else(|| ApiError::BadRequest(format!("[{{key_missing,{key}}}]")))
}

/// The same where it is a text.
///
/// # Errors
/// It is not there, or no text.
pub(super) fn text_field<'a>(body: &'a Map<String, Value>, key: &str) -> Result<&'a str, ApiError> {
    let value = field(body, key)?;
    value.as_str().ok_or_else(|| ApiError::BadRequest(format!("{key} must be a text")))
}

/// Texts that must be there.
///
/// # Errors
/// Some are not, all of which are named as RabbitMQ names them; one is no text.
pub(super) fn text_fields<'a, const N: usize>(
    body: &'a Map<String, Value>,
    keys: [&str; N],
) -> Result<[&'a str; N], ApiError> {
    let missing: Vec<String> = keys
        .iter()
        .filter(|key| !body.contains_key(**key))
        .map(|key| format!("{{key_missing,{key}}}"))
        .collect();
    if !missing.is_empty() {
        return Err(ApiError::BadRequest(format!("[{}]", missing.join(","))));
    }
    let mut texts = [""; N];
    for (text, key) in texts.iter_mut().zip(keys) {
        *text = text_field(body, key)?;
    }
    Ok(texts)
}

impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(given), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_one_content_type_and_only_json() {
        let said = |types: &[&str]| {
            let mut headers = HeaderMap::new();
            for given in types {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_str(given).unwrap());
            }
            is_json(&headers)
        };
        assert!(said(&["application/json"]));
        assert!(said(&["Application/JSON; charset=utf-8"]));
        for wrong in ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""] {
            assert!(!said(&[wrong]), "{wrong}");
        }
        assert!(!said(&[]));
        assert!(!said(&["application/json", "text/plain"]));
    }
}
