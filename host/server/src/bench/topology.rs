//! What the load runs through: an exchange, queues, bindings, and their names.

use super::{Plan, link::Link};
use leveret_amqp091::Method;
use leveret_model::{Name, Table, Value};

/// Names of this run; they carry the process id, so that two runs do not meet.
pub(super) struct Names {
    /// Empty for the default exchange.
    pub(super) exchange: String,
    /// Queues in order.
    pub(super) queues: Vec<String>,
    /// Routing keys in order.
    pub(super) keys: Vec<String>,
}

impl Names {
    pub(super) fn new(plan: &Plan) -> Self {
        let run = std::process::id();
        let queues: Vec<String> = (0..plan.queues).map(|index| format!("bench.{run}.q{index}")).collect();
        let keys = match plan.exchange_type {
            // The default exchange knows queue names only.
            None => queues.clone(),
            Some(_) => (0..plan.keys).map(|index| format!("bench.key{index}.end")).collect(),
        };
        let exchange = if plan.exchange_type.is_some() { format!("bench.{run}.x") } else { String::new() };
        Self { exchange, queues, keys }
    }
}

/// Declares exchange, queues and bindings.
pub(super) fn declare(plan: &Plan, names: &Names) -> anyhow::Result<()> {
    let mut link = Link::open(plan)?;
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
        link.call(Method::QueueDeclare {
            queue: queue.as_bytes(),
            passive: false,
            durable: plan.persistent,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: queue_arguments.clone(),
        })?;
    }
    if plan.exchange_type.is_some() {
        for (index, key) in names.keys.iter().enumerate() {
            let last = if plan.fan_out { names.queues.len() } else { 1 };
            for queue in names.queues.iter().cycle().skip(index % names.queues.len()).take(last) {
                bind(&mut link, names, queue, key)?;
            }
        }
        for index in 0..plan.idle_bindings {
            bind(&mut link, names, &names.queues[0], &format!("idle{index}.*.nothing"))?;
        }
    }
    link.close()
}

fn bind(link: &mut Link, names: &Names, queue: &str, key: &str) -> anyhow::Result<()> {
    link.call(Method::QueueBind {
        queue: queue.as_bytes(),
        exchange: names.exchange.as_bytes(),
        routing_key: key.as_bytes(),
        nowait: false,
        arguments: Table::new(),
    })
    .map(drop)
}

/// Removes what [`declare`] made.
pub(super) fn remove(plan: &Plan, names: &Names) -> anyhow::Result<()> {
    let mut link = Link::open(plan)?;
    if plan.exchange_type.is_some() {
        let exchange = names.exchange.as_bytes();
        link.call(Method::ExchangeDelete { exchange, if_unused: false, nowait: false })?;
    }
    for queue in &names.queues {
        link.call(Method::QueueDelete {
            queue: queue.as_bytes(),
            if_unused: false,
            if_empty: false,
            nowait: false,
        })?;
    }
    link.close()
}
