//! Files as people get them wrong: whatever is in one, it is read or refused, and a refusal names the key.

use super::*;
use proptest::prelude::*;

/// A file that says something of everything.
const FILE: &str = r#"
listen = "127.0.0.1:1"
http-listen = "127.0.0.1:2"
https-listen = "127.0.0.1:3"
metrics-listen = "127.0.0.1:4"
data-dir = "d"
plugins-dir = "p"
vhosts = ["/", "tenant-a"]
workers = 2
memory-mib = 256
compile-memory-mib = 2048
compile-cpu-seconds = 60
retry-max-ms = 30000
announced-product = "RabbitMQ"
announced-version = "4.3.0"
quorum = "refuse"
consumer-timeout-ms = 1800000
log = "info"
loopback-users = ["guest"]
tls-listen = "127.0.0.1:5"
tls-certificate = "c.pem"
tls-key = "k.pem"
tls-ca = "a.pem"
tls-crl = "r.pem"
tls-clients = "optional"
tls-login-from = "dns"
anonymous-user = "nobody"

[totals]
remembered-mib = 256

[plugins."rate-limit"]
enabled = true
grants = ["clock", "key-value"]
on-failure = "reject"
random-seed = 7
memory-mib = 32
cpu-per-call-ms = 10
state-mib = 16

[vhost."tenant-a"]
default-queue-type = "quorum"
max-connections = 100
max-queues = 1000
plugins-dir = "tenant-a/plugins"
allow = ["rate-limit"]
ceilings = { memory-mib = 128, state-mib = 64 }
totals = { memory-mib = 512 }
sync = "always"

[vhost."tenant-a".plugins."rate-limit"]
grants = ["clock"]

[[durability]]
queues = "metrics.*"
vhost = "/"
sync = "interval:10ms"

[users.alice]
password-hash = "wuB4hQeerJGkG3bNwV+1ZpH/94+MHmTBrR3ebOd0IBAYB5T9"
hashing-algorithm = "sha256"
tags = ["administrator"]
max-connections = 100

[users.alice.permissions."/"]
configure = "^alice"
write = ".*"
read = ".*"

[users.alice.topic-permissions."/"."amq.topic"]
write = "^{username}"
read = ".*"

[[policy]]
vhost = "/"
name = "letters"
pattern = "^work"
apply-to = "queues"
priority = 1
definition = { message-ttl = 60000 }

[[operator-policy]]
name = "ceiling"
pattern = ""
definition = { max-length-bytes = 1073741824 }

[[intercept]]
interceptor = "stamp"
point = "publish"
vhost = "/"
exchange = "orders.*"
order = 10
on-failure = "reject"
arguments = { header = "x-stamp" }
"#;

fn read(text: &str) -> anyhow::Result<Config> {
    Config::try_from(Settings::parse(text)?)
}

fn refusal(text: &str) -> String {
    read(text).err().map_or_else(|| panic!("it is taken:\n{text}"), |error| format!("{error:#}"))
}

/// The lines that set something, with their numbers, keys and values.
fn settings() -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let lines = FILE.lines().enumerate();
    lines.filter_map(|(at, line)| line.split_once(" = ").map(|(key, value)| (at, key, value)))
}

/// The file with another line in that place.
fn with_line(at: usize, line: &str) -> String {
    let lines: Vec<_> = FILE.lines().enumerate().map(|(n, old)| if n == at { line } else { old }).collect();
    lines.join("\n")
}

#[test]
fn the_file_itself_is_good() {
    let config = read(FILE).unwrap();
    assert_eq!((config.workers, config.users.len()), (2, 1));
}

#[test]
fn a_value_of_another_kind_is_refused_by_its_key_and_line() {
    for (at, key, value) in settings() {
        let wrong = match value.as_bytes().first() {
            Some(b'"') => "[[7]]",
            Some(b'[' | b'{') => "true",
            _ => "\"seven\"",
        };
        let text = refusal(&with_line(at, &format!("{key} = {wrong}")));
        let line = format!("line {}", at + 1);
        assert!(text.contains(key) && text.contains(&line), "{key} = {wrong}: {text}");
    }
}

#[test]
fn a_key_that_nobody_knows_is_refused_in_every_table() {
    let tables = FILE.lines().enumerate().filter(|(_, line)| line.starts_with('['));
    for (at, table) in [(0, "")].into_iter().chain(tables) {
        let text = refusal(&with_line(at, &format!("{table}\nno-such-key = 1")));
        // Names of users, plugins and virtual hosts are free, but not within them.
        assert!(text.contains("no-such-key"), "{table}: {text}");
    }
}

#[test]
fn a_number_that_makes_no_sense_is_refused_by_its_key() {
    for (at, key, value) in settings().filter(|(_, _, value)| value.parse::<u64>().is_ok()) {
        for wrong in ["-1", "99999999999999999999"] {
            match read(&with_line(at, &format!("{key} = {wrong}"))) {
                Ok(_) => assert!(
                    wrong == "-1" && ["priority", "order"].contains(&key),
                    "{key}, instead of {value}"
                ),
                Err(error) => assert!(format!("{error:#}").contains(key), "{key} = {wrong}: {error:#}"),
            }
        }
    }
}

#[test]
fn a_word_that_is_none_of_those_there_are_is_refused_by_its_key() {
    let free = [
        "data-dir",
        "plugins-dir",
        "announced-product",
        "announced-version",
        "log",
        "tls-certificate",
        "tls-key",
        "tls-ca",
        "tls-crl",
        "anonymous-user",
        "name",
        "pattern",
        "interceptor",
        "exchange",
        "queues",
        "configure",
        "write",
        "read",
    ];
    for (at, key, value) in settings().filter(|(_, key, value)| value.starts_with('"') && !free.contains(key))
    {
        let text = refusal(&with_line(at, &format!("{key} = \"no such word\"")));
        let names = [key, "no such word", "password hash"].iter().any(|name| text.contains(name));
        assert!(names, "{key}, instead of {value}: {text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    /// Something cut out of the good file, and something put in its place.
    #[test]
    fn any_change_is_taken_or_refused(
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        put in prop_oneof![
            "[\\[\\]{}=\"#.,\\n 0-9a-z-]{0,12}",
            Just("\u{0}".to_owned()),
            Just("\"\u{e9}\u{1F600}\"".to_owned()),
        ],
    ) {
        let begin = at.index(FILE.len());
        let end = (begin + length).min(FILE.len());
        let changed = [&FILE[..begin], &put, &FILE[end..]].concat();
        if let Err(error) = read(&changed) {
            let text = format!("{error:#}");
            prop_assert!(!text.is_empty());
        }
    }
}
