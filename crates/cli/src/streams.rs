//! `wgpu-rnn bench --streams N`: many live streams through one pool, each checked against a stream alone, then timed against one batch
//! of all of them.

use super::bench::{SEEDS, median};
use super::model::ModelArgs;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wgpu_rnn::num::random::philox4x32_10;
use wgpu_rnn::{
    Device, Initial, Input, Plan, Policy, PoolOptions, PoolStatistics, Result, Rnn, RnnConfig, RnnOptions, Session,
    Shape, StreamError, StreamId, StreamPool, View, Weights,
};

/// The flags that only streams have.
#[derive(clap::Args)]
#[command(next_help_heading = "Streams")]
pub struct StreamArgs {
    /// Times live streams through one pool instead of whole runs (without --time and --batch), one frame each a tick.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["time", "batch", "train", "read_y", "profile"])]
    pub streams: Option<u32>,
    /// When frames come: at the ticks of one clock, or at random at four fifths of the frames per second that the clock gave.
    #[arg(long, value_enum, default_value_t = Arrivals::Clock, conflicts_with_all = ["time", "batch"])]
    arrivals: Arrivals,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    Clock,
    Poisson,
}

/// Ticks that are checked, and streams of them at most where a stream alone is slow.
const CHECKED: (usize, usize) = (3, 16);
/// Of the frames per second that the clock gave, how many come at random.
const LOAD: f64 = 0.8;

/// A pool and its streams, and numbers for them.
struct Case {
    config: RnnConfig,
    weights: Weights<f32>,
    sessions: RnnOptions,
    pool: StreamPool,
    ids: Vec<StreamId>,
    /// `[streams, chunk, I]`, of values or of token ids.
    frames: Vec<f32>,
    chunk: usize,
    pulled: Vec<f32>,
}

/// How many streams, frames that each pushes at once, and timed ticks.
pub struct Sizes {
    pub streams: usize,
    pub chunk: usize,
    pub ticks: u32,
}

