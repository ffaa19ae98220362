//! What a file says, and what is wrong with it.

use super::*;
use crate::store::VhostDurability;
use leveret_broker::{queue::QueueKind, store::Durability};
use leveret_plugin::policy::{Capability, FailurePolicy, Grants, Limit, TotalRules};
use std::cmp::Reverse;

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file: Settings =
        toml::from_str("listen = \"127.0.0.1:1\"\ndata-dir = \"d\"\nmemory-mib = 64").unwrap();
    let flags = Settings { listen: Some(([127, 0, 0, 1], 2).into()), ..Settings::default() };
    let config = Config::try_from(flags.or(file)).unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.plugins_dir, Path::new("d/plugins"));
    assert_eq!(config.memory_bytes_max, 64 << 20);
    let default = VhostConfig {
        name: Name::from_static("/"),
        plugins_dir: Path::new("d/vhosts/%2F/plugins").to_path_buf(),
        durability: VhostDurability::default(),
        queue_type: QueueKind::Classic,
        limits: VhostLimits::default(),
    };
    assert_eq!(config.vhosts, [default]);
}

#[test]
fn unknown_keys_and_impossible_values_are_refused_by_name() {
    let error = toml::from_str::<Settings>("plugin-dir = \"x\"").unwrap_err().to_string();
    assert!(error.contains("plugin-dir"), "{error}");
    let error =
        Config::try_from(Settings { workers: Some(0), ..Settings::default() }).unwrap_err().to_string();
    assert!(error.contains("workers"), "{error}");
    let error =
        Config::try_from(Settings { memory_mib: Some(1), ..Settings::default() }).unwrap_err().to_string();
    assert!(error.contains("memory-mib"), "{error}");
    let error = Config::try_from(Settings { retry_max_ms: Some(99), ..Settings::default() }).unwrap_err();
    assert!(error.to_string().contains("retry-max-ms"), "{error}");
    for (memory, seconds, key) in
        [(Some(1), None, "compile-memory-mib"), (None, Some(0), "compile-cpu-seconds")]
    {
        let error = compile_limits(memory, seconds).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn another_product_needs_its_version() {
    let settings = |product: Option<&str>, version: Option<&str>| Settings {
        announced_product: product.map(str::to_owned),
        announced_version: version.map(str::to_owned),
        ..Settings::default()
    };
    let announced = |product, version| Config::try_from(settings(product, version)).map(|c| c.announced);
    assert_eq!(announced(None, None).unwrap(), Announced::default());
    assert_eq!(announced(None, None).unwrap().product, "Leveret");
    let other = announced(Some("RabbitMQ"), Some("4.3.0")).unwrap();
    assert_eq!((other.product.as_str(), other.version.as_str()), ("RabbitMQ", "4.3.0"));
    let long = "9".repeat(256);
    for (product, version) in [(Some("RabbitMQ"), None), (Some(""), Some("1")), (None, Some(long.as_str()))] {
        let error = announced(product, version).unwrap_err().to_string();
        assert!(error.contains("announced-"), "{error}");
    }
}

/// Every key of every table, each once.
const EVERYTHING: &str = r#"
listen = "127.0.0.1:1"
data-dir = "d"
plugins-dir = "p"
vhosts = ["/", "tenant-a"]
workers = 3
compile-memory-mib = 256
compile-cpu-seconds = 7
retry-max-ms = 500
memory-mib = 64
announced-product = "RabbitMQ"
announced-version = "4.3.0"
quorum = "refuse"
consumer-timeout-ms = 0
log = "debug"

[plugins."rate-limit"]
enabled = true
grants = [
    "clock", "random", "log", "metric", "key-value", "message-store", "hold", "timer", "enqueue", "emit",
    "queue-info", "publisher", "modify-body",
]
on-failure = "unroutable"
random-seed = 7
memory-mib = 32
cpu-per-call-ms = 5
cpu-per-item-us = 50
cpu-start-ms = 40
answer-ids = 1000
state-mib = 8
state-entries = 900
held-messages = 800
held-mib = 70
log-lines-per-second = 6
metrics = 5

[plugins.careful]
on-failure = { fallback = "direct" }

[totals]
remembered-mib = 77

[vhost."tenant-a"]
plugins-dir = "tenant-a/plugins"
sync = "interval:10ms"
allow = ["rate-limit", "x-delayed-message"]
ceilings = { memory-mib = 128, cpu-per-call-ms = 10, state-mib = 64 }
totals = { memory-mib = 256, remembered-mib = 9 }

[vhost."tenant-a".plugins."rate-limit"]
enabled = false
grants = ["clock"]
memory-mib = 128

[[durability]]
vhost = "tenant-a"
queues = "orders.*"
sync = "always"

[[durability]]
queues = "*.cache"
sync = "never"
"#;

#[test]
fn every_key_has_its_effect() {
    let config = Config::try_from(Settings::parse(EVERYTHING).unwrap()).unwrap();
    assert_eq!((config.listen.port(), config.workers, config.log.as_str()), (1, 3, "debug"));
    let compile = &config.compile_limits;
    assert_eq!((compile.memory_bytes_max, compile.cpu_seconds_max), (256 << 20, 7));
    assert_eq!((config.data_dir.as_path(), config.plugins_dir.as_path()), (Path::new("d"), Path::new("p")));
    let folders: Vec<_> = config.vhosts.iter().map(|v| v.plugins_dir.to_str().unwrap()).collect();
    assert_eq!(folders, ["d/vhosts/%2F/plugins", "tenant-a/plugins"]);

    let durable = |vhost: usize| {
        let of = |queue| config.vhosts[vhost].durability.of(&Name::from_static(queue));
        [of("orders.cache"), of("a.cache"), of("other")]
    };
    let (always, never) = (Durability::Always, Durability::Never);
    assert_eq!(durable(0), [never, never, always]);
    assert_eq!(durable(1), [always, never, Durability::Interval(Reverse(10))]);

    let everywhere = &config.policies.plugins["rate-limit"];
    assert_eq!(everywhere.enabled, Some(true));
    assert_eq!(everywhere.grants, Some(Capability::ALL.into_iter().collect()));
    assert_eq!((&everywhere.on_failure, everywhere.random_seed), (&Some(FailurePolicy::Unroutable), Some(7)));
    let values = [32, 5, 50, 40, 1000, 8, 900, 800, 70, 6, 5];
    assert_eq!(everywhere.limits, Limit::ALL.into_iter().zip(values).collect());
    let fallback = Some(FailurePolicy::Fallback(Name::from_static("direct")));
    assert_eq!(config.policies.plugins["careful"].on_failure, fallback);

    let tenant = &config.policies.vhosts[&Name::from_static("tenant-a")];
    assert_eq!(tenant.allow, Some(["rate-limit".to_owned(), "x-delayed-message".to_owned()].into()));
    let ceilings = [(Limit::Memory, 128), (Limit::CpuPerCall, 10), (Limit::State, 64)];
    assert_eq!(tenant.ceilings, ceilings.into());
    assert_eq!(tenant.totals, TotalRules { memory_mib: Some(256), remembered_mib: Some(9) });
    assert_eq!(config.policies.remembered_mib, Some(77));
    let there = &tenant.plugins["rate-limit"];
    assert_eq!((there.enabled, &there.limits), (Some(false), &[(Limit::Memory, 128)].into()));
    assert_eq!(there.grants, Some(Grants::NONE.with(Capability::Clock)));
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// The README's block of TOML that begins so.
fn example_of<'a>(readme: &'a str, begins: &str) -> &'a str {
    let mut blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.starts_with(begins)).unwrap()
}

