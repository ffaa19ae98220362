//! Class connection and class channel: log-in, virtual host, channels.

use super::{Channel, Connection, Ends, Open, PROTOCOL};
use crate::{
    connection::LoginCheck,
    live::{About, Most},
    traffic::ConnectionTraffic,
};
use leveret_access::{Claim, login::Outcome};
use leveret_amqp091::{Login, Mechanism, Method, channels::ByChannel, form::FORM};
use leveret_broker::{Client, Publisher, port::Router};
use leveret_model::{Name, PublisherIdentity, Refusal};
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

/// No class and no method, as close methods name them.
const NO_METHOD: (u16, u16) = (0, 0);

impl Connection {
    /// connection.start-ok (section 1.4.2.2), and secure-ok once a mechanism needs it.
    ///
    /// A wrong password is 403 for clients that understand it, else the socket is closed.
    pub(super) fn on_login(&mut self, login: &Login<'_>) {
        let claim = match login.mechanism {
            Mechanism::Plain | Mechanism::AmqPlain => {
                Claim::Password { user: login.user, password: login.password }
            }
            Mechanism::Anonymous => Claim::Anonymous,
            // Nobody's name is empty.
            Mechanism::External => Claim::Proved { user: self.proved.as_deref().unwrap_or_default() },
        };
        let user = match login.mechanism {
            Mechanism::Plain | Mechanism::AmqPlain => String::from_utf8_lossy(login.user).into_owned(),
            Mechanism::External => {
                String::from_utf8_lossy(self.proved.as_deref().unwrap_or_default()).into_owned()
            }
            Mechanism::Anonymous => Mechanism::Anonymous.name().to_owned(),
        };
        let check = LoginCheck::new(user.as_bytes(), &self.wake);
        let told = check.clone();
        match self.shared.access.authenticate(claim, self.peer, move |outcome| told.tell(outcome)) {
            Some(outcome) => self.logged_in(check.user(), outcome),
            None => self.login = Some(check),
        }
    }

    /// Goes on with a log-in whose password was checked.
    pub(super) fn finish_login(&mut self) {
        let Some(outcome) = self.login.as_ref().and_then(|check| check.take()) else { return };
        if let Some(check) = self.login.take() {
            self.logged_in(check.user(), outcome);
        }
    }

    fn logged_in(&mut self, user: &str, outcome: Outcome) {
        match outcome {
            Ok(identity) => {
                self.shared.live.churn().logins_succeeded.add_shared(1);
                self.identity = Some(identity);
                self.session.authenticated();
            }
            Err(why) => {
                self.shared.live.churn().logins_failed.add_shared(1);
                tracing::warn!("log-in of '{user}' from {} refused: {why}", self.peer);
                self.session.login_refused();
            }
        }
    }

    /// connection.open (section 1.4.2.7). 530 for a virtual host that is not there, or not for this user.
    pub(super) fn on_open(&mut self, vhost: &Name) {
        let Some(identity) = self.identity.clone() else { return };
        let Some(named) = self.shared.vhosts.get(vhost) else {
            self.session.open_refused(&Refusal::VhostNotFound { vhost: vhost.clone() });
            return;
        };
        let mut rights = identity.rights(&self.shared.access, vhost);
        let user = identity.name().clone();
        if !rights.may_enter() {
            tracing::warn!("{}: user '{user}' may not enter vhost '{vhost}'", self.peer);
            self.session.open_refused(&Refusal::VhostDenied { vhost: vhost.clone(), user });
            return;
        }
        let most = Most {
            of_user: self.shared.limits_of(self.identity.as_ref()).connections_max,
            of_vhost: named.limits().connections_max,
        };
        let about = self.about((&user, vhost));
        let place = match self.shared.live.enter(about, most, &self.wake) {
            Ok(place) => place,
            Err(refusal) => {
                tracing::warn!("{}: {refusal}", self.peer);
                return self.session.open_refused(&refusal);
            }
        };
        // Deleted since it was looked up: whoever deletes it looks for connections after it is gone.
        if self.shared.vhosts.get(vhost).is_none() {
            self.session.open_refused(&Refusal::VhostNotFound { vhost: vhost.clone() });
            return;
        }
        let mut client = Client::new(named.vhost.clone(), self.id, self.wake.clone());
        client.set_consumer_timeout_ms(self.shared.consumer_timeout_ms);
        self.open = Some(Open {
            client,
            vhost: named.vhost,
            publisher: Publisher::default(),
            identity: PublisherIdentity {
                user: user.clone(),
                connection: place.about().name.clone(),
                protocol: FORM.protocol(),
            },
            rights,
            place,
            channels: ByChannel::default(),
        });
        self.session.opened();
        let client = self.session.client();
        tracing::debug!(
            "connection {} opened: user {user}, vhost {vhost}, client {}",
            self.id.0,
            client.product
        );
    }

