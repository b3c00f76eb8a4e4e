//! `wgpu-rnn bench`: checks a configuration, then times whole forward passes.
//!
//! Checked are two runs of one session's weights and kernels: the whole shape against the f64 CPU executor, and as much of it
//! as the naive loops (slow by design) manage in seconds against the f64 one of them, which shares no code with any executor.
//! The f32 one's error on that part is the yardstick of both bounds.

use super::model::ModelArgs;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;
use wgpu_rnn::verify::naive::{self, Scalar};
use wgpu_rnn::verify::{Comparison, Report, tolerance};
use wgpu_rnn::{Device, Input, Output, Plan, Session, Shape, View, Weights};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Timed runs.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Floating-point operations that one naive loop may take: a second or so.
const NAIVE_FLOPS: u64 = 1_000_000_000;
/// Seeds of the weights and of x, so that two runs measure the same.
const SEEDS: (u64, u64) = (1, 2);

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let (device, plan) = args.model.plan()?;
    let weights = Weights::<f32>::random(&plan.config, SEEDS.0)?;
    let mut session = Session::from_plan(&device, plan.clone(), &weights)?;
    let x = random_input(&plan);
    let check = check(&mut session, &weights, &x)?;

    session.write(&Input::new(View::new(&x, &x_shape(&plan, plan.shape))))?;
    session.run_for_state()?;
    let mut times = Vec::new();
    for _ in 0..args.runs {
        let start = Instant::now();
        session.run_for_state()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let result = Measured { device, plan, check, times: Times::new(times) };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", result.json())?;
    } else {
        result.write(&mut out)?;
    }
    Ok(if result.check.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Uniform in ±1.
fn random_input(plan: &Plan) -> Vec<f32> {
    let mut rng = rand::rngs::SmallRng::seed_from_u64(SEEDS.1);
    let n = plan.shape.time * plan.shape.batch * plan.config.input_size;
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn x_shape(plan: &Plan, shape: Shape) -> [usize; 3] {
    [shape.time, shape.batch, plan.config.input_size]
}

/// What was held against what.
struct Check {
    /// The whole run against the f64 CPU executor.
    whole: Report,
    /// The part that the naive loops ran.
    part: Shape,
    /// The part's run against the naive f64 loop.
    naive: Report,
}

impl Check {
    fn passed(&self) -> bool {
        self.whole.passed() && self.naive.passed()
    }
}

fn check(session: &mut Session<f32>, weights: &Weights<f32>, x: &[f32]) -> wgpu_rnn::Result<Check> {
    let plan = session.plan().clone();
    let (config, shape) = (&plan.config, plan.shape);
    let exact_weights = weights.cast::<f64>();
    let part = naive_part(&plan);
    let part_x = cut(x, shape, part, config.input_size);

    let rounded = naive_output(&plan, part, weights, &part_x)?;
    let truth = naive_output(&plan, part, &exact_weights, &widen(&part_x))?;
    let naive_errors: Vec<f64> =
        named(&rounded).iter().zip(named(&truth)).map(|((_, r), (_, t))| tolerance::error(r, &t)).collect();
    let got = session.for_shape(part)?.forward(&Input::new(View::new(&part_x, &x_shape(&plan, part))))?;
    let naive = compare("naive f64 loop", &got, &truth, &naive_errors);

    let mut oracle = Session::<f64>::new(&Device::cpu(), config, shape, &exact_weights)?;
    let truth = oracle.forward(&Input::new(View::new(&widen(x), &x_shape(&plan, shape))))?;
    let got = session.forward(&Input::new(View::new(x, &x_shape(&plan, shape))))?;
    // Rounding errors of steps add up at worst: where the naive loops saw only some steps, the yardstick grows with the rest.
    let growth = shape.time as f64 / part.time as f64;
    let scaled: Vec<f64> = naive_errors.iter().map(|e| e * growth).collect();
    let whole = compare("f64 CPU executor", &got, &truth, &scaled);
    Ok(Check { whole, part, naive })
}

/// As many whole sequences as the naive loops have time for, or the first steps of one.
fn naive_part(plan: &Plan) -> Shape {
    let Shape { time, batch } = plan.shape;
    let per_step = (plan.flops() / (time * batch) as u64).max(1);
    let steps = (NAIVE_FLOPS / per_step).clamp(1, (time * batch) as u64) as usize;
    Shape { time: steps.min(time), batch: (steps / time).clamp(1, batch) }
}

/// The first `part.batch` sequences of the first `part.time` steps of a time-major x.
fn cut(x: &[f32], shape: Shape, part: Shape, features: usize) -> Vec<f32> {
    let step = shape.batch * features;
    x.chunks_exact(step).take(part.time).flat_map(|row| &row[..part.batch * features]).copied().collect()
}

fn naive_output<T: Scalar>(plan: &Plan, part: Shape, weights: &Weights<T>, x: &[T]) -> wgpu_rnn::Result<Output<T>> {
    naive::forward(&plan.config, weights, &Input::new(View::new(x, &x_shape(plan, part))))
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

fn named<T: Scalar>(output: &Output<T>) -> Vec<(&'static str, Vec<f64>)> {
    let cn = output.cn.as_ref().map(|cn| ("cn", cn));
    let tensors = [("y", &output.y), ("hn", &output.hn)].into_iter().chain(cn);
    tensors.map(|(name, t)| (name, t.data.iter().map(|v| v.to_f64()).collect())).collect()
}

fn compare(against: &str, got: &Output<f32>, truth: &Output<f64>, naive_errors: &[f64]) -> Report {
    let tensors = named(got).into_iter().zip(named(truth)).zip(naive_errors);
    let comparisons = tensors.map(|(((name, got), (_, truth)), &naive)| Comparison {
        tensor: name.into(),
        error: tolerance::error(&got, &truth),
        bound: tolerance::bound_f32(tolerance::scale(&truth), naive),
    });
    Report { name: against.into(), comparisons: comparisons.collect() }
}

/// Milliseconds of a run.
struct Times {
    count: usize,
    median: f64,
    min: f64,
}

impl Times {
    fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let n = times.len();
        Self { count: n, median: (times[(n - 1) / 2] + times[n / 2]) / 2.0, min: times[0] }
    }
}

struct Measured {
    device: Device,
    plan: Plan,
    check: Check,
    times: Times,
}

impl Measured {
    /// Work in matrix products over the median time.
    fn gflops(&self) -> f64 {
        self.plan.flops() as f64 / (self.times.median * 1e6)
    }

    fn json(&self) -> Value {
        let (plan, config) = (&self.plan, &self.plan.config);
        let adapter = self.device.gpu_info().map_or_else(|| self.device.to_string(), |info| info.name.clone());
        let report = |r: &Report, shape: Shape| {
            let tensors: Vec<Value> = r
                .comparisons
                .iter()
                .map(|c| json!({ "tensor": c.tensor, "error": c.error, "bound": c.bound, "passed": c.passed() }))
                .collect();
            json!({ "against": r.name, "time": shape.time, "batch": shape.batch, "tensors": tensors })
        };
        json!({
            "device": self.device.kind(),
            "adapter": adapter,
            "strategy": plan.strategy.to_string(),
            "cell": config.cell.name,
            "time": plan.shape.time,
            "batch": plan.shape.batch,
            "input_size": config.input_size,
            "hidden_size": config.hidden_size,
            "layers": config.num_layers,
            "directions": config.directions(),
            "proj_size": config.proj_size,
            "train": false,
            "runs": self.times.count,
            "median_ms": self.times.median,
            "min_ms": self.times.min,
            "gflops": self.gflops(),
            "dispatches": plan.dispatches(),
            "verified": self.check.passed(),
            "checks": [report(&self.check.whole, plan.shape), report(&self.check.naive, self.check.part)],
        })
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let (plan, times) = (&self.plan, &self.times);
        writeln!(out, "device: {}", self.device)?;
        writeln!(out, "strategy: {} ({}), {} dispatches", plan.strategy, plan.reason, plan.dispatches())?;
        for (report, shape) in [(&self.check.whole, plan.shape), (&self.check.naive, self.check.part)] {
            let verdict = if report.passed() { "verified" } else { "NOT VERIFIED" };
            let Shape { time, batch } = shape;
            write!(out, "{verdict}: {batch} sequence(s) of {time} step(s) against the {}:", report.name)?;
            for c in &report.comparisons {
                write!(out, " {} {:.1e} (bound {:.1e})", c.tensor, c.error, c.bound)?;
            }
            writeln!(out)?;
        }
        if self.check.part.time < plan.shape.time {
            writeln!(out, "  the first bound is the second's, times T over the naive loop's steps")?;
        }
        writeln!(
            out,
            "time: median {:.3} ms, minimum {:.3} ms of {} runs, {:.2} GFLOP/s",
            times.median,
            times.min,
            times.count,
            self.gflops()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu_rnn::{Options, RnnConfig};

    fn plan(time: usize, batch: usize, size: usize) -> Plan {
        let config = RnnConfig { input_size: size, hidden_size: size, ..Default::default() };
        Plan::new(&config, Shape { time, batch }, &Device::cpu().caps(), &Options::default()).expect("it fits")
    }

    #[test]
    fn a_wrong_result_is_not_verified() {
        let plan = plan(5, 2, 3);
        let weights = Weights::<f32>::random(&plan.config, 1).expect("valid");
        let mut session = Session::from_plan(&Device::cpu(), plan.clone(), &weights).expect("it fits");
        let x = random_input(&plan);
        assert!(check(&mut session, &weights, &x).expect("it runs").passed());
        // The session's weights are not the ones it is checked against.
        let mut other = weights.clone();
        other.layers[0].r[7] += 1e-4;
        let check = check(&mut session, &other, &x).expect("it runs");
        assert!(!check.whole.passed() && !check.naive.passed() && !check.passed());
    }

    #[test]
    fn the_naive_loops_get_what_they_can_do() {
        assert_eq!(naive_part(&plan(7, 3, 5)), Shape { time: 7, batch: 3 });
        // 2 * 8 * 512 * 512 operations a step: 238 steps.
        assert_eq!(naive_part(&plan(100, 9, 512)), Shape { time: 100, batch: 2 });
        assert_eq!(naive_part(&plan(1000, 9, 512)), Shape { time: 238, batch: 1 });
        assert_eq!(naive_part(&plan(2, 2, 20_000)), Shape { time: 1, batch: 1 });
    }

    #[test]
    fn a_part_is_the_first_steps_of_the_first_sequences() {
        let x: Vec<f32> = (0..12u8).map(f32::from).collect(); // [T, B, I] = [2, 3, 2]
        let cut = cut(&x, Shape { time: 2, batch: 3 }, Shape { time: 2, batch: 2 }, 2);
        assert_eq!(cut, [0.0, 1.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        let times = Times::new(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((times.count, times.median, times.min), (4, 2.5, 1.0));
        assert_eq!(Times::new(vec![9.0]).median, 9.0);
    }
}
