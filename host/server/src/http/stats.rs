//! Numbers by the names that RabbitMQ's API has for them, of everything that has some.

use super::{
    Api,
    rates::{Numbers, Of},
};
use crate::{live::About, traffic::ConnectionTraffic};
use leveret_broker::{
    QueueCounts, Vhost,
    exchange::Exchange,
    queue::Queue,
    traffic::{ChannelCounts, HandedOut},
};
use serde_json::{Map, Value};
use std::sync::Arc;

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

/// What came and went, queues in all virtual hosts too.
pub(super) fn of_churn(api: &Api) -> Numbers {
    let churn = api.shared.live.churn();
    let queues = api.shared.vhosts.queue_churn();
    vec![
        ("connection_created", churn.connections_opened.get()),
        ("connection_closed", churn.connections_closed.get()),
        ("channel_created", churn.channels_opened.get()),
        ("channel_closed", churn.channels_closed.get()),
        ("queue_declared", queues.declared),
        ("queue_created", queues.created),
        ("queue_deleted", queues.deleted),
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
    all.push((Of::Churn, of_churn(api)));
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

/// Of some virtual hosts, which have these queues with so many messages.
pub(super) fn overview_of(
    api: &Api,
    vhosts: &[Arc<Vhost>],
    queues: &[Arc<Queue>],
    counts: QueueCounts,
) -> Told {
    let mut by_vhost = api.shared.live.counts_by_vhost();
    let mut all = ChannelCounts::default();
    vhosts.iter().filter_map(|vhost| by_vhost.remove(vhost.name())).for_each(|its| all += its);
    let of_vhosts: Vec<Of> = vhosts.iter().map(|vhost| Of::Vhost(vhost.name().clone())).collect();
    let of_queues: Vec<Of> = queues.iter().map(|queue| Of::Queue(queue.id())).collect();
    let mut details = api.rates.told_together(&of_queues, of_messages(counts).to_vec());
    details.retain(|name, _| name.ends_with("_details"));
    Told { stats: Some(api.rates.told_together(&of_vhosts, of_channels(all))), details }
}

/// `churn_rates`.
pub(super) fn churn(api: &Api) -> Map<String, Value> {
    api.rates.told(&Of::Churn, of_churn(api))
}

/// Of an exchange.
pub(super) fn exchange(api: &Api, vhost: &Vhost, exchange: &Exchange) -> Option<Map<String, Value>> {
    api.rates.told_if_any(&Of::Exchange(exchange.id), of_exchange(vhost, exchange))
}

/// Of what was done on channels in a virtual host, which is so much.
pub(super) fn vhost(api: &Api, vhost: &Vhost, counts: ChannelCounts) -> Option<Map<String, Value>> {
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
