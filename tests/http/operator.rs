//! What an operator does with the plugins of a running broker: sees what they did, has a message's way
//! explained, switches them off and on, drops what they hold.

use super::{
    asking::{BINARY, delete, get, json_of, post, put},
    command_line::leveret,
    session::{bind, confirming, connect, on_broker, own_queue, publish},
};
use lapin::{
    Channel, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{FieldTable, ShortString},
};
use leveret_testkit::{Broker, ScratchDirectory, guests};
use serde_json::{Value, json};

const PREFIX: &str = "example_02_exchange_type";

async fn declare(channel: &Channel, name: &str, type_name: &str) -> ShortString {
    let (kind, options) = (ExchangeKind::Custom(type_name.into()), ExchangeDeclareOptions::default());
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    name.into()
}

fn explain(broker: &Broker, message: &Value) -> Value {
    let answer = post(broker, "plugins/explain", "application/json", message.to_string().as_bytes());
    assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(answer.body()));
    json_of(&answer)
}

#[test]
fn the_way_of_a_message_is_explained_and_what_the_plugin_did_is_seen() {
    let broker = Broker::builder(BINARY).plugin(guests::component(PREFIX)).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = declare(&channel, "orders", "x-longest-prefix").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "order.", FieldTable::default()).await;

        let message =
            json!({"vhost": "/", "exchange": "orders", "routing_key": "order.1", "headers": {"a": 1}});
        let told = explain(broker, &message);
        assert_eq!((&told["outcome"], &told["queues"]), (&json!("routed"), &json!([queue.as_str()])));
        let asked = &told["steps"][0]["asked"][0];
        assert_eq!((&asked["plugin"], &asked["answer"]), (&json!(PREFIX), &json!("deliver")));
        assert_eq!(asked["bindings"][0]["routing_key"], "order.");
        let before = get(broker, "plugins/x-longest-prefix/vhosts/%2F");
        assert_eq!(before["calls"]["asked"], 0, "to explain is not counted: {before}");

        for _ in 0..5 {
            let confirm = publish(&channel, &exchange, "order.1", b"x", false).await.unwrap();
            assert!(confirm.is_ack());
        }
        assert_eq!((&asked["remembered"], &asked["remembered_by"]), (&json!(false), &json!(0)));
        let workers = asked["workers"].as_u64().unwrap();
        assert!(workers >= 1, "{asked}");
        let told = explain(broker, &message);
        let asked = &told["steps"][0]["asked"][0];
        assert_eq!((&asked["remembered"], &asked["remembered_by"]), (&json!(true), &json!(1)), "{asked}");
        assert_eq!(asked["workers"], workers);
        let seen = get(broker, "plugins/x-longest-prefix/vhosts/%2F");
        assert_eq!((&seen["state"], &seen["plugin"]), (&json!("serving"), &json!(PREFIX)));
        let calls = &seen["calls"];
        assert_eq!(calls["asked"].as_u64().unwrap() + calls["remembered"].as_u64().unwrap(), 5, "{seen}");
        assert!(seen["call_time"]["p50_ns"].as_u64() > Some(0), "{seen}");
        assert_eq!(get(broker, "plugins/x-longest-prefix")["calls"], *calls);

        let arguments = ["plugin", "explain", "--exchange", "orders", "--key", "none", "--header", "a=1"];
        let shown = leveret(&[&arguments[..], &["--data-dir"]].concat(), broker.data_directory());
        assert_eq!(shown.status.code(), Some(0), "{}", shown.report());
        assert!(shown.stdout.contains("type x-longest-prefix (plugin example_02"), "{}", shown.report());
        assert!(
            shown.stdout.ends_with("=> no queue; a mandatory message comes back\n"),
            "{}",
            shown.report()
        );
        let info = leveret(&["plugin", "info", "x-longest-prefix", "--data-dir"], broker.data_directory());
        assert!(
            info.stdout.contains("in virtual host /") && info.stdout.contains("remembered"),
            "{}",
            info.report()
        );

        let wrong = post(broker, "plugins/explain", "application/json", b"{\"exchnage\": \"x\"}");
        assert_eq!(wrong.status(), 400);
        let nowhere = json!({"vhost": "none"}).to_string();
        assert_eq!(post(broker, "plugins/explain", "application/json", nowhere.as_bytes()).status(), 404);
    });
}

