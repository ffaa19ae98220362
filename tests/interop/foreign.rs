//! One test for each suite of each client program.
//!
//! A program prints `ok NAME` for each case that passed. The number of those lines is part of the
//! expectation: a program that does nothing fails.

use crate::outage::Outage;
use leveret_testkit::broker::Builder;
use leveret_testkit::languages::Language;
use leveret_testkit::{Broker, process, workspace};
use std::process::Command;
use std::time::Duration;

/// For a whole suite of a client program.
const SUITE_MAX: Duration = Duration::from_secs(180);

/// Runs a suite of a language's client program; it must end well with `cases` passed.
fn run(language: Language, suite: &str, cases: usize) {
    let Some(mut client) = language.client() else { return };
    let broker = Broker::under_test(env!("CARGO_BIN_EXE_leveret"));
    client
        .arg(suite)
        .env("AMQP_URL", broker.amqp_url())
        .env("ROUTING_CASES", workspace().join("tests/interop/cases"));
    passes(&mut client, cases);
}

/// The same with a broker that the program may have fail. It is always one of our own.
fn run_with_outages(language: Language, suite: &str, cases: usize) {
    let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--memory-mib=16");
    run_with_outages_of(builder.argument("--memory-paging-percent=100"), language, suite, cases);
}

/// The same with a broker that is started so.
fn run_with_outages_of(builder: Builder, language: Language, suite: &str, cases: usize) {
    let Some(mut client) = language.client() else { return };
    let outage = Outage::new(builder);
    client.arg(suite).env("AMQP_URL", outage.amqp_url()).env("CONTROL", outage.control());
    passes(&mut client, cases);
}

/// The same with a broker of our own that says that it is RabbitMQ: RabbitMQ's clients of AMQP 1.0 go on with nothing
/// but a RabbitMQ of version 4.
fn run_as_rabbitmq(language: Language, suite: &str, cases: usize) {
    let Some(mut client) = language.client() else { return };
    let broker = as_rabbitmq().start();
    client.arg(suite).env("AMQP_URL", broker.amqp_url());
    passes(&mut client, cases);
}

fn as_rabbitmq() -> Builder {
    Broker::builder(env!("CARGO_BIN_EXE_leveret"))
        .argument("--announced-product=RabbitMQ")
        .argument("--announced-version=4.3.0")
}

/// Runs a client program; it must end well with `cases` passed.
fn passes(client: &mut Command, cases: usize) {
    let finished = process::run(client, SUITE_MAX).expect("the client was set up");
    assert!(finished.status.success(), "{}", finished.report());
    let passed = finished.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, cases, "{}", finished.report());
}

mod python {
    use super::{Language::Python, as_rabbitmq, run, run_as_rabbitmq, run_with_outages, run_with_outages_of};

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
        run(Python, "dead_letters", 6);
    }

    #[test]
    fn tls() {
        super::tls::run(Python, 3);
    }

    #[test]
    fn arguments() {
        run(Python, "arguments", 13);
    }

    #[test]
    fn transactions() {
        run(Python, "transactions", 6);
    }

    #[test]
    fn copies() {
        run(Python, "copies", 8);
    }

    #[test]
    fn replies() {
        run(Python, "replies", 9);
    }

    #[test]
    fn consumers() {
        run(Python, "consumers", 4);
    }

    #[test]
    fn confirms() {
        run_with_outages(Python, "confirms", 6);
    }

    #[test]
    fn robust() {
        run_with_outages(Python, "robust", 9);
    }

    #[test]
    fn jobs() {
        run_with_outages(Python, "jobs", 9);
    }

    #[test]
    fn amqp10() {
        run(Python, "amqp10", 20);
    }

    #[test]
    fn amqp10_rabbitmq() {
        run_as_rabbitmq(Python, "amqp10_rabbitmq", 10);
    }

    #[test]
    fn amqp10_recovery() {
        run_with_outages_of(as_rabbitmq(), Python, "amqp10_recovery", 2);
    }
}

mod node {
    use super::{Language::Node, run, run_with_outages};

    #[test]
    fn messages() {
        run(Node, "messages", 12);
    }

    #[test]
    fn exchanges() {
        run(Node, "exchanges", 6);
    }

    #[test]
    fn errors() {
        run(Node, "errors", 7);
    }

    #[test]
    fn robust() {
        run_with_outages(Node, "robust", 9);
    }

    #[test]
    fn amqp10() {
        run(Node, "amqp10", 11);
    }

