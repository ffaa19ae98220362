//! One test for each suite of each client program.
//!
//! A program prints `ok NAME` for each case that passed. The number of those lines is part of the
//! expectation: a program that does nothing fails.

use leveret_testkit::languages::Language;
use leveret_testkit::{Broker, process, workspace};
use std::time::Duration;

/// For a whole suite of a client program.
const SUITE_MAX: Duration = Duration::from_secs(180);

/// Runs a suite of a language's client program; it must end well with `cases` passed.
fn run(language: Language, suite: &str, cases: usize) {
    let Some(mut client) = language.client() else {
        return;
    };
    let broker = Broker::under_test(env!("CARGO_BIN_EXE_leveret"));
    client
        .arg(suite)
        .env("AMQP_URL", broker.amqp_url())
        .env("ROUTING_CASES", workspace().join("tests/interop/cases"));
    let finished = process::run(&mut client, SUITE_MAX).expect("the client was set up");
    assert!(finished.status.success(), "{}", finished.report());
    let passed = finished.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, cases, "{}", finished.report());
}

mod python {
    use super::{Language::Python, run};

    #[test]
    fn connections() {
        run(Python, "connections", 11);
    }

    #[test]
    fn queues() {
        run(Python, "queues", 18);
    }

    #[test]
    fn messages() {
        run(Python, "messages", 29);
    }

    #[test]
    fn exchanges() {
        run(Python, "exchanges", 23);
    }

    #[test]
    fn errors() {
        run(Python, "errors", 21);
    }

    #[test]
    fn dead_letters() {
        run(Python, "dead_letters", 5);
    }
}

mod node {
    use super::{Language::Node, run};

    #[test]
    fn messages() {
        run(Node, "messages", 11);
    }

    #[test]
    fn exchanges() {
        run(Node, "exchanges", 6);
    }

    #[test]
    fn errors() {
        run(Node, "errors", 7);
    }
}

mod go {
    use super::{Language::Go, run};

    #[test]
    fn messages() {
        run(Go, "messages", 9);
    }

    #[test]
    fn exchanges() {
        run(Go, "exchanges", 4);
    }

    #[test]
    fn errors() {
        run(Go, "errors", 5);
    }
}

mod java {
    use super::{Language::Java, run};

    #[test]
    fn messages() {
        run(Java, "messages", 9);
    }

    #[test]
    fn exchanges() {
        run(Java, "exchanges", 5);
    }

    #[test]
    fn errors() {
        run(Java, "errors", 5);
    }
}
