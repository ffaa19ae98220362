//! The examples that are not in Rust: each is built by its own command, dropped into the folder of a
//! running broker, and used by a client. What they prove is that the contract is enough without an SDK.
//!
//! A language that is not on the machine is skipped with a line that says so; in CI that is a failure.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod examples;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

use examples::{Example, INTERCEPTED};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};
use leveret_testkit::{Broker, unique_name};
use session::*;

/// A field table of any values.
fn table(fields: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// An exchange of this type with arguments.
async fn declare(channel: &Channel, kind: &str, arguments: FieldTable) -> lapin::Result<ShortString> {
    let name = ShortString::from(unique_name(kind));
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let kind = ExchangeKind::Custom(kind.into());
    channel.exchange_declare(name.clone(), kind, options, arguments).await?;
    Ok(name)
}

/// A binding that is to be refused: the code and the text.
async fn bind_refused(
    connection: &Connection,
    exchange: &ShortString,
    key: &str,
    arguments: FieldTable,
) -> (u16, String) {
    // The refusal closes the channel.
    let channel = confirming(connection).await;
    let queue = own_queue(&channel).await;
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue, exchange.clone(), key.into(), options, arguments).await;
    refusal(&bound.unwrap_err())
}

/// Publishes with these headers and says whether it came back as unroutable.
async fn returned(channel: &Channel, exchange: &ShortString, headers: FieldTable, body: &[u8]) -> bool {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_headers(headers);
    let confirm = publish_with(channel, exchange, "k", body, options, properties).await.unwrap();
    assert!(confirm.is_ack(), "{confirm:?}");
    confirm.take_message().is_some()
}

/// Publishes past the example's interceptor with these headers; gives those that the message has then, or
/// nothing if it was rejected.
async fn intercepted(connection: &Connection, headers: &FieldTable) -> Option<FieldTable> {
    let channel = confirming(connection).await;
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let exchange = ShortString::from(INTERCEPTED);
    let declared =
        channel.exchange_declare(exchange.clone(), ExchangeKind::Fanout, options, FieldTable::default());
    declared.await.unwrap();
    let queue = own_queue(&channel).await;
    bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
    let properties = BasicProperties::default().with_headers(headers.clone());
    let confirm = publish_with(&channel, &exchange, "", b"x", Default::default(), properties).await.unwrap();
    let got = channel.basic_get(queue, BasicGetOptions { no_ack: true }).await.unwrap();
    assert_eq!(confirm.is_ack(), got.is_some(), "what is confirmed is there, what is rejected is not");
    got.map(|message| message.delivery.properties.headers().clone().unwrap_or_default())
}

/// Builds the example, starts a broker with its configuration, and runs `test` once both components
/// serve.
fn serving(example: &Example, test: impl AsyncFnOnce(&Connection)) {
    let Some(components) = example.build() else { return };
    let configuration = example.configuration();
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret"))
        .argument("--config")
        .argument(configuration.path().join("leveret.toml"))
        .start();
    for component in &components {
        examples::serve(&broker, component);
    }
    on_broker(&broker, async |broker| test(&connect(broker).await).await);
}