    #[test]
    fn amqp10_robust() {
        run_with_outages(Node, "amqp10_robust", 2);
    }

    #[test]
    fn tls() {
        super::tls::run(Node, 3);
    }
}

mod go {
    use super::{Language::Go, run, run_with_outages};

    #[test]
    fn messages() {
        run(Go, "messages", 10);
    }

    #[test]
    fn exchanges() {
        run(Go, "exchanges", 4);
    }

    #[test]
    fn errors() {
        run(Go, "errors", 5);
    }

    #[test]
    fn recovery() {
        run_with_outages(Go, "recovery", 6);
    }

    #[test]
    fn amqp10() {
        run(Go, "amqp10", 13);
    }

    #[test]
    fn tls() {
        super::tls::run(Go, 3);
    }
}

mod java {
    use super::{Language::Java, run, run_as_rabbitmq, run_with_outages};

    #[test]
    fn messages() {
        run(Java, "messages", 10);
    }

    #[test]
    fn exchanges() {
        run(Java, "exchanges", 5);
    }

    #[test]
    fn errors() {
        run(Java, "errors", 5);
    }

    #[test]
    fn recovery() {
        run_with_outages(Java, "recovery", 5);
    }

    #[test]
    fn amqp10() {
        run_as_rabbitmq(Java, "amqp10", 5);
    }

    /// Jakarta Messaging: Apache Qpid JMS.
    #[test]
    fn jms() {
        run(Java, "jms", 10);
    }

    /// Its failover.
    #[test]
    fn jms_failover() {
        run_with_outages(Java, "jms_failover", 2);
    }
}

/// fe2o3-amqp: AMQP 1.0 alone.
mod fe2o3 {
    use super::{Language::Fe2o3, run, run_with_outages};

    #[test]
    fn messages() {
        run(Fe2o3, "messages", 13);
    }

    #[test]
    fn outcomes() {
        run(Fe2o3, "outcomes", 8);
    }

    #[test]
    fn transactions() {
        run(Fe2o3, "transactions", 8);
    }

    #[test]
    fn recovery() {
        run_with_outages(Fe2o3, "recovery", 4);
    }
}

mod tls {
    use super::passes;
    use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, languages::Language};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use std::{fs, path::PathBuf};

    /// Writes an authority, and what it signed for `broker` and `alice`.
    fn write_certificates(folder: &ScratchDirectory) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |file: &str, content: String| fs::write(folder.path().join(file), content).unwrap();
        write("ca.pem", authority.pem());
        for name in ["broker", "alice"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.use_authority_key_identifier_extension = true;
            write(&format!("{name}.pem"), params.signed_by(&key, &authority).unwrap().pem());
            write(&format!("{name}-key.pem"), key.serialize_pem());
        }
    }

    /// The suite `tls` of a language's client program; the broker has a user `alice` without a password.
    pub(super) fn run(language: Language, cases: usize) {
        let Some(mut client) = language.client() else { return };
        let folder = ScratchDirectory::new("tls");
        write_certificates(&folder);
        let file = |name: &str| -> PathBuf { folder.path().join(name) };
        let configuration = "[users.alice]\n[users.alice.permissions.\"/\"]\n\
                             configure = \".*\"\nwrite = \".*\"\nread = \".*\"\n\
                             [users.guest]\npassword = \"guest\"\n[users.guest.permissions.\"/\"]\n\
                             configure = \".*\"\nwrite = \".*\"\nread = \".*\"\n";
        fs::write(file("leveret.toml"), configuration).unwrap();
        let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret"))
            .argument("--config")
            .argument(file("leveret.toml"))
            .argument("--tls-listen=127.0.0.1:0")
            .argument("--tls-clients=optional")
            .argument("--tls-certificate")
            .argument(file("broker.pem"))
            .argument("--tls-key")
            .argument(file("broker-key.pem"))
            .argument("--tls-ca")
            .argument(file("ca.pem"))
            .start();
        let line = broker.wait_for_log("TLS on ", EVENT_WAIT_MAX);
        let port = line.rsplit(':').next().unwrap().trim().to_owned();
        client
            .arg("tls")
            .env("AMQP_URL", broker.amqp_url())
            .env("TLS_PORT", port)
            .env("TLS_CA", file("ca.pem"))
            .env("TLS_CERTIFICATE", file("alice.pem"))
            .env("TLS_KEY", file("alice-key.pem"));
        passes(&mut client, cases);
    }
}
