//! Every function that a plugin exports, misbehaving in every way, called as the host calls it: each
//! failure has its kind and its text, each answer is bounded and fit to be shown, and a fresh instance of
//! the same code is well.

use super::{instance::Refused, *};
use crate::{
    account::Accounts,
    engine::{CodeStrategy, Engines},
    pace::InlineTimes,
    policy::{Limit, PluginRules, Policies, PolicyRules},
    scope::Scope,
    testing::World,
    version::{Code, Origin},
};
use leveret_broker::exchange::Binding;
use leveret_model::{Name, Reads, Table, Value, flat};
use leveret_testkit::guests;
use std::{collections::BTreeMap, sync::Arc};

/// The exchange in the instance.
const ID: u32 = 3;
/// As `describe` is never told what to do.
const FUNCTIONS: [&str; 12] = [
    "open",
    "close",
    "bind",
    "unbind",
    "route",
    "route-batch",
    "bound",
    "unbound",
    "timer",
    "info",
    "reconfigure",
    "migrate",
];

/// A guest's code, and what its instances need.
struct Hostile {
    engines: Engines,
    accounts: Accounts,
    code: Code,
    /// Has the bindings `evil` and `good`.
    exchange: Arc<leveret_broker::exchange::Exchange>,
    _world: World,
}

impl Hostile {
    fn new(guest: &str) -> Self {
        Self::with(guest, BTreeMap::new())
    }

    /// With time enough to give a large answer.
    fn slow(guest: &str) -> Self {
        Self::with(guest, [(Limit::CpuPerCall, 1_000), (Limit::Memory, 256)].into_iter().collect())
    }

    fn with(guest: &str, limits: BTreeMap<Limit, u64>) -> Self {
        let plugins = [(String::from(guest), PluginRules { limits, ..PluginRules::default() })];
        let rules = PolicyRules { plugins: plugins.into_iter().collect(), ..PolicyRules::default() };
        let accounts = Accounts::new(Arc::new(Policies::new(rules).unwrap()), InlineTimes::default());
        let engines = Engines::new().unwrap();
        let bytes = std::fs::read(guests::component(guest)).unwrap();
        let component = engines.compile(CodeStrategy::Cranelift, &bytes).unwrap();
        let origin = Origin {
            plugin: String::from(guest),
            digest: crate::Digest::of(&bytes),
            strategy: CodeStrategy::Cranelift,
            builtin: false,
            form: Some(&crate::testing::PLAIN),
        };
        let code = Code::link(origin, &component).unwrap();
        let mut world = World::empty(1);
        world.bind(0, "amq.direct", "evil").unwrap();
        world.bind(0, "amq.direct", "good").unwrap();
        Self { engines, accounts, code, exchange: world.exchange("amq.direct"), _world: world }
    }

    fn start(&self) -> Result<Instance, GuestFailure> {
        let account = self.accounts.of(&Scope::Global, &Name::from_static("/"), &self.code.plugin);
        Instance::start(&self.code, &account, self.engines.ticker().slot())
    }

    fn binding(&self, key: &str) -> Arc<Binding> {
        let (_, bindings) = self.exchange.all_bindings();
        bindings.into_iter().find(|binding| binding.routing_key.as_bytes() == key.as_bytes()).unwrap()
    }

    /// An instance with the exchange, told to do that in that function.
    fn opened(&self, told: &str) -> Result<Instance, Refused> {
        let mut instance = self.start().unwrap();
        instance.describe(true, false).unwrap();
        let (name, vhost, type_name) =
            (Name::from_static("x"), Name::from_static("/"), Name::from_static("x-evil"));
        let arguments: Table =
            [(Name::from_static("x-evil"), Value::Text(String::from(told)))].into_iter().collect();
        let opening = Opening {
            name: &name,
            vhost: &vhost,
            type_name: &type_name,
            arguments: &arguments,
            in_front_of: None,
        };
        instance.open(ID, opening)?;
        Ok(instance)
    }

    /// Calls that function of an instance that was told to misbehave in it.
    fn call(&self, function: &str, way: &str) -> Result<Answered, Refused> {
        let of = if function == "route-batch" { "route" } else { function };
        let mut instance = self.opened(&format!("{of} {way}"))?;
        let (evil, reads) = (self.binding("evil"), reads());
        if function != "open" {
            instance.bind(ID, &[&evil])?;
        }
        Ok(match function {
            "open" | "bind" => Answered::Nothing,
            "close" => {
                instance.close(ID)?;
                Answered::Nothing
            }
            "unbind" => {
                instance.unbind(ID, &[evil.id])?;
                Answered::Nothing
            }
            "route" => Answered::Decided(instance.route(ID, &projection("evil")[4..], &reads, None)?),
            "route-batch" => {
                let messages = [projection("good"), projection("evil")].concat();
                Answered::Decided(instance.route_batch(ID, &messages, 2, None)?)
            }
            "bound" => Answered::Stored(instance.bound(ID, &evil)?),
            "unbound" => {
                instance.unbound(ID, &evil)?;
                Answered::Nothing
            }
            "timer" => {
                instance.timer(ID, &Name::from_static("timer"))?;
                Answered::Nothing
            }
            "info" => Answered::Info(instance.info(ID)?),
            "reconfigure" => {
                assert!(instance.reconfigure(ID, &Table::new())?.is_some());
                Answered::Nothing
            }
            "migrate" => {
                assert!(instance.migrate(ID, "0.9")?.is_some());
                Answered::Nothing
            }
            other => panic!("there is no function {other}"),
        })
    }