/// The README's example is read, and says what the text around it says.
#[test]
fn the_example_of_the_readme_is_valid() {
    let text = readme();
    let example = example_of(&text, "vhosts = ");
    let config = Config::try_from(Settings::parse(example).unwrap()).unwrap();
    let tenant = &config.policies.vhosts[&Name::from_static("tenant-a")];
    assert_eq!(tenant.plugins["rate-limit"].grants, Some(Grants::NONE.with(Capability::Clock)));
    for key in Limit::ALL.map(Limit::key) {
        assert!(text.contains(&format!("`{key}`")), "{key} is not in the README");
    }
    for capability in Capability::ALL {
        assert!(text.contains(&format!("`{capability}`")), "{capability} is not in the README");
    }
}

/// So is its example of interceptors.
#[test]
fn the_interceptors_of_the_readme_are_valid() {
    let text = readme();
    let example = example_of(&text, "[[intercept]]");
    let rules = Settings::parse(example).unwrap().attachments().unwrap();
    let [stamp, redact] = rules.as_slice() else { panic!("{rules:?}") };
    assert_eq!(stamp.to_string(), "'stamp' on publish, exchange \"orders.*\" in vhost '/'");
    assert_eq!((stamp.order, &stamp.on_failure), (10, &FailurePolicy::Reject));
    assert_eq!(stamp.arguments.get(b"header").and_then(|value| value.as_text()), Some("x-stamp"));
    assert_eq!(redact.to_string(), "'redact' on deliver, queue \"partners.*\" in every vhost");
}