#[test]
fn python_routes_by_a_field_of_a_json_body() {
    serving(&examples::PYTHON, async |connection| {
        let channel = confirming(connection).await;
        let arguments = texts(&[("field", "customer.country")]);
        let exchange = declare(&channel, "x-json-field", arguments).await.unwrap();
        let (german, danish) = (own_queue(&channel).await, own_queue(&channel).await);
        bind(&channel, &german, &exchange, "DE", FieldTable::default()).await;
        bind(&channel, &danish, &exchange, "DK", FieldTable::default()).await;
        let body = br#"{"customer": {"country": "DE"}}"#;
        for unroutable in [br#"{"customer": {"country": "FR"}}"#.as_slice(), b"{}", b"no JSON", b"\xff", b""]
        {
            assert!(returned(&channel, &exchange, FieldTable::default(), unroutable).await);
        }
        assert!(!returned(&channel, &exchange, FieldTable::default(), body).await);
        assert_eq!(drain(&channel, &german).await, [body]);
        assert!(drain(&channel, &danish).await.is_empty());

        // The interceptor adds what is missing, and leaves what is there.
        for (sent, wanted) in [(None, "eu"), (Some("us"), "us")] {
            let sent: Vec<_> = sent.map(|region| ("region", region)).into_iter().collect();
            let got = intercepted(connection, &texts(&sent)).await;
            assert_eq!(got, Some(texts(&[("region", wanted)])));
        }

        let refused = declare(&channel, "x-json-field", texts(&[("field", "a..b")])).await;
        let (code, said) = refusal(&refused.unwrap_err());
        assert!(code == 406 && said.contains("a name between dots is empty in 'a..b'"), "{code} {said}");
    });
}

#[test]
fn javascript_splits_by_percentages_and_keeps_keys_together() {
    const KEYS: usize = 400;
    serving(&examples::JAVASCRIPT, async |connection| {
        let channel = confirming(connection).await;
        let exchange = declare(&channel, "x-split", FieldTable::default()).await.unwrap();
        let (stable, canary) = (own_queue(&channel).await, own_queue(&channel).await);
        let percent = |share| table(&[("percent", AMQPValue::LongInt(share))]);
        bind(&channel, &stable, &exchange, "", percent(75)).await;
        bind(&channel, &canary, &exchange, "", percent(25)).await;
        let mut shares = [Vec::new(), Vec::new()];
        for round in 0..2 {
            for key in 0..KEYS {
                let key = format!("user.{key}");
                let confirm = publish(&channel, &exchange, &key, key.as_bytes(), true).await.unwrap();
                assert!(confirm.is_ack() && confirm.take_message().is_none(), "{key} went nowhere");
            }
            let got = [drain(&channel, &stable).await, drain(&channel, &canary).await];
            assert!(round == 0 || got == shares, "a key changed sides");
            shares = got;
        }
        // Three standard deviations are 26.
        assert!(shares[1].len().abs_diff(KEYS / 4) < 27, "{} of {KEYS}", shares[1].len());

        let masked =
            intercepted(connection, &texts(&[("card", "4000123412341234"), ("other", "4000")])).await;
        assert_eq!(masked, Some(texts(&[("card", "************1234"), ("other", "4000")])));

        let (code, said) = bind_refused(connection, &exchange, "", percent(1)).await;
        assert!(code == 406 && said.contains("the bindings would add up to 101 percent"), "{code} {said}");
    });
}

#[test]
fn go_routes_by_distance() {
    serving(&examples::GO, async |connection| {
        let place = |latitude, longitude| {
            [("latitude", AMQPValue::Double(latitude)), ("longitude", AMQPValue::Double(longitude))]
        };
        let around = |latitude, longitude, km| {
            let mut fields = place(latitude, longitude).to_vec();
            fields.push(("radius-km", AMQPValue::Double(km)));
            table(&fields)
        };
        let channel = confirming(connection).await;
        let exchange = declare(&channel, "x-geofence", FieldTable::default()).await.unwrap();
        let (berlin, germany) = (own_queue(&channel).await, own_queue(&channel).await);
        bind(&channel, &berlin, &exchange, "", around(52.52, 13.405, 25.0)).await;
        bind(&channel, &germany, &exchange, "", around(51.16, 10.45, 450.0)).await;
        // Potsdam is 27 km from the middle of Berlin, Teltow 15, Lyon 700 from the middle of Germany.
        assert!(!returned(&channel, &exchange, table(&place(52.391, 13.065)), b"Potsdam").await);
        assert!(!returned(&channel, &exchange, table(&place(52.402, 13.271)), b"Teltow").await);
        assert!(returned(&channel, &exchange, table(&place(45.76, 4.83)), b"Lyon").await);
        assert!(returned(&channel, &exchange, FieldTable::default(), b"nowhere").await);
        assert_eq!(drain(&channel, &berlin).await, [b"Teltow"]);
        assert_eq!(drain(&channel, &germany).await, [b"Potsdam".to_vec(), b"Teltow".to_vec()]);

        let ours = texts(&[("traceparent", "00-1-2-01")]);
        assert_eq!(
            intercepted(connection, &ours).await.as_ref(),
            Some(&ours),
            "it belongs to a trace already"
        );
        let mut traces = Vec::new();
        for _ in 0..2 {
            let got = intercepted(connection, &FieldTable::default()).await.unwrap();
            let Some(AMQPValue::LongString(trace)) = got.inner().get("traceparent") else {
                panic!("{got:?}")
            };
            let lengths: Vec<usize> = trace.to_string().split('-').map(str::len).collect();
            assert_eq!(lengths, [2, 32, 16, 2], "{trace}");
            traces.push(trace.clone());
        }
        assert_ne!(traces[0], traces[1]);

        let (code, said) = bind_refused(connection, &exchange, "", around(95.0, 0.0, 1.0)).await;
        assert!(code == 406 && said.contains("95 is not between -90 and 90"), "{code} {said}");
    });
}

#[test]
fn c_routes_by_ranges_of_a_number() {
    serving(&examples::C, async |connection| {
        let number = |name, value| table(&[(name, AMQPValue::LongLongInt(value))]);
        let channel = confirming(connection).await;
        let exchange = declare(&channel, "x-number-range", texts(&[("header", "amount")])).await.unwrap();
        let (small, large) = (own_queue(&channel).await, own_queue(&channel).await);
        bind(&channel, &small, &exchange, "", number("below", 1000)).await;
        bind(&channel, &large, &exchange, "", number("from", 1000)).await;
        for (amount, body) in [(-5, b"-5".as_slice()), (999, b"999"), (1000, b"1000")] {
            assert!(!returned(&channel, &exchange, number("amount", amount), body).await);
        }
        assert!(returned(&channel, &exchange, texts(&[("amount", "many")]), b"no number").await);
        assert!(returned(&channel, &exchange, FieldTable::default(), b"none").await);
        assert_eq!(drain(&channel, &small).await, [b"-5".as_slice(), b"999"]);
        assert_eq!(drain(&channel, &large).await, [b"1000"]);

        let amount = number("amount", 1);
        assert_eq!(intercepted(connection, &amount).await, Some(amount));
        assert_eq!(intercepted(connection, &texts(&[("other", "1")])).await, None, "it lacks the header");

        let turned = table(&[("from", AMQPValue::LongInt(7)), ("below", AMQPValue::LongInt(7))]);
        let (code, said) = bind_refused(connection, &exchange, "", turned).await;
        assert!(code == 406 && said.contains("it is not above 'from'"), "{code} {said}");
    });
}
