//! Class connection and class channel: log-in, virtual host, channels.

use super::{Channel, Connection, Open, login_text};
use crate::users::{self, LoginOutcome};
use leveret_amqp091::{Login, Method, form::FORM};
use leveret_broker::{Client, Publisher, port::Router};
use leveret_model::{Name, PublisherIdentity, Refusal};

impl Connection {
    /// connection.start-ok (section 1.4.2.2), and secure-ok once a mechanism needs it.
    ///
    /// A wrong password is 403 for clients that understand it, else the socket is closed.
    pub(super) fn on_login(&mut self, login: &Login<'_>) {
        let outcome = users::log_in(login.user, login.password, self.peer);
        match outcome {
            LoginOutcome::Accepted => {
                self.user = Name::new(login.user).ok();
                self.session.authenticated();
            }
            LoginOutcome::Refused | LoginOutcome::LoopbackOnly => {
                let user = String::from_utf8_lossy(login.user);
                tracing::warn!("log-in of '{user}' from {} refused: {}", self.peer, login_text(outcome));
                self.session.login_refused();
            }
        }
    }

    /// connection.open (section 1.4.2.7). 530 for a virtual host that is not there.
    pub(super) fn on_open(&mut self, vhost: &Name) {
        let Some(found) = self.shared.vhosts.get(vhost) else {
            self.session.open_refused(&Refusal::VhostNotFound { vhost: vhost.clone() });
            return;
        };
        self.open = Some(Open {
            vhost: found.clone(),
            client: Client::new(found.clone(), self.id, self.wake.clone()),
            publisher: Publisher::default(),
            identity: PublisherIdentity {
                user: self.user.clone().unwrap_or_default(),
                connection: format!("{} #{}", self.peer, self.id.0),
                protocol: FORM.protocol(),
            },
            channels: Vec::new(),
        });
        self.session.opened();
        let client = self.session.client();
        tracing::debug!(
            "connection {} opened: user {}, vhost {vhost}, client {}",
            self.id.0,
            self.user.as_ref().map(Name::to_text).unwrap_or_default(),
            client.product
        );
    }

    /// channel.open (section 1.5.2.1).
    pub(super) fn on_channel_opened(&mut self, number: u16) {
        let Some(open) = &mut self.open else { return };
        let index = usize::from(number);
        if open.channels.len() <= index {
            open.channels.resize_with(index + 1, || None);
        }
        if let Some(place) = open.channels.get_mut(index) {
            *place = Some(Channel::new(self.wake.clone()));
        }
        open.client.open_channel(number);
    }

    /// channel.close (section 1.5.2.5), by either side.
    pub(super) fn on_channel_closed(&mut self, number: u16, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        if let Some(channel) = open.channels.get_mut(usize::from(number)).and_then(Option::take) {
            self.confirms.forget(number);
            channel.forget(router);
        }
        self.held.drop_waiting(number);
        open.client.close_channel(number, router);
    }

    /// Tells the client of consumers that ended because their queue is gone, if it wants to know.
    pub(super) fn tell_cancelled(&mut self) {
        let Some(open) = &mut self.open else { return };
        for (channel, tag) in open.client.take_cancelled() {
            if self.session.client().consumer_cancel_notify {
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
        if self.session.client().connection_blocked {
            let method = match why {
                Some(reason) => Method::ConnectionBlocked { reason: reason.as_bytes() },
                None => Method::ConnectionUnblocked {},
            };
            self.session.reply(0, method);
        }
    }
}
