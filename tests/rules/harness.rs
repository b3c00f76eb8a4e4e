//! What the tests of rules share: a case per rule, its run on an executor, and comparisons.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::sync::LazyLock;
use wgpu_rnn::network::*;
use wgpu_rnn::rule::{HeadState, Port, Rule};
use wgpu_rnn::{Device, Element, Precision, Result, Shape, Tensor, View};
use wgpu_rnn_verify::naive_linear::{self, Problem};
use wgpu_rnn_verify::tolerance;

/// One GPU for all tests, so that they share what is compiled; its shaders check their indices.
pub fn gpu() -> Device {
    static GPU: LazyLock<Device> =
        LazyLock::new(|| Device::gpu().expect("a GPU adapter; Mesa's lavapipe will do").checked());
    GPU.clone()
}

/// Whether everything is asked for (`WGPU_RNN_ALL=1`): a driver compiles every text of a kernel anew, which takes it longer than all
/// runs together.
pub fn all() -> bool {
    std::env::var_os("WGPU_RNN_ALL").is_some_and(|v| v == "1")
}

/// Rules that stand for all of their kind on a GPU: a scalar state, a diagonal decay, a matrix, a correction, a stabiliser. Which
/// kernels run, and which of their branches, depends on no more; the expressions of every rule run in
/// `values::on_a_gpu_every_rule_is_as_near_as_the_naive_loops`.
const OF_A_KIND: [&str; 5] = ["mingru", "mamba", "gla", "gated-delta", "mlstm"];

/// Every executor of networks; the CPU alone for rules that another one stands for.
pub fn devices(rule: &Rule) -> Vec<Device> {
    let on_gpu = all() || OF_A_KIND.contains(&rule.name);
    [Device::cpu()].into_iter().chain(on_gpu.then(gpu)).collect()
}

/// All ways over time, in chunks that fit no length here.
pub const PARALLEL: [(Parallel, usize); 3] =
    [(Parallel::Recurrent, 4), (Parallel::Chunked, 4), (Parallel::Products, 4)];

/// Those of them that a rule knows apart: products are of matrices.
pub fn ways<const N: usize>(rule: &Rule, all: [(Parallel, usize); N]) -> impl Iterator<Item = (Parallel, usize)> {
    let matrix = rule.state == HeadState::Matrix;
    all.into_iter().filter(move |(parallel, _)| matrix || *parallel != Parallel::Products)
}

/// A recurrence and the gradients of what it gives.
#[derive(Clone)]
pub struct Case {
    pub problem: Problem<f64>,
    /// Of y `[T, B, heads · V]`.
    pub up_y: Vec<f64>,
    /// Of the last state `[B, size]`; 0 for m.
    pub up_last: Vec<f64>,
}

/// Everything that a run gives, in f64 (into which f32 goes exactly).
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub y: Vec<f64>,
    pub last: Vec<f64>,
    /// Gradients by every port; empty without training.
    pub ports: Vec<Vec<f64>>,
    /// Gradient by the initial state.
    pub initial: Vec<f64>,
}

/// Heads, K and V: odd, and never two alike.
pub fn sizes(rule: &Rule) -> [usize; 3] {
    let sizes = match (rule.state, rule.name) {
        (HeadState::Scalar, _) => [7, 1, 1],
        (HeadState::Vector, _) => [5, 4, 1],
        (HeadState::Matrix, "gla" | "mamba2") => [4, 5, 3],
        (HeadState::Matrix, _) => [3, 5, 6],
    };
    assert_eq!(rule.state.sizes(sizes), sizes);
    sizes
}

/// Of how many heads a port is given: B and C of Mamba once for all, those of Mamba-2 and gla's q and k in two groups.
fn given_heads(rule: &Rule, port: &Port, heads: usize) -> usize {
    match (rule.name, port.name) {
        ("mamba" | "selective-scan", "B" | "C") => 1,
        ("mamba2", "B" | "C") | ("gla", "q" | "k") => 2,
        _ => heads,
    }
}

/// Where a port's values come from, so that a hundred steps neither vanish nor explode.
fn range(rule: &Rule, port: &str) -> (f64, f64) {
    match (rule.name, port) {
        (_, "g" | "gamma") => (-1.0, -0.01),
        (_, "beta") => (0.1, 0.9),
        ("delta" | "gated-delta", "k") => (-0.6, 0.6),
        ("selective-scan", "dt") => (0.05, 1.5),
        ("rwkv7", "a" | "b") => (-0.4, 0.4),
        ("indrnn", "u") => (-0.9, 0.9),
        ("rg-lru", "lambda") => (-3.0, -1.0),
        _ => (-1.0, 1.0),
    }
}

/// Uniform, and f32 numbers: both precisions start from the same.
fn uniform(rng: &mut SmallRng, (low, high): (f64, f64)) -> f64 {
    f64::from(rng.random_range(low..high) as f32)
}

