//! `wgpu-rnn bench`: checks a configuration, then times whole runs: forward, with `--train` forward and backward.

use super::linear;
use super::model::{ModelArgs, Recurrent};
use super::streams;
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wgpu_rnn::{ActivationFormat, Device, KernelTime, Plan, Session, Shape, Startup, WeightFormat, Weights};
use wgpu_rnn_verify::{Check, Comparison, Numbers, Report, check};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Timed runs, after one that is not timed, or as many as fit in 0.1 s; 10 without it. With --streams timed ticks, 200 without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Every timed run also reads y back (training: the gradients of x and of the initial states).
    #[arg(long)]
    read_y: bool,
    /// Then runs once more kernel by kernel and tells what each took.
    #[arg(long, conflicts_with = "json")]
    profile: bool,
    /// One line of JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    streams: streams::StreamArgs,
    #[command(flatten)]
    linear: linear::LinearArgs,
}

/// Seeds of the weights and of the numbers they run on, so that two runs measure the same.
pub const SEEDS: (u64, u64) = (1, 2);

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    if let Recurrent::Rule(rule) = args.model.cell {
        return linear::bench(rule, &args.linear, &args.model, args.runs.unwrap_or(10));
    }
    if let Some(streams) = args.streams.streams {
        let chunk = args.linear.chunk()?.unwrap_or(1);
        let sizes = streams::Sizes { streams: streams as usize, chunk, ticks: args.runs.unwrap_or(200) };
        return streams::run(&args.streams, &args.model, &sizes, args.json);
    }
    let (device, plan) = args.model.plan()?;
    let weights = Weights::<f32>::random(&plan.config, SEEDS.0)?;
    let mut session = Session::from_plan(&device, plan.clone(), &weights)?;
    let numbers = Numbers::random(&plan, SEEDS.1);
    let check = check(&mut session, &weights, &numbers)?;

    session.write(&numbers.input())?;
    if let Some(upstream) = numbers.upstream() {
        session.write_upstream(&upstream)?;
    }
    warm_up(|| run_once(&mut session, args.read_y))?;
    let mut times = Vec::new();
    for _ in 0..args.runs.unwrap_or(10) {
        let start = Instant::now();
        run_once(&mut session, args.read_y)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let result = Measured { device, plan, check, times: Times::new(times), startup: session.startup() };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", result.json())?;
    } else {
        result.write(&mut out)?;
    }
    if args.profile {
        write_profile(&mut session, &mut out)?;
    }
    Ok(if result.check.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Runs once at least, and as often as fits in 0.1 s: where a run takes less than a millisecond, the first ones are spent on threads that
/// wake on the core of the one that called them.
pub fn warm_up(mut run: impl FnMut() -> wgpu_rnn::Result<()>) -> wgpu_rnn::Result<()> {
    let start = Instant::now();
    loop {
        run()?;
        if start.elapsed() > Duration::from_millis(100) {
            return Ok(());
        }
    }
}

/// One run of what was uploaded, until the last state (training: the gradients of the parameters), or everything, is read back.
pub fn run_once(session: &mut Session<f32>, everything: bool) -> wgpu_rnn::Result<()> {
    match (session.plan().train, everything) {
        (false, false) => session.run_for_state().map(drop),
        (false, true) => {
            session.run()?;
            session.output().map(drop)
        }
        (true, false) => {
            session.run()?;
            session.run_backward().map(drop)
        }
        (true, true) => {
            session.run()?;
            session.run_back()?;
            session.gradients().map(drop)
        }
    }
}

/// What every kernel of a run took, waited for one by one.
fn write_profile(session: &mut Session<f32>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut passes = vec![("forward", session.profile()?)];
    if session.plan().train {
        passes.push(("backward", session.profile_backward()?));
    }
    let longest = passes.iter().flat_map(|(_, times)| times).max_by_key(|t| t.longest);
    if let Some(KernelTime { kernel, longest, .. }) = longest {
        let budget = session.plan().options.submit_budget;
        writeln!(out, "longest dispatch: {kernel}, {longest:.2?} measured, of a budget of {budget:.2?}")?;
    }
    for (pass, times) in passes {
        let total: f64 = times.iter().map(|t| t.time.as_secs_f64()).sum();
        writeln!(out, "{pass}, kernel by kernel: {:.3} ms", total * 1e3)?;
        for t in times {
            let seconds = t.time.as_secs_f64();
            let rate =
                if t.flops > 0 { format!(", {:.2} GFLOP/s", t.flops as f64 / seconds / 1e9) } else { String::new() };
            let (ms, share, kernel) = (seconds * 1e3, 100.0 * seconds / total, t.kernel);
            writeln!(out, "  {ms:10.3} ms {share:5.1} %  {kernel}, {} dispatch(es){rate}", t.dispatches)?;
        }
    }
    Ok(())
}

/// Milliseconds of a run.
struct Times {
    count: usize,
    median: f64,
    min: f64,
}

impl Times {
    fn new(times: Vec<f64>) -> Self {
        Self { count: times.len(), min: times.iter().copied().fold(f64::INFINITY, f64::min), median: median(times) }
    }
}

/// Of at least one number.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let n = times.len();
    (times[(n - 1) / 2] + times[n / 2]) / 2.0
}

