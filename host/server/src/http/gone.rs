//! What is not there any more: whoever asks to delete it is told so once that is as safe as for the one who did.
//!
//! It may have been deleted a moment ago, and not be on disk yet: then it would be there again after a crash, although
//! somebody was told that it is gone.

use super::{Api, aside, error::ApiError, kept};
use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Where what a virtual host consists of is, whose name comes next in the path.
const RESOURCES: [&str; 3] = ["queues", "exchanges", "bindings"];

/// Has who deletes what is not there wait for what was deleted before.
pub(super) async fn wait(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let deletes = (request.method() == Method::DELETE).then(|| request.uri().path().to_owned());
    let response = next.run(request).await;
    match deletes {
        Some(path) if response.status() == StatusCode::NOT_FOUND => {
            until_written(&api, &path).await.map_or_else(IntoResponse::into_response, |()| response)
        }
        _ => response,
    }
}

async fn until_written(api: &Api, path: &str) -> Result<(), ApiError> {
    let mut parts = path.split('/').skip(2);
    let kind = parts.next().unwrap_or_default();
    if RESOURCES.contains(&kind) {
        let vhost = percent_decode_str(parts.next().unwrap_or_default()).decode_utf8_lossy();
        if let Some(place) = api.shared.vhosts.get(vhost.as_bytes()) {
            return aside::safe(&place.vhost.written()).await;
        }
    }
    let (done, kept) = kept::done();
    api.shared.store.when_kept(done);
    kept.wait().await
}