/// And that of what is safe when.
#[test]
fn the_durability_of_the_readme_is_valid() {
    let text = readme();
    let config =
        Config::try_from(Settings::parse(example_of(&text, "[vhost.\"/\"]\nsync")).unwrap()).unwrap();
    let of = |queue| config.vhosts[0].durability.of(&Name::from_static(queue));
    assert_eq!((of("metrics.a"), of("a")), (Durability::Interval(Reverse(10)), Durability::Always));
}

#[test]
fn arguments_of_interceptors_are_values_of_all_kinds() {
    let table = "[[intercept]]\ninterceptor = \"i\"\npoint = \"dead-letter\"\norder = -1\non-failure = \"dead-letter\"\n\
                 [intercept.arguments]\na = [1, true]\nb = { c = 1.5 }";
    let rules = Settings::parse(table).unwrap().attachments().unwrap();
    let arguments = &rules[0].arguments;
    let list = leveret_model::Value::List(vec![
        leveret_model::Value::Integer(1),
        leveret_model::Value::Boolean(true),
    ]);
    assert_eq!(arguments.get(b"a"), Some(&list));
    let map = vec![(leveret_model::Value::Text("c".into()), leveret_model::Value::Real(1.5))];
    assert_eq!(arguments.get(b"b"), Some(&leveret_model::Value::Map(map)));
    let config = Config::try_from(Settings::parse(&table.replace("order", "vhost = \"v\"\norder")).unwrap());
    assert!(format!("{:#}", config.unwrap_err()).contains("no such virtual host"));
}

/// Every way to get it wrong, with the line it is in and the words that say what.
#[test]
fn an_error_names_the_line_and_the_key() {
    for (wrong, line, said) in [
        ("[plugins.p]\n\nmemory = 1", 3, "unknown key `memory`, expected one of enabled, grants"),
        ("[plugins.p]\nmemory-mib = \"much\"", 2, "expected u64"),
        ("[plugins.p]\nmemory-mib = -1", 2, "expected u64"),
        ("[plugins.p]\ncpu-start-ms = 1\nmemory-mib = 0", 3, "memory-mib = 0: it is from 1 to 4096"),
        ("[plugins.p]\ngrants = [\n  \"clock\",\n  \"files\"]", 2, "no capability 'files'"),
        ("[plugins.p]\non-failure = \"ignore\"", 2, "ignore"),
        ("[plugins.p]\non-failure = { fall = \"x\" }", 2, "fall"),
        ("\n[plugins.p]\non-failure = { fallback = \"x-other\" }", 2, "'x-other' cannot stand in"),
        ("[vhost.v.plugins.topic]\non-failure = { fallback = \"topic\" }", 1, "plugin 'topic' in vhost 'v'"),
        (
            "\n[plugins.topic]\nenabled = false",
            2,
            "plugin 'topic': enabled = false: a core exchange type cannot",
        ),
        ("[vhost.v.plugins.direct]\nenabled = false", 1, "plugin 'direct' in vhost 'v': enabled = false"),
        ("[plugins.p]\non-failure = \"dead-letter\"", 1, "With unroutable it goes to the alternate exchange"),
        ("\n[plugins.p]\nanswer-ids = 300000\nmemory-mib = 1", 2, "answer-ids = 300000"),
        ("[vhost.v]\nplugin-dir = \"x\"", 2, "plugin-dir"),
        ("[vhost.v]\nceilings = { memory = 1 }", 2, "unknown key `memory`, expected one of memory-mib"),
        ("[vhost.v.ceilings]\n\nstate-mib = 9999999", 3, "ceilings of vhost 'v': state-mib = 9999999"),
        ("[[intercept]]\ninterceptor = \"i\"\npoint = \"publish\"", 1, "missing field `order`"),
        ("[[intercept]]\ninterceptor = \"i\"\npoint = \"route\"\norder = 1", 3, "route"),
        (
            "\n[[intercept]]\ninterceptor = \"i\"\npoint = \"publish\"\norder = 1\nqueue = \"q\"",
            2,
            "`exchange`",
        ),
        (
            "[[intercept]]\ninterceptor = \"i\"\npoint = \"publish\"\norder = 1\non-failure = \"dead-letter\"",
            1,
            "makes no sense for an interceptor on publish",
        ),
        ("[vhost.v]\nsync = \"often\"", 2, "\"often\" is none of"),
        ("\n[[durability]]\nqueues = \"q\"\nsync = \"interval:0ms\"", 4, "interval:10ms"),
        ("[[durability]]\nsync = \"never\"", 1, "missing field `queues`"),
        ("[[durability]]\nqueue = \"q\"\nsync = \"never\"", 2, "queue"),
        (
            "[[durability]]\nqueues = \"*\"\nsync = \"never\"\n[[durability]]\nvhost = \"v\"\nqueues = \"q\"\nsync = \"always\"",
            4,
            "[[durability]]: queues = \"q\" never counts",
        ),
        (
            "[vhost.v]\nceilings = { memory-mib = 9 }\n[vhost.v.plugins.p]\nmemory-mib = 10",
            4,
            "plugin 'p' in vhost 'v': memory-mib = 10 is above the vhost's ceiling, memory-mib = 9",
        ),
    ] {
        let error = format!("{:#}", Settings::parse(wrong).unwrap_err());
        assert!(error.contains(&format!("line {line}")), "not line {line}: {error}");
        assert!(error.contains(said), "{said} is not in: {error}");
    }
}

