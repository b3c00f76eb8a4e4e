//! A linear recurrence by itself in a network; and with inputs and parameters of its own, in ranges that trained models have, for
//! benches and the command line.

use super::naive_linear::{self, Gradients, Problem, Results};
use super::tape::Number;
use super::{Comparison, tolerance};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::Arc;
use wgpu_rnn::expr::{Expr, silu};
use wgpu_rnn::network::{
    Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Operand,
};
use wgpu_rnn::rule::Rule;
use wgpu_rnn::{Device, Result, Shape, Tensor, View};

/// Steps and sequences that are held against the naive loop at most, but for what it takes to see a third chunk.
const CHECKED: Shape = Shape { time: 100, batch: 2 };
/// Elements of all states that it goes through at most: forward, and where it keeps every operation for the gradients.
const ELEMENTS: [usize; 2] = [1 << 23, 1 << 19];

/// The longest chunk that a plan takes by itself.
const MOST_CHUNK: usize = 64;

impl<N: Copy> Problem<N> {
    /// The recurrence in a network: an input per input, a parameter per parameter; its output is y, times silu of one more input if it
    /// is `gated`.
    ///
    /// # Errors
    /// [`wgpu_rnn::Error::Mismatch`] for sizes that the rule does not take.
    pub fn network(&self, gated: bool) -> Result<Arc<Network>> {
        let rows = self.shape.time * self.shape.batch;
        let (inputs, params) = self.ports.split_at(self.rule.inputs.len());
        let widths: Vec<usize> = inputs.iter().map(|p| p.len() / rows).chain(params.iter().map(Vec::len)).collect();
        network(self.rule, self.sizes, &widths, self.reverse, gated)
    }
}

/// As [`Problem::network`]; `widths`: columns of every port.
fn network(
    rule: &'static Rule,
    sizes: [usize; 3],
    widths: &[usize],
    reverse: bool,
    gated: bool,
) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let (inputs, params) = widths.split_at(rule.inputs.len());
    let mut operands: Vec<Operand> = Vec::new();
    for (port, &width) in rule.inputs.iter().zip(inputs) {
        operands.push(b.input(port.name, width)?.into());
    }
    for (port, &width) in rule.params.iter().zip(params) {
        let param = b.param(port.name, &[width])?;
        operands.push(b.whole(param));
    }
    let mut y = b.scan("scan", rule, sizes, &operands, reverse)?;
    if gated {
        let z = b.input("gate", y.width)?;
        y = b.map("gated", Expr::input(0) * silu(Expr::input(1)), &[y.into(), z.into()])?;
    }
    b.output("y", y)?;
    Ok(Arc::new(b.finish()?))
}

/// A rule, its sizes, and where its numbers come from.
#[derive(Clone, Debug)]
pub struct Bare {
    /// The rule over inputs of its own; its output is y.
    pub network: Arc<Network>,
    /// The rule.
    pub rule: &'static Rule,
    /// Heads, K and V.
    pub sizes: [usize; 3],
    /// T and B.
    pub shape: Shape,
    reverse: bool,
    seed: u64,
}

/// A run of it held against the naive f64 loop.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The steps and sequences of the run.
    pub shape: Shape,
    /// Its heads, which have nothing to do with each other.
    pub heads: usize,
    /// y and, of a run that trains, the gradient by every port.
    pub tensors: Vec<Comparison>,
}

impl Checked {
    /// Whether every tensor is within its bound.
    pub fn passed(&self) -> bool {
        self.tensors.iter().all(Comparison::passed)
    }
}

impl Bare {
    /// `sizes`: heads, K and V. Makes no numbers yet.
    ///
    /// # Errors
    /// [`wgpu_rnn::Error::Mismatch`] for sizes that the rule does not take.
    pub fn new(rule: &'static Rule, sizes: [usize; 3], shape: Shape, reverse: bool, seed: u64) -> Result<Self> {
        shape.validate()?;
        let widths: Vec<usize> = rule.inputs.iter().chain(rule.params).map(|p| p.extent.width(sizes)).collect();
        Ok(Self { network: network(rule, sizes, &widths, reverse, false)?, rule, sizes, shape, reverse, seed })
    }

    /// How it runs.
    ///
    /// # Errors
    /// See [`NetworkPlan::new`].
    pub fn plan(&self, device: &Device, options: &NetworkOptions) -> Result<NetworkPlan> {
        NetworkPlan::new(&self.network, self.shape, &device.caps(), options)
    }

    /// A session on a device, with its inputs written.
    ///
    /// # Errors
    /// See [`NetworkPlan::new`] and [`NetworkSession::new`].
    pub fn session(&self, device: &Device, options: &NetworkOptions) -> Result<NetworkSession<f32>> {
        // Sizes beyond a limit are refused before numbers are made.
        let plan = self.plan(device, options)?;
        self.started(device, plan, &self.problem())
    }

