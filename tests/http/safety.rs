//! What must not get through, and what must not be held for ever.

use super::asking::{BINARY, GUEST, get, get_as, json_of, post, raw, until_closed};
use leveret_server::http::{body::BODY_BYTES_MAX, server::CONNECTIONS_MAX};
use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use serde_json::json;
use std::{io::Read, net::TcpStream, time::Instant};

/// A request of guest's for `whoami` with these headers, after which the connection ends.
fn whoami_with(headers: &str) -> Vec<u8> {
    format!("GET /api/whoami HTTP/1.1\r\nAuthorization: {GUEST}\r\nConnection: close\r\n{headers}\r\n").into()
}

#[test]
fn without_the_right_credentials_there_is_401() {
    let broker = Broker::start(BINARY);
    // guest:wrong
    for authorization in [None, Some("Basic Z3Vlc3Q6d3Jvbmc="), Some("Bearer 00"), Some("Basic !")] {
        for path in ["overview", "plugins", "no-such-thing"] {
            let answer = get_as(&broker, authorization, path);
            assert_eq!(answer.status(), 401, "{authorization:?} {path}");
            assert_eq!(json_of(&answer), json!({"error": "not_authorized", "reason": "Not_Authorized"}));
            assert_eq!(answer.headers()["www-authenticate"], "Basic realm=\"Leveret\"");
        }
    }
    assert_eq!(get(&broker, "whoami")["name"], "guest");
}

#[test]
fn only_a_host_that_nobody_else_can_have_is_answered() {
    let broker = Broker::start(BINARY);
    let address = broker.http_address();
    let port = address.port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")] {
        let answer = until_closed(raw(address), &whoami_with(&format!("Host: {host}\r\n")));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    let hosts = [
        String::new(),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
        format!("Host: 192.0.2.1:{port}\r\n"),
        format!("Host: localhost:{port}\r\nHost: evil.example\r\n"),
    ];
    for host in hosts {
        let answer = until_closed(raw(address), &whoami_with(&host));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
        assert!(answer.contains("{\"error\":\"forbidden\","), "{answer}");
    }
}

#[test]
fn a_body_that_is_not_json_is_415() {
    let broker = Broker::start(BINARY);
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        assert_eq!(post(&broker, "overview", content_type, b"{}").status(), 415, "{content_type}");
    }
    // What is JSON comes to the resource, which knows no such method.
    assert_eq!(post(&broker, "overview", "application/json", b"{}").status(), 405);
    assert_eq!(post(&broker, "overview", "application/json; charset=utf-8", b"{}").status(), 405);
}

#[test]
fn a_body_above_the_limit_is_413() {
    let broker = Broker::start(BINARY);
    let whole = vec![b' '; BODY_BYTES_MAX];
    assert_eq!(post(&broker, "overview", "application/json", &whole).status(), 405);
    let head = |headers: String| {
        format!(
            "POST /api/overview HTTP/1.1\r\nHost: localhost\r\nAuthorization: {GUEST}\r\n\
             Content-Type: application/json\r\n{headers}\r\n\r\n"
        )
    };
    // Refused by its length, before any of it is sent.
    let announced = head(format!("Content-Length: {}", BODY_BYTES_MAX + 1));
    let answer = until_closed(raw(broker.http_address()), announced.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // One byte too many, where the length is not told before.
    let mut chunked = head("Transfer-Encoding: chunked".to_owned()).into_bytes();
    chunked.extend(format!("{:x}\r\n", BODY_BYTES_MAX + 1).bytes());
    chunked.resize(chunked.len() + BODY_BYTES_MAX + 1, b' ');
    let answer = until_closed(raw(broker.http_address()), &chunked);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let broker = Broker::start(BINARY);
    let head = format!(
        "POST /api/overview HTTP/1.1\r\nHost: localhost\r\nAuthorization: {GUEST}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{"
    );
    let answer = until_closed(raw(broker.http_address()), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn no_answer_lets_another_origin_read_it() {
    let broker = Broker::start(BINARY);
    let preflight = format!(
        "OPTIONS /api/overview HTTP/1.1\r\nHost: localhost\r\nAuthorization: {GUEST}\r\nConnection: close\r\n\
         Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"
    );
    let requests =
        [whoami_with("Host: localhost\r\nOrigin: http://evil.example\r\n"), preflight.into_bytes()];
    for request in requests {
        let answer = until_closed(raw(broker.http_address()), &request).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 "), "{answer}");
        assert!(!answer.contains("access-control-"), "{answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let broker = Broker::start(BINARY);
    let answer = until_closed(raw(broker.http_address()), b"GET /api/whoami HTTP/1.1\r\nHost: loc");
    assert!(!answer.contains(" 200 "), "{answer}");
    // Nor is one that does not fit.
    let long = whoami_with(&format!("Host: localhost\r\nX-Long: {}\r\n", "x".repeat(32 * 1024)));
    let answer = until_closed(raw(broker.http_address()), &long);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn one_connection_above_the_limit_is_sent_away_and_a_place_comes_free_again() {
    let broker = Broker::start(BINARY);
    let address = broker.http_address();
    let mut held: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| raw(address)).collect();
    assert!(until_closed(raw(address), b"").starts_with("HTTP/1.1 503 "));
    drop(held.pop());
    let deadline = Instant::now() + EVENT_WAIT_MAX;
    loop {
        let answer = until_closed_or_reset(raw(address));
        if answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(Instant::now() < deadline, "no place came free");
    }
}

/// Sends a request and gives the answer, which is cut where the broker closed without reading.
fn until_closed_or_reset(mut stream: TcpStream) -> String {
    use std::io::Write;
    let mut answer = Vec::new();
    let _ = stream.write_all(&whoami_with("Host: localhost\r\n"));
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}
