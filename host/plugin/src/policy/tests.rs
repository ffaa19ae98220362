//! Rules, ceilings and switches together.

use super::*;
use crate::scope::Scope;
use leveret_model::Name;
use std::time::Duration;

const A: Name = Name::EMPTY;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn limits<const N: usize>(limits: [(Limit, u64); N]) -> std::collections::BTreeMap<Limit, u64> {
    limits.into_iter().collect()
}

fn granted(capability: Capability) -> PluginRules {
    PluginRules { grants: Some(Grants::NONE.with(capability)), ..PluginRules::default() }
}

#[test]
fn without_rules_everything_is_allowed_and_nothing_granted() {
    let policies = Policies::default();
    for scope in [Scope::Shipped, Scope::Global, Scope::Vhost(name("a"))] {
        let policy = policies.of(&scope, Some(&name("a")), "p");
        assert!(policy.allowed && policy.enabled && policy.grants.is_empty() != (scope == Scope::Shipped));
        assert_eq!((&policy.limits, &policy.on_failure), (&Limits::default(), &FailurePolicy::Reject));
    }
}

#[test]
fn a_virtual_hosts_word_is_the_last_and_its_own_files_are_not_the_global_ones() {
    let mut rules = PolicyRules::default();
    let mut everywhere = granted(Capability::Clock);
    everywhere.limits = limits([(Limit::Memory, 32), (Limit::CpuPerCall, 5)]);
    everywhere.random_seed = Some(7);
    everywhere.on_failure = Some(FailurePolicy::Unroutable);
    rules.plugins.insert("p".into(), everywhere);
    let mut here = granted(Capability::KeyValue);
    here.limits = limits([(Limit::Memory, 16)]);
    rules.vhosts.entry(name("a")).or_default().plugins.insert("p".into(), here);
    let policies = Policies::new(rules).unwrap();

    let elsewhere = policies.of(&Scope::Global, Some(&name("b")), "p");
    assert!(elsewhere.grants.contains(Capability::Clock));
    assert_eq!(elsewhere.limits.memory_bytes_max, 32 << 20);
    let here = policies.of(&Scope::Global, Some(&name("a")), "p");
    assert_eq!(here.grants, Grants::NONE.with(Capability::KeyValue), "replaced, not added to");
    assert_eq!(
        (here.limits.memory_bytes_max, here.limits.cpu_per_call),
        (16 << 20, Duration::from_millis(5))
    );
    assert_eq!((here.random_seed, &here.on_failure), (Some(7), &FailurePolicy::Unroutable));

    // A file of that name in a virtual host's own folder is another plugin.
    let own = policies.of(&Scope::Vhost(name("b")), Some(&name("b")), "p");
    assert!(own.grants.is_empty() && own.random_seed.is_none());
    assert_eq!(own.limits, Limits::default());
    let own = policies.of(&Scope::Vhost(name("a")), Some(&name("a")), "p");
    assert!(own.grants.contains(Capability::KeyValue) && !own.grants.contains(Capability::Clock));
}

#[test]
fn the_smaller_of_limit_and_ceiling_counts() {
    let mut rules = PolicyRules::default();
    let big = PluginRules { limits: limits([(Limit::Memory, 256)]), ..PluginRules::default() };
    rules.plugins.insert("big".into(), big);
    let there = rules.vhosts.entry(name("a")).or_default();
    there.ceilings = limits([(Limit::Memory, 128), (Limit::LogLines, 2), (Limit::State, 64)]);
    let policies = Policies::new(rules).unwrap();
    let limits = &policies.of(&Scope::Global, Some(&name("a")), "big").limits;
    assert_eq!((limits.memory_bytes_max, limits.log_lines_per_second_max), (128 << 20, 2));
    assert_eq!(limits.state_bytes_max, STATE_BYTES_MAX, "the ceiling is higher");
    assert_eq!(policies.of(&Scope::Global, Some(&A), "big").limits.memory_bytes_max, 256 << 20);
    let shipped =
        |plugin| policies.of(&Scope::Shipped, Some(&name("a")), plugin).limits.log_lines_per_second_max;
    assert_eq!((shipped("x-lvc"), shipped("topic")), (2, LOG_LINES_MAX), "core types are under no ceiling");
}

