//! What a neighbour notices of a plugin that loops, and of one that is slow: for messages, to bind, or in timers.
//!
//! ```text
//! cargo bench -p leveret-server --bench neighbour
//! cargo bench -p leveret-server --bench neighbour -- --quiet-seconds 5 --attack-seconds 20
//! ```
//! A broker with two workers. In one virtual host, on both workers, 20,000 messages a second are published
//! and consumed; first quietly, then while in another virtual host a plugin's file is deployed and messages
//! are published to it, on both workers too: 1,000 a second to a type that always loops; in the second case
//! 100 a second to one that takes nine milliseconds for each, as it may. In the third case clients of it bind, on
//! both workers and each as soon as the one before was answered, to a type that takes nine milliseconds to bind; in
//! the fourth it has sixteen timers that are due all the time, and takes nine milliseconds for each. Latency is
//! from the moment when a message is written to the moment when it was read, on one clock.
//!
//! *Disturbance* is the time in which a neighbour's messages are late: for each connection the stretches in
//! which latency is above twice the quiet 99th percentile, each as long as its latest message was late. What
//! else the machine does disturbs too: the same is printed for the same length of quiet.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a measurement that fails panics, and prints")]

mod load;

use leveret_testkit::{
    Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines,
    wire::{Arguments, RawConnection, id},
};
use load::{Attacker, Neighbour, Sample};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// What the neighbour publishes in a second.
const NEIGHBOUR_RATE: u64 = 20_000;
/// The CPU time of a message in the second case.
const SLOW_MESSAGE: Duration = Duration::from_millis(9);
/// For how long nothing is measured at first.
const WARM_UP: Duration = Duration::from_secs(2);
/// How often it is asked what became of the plugin.
const ASKED_EVERY: Duration = Duration::from_millis(5);

/// A plugin, and what is done to it.
struct Case {
    name: &'static str,
    guest: &'static str,
    kind: &'static str,
    attack: Attack,
}

/// What is done to a plugin.
#[derive(Clone, Copy)]
enum Attack {
    /// Messages with that key, so many a second.
    Publish(&'static str, u64),
    /// Each connection binds all the time.
    Bind,
    /// It has timers that are due all the time.
    Timers,
}

/// Takes as long for a message as the others for a call.
const TAKES_ITS_TIME: Case = Case {
    name: "a type that takes 9 ms a message, 100 a second",
    guest: "takes_its_time",
    kind: "x-takes-its-time",
    attack: Attack::Publish("slow", 100),
};

const CASES: [Case; 4] = [
    Case {
        name: "a type that always loops, 1000 messages a second",
        guest: "loops",
        kind: "x-loops",
        attack: Attack::Publish("loop", 1_000),
    },
    TAKES_ITS_TIME,
    Case {
        name: "a type that takes 9 ms to bind",
        guest: "slow_beside",
        kind: "x-slow-beside",
        attack: Attack::Bind,
    },
    Case {
        name: "a type with timers that take 9 ms",
        guest: "slow_beside",
        kind: "x-slow-beside",
        attack: Attack::Timers,
    },
];

fn main() {
    let (mut quiet, mut attack) = (Duration::from_secs(10), Duration::from_secs(60));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--quiet-seconds" => &mut quiet,
            "--attack-seconds" => &mut attack,
            // What cargo says to every benchmark.
            _ => continue,
        };
        let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
        *place = Duration::from_secs(seconds.expect("a number of seconds"));
    }
    let component = guests::component("loops");
    assert!(component.is_file(), "the guests are built before anything is measured");
    for case in &CASES {
        measure(case, quiet, attack);
    }
}

