//! `wgpu-rnn tune`: measures what the planner may choose for a configuration and a shape on this device, and stores the fastest.

use super::bench::{SEEDS, median, run_once};
use super::model::ModelArgs;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu_rnn::{
    Choice, Device, DeviceClass, Options, Plan, RnnConfig, Session, Shape, Strategy, TileChoice, Tuning, Weights,
};
use wgpu_rnn_verify::{Numbers, check};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Measures both strategies too and stores the faster one, for all shapes of the configuration. Results then differ in their
    /// last bits from those without the file. Without this only what changes no bit is measured: tiles, blocks of steps.
    #[arg(long, conflicts_with = "strategy")]
    strategies: bool,
    /// Timed runs of every candidate, in turn.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Begins no further comparison after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    seconds: u64,
    /// The file that the result goes to; else `wgpu-rnn/tuning.json` in the user's directory for caches.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let path = args.output.clone().or_else(Tuning::default_path);
    let path = path.ok_or("no directory for caches is known: say where with --output FILE")?;
    let device = args.model.place.device()?;
    let config = args.model.config()?;
    let options = args.model.options(args.model.memory, None);
    let mut out = std::io::stdout().lock();
    writeln!(out, "device: {device}")?;
    let mut tuner = Tuner::new(args, &device, config, options)?;
    let found = tuner.all(args.strategies, &mut out)?;
    let Some((winner, strategies)) = found else { return Ok(ExitCode::from(1)) };

    let mut tuning = if path.exists() {
        Tuning::load(&path, &device).unwrap_or_else(|e| {
            eprintln!("tuning: {e}; it is replaced");
            Tuning::new(&device)
        })
    } else {
        Tuning::new(&device)
    };
    for (strategy, choice) in &strategies {
        tuning.set(&tuner.config, tuner.shape, &tuner.options, *strategy, *choice)?;
    }
    if args.strategies {
        tuning.set_strategy(&tuner.config, winner);
        writeln!(out, "strategy: {winner}")?;
    }
    tuning.store(&path)?;
    writeln!(out, "stored in {}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// What is measured, and with which numbers.
struct Tuner {
    device: Device,
    config: RnnConfig,
    shape: Shape,
    options: Options,
    weights: Weights<f32>,
    numbers: Numbers<f32>,
    rounds: u32,
    until: Instant,
}

/// A way to run, with the session that does.
struct Candidate {
    name: String,
    choice: Choice,
    session: Session<f32>,
}

/// The winning strategy, and what is fastest with each that was measured.
type Found = (Strategy, Vec<(Strategy, Choice)>);

impl Tuner {
    fn new(args: &Args, device: &Device, config: RnnConfig, options: Options) -> wgpu_rnn::Result<Self> {
        let shape = args.model.shape();
        let plan = Plan::new(&config, shape, &device.caps(), &options)?;
        // What `auto` comes to: plans look measurements up by that.
        let options = Options { memory: plan.memory, ..options };
        let (weights, numbers) = (Weights::random(&config, SEEDS.0)?, Numbers::random(&plan, SEEDS.1));
        let until = Instant::now() + Duration::from_secs(args.seconds);
        let (device, rounds) = (device.clone(), args.rounds);
        Ok(Self { device, config, shape, options, weights, numbers, rounds, until })
    }

    /// `None`: something is wrong with the numbers, as was printed.
    fn all(&mut self, both: bool, out: &mut impl Write) -> Result<Option<Found>, Box<dyn Error>> {
        let table = Plan::new(&self.config, self.shape, &self.device.caps(), &self.options)?;
        let other = if table.strategy == Strategy::Step { Strategy::Sequence } else { Strategy::Step };
        let mut strategies = vec![table.strategy];
        strategies.extend(both.then_some(other));
        let (mut best, mut choices) = (Vec::new(), Vec::new());
        for strategy in strategies {
            let options = Options { strategy: Some(strategy), ..self.options.clone() };
            let plan = match Plan::new(&self.config, self.shape, &self.device.caps(), &options) {
                Ok(plan) => plan,
                Err(e) => {
                    writeln!(out, "strategy {strategy}: {e}")?;
                    continue;
                }
            };
            let tiles = TileChoice::of(&plan.tiles);
            let mut session = Session::from_plan(&self.device, plan, &self.weights)?;
            writeln!(out, "strategy {strategy}: {}", session.startup())?;
            let check = check(&mut session, &self.weights, &self.numbers)?;
            if !check.passed() {
                writeln!(out, "NOT VERIFIED against the f64 executor: nothing is stored")?;
                return Ok(None);
            }
            let table = Candidate { name: "table".into(), choice: Choice { tiles, block: None, ratio: 1.0 }, session };
            let Some(fastest) = self.search(table, out)? else { return Ok(None) };
            choices.push((strategy, fastest.choice));
            best.push(Candidate { name: format!("strategy {strategy}"), ..fastest });
        }
        let winner = if best.len() > 1 { self.compare("strategies", &mut best, out)?.0 } else { 0 };
        Ok(best.get(winner).map(|b| (b.session.plan().strategy, choices)))
    }

    /// One kind of choice after the other, from the table's on.
    fn search(&self, table: Candidate, out: &mut impl Write) -> Result<Option<Candidate>, Box<dyn Error>> {
        let mut table = table;
        let truth = self.bits(&mut table.session)?;
        let (plan, first) = (table.session.plan().clone(), table.choice);
        let mut fastest = table;
        for (kind, change) in changes(&plan) {
            if Instant::now() > self.until {
                writeln!(out, "  out of time before {kind}")?;
                break;
            }
            let mut group = vec![fastest];
            for choice in change(&group[0].choice) {
                let Some(mut candidate) = self.candidate(&group[0], choice)? else { continue };
                if self.bits(&mut candidate.session)? != truth {
                    writeln!(out, "  {}: NOT THE SAME BITS: nothing is stored", candidate.name)?;
                    return Ok(None);
                }
                group.push(candidate);
            }
            let winner = if group.len() > 1 { self.compare(kind, &mut group, out)?.0 } else { 0 };
            fastest = group.swap_remove(winner);
        }
        if fastest.choice == first {
            return Ok(Some(fastest));
        }
        // The steps' gains need not multiply: the result against the table once more.
        let again = Session::from_plan(&self.device, plan, &self.weights)?;
        let mut last = [Candidate { name: "table".into(), choice: first, session: again }, fastest];
        let (winner, ratio) = self.compare("result", &mut last, out)?;
        let [table, fastest] = last;
        let choice = Choice { ratio, ..fastest.choice };
        Ok(Some(if winner == 1 { Candidate { choice, ..fastest } } else { table }))
    }

    /// A session that runs so; `None` if that is no other plan than `known` has, or the device refuses it.
    fn candidate(&self, known: &Candidate, choice: Choice) -> Result<Option<Candidate>, Box<dyn Error>> {
        let current = known.session.plan();
        let mut tuning = Tuning::new(&self.device);
        tuning.set(&self.config, self.shape, &self.options, current.strategy, choice)?;
        let strategy = Some(current.strategy);
        let options = Options { strategy, tuning: Some(Arc::new(tuning)), ..self.options.clone() };
        let Ok(plan) = Plan::new(&self.config, self.shape, &self.device.caps(), &options) else { return Ok(None) };
        if !plan.choices.refused.is_empty() || (plan.tiles, plan.block) == (current.tiles, current.block) {
            return Ok(None);
        }
        let TileChoice { tile, back_units, project, weight, input } = choice.tiles;
        let name = format!(
            "block {} tile {tile} units {back_units} project {project:?} weight {weight:?} input {input}",
            plan.block
        );
        match Session::from_plan(&self.device, plan, &self.weights) {
            Ok(session) => Ok(Some(Candidate { name, choice, session })),
            Err(wgpu_rnn::Error::Gpu { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// What it gives.
    fn bits(&self, session: &mut Session<f32>) -> wgpu_rnn::Result<Vec<u32>> {
        let output = session.forward(&self.numbers.input())?;
        let mut values = [output.y.data, output.hn.data, output.cn.map_or(Vec::new(), |cn| cn.data)].concat();
        if let Some(upstream) = self.numbers.upstream() {
            let g = session.backward(&upstream)?;
            values.extend([g.x.data, g.h0.data, g.c0.map_or(Vec::new(), |c0| c0.data)].concat());
            g.weights.named(&self.config).for_each(|(_, gradient)| values.extend(gradient));
        }
        Ok(values.into_iter().map(f32::to_bits).collect())
    }

    /// Times them in turn and prints the medians; the fastest, unless it gains less than noise does, and the last's ratio.
    fn compare(
        &self,
        kind: &str,
        group: &mut [Candidate],
        out: &mut impl Write,
    ) -> Result<(usize, f64), Box<dyn Error>> {
        for c in group.iter_mut() {
            c.session.write(&self.numbers.input())?;
            if let Some(upstream) = self.numbers.upstream() {
                c.session.write_upstream(&upstream)?;
            }
            run_once(&mut c.session, false)?;
        }
        let mut times = vec![Vec::new(); group.len()];
        for _ in 0..self.rounds {
            for (c, times) in group.iter_mut().zip(&mut times) {
                let start = Instant::now();
                run_once(&mut c.session, false)?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        let ratio = |n: usize| medians[n] / medians[0];
        let fastest = (0..group.len()).min_by(|&a, &b| medians[a].total_cmp(&medians[b])).unwrap_or(0);
        let winner = if ratio(fastest) < WORTH { fastest } else { 0 };
        writeln!(out, "  {kind}:")?;
        for (n, c) in group.iter().enumerate() {
            let mark = if n == winner { " *" } else { "" };
            writeln!(out, "    {:10.3} ms {:6.3}  {}{mark}", medians[n], ratio(n), c.name)?;
        }
        Ok((winner, ratio(group.len() - 1)))
    }
}

/// A candidate must take less than this share of the other's time.
const WORTH: f64 = 0.97;

/// A kind of choice, and its candidates given all the others.
type Change = (&'static str, Variants);

/// What could stand in place of a choice.
type Variants = Box<dyn Fn(&Choice) -> Vec<Choice>>;

/// What may be faster than the table for a plan. The CPU executor has no tiles.
fn changes(plan: &Plan) -> Vec<Change> {
    fn of<T: Copy + 'static>(values: impl Into<Vec<T>>, set: impl Fn(&mut Choice, T) + 'static) -> Variants {
        let values = values.into();
        Box::new(move |base| {
            let with = |&value: &T| {
                let mut choice = *base;
                set(&mut choice, value);
                choice
            };
            values.iter().map(with).collect()
        })
    }
    let mut list: Vec<Change> = Vec::new();
    if plan.caps.class != DeviceClass::Cpu {
        let tiles: Vec<usize> = [1, 2, 4, 8].into_iter().filter(|&tile| tile < 2 * plan.shape.batch).collect();
        list.push(("sequences per invocation", of(tiles, |c, tile| c.tiles.tile = tile)));
        list.push(("project", of([(4, 4), (4, 8), (8, 8), (8, 16)], |c, tile| c.tiles.project = tile)));
        if plan.train {
            list.push(("weight_backward", of([(4, 4), (8, 4), (8, 8)], |c, tile| c.tiles.weight = tile)));
            list.push(("input_backward", of([4, 8, 16], |c, features| c.tiles.input = features)));
            if plan.strategy == Strategy::Step {
                list.push(("step_backward", of([1, 2, 4], |c, units| c.tiles.back_units = units)));
            }
        }
    }
    let mut blocks = vec![plan.block.div_ceil(4), plan.block.div_ceil(2)];
    if plan.caps.class == DeviceClass::Cpu {
        blocks.extend([2, 4, 16].map(|n| (n * plan.block).min(plan.shape.time)));
    }
    list.push(("block", of(blocks, |c, steps| c.block = Some(steps))));
    list
}
