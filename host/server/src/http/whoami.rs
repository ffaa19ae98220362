//! `/api/whoami`: who the broker takes the caller for.

use super::{json::WhoamiJson, login::Caller};
use axum::{Extension, Json};

/// Until there are permissions, whoever may log in may do everything.
const TAG: &str = "administrator";

pub(super) async fn read(Extension(caller): Extension<Caller>) -> Json<WhoamiJson> {
    let name = match caller {
        Caller::User(name) => name,
        Caller::Token => super::token_file::FILE_NAME.to_owned(),
    };
    Json(WhoamiJson { name, tags: vec![TAG], is_internal_user: true })
}