impl Case {
    pub fn new(rule: &'static Rule, time: usize, batch: usize, seed: u64) -> Self {
        Self::sized(rule, sizes(rule), time, batch, seed)
    }

    pub fn sized(rule: &'static Rule, sizes: [usize; 3], time: usize, batch: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let [heads, keys, values] = sizes;
        let mut problem = Problem {
            rule,
            sizes,
            shape: Shape { time, batch },
            ports: Vec::new(),
            initial: Vec::new(),
            lengths: Vec::new(),
            resets: Vec::new(),
            reverse: false,
        };
        for (n, port) in rule.inputs.iter().chain(rule.params).enumerate() {
            let rows = if n < rule.inputs.len() { time * batch } else { 1 };
            let count = rows * port.extent.width([given_heads(rule, port, heads), keys, values]);
            problem.ports.push((0..count).map(|_| uniform(&mut rng, range(rule, port.name))).collect());
        }
        let (size, sums) = (problem.state_size(), heads * problem.columns() * keys);
        problem.initial = (0..batch * size).map(|_| uniform(&mut rng, (-0.7, 0.7))).collect();
        if rule.name == "rwkv4" {
            // Divisors are sums of exponentials.
            for own in problem.initial.chunks_exact_mut(size) {
                own[..sums].iter_mut().skip(1).step_by(2).for_each(|v| *v = v.abs() + 0.5);
            }
        }
        let up_y = (0..time * batch * heads * values).map(|_| uniform(&mut rng, (-1.0, 1.0))).collect();
        let mut up_last: Vec<f64> = (0..batch * size).map(|_| uniform(&mut rng, (-1.0, 1.0))).collect();
        up_last.chunks_exact_mut(size).for_each(|own| own[sums..].fill(0.0));
        Self { problem, up_y, up_last }
    }

    /// With unsorted lengths (for B = 3), and an episode that begins inside each but the first.
    pub fn ragged(mut self, reverse: bool) -> Self {
        let Shape { time, batch } = self.problem.shape;
        assert_eq!(batch, 3, "three lengths");
        self.problem.lengths = vec![1, time, time / 2 + 1];
        self.problem.resets = vec![false; time * batch];
        for (t, b) in [(time - 2, 1), (1, 1), (time / 2, 2), (time - 1, 0)] {
            self.problem.resets[t * batch + b] = true;
        }
        self.problem.reverse = reverse;
        self
    }

    /// With NaN where nothing may be read: past every sequence's end.
    pub fn poisoned(mut self) -> Self {
        let Shape { batch, .. } = self.problem.shape;
        let lengths = self.problem.lengths.clone();
        let poison = |values: &mut Vec<f64>, rows: usize| {
            let width = values.len() / rows;
            for (row, own) in values.chunks_exact_mut(width).enumerate() {
                if lengths.get(row % batch).is_some_and(|&l| row / batch >= l) {
                    own.fill(f64::NAN);
                }
            }
        };
        let rows = self.problem.shape.time * batch;
        let inputs = self.problem.rule.inputs.len();
        self.problem.ports[..inputs].iter_mut().for_each(|values| poison(values, rows));
        poison(&mut self.up_y, rows);
        self
    }

    /// Steps `from..to` of the sequences `b`, from an initial state of their own.
    pub fn part(&self, from: usize, to: usize, b: std::ops::Range<usize>, initial: &[f64]) -> Self {
        let Shape { time, batch } = self.problem.shape;
        let (rows, inputs) = (time * batch, self.problem.rule.inputs.len());
        let cut = |values: &Vec<f64>| {
            let width = values.len() / rows;
            let of = |t: usize| &values[(t * batch + b.start) * width..(t * batch + b.end) * width];
            (from..to).flat_map(of).copied().collect::<Vec<f64>>()
        };
        let mut part = self.clone();
        part.problem.shape = Shape { time: to - from, batch: b.len() };
        part.problem.ports[..inputs].iter_mut().for_each(|values| *values = cut(values));
        part.up_y = cut(&self.up_y);
        let size = self.problem.state_size();
        part.up_last = self.up_last[b.start * size..b.end * size].to_vec();
        part.problem.initial = initial.to_vec();
        if !self.problem.lengths.is_empty() {
            part.problem.lengths = self.problem.lengths[b.clone()].to_vec();
        }
        if !self.problem.resets.is_empty() {
            let of = |t: usize| &self.problem.resets[t * batch + b.start..t * batch + b.end];
            part.problem.resets = (from..to).flat_map(of).copied().collect();
        }
        part
    }

    /// A session with the rule's parameters.
    pub fn session<T: Element>(&self, device: &Device, options: &NetworkOptions) -> Result<NetworkSession<T>> {
        let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
        let options = NetworkOptions { precision, ..options.clone() };
        let plan = NetworkPlan::new(&self.problem.network(false)?, self.problem.shape, &device.caps(), &options)?;
        let params = typed(&self.problem.ports[self.problem.rule.inputs.len()..].concat());
        NetworkSession::new(device, plan, &params)
    }