/// Runs one case and prints what it came to.
fn measure(case: &Case, quiet: Duration, attack: Duration) {
    let configuration = ScratchDirectory::new("neighbour");
    let file = configuration.path().join("leveret.toml");
    let limit = "[plugins.takes_its_time]\ncpu-per-call-ms = 50\n\
                 [plugins.slow_beside]\ncpu-per-call-ms = 50\ngrants = [\"timer\", \"metric\"]\n";
    fs::write(&file, format!("vhosts = [\"/\", \"neighbour\"]\n{limit}")).expect("a configuration");
    let rounds = rounds(case, &file);
    let broker = start(&file);
    let epoch = Instant::now();
    let neighbour = Neighbour::start(broker.address(), NEIGHBOUR_RATE, epoch);
    std::thread::sleep(WARM_UP);
    let began = epoch.elapsed();
    std::thread::sleep(quiet);
    let deployed = epoch.elapsed();
    deploy(case, &broker);
    let serves = epoch.elapsed();
    let attacker = Attacker::start(broker.address(), case.kind, case.attack, rounds);
    let attacked = epoch.elapsed();
    // Other calls than those for messages are never made on a worker.
    let settled = match case.attack {
        Attack::Publish(..) => until_settled(case, &broker, epoch),
        Attack::Bind | Attack::Timers => attacked,
    };
    std::thread::sleep(attack.saturating_sub(epoch.elapsed() - attacked));
    let ended = epoch.elapsed();
    let (confirmed, refused) = attacker.stop();
    let samples = neighbour.stop();
    let told = told(case, &broker);
    println!("{}, for {} s", case.name, attack.as_secs());
    let did = match case.attack {
        Attack::Publish(..) => format!("messages: {confirmed} confirmed, {refused} refused"),
        Attack::Bind => format!("bindings: {confirmed} made"),
        Attack::Timers => {
            let fired = told["metrics"]["fired"].as_f64().unwrap_or_default();
            assert!(fired > 0.0, "no timer fired: {told}");
            format!("timers: {fired} fired")
        }
    };
    println!("  attacker's {did}; the plugin: {}", told["state"]);
    let calm = print("quiet", &samples, began, deployed, None);
    print("while the file is compiled", &samples, deployed, serves, Some(calm));
    let first = Duration::from_secs(1);
    print("first second of the attack", &samples, attacked, attacked + first, Some(calm));
    print("from then on", &samples, attacked + first, ended, Some(calm));
    let before = settled - attacked;
    println!(
        "  in the slow lane or quarantined after {:.1} ms; disturbance until then {:.1} ms, in the first second {:.1} ms \
         (in as long of quiet: {:.1} ms and {:.1} ms)",
        milliseconds(before),
        disturbance(&samples, attacked, settled, calm),
        disturbance(&samples, attacked, attacked + first, calm),
        disturbance(&samples, began, began + before, calm),
        disturbance(&samples, began, began + first, calm),
    );
}

/// A broker with that configuration.
fn start(file: &Path) -> Broker {
    Broker::builder(env!("CARGO_BIN_EXE_leveret"))
        .argument("--workers")
        .argument("2")
        .argument("--config")
        .argument(file)
        .start()
}

/// How often a slow guest is to go round; measured by the counts of a plugin in a broker of its own, so
/// that the one in which it counts knows nothing of the plugin.
fn rounds(case: &Case, file: &Path) -> Option<i64> {
    const TRIED: i64 = 10_000_000;
    if case.guest == "loops" {
        return None;
    }
    let (broker, case) = (start(file), &TAKES_ITS_TIME);
    deploy(case, &broker);
    let attacker = Attacker::start(broker.address(), case.kind, case.attack, Some(TRIED));
    std::thread::sleep(Duration::from_secs(1));
    attacker.stop();
    let told = told(case, &broker);
    let ns = told["cpu_per_message_ns"].as_u64().expect("it was measured").max(1);
    let wanted = u64::try_from(SLOW_MESSAGE.as_nanos()).unwrap_or(u64::MAX);
    Some(i64::try_from(TRIED.unsigned_abs().saturating_mul(wanted) / ns).unwrap_or(i64::MAX))
}

fn file_of(case: &Case) -> String {
    format!("{}.wasm", case.guest)
}

