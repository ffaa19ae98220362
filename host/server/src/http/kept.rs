//! Answers to changes: made and kept.

use super::error::ApiError;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use leveret_access::Done;
use serde_json::Value;
use tokio::sync::oneshot;

/// Waits until a change is kept.
pub(super) struct Kept(oneshot::Receiver<Result<(), String>>);

/// What is to be told once a change is kept, and who waits for that.
pub(super) fn done() -> (Done, Kept) {
    let (told, outcome) = oneshot::channel();
    let done = Box::new(move |outcome| {
        // Whoever asked may be gone.
        let _ = told.send(outcome);
    });
    (done, Kept(outcome))
}

impl Kept {
    /// # Errors
    /// It is changed, and will not be kept.
    pub(super) async fn wait(self) -> Result<(), ApiError> {
        match self.0.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(ApiError::Refused(format!("it is changed, and not kept: {why}"))),
            Err(_) => Err(ApiError::Refused(String::from("it is changed, and the broker is being stopped"))),
        }
    }
}

/// Something was put: 201 if it is new, else 204.
pub(super) struct Put(StatusCode);

impl Put {
    pub(super) fn new(is_new: bool) -> Self {
        Self(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
    }
}

impl IntoResponse for Put {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// A value as RabbitMQ shows it in reasons.
pub(super) fn term(value: &Value) -> String {
    match value {
        Value::String(text) => format!("<<{text:?}>>"),
        other => other.to_string(),
    }
}
