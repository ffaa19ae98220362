//! The connections that there are, by whom and where: to count them against limits, and to end those of a user or a
//! virtual host that is gone.

use crate::{
    connection::ConnectionWake,
    tls::Secured,
    traffic::{Churn, ConnectionTraffic, Totals},
};
use leveret_broker::traffic::{ChannelCounts, ChannelTraffic};
use leveret_model::{Name, Refusal, Table};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// All open connections.
#[derive(Default)]
pub struct Live(Mutex<Inside>, Condvar, Churn);

#[derive(Default)]
struct Inside {
    connections: HashMap<u64, Entry>,
    users: HashMap<Name, Arc<OfUser>>,
    /// How many connections a virtual host has.
    vhosts: HashMap<Name, u64>,
    /// What was counted of what ended, by protocol.
    ended: BTreeMap<&'static str, Totals>,
    /// The same of each virtual host.
    ended_in: HashMap<Name, ChannelCounts>,
}

struct Entry {
    about: Arc<About>,
    wake: Arc<ConnectionWake>,
}

/// What is told of a connection.
pub struct About {
    /// Its number.
    pub id: u64,
    /// From where to where, as RabbitMQ names connections.
    pub name: String,
    /// What it speaks, as RabbitMQ names it.
    pub protocol: &'static str,
    /// As whom.
    pub user: Name,
    /// In which virtual host.
    pub vhost: Name,
    /// The client's end.
    pub peer: SocketAddr,
    /// The broker's end.
    pub local: SocketAddr,
    /// Whether with TLS.
    pub with_tls: bool,
    /// What that came to.
    pub tls: Option<Arc<Secured>>,
    /// How it logged in.
    pub mechanism: String,
    /// What the client said of itself.
    pub client: Table,
    /// Since when, in milliseconds since 1970.
    pub connected_ms: u64,
    /// What was negotiated: how many channels, the longest frame in bytes, the heartbeat in seconds.
    pub channel_max: u16,
    #[allow(missing_docs, reason = "see `channel_max`")]
    pub frame_bytes_max: u32,
    #[allow(missing_docs, reason = "see `channel_max`")]
    pub heartbeat_seconds: u16,
    /// The open channels, and what is counted of them.
    pub channels: Mutex<BTreeMap<u16, Arc<ChannelTraffic>>>,
    /// What is counted of it beside that.
    pub traffic: ConnectionTraffic,
    /// It may not publish for now.
    pub is_blocked: AtomicBool,
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
    about: Arc<About>,
    of_user: Arc<OfUser>,
}

impl Live {
    /// Counts a connection, unless there are as many as there may be.
    ///
    /// # Errors
    /// [`Refusal::VhostConnections`], [`Refusal::UserConnections`].
    pub fn enter(
        self: &Arc<Self>,
        about: About,
        most: Most,
        wake: &Arc<ConnectionWake>,
    ) -> Result<Place, Refusal> {
        let (user, vhost) = (&about.user, &about.vhost);
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
        self.2.connections_opened.add_shared(1);
        let about = Arc::new(about);
        inside.connections.insert(about.id, Entry { about: about.clone(), wake: wake.clone() });
        Ok(Place { live: self.clone(), about, of_user })
    }

    /// All of them, in no order.
    pub fn list(&self) -> Vec<Arc<About>> {
        self.0.lock().connections.values().map(|entry| entry.about.clone()).collect()
    }

    /// What came and went.
    pub fn churn(&self) -> &Churn {
        &self.2
    }

