//! Who asks: a user of the broker by name and password (Basic), or the command line of whoever may
//! read the broker's token file (Bearer). What users may do is their tags.

use super::{
    allowed::{self, MONITORING},
    error::ApiError,
    token_file::Token,
};
use axum::http::{HeaderMap, Method, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use leveret_access::{Access, Claim, LoginFailure, User, user::ADMINISTRATOR};
use leveret_model::Name;
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::oneshot;

/// A caller whose credentials were right.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// A user, as it is now.
    User(Arc<User>),
    /// The holder of the token, who may do everything.
    Token,
}

impl Caller {
    /// Whether it may ask for that.
    ///
    /// # Errors
    /// As of [`allowed::check`].
    pub(super) fn check(&self, method: &Method, path: &str) -> Result<(), ApiError> {
        match self {
            Self::User(user) => allowed::check(user, method, path),
            Self::Token => Ok(()),
        }
    }

    /// Whether it looks at everything.
    pub(super) fn monitors(&self) -> bool {
        match self {
            Self::User(user) => user.has_tag(ADMINISTRATOR) || user.has_tag(MONITORING),
            Self::Token => true,
        }
    }

    /// Whether it may know that a virtual host is there.
    pub(super) fn may_know_of(&self, vhost: &Name) -> bool {
        self.monitors() || self.may_look_into(vhost)
    }

    /// Whether it may see what is in a virtual host.
    pub(super) fn may_look_into(&self, vhost: &Name) -> bool {
        match self {
            Self::User(user) => user.has_tag(ADMINISTRATOR) || user.permissions.contains_key(vhost),
            Self::Token => true,
        }
    }
}

/// Checks the one `Authorization` header.
///
/// # Errors
/// [`ApiError::NotAuthorized`], [`ApiError::LoopbackOnly`], [`ApiError::Busy`].
pub(super) async fn check(
    headers: &HeaderMap,
    peer: SocketAddr,
    token: &Token,
    access: &Access,
) -> Result<Caller, ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(ApiError::NotAuthorized);
    };
    let (scheme, credentials) =
        given.to_str().ok().and_then(|given| given.split_once(' ')).ok_or(ApiError::NotAuthorized)?;
    let credentials = credentials.trim();
    let caller = if scheme.eq_ignore_ascii_case("basic") {
        basic(credentials, peer, access).await
    } else if scheme.eq_ignore_ascii_case("bearer") && token.is(credentials) {
        Ok(Caller::Token)
    } else {
        Err(ApiError::NotAuthorized)
    };
    if caller.is_err() {
        tracing::warn!("HTTP: log-in from {peer} refused");
    }
    caller
}

async fn basic(credentials: &str, peer: SocketAddr, access: &Access) -> Result<Caller, ApiError> {
    let decoded = STANDARD.decode(credentials).map_err(|_| ApiError::NotAuthorized)?;
    // A user's name has no colon here; a password may.
    let colon = decoded.iter().position(|byte| *byte == b':').ok_or(ApiError::NotAuthorized)?;
    let (user, password) = decoded.split_at(colon);
    let claim = Claim::Password { user, password: password.strip_prefix(b":").unwrap_or_default() };
    let (told, outcome) = oneshot::channel();
    let at_once = access.authenticate(claim, peer.ip(), move |outcome| {
        // Whoever asked may be gone.
        let _ = told.send(outcome);
    });
    let outcome = match at_once {
        Some(outcome) => outcome,
        None => outcome.await.map_err(|_| ApiError::Busy)?,
    };
    match outcome {
        Ok(identity) => Ok(Caller::User(identity.user().clone())),
        Err(LoginFailure::Refused) => Err(ApiError::NotAuthorized),
        Err(LoginFailure::LoopbackOnly) => Err(ApiError::LoopbackOnly),
        Err(LoginFailure::Busy) => Err(ApiError::Busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const NEAR: &str = "127.0.0.1:1";

    /// The name of who was let in.
    fn log_in(given: &[&str], peer: &str, token: &Token) -> Result<String, ApiError> {
        let settings = leveret_access::Settings::default();
        let access = Access::new(settings, [], [], Arc::new(leveret_access::Nowhere)).unwrap();
        access.ensure_guest(&[], &[]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut headers = HeaderMap::new();
        for given in given {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(given).unwrap());
        }
        runtime.block_on(check(&headers, peer.parse().unwrap(), token, &access)).map(|caller| match caller {
            Caller::User(user) => user.name.to_text(),
            Caller::Token => "the token".to_owned(),
        })
    }

    fn basic_of(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn users_and_the_token_are_known_and_nobody_else() {
        let token = Token::random().unwrap();
        let guest = basic_of("guest:guest");
        let bearer = format!("bearer {}", token.as_str());
        assert_eq!(log_in(&[&guest], NEAR, &token), Ok("guest".to_owned()));
        assert_eq!(log_in(&[&bearer], NEAR, &token), Ok("the token".to_owned()));
        assert_eq!(log_in(&[&guest], "192.0.2.1:1", &token), Err(ApiError::LoopbackOnly));
        let other = format!("Bearer {}", Token::random().unwrap().as_str());
        let wrong = [
            basic_of("guest:"),
            basic_of("guest"),
            basic_of("guest:guest:guest"),
            "Basic !".to_owned(),
            "Basic".to_owned(),
            "Bearer ".to_owned(),
            format!("Basic {}", token.as_str()),
            other,
        ];
        for given in &wrong {
            assert_eq!(log_in(&[given], NEAR, &token), Err(ApiError::NotAuthorized), "{given}");
        }
        assert_eq!(log_in(&[], NEAR, &token), Err(ApiError::NotAuthorized));
        assert_eq!(log_in(&[&guest, &guest], NEAR, &token), Err(ApiError::NotAuthorized));
    }
}
