//! Jakarta Messaging 3.1, section 3.8.1.

use super::{Fake, bytes, hold, outcome, text};
use crate::{Dialect, Field, Header, Property, Truth, Value};

fn jms(rows: &[(&str, char)]) {
    hold(Dialect::JmsSelector, rows);
}

#[test]
fn literals_are_those_of_java() {
    jms(&[
        ("weight = 5L AND weight = 0x5 AND weight = 005 AND weight <> 0x10l", 'T'),
        ("017 = 15 AND 0 = 00", 'T'),
        ("price = 10.5 AND price = 10.5d AND price = 1.05E1F AND price = 105e-1", 'T'),
        ("7. = 7 AND .5 < 1", 'T'),
        ("name LIKE 'O''Hara%'", 'T'),
        ("paid = TRUE AND gift = false", 'T'),
    ]);
}

#[test]
fn identifiers_are_those_of_java_and_may_have_dots() {
    jms(&[
        ("$_é = 1 AND my.key = 1", 'T'),
        ("Country IS NULL", 'T'),
        // There are no sections: this is a name like any other.
        ("p.subject", 'T'),
        ("date IS NULL AND left IS NULL AND utc IS NULL", 'T'),
    ]);
}

#[test]
fn examples_of_the_specification() {
    jms(&[
        ("weight BETWEEN 3 AND 19", 'T'),
        ("weight NOT BETWEEN 3 AND 19", 'F'),
        ("country IN ('UK', 'US', 'France')", 'T'),
        ("country NOT IN ('UK', 'US', 'France')", 'F'),
        ("absent IN ('UK')", '?'),
        ("name LIKE '%100\\%\\_%' ESCAPE '\\'", 'T'),
        ("p.name LIKE '12%3'", '?'),
        ("absent IS NULL", 'T'),
        ("JMSType = 'created' AND weight > 2500", 'F'),
    ]);
}

#[test]
fn quotients_of_exact_numbers_are_exact() {
    jms(&[
        ("weight / 2 = 2", 'T'),
        ("-weight / 2 = -2", 'T'),
        ("weight / 2.0 = 2.5", 'T'),
        ("weight / 0 = 1", '?'),
    ]);
}

#[test]
fn comparing_what_is_not_alike_is_false() {
    jms(&[
        ("country = 5", 'F'),
        ("country <> 5", 'F'),
        ("country <> 'US'", 'T'),
        ("weight <> 5.5", 'T'),
        ("paid <> 'TRUE'", 'F'),
        ("paid <> gift", 'T'),
        ("list <> list", 'F'),
    ]);
}

#[test]
fn headers_have_names_of_their_own() {
    jms(&[
        ("JMSPriority = 7 AND JMSType = 'created' AND JMSDeliveryMode = 'NON_PERSISTENT'", 'T'),
        ("JMSTimestamp = 1795976940000 AND JMSXGroupSeq = 3 AND JMSXUserID = 'guest'", 'T'),
        ("JMSXDeliveryCount = 1", 'T'),
        ("JMSMessageID = 'ID:AMQP_NO_PREFIX:order-17'", 'T'),
        ("JMSCorrelationID = 'ID:AMQP_UUID:abababab-abab-abab-abab-abababababab'", 'T'),
        ("JMSXGroupID IS NULL AND JMSExpiration IS NULL AND JMS_vendor IS NULL", 'T'),
    ]);
}

#[test]
fn identifiers_of_messages_are_texts() {
    for (id, expected) in [
        (text("ID:a:1"), "ID:a:1"),
        (text("a"), "ID:AMQP_NO_PREFIX:a"),
        (Value::Integer(42), "ID:AMQP_ULONG:42"),
        (bytes(&[0x0a, 0xff]), "ID:AMQP_BINARY:0AFF"),
    ] {
        let message = Fake::default().property(Property::MessageId, id);
        let expression = alloc::format!("JMSMessageID = '{expected}'");
        assert_eq!(outcome(&expression, Dialect::JmsSelector, &message), Truth::True, "{expression}");
    }
    let message = Fake::default().property(Property::CorrelationId, text("as it is"));
    assert_eq!(outcome("JMSCorrelationID = 'as it is'", Dialect::JmsSelector, &message), Truth::True);
    let absent = "JMSMessageID IS NULL AND JMSCorrelationID IS NULL";
    assert_eq!(outcome(absent, Dialect::JmsSelector, &Fake::default()), Truth::True);
}

#[test]
fn deliveries_are_counted_from_one_and_durable_is_persistent() {
    let message = Fake::default()
        .with(Field::Header(Header::Durable), Value::Boolean(true))
        .with(Field::Header(Header::DeliveryCount), Value::Integer(2));
    let expression = "JMSXDeliveryCount = 3 AND JMSDeliveryMode = 'PERSISTENT'";
    assert_eq!(outcome(expression, Dialect::JmsSelector, &message), Truth::True);
}