    /// What is told of it.
    fn about(&self, (user, vhost): (&Name, &Name)) -> About {
        let Ends { peer, local, with_tls, ref tls } = self.ends;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        About {
            id: self.id.0,
            name: format!("{peer} -> {local}"),
            protocol: PROTOCOL,
            user: user.clone(),
            vhost: vhost.clone(),
            peer,
            local,
            with_tls,
            tls: tls.clone(),
            mechanism: self.session.mechanism().to_owned(),
            client: self.session.client().all.clone(),
            connected_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            channel_max: self.session.channel_max(),
            frame_bytes_max: self.session.frame_bytes_max(),
            heartbeat_seconds: self.session.heartbeat_seconds(),
            channels: Mutex::default(),
            traffic: ConnectionTraffic::default(),
            is_blocked: AtomicBool::new(false),
        }
    }

    /// channel.open (section 1.5.2.1). 530 if the user has as many as it may have.
    pub(super) fn on_channel_opened(&mut self, number: u16) {
        let most = self.shared.limits_of(self.identity.as_ref()).channels_max;
        let Some(open) = &mut self.open else { return };
        if !open.place.open_channel(number, most) {
            let (user, limit) = (open.rights.user_name().clone(), most.unwrap_or_default());
            return self.session.refuse(number, &Refusal::UserChannels { user, limit }, NO_METHOD);
        }
        open.client.open_channel(number);
        if let Some(traffic) = open.client.traffic(number) {
            open.place.count_channel(number, traffic.clone());
            open.channels.insert(number, Channel::new(self.wake.clone(), traffic));
        }
        self.session.channel_opened(number);
    }

    /// channel.close (section 1.5.2.5), by either side.
    pub(super) fn on_channel_closed(&mut self, number: u16, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        if let Some(channel) = open.channels.remove(number) {
            open.place.close_channel(number);
            self.confirms.forget(number);
            channel.forget(router);
        }
        self.held.drop_waiting(number);
        self.cancelled.retain(|(channel, _)| *channel != number);
        open.client.close_channel(number, router);
    }

    /// Tells the client of consumers that ended because their queue is gone, if it wants to know. Who deleted the
    /// queue is answered first: some clients take the notice for the end, and close the channel.
    pub(super) fn tell_cancelled(&mut self) {
        let Some(open) = &mut self.open else { return };
        let mut cancelled = std::mem::take(&mut self.cancelled);
        cancelled.extend(open.client.take_cancelled());
        for (channel, tag) in cancelled {
            if self.held.waits(channel) {
                self.cancelled.push((channel, tag));
            } else if self.session.client().consumer_cancel_notify {
                self.session.reply(channel, Method::BasicCancel { consumer_tag: &tag, nowait: true });
            }
        }
    }

    /// Tells the client, if it wants to know, that all its consumers end, because all queues go.
    pub(super) fn cancel_all(&mut self) {
        let Some(open) = &self.open else { return };
        if self.session.client().consumer_cancel_notify {
            for (channel, tag) in open.client.consumers() {
                self.session.reply(channel, Method::BasicCancel { consumer_tag: &tag, nowait: true });
            }
        }
    }

    /// connection.blocked and connection.unblocked, when the memory limit is crossed.
    pub(super) fn tell_blocked(&mut self, why: Option<&'static str>) {
        if why.is_some() == self.blocked || self.open.is_none() {
            return;
        }
        self.blocked = why.is_some();
        if let Some(open) = &self.open {
            open.place.about().is_blocked.store(self.blocked, Ordering::Relaxed);
        }
        if self.session.client().connection_blocked {
            let method = match why {
                Some(reason) => Method::ConnectionBlocked { reason: reason.as_bytes() },
                None => Method::ConnectionUnblocked {},
            };
            self.session.reply(0, method);
        }
    }
}
