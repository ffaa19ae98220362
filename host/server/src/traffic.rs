//! What is counted of connections beyond what the broker counts of channels: bytes, lengths of bodies, what came and
//! went; and what those leave behind that end, so that sums go up alone.

use leveret_broker::{
    Published,
    traffic::{ChannelCounts, ChannelTraffic, Count},
};
use std::ops::AddAssign;

/// Up to how many bytes a body is in each bucket of the histogram; the last has no bound. They are RabbitMQ's.
pub const SIZE_BOUNDS: [u64; 8] =
    [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];
const SIZE_BUCKETS: usize = SIZE_BOUNDS.len() + 1;

/// Of a connection. One thread counts.
#[derive(Debug, Default)]
pub struct ConnectionTraffic {
    /// Bytes that were read from its socket, TLS not counted.
    pub received_bytes: Count,
    /// Bytes that were written to it.
    pub sent_bytes: Count,
    sizes: [Count; SIZE_BUCKETS],
    body_bytes: Count,
}

/// How long the bodies of published messages were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// How many are in each bucket of [`SIZE_BOUNDS`], those of others not counted.
    pub buckets: [u64; SIZE_BUCKETS],
    /// All of them together, in bytes.
    pub bytes: u64,
}

/// What came and went.
#[derive(Debug, Default)]
pub struct Churn {
    /// Connections that were opened, that is entered a virtual host.
    pub connections_opened: Count,
    /// Those of them that ended.
    pub connections_closed: Count,
    /// Channels.
    pub channels_opened: Count,
    /// Those of them that ended.
    pub channels_closed: Count,
    /// Log-ins that succeeded.
    pub logins_succeeded: Count,
    /// Log-ins that did not.
    pub logins_failed: Count,
}

/// The numbers of all connections, those that ended included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Of all channels.
    pub counts: ChannelCounts,
    /// Of what was published on them.
    pub sizes: Sizes,
    /// How many channels there are that ever published.
    pub publishers: u64,
}

impl ConnectionTraffic {
    /// So many bytes came and went.
    pub fn count_bytes(&self, received: usize, sent: usize) {
        self.received_bytes.add(received as u64);
        self.sent_bytes.add(sent as u64);
    }

    /// Counts bodies of these lengths. Those of a batch are alike mostly, and are one addition then.
    pub fn count_bodies(&self, lengths: impl Iterator<Item = usize> + Clone) {
        let (mut count, mut bytes, mut shortest, mut longest) = (0, 0, usize::MAX, 0);
        for length in lengths.clone() {
            count += 1;
            bytes += length as u64;
            shortest = shortest.min(length);
            longest = longest.max(length);
        }
        self.body_bytes.add(bytes);
        let (first, last) = (bucket_of(shortest), bucket_of(longest));
        if first == last {
            return self.add_to(first, count);
        }
        lengths.for_each(|length| self.add_to(bucket_of(length), 1));
    }

    fn add_to(&self, bucket: usize, count: u64) {
        if let Some(bucket) = self.sizes.get(bucket) {
            bucket.add(count);
        }
    }

    /// The numbers now.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes { buckets: std::array::from_fn(|at| self.sizes[at].get()), bytes: self.body_bytes.get() }
    }
}

fn bucket_of(length: usize) -> usize {
    SIZE_BOUNDS.partition_point(|bound| *bound < length as u64)
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.counts += other.counts;
        self.sizes += other.sizes;
        self.publishers += other.publishers;
    }
}

impl AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
    }
}

/// Counts a publish that was dealt with.
pub fn count_publish(traffic: &ChannelTraffic, mandatory: bool, outcome: &Published, confirms: bool) {
    traffic.publish.add(1);
    traffic.publish_confirm.add(confirms.into());
    match outcome {
        Published::Routed | Published::Dropped => traffic.confirm.add(confirms.into()),
        Published::Unroutable => {
            traffic.confirm.add(confirms.into());
            let unroutable = if mandatory { &traffic.return_unroutable } else { &traffic.drop_unroutable };
            unroutable.add(1);
        }
        Published::Rejected(_) | Published::Unavailable(_) | Published::Full(_) | Published::Refused(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_in_the_bucket_that_it_just_fits() {
        let traffic = ConnectionTraffic::default();
        traffic.count_bodies([0, 100].into_iter());
        traffic.count_bodies([101, 100, 1_000, 200_000_000].into_iter());
        traffic.count_bodies(std::iter::empty());
        let sizes = traffic.sizes();
        assert_eq!(sizes.buckets, [3, 2, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(sizes.bytes, 200_001_301);
    }
}