    fn failure(&self, function: &str, way: &str) -> GuestFailure {
        match self.call(function, way) {
            Err(Refused::Failed(failure)) => failure,
            other => panic!("{function} {way}: {other:?}"),
        }
    }

    fn refusal(&self, function: &str, way: &str) -> String {
        match self.call(function, way) {
            Err(Refused::ByPlugin(text)) => text,
            other => panic!("{function} {way}: {other:?}"),
        }
    }
}

#[derive(Debug)]
enum Answered {
    Nothing,
    Decided(Decisions),
    Stored(Vec<u64>),
    Info(Vec<(Name, Value)>),
}

fn reads() -> Reads {
    Reads { routing_key: true, ..Reads::default() }
}

/// After its length.
fn projection(key: &str) -> Vec<u8> {
    let length = key.len() as u16;
    let whole = u32::from(length) + 2;
    [&whole.to_le_bytes()[..], &length.to_le_bytes(), key.as_bytes()].concat()
}

fn is_fit_to_be_shown(text: &str) -> bool {
    text.len() <= 2 * REJECT_REASON_BYTES_MAX + 64 && !text.chars().any(char::is_control)
}

#[test]
fn each_function_may_trap_loop_and_use_up_memory_or_stack() {
    let hostile = Hostile::new("evil");
    for function in FUNCTIONS {
        for way in ["trap", "loop", "memory", "recurse"] {
            let failure = hostile.failure(function, way);
            let text = failure.to_string();
            assert!(is_fit_to_be_shown(&text), "{function} {way}: {text:?}");
            match (way, &failure) {
                ("trap", GuestFailure::Trap(_)) => {
                    assert!(text.contains("unreachable"), "{function}: {text}")
                }
                ("loop", GuestFailure::Cpu(_)) => {
                    // A call to migrate may take as long as a start.
                    let limit = if function == "migrate" { "50." } else { "10." };
                    assert!(text.contains(&format!("the limit is {limit}")), "{function}: {text}");
                }
                ("memory", GuestFailure::Memory { .. }) => {
                    assert!(text.contains("64 MiB"), "{function}: {text}")
                }
                // Whichever of its two stacks is used up first.
                ("recurse", GuestFailure::Trap(_)) => {
                    assert!(text.contains("stack") || text.contains("out of bounds"), "{function}: {text}");
                }
                _ => panic!("{function} {way}: {failure:?}"),
            }
        }
        // The code is as good as before.
        if let Err(refused) = hostile.call(function, "nothing") {
            panic!("{function}: {refused}");
        }
    }
}

#[test]
fn describe_may_trap_loop_and_tell_nonsense() {
    for (guest, said) in [("loops_in_describe", "the limit is 50.0 ms"), ("traps_in_describe", "trapped")] {
        let hostile = Hostile::new(guest);
        let mut instance = hostile.start().unwrap();
        let failure = instance.describe(true, false).unwrap_err().to_string();
        assert!(failure.contains(said), "{guest}: {failure}");
    }
    let at_random = Hostile::new("describes_at_random");
    let described = || at_random.start().unwrap().describe(true, false).unwrap();
    assert_ne!(described(), described());
}

#[test]
fn texts_of_a_mebibyte_are_cut_and_are_one_line() {
    let hostile = Hostile::new("evil");
    for function in ["open", "bind", "reconfigure", "migrate"] {
        let text = hostile.refusal(function, "refuse");
        assert!(is_fit_to_be_shown(&text) && text.contains("forged line"), "{function}: {text:?}");
    }
    for function in ["route", "route-batch"] {
        for way in ["drop", "reject"] {
            let Ok(Answered::Decided(decisions)) = hostile.call(function, way) else {
                panic!("{function} {way}")
            };
            let last = decisions.iter().last();
            match last {
                Some(Decision::Drop(Some(reason)) | Decision::Reject(reason)) => {
                    assert!(
                        reason.len() <= REJECT_REASON_BYTES_MAX && is_fit_to_be_shown(&reason),
                        "{reason:?}"
                    );
                }
                other => panic!("{function} {way}: {other:?}"),
            }
        }
    }
}

