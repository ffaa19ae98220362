//! `leveret plugin`: how it finds the broker, what it prints, how it ends.

use super::asking::{BINARY, TYPES, get};
use leveret_server::http::token_file::{Token, TokenFile};
use leveret_testkit::{
    Broker, EVENT_WAIT_MAX, ScratchDirectory,
    process::{self, Finished},
};
use serde_json::Value;
use std::{ffi::OsStr, net::TcpListener, process::Command};

/// Runs the program to its end, with one last argument that may be a path.
pub(crate) fn leveret(arguments: &[&str], last: impl AsRef<OsStr>) -> Finished {
    let mut command = Command::new(BINARY);
    for variable in ["LEVERET_DATA_DIR", "LEVERET_CONFIG", "LEVERET_PASSWORD"] {
        command.env_remove(variable);
    }
    process::run(command.args(arguments).arg(last), EVENT_WAIT_MAX).expect("the program is there")
}

#[test]
fn the_broker_is_found_by_its_data_folder_and_by_its_address() {
    let broker = Broker::start(BINARY);
    let data = broker.data_directory();
    let url = format!("http://{}/", broker.http_address());
    let by_folder = leveret(&["plugin", "list", "--data-dir"], &data);
    assert_eq!(by_folder.status.code(), Some(0), "{}", by_folder.report());
    let lines: Vec<&str> = by_folder.stdout.lines().collect();
    let columns: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(
        columns,
        ["TYPE", "SCOPE", "STATE", "PLUGIN", "VERSION", "PURE", "EXCHANGES", "MEMORY", "SUMMARY"]
    );
    // Wide enough for the longest.
    assert!(lines[1..].iter().all(|line| line.find("serving") == lines[0].find("STATE")), "{lines:?}");
    let types: Vec<&str> = lines[1..].iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(types, TYPES);
    let by_address = leveret(&["plugin", "list", "--user", "guest", "--password", "guest", "--url"], &url);
    assert_eq!(by_address.stdout, by_folder.stdout, "{}", by_address.report());
    // The folder may come from the broker's own settings too.
    let config = broker.aside().join("config.toml");
    std::fs::write(&config, format!("data-dir = {:?}\n", data.display().to_string())).unwrap();
    let by_config = leveret(&["--config", &config.display().to_string(), "plugin"], "list");
    assert_eq!(by_config.stdout, by_folder.stdout, "{}", by_config.report());
}

#[test]
fn json_is_what_the_broker_tells() {
    let broker = Broker::start(BINARY);
    let data = broker.data_directory();
    for (command, path) in [(&["list"][..], "plugins"), (&["info", "topic"], "plugins/topic")] {
        let arguments = [&["plugin"][..], command, &["--json", "--data-dir"]].concat();
        let finished = leveret(&arguments, &data);
        let printed: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(printed, get(&broker, path));
    }
}

#[test]
fn a_refusal_ends_with_1_and_says_why() {
    let broker = Broker::start(BINARY);
    let missing = leveret(&["plugin", "info", "x-none", "--data-dir"], broker.data_directory());
    assert_eq!(missing.status.code(), Some(1), "{}", missing.report());
    assert!(missing.stderr.contains("no exchange type x-none"), "{}", missing.report());
    for (arguments, why) in [
        (&["plugin", "withdraw", "nosuch"][..], "there is no plugin \"nosuch\" in service"),
        (
            &["plugin", "canary", "topic", "--percent", "5", "--vhost", "nope"],
            "there is no virtual host nope",
        ),
        (&["plugin", "promote", "topic"], "has no candidate"),
        (
            &["exchange", "set", "amq.topic", "alternate-exchange=x"],
            "'amq.topic' in vhost '/' cannot be changed",
        ),
    ] {
        let refused = leveret(&[arguments, &["--data-dir"]].concat(), broker.data_directory());
        assert_eq!(refused.status.code(), Some(1), "{}", refused.report());
        assert!(refused.stderr.contains(why), "{}", refused.report());
    }
    let explain = ["plugin", "explain", "--exchange", "none", "--data-dir"];
    let nowhere = leveret(&explain, broker.data_directory());
    assert_eq!(nowhere.status.code(), Some(1), "{}", nowhere.report());
    assert!(nowhere.stdout.contains("none"), "{}", nowhere.report());
    let url = format!("http://{}", broker.http_address());
    let wrong = leveret(&["plugin", "list", "--password", "wrong", "--url"], &url);
    assert_eq!(wrong.status.code(), Some(1), "{}", wrong.report());
    assert!(wrong.stderr.contains("refuses: Not_Authorized (401)"), "{}", wrong.report());
    for url in ["ftp://127.0.0.1", "https://127.0.0.1", "http://not a host"] {
        let no_http = leveret(&["plugin", "list", "--url"], url);
        assert_eq!(no_http.status.code(), Some(1), "{}", no_http.report());
        assert!(no_http.stderr.contains("http://ADDRESS:PORT"), "{}", no_http.report());
    }
}

#[test]
fn a_command_whose_output_nobody_reads_ends_quietly() {
    let broker = Broker::start(BINARY);
    for arguments in [&["disable", "--all"][..], &["enable", "--all"], &["list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(BINARY);
        command.arg("plugin").args(arguments).arg("--data-dir").arg(broker.data_directory());
        let ended = command.stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""));
    }
}

/// A broker that was killed leaves its file; the one after it may listen at the same address a moment before it writes its own.
#[test]
fn a_token_of_the_broker_before_is_replaced_by_that_of_the_one_that_answers() {
    let broker = Broker::start(BINARY);
    let data = broker.data_directory();
    let now = TokenFile::read(&data).unwrap();
    TokenFile { token: Token::random().unwrap(), ..now.clone() }.write(&data).unwrap();
    let asking = std::thread::spawn({
        let data = data.clone();
        move || leveret(&["plugin", "list", "--data-dir"], data)
    });
    now.write(&data).unwrap();
    let asked = asking.join().unwrap();
    assert_eq!(asked.status.code(), Some(0), "{}", asked.report());
    // One that stays wrong is refused.
    TokenFile { token: Token::random().unwrap(), ..now.clone() }.write(&data).unwrap();
    let refused = leveret(&["plugin", "list", "--data-dir"], &data);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.report());
    assert!(refused.stderr.contains("(401)"), "{}", refused.report());
    now.write(&data).unwrap();
}

#[test]
fn where_no_broker_runs_it_ends_with_3_and_says_where_it_looked() {
    let scratch = ScratchDirectory::new("no-broker");
    let nothing = leveret(&["plugin", "list", "--data-dir"], scratch.path());
    assert_eq!(nothing.status.code(), Some(3), "{}", nothing.report());
    assert!(nothing.stderr.contains("no broker runs with this data folder"), "{}", nothing.report());
    // A broker that was killed leaves its token file; its port is nobody's now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    TokenFile::new(port, Token::random().unwrap()).write(scratch.path()).unwrap();
    let killed = leveret(&["plugin", "list", "--data-dir"], scratch.path());
    assert_eq!(killed.status.code(), Some(3), "{}", killed.report());
    assert!(killed.stderr.contains(&format!("no broker answers at http://{port}")), "{}", killed.report());
    // A file that is no token file is another matter.
    std::fs::write(TokenFile::path(scratch.path()), "nonsense").unwrap();
    let broken = leveret(&["plugin", "list", "--data-dir"], scratch.path());
    assert_eq!(broken.status.code(), Some(1), "{}", broken.report());
}
