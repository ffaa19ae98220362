//! Who is let in.

use crate::{
    broker_with,
    client::{Client, log_in, open, plain},
};
use leveret_testkit::{
    Broker, EVENT_WAIT_MAX,
    wire::{Arguments, PROTOCOL_HEADER, RawConnection, id},
};

/// Made by RabbitMQ 4.3.6 of the password `p`.
const HASH: &str = "wuB4hQeerJGkG3bNwV+1ZpH/94+MHmTBrR3ebOd0IBAYB5T9";

/// What connection.start offers.
fn mechanisms(broker: &Broker) -> String {
    let mut connection = RawConnection::connect(broker.address());
    connection.send(&PROTOCOL_HEADER);
    let mut start = connection.expect_method(0, id::CONNECTION_START);
    let (_version, _properties) = (start.short(), start.long_string());
    String::from_utf8(start.long_string()).unwrap()
}

/// The text with which a log-in is refused.
fn refused(broker: &Broker, mechanism: &str, response: &[u8]) -> String {
    log_in(broker.address(), mechanism, response).expect_connection_close(403).text
}

fn is_let_in(broker: &Broker, mechanism: &str, response: &[u8]) {
    let mut connection = log_in(broker.address(), mechanism, response);
    open(&mut connection, "/");
    connection.expect_method(0, id::CONNECTION_OPEN_OK);
}

#[test]
fn declared_users_log_in_and_guest_is_not_made() {
    let (broker, _configuration) = broker_with(&format!(
        "[users.u]\npassword-hash = \"{HASH}\"\n[users.u.permissions.\"/\"]\n\
         [users.v]\npassword = \"long and secret\"\n[users.v.permissions.\"/\"]\n[users.w]\npassword = \"w\"\n"
    ));
    is_let_in(&broker, "PLAIN", &plain("u", "p"));
    is_let_in(&broker, "PLAIN", &plain("v", "long and secret"));
    let table = Arguments::new().table(&[("LOGIN", "v"), ("PASSWORD", "long and secret")]).into_bytes();
    is_let_in(&broker, "AMQPLAIN", &table[4..]);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
                logfile.";
    for (user, password) in [("guest", "guest"), ("u", "P"), ("v", "p"), ("nobody", "p"), ("u", ""), ("", "")]
    {
        assert_eq!(refused(&broker, "PLAIN", &plain(user, password)), text, "{user}");
    }
    broker.wait_for_log("log-in of 'nobody' from 127.0.0.1 refused", EVENT_WAIT_MAX);
    let mut connection = log_in(broker.address(), "PLAIN", &plain("w", "w"));
    open(&mut connection, "/");
    let closed = connection.expect_connection_close(530);
    assert_eq!(closed.text, "NOT_ALLOWED - access to vhost '/' refused for user 'w'");
    let mut connection = log_in(broker.address(), "PLAIN", &plain("w", "w"));
    open(&mut connection, "nope");
    assert_eq!(connection.expect_connection_close(530).text, "NOT_ALLOWED - vhost nope not found");
}

#[test]
fn a_client_that_cannot_take_a_close_is_cut_off() {
    let (broker, _configuration) = broker_with("");
    let mut connection = RawConnection::connect(broker.address());
    connection.log_in("guest", "wrong");
    assert!(connection.read_frame().is_none());
}

#[test]
fn who_does_not_say_who_it_is_is_let_in_where_that_is_configured() {
    let (broker, _configuration) = broker_with("");
    assert_eq!(mechanisms(&broker), "PLAIN AMQPLAIN");
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism ANONYMOUS. For details see the \
                broker logfile.";
    assert_eq!(refused(&broker, "ANONYMOUS", b""), text);
    assert!(refused(&broker, "EXTERNAL", b"").contains("EXTERNAL"));
    let (broker, _configuration) =
        broker_with("anonymous-user = \"u\"\n[users.u]\n[users.u.permissions.\"/\"]\nconfigure = \"^a$\"\n");
    assert_eq!(mechanisms(&broker), "PLAIN AMQPLAIN ANONYMOUS");
    is_let_in(&broker, "ANONYMOUS", b"whoever");
}

#[test]
fn guest_is_made_once_and_may_enter_virtual_hosts_that_come_later() {
    let (broker, _configuration) = broker_with("");
    let mut guest = Client::open(broker.address(), "guest", "guest");
    guest.connection.expect_alive();
    let stopped = broker.kill_for_a_while();
    std::fs::write(_configuration.path().join("leveret.toml"), "vhosts = [\"/\", \"later\"]").unwrap();
    let broker = stopped.start();
    for vhost in ["/", "later"] {
        let mut connection = log_in(broker.address(), "PLAIN", &plain("guest", "guest"));
        open(&mut connection, vhost);
        connection.expect_method(0, id::CONNECTION_OPEN_OK);
    }
}

#[test]
fn many_logins_of_one_user_are_one_check_of_its_password() {
    let (broker, _configuration) = broker_with("");
    // After a start nothing is remembered.
    let broker = broker.kill_for_a_while().start();
    let connections: Vec<_> =
        (0..500).map(|_| log_in(broker.address(), "PLAIN", &plain("guest", "guest"))).collect();
    for mut connection in connections {
        open(&mut connection, "/");
        connection.expect_method(0, id::CONNECTION_OPEN_OK);
    }
}
