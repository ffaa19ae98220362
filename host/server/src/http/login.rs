//! Who asks: a user of the broker by name and password (Basic), or the command line of whoever may
//! read the broker's token file (Bearer).

use super::{error::ApiError, token_file::Token};
use crate::users::{self, LoginOutcome};
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::net::SocketAddr;

/// A caller whose credentials were right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A user, by name.
    User(String),
    /// The holder of the token.
    Token,
}

/// Checks the one `Authorization` header.
///
/// # Errors
/// [`ApiError::NotAuthorized`], [`ApiError::LoopbackOnly`].
pub(super) fn check(headers: &HeaderMap, peer: SocketAddr, token: &Token) -> Result<Caller, ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(ApiError::NotAuthorized);
    };
    let (scheme, credentials) =
        given.to_str().ok().and_then(|given| given.split_once(' ')).ok_or(ApiError::NotAuthorized)?;
    let credentials = credentials.trim();
    let caller = if scheme.eq_ignore_ascii_case("basic") {
        basic(credentials, peer)
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

fn basic(credentials: &str, peer: SocketAddr) -> Result<Caller, ApiError> {
    let decoded = STANDARD.decode(credentials).map_err(|_| ApiError::NotAuthorized)?;
    // A user's name has no colon; a password may.
    let colon = decoded.iter().position(|byte| *byte == b':').ok_or(ApiError::NotAuthorized)?;
    let (user, password) = decoded.split_at(colon);
    match users::log_in(user, password.strip_prefix(b":").unwrap_or_default(), peer.ip()) {
        LoginOutcome::Accepted => Ok(Caller::User(String::from_utf8_lossy(user).into_owned())),
        LoginOutcome::Refused => Err(ApiError::NotAuthorized),
        LoginOutcome::LoopbackOnly => Err(ApiError::LoopbackOnly),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const NEAR: &str = "127.0.0.1:1";

    fn log_in(given: &[&str], peer: &str, token: &Token) -> Result<Caller, ApiError> {
        let mut headers = HeaderMap::new();
        for given in given {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(given).unwrap());
        }
        check(&headers, peer.parse().unwrap(), token)
    }

    fn basic_of(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn users_and_the_token_are_known_and_nobody_else() {
        let token = Token::random().unwrap();
        let guest = basic_of("guest:guest");
        let bearer = format!("bearer {}", token.as_str());
        assert_eq!(log_in(&[&guest], NEAR, &token), Ok(Caller::User("guest".to_owned())));
        assert_eq!(log_in(&[&bearer], NEAR, &token), Ok(Caller::Token));
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