/// Puts the plugin's file where the broker looks, and waits until it serves. Each time it is another file, so
/// that it is compiled.
fn deploy(case: &Case, broker: &Broker) {
    let mut component = fs::read(guests::component(case.guest)).expect("the component");
    let stamp = u8::try_from(broker.log_length() % 250).unwrap_or_default();
    // A custom section with one byte: no two of one broker are the same.
    component.extend([0, 3, 1, b'n', stamp]);
    let aside = broker.aside().join(file_of(case));
    fs::write(&aside, component).expect("a file aside");
    let lines = broker.log_length();
    fs::rename(aside, broker.plugins_directory().join(file_of(case))).expect("the plugins folder");
    broker.wait_for_log_after(lines, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
}

/// Waits until the plugin is in the slow lane or quarantined; says when that was seen.
fn until_settled(case: &Case, broker: &Broker, epoch: Instant) -> Duration {
    let began = Instant::now();
    while !["slow", "quarantined"].contains(&state(case, broker).as_str()) {
        assert!(began.elapsed() < EVENT_WAIT_MAX, "the plugin stays on the workers");
        std::thread::sleep(ASKED_EVERY);
    }
    epoch.elapsed()
}

fn state(case: &Case, broker: &Broker) -> String {
    told(case, broker)["state"].as_str().unwrap_or_default().to_owned()
}

fn told(case: &Case, broker: &Broker) -> serde_json::Value {
    let url = format!("http://{}/api/plugins/{}/vhosts/%2F", broker.http_address(), case.kind);
    let request = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let body = request.call().expect("the HTTP API").into_body().read_to_vec().expect("an answer");
    serde_json::from_slice(&body).expect("JSON")
}

/// Prints percentiles of what was published in a span of time; gives the 99th.
fn print(what: &str, samples: &[Vec<Sample>], from: Duration, to: Duration, quiet_p99: Option<f64>) -> f64 {
    let within = |sample: &&Sample| from <= sample.at && sample.at < to;
    let mut late: Vec<f64> =
        samples.iter().flatten().filter(within).map(|sample| milliseconds(sample.late)).collect();
    late.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let place = (late.len() as f64 * part) as usize;
        late.get(place.min(late.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    let ratio = quiet_p99.map(|quiet| format!(", p99 is {:.2} of quiet", p99 / quiet)).unwrap_or_default();
    println!(
        "  {what:27} {:8} messages in {:6.2} s: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {:.2} ms{ratio}",
        late.len(),
        (to - from).as_secs_f64(),
        at(1.0)
    );
    p99
}

/// How long messages were late, in milliseconds; see the head of this file.
fn disturbance(samples: &[Vec<Sample>], from: Duration, to: Duration, quiet_p99: f64) -> f64 {
    let mut sum = 0.0;
    for of_connection in samples {
        let mut stretch: f64 = 0.0;
        for sample in of_connection.iter().filter(|sample| from <= sample.at && sample.at < to) {
            let late = milliseconds(sample.late);
            if late > 2.0 * quiet_p99 {
                stretch = stretch.max(late);
            } else {
                sum += stretch;
                stretch = 0.0;
            }
        }
        sum += stretch;
    }
    sum
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A connection to a virtual host with channel 1 open.
fn open(address: std::net::SocketAddr, vhost: &str) -> RawConnection {
    let mut connection = RawConnection::open_in(address, vhost);
    connection.open_channel(1);
    connection
}

/// Declares an exchange, with the argument of the slow guest if there is one.
fn declare_exchange(connection: &mut RawConnection, name: &str, kind: &str, rounds: Option<i64>) {
    let arguments = Arguments::new().short(0).short_string(name).short_string(kind).octet(0);
    let arguments = match rounds {
        None => arguments.empty_table(),
        Some(rounds) => {
            // One field: its name, `l` for a long integer, the integer.
            let mut table = vec![8];
            table.extend(b"x-rounds");
            table.push(b'l');
            table.extend(rounds.to_be_bytes());
            arguments.long_string(&table)
        }
    };
    connection.send_method(1, id::EXCHANGE_DECLARE, arguments);
    connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
}
