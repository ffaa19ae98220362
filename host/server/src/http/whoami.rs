//! `/api/whoami`: who the broker takes the caller for.

use super::{json::WhoamiJson, login::Caller};
use axum::{Extension, Json};

/// What the holder of the token is.
const TAG: &str = "administrator";

pub(super) async fn read(Extension(caller): Extension<Caller>) -> Json<WhoamiJson> {
    let (name, tags) = match caller {
        Caller::User(user) => (user.name.to_text(), user.tags.clone()),
        Caller::Token => (super::token_file::FILE_NAME.to_owned(), vec![TAG.to_owned()]),
    };
    Json(WhoamiJson { name, tags, is_internal_user: true })
}
