//! `metric`: counters and gauges that operators see, by plugin and virtual host.

use super::Context;
use crate::bindings::v0_2::leveret::routing::metric::Host;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The metrics of a plugin in a virtual host.
#[derive(Debug)]
pub(crate) struct Metrics {
    by_name: Mutex<BTreeMap<String, Arc<Metric>>>,
    names_max: usize,
    ignored: AtomicU64,
}

/// A counter or a gauge. What it is used as first, it stays.
#[derive(Debug)]
pub(crate) enum Metric {
    Counter(AtomicU64),
    /// The bits of a float.
    Gauge(AtomicU64),
}

/// What a metric shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricValue {
    /// The sum of a counter.
    Counter(u64),
    /// The value of a gauge.
    Gauge(f64),
}

/// The metrics that an instance has used.
pub(super) type Cache = HashMap<String, Arc<Metric>, foldhash::fast::RandomState>;

impl Metrics {
    /// None yet.
    pub(crate) fn new(names_max: usize) -> Self {
        Self { by_name: Mutex::default(), names_max, ignored: AtomicU64::new(0) }
    }

    /// What they show, by name; and how many uses were ignored.
    pub(crate) fn read(&self) -> (Vec<(String, MetricValue)>, u64) {
        let metrics = self.by_name.lock();
        let values = metrics.iter().map(|(name, metric)| {
            let value = match &**metric {
                Metric::Counter(sum) => MetricValue::Counter(sum.load(Ordering::Relaxed)),
                Metric::Gauge(bits) => MetricValue::Gauge(f64::from_bits(bits.load(Ordering::Relaxed))),
            };
            (name.clone(), value)
        });
        (values.collect(), self.ignored.load(Ordering::Relaxed))
    }

    fn find(&self, name: &str, make: impl FnOnce() -> Metric) -> Option<Arc<Metric>> {
        let mut metrics = self.by_name.lock();
        if let Some(metric) = metrics.get(name) {
            return Some(metric.clone());
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || metrics.len() >= self.names_max {
            return None;
        }
        Some(metrics.entry(String::from(name)).or_insert_with(|| Arc::new(make())).clone())
    }
}

impl Context {
    fn metric(&mut self, name: &str, make: impl FnOnce() -> Metric) -> Option<&Metric> {
        if !self.metrics.contains_key(name) {
            let Some(metric) = self.account.metrics().find(name, make) else {
                self.account.metrics().ignored.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            self.metrics.insert(String::from(name), metric);
        }
        self.metrics.get(name).map(|metric| &**metric)
    }
}

impl Host for Context {
    fn count(&mut self, name: String, more: u64) -> wasmtime::Result<()> {
        if let Some(Metric::Counter(sum)) = self.metric(&name, || Metric::Counter(AtomicU64::new(0))) {
            sum.fetch_add(more, Ordering::Relaxed);
        }
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        if !value.is_finite() {
            // JSON has no such numbers.
            self.account.metrics().ignored.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if let Some(Metric::Gauge(bits)) = self.metric(&name, || Metric::Gauge(AtomicU64::new(0))) {
            bits.store(value.to_bits(), Ordering::Relaxed);
        }
        Ok(())
    }
}