    fn started(&self, device: &Device, plan: NetworkPlan, problem: &Problem<f32>) -> Result<NetworkSession<f32>> {
        let inputs = self.rule.inputs.len();
        let mut session = NetworkSession::new(device, plan, &problem.ports[inputs..].concat())?;
        session.poison()?;
        let Shape { time, batch } = problem.shape;
        let shapes: Vec<_> = self.network.inputs.iter().map(|&v| [time, batch, self.network.values[v].width]).collect();
        let views: Vec<_> = problem.ports.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        session.write(&NetworkInput::new(&views))?;
        Ok(session)
    }

    /// Its numbers.
    fn problem(&self) -> Problem<f32> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let &Self { rule, sizes, shape, reverse, .. } = self;
        let rows = shape.time * shape.batch;
        let inputs = rule.inputs.iter().map(|p| (p, rows));
        let ports = inputs.chain(rule.params.iter().map(|p| (p, 1)));
        let ports = ports.map(|(p, rows)| values(&mut rng, p.name, sizes[1], rows * p.extent.width(sizes))).collect();
        Problem { rule, sizes, shape, ports, initial: Vec::new(), lengths: Vec::new(), resets: Vec::new(), reverse }
    }

    /// One run, until y (training: all gradients, y standing for its own) is in host memory.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn run(&self, session: &mut NetworkSession<f32>) -> Result<()> {
        session.run()?;
        let y = session.output()?.values.remove(0);
        if session.plan().options.train {
            session.backward(&NetworkUpstream { values: &[y.view()], states: None })?;
        }
        Ok(())
    }

    /// Holds its first steps and sequences, and as many heads as a naive loop may take, against the naive f64 loop: y and, if
    /// `options` train, the gradients of a random loss. Over time it goes as the whole would.
    ///
    /// # Errors
    /// As [`Bare::session`].
    pub fn check(&self, device: &Device, options: &NetworkOptions) -> Result<Checked> {
        let whole = self.plan(device, options)?;
        let chunk = options.chunk.unwrap_or(MOST_CHUNK);
        let options = &NetworkOptions { parallel: Some(whole.parallel), ..options.clone() };
        let [heads, keys, values] = self.sizes;
        let elements = ELEMENTS[usize::from(options.train)] / (keys * values);
        let time =
            self.shape.time.min(CHECKED.time.max(chunk.saturating_mul(2).saturating_add(1))).min(elements.max(1));
        let batch = self.shape.batch.min(CHECKED.batch).min((elements / time).max(1));
        let heads = heads.min((elements / (time * batch)).max(1));
        let part = Self::new(self.rule, [heads, keys, values], Shape { time, batch }, self.reverse, self.seed)?;
        let problem = part.problem();
        let mut session = part.started(device, part.plan(device, options)?, &problem)?;
        session.run()?;
        let y = session.output()?.values.remove(0);

        let mut rng = StdRng::seed_from_u64(self.seed ^ 1);
        let up: Vec<f32> = y.data.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut got = vec![y.data];
        if options.train {
            let upstream = View::new(&up, &y.shape);
            let back = session.backward(&NetworkUpstream { values: &[upstream], states: None })?;
            got.extend(back.inputs.into_iter().chain(back.params).map(|t: Tensor<f32>| t.data));
        }
        let truth = naive(&problem.map(f64::from), &wide(&up), options.train)?;
        let rounded: Vec<_> = naive(&problem, &up, options.train)?.iter().map(|v| wide(v)).collect();
        let ports = self.rule.inputs.iter().chain(self.rule.params).map(|p| format!("d.{}", p.name));
        let names = std::iter::once("y".to_string()).chain(ports);
        let tensors = names.zip(&got).zip(truth.iter().zip(&rounded)).map(|((tensor, got), (truth, rounded))| {
            let bound = tolerance::bound_f32(tolerance::scale(truth), tolerance::error(rounded, truth));
            Comparison { tensor, error: tolerance::error(&wide(got), truth), bound }
        });
        Ok(Checked { shape: part.shape, heads, tensors: tensors.collect() })
    }
}

/// y of the naive loop and, if it trains, the gradients by every port.
fn naive<N: Number>(problem: &Problem<N>, up: &[N], train: bool) -> Result<Vec<Vec<N>>> {
    if !train {
        return Ok(vec![naive_linear::forward(problem)?.y]);
    }
    let no_last = vec![N::constant(0.0); problem.shape.batch * problem.state_size()];
    let (Results { y, .. }, Gradients { ports, .. }) = naive_linear::run(problem, up, &no_last)?;
    Ok(std::iter::once(y).chain(ports).collect())
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Keys and queries of length about 1, decays that forget over some ten to some thousand steps.
fn values(rng: &mut StdRng, name: &str, keys: usize, count: usize) -> Vec<f32> {
    let vector = 1.0 / (keys as f32).sqrt();
    let (low, high) = match name {
        "q" | "k" | "r" | "B" | "C" | "a" | "b" => (-vector, vector),
        "g" | "gamma" => (-0.1, -0.001),
        "w" | "time_decay" => (-6.0, -2.0),
        "dt" => (0.01, 0.1),
        "dt_bias" => (-4.0, -2.0),
        "beta" | "u" => (0.0, 0.99),
        _ => (-1.0, 1.0),
    };
    (0..count).map(|_| rng.random_range(low..high)).collect()
}
