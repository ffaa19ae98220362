//! A client of the API as users have one, and bytes on a socket for what no client would send.

use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
/// `guest:guest`, as Basic has it.
pub(crate) const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// The exchange types that come with the broker, sorted.
pub(crate) const TYPES: [&str; 12] = [
    "direct",
    "fanout",
    "headers",
    "topic",
    "x-consistent-hash",
    "x-delayed-message",
    "x-local-random",
    "x-lvc",
    "x-message-deduplication",
    "x-modulus-hash",
    "x-random",
    "x-recent-history",
];

/// An answer: status, headers, body.
pub(crate) type Answer = ureq::http::Response<Vec<u8>>;

fn agent() -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(EVENT_WAIT_MAX));
    config.build().into()
}

fn whole(response: ureq::http::Response<ureq::Body>) -> Answer {
    let (head, mut body) = response.into_parts();
    Answer::from_parts(head, body.read_to_vec().unwrap())
}

/// `GET /api/<path>` with that `Authorization`, or without any.
pub(crate) fn get_as(broker: &Broker, authorization: Option<&str>, path: &str) -> Answer {
    let mut request = agent().get(format!("http://{}/api/{path}", broker.http_address()));
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    whole(request.call().unwrap())
}

/// `POST /api/<path>` by guest.
pub(crate) fn post(broker: &Broker, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let request = agent().post(format!("http://{}/api/{path}", broker.http_address()));
    let request = request.header("authorization", GUEST).header("content-type", content_type);
    whole(request.send(body).unwrap())
}

/// `PUT /api/<path>` by guest.
pub(crate) fn put(broker: &Broker, path: &str, body: &Value) -> Answer {
    let request = agent().put(format!("http://{}/api/{path}", broker.http_address()));
    let request = request.header("authorization", GUEST).header("content-type", "application/json");
    whole(request.send(body.to_string()).unwrap())
}

/// `DELETE /api/<path>` by guest.
pub(crate) fn delete(broker: &Broker, path: &str) -> Answer {
    let request = agent().delete(format!("http://{}/api/{path}", broker.http_address()));
    whole(request.header("authorization", GUEST).call().unwrap())
}

/// A request by whom that `Authorization` says.
pub(crate) fn send_as(
    broker: &Broker,
    authorization: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{}/api/{path}", broker.http_address()))
        .header("authorization", authorization)
        .header("content-type", "application/json");
    let body = body.map(Value::to_string).unwrap_or_default();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(EVENT_WAIT_MAX));
    let agent: ureq::Agent = config.build().into();
    whole(agent.run(request.body(body).unwrap()).unwrap())
}

/// The JSON that guest gets.
pub(crate) fn get(broker: &Broker, path: &str) -> Value {
    let answer = get_as(broker, Some(GUEST), path);
    assert_eq!(answer.status(), 200, "{path}: {}", String::from_utf8_lossy(answer.body()));
    assert_eq!(answer.headers()["content-type"], "application/json");
    json_of(&answer)
}

/// The body of an answer.
pub(crate) fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body()).expect("a body of JSON")
}

/// A connection that speaks bytes.
pub(crate) fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(EVENT_WAIT_MAX)).unwrap();
    stream
}

/// Sends these bytes and gives all that comes until the broker closes.
pub(crate) fn until_closed(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}
