//! What a group of changes tells, for tests to compare.

use leveret_broker::store::{BindingSpec, Change, StateChange, Topology, TopologyChange};

/// The key of a value that is set, or what else the change is.
pub fn key_of(change: &Change) -> String {
    match &change.change {
        StateChange::Set { key, .. } => String::from_utf8(key.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

/// A change of topology in words.
pub fn text(change: TopologyChange<'_>) -> String {
    let binding = |spec: BindingSpec<'_>| {
        let to = if spec.to_queue { "queue" } else { "exchange" };
        format!("{} to {to} {} by {}", spec.source, spec.destination, spec.routing_key)
    };
    match change {
        TopologyChange::Declared(Topology::Exchange(kept)) => format!("+exchange {}", kept.spec.name),
        TopologyChange::Declared(Topology::Queue(_, spec)) => format!("+queue {}", spec.name),
        TopologyChange::Declared(Topology::Binding(spec)) => format!("+binding {}", binding(spec)),
        TopologyChange::Declared(Topology::Holds(_)) => String::from("+holds"),
        TopologyChange::ExchangeGone(name) => format!("-exchange {name}"),
        TopologyChange::Declared(Topology::Lane(_)) => String::from("+lane"),
        TopologyChange::LaneGone(_) => String::from("-lane"),
        TopologyChange::QueueGone(_, name) => format!("-queue {name}"),
        TopologyChange::Unbound(spec) => format!("-binding {}", binding(spec)),
    }
}
