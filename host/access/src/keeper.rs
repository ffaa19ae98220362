//! The port through which users outlive the process.

use crate::User;
use leveret_model::Name;

/// What changed.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A user is as this says from now on.
    User(&'a User),
    /// A user is gone.
    UserGone(&'a Name),
}

/// Is told once that what was handed over is safe, or, in words, why it will not be.
pub type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Where users are kept. Called under the lock for changes: does not wait.
pub trait Keeper: Send + Sync {
    /// Whether something would be taken now that is not only taken away.
    ///
    /// # Errors
    /// Why not, for people to read.
    fn admit(&self) -> Result<(), String>;

    /// Takes changes as one group; they count after those that were handed over before.
    fn keep(&self, changes: &[Change<'_>], done: Done);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Keeper for Nowhere {
    fn admit(&self) -> Result<(), String> {
        Ok(())
    }

    fn keep(&self, _changes: &[Change<'_>], done: Done) {
        done(Ok(()));
    }
}
