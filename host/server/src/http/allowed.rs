//! What users may ask for by their tags, as RabbitMQ 4.3 has it. What they may do in a virtual host that they may enter
//! their permissions say.

use super::{METRICS, METRICS_PER_OBJECT, error::ApiError};
use axum::http::Method;
use leveret_access::{User, user::ADMINISTRATOR};
use percent_encoding::percent_decode_str;

/// The tags of those who may ask at all.
const MANAGEMENT: [&str; 4] = ["management", POLICYMAKER, MONITORING, ADMINISTRATOR];
/// The tag of those who may say what holds for queues and exchanges.
const POLICYMAKER: &str = "policymaker";
/// The tag of those who look at everything.
pub(super) const MONITORING: &str = "monitoring";

/// Balancers of load ask for these before they send clients here, and know no password: RabbitMQ asks them for none.
const FOR_ALL: [&str; 5] = [
    "/api/version",
    "/api/health/checks/is-in-service",
    "/api/health/checks/ready-to-serve-clients",
    "/api/health/checks/reached-target-cluster-size",
    "/api/health/checks/below-node-connection-limit",
];
/// What all of the tags may look at, and of what is in a virtual host that they may enter.
const OPEN: [&str; 21] = [
    "whoami",
    "extensions",
    "auth",
    "feature-flags",
    "deprecated-features",
    "cluster-name",
    "version",
    "aliveness-test",
    HEALTH,
    "healthchecks",
    CONNECTIONS,
    "channels",
    CONSUMERS,
    "overview",
    "vhosts",
    VHOST_LIMITS,
    "exchanges",
    "queues",
    "bindings",
    POLICIES,
    OPERATOR_POLICIES,
];
/// What users may change too, as far as their permissions in the virtual host go.
const MANAGED: [&str; 3] = ["exchanges", "queues", "bindings"];
/// What those who monitor see of all virtual hosts.
const WATCHED: [&str; 3] = [HEALTH, CONSUMERS, VHOST_LIMITS];
const HEALTH: &str = "health";
const CONSUMERS: &str = "consumers";
const VHOST_LIMITS: &str = "vhost-limits";
/// Of these users see their own, and may end them.
const CONNECTIONS: &str = "connections";
/// Policymakers may look at single ones too, and change them.
const POLICIES: &str = "policies";
/// Of these only lists are for others than administrators.
const OPERATOR_POLICIES: &str = "operator-policies";

/// Whether somebody whom the broker does not know may ask for that.
pub(super) fn is_for_all(method: &Method, path: &str) -> bool {
    is_look(method) && FOR_ALL.contains(&path.strip_suffix('/').unwrap_or(path))
}

/// Whether a user may ask for that. Administrators may ask for everything.
///
/// # Errors
/// [`ApiError::NotManagement`], [`ApiError::NotAdministrator`], [`ApiError::NotMonitor`], [`ApiError::NotPermitted`],
/// [`ApiError::NothingThere`].
pub(super) fn check(user: &User, method: &Method, path: &str) -> Result<(), ApiError> {
    if user.has_tag(ADMINISTRATOR) {
        return Ok(());
    }
    if !MANAGEMENT.iter().any(|tag| user.has_tag(tag)) {
        return Err(ApiError::NotManagement);
    }
    if path == METRICS || path == METRICS_PER_OBJECT {
        return verdict(user.has_tag(MONITORING), ApiError::NotAdministrator);
    }
    let path = path.strip_prefix("/api/").unwrap_or_default();
    let (resource, rest) = path.split_once('/').unwrap_or((path, ""));
    let parts: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
    let looks = is_look(method);
    check_tags(user, looks, resource, &parts)?;
    let Some(vhost) = vhost_in(resource, &parts) else { return Ok(()) };
    let vhost = percent_decode_str(vhost).collect::<Vec<u8>>();
    let watches = looks && user.has_tag(MONITORING) && WATCHED.contains(&resource);
    verdict(watches || user.permissions.contains_key(&*vhost), ApiError::NothingThere("Not Found".to_owned()))
}

/// Whether it changes nothing.
fn is_look(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn verdict(may: bool, why_not: ApiError) -> Result<(), ApiError> {
    if may { Ok(()) } else { Err(why_not) }
}

/// What tags say, whatever the virtual host.
fn check_tags(user: &User, looks: bool, resource: &str, parts: &[&str]) -> Result<(), ApiError> {
    let (monitors, makes_policies) = (user.has_tag(MONITORING), user.has_tag(POLICYMAKER));
    let is_own = |name: &str| percent_decode_str(name).eq(user.name.as_bytes().iter().copied());
    match (resource, parts) {
        ("nodes", _) if looks => verdict(monitors, ApiError::NotMonitor),
        // What exchange types and interceptors do, in all virtual hosts, and what exchanges hold back.
        ("holds" | "plugins", _) if looks => verdict(monitors, ApiError::NotAdministrator),
        (_, _) if looks && resource.starts_with("plugins-") => verdict(monitors, ApiError::NotAdministrator),
        ("global-parameters", _) | (POLICIES, [_, _, ..]) => verdict(makes_policies, ApiError::NotPermitted),
        // Changed they are by administrators alone, since operators' policies are among them.
        ("parameters", _) if looks => verdict(makes_policies, ApiError::NotPermitted),
        ("user-limits", [name]) if looks => verdict(monitors || is_own(name), ApiError::NotPermitted),
        (CONNECTIONS, ["username", name]) => {
            verdict(is_own(name) || looks && monitors, ApiError::NotPermitted)
        }
        ("vhosts", [_, "connections" | "channels"]) if looks => Ok(()),
        (OPERATOR_POLICIES, [_, _, ..]) | ("vhosts" | "auth", [_, ..]) => Err(ApiError::NotAdministrator),
        _ => {
            let is_permitted = MANAGED.contains(&resource) && parts.len() > 1 || resource == CONNECTIONS;
            verdict(is_permitted || looks && OPEN.contains(&resource), ApiError::NotAdministrator)
        }
    }
}

/// The virtual host that a path speaks of.
fn vhost_in<'a>(resource: &str, parts: &[&'a str]) -> Option<&'a str> {
    match (resource, parts) {
        ("queues", ["detailed"]) => None,
        (
            "vhosts" | VHOST_LIMITS | "aliveness-test" | "exchanges" | "queues" | "bindings" | CONSUMERS
            | POLICIES | OPERATOR_POLICIES,
            [vhost, ..],
        )
        | ("parameters", [_, vhost, ..])
        | (HEALTH, ["checks", "quorum-queues-without-elected-leaders", "vhost", vhost, ..]) => Some(vhost),
        _ => None,
    }
}
