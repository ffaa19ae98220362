//! One change of a plugin at a time, and as many plugins beside each other as there are.
//!
//! Whoever changes who serves for a plugin holds its change from the first look at what there is to the
//! swap, over replays and migrations, however long these take; nobody else's plugin waits for that. The locks
//! that all share ([`super::Registry`]'s files and slots) are held for the swap itself.

use crate::scope::Scope;
use hashbrown::HashSet;
use parking_lot::{Condvar, Mutex};
use std::path::Path;

/// The plugins that are changed now.
#[derive(Default)]
pub(super) struct Changing {
    plugins: Mutex<HashSet<(Scope, String)>>,
    ended: Condvar,
}

/// Somebody's change of a plugin; ends when it is dropped.
#[must_use]
pub(super) struct Change<'a> {
    of: &'a Changing,
    plugin: (Scope, String),
}

impl Changing {
    /// Begins a change when nobody else changes that plugin.
    pub(super) fn begin(&self, scope: &Scope, plugin: &str) -> Change<'_> {
        let plugin = (scope.clone(), String::from(plugin));
        let mut plugins = self.plugins.lock();
        self.ended.wait_while(&mut plugins, |plugins| plugins.contains(&plugin));
        plugins.insert(plugin.clone());
        Change { of: self, plugin }
    }

    /// The same, of the plugin that lies in a file.
    pub(super) fn begin_file(&self, scope: &Scope, path: &Path) -> Change<'_> {
        self.begin(scope, &super::plugin_of(path))
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.of.plugins.lock().remove(&self.plugin);
        self.of.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_plugin_changes_once_at_a_time_and_others_beside_it() {
        let (changing, ended) = (Changing::default(), AtomicBool::new(false));
        let first = changing.begin(&Scope::Global, "a");
        // Neither waits for the first.
        drop(changing.begin(&Scope::Global, "b"));
        drop(
            changing.begin_file(&Scope::Vhost(leveret_model::Name::from_static("v")), Path::new("x/a.wasm")),
        );
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _second = changing.begin_file(&Scope::Global, Path::new("x/a.wasm"));
                assert!(ended.load(Ordering::SeqCst));
            });
            ended.store(true, Ordering::SeqCst);
            drop(first);
        });
        assert!(changing.plugins.lock().is_empty());
    }
}