#[test]
fn answers_that_are_too_much_are_named() {
    let hostile = Hostile::slow("evil");
    for (function, way, said) in [
        ("open", "reads", "2000 headers are read by name; the most is 1024"),
        ("bind", "reads", "2000 headers are read by name"),
        ("open", "inner-many", "the inner type has 2000 arguments; the most is 1024"),
        ("route", "ids", "200001 ids; the most is 65536"),
        ("route-batch", "ids", "200001 ids; the most is 65536"),
        ("info", "list", "the field 'list': there are more than 65536 values"),
    ] {
        match hostile.failure(function, way) {
            GuestFailure::Answer(text) => assert!(text.contains(said), "{function} {way}: {text}"),
            other => panic!("{function} {way}: {other:?}"),
        }
    }
    let large = hostile.failure("info", "large");
    assert!(matches!(&large, GuestFailure::Trap(text) if text.contains("fuel")), "{large:?}");
}

#[test]
fn answers_that_are_odd_are_taken_as_they_are_meant() {
    let hostile = Hostile::slow("evil");
    match hostile.call("info", "fields") {
        Ok(Answered::Info(fields)) => {
            assert_eq!(fields.len(), 64);
            assert!(matches!(fields[0].1, Value::Real(real) if real.is_nan()), "{:?}", fields[0]);
            assert!(matches!(&fields[1].1, Value::Text(_)));
        }
        other => panic!("{other:?}"),
    }
    match hostile.call("bound", "forge") {
        Ok(Answered::Stored(ids)) => assert_eq!(ids.len(), 1_000),
        other => panic!("{other:?}"),
    }
    for function in ["route", "route-batch"] {
        match hostile.call(function, "hold") {
            Ok(Answered::Decided(decisions)) => {
                assert!(matches!(decisions.iter().last(), Some(Decision::Hold(ms)) if ms > 1 << 55));
            }
            other => panic!("{function}: {other:?}"),
        }
        match hostile.call(function, "forge") {
            Ok(Answered::Decided(decisions)) => {
                assert!(matches!(decisions.iter().last(), Some(Decision::Deliver(ids)) if ids.len() == 7));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What an interceptor is attached with.
fn attach(hostile: &Hostile, how: &str) -> Result<Instance, Refused> {
    let mut instance = hostile.start().unwrap();
    instance.describe(false, true).unwrap();
    let (vhost, arguments) = (
        Name::from_static("/"),
        [(Name::from_static("how"), Value::Text(String::from(how)))].into_iter().collect(),
    );
    let point = AttachmentPoint::Publish;
    instance.attach(ID, Attaching { interceptor: "evil", point, vhost: &vhost, arguments: &arguments })?;
    Ok(instance)
}

#[test]
fn interceptors_may_misbehave_as_well() {
    let hostile = Hostile::new("evil_interceptor");
    let failure = |way: &str| {
        let messages = [projection("good"), projection("evil")].concat();
        attach(&hostile, way).unwrap().intercept(ID, &messages, 2, &reads(), None).unwrap_err()
    };
    assert!(matches!(failure("trap"), GuestFailure::Trap(_)));
    assert!(matches!(failure("loop"), GuestFailure::Cpu(_)));
    assert!(matches!(failure("memory"), GuestFailure::Memory { .. }));
    for (way, said) in [
        ("changes", "verdict 1 of 2, which begins at byte 1: the patch has 300 changes; the most is 256"),
        ("values", "change 0 of 1: there are more than 65536 values"),
    ] {
        let failure = failure(way).to_string();
        assert!(failure.contains(said), "{way}: {failure}");
    }
    for way in ["trap", "loop", "memory"] {
        let refused = attach(&hostile, &format!("open {way}")).err();
        assert!(matches!(refused, Some(Refused::Failed(_))), "{way}: {refused:?}");
    }
    let verdicts =
        attach(&hostile, "drop").unwrap().intercept(ID, &projection("evil"), 1, &reads(), None).unwrap();
    match &verdicts[..] {
        [Verdict::Drop(Some(reason))] => assert!(is_fit_to_be_shown(reason), "{reason:?}"),
        other => panic!("{other:?}"),
    }
}

/// An answer that is nonsense in a way that no compiler makes.
#[test]
fn a_value_that_nests_too_deep_is_no_value() {
    let mut deep = vec![flat::VOID];
    for _ in 0..10_000 {
        let length = u32::try_from(deep.len()).unwrap().to_le_bytes();
        deep = [&[flat::LIST][..], &length, &deep].concat();
    }
    let encoded = crate::bindings::v0_2::leveret::routing::types::ValueResult::Encoded(deep);
    assert!(lift::value(encoded, &mut lift::ValuesLeft::default()).unwrap_err().contains("CONTRACT.md"));
}
