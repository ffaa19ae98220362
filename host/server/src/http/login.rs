//! Who asks: a user of the broker by name and password (Basic), or the command line of whoever may
//! read the broker's token file (Bearer). What users may do is their tags.

use super::{METRICS, METRICS_PER_OBJECT, error::ApiError, token_file::Token};
use axum::http::{HeaderMap, Method, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use leveret_access::{Access, Claim, LoginFailure, User, user::ADMINISTRATOR};
use leveret_model::Name;
use percent_encoding::percent_decode_str;
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::oneshot;

/// The tags of those who may ask at all.
const MANAGEMENT: [&str; 4] = ["management", POLICYMAKER, MONITORING, ADMINISTRATOR];
/// The tag of those who may say what holds for queues and exchanges.
const POLICYMAKER: &str = "policymaker";

/// What all of them may look at, and of what is in a virtual host that they may enter.
const OPEN: [&str; 20] = [
    "whoami",
    "extensions",
    "auth",
    "nodes",
    "cluster-name",
    "version",
    "aliveness-test",
    "health",
    "healthchecks",
    CONNECTIONS,
    "channels",
    "consumers",
    "overview",
    "vhosts",
    "vhost-limits",
    "exchanges",
    "queues",
    "bindings",
    POLICIES,
    OPERATOR_POLICIES,
];
/// What users may change too, as far as their permissions in the virtual host go.
const MANAGED: [&str; 3] = ["exchanges", "queues", "bindings"];
/// Of these users see their own, and may end them.
const CONNECTIONS: &str = "connections";
/// Policymakers may look at single ones too, and change them.
const POLICIES: &str = "policies";
/// What exchange types and interceptors do, in all virtual hosts: for those who monitor.
const PLUGINS: &str = "plugins";
/// And what exchanges hold back.
const HOLDS: &str = "holds";
/// The tag of those who look at everything.
const MONITORING: &str = "monitoring";
/// For policymakers alone.
const GLOBAL_PARAMETERS: &str = "global-parameters";
/// Of these only lists are for others than administrators.
const OPERATOR_POLICIES: &str = "operator-policies";

/// A caller whose credentials were right.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// A user, as it is now.
    User(Arc<User>),
    /// The holder of the token, who may do everything.
    Token,
}

impl Caller {
    /// Whether it may ask for that. Administrators may ask for everything, others look at what is in the virtual hosts
    /// that they may enter, policymakers change policies there and global parameters, and those who monitor look at plugins and held messages too.
    ///
    /// # Errors
    /// [`ApiError::NotManagement`], [`ApiError::NotAdministrator`], [`ApiError::NotPolicymaker`], [`ApiError::NotFound`].
    pub(super) fn check(&self, method: &Method, path: &str) -> Result<(), ApiError> {
        let Self::User(user) = self else { return Ok(()) };
        if user.has_tag(ADMINISTRATOR) {
            return Ok(());
        }
        if !MANAGEMENT.iter().any(|tag| user.has_tag(tag)) {
            return Err(ApiError::NotManagement);
        }
        if path == METRICS || path == METRICS_PER_OBJECT {
            return if user.has_tag(MONITORING) { Ok(()) } else { Err(ApiError::NotAdministrator) };
        }
        let mut parts = path.strip_prefix("/api/").unwrap_or_default().split('/');
        let (resource, vhost) = (parts.next().unwrap_or_default(), parts.next());
        let is_one = parts.next().is_some();
        let is_watched = resource == HOLDS || resource == PLUGINS || resource.starts_with("plugins-");
        if method == Method::GET && is_watched && user.has_tag(MONITORING) {
            return Ok(());
        }
        if resource == GLOBAL_PARAMETERS && user.has_tag(POLICYMAKER) {
            return Ok(());
        }
        let makes_policies = resource == POLICIES && is_one;
        if makes_policies && !user.has_tag(POLICYMAKER) || resource == GLOBAL_PARAMETERS {
            return Err(ApiError::NotPolicymaker);
        }
        if resource == OPERATOR_POLICIES && is_one {
            return Err(ApiError::NotAdministrator);
        }
        // What it may do with these its permissions say.
        let is_permitted = MANAGED.contains(&resource) && is_one || resource == CONNECTIONS;
        if method != Method::GET && !makes_policies && !is_permitted
            || !OPEN.contains(&resource)
            || resource == "vhosts" && vhost.is_some()
        {
            return Err(ApiError::NotAdministrator);
        }
        // What comes second there is no virtual host.
        let vhost = vhost
            .filter(|vhost| resource != "queues" || *vhost != "detailed" || is_one)
            .filter(|_| !["nodes", "health", "healthchecks", CONNECTIONS, "channels"].contains(&resource));
        match vhost.map(|vhost| percent_decode_str(vhost).collect::<Vec<u8>>()) {
            Some(vhost) if !user.permissions.contains_key(&*vhost) => Err(ApiError::NotFound),
            _ => Ok(()),
        }
    }

    /// Whether it looks at everything.
    pub(super) fn monitors(&self) -> bool {
        match self {
            Self::User(user) => user.has_tag(ADMINISTRATOR) || user.has_tag(MONITORING),
            Self::Token => true,
        }
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
