//! What the server counts and times, as Prometheus reads it.

use crate::protocol::Reason;
use hdrhistogram::Histogram as Exact;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::fmt::{Error, Write};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use wgpu_rnn::PoolStatistics;

/// `reason="…"`
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Closed {
    reason: Reason,
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), Error> {
        encoder.write_str(self.name())
    }
}

/// `part="0.99"`
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Part {
    part: &'static str,
}

/// What is refused, and nothing lost by it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Refused {
    /// A connection: as many clients are there as there may be.
    Clients,
    /// A push: the stream has as many frames as it may have; it was tried again.
    Full,
    /// A saved session that is damaged or another model's.
    Saved,
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), Error> {
        encoder.write_str(match self {
            Self::Clients => "clients",
            Self::Full => "full",
            Self::Saved => "saved",
        })
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct What {
    what: Refused,
}

/// Latencies of the last one to two spans.
struct Recent {
    since: Instant,
    now: Exact<u32>,
    before: Exact<u32>,
}

const SPAN: Duration = Duration::from_secs(30);
const PARTS: [&str; 3] = ["0.5", "0.95", "0.99"];

pub struct Metrics {
    registry: Registry,
    pub clients: Gauge,
    pub kept: Gauge,
    pub restored: Counter,
    pub saved: Counter,
    closed: Family<Closed, Counter>,
    refused: Family<What, Counter>,
    pub frames: Counter,
    pub lost: Counter,
    pub abandoned: Counter,
    streams: Gauge,
    waiting: Gauge,
    unpulled: Gauge,
    pool_bytes: Gauge,
    memory: Gauge,
    batch: Histogram,
    tick: Histogram,
    latency: Histogram,
    recent: Mutex<Recent>,
    quantiles: Family<Part, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let times = || Histogram::new(exponential_buckets(0.0005, 2.0, 14));
        // To 1 %, up to 100 seconds.
        let exact = || Exact::new_with_bounds(1, 100_000_000, 2).expect("bounds in order");
        let metrics = Self {
            clients: Gauge::default(),
            kept: Gauge::default(),
            restored: Counter::default(),
            saved: Counter::default(),
            closed: Family::default(),
            refused: Family::default(),
            frames: Counter::default(),
            lost: Counter::default(),
            abandoned: Counter::default(),
            streams: Gauge::default(),
            waiting: Gauge::default(),
            unpulled: Gauge::default(),
            pool_bytes: Gauge::default(),
            memory: Gauge::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            tick: times(),
            latency: times(),
            recent: Mutex::new(Recent { since: Instant::now(), now: exact(), before: exact() }),
            quantiles: Family::default(),
            registry: Registry::default(),
        };
        let r = &mut registry;
        r.register("serve_clients", "Connected clients", metrics.clients.clone());
        r.register("serve_kept_sessions", "Sessions of clients that are gone", metrics.kept.clone());
        r.register("serve_restored_sessions", "Sessions restored at start", metrics.restored.clone());
        r.register("serve_saved_sessions", "Sessions saved at shutdown", metrics.saved.clone());
        r.register("serve_closed", "Connections that ended, by why", metrics.closed.clone());
        r.register("serve_refused", "What was refused, and nothing lost by it", metrics.refused.clone());
        r.register("serve_frames", "Frames of which results were given", metrics.frames.clone());
        r.register("serve_lost_frames", "Frames that the pool took and gave no result of", metrics.lost.clone());
        r.register("serve_abandoned_frames", "Results of clients that were gone by then", metrics.abandoned.clone());
        r.register("serve_streams", "Open streams of the pool", metrics.streams.clone());
        r.register("serve_waiting_frames", "Frames that wait for a tick", metrics.waiting.clone());
        r.register("serve_unpulled_results", "Results that clients have not taken yet", metrics.unpulled.clone());
        r.register_with_unit("serve_pool", "Streams, frames and results", Unit::Bytes, metrics.pool_bytes.clone());
        r.register("serve_batch_streams", "Streams of a tick", metrics.batch.clone());
        r.register_with_unit("serve_tick", "Time of a tick", Unit::Seconds, metrics.tick.clone());
        let help = "Time from a frame's last sample to its result";
        r.register_with_unit("serve_frame_to_result", help, Unit::Seconds, metrics.latency.clone());
        let help = "The same of the last 30 to 60 seconds: the time that this part of the frames does not exceed";
        r.register_with_unit("serve_frame_to_result_recent", help, Unit::Seconds, metrics.quantiles.clone());
        let help = "Resident memory of the process";
        r.register_with_unit("process_resident_memory", help, Unit::Bytes, metrics.memory.clone());
        // So that they are there from the start.
        for reason in Reason::ALL {
            drop(metrics.closed.get_or_create(&Closed { reason }));
        }
        for what in [Refused::Clients, Refused::Full, Refused::Saved] {
            drop(metrics.refused.get_or_create(&What { what }));
        }
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub fn closed(&self, reason: Reason) {
        self.closed.get_or_create(&Closed { reason }).inc();
    }

    pub fn refused(&self, what: Refused) {
        self.refused.get_or_create(&What { what }).inc();
    }

    /// A tick of so many streams.
    pub fn ticked(&self, streams: usize, took: Duration) {
        self.batch.observe(streams as f64);
        self.tick.observe(took.as_secs_f64());
    }

    /// Results of so many frames, that long after they came.
    pub fn gave(&self, frames: u64, latency: Duration) {
        self.frames.inc_by(frames);
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        recent.turn();
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        for _ in 0..frames {
            self.latency.observe(latency.as_secs_f64());
            recent.now.saturating_record(us);
        }
    }

    /// All of them as text.
    pub fn text(&self, pool: &PoolStatistics) -> Result<String, Error> {
        let gauge = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.streams, pool.streams as u64);
        gauge(&self.waiting, pool.waiting as u64);
        gauge(&self.unpulled, pool.unpulled as u64);
        gauge(&self.pool_bytes, pool.bytes);
        gauge(&self.memory, resident());
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        recent.turn();
        let mut both = recent.before.clone();
        both.add(&recent.now).map_err(|_| Error)?;
        drop(recent);
        for part in PARTS {
            let us = both.value_at_quantile(part.parse().map_err(|_| Error)?);
            self.quantiles.get_or_create(&Part { part }).set(us as f64 / 1e6);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Recent {
    fn turn(&mut self) {
        let since = self.since.elapsed();
        if since < SPAN {
            return;
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.reset();
        if since >= 2 * SPAN {
            self.before.reset();
        }
        self.since = Instant::now();
    }
}

/// Bytes of the process that are in memory; 0 where the system does not say as Linux does.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