#[test]
fn a_limit_above_its_virtual_hosts_ceiling_is_refused_with_both_values() {
    let mut rules = PolicyRules::default();
    let there = rules.vhosts.entry(name("tenant-a")).or_default();
    there.ceilings = limits([(Limit::Memory, 128)]);
    let too_much = PluginRules { limits: limits([(Limit::Memory, 256)]), ..PluginRules::default() };
    there.plugins.insert("rate-limit".into(), too_much);
    let error = Policies::new(rules).unwrap_err().to_string();
    for said in ["'rate-limit'", "'tenant-a'", "memory-mib = 256", "memory-mib = 128"] {
        assert!(error.contains(said), "{said} is not in: {error}");
    }
}

#[test]
fn values_out_of_range_and_contradictions_are_refused() {
    let with = |all: &[(Limit, u64)], ceilings: &[(Limit, u64)]| {
        let mut rules = PolicyRules::default();
        let said = PluginRules { limits: all.iter().copied().collect(), ..PluginRules::default() };
        rules.plugins.insert("p".into(), said);
        rules.vhosts.entry(name("v")).or_default().ceilings = ceilings.iter().copied().collect();
        Policies::new(rules).unwrap_err()
    };
    let error = with(&[(Limit::Memory, 0)], &[]);
    assert_eq!(error.to_string(), "plugin 'p': memory-mib = 0: it is from 1 to 4096");
    let error = with(&[], &[(Limit::CpuPerCall, 5_000)]);
    assert_eq!(error.to_string(), "ceilings of vhost 'v': cpu-per-call-ms = 5000: it is from 1 to 1000");
    let error = with(&[(Limit::CpuPerItem, 9_999), (Limit::CpuPerCall, 9)], &[]);
    assert!(matches!(error, PolicyError::Contradiction { vhost: None, .. }), "{error}");
    // Only with the ceiling do they contradict each other.
    let error = with(&[(Limit::AnswerIds, 1_000_000)], &[(Limit::Memory, 1)]).to_string();
    assert!(error.contains("'p' in vhost 'v'") && error.contains("memory-mib = 1"), "{error}");
}

#[test]
fn the_allow_list_speaks_of_global_plugins_alone() {
    let mut rules = PolicyRules::default();
    rules.vhosts.entry(name("a")).or_default().allow = Some(["p".to_owned()].into());
    let policies = Policies::new(rules).unwrap();
    let allowed = |scope, vhost, plugin| policies.of(&scope, Some(&name(vhost)), plugin).allowed;
    assert!(allowed(Scope::Global, "a", "p") && !allowed(Scope::Global, "a", "q"));
    assert!(!allowed(Scope::Shipped, "a", "x-delayed-message"));
    assert!(allowed(Scope::Shipped, "a", "topic"), "the core types are everywhere");
    assert!(!allowed(Scope::Global, "a", "topic"), "a file is no core type whatever its name");
    assert!(allowed(Scope::Vhost(name("a")), "a", "q"), "its own");
    assert!(allowed(Scope::Global, "b", "q"), "nothing is said of it");
}

#[test]
fn switches_are_counted_and_taken_back_one_by_one() {
    let mut rules = PolicyRules::default();
    rules.plugins.insert("off".into(), PluginRules { enabled: Some(false), ..PluginRules::default() });
    let policies = Policies::new(rules).unwrap();
    let enabled = |vhost: &str, plugin: &str| policies.of(&Scope::Global, Some(&name(vhost)), plugin).enabled;
    assert!(!enabled("a", "off") && enabled("a", "on"));
    let one = Switch::PluginInVhost { plugin: "on".into(), vhost: name("a") };
    assert!(policies.disable(&one) && !policies.disable(&one));
    assert_eq!(policies.generation(), 1);
    assert!(!enabled("a", "on") && enabled("b", "on"));
    policies.disable(&Switch::All);
    assert!(!enabled("b", "on"));
    assert!(policies.of(&Scope::Shipped, Some(&name("b")), "direct").enabled, "a core type");
    assert!(policies.enable(&Switch::All));
    assert!(!enabled("a", "on") && enabled("b", "on"), "the first switch is still off");
    assert!(policies.enable(&one) && policies.enable(&Switch::Plugin("off".into())));
    assert!(enabled("a", "on") && enabled("a", "off") && policies.disabled().is_empty());
    assert_eq!(policies.generation(), 5);
}

