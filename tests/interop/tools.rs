//! The tools of rabbitmq-c, as Debian packages them.

use crate::outage::Outage;
use leveret_testkit::{Broker, ScratchDirectory, languages, process, unique_name};
use std::process::Command;
use std::time::Duration;

/// For one call of a tool.
const CALL_MAX: Duration = Duration::from_secs(90);

/// Runs a shell line with `$URL` and `$QUEUE`, in a folder of its own.
fn shell(url: &str, queue: &str, line: &str) -> process::Finished {
    let folder = ScratchDirectory::new("tools");
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("URL", url).env("QUEUE", queue).current_dir(folder.path());
    process::run(&mut command, CALL_MAX).expect("a shell")
}

/// The same; it must end well. Gives what it printed.
fn say(url: &str, queue: &str, line: &str) -> String {
    let finished = shell(url, queue, line);
    assert!(finished.status.success(), "{line}: {}", finished.report());
    finished.stdout
}

fn with_tools(test: impl FnOnce(&Outage, &dyn Fn(&str) -> String)) {
    if !languages::is_there("amqp-publish") {
        return;
    }
    let outage = Outage::new(Broker::builder(env!("CARGO_BIN_EXE_leveret")));
    let (url, queue) = (outage.amqp_url(), unique_name("tools"));
    test(&outage, &|line| say(&url, &queue, line));
}

#[test]
fn lines_go_through_in_order() {
    with_tools(|_, say| {
        assert!(say("amqp-declare-queue --url=$URL -d -q $QUEUE").starts_with("tools-"));
        say("seq 1 2000 | amqp-publish --url=$URL -r $QUEUE -p -l -C text/plain -H 'kind: line'");
        assert_eq!(say("amqp-get --url=$URL -q $QUEUE"), "1\n");
        let came = say("amqp-consume --url=$URL -q $QUEUE -p 100 -c 1999 cat");
        let expected: String = (2..=2000).map(|number| format!("{number}\n")).collect();
        assert!(came == expected, "another order, or not all: {} bytes", came.len());
        assert_eq!(say("amqp-delete-queue --url=$URL -q $QUEUE"), "0\n");
    });
}

#[test]
fn what_a_command_refuses_comes_again() {
    with_tools(|_, say| {
        say("amqp-declare-queue --url=$URL -d -q $QUEUE");
        say("amqp-publish --url=$URL -r $QUEUE -p -b job");
        // The first consumer's command fails: it does not acknowledge, and ends.
        say("! amqp-consume --url=$URL -q $QUEUE -c 1 sh -c 'cat; exit 3' 2>/dev/null");
        assert_eq!(say("amqp-consume --url=$URL -q $QUEUE -c 1 cat"), "job");
        say("amqp-delete-queue --url=$URL -q $QUEUE");
    });
}

#[test]
fn an_exclusive_queue_is_bound_and_goes_with_its_connection() {
    with_tools(|_, say| {
        let came =
            say("amqp-consume --url=$URL -q $QUEUE -x -e amq.topic -r 'a.#' -c 2 cat >out & consumer=$!; \
             until amqp-publish --url=$URL -e amq.topic -r a.b -b x && [ -s out ]; do :; done; \
             amqp-publish --url=$URL -e amq.topic -r a.b -b x; wait $consumer; cat out");
        assert!(came.starts_with("xx"), "{came}");
        say("! amqp-get --url=$URL -q $QUEUE 2>/dev/null");
    });
}

#[test]
fn a_restart_keeps_what_is_persistent() {
    with_tools(|outage, say| {
        say("amqp-declare-queue --url=$URL -d -q $QUEUE");
        say("seq 1 1000 | amqp-publish --url=$URL -r $QUEUE -p -l");
        assert_eq!(say("amqp-get --url=$URL -q $QUEUE"), "1\n");
        outage.bring("restart");
        assert_eq!(say("amqp-get --url=$URL -q $QUEUE"), "2\n");
        assert_eq!(say("amqp-delete-queue --url=$URL -q $QUEUE"), "998\n");
    });
}

#[test]
fn a_refusal_is_shown() {
    with_tools(|outage, _| {
        let finished = shell(&outage.amqp_url(), "no-such-queue", "amqp-get --url=$URL -q $QUEUE");
        assert!(!finished.status.success());
        let wanted = "NOT_FOUND - no queue 'no-such-queue' in vhost '/'";
        assert!(finished.stderr.contains(wanted), "{}", finished.report());
    });
}
