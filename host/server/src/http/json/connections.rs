//! Connections and channels.

use crate::tls::{Secured, Shown};
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// A connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionJson {
    /// From where to where.
    pub name: String,
    /// On which node.
    pub node: String,
    /// What its client calls it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_provided_name: Option<String>,
    /// Of AMQP 1.0: the client's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// As whom.
    pub user: String,
    /// In which virtual host.
    pub vhost: String,
    /// What it speaks.
    pub protocol: &'static str,
    /// `running`, or `blocked` while it may not publish.
    pub state: &'static str,
    /// Always `network`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The broker's end.
    pub host: IpAddr,
    #[allow(missing_docs, reason = "see `host`")]
    pub port: u16,
    /// The client's end.
    pub peer_host: IpAddr,
    #[allow(missing_docs, reason = "see `peer_host`")]
    pub peer_port: u16,
    /// Whether with TLS.
    pub ssl: bool,
    /// What TLS came to.
    #[serde(flatten)]
    pub tls: TlsJson,
    /// How it logged in.
    pub auth_mechanism: String,
    /// How many channels are open.
    pub channels: usize,
    /// How many there may be.
    pub channel_max: u16,
    /// The longest frame, in bytes.
    pub frame_max: u32,
    /// The heartbeat, in seconds.
    pub timeout: u16,
    /// Since when, in milliseconds since 1970.
    pub connected_at: u64,
    /// What the client said of itself.
    pub client_properties: Map<String, Value>,
    /// Bytes that came and went since it was opened, and how many a second.
    #[serde(flatten)]
    pub bytes: Map<String, Value>,
}

/// What TLS came to; null without, and where the client showed no certificate.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the fields are RabbitMQ's")]
pub struct TlsJson {
    pub ssl_protocol: Option<&'static str>,
    pub ssl_key_exchange: Option<&'static str>,
    pub ssl_cipher: Option<&'static str>,
    pub ssl_hash: Option<&'static str>,
    pub peer_cert_subject: Option<String>,
    pub peer_cert_issuer: Option<String>,
    pub peer_cert_validity: Option<String>,
}

impl From<&Secured> for TlsJson {
    fn from(tls: &Secured) -> Self {
        let word = |word: &'static str| Some(word).filter(|word| !word.is_empty());
        let of = |part: fn(&Shown) -> &String| tls.certificate.as_ref().map(|shown| part(shown).clone());
        Self {
            ssl_protocol: word(tls.protocol),
            ssl_key_exchange: word(tls.key_exchange),
            ssl_cipher: word(tls.cipher),
            ssl_hash: word(tls.hash),
            peer_cert_subject: of(|shown| &shown.subject),
            peer_cert_issuer: of(|shown| &shown.issuer),
            peer_cert_validity: of(|shown| &shown.validity),
        }
    }
}

/// A channel.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelJson {
    /// Its connection's name and its number.
    pub name: String,
    #[allow(missing_docs, reason = "see `name`")]
    pub number: u16,
    /// As whom.
    pub user: String,
    /// In which virtual host.
    pub vhost: String,
    /// Always `running`.
    pub state: &'static str,
    /// On which node.
    pub node: String,
    /// How many consumers it has.
    pub consumer_count: u64,
    /// What is published on it is confirmed.
    pub confirm: bool,
    /// What is published and settled on it waits for a commit.
    pub transactional: bool,
    /// How many messages a new consumer may hold unacknowledged; 0 is no limit.
    pub prefetch_count: u16,
    /// How many all its consumers together.
    pub global_prefetch_count: u16,
    /// What was handed out on it and is not settled.
    pub messages_unacknowledged: u64,
    /// What was published with confirms on and is not accepted yet.
    pub messages_unconfirmed: u64,
    /// Its connection.
    pub connection_details: ConnectionOfChannelJson,
    /// What was published and handed out, if anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Map<String, Value>>,
}

/// A consumer.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerJson {
    /// Its tag.
    pub consumer_tag: String,
    /// From what.
    pub queue: QueueOfConsumerJson,
    /// Where it is; nothing where that ends at this moment.
    pub channel_details: Option<ChannelOfConsumerJson>,
    /// It acknowledges what it is given.
    pub ack_required: bool,
    /// It admits no other.
    pub exclusive: bool,
    /// It is served.
    pub active: bool,
    /// `up`; of a queue with a single active consumer `single_active`, and of the others `waiting`.
    pub activity_status: &'static str,
    /// How many messages it may hold unacknowledged; 0 is no limit.
    pub prefetch_count: u16,
    /// How long a delivery may take, in milliseconds; null is for ever.
    pub consumer_timeout: Option<u64>,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// The queue of a consumer.
#[derive(Clone, Debug, Serialize)]
pub struct QueueOfConsumerJson {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
}

/// The channel of a consumer.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelOfConsumerJson {
    /// Its connection's name and its number.
    pub name: String,
    #[allow(missing_docs, reason = "see `name`")]
    pub number: u16,
    /// As whom.
    pub user: String,
    /// On which node.
    pub node: String,
    /// Its connection.
    pub connection_name: String,
    /// The client's end.
    pub peer_host: IpAddr,
    #[allow(missing_docs, reason = "see `peer_host`")]
    pub peer_port: u16,
}

/// The connection of a channel.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionOfChannelJson {
    /// Its name.
    pub name: String,
    /// The client's end.
    pub peer_host: IpAddr,
    #[allow(missing_docs, reason = "see `peer_host`")]
    pub peer_port: u16,
}