#[test]
fn a_plugin_that_is_loaded_must_fit() {
    let mut rules = PolicyRules::default();
    rules.vhosts.entry(name("a")).or_default().ceilings = limits([(Limit::Memory, 8)]);
    let policies = Policies::new(rules).unwrap();
    let check = |scope: &Scope, plugin, mib: u64| {
        policies.check_load(scope, plugin, Attachment::ExchangeType, mib << 20).map_err(|e| e.to_string())
    };
    let error = check(&Scope::Vhost(name("a")), "p", 9).unwrap_err();
    assert!(error.contains("'p' in vhost 'a'") && error.contains("9 MiB"), "{error}");
    assert!(error.contains("memory-mib = 8"), "{error}");
    assert!(check(&Scope::Global, "p", 9).is_ok(), "one virtual host too small for it is no reason");
    assert!(check(&Scope::Global, "p", 65).unwrap_err().contains("memory-mib = 64"));
}

#[test]
fn what_becomes_of_messages_is_checked_from_the_start() {
    let with = |plugin: &str, on_failure: FailurePolicy, vhost: Option<&'static str>| {
        let mut rules = PolicyRules::default();
        let said = PluginRules { on_failure: Some(on_failure), ..PluginRules::default() };
        let plugins = match vhost {
            Some(vhost) => &mut rules.vhosts.entry(name(vhost)).or_default().plugins,
            None => &mut rules.plugins,
        };
        plugins.insert(plugin.into(), said);
        Policies::new(rules).map(drop).map_err(|error| error.to_string())
    };
    let fallback = |type_name| FailurePolicy::Fallback(name(type_name));
    for core in ["direct", "fanout", "topic", "headers"] {
        assert_eq!(with("p", fallback(core), None), Ok(()));
    }
    let error = with("p", fallback("x-other"), Some("a")).unwrap_err();
    for said in ["'p' in vhost 'a'", "'x-other' cannot stand in", "direct, fanout, topic, headers"] {
        assert!(error.contains(said), "{said} is not in: {error}");
    }
    assert!(with("topic", fallback("topic"), None).is_err(), "itself");
    for (policy, said) in [
        (FailurePolicy::Bypass, "on-failure = bypass makes no sense for an exchange type"),
        (FailurePolicy::DeadLetter, "With unroutable it goes to the alternate exchange"),
    ] {
        let error = with("p", policy, None).unwrap_err();
        assert!(error.contains(said), "{said} is not in: {error}");
    }
}

#[test]
fn totals_are_a_virtual_hosts_own_and_no_instance_may_have_more() {
    let mut rules = PolicyRules { remembered_mib: Some(5), ..PolicyRules::default() };
    let there = rules.vhosts.entry(name("a")).or_default();
    there.totals = TotalRules { memory_mib: Some(32), remembered_mib: Some(3) };
    let policies = Policies::new(rules.clone()).unwrap();
    let totals = Totals { memory_bytes_max: 32 << 20, remembered_bytes_max: 3 << 20 };
    assert_eq!((policies.totals(&name("a")), policies.totals(&name("b"))), (totals, Totals::default()));
    assert_eq!(
        (policies.remembered_bytes_max(), Policies::default().remembered_bytes_max()),
        (5 << 20, REMEMBERED_BYTES_MAX)
    );

    let own = Scope::Vhost(name("a"));
    policies.check_together(&own, "p", 16 << 20, 2).unwrap();
    let error = policies.check_together(&own, "p", 16 << 20, 3).unwrap_err().to_string();
    for said in ["'p' in vhost 'a'", "3 instances of 16 MiB", "memory-mib = 32"] {
        assert!(error.contains(said), "{said} is not in: {error}");
    }
    policies.check_together(&Scope::Global, "p", 16 << 20, 3).unwrap();

    let with = |change: &dyn Fn(&mut PolicyRules)| {
        let mut rules = rules.clone();
        change(&mut rules);
        Policies::new(rules).unwrap_err().to_string()
    };
    let limit = limits([(Limit::Memory, 33)]);
    let said = PluginRules { limits: limit.clone(), ..PluginRules::default() };
    let error = with(&|rules| {
        rules.vhosts.get_mut(&name("a")).unwrap().plugins.insert("p".into(), said.clone());
    });
    assert!(error.contains("'p' in vhost 'a'") && error.contains("memory-mib = 33"), "{error}");
    let error = with(&|rules| rules.vhosts.get_mut(&name("a")).unwrap().ceilings = limit.clone());
    assert!(error.contains("ceilings of vhost 'a'") && error.contains("memory-mib = 32"), "{error}");
    let error = with(&|rules| rules.vhosts.get_mut(&name("a")).unwrap().totals.memory_mib = Some(0));
    assert_eq!(error, "totals of vhost 'a': memory-mib = 0: it is from 1 to 1000000");
    let error = with(&|rules| rules.remembered_mib = Some(u64::MAX));
    assert!(error.starts_with("totals: remembered-mib"), "{error}");
}