#[test]
fn interceptors_and_what_stands_in_are_explained() {
    let configuration = ScratchDirectory::new("explained");
    let file = configuration.path().join("leveret.toml");
    let text = format!(
        "[plugins.{PREFIX}]\non-failure = {{ fallback = \"fanout\" }}\n\
         [[intercept]]\ninterceptor = \"append\"\npoint = \"publish\"\norder = 1\n\
         arguments = {{ header = \"x-trace\", value = \"a\" }}\n\
         [[intercept]]\ninterceptor = \"by-key\"\npoint = \"publish\"\norder = 2\non-failure = \"bypass\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let broker = Broker::builder(BINARY)
        .argument("--config")
        .argument(file)
        .plugin(guests::component("interceptors_v1"))
        .plugin(guests::component(PREFIX))
        .start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = declare(&channel, "orders", "x-longest-prefix").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "order.", FieldTable::default()).await;
        let ask =
            |key: &str| explain(broker, &json!({"vhost": "/", "exchange": "orders", "routing_key": key}));
        let told = ask("order.1");
        let first = &told["intercepted"][0];
        assert_eq!((&first["interceptor"], &first["plugin"]), (&json!("append"), &json!("interceptors_v1")));
        assert_eq!(
            (&first["verdict"], &first["changes"]),
            (&json!("patch"), &json!(["header x-trace = \"a\""]))
        );
        assert_eq!(told["intercepted"][1]["verdict"], "pass");
        assert_eq!(told["queues"], json!([queue.as_str()]));
        assert_eq!(ask("drop")["outcome"], "dropped");
        assert_eq!(ask("reject")["intercepted"][1]["reason"], "asked to");
        let moved = ask("move");
        assert_eq!((&moved["went_on_with_key"], &moved["outcome"]), (&json!("moved"), &json!("unroutable")));
        let trapped = ask("trap");
        assert_eq!(trapped["intercepted"][1]["verdict"], "pass", "{trapped}");
        assert!(trapped["intercepted"][1]["failed"].as_str().unwrap().contains("trapped"), "{trapped}");
        let told = get(broker, "plugins-interceptors");
        let failures = &told["attachments"][1]["failures"];
        assert_eq!((&failures["traps"], &failures["last_error"]), (&json!(0), &json!(null)), "{told}");

        put(broker, "plugins-switches", &json!({"plugin": PREFIX, "enabled": false}));
        let told = ask("anything");
        let asked = &told["steps"][0]["asked"];
        assert_eq!(
            (&asked[0]["answer"], &asked[0]["on_failure"]),
            (&json!("failed"), &json!("fallback to 'fanout'"))
        );
        assert_eq!((&asked[1]["type"], &asked[1]["stands_in"]), (&json!("fanout"), &json!(true)));
        assert_eq!((&told["outcome"], &told["queues"]), (&json!("routed"), &json!([queue.as_str()])));
        assert!(publish(&channel, &exchange, "anything", b"x", false).await.unwrap().is_ack());
        let seen = get(broker, "plugins/x-longest-prefix/vhosts/%2F");
        assert_eq!((&seen["state"], &seen["fallback"]), (&json!("parked"), &json!("fanout")), "{seen}");
        let shown = leveret(&["plugin", "list", "--data-dir"], broker.data_directory());
        assert!(shown.stdout.contains("switched off; fanout stands in"), "{}", shown.report());
        let arguments = ["plugin", "explain", "--exchange", "orders", "--key", "k", "--data-dir"];
        let shown = leveret(&arguments, broker.data_directory());
        for part in ["interceptor append (plugin interceptors_v1 ", "stands in: type fanout", "=> queue "] {
            assert!(shown.stdout.contains(part), "{part}: {}", shown.report());
        }
    });
}

