//! Many clients in real time.

use super::client::{Event, Failure, In, Out, begin, connect};
use super::voice::Voice;
use crate::protocol::{Format, Request, Response};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use wgpu_rnn_examples::voice_activity::silero::{FRAME, RATE};

/// How long results may take when no sound comes any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// How clients send.
#[derive(Clone, Copy)]
pub struct Manner {
    pub clients: usize,
    pub format: Format,
    /// Samples of a message.
    pub chunk: usize,
}

/// What came of it.
pub struct Outcome {
    /// Frames that were sent whole.
    pub frames: u64,
    /// Frames without a result.
    pub missing: u64,
    /// Results with other bits than the library's.
    pub wrong: u64,
    /// Clients whose connection did not end as it should: why.
    pub failures: Vec<String>,
    /// Microseconds from the send of a frame's last sample to its probability.
    pub latency: Histogram<u64>,
    /// Microseconds that messages were sent late: this machine's share of the delay, which is none of the server's.
    pub late: Histogram<u64>,
}

impl Outcome {
    fn none() -> Self {
        // To a thousandth, up to 100 seconds.
        let times = || Histogram::new_with_bounds(1, 100_000_000, 3).expect("bounds in order");
        Self { frames: 0, missing: 0, wrong: 0, failures: Vec::new(), latency: times(), late: times() }
    }

    fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.missing += other.missing;
        self.wrong += other.wrong;
        self.failures.extend(other.failures.iter().cloned());
        let of_same_bounds = "histograms of the same bounds";
        self.latency.add(&other.latency).expect(of_same_bounds);
        self.late.add(&other.late).expect(of_same_bounds);
    }

    pub fn is_right(&self) -> bool {
        self.missing == 0 && self.wrong == 0 && self.failures.is_empty()
    }

    /// Milliseconds that this part of the frames took at most.
    pub fn ms(&self, part: f64) -> f64 {
        self.latency.value_at_quantile(part) as f64 / 1e3
    }
}

/// All clients at once; `ready` is passed when all are connected.
pub async fn drive(address: SocketAddr, voices: &[Arc<Voice>], manner: Manner, ready: Arc<Barrier>) -> Outcome {
    let mut tasks = JoinSet::new();
    for n in 0..manner.clients {
        let (voice, ready) = (Arc::clone(&voices[n % voices.len()]), Arc::clone(&ready));
        tasks.spawn(async move {
            let mut outcome = Outcome::none();
            // Their chunks come one after the other, not all at once.
            let offset = period(manner.chunk).mul_f64(n as f64 / manner.clients as f64);
            if let Err(failure) = one(address, &voice, manner, offset, &ready, &mut outcome).await {
                outcome.failures.push(failure.to_string());
            }
            outcome
        });
    }
    let mut all = Outcome::none();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(outcome) => all.add(&outcome),
            Err(error) => all.failures.push(error.to_string()),
        }
    }
    all
}

fn period(samples: usize) -> Duration {
    Duration::from_secs_f64(samples as f64 / f64::from(RATE))
}

async fn one(
    address: SocketAddr,
    voice: &Voice,
    manner: Manner,
    offset: Duration,
    ready: &Barrier,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let begun = async {
        let (mut out, mut from) = connect(address).await?;
        begin(&mut out, &mut from, manner.format, None).await?;
        Ok::<_, Failure>((out, from))
    };
    let begun = begun.await;
    // Who could not connect holds up nobody.
    ready.wait().await;
    let (mut out, mut from) = begun?;
    let start = Instant::now() + offset;
    let frames = voice.samples.len() / FRAME;
    // When the last sample of each frame was sent, in microseconds; 0 before.
    let sent: Vec<AtomicU64> = (0..frames).map(|_| AtomicU64::new(0)).collect();
    let Outcome { latency, late, wrong, missing, .. } = outcome;
    let speak = speak(&mut out, voice, manner, start, &sent, late);
    let hear = hear(&mut from, voice, start, &sent, latency, wrong);
    let (spoken, heard) = tokio::join!(speak, hear);
    outcome.frames = sent.iter().filter(|at| at.load(Relaxed) > 0).count() as u64;
    let (results, end) = heard;
    *missing = outcome.frames - results.min(outcome.frames);
    spoken?;
    match end {
        Event::Closed(1000, _) => Ok(()),
        other => Err(format!("expected close code 1000, got {other:?}").into()),
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Sends the sound as a microphone would.
async fn speak(
    out: &mut Out,
    voice: &Voice,
    manner: Manner,
    start: Instant,
    sent: &[AtomicU64],
    late: &mut Histogram<u64>,
) -> Result<(), Failure> {
    let samples = voice.samples.len();
    for from in (0..samples).step_by(manner.chunk) {
        let to = (from + manner.chunk).min(samples);
        // It has been spoken by then.
        let time = start + period(to);
        sleep_until(time).await;
        late.saturating_record(micros(time));
        let now = micros(start);
        sent[from / FRAME..to / FRAME].iter().for_each(|at| at.store(now, Relaxed));
        out.sound(voice.bytes(from..to, manner.format)).await?;
    }
    out.request(&Request::End {}).await
}

/// Takes results: how many, and how the connection ends.
async fn hear(
    from: &mut In,
    voice: &Voice,
    start: Instant,
    sent: &[AtomicU64],
    latency: &mut Histogram<u64>,
    wrong: &mut u64,
) -> (u64, Event) {
    let mut results = 0;
    loop {
        // Sound comes all the time: so long without an answer is no answer.
        let Ok(event) = timeout(PATIENCE, from.next()).await else { return (results, Event::Gone) };
        match event {
            Event::Said(Response::Frames { first, probability }) => {
                let now = micros(start);
                // In order, and none twice.
                *wrong += u64::from(first != results);
                for (n, p) in (results as usize..).zip(probability) {
                    let right = voice.probability.get(n).is_some_and(|truth| truth.to_bits() == p.to_bits());
                    *wrong += u64::from(!right);
                    if let Some(at) = sent.get(n) {
                        latency.saturating_record(now.saturating_sub(at.load(Relaxed)).max(1));
                    }
                    results += 1;
                }
            }
            Event::Said(_) => {}
            end => return (results, end),
        }
    }
}