pub fn run(args: &StreamArgs, model: &ModelArgs, sizes: &Sizes, as_json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let Sizes { streams, chunk, ticks } = *sizes;
    let (config, device) = (model.config()?, model.place.device()?);
    let plan = model.options(model.memory, model.place.tuning(&device)?);
    let sessions = RnnOptions { plan, ..RnnOptions::default() };
    // All of them in one tick, with all that they push at once.
    let policy = Policy { max_batch: streams, max_steps: chunk.max(Policy::default().max_steps), ..Policy::default() };
    let options = PoolOptions { policy, frames: 1 << 16, bytes: 4 << 30, ..PoolOptions::default() };
    let weights = Weights::<f32>::random(&config, SEEDS.0)?;
    let mut pool = StreamPool::of_rnn_with(&device, &config, &weights, &sessions, &options)?;
    let ids = (0..streams).map(|_| pool.open()).collect::<Result<Vec<_>>>()?;
    let frames = uniform(SEEDS.1, streams * chunk * config.input_size);
    let mut case = Case { config, weights, sessions, pool, ids, frames, chunk, pulled: Vec::new() };
    let checked = case.check(&device)?;

    let (clock, ideal) = case.on_clock(&device, ticks)?;
    let per_second = |seconds: f64| (streams * chunk) as f64 / seconds;
    let mut measured = Measured {
        device,
        streams,
        chunk,
        ticks: u64::from(ticks),
        arrivals: args.arrivals,
        per_second: per_second(clock),
        us_per_frame: clock * 1e6 / (streams * chunk) as f64,
        clock: per_second(clock),
        ideal: per_second(ideal),
        statistics: case.pool.statistics(),
        checked,
    };
    if args.arrivals == Arrivals::Poisson {
        let seconds = f64::from(ticks) * clock / LOAD;
        // What comes first makes sessions for batches of other sizes.
        case.at_random(LOAD * measured.clock, 1.0)?;
        let (per_second, busy) = case.at_random(LOAD * measured.clock, seconds.clamp(1.0, 30.0))?;
        measured.statistics = case.pool.statistics();
        measured.ticks = measured.statistics.ticks;
        (measured.per_second, measured.us_per_frame) = (per_second, busy * 1e6);
    }
    let mut out = std::io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", measured.json(&case.config))?,
        false => measured.write(&mut out)?,
    }
    Ok(if measured.checked.1 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// In ±1.
fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let words = (0..count.div_ceil(4) as u64).flat_map(|n| philox4x32_10([n as u32, (n >> 32) as u32, 0, 0], key));
    words.take(count).map(|word| (word >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

impl Case {
    /// The frames of a stream.
    fn of(&self, n: usize) -> &[f32] {
        let size = self.chunk * self.config.input_size;
        &self.frames[n * size..][..size]
    }

    fn push(&mut self, n: usize, at: Duration) -> Result<()> {
        let size = self.chunk * self.config.input_size;
        self.pool.push_at(self.ids[n], &self.frames[n * size..][..size], at)
    }

    /// What all streams got is taken.
    fn pull_all(&mut self) -> Result<()> {
        self.pulled.clear();
        for id in &self.ids {
            self.pool.pull_into(*id, &mut self.pulled)?;
        }
        Ok(())
    }

    /// Each stream's results against those of its frames alone, bit for bit: how many streams, and whether they are the same.
    fn check(&mut self, device: &Device) -> Result<(usize, bool)> {
        let mut results: Vec<Vec<f32>> = vec![Vec::new(); self.ids.len()];
        for tick in 0..CHECKED.0 {
            let now = self.pool.now();
            // Not all of them at every tick.
            for n in (0..self.ids.len()).filter(|n| tick == 0 || !(n + tick).is_multiple_of(3)) {
                self.push(n, now)?;
            }
            self.pool.tick()?;
            for (id, results) in self.ids.iter().zip(&mut results) {
                self.pool.pull_into(*id, results)?;
            }
        }
        let mut alone = Rnn::with_options(device, &self.config, &self.weights, &self.sessions)?;
        let count = self.ids.len().min(if device.kind() == "cpu" { usize::MAX } else { CHECKED.1 });
        let mut same = true;
        for (n, results) in results.iter().enumerate().take(count) {
            let times = (1..CHECKED.0).filter(|tick| !(n + tick).is_multiple_of(3)).count() + 1;
            let x = self.of(n).repeat(times);
            let shape = [times * self.chunk, 1, self.config.input_size];
            let y = alone.forward(View::new(&x, &shape), None, Initial::Zero)?.y.data;
            same &= y.len() == results.len() && y.iter().zip(results).all(|(a, b)| a.to_bits() == b.to_bits());
        }
        Ok((count, same))
    }

    /// Seconds of a tick in which all streams push, run and pull; and of the same frames as one batch that goes on by itself, without a
    /// pool. Taken in turns, either first as often, so that what else the machine does concerns both.
    fn on_clock(&mut self, device: &Device, ticks: u32) -> Result<(f64, f64)> {
        let shape = Shape { time: self.chunk, batch: self.ids.len() };
        let plan = Plan::new(&self.config, shape, &device.caps(), &self.sessions.plan)?;
        let mut session = Session::from_plan(device, plan, &self.weights)?;
        let rows = [self.chunk, self.ids.len(), self.config.input_size];
        // Time-major, as sessions have it.
        let width = self.config.input_size;
        let mut x = Vec::with_capacity(self.frames.len());
        for t in 0..self.chunk {
            (0..self.ids.len()).for_each(|n| x.extend_from_slice(&self.of(n)[t * width..][..width]));
        }
        // What came first and what came second, each of the pool and of the batch: threads that have just worked are awake.
        let mut times: [[Vec<f64>; 2]; 2] = Default::default();
        let mut initial = Initial::Zero;
        // What runs first makes sessions, and touches memory.
        for tick in 0..2 * ticks.div_ceil(2) as usize + 2 {
            if tick == 2 {
                self.pool.forget_statistics();
            }
            for (turn, times) in times.iter_mut().enumerate() {
                let (which, start) = ((tick + turn) % 2, Instant::now());
                if which == 0 {
                    let now = self.pool.now();
                    (0..self.ids.len()).try_for_each(|n| self.push(n, now))?;
                    self.pool.tick()?;
                    self.pull_all()?;
                } else {
                    session.forward(&Input { initial, ..Input::new(View::new(&x, &rows)) })?;
                    initial = Initial::Carry;
                }
                if tick >= 2 {
                    times[which].push(start.elapsed().as_secs_f64());
                }
            }
        }
        let [first, second] = times.map(|of| of.map(median));
        Ok(((first[0] + second[0]) / 2.0, (first[1] + second[1]) / 2.0))
    }

    /// So many frames per second come at random, for so many seconds: the frames per second that gave results, and the seconds of work for
    /// each.
    fn at_random(&mut self, rate: f64, seconds: f64) -> Result<(f64, f64)> {
        self.pool.forget_statistics();
        let mean = self.ids.len() as f64 * self.chunk as f64 / rate;
        let (mut draws, streams) = (0u64, self.ids.len());
        // Times between two pushes of a stream are exponential.
        let mut gap = || {
            draws += 1;
            let word = philox4x32_10([draws as u32, (draws >> 32) as u32, 1, 0], [SEEDS.1 as u32, 0])[0];
            Duration::from_secs_f64(-mean * ((f64::from(word) + 0.5) / 4_294_967_296.0).ln())
        };
        let start = self.pool.now();
        let end = start + Duration::from_secs_f64(seconds);
        let mut next: BinaryHeap<Reverse<(Duration, usize)>> =
            (0..streams).map(|n| Reverse((start + gap(), n))).collect();
        let (mut busy, mut frames) = (Duration::ZERO, 0);
        loop {
            let begun = Instant::now();
            let now = self.pool.now();
            while let Some(&Reverse((at, n))) = next.peek().filter(|Reverse((at, _))| *at <= now.min(end)) {
                match self.push(n, at) {
                    // More comes than there is time for: it waits outside, and its latency counts from when it came.
                    Err(wgpu_rnn::Error::Stream(StreamError::Full { .. })) => break,
                    done => done?,
                }
                next.pop();
                next.push(Reverse((at + gap(), n)));
            }
            let waits = self.pool.due().is_some();
            if now >= end && !waits {
                break;
            }
            if self.pool.is_ready_at(now) || (now >= end && waits) {
                frames += self.pool.tick_at(now)?.frames;
                self.pulled.clear();
                for at in 0..self.pool.last().len() {
                    let id = self.pool.last()[at].0;
                    self.pool.pull_into(id, &mut self.pulled)?;
                }
                busy += begun.elapsed();
                continue;
            }
            busy += begun.elapsed();
            let arrival = next.peek().map_or(end, |Reverse((at, _))| *at);
            let until = self.pool.due().map_or(arrival, |due| due.min(arrival)).min(end);
            std::thread::sleep(until.saturating_sub(self.pool.now()));
        }
        let took = (self.pool.now() - start).as_secs_f64();
        Ok((frames as f64 / took, busy.as_secs_f64() / f64::from(u32::try_from(frames).unwrap_or(u32::MAX)).max(1.0)))
    }
}

struct Measured {
    device: Device,
    streams: usize,
    chunk: usize,
    ticks: u64,
    arrivals: Arrivals,
    per_second: f64,
    us_per_frame: f64,
    /// Frames per second by the clock, and of one batch without a pool.
    clock: f64,
    ideal: f64,
    statistics: PoolStatistics,
    checked: (usize, bool),
}

impl Measured {
    fn latency(&self) -> [f64; 2] {
        [0, 1].map(|n| self.statistics.latency[n].as_secs_f64() * 1e6)
    }

    fn json(&self, config: &RnnConfig) -> Value {
        let [p50, p99] = self.latency();
        json!({
            "device": self.device.kind(),
            "cell": config.cell.name,
            "input_size": config.input_size,
            "hidden_size": config.hidden_size,
            "layers": config.num_layers,
            "streams": self.streams,
            "arrivals": if self.arrivals == Arrivals::Clock { "clock" } else { "poisson" },
            "chunk": self.chunk,
            "ticks": self.ticks,
            "frames_per_second": self.per_second,
            "us_per_frame": self.us_per_frame,
            "p50_us": p50,
            "p99_us": p99,
            "ideal_frames_per_second": self.ideal,
            "of_ideal": self.clock / self.ideal,
            "verified": self.checked.1,
        })
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let [p50, p99] = self.latency();
        writeln!(out, "device: {}", self.device)?;
        let verdict = if self.checked.1 { "verified" } else { "NOT VERIFIED" };
        let (count, ticks) = (self.checked.0, CHECKED.0);
        writeln!(
            out,
            "{verdict}: {count} of {} stream(s) against streams alone, {ticks} ticks, bit for bit",
            self.streams
        )?;
        let ratio = self.clock / self.ideal;
        writeln!(
            out,
            "clock: {:.0} frames/s; one batch without a pool (ideal) {:.0} frames/s: {ratio:.3} of it",
            self.clock, self.ideal
        )?;
        if self.arrivals == Arrivals::Poisson {
            let batch = self.statistics.batch;
            writeln!(
                out,
                "arrivals: at random at {LOAD} of that; streams of a tick: p50 {}, p99 {}, at most {}",
                batch[0], batch[1], batch[2]
            )?;
        }
        writeln!(
            out,
            "streams: {} of chunks of {}, {} ticks: {:.0} frames/s, {:.3} us a frame; frame to result p50 {p50:.1} us, p99 {p99:.1} us",
            self.streams, self.chunk, self.ticks, self.per_second, self.us_per_frame
        )
    }
}

#[cfg(test)]
mod tests {
    use super::uniform;

    #[test]
    fn numbers_are_within_one() {
        let all = uniform(7, 1001);
        assert!(all.len() == 1001 && all.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!((all.iter().sum::<f32>() / 1001.0).abs() < 0.1);
    }
}
