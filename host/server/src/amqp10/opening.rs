//! Open (section 2.7.1) and sessions (section 2.5): the virtual host, limits, what is told of the client.

use super::{Connection, Open, PROTOCOL, Session, management::Presence};
use crate::{
    live::{About, Most},
    traffic::ConnectionTraffic,
};
use leveret_amqp10::{
    Condition, Value,
    composite::Fields,
    form::{FORM, model_value},
    performatives,
    refusal::condition,
};
use leveret_broker::{Client, Publisher, port::Router};
use leveret_model::{Name, PublisherIdentity, Refusal, Table};
use litemap::LiteMap;
use parking_lot::Mutex;
use std::{sync::atomic::AtomicBool, time::SystemTime};

/// What `hostname` begins with where it names a virtual host, as in RabbitMQ.
const VHOST_PREFIX: &str = "vhost:";
/// The virtual host of those that name none.
const VHOST_DEFAULT: &str = "/";

impl Connection {
    /// Open. not-found for a virtual host that is not there, unauthorized-access for one that is not for this user;
    /// resource-limit-exceeded.
    pub(super) fn on_open(&mut self, open: &performatives::Open<'_>) {
        match self.enter(open) {
            Ok(open) => {
                self.open = Some(open);
                self.protocol.opened();
            }
            Err(refusal) => {
                tracing::warn!("{}: {refusal}", self.peer);
                self.protocol.open_refused(condition(&refusal), &refusal.to_string());
            }
        }
    }

    fn enter(&mut self, asked: &performatives::Open<'_>) -> Result<Open, Refusal> {
        let name = asked.hostname.and_then(|host| host.strip_prefix(VHOST_PREFIX)).unwrap_or(VHOST_DEFAULT);
        let not_found = || Refusal::VhostNotFound { vhost: Name::cut(name.as_bytes()) };
        let vhost = Name::new(name.as_bytes()).map_err(|_| not_found())?;
        let identity = self.identity.clone().ok_or_else(not_found)?;
        let named = self.shared.vhosts.get(&vhost).ok_or_else(not_found)?;
        let mut rights = identity.rights(&self.shared.access, &vhost);
        let user = identity.name().clone();
        if !rights.may_enter() {
            return Err(Refusal::VhostDenied { vhost, user });
        }
        let most = Most {
            of_user: self.shared.limits_of(self.identity.as_ref()).connections_max,
            of_vhost: named.limits().connections_max,
        };
        let about = self.about((&user, &vhost), asked);
        let place = self.shared.live.enter(about, most, &self.wake)?;
        // Deleted since it was looked up: whoever deletes it looks for connections after it is gone.
        if self.shared.vhosts.get(&vhost).is_none() {
            return Err(not_found());
        }
        let mut client = Client::new(named.vhost.clone(), self.id, self.wake.clone());
        client.set_consumer_timeout_ms(self.shared.consumer_timeout_ms);
        tracing::debug!(
            "connection {} opened: user {user}, vhost {vhost}, container {}",
            self.id.0,
            asked.container_id
        );
        Ok(Open {
            presence: Presence::default(),
            client,
            vhost: named.vhost,
            publisher: Publisher::default(),
            identity: PublisherIdentity {
                user,
                connection: place.about().name.clone(),
                protocol: FORM.protocol(),
            },
            container: asked.container_id.into(),
            rights,
            place,
            sessions: LiteMap::new(),
        })
    }

    /// What is told of it.
    fn about(&self, (user, vhost): (&Name, &Name), asked: &performatives::Open<'_>) -> About {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let config = &self.shared.amqp10.usual;
        About {
            id: self.id.0,
            name: format!("{} -> {}", self.ends.peer, self.ends.local),
            protocol: PROTOCOL,
            user: user.clone(),
            vhost: vhost.clone(),
            peer: self.ends.peer,
            local: self.ends.local,
            with_tls: self.ends.with_tls,
            tls: self.ends.tls.clone(),
            mechanism: self.login.mechanism.to_owned(),
            client: properties_of(asked),
            connected_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            channel_max: asked.channel_max.min(config.channel_max),
            frame_bytes_max: asked.max_frame_size.min(config.frame_bytes_max),
            heartbeat_seconds: u16::try_from(asked.idle_time_out.unwrap_or(0) / 1000).unwrap_or(u16::MAX),
            channels: Mutex::default(),
            traffic: ConnectionTraffic::default(),
            is_blocked: AtomicBool::new(false),
        }
    }

    /// Begin. resource-limit-exceeded if the user has as many as it may have.
    pub(super) fn on_began(&mut self, channel: u16) {
        let most = self.shared.limits_of(self.identity.as_ref()).channels_max;
        let Some(open) = &mut self.open else { return };
        if !open.place.open_channel(channel, most) {
            let (user, limit) = (open.rights.user_name().clone(), most.unwrap_or_default());
            let text = Refusal::UserChannels { user, limit }.to_string();
            return self.protocol.end_session(channel, Condition::ResourceLimitExceeded, &text);
        }
        open.sessions.insert(channel, Session::default());
        open.client.open_channel(channel);
        if let Some(traffic) = open.client.traffic(channel) {
            open.place.count_channel(channel, traffic);
        }
    }

    /// End, by either side: consumers end, and what is not settled goes back to its queue.
    pub(super) fn on_ended(&mut self, channel: u16, router: &mut dyn Router) {
        self.outcomes.forget(channel);
        self.management.forget_session(channel);
        self.end_transactions_of_session(channel);
        self.publishing.forget(channel);
        self.suspend_all(Some(channel), router);
        self.arriving.forget_session(channel);
        self.departing.forget_session(channel);
        self.draining.retain(|(of, _)| *of != channel);
        self.leave_nodes(channel, router);
        // What waited for its window may have held up other sessions.
        self.deliveries_wait = true;
        let Some(open) = &mut self.open else { return };
        open.place.close_channel(channel);
        let session = open.sessions.remove(&channel);
        if let Some(session) = &session {
            session.sent.fail(&mut open.client, channel);
        }
        open.client.close_channel(channel, router);
        open.client.tell_store();
        for made in session.into_iter().flat_map(|session| session.made.into_values()) {
            self.delete_node(&made, router);
        }
    }
}

/// What a client says of itself, with its container as a property more.
fn properties_of(open: &performatives::Open<'_>) -> Table {
    let said = open.properties.unwrap_or(Fields::EMPTY);
    let fields = said.map().iter().filter_map(|(key, value)| {
        let Value::Symbol(key) = key else { return None };
        Some((Name::new(key.as_str().as_bytes()).ok()?, model_value(&value)))
    });
    let container = leveret_model::Value::Text(open.container_id.to_owned());
    [(Name::from_static("container_id"), container)].into_iter().chain(fields).collect()
}
