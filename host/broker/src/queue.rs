//! A queue.

use leveret_model::Name;

/// A declared queue.
#[derive(Debug)]
pub struct Queue {
    name: Name,
}

impl Queue {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}
