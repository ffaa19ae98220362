//! The connections that there are, by whom and where: to count them against limits, and to end those of a user or a
//! virtual host that is gone.

use crate::connection::ConnectionWake;
use leveret_model::{Name, Refusal};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// All open connections.
#[derive(Default)]
pub struct Live(Mutex<Inside>, Condvar);

#[derive(Default)]
struct Inside {
    connections: HashMap<u64, Entry>,
    users: HashMap<Name, Arc<OfUser>>,
    /// How many connections a virtual host has.
    vhosts: HashMap<Name, u64>,
}

struct Entry {
    user: Name,
    vhost: Name,
    wake: Arc<ConnectionWake>,
}

#[derive(Default)]
struct OfUser {
    /// How many; counted under the lock.
    connections: AtomicU64,
    channels: AtomicU64,
}

/// How many connections there may be with one more; `None` is as many as like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    /// Of the user.
    pub of_user: Option<u64>,
    /// Of the virtual host.
    pub of_vhost: Option<u64>,
}

/// A connection that is counted, until it is dropped.
pub struct Place {
    live: Arc<Live>,
    id: u64,
    of_user: Arc<OfUser>,
    channels: u64,
}

impl Live {
    /// Counts a connection, unless there are as many as there may be.
    ///
    /// # Errors
    /// [`Refusal::VhostConnections`], [`Refusal::UserConnections`].
    pub fn enter(
        self: &Arc<Self>,
        id: u64,
        (user, vhost): (&Name, &Name),
        most: Most,
        wake: &Arc<ConnectionWake>,
    ) -> Result<Place, Refusal> {
        let mut inside = self.0.lock();
        let in_vhost = inside.vhosts.get(vhost).copied().unwrap_or(0);
        if let Some(limit) = most.of_vhost.filter(|limit| in_vhost >= *limit) {
            return Err(Refusal::VhostConnections { vhost: vhost.clone(), user: user.clone(), limit });
        }
        let of_user = inside.users.entry(user.clone()).or_default().clone();
        let its = of_user.connections.load(Ordering::Relaxed);
        if let Some(limit) = most.of_user.filter(|limit| its >= *limit) {
            return Err(Refusal::UserConnections { user: user.clone(), limit });
        }
        of_user.connections.store(its + 1, Ordering::Relaxed);
        inside.vhosts.insert(vhost.clone(), in_vhost + 1);
        let entry = Entry { user: user.clone(), vhost: vhost.clone(), wake: wake.clone() };
        inside.connections.insert(id, entry);
        Ok(Place { live: self.clone(), id, of_user, channels: 0 })
    }

    /// Has all connections of a user end.
    pub fn close_user(&self, user: &Name) {
        self.close(|entry| entry.user == *user, &format!("user '{user}' is deleted"));
    }

    /// Has all connections to a virtual host end.
    pub fn close_vhost(&self, vhost: &Name) {
        self.close(|entry| entry.vhost == *vhost, &format!("vhost '{vhost}' is down"));
    }

    fn close(&self, is_it: impl Fn(&Entry) -> bool, why: &str) {
        let inside = self.0.lock();
        inside
            .connections
            .values()
            .filter(|entry| is_it(entry))
            .for_each(|entry| entry.wake.force_close(why));
    }

    /// Waits until a virtual host has no connection; false if it has some after so long.
    pub fn wait_until_left(&self, vhost: &Name, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        let mut inside = self.0.lock();
        while inside.vhosts.contains_key(vhost) {
            if self.1.wait_until(&mut inside, until).timed_out() {
                return !inside.vhosts.contains_key(vhost);
            }
        }
        true
    }
}

impl Place {
    /// Counts a channel more; false if the user has as many as it may have.
    pub fn open_channel(&mut self, most: Option<u64>) -> bool {
        self.channels += 1;
        let before = self.of_user.channels.fetch_add(1, Ordering::Relaxed);
        most.is_none_or(|most| before < most)
    }

    /// Counts a channel less.
    pub fn close_channel(&mut self) {
        if self.channels > 0 {
            self.channels -= 1;
            self.of_user.channels.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of_user.channels.fetch_sub(self.channels, Ordering::Relaxed);
        let mut inside = self.live.0.lock();
        let Some(Entry { user, vhost, .. }) = inside.connections.remove(&self.id) else { return };
        let left = self.of_user.connections.load(Ordering::Relaxed).saturating_sub(1);
        self.of_user.connections.store(left, Ordering::Relaxed);
        if left == 0 {
            inside.users.remove(&user);
        }
        if let Some(count) = inside.vhosts.get_mut(&vhost) {
            *count -= 1;
            if *count == 0 {
                inside.vhosts.remove(&vhost);
                self.live.1.notify_all();
            }
        }
    }
}