    /// The numbers of all connections there are and were, by what they speak.
    pub fn totals(&self) -> BTreeMap<&'static str, Totals> {
        let inside = self.0.lock();
        let mut all = inside.ended.clone();
        for entry in inside.connections.values() {
            let totals = all.entry(entry.about.protocol).or_default();
            totals.sizes += entry.about.traffic.sizes();
            for traffic in entry.about.channels.lock().values() {
                let counts = traffic.read();
                totals.publishers += u64::from(counts.publish > 0);
                totals.counts += counts;
            }
        }
        all
    }

    /// The numbers of channels in each virtual host, of those that ended too.
    pub fn counts_by_vhost(&self) -> HashMap<Name, ChannelCounts> {
        let inside = self.0.lock();
        let mut counts = inside.ended_in.clone();
        for entry in inside.connections.values() {
            let of_vhost = counts.entry(entry.about.vhost.clone()).or_default();
            entry.about.channels.lock().values().for_each(|traffic| *of_vhost += traffic.read());
        }
        counts
    }

    /// A virtual host is gone: what was counted in it stays in the totals alone.
    pub fn forget_vhost(&self, vhost: &Name) {
        self.0.lock().ended_in.remove(vhost);
    }

    /// Has one end, for that reason.
    pub fn close_one(&self, id: u64, why: &str) {
        self.close(|entry| entry.about.id == id, why, false);
    }

    /// Has all connections of a user end.
    pub fn close_user(&self, user: &Name) {
        self.close(|entry| entry.about.user == *user, &format!("user '{user}' is deleted"), false);
    }

    /// Has all connections to a virtual host end.
    pub fn close_vhost(&self, vhost: &Name) {
        self.close(|entry| entry.about.vhost == *vhost, &format!("vhost '{vhost}' is down"), true);
    }

    fn close(&self, is_it: impl Fn(&Entry) -> bool, why: &str, with_queues: bool) {
        let inside = self.0.lock();
        inside
            .connections
            .values()
            .filter(|entry| is_it(entry))
            .for_each(|entry| entry.wake.force_close(why, with_queues));
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

impl Inside {
    /// Keeps what was counted of a channel that ends.
    fn retire(&mut self, about: &About, channel: &ChannelTraffic) {
        let counts = channel.read();
        self.ended.entry(about.protocol).or_default().counts += counts;
        *self.ended_in.entry(about.vhost.clone()).or_default() += counts;
    }
}

impl Place {
    /// Counts a channel more; false if the user has as many as it may have.
    pub fn open_channel(&mut self, number: u16, most: Option<u64>) -> bool {
        if self.about.channels.lock().insert(number, Arc::default()).is_some() {
            return true;
        }
        self.live.2.channels_opened.add_shared(1);
        let before = self.of_user.channels.fetch_add(1, Ordering::Relaxed);
        most.is_none_or(|most| before < most)
    }

    /// Counts a channel less.
    pub fn close_channel(&mut self, number: u16) {
        // Nobody sees it in both places, or in none.
        let mut inside = self.live.0.lock();
        let Some(channel) = self.about.channels.lock().remove(&number) else { return };
        inside.retire(&self.about, &channel);
        drop(inside);
        self.live.2.channels_closed.add_shared(1);
        self.of_user.channels.fetch_sub(1, Ordering::Relaxed);
    }

    /// From now on that is counted of a channel.
    pub fn count_channel(&self, number: u16, traffic: Arc<ChannelTraffic>) {
        if let Some(place) = self.about.channels.lock().get_mut(&number) {
            *place = traffic;
        }
    }

    /// What is told of it.
    pub fn about(&self) -> &About {
        &self.about
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let channels = self.about.channels.lock().len() as u64;
        self.of_user.channels.fetch_sub(channels, Ordering::Relaxed);
        let mut inside = self.live.0.lock();
        if inside.connections.remove(&self.about.id).is_none() {
            return;
        }
        let Churn { connections_closed, channels_closed, .. } = &self.live.2;
        connections_closed.add_shared(1);
        channels_closed.add_shared(channels);
        inside.ended.entry(self.about.protocol).or_default().sizes += self.about.traffic.sizes();
        for channel in self.about.channels.lock().values() {
            inside.retire(&self.about, channel);
        }
        let About { user, vhost, .. } = &*self.about;
        let left = self.of_user.connections.load(Ordering::Relaxed).saturating_sub(1);
        self.of_user.connections.store(left, Ordering::Relaxed);
        if left == 0 {
            inside.users.remove(user);
        }
        if let Some(count) = inside.vhosts.get_mut(vhost) {
            *count -= 1;
            if *count == 0 {
                inside.vhosts.remove(vhost);
                self.live.1.notify_all();
            }
        }
    }
}
