//! How long things took.

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::io::{self, Write};

/// How close a value is kept: three significant digits, for which HdrHistogram has so many sub-buckets.
const DIGITS: u8 = 3;
const SUB_BUCKETS: u32 = 2048;

/// Latencies in nanoseconds, however long they are.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// Percentiles in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90 of 100 are faster.
    pub p90: f64,
    /// 95 of 100 are faster.
    pub p95: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1,000 are faster.
    pub p999: f64,
    /// 9,999 of 10,000 are faster.
    pub p9999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latencies {
    /// # Errors
    /// Never, for these bounds.
    pub(super) fn new() -> anyhow::Result<Self> {
        /// Up to here it does not have to grow.
        const USUAL_MAX: u64 = 60_000_000_000;
        let mut histogram = Histogram::new_with_bounds(1, USUAL_MAX, DIGITS).context("a histogram")?;
        histogram.auto(true);
        Ok(Self(histogram))
    }

    /// So many took so long.
    #[inline]
    pub(super) fn record(&mut self, nanoseconds: u64, count: u64) {
        // A count of none would count for the slowest all the same. It grows to any value on machines of 64 bits.
        if count > 0 && self.0.record_n(nanoseconds, count).is_err() {
            self.0.saturating_record_n(nanoseconds, count);
        }
    }

    /// All of others.
    ///
    /// # Errors
    /// If there is no room for them.
    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.0.add(&other.0).context("adding up latencies")
    }

    /// The percentiles; `None` if there is nothing.
    pub(super) fn percentiles(&self) -> Option<Latency> {
        let microseconds = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Latency {
            p50: microseconds(0.5),
            p90: microseconds(0.9),
            p95: microseconds(0.95),
            p99: microseconds(0.99),
            p999: microseconds(0.999),
            p9999: microseconds(0.9999),
            max: self.0.max() as f64 / 1000.0,
        })
    }

    /// Writes all of it as HdrHistogram's tools read it (percentile output, `.hgrm`), in microseconds.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write_distribution(&self, out: &mut impl Write) -> io::Result<()> {
        /// Lines for each halving of the distance to 100 %, as those tools have it.
        const LINES_A_HALF: u32 = 5;
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut count = 0;
        for step in self.0.iter_quantiles(LINES_A_HALF) {
            count += step.count_since_last_iteration();
            let (value, quantile) = (step.value_iterated_to() as f64 / 1000.0, step.quantile_iterated_to());
            write!(out, "{value:>12.3} {quantile:>14.12} {count:>10}")?;
            if quantile < 1.0 {
                write!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
            }
            writeln!(out)?;
        }
        let (mean, deviation) = (self.0.mean() / 1000.0, self.0.stdev() / 1000.0);
        let (max, buckets) = (self.0.max() as f64 / 1000.0, self.0.buckets());
        writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
        writeln!(out, "#[Max     = {max:>12.3}, Total count    = {:>12}]", self.0.len())?;
        writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {SUB_BUCKETS:>12}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_however_slow() {
        const HOUR: u64 = 3_600_000_000_000;
        let mut latencies = Latencies::new().unwrap();
        assert!(latencies.percentiles().is_none());
        latencies.record(1_000_000, 90_000);
        latencies.record(2_000_000, 9_000);
        latencies.record(3_000_000, 990);
        let mut slow = Latencies::new().unwrap();
        slow.record(5 * HOUR, 10);
        slow.record(7 * HOUR, 0);
        latencies.add(&slow).unwrap();
        let found = latencies.percentiles().unwrap();
        let is = |found: f64, nanoseconds: u64| latencies.0.equivalent((found * 1000.0) as u64, nanoseconds);
        assert!(is(found.p50, 1_000_000) && is(found.p90, 1_000_000), "{found:?}");
        assert!(is(found.p95, 2_000_000) && is(found.p99, 2_000_000), "{found:?}");
        assert!(is(found.p999, 3_000_000) && is(found.p9999, 3_000_000), "{found:?}");
        assert!(is(found.max, 5 * HOUR), "{found:?}");
    }

    #[test]
    fn the_distribution_is_written_as_tools_read_it() {
        let mut latencies = Latencies::new().unwrap();
        (1..=1000).for_each(|microsecond| latencies.record(microsecond * 1000, 1));
        let mut out = Vec::new();
        latencies.write_distribution(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert!(lines.contains(&"     500.223 0.500000000000        500           2.00"), "{text}");
        assert!(lines.contains(&"    1000.447 1.000000000000       1000"), "{text}");
        assert!(lines.contains(&"#[Max     =     1000.447, Total count    =         1000]"), "{text}");
        // Values and counts never go down.
        let rows: Vec<(f64, f64)> = lines[2..]
            .iter()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let mut fields = line.split_whitespace().map(|field| field.parse::<f64>().unwrap());
                (fields.next().unwrap(), fields.nth(1).unwrap())
            })
            .collect();
        assert!(rows.len() > 20 && rows.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{text}");
    }
}
