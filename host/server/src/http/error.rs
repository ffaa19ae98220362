//! What goes wrong with a request, and the one place where it becomes a status and JSON.

use super::json::ErrorJson;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::fmt;

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// Nothing of that name, or no such path.
    NotFound,
    /// Nothing of a name that the request speaks of, in words.
    NothingThere(String),
    /// The user has no permission for that in the virtual host.
    Denied,
    /// The body, or something in it, makes no sense, for this reason.
    BadRequest(String),
    /// A page of a list that is none.
    Pagination {
        /// RabbitMQ's word for it.
        kind: &'static str,
        /// Why, for people to read.
        why: String,
    },
    /// It makes sense and cannot be done now, for this reason.
    Refused(String),
    /// It makes sense and what it is about is protected from it, for this reason.
    Protected(String),
    /// It makes sense and has to wait, for this reason.
    NotNow(&'static str),
    /// Too much of that kind is going on.
    Busy,
    /// No credentials, or wrong ones.
    NotAuthorized,
    /// The right password of a user that has no tag for this API.
    NotManagement,
    /// The right password of a user that is no administrator.
    NotAdministrator,
    /// The right password of a user that looks at its own, and not at everything.
    NotMonitor,
    /// The right password of a user that may not ask for that one: another user's, or one for policymakers.
    NotPermitted,
    /// No virtual host of that name, where something is to be put into it.
    NoVhost,
    /// The right password from the wrong place.
    LoopbackOnly,
    /// The `Host` is not this broker's.
    ForeignHost,
    /// The body is not said to be JSON.
    NotJson,
    /// The body is longer than [`super::body::BODY_BYTES_MAX`], or broke off.
    BodyTooLarge,
    /// The body took longer than [`super::body::BODY_READ_MAX`].
    BodyTooSlow,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::NothingThere(_) | Self::NoVhost => StatusCode::NOT_FOUND,
            Self::BadRequest(_) | Self::Pagination { .. } => StatusCode::BAD_REQUEST,
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Protected(_) => StatusCode::PRECONDITION_FAILED,
            Self::NotNow(_) | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotAuthorized
            | Self::Denied
            | Self::LoopbackOnly
            | Self::NotManagement
            | Self::NotAdministrator
            | Self::NotMonitor
            | Self::NotPermitted => StatusCode::UNAUTHORIZED,
            Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The words of `error` and `reason`; RabbitMQ's where it has such an error.
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::NotFound => ("Object Not Found", "Not Found"),
            Self::NothingThere(why) => ("not_found", why),
            Self::Denied => ("not_authorised", "Access refused."),
            Self::BadRequest(why) => ("bad_request", why),
            Self::Pagination { kind, why } => (kind, why),
            Self::Refused(why) => ("refused", why),
            Self::Protected(why) => ("precondition_failed", why),
            Self::NotNow(why) => ("not_now", why),
            Self::Busy => ("busy", "too many such requests at a time"),
            Self::NotAuthorized => ("not_authorized", "Not_Authorized"),
            Self::NotManagement => ("not_authorised", "Not management user"),
            Self::NotAdministrator => ("not_authorised", "Not administrator user"),
            Self::NotMonitor => ("not_authorised", "Not monitor user"),
            Self::NotPermitted => ("not_authorised", "User not authorised to access object"),
            Self::NoVhost => ("not_found", "vhost_not_found"),
            Self::LoopbackOnly => ("not_authorized", "User can only log in via localhost"),
            Self::ForeignHost => {
                ("forbidden", "the Host header names neither loopback nor the listening address")
            }
            Self::NotJson => ("unsupported_media_type", "a body must be application/json"),
            Self::BodyTooLarge => ("payload_too_large", "the body is longer than this API takes"),
            Self::BodyTooSlow => ("request_timeout", "the body did not arrive in time"),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().1)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (error, reason) = self.words();
        let body = Json(ErrorJson { error: error.to_owned(), reason: reason.to_owned() });
        let mut response = (self.status(), body).into_response();
        if self.status() == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"Leveret\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        response
    }
}