struct Measured {
    device: Device,
    plan: Plan,
    check: Check,
    times: Times,
    startup: Startup,
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
            "wavefront": plan.chunk,
            "cell": config.cell.name,
            "time": plan.shape.time,
            "batch": plan.shape.batch,
            "input_size": config.input_size,
            "hidden_size": config.hidden_size,
            "layers": config.num_layers,
            "directions": config.directions(),
            "proj_size": config.proj_size,
            "train": plan.train,
            "weights": plan.options.weights.name(),
            "weight_bytes": plan.weight_bytes().0,
            "activations": plan.options.activations.name(),
            "activation_bytes": plan.activation_bytes().0,
            "runs": self.times.count,
            "median_ms": self.times.median,
            "min_ms": self.times.min,
            "gflops": self.gflops(),
            "dispatches": plan.dispatches(),
            "choices": plan.choices.to_string(),
            "kernels": self.startup.pipelines,
            "compiled": self.startup.compiled,
            "compile_ms": self.startup.compile.as_secs_f64() * 1e3,
            "buffers_ms": self.startup.buffers.as_secs_f64() * 1e3,
            "verified": self.check.passed(),
            "checks": [report(&self.check.whole, plan.shape), report(&self.check.naive, self.check.part)],
        })
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let (plan, times) = (&self.plan, &self.times);
        writeln!(out, "device: {}", self.device)?;
        writeln!(out, "strategy: {} ({}), {} dispatches", plan.strategy, plan.reason, plan.dispatches())?;
        writeln!(out, "choices: {}", plan.choices)?;
        writeln!(out, "start-up: {}", self.startup)?;
        if let Some(chunk) = plan.chunk {
            writeln!(out, "wavefront: layers {chunk} steps apart ({})", plan.wavefront_reason)?;
        }
        if plan.options.weights != WeightFormat::F32 {
            let (bytes, full) = plan.weight_bytes();
            writeln!(out, "weights: {}, {bytes} B on the device ({full} B in f32)", plan.options.weights)?;
        }
        if plan.options.activations != ActivationFormat::F32 {
            let (bytes, full) = plan.activation_bytes();
            writeln!(out, "activations: {}, {bytes} B on the device ({full} B in f32)", plan.options.activations)?;
        }
        for (report, shape) in [(&self.check.whole, plan.shape), (&self.check.naive, self.check.part)] {
            let verdict = if report.passed() { "verified" } else { "NOT VERIFIED" };
            let Shape { time, batch } = shape;
            write!(out, "{verdict}: {batch} sequence(s) of {time} step(s) against the {}:", report.name)?;
            let is_gradient = |c: &&Comparison| c.tensor.starts_with("grad.");
            for c in report.comparisons.iter().filter(|c| !is_gradient(c)) {
                write!(out, " {} {:.1e} (bound {:.1e})", c.tensor, c.error, c.bound)?;
            }
            let comparisons: Vec<_> = report.comparisons.iter().filter(is_gradient).cloned().collect();
            let gradients = Report { name: report.name.clone(), comparisons };
            if let Some(c) = gradients.worst() {
                let count = gradients.comparisons.len();
                write!(out, "; worst of {count} gradients: {} {:.1e} (bound {:.1e})", c.tensor, c.error, c.bound)?;
            }
            writeln!(out)?;
        }
        if self.check.part.time < plan.shape.time {
            writeln!(out, "  the first bound is the second's, times T over the naive loop's steps")?;
        }
        if plan.train && self.check.part != plan.shape {
            writeln!(out, "  (of the parameters' gradients: times T·B over the naive loop's)")?;
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

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        let times = Times::new(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((times.count, times.median, times.min), (4, 2.5, 1.0));
        assert_eq!(Times::new(vec![9.0]).median, 9.0);
    }
}
