//! When messages count as safe, by their queues.

use leveret_broker::store::Durability;
use leveret_model::Name;
use leveret_plugin::attachment::Pattern;

/// What was chosen for a virtual host. Without a choice everything counts once it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostDurability {
    /// For what it consists of, and for queues that no rule names.
    pub usual: Durability,
    /// For queues whose names match; the first that does counts.
    pub rules: Vec<(Pattern, Durability)>,
}

impl VhostDurability {
    /// What counts for a queue.
    #[must_use]
    pub fn of(&self, queue: &Name) -> Durability {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches(queue));
        rule.map_or(self.usual, |(_, durability)| *durability)
    }
}