#[test]
fn a_plugin_is_switched_off_and_on_again() {
    let broker = Broker::builder(BINARY).plugin(guests::component(PREFIX)).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = declare(&channel, "orders", "x-longest-prefix").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
        let data = broker.data_directory();

        let off = leveret(&["plugin", "disable", PREFIX, "--data-dir"], &data);
        assert_eq!(off.status.code(), Some(0), "{}", off.report());
        let seen = get(broker, "plugins/x-longest-prefix/vhosts/%2F");
        assert_eq!((&seen["state"], &seen["exchanges"]), (&json!("parked"), &json!(1)));
        let told = explain(broker, &json!({"vhost": "/", "exchange": "orders", "routing_key": "k"}));
        assert_eq!(told["outcome"], "refused");
        assert!(told["reason"].as_str().unwrap().contains("switched off"), "{told}");
        assert_eq!(get(broker, "plugins-switches"), json!([{"plugin": PREFIX, "enabled": false}]));
        let again = leveret(&["plugin", "disable", PREFIX, "--data-dir"], &data);
        assert!(again.stdout.contains("off already"), "{}", again.report());

        let on = leveret(&["plugin", "enable", PREFIX, "--data-dir"], &data);
        assert_eq!(on.status.code(), Some(0), "{}", on.report());
        let confirm = publish(&channel, &exchange, "k", b"x", true).await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none(), "its binding is there still");

        let slip = leveret(&["plugin", "disable", "no-such-plugin", "--data-dir"], &data);
        assert_eq!(slip.status.code(), Some(1), "{}", slip.report());
        for enabled in [false, true] {
            let core = put(broker, "plugins-switches", &json!({"plugin": "topic", "enabled": enabled}));
            assert_eq!(core.status(), 400);
        }
        // One that nobody may use now is there all the same.
        put(broker, "plugins-switches", &json!({"enabled": false}));
        for (command, said) in [("enable", "on already"), ("disable", "switched off")] {
            let shown = leveret(&["plugin", command, PREFIX, "--data-dir"], &data);
            assert!(shown.stdout.contains(said), "{}", shown.report());
        }
        let nowhere = json!({"plugin": PREFIX, "vhost": "none", "enabled": false});
        assert_eq!(put(broker, "plugins-switches", &nowhere).status(), 404);
    });
}

#[test]
fn held_messages_are_listed_and_dropped() {
    let configuration = ScratchDirectory::new("holds");
    let file = configuration.path().join("leveret.toml");
    let grants = "[\"clock\", \"random\", \"log\", \"metric\", \"key-value\", \"message-store\", \"hold\", \
                  \"timer\", \"enqueue\", \"emit\", \"queue-info\", \"publisher\"]";
    std::fs::write(&file, format!("[plugins.\"every_capability\"]\ngrants = {grants}\n")).unwrap();
    let guest = guests::component("every_capability");
    let broker = Broker::builder(BINARY).argument("--config").argument(file).plugin(guest).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = declare(&channel, "later", "x-every-capability").await;
        for delay in ["hold 3600000", "hold 7200000", "hold 10800000"] {
            assert!(publish(&channel, &exchange, delay, b"x", false).await.unwrap().is_ack());
        }
        let listed = get(broker, "holds/%2F/later");
        assert_eq!(listed["count"], 3);
        let first = &listed["holds"][0];
        assert_eq!((&first["routing_key"], &first["tries"]), (&json!("hold 3600000"), &json!(0)));
        assert_eq!(get(broker, "plugins/x-every-capability/vhosts/%2F")["held"], 3);

        let (id, data) = (first["id"].to_string(), broker.data_directory());
        let shown = leveret(&["hold", "list", "later", "--data-dir"], &data);
        assert!(
            shown.stdout.contains("3 messages") && shown.stdout.contains("hold 3600000"),
            "{}",
            shown.report()
        );
        let later = get(broker, "holds/%2F/later?skip=2");
        assert_eq!((&later["count"], &later["holds"][0]), (&json!(3), &listed["holds"][2]));
        assert_eq!(later["holds"].as_array().unwrap().len(), 1);
        let shown = leveret(&["hold", "list", "later", "--skip", "1", "--data-dir"], &data);
        let both = shown.stdout.contains("hold 7200000") && shown.stdout.contains("hold 10800000");
        assert!(both && !shown.stdout.contains("hold 3600000"), "{}", shown.report());
        let one = leveret(&["hold", "cancel", "later", &id, "--data-dir"], &data);
        assert_eq!(one.status.code(), Some(0), "{}", one.report());
        let twice = leveret(&["hold", "cancel", "later", &id, "--data-dir"], &data);
        assert_eq!(twice.status.code(), Some(1), "{}", twice.report());
        assert_eq!(delete(broker, &format!("holds/%2F/amq.direct/{id}")).status(), 404);
        let rest = delete(broker, "holds/%2F/later");
        assert_eq!(json_of(&rest), json!({"cancelled": 2}));
        assert_eq!(get(broker, "holds/%2F/later"), json!({"count": 0, "holds": []}));
    });
}