    /// Calls `run` with what a session reads.
    pub fn with_input<T: Element, R>(&self, run: impl FnOnce(&NetworkInput<'_, T>) -> R) -> R {
        let problem = &self.problem;
        let values: Vec<Tensor<T>> = problem.ports[..problem.rule.inputs.len()].iter().map(|v| self.rows(v)).collect();
        let views: Vec<View<'_, T>> = values.iter().map(Tensor::view).collect();
        let state = self.state(&problem.initial);
        let states = [state.view()];
        let initial = if problem.initial.is_empty() { NetworkInitial::Empty } else { NetworkInitial::Given(&states) };
        let lengths = (!problem.lengths.is_empty()).then_some(&problem.lengths[..]);
        let resets = (!problem.resets.is_empty()).then_some(&problem.resets[..]);
        run(&NetworkInput { values: &views, lengths, resets, initial })
    }

    /// Forward, and back if `options` train.
    pub fn run<T: Element>(&self, device: &Device, options: &NetworkOptions) -> Run {
        let mut session = self.session::<T>(device, options).unwrap();
        session.poison().unwrap();
        let out = self.with_input(|input| session.forward(input)).unwrap();
        let mut run =
            Run { y: wide(&out.values[0].data), last: wide(&out.states[0].data), ports: vec![], initial: vec![] };
        if options.train {
            let (up_y, up_last) = (self.rows::<T>(&self.up_y), self.state::<T>(&self.up_last));
            let upstream = NetworkUpstream { values: &[up_y.view()], states: Some(&[up_last.view()]) };
            let back = session.backward(&upstream).unwrap();
            run.ports = back.inputs.iter().chain(&back.params).map(|t| wide(&t.data)).collect();
            run.initial = wide(&back.states[0].data);
        }
        run
    }

    /// The naive loop's run, in f64 and as rounded by f32.
    pub fn naive(&self) -> [Run; 2] {
        let run = |(results, gradients): (naive_linear::Results<f64>, naive_linear::Gradients<f64>)| Run {
            y: results.y,
            last: results.last,
            ports: gradients.ports,
            initial: gradients.initial,
        };
        let exact = naive_linear::run(&self.problem, &self.up_y, &self.up_last).unwrap();
        let rounded = self.problem.map(|v| v as f32);
        let (results, gradients) = naive_linear::run(&rounded, &typed(&self.up_y), &typed(&self.up_last)).unwrap();
        let rounded = Run {
            y: wide(&results.y),
            last: wide(&results.last),
            ports: gradients.ports.iter().map(|p| wide(p)).collect(),
            initial: wide(&gradients.initial),
        };
        [run(exact), rounded]
    }

    fn rows<T: Element>(&self, values: &[f64]) -> Tensor<T> {
        let Shape { time, batch } = self.problem.shape;
        Tensor { data: typed(values), shape: vec![time, batch, values.len() / (time * batch)] }
    }

    fn state<T: Element>(&self, values: &[f64]) -> Tensor<T> {
        Tensor { data: typed(values), shape: vec![self.problem.shape.batch, self.problem.state_size()] }
    }

    /// The tensors of a run by name.
    fn named<'a>(&self, run: &'a Run) -> Vec<(String, &'a [f64])> {
        let ports = self.problem.rule.inputs.iter().chain(self.problem.rule.params);
        let gradients = ports.zip(&run.ports).map(|(p, v)| (format!("d.{}", p.name), &v[..]));
        let mut list: Vec<_> = [("y".to_string(), &run.y[..]), ("last".into(), &run.last)].into();
        list.extend(gradients);
        list.push(("d.initial".into(), &run.initial));
        list
    }

    /// What of a run is beyond its bound: 1e-10 of scale in f64, the calibrated one in f32.
    pub fn wrong(&self, what: &str, got: &Run, [exact, rounded]: &[Run; 2], precision: Precision) -> Vec<String> {
        let mut failures = Vec::new();
        assert_eq!(got.ports.len(), exact.ports.len(), "{what}: gradients");
        let all = self.named(got).into_iter().zip(self.named(exact)).zip(self.named(rounded));
        for (((name, got), (_, exact)), (_, rounded)) in all {
            let (scale, error) = (tolerance::scale(exact), tolerance::error(got, exact));
            let bound = match precision {
                Precision::F64 => tolerance::bound_f64(scale),
                Precision::F32 => tolerance::bound_f32(scale, tolerance::error(rounded, exact)),
            };
            if !bound.is_finite() || error.is_nan() || error > bound {
                failures.push(format!("{} {what} {name}: {error:.3e} > {bound:.3e}", self.problem.rule.name));
            }
        }
        failures
    }
}

/// Options of a run that trains.
pub fn training((parallel, chunk): (Parallel, usize)) -> NetworkOptions {
    NetworkOptions { parallel: Some(parallel), chunk: Some(chunk), train: true, ..Default::default() }
}

pub fn typed<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

pub fn wide<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

/// Fails with every line.
pub fn none(failures: &[String]) {
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}
