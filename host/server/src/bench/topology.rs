//! What the load runs through: an exchange, queues, bindings, and their names.

use super::{KeyOrder, Plan, amqp091::Link, wire::Patience};
use anyhow::{Context, bail};
use leveret_amqp091::Method;
use leveret_model::{Name, Table, Value};
use std::sync::OnceLock;

/// The header that a `headers` exchange looks at.
pub(super) const KEY_HEADER: &str = "key";

/// Names of this run; they begin with [`run_name`], so that two runs do not meet.
pub(super) struct Names {
    /// Empty for the default exchange.
    pub(super) exchange: String,
    /// Queues in order.
    pub(super) queues: Vec<String>,
    /// Queue and binding key of each binding.
    pub(super) bindings: Vec<(usize, String)>,
}

/// What the names of all that this process makes begin with. Two generators in two containers may have the same process
/// id, and meet on one broker: so there is chance in it too.
///
/// # Errors
/// If the system gives no random number.
pub(super) fn run_name() -> anyhow::Result<&'static str> {
    static NAME: OnceLock<String> = OnceLock::new();
    if let Some(name) = NAME.get() {
        return Ok(name);
    }
    let name = new_name()?;
    Ok(NAME.get_or_init(|| name))
}

fn new_name() -> anyhow::Result<String> {
    let random = getrandom::u32().context("a random number")?;
    Ok(format!("bench.{}.{random:08x}", std::process::id()))
}

impl Names {
    /// # Errors
    /// If the plan does not say what to bind.
    pub(super) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let run = run_name()?;
        let queues: Vec<String> = (0..plan.queues).map(|index| format!("{run}.q{index}")).collect();
        let exchange = if plan.exchange_type.is_some() { format!("{run}.x") } else { String::new() };
        Ok(Self { exchange, queues, bindings: bindings(plan)? })
    }

    /// The routing key number `number`, in that text.
    pub(super) fn put_key(&self, plan: &Plan, number: u64, text: &mut String) {
        text.clear();
        match plan.exchange_type {
            // The default exchange knows queue names only.
            None => text.push_str(&self.queues[(number % self.queues.len() as u64) as usize]),
            Some(_) => plan.key.put(number, text),
        }
    }
}

fn bindings(plan: &Plan) -> anyhow::Result<Vec<(usize, String)>> {
    if plan.exchange_type.is_none() {
        return Ok(Vec::new());
    }
    if plan.key_order == KeyOrder::New && plan.binding.is_none() {
        bail!("no key comes twice: say with --binding and --bindings what to bind for them");
    }
    let pattern = plan.binding.as_ref().unwrap_or(&plan.key);
    let mut bindings = Vec::new();
    for index in 0..plan.bindings.unwrap_or(plan.keys) {
        let key = pattern.text(index as u64);
        let last = if plan.fan_out { plan.queues } else { 1 };
        bindings.extend((0..last).map(|next| ((index + next) % plan.queues, key.clone())));
    }
    bindings.extend((0..plan.idle_bindings).map(|index| (0, format!("idle{index}.*.nothing"))));
    Ok(bindings)
}

/// What a message with that key carries as headers; none but for a `headers` exchange.
pub(super) fn message_headers(plan: &Plan, key: &str) -> Option<Table> {
    looks_at_headers(plan)
        .then(|| [(Name::from_static(KEY_HEADER), Value::Text(key.to_owned()))].into_iter().collect())
}

fn binding_arguments(plan: &Plan, key: &str) -> Table {
    let all = (Name::from_static("x-match"), Value::Text("all".to_owned()));
    let wanted = (Name::from_static(KEY_HEADER), Value::Text(key.to_owned()));
    if looks_at_headers(plan) { [all, wanted].into_iter().collect() } else { Table::new() }
}

/// Whether messages are told apart by a header.
pub(super) fn looks_at_headers(plan: &Plan) -> bool {
    plan.exchange_type.as_deref() == Some("headers")
}

/// Declares exchange, queues and bindings.
pub(super) fn declare(mut link: Link, plan: &Plan, names: &Names) -> anyhow::Result<()> {
    if let Some(type_name) = &plan.exchange_type {
        link.call(Method::ExchangeDeclare {
            exchange: names.exchange.as_bytes(),
            type_name: type_name.as_bytes(),
            passive: false,
            durable: plan.persistent,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: Table::new(),
        })?;
    }
    let queue_type = plan.queue_type.iter();
    let queue_arguments: Table =
        queue_type.map(|name| (Name::from_static("x-queue-type"), Value::Text(name.clone()))).collect();
    for queue in &names.queues {
        link.put(&Method::QueueDeclare {
            queue: queue.as_bytes(),
            passive: false,
            durable: plan.persistent,
            exclusive: false,
            auto_delete: false,
            nowait: true,
            arguments: queue_arguments.clone(),
        })?;
    }
    for (queue, key) in &names.bindings {
        link.put(&Method::QueueBind {
            queue: names.queues[*queue].as_bytes(),
            exchange: names.exchange.as_bytes(),
            routing_key: key.as_bytes(),
            nowait: true,
            arguments: binding_arguments(plan, key),
        })?;
    }
    link.wait_for_all()?;
    link.close()
}

/// Removes what [`declare`] made, or some of it.
pub(super) fn remove(plan: &Plan, names: &Names, patience: &Patience) -> anyhow::Result<()> {
    let mut link = Link::open(&plan.target, patience)?;
    if plan.exchange_type.is_some() {
        let exchange = names.exchange.as_bytes();
        link.call(Method::ExchangeDelete { exchange, if_unused: false, nowait: false })?;
    }
    for queue in &names.queues {
        link.put(&Method::QueueDelete {
            queue: queue.as_bytes(),
            if_unused: false,
            if_empty: false,
            nowait: true,
        })?;
    }
    link.wait_for_all()?;
    link.close()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::{AckMode, Protocol, Target};
    use std::time::Duration;

    pub(in crate::bench) fn plan(exchange_type: Option<&str>, queues: usize, consumers: usize) -> Plan {
        Plan {
            target: Target {
                addresses: vec![([127, 0, 0, 1], 5672).into()],
                protocol: Protocol::Amqp091,
                user: String::new(),
                password: String::new(),
                vhost: String::new(),
            },
            broker_process: None,
            publishers: 1,
            consumers,
            queues,
            body_bytes: 16,
            rate_per_second: None,
            persistent: false,
            queue_type: None,
            confirm_window: None,
            exchange_type: exchange_type.map(str::to_owned),
            keys: 6,
            key: "key{}".parse().unwrap(),
            key_order: KeyOrder::Turn,
            bindings: None,
            binding: None,
            idle_bindings: 0,
            fan_out: false,
            prefetch: 10,
            ack: AckMode::Auto,
            measure: Duration::ZERO,
            warm_up: Duration::ZERO,
            latency_file: None,
        }
    }

    #[test]
    fn runs_have_names_of_their_own() {
        let names = Names::new(&plan(Some("topic"), 2, 1)).unwrap();
        let of_process = format!("bench.{}.", std::process::id());
        let all: Vec<_> = names.queues.iter().chain([&names.exchange]).collect();
        assert!(all.iter().all(|name| name.starts_with(&of_process)), "{all:?}");
        assert!(all.iter().all(|name| name.starts_with(run_name().unwrap())), "{all:?}");
        // A process of the same number elsewhere has others.
        assert_ne!(new_name().unwrap(), new_name().unwrap());
    }
}
