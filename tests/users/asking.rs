//! The HTTP API asked by anybody, and the command line.

use crate::BINARY;
use leveret_testkit::{
    Broker, EVENT_WAIT_MAX,
    process::{self, Finished},
};
use serde_json::Value;
use std::{ffi::OsStr, process::Command};

/// `guest:guest`, as Basic has it.
pub(crate) const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";
/// `u:p`.
pub(crate) const U: &str = "Basic dTpw";

/// Status and body of an answer; the body is null where there is none.
pub(crate) fn ask(
    broker: &Broker,
    who: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(EVENT_WAIT_MAX));
    let agent: ureq::Agent = config.build().into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{}/api/{path}", broker.http_address()))
        .header("authorization", who);
    let response = match body {
        Some(body) => {
            let request = request.header("content-type", "application/json").body(body.to_string());
            agent.run(request.unwrap())
        }
        None => agent.run(request.body(()).unwrap()),
    };
    let mut response = response.unwrap();
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec().unwrap();
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
}

/// By guest.
pub(crate) fn get(broker: &Broker, path: &str) -> (u16, Value) {
    ask(broker, GUEST, "GET", path, None)
}

/// By guest: the status, and the reason where there is one.
pub(crate) fn put(broker: &Broker, path: &str, body: &Value) -> (u16, String) {
    let (status, body) = ask(broker, GUEST, "PUT", path, Some(body));
    (status, body["reason"].as_str().unwrap_or_default().to_owned())
}

/// By guest: the status.
pub(crate) fn delete(broker: &Broker, path: &str) -> u16 {
    ask(broker, GUEST, "DELETE", path, None).0
}

/// Runs the program against a broker's data folder.
pub(crate) fn leveret(broker: &Broker, arguments: &[&str]) -> Finished {
    let mut command = Command::new(BINARY);
    for variable in ["LEVERET_DATA_DIR", "LEVERET_CONFIG", "LEVERET_PASSWORD"] {
        command.env_remove(variable);
    }
    let data = broker.data_directory();
    let arguments = arguments.iter().map(OsStr::new).chain(["--data-dir".as_ref(), data.as_os_str()]);
    process::run(command.args(arguments), EVENT_WAIT_MAX).expect("the program is there")
}

/// The same where it must do what is asked; what it said.
pub(crate) fn does(broker: &Broker, arguments: &[&str]) -> String {
    let finished = leveret(broker, arguments);
    assert!(finished.status.success(), "{arguments:?}: {}", finished.report());
    finished.stdout
}

/// The same where it must not; why.
pub(crate) fn refuses(broker: &Broker, arguments: &[&str]) -> String {
    let finished = leveret(broker, arguments);
    assert_eq!(finished.status.code(), Some(1), "{arguments:?}: {}", finished.report());
    finished.stderr
}
