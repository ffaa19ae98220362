//! Numbers by the names that RabbitMQ's API has for them, of everything that has some.

use super::{
    Api,
    rates::{Numbers, Of},
};
use crate::{
    live::About,
    traffic::{Churn, ConnectionTraffic},
};
use leveret_broker::{
    QueueCounts, Vhost,
    exchange::Exchange,
    queue::Queue,
    traffic::{ChannelCounts, HandedOut, VhostTraffic},
};
use serde_json::{Map, Value};

fn handed_out(counts: HandedOut<u64>) -> [(&'static str, u64); 8] {
    [
        ("deliver_get", counts.deliver_get()),
        ("deliver", counts.deliver),
        ("deliver_no_ack", counts.deliver_no_ack),
        ("get", counts.get),
        ("get_no_ack", counts.get_no_ack),
        ("get_empty", counts.get_empty),
        ("redeliver", counts.redeliver),
        ("ack", counts.ack),
    ]
}

fn of_messages(counts: QueueCounts) -> [(&'static str, u64); 3] {
    [
        ("messages", counts.ready + counts.unsettled),
        ("messages_ready", counts.ready),
        ("messages_unacknowledged", counts.unsettled),
    ]
}

fn of_channels(counts: ChannelCounts) -> Numbers {
    let mut numbers = vec![
        ("publish", counts.publish),
        ("confirm", counts.confirm),
        ("return_unroutable", counts.return_unroutable),
        ("drop_unroutable", counts.drop_unroutable),
    ];
    numbers.extend(handed_out(counts.handed_out()));
    numbers
}

/// How many of a queue's numbers are of messages in it; they come first, and are no message statistics.
const OF_MESSAGES: usize = 3;

fn of_queue(queue: &Queue, counts: QueueCounts) -> Numbers {
    let traffic = queue.traffic();
    let mut numbers = of_messages(counts).to_vec();
    numbers.push(("publish", traffic.publish.get()));
    numbers.extend(handed_out(traffic.handed_out.read()));
    numbers
}

fn of_exchange(vhost: &Vhost, exchange: &Exchange) -> Numbers {
    let traffic = vhost.traffic_of(exchange);
    vec![("publish_in", traffic.publish_in.get()), ("publish_out", traffic.publish_out.get())]
}

fn of_connection(traffic: &ConnectionTraffic) -> Numbers {
    vec![("recv_oct", traffic.received_bytes.get()), ("send_oct", traffic.sent_bytes.get())]
}

/// What came and went, with how often queues did in all virtual hosts.
pub(super) fn of_churn(churn: &Churn, vhosts: &[std::sync::Arc<Vhost>]) -> Numbers {
    let sum = |of: fn(&VhostTraffic) -> u64| vhosts.iter().map(|vhost| of(vhost.traffic())).sum();
    vec![
        ("connection_created", churn.connections_opened.get()),
        ("connection_closed", churn.connections_closed.get()),
        ("channel_created", churn.channels_opened.get()),
        ("channel_closed", churn.channels_closed.get()),
        ("queue_declared", sum(|traffic| traffic.queues_declared.get())),
        ("queue_created", sum(|traffic| traffic.queues_created.get())),
        ("queue_deleted", sum(|traffic| traffic.queues_deleted.get())),
    ]
}

/// Everything that has numbers, with them.
pub(super) fn all(api: &Api) -> impl Iterator<Item = (Of, Numbers)> {
    let vhosts = api.vhosts();
    let live = &api.shared.live;
    let mut messages = QueueCounts::default();
    let mut all = Vec::new();
    for vhost in &vhosts {
        for queue in vhost.queues() {
            let counts = queue.counts();
            messages.ready += counts.ready;
            messages.unsettled += counts.unsettled;
            all.push((Of::Queue(queue.id()), of_queue(&queue, counts)));
        }
        let exchanges = vhost.exchanges();
        all.extend(
            exchanges.iter().map(|exchange| (Of::Exchange(exchange.id), of_exchange(vhost, exchange))),
        );
    }
    for about in live.list() {
        all.push((Of::Connection(about.id), of_connection(&about.traffic)));
        for (number, traffic) in &*about.channels.lock() {
            all.push((Of::Channel(about.id, *number), of_channels(traffic.read())));
        }
    }
    let of_vhosts = live.counts_by_vhost().into_iter();
    all.extend(of_vhosts.map(|(vhost, counts)| (Of::Vhost(vhost), of_channels(counts))));
    all.push((Of::All, of_all(api, messages)));
    all.push((Of::Churn, of_churn(live.churn(), &vhosts)));
    all.into_iter()
}

fn of_all(api: &Api, messages: QueueCounts) -> Numbers {
    let mut numbers = of_messages(messages).to_vec();
    let mut all = ChannelCounts::default();
    api.shared.live.totals().values().for_each(|totals| all += totals.counts);
    numbers.extend(of_channels(all));
    numbers
}

/// What is told of messages: the statistics, if there are any, and the rates of how many messages there are.
pub(super) struct Told {
    /// `message_stats`.
    pub(super) stats: Option<Map<String, Value>>,
    /// `messages_details` and its like.
    pub(super) details: Map<String, Value>,
}

fn told(api: &Api, which: &Of, mut numbers: Numbers) -> Told {
    let in_all = api.rates.told(which, numbers.clone());
    let stats = numbers.split_off(OF_MESSAGES);
    let any = stats.iter().any(|(_, number)| *number > 0);
    let (mut of_messages, mut of_stats) = (Map::new(), Map::new());
    for (name, value) in in_all {
        let is_of_messages = name.starts_with("messages");
        match (is_of_messages, name.ends_with("_details")) {
            (true, true) => drop(of_messages.insert(name, value)),
            (true, false) => {}
            (false, _) => drop(of_stats.insert(name, value)),
        }
    }
    Told { stats: any.then_some(of_stats), details: of_messages }
}

/// Of a queue that has so many messages.
pub(super) fn queue(api: &Api, queue: &Queue, counts: QueueCounts) -> Told {
    told(api, &Of::Queue(queue.id()), of_queue(queue, counts))
}

/// Of the broker, in whose queues there are so many messages.
pub(super) fn overview(api: &Api, counts: QueueCounts) -> Told {
    told(api, &Of::All, of_all(api, counts))
}

/// `churn_rates`.
pub(super) fn churn(api: &Api) -> Map<String, Value> {
    api.rates.told(&Of::Churn, of_churn(api.shared.live.churn(), &api.vhosts()))
}

/// Of an exchange.
pub(super) fn exchange(api: &Api, vhost: &Vhost, exchange: &Exchange) -> Option<Map<String, Value>> {
    api.rates.told_if_any(&Of::Exchange(exchange.id), of_exchange(vhost, exchange))
}

/// Of what was done on channels in a virtual host.
pub(super) fn vhost(api: &Api, vhost: &Vhost) -> Option<Map<String, Value>> {
    let counts = api.shared.live.counts_by_vhost().remove(vhost.name())?;
    api.rates.told_if_any(&Of::Vhost(vhost.name().clone()), of_channels(counts))
}

/// Of a channel.
pub(super) fn channel(api: &Api, about: &About, number: u16) -> Option<Map<String, Value>> {
    let counts = about.channels.lock().get(&number)?.read();
    api.rates.told_if_any(&Of::Channel(about.id, number), of_channels(counts))
}

/// Of a connection: bytes.
pub(super) fn connection(api: &Api, about: &About) -> Map<String, Value> {
    api.rates.told(&Of::Connection(about.id), of_connection(&about.traffic))
}