#[test]
fn folders_and_names_of_virtual_hosts_do_not_clash() {
    for (wrong, said) in [
        ("[vhost.v]", "[vhost.\"v\"]: there is no such virtual host"),
        (
            "[[durability]]\nvhost = \"v\"\nqueues = \"*\"\nsync = \"never\"",
            "[[durability]]: vhost = \"v\": there is no such virtual host",
        ),
        ("vhosts = []", "at least one"),
        ("vhosts = [\"\"]", "needs a name"),
        ("vhosts = [\"/\", \"a\", \"/\"]", "\"/\" is there twice"),
        ("plugins-dir = \"p\"\n[vhost.\"/\"]\nplugins-dir = \"p\"", "that of all virtual hosts"),
        (
            "vhosts = [\"a\", \"b\"]\n[vhost.a]\nplugins-dir = \"p\"\n[vhost.b]\nplugins-dir = \"p\"",
            "[vhost.\"b\"]: plugins-dir p is that of \"a\"",
        ),
    ] {
        let error = Config::try_from(Settings::parse(wrong).unwrap()).unwrap_err().to_string();
        assert!(error.contains(said), "{said} is not in: {error}");
    }
}

#[test]
fn http_listens_by_default_and_can_be_turned_off() {
    let with =
        |http_listen| Config::try_from(Settings { http_listen, ..Settings::default() }).unwrap().http_listen;
    assert_eq!(with(None), Some(HTTP_LISTEN_DEFAULT));
    let file: Settings = toml::from_str("http-listen = \"none\"").unwrap();
    assert_eq!(with(file.http_listen), None);
    let file: Settings = toml::from_str("http-listen = \"[::1]:0\"").unwrap();
    assert_eq!(with(file.http_listen).map(|address| address.to_string()), Some("[::1]:0".to_owned()));
    let error = toml::from_str::<Settings>("http-listen = \"never\"").unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
}

/// A file in which every kind of table is there.
const FILE: &str = r#"
listen = "127.0.0.1:5672"
vhosts = ["/", "tenant-a"]
memory-mib = 64
[plugins."rate-limit"]
grants = ["clock", "key-value"]
memory-mib = 32
on-failure = "reject"
[vhost."tenant-a"]
allow = ["rate-limit"]
ceilings = { memory-mib = 128, cpu-per-call-ms = 10, state-mib = 64 }
totals = { memory-mib = 256, remembered-mib = 9 }
[vhost."tenant-a".plugins."rate-limit"]
grants = ["clock"]
on-failure = { fallback = "direct" }
[[intercept]]
interceptor = "stamp"
point = "publish"
order = 100
exchange = "orders.*"
arguments = { header = "x-stamp" }
"#;

proptest::proptest! {
    #[test]
    fn any_file_is_taken_or_refused_with_what_is_wrong(
        at in 0..FILE.len(), length in 0_usize..40, put in "[\\[\\]{}=\"'a-z0-9.,\n -]{0,30}",
    ) {
        let mut text = String::from(FILE);
        let (start, end) = (text.floor_char_boundary(at), text.floor_char_boundary(at.saturating_add(length)));
        text.replace_range(start..end, &put);
        let read = Settings::parse(&text).and_then(Config::try_from);
        if let Err(error) = read {
            let error = format!("{error:#}");
            proptest::prop_assert!(error.contains("line ") || error.contains(['\'', '"', '-']), "{}", error);
        }
    }
}
