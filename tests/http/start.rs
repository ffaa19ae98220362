//! How the API starts, and how it does not.

use super::asking::{BINARY, get, get_as, json_of};
use leveret_server::http::token_file::TokenFile;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, log_lines, process};
use serde_json::json;
use std::{net::TcpListener, os::unix::fs::PermissionsExt, process::Command};

#[test]
fn the_token_file_lets_its_owner_in_and_is_its_owners_alone() {
    let broker = Broker::start(BINARY);
    let data = broker.data_directory();
    let mode = std::fs::metadata(TokenFile::path(&data)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = TokenFile::read(&data).unwrap();
    assert_eq!(file.address, broker.http_address());
    let answer = get_as(&broker, Some(&format!("Bearer {}", file.token.as_str())), "whoami");
    assert_eq!(
        json_of(&answer),
        json!({"name": "http-token", "tags": ["administrator"], "is_internal_user": true})
    );
    // Another broker's token opens nothing here.
    let other = Broker::start(BINARY);
    let token = TokenFile::read(&other.data_directory()).unwrap().token;
    assert_ne!(token, file.token);
    assert_eq!(get_as(&broker, Some(&format!("Bearer {}", token.as_str())), "whoami").status(), 401);
}

#[test]
fn none_turns_it_off() {
    let broker = Broker::builder(BINARY).http_listen("none").start();
    assert!(!broker.log().contains(log_lines::HTTP_API), "{}", broker.log());
    assert!(!TokenFile::path(&broker.data_directory()).exists());
}

#[test]
fn a_taken_port_ends_the_start_and_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scratch = ScratchDirectory::new("taken");
    let mut command = Command::new(BINARY);
    command.args(["--listen", "127.0.0.1:0", "--http-listen", &address, "--data-dir"]).arg(scratch.path());
    let finished = process::run(&mut command, EVENT_WAIT_MAX).unwrap();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.report());
    assert!(finished.stderr.contains(&address), "{}", finished.report());
    assert!(finished.stderr.contains("--http-listen chooses another"), "{}", finished.report());
    assert!(!TokenFile::path(scratch.path()).exists(), "a broker that did not start left its token");
}

#[test]
fn a_token_file_that_cannot_be_written_is_written_later() {
    let stopped = Broker::start(BINARY).stop_for_a_while();
    let path = TokenFile::path(&stopped.data_directory());
    // As on a disk without room: nothing takes its place.
    std::fs::create_dir(&path).unwrap();
    let broker = stopped.start();
    let told = broker.wait_for_log("cannot write", EVENT_WAIT_MAX);
    assert!(told.contains(&path.display().to_string()) && told.contains("ERROR"), "{told}");
    assert_eq!(get(&broker, "whoami")["name"], "guest", "it serves");
    std::fs::remove_dir(&path).unwrap();
    broker.wait_for_log("http-token is written", EVENT_WAIT_MAX);
    assert_eq!(TokenFile::read(&broker.data_directory()).unwrap().address, broker.http_address());
}

#[test]
fn a_clean_stop_takes_the_token_file_away() {
    let broker = Broker::start(BINARY);
    let path = TokenFile::path(&broker.data_directory());
    assert!(path.exists());
    let mut kill = Command::new("kill");
    assert!(kill.arg(broker.pid().to_string()).status().unwrap().success());
    broker.wait_for_log("stopped", EVENT_WAIT_MAX);
    assert!(!path.exists());
}

#[test]
fn a_second_broker_does_not_get_the_data_folder_of_the_first() {
    let broker = Broker::start(BINARY);
    let data = broker.data_directory();
    let mut command = Command::new(BINARY);
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let finished = process::run(&mut command, EVENT_WAIT_MAX).unwrap();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.report());
    let refusal = format!("another broker (process {}) uses the data folder", broker.pid());
    assert!(finished.stderr.contains(&refusal), "{}", finished.report());
    assert!(finished.stderr.contains("--data-dir chooses another"), "{}", finished.report());
    // The command line still finds the first.
    assert_eq!(TokenFile::read(&data).unwrap().address, broker.http_address());
}
