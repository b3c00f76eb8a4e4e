//! Networks as naive loops over rows and columns, in numbers that a tape may differentiate: nothing of the executors.

use wgpu_rnn::expr::{Expr, Function, Operator};
use wgpu_rnn::network::{
    Compared, Concat, Conv, Embedding, LayersShape, Linear, Map, Network, Norm, Normalise, Op, Operand, Part, Pool,
    Pooling, Rows, ScanShape, Shift, Source, Sum,
};
use wgpu_rnn::{Loss, Result, Shape, cells};
use wgpu_rnn_verify::naive_linear::{self, Problem};
use wgpu_rnn_verify::tape::{Number, Tape};

/// What a network reads: `params` per parameter, `inputs` per input `[T, B, width]`, `states` per operation over time.
#[derive(Clone)]
pub struct Reads<N> {
    pub params: Vec<Vec<N>>,
    pub inputs: Vec<Vec<N>>,
    pub states: Vec<Vec<N>>,
}

impl<N: Copy> Reads<N> {
    pub fn map<M>(&self, mut by: impl FnMut(N) -> M) -> Reads<M> {
        let mut all = |lists: &[Vec<N>]| lists.iter().map(|l| l.iter().map(|&v| by(v)).collect()).collect();
        Reads { params: all(&self.params), inputs: all(&self.inputs), states: all(&self.states) }
    }
}

/// Lengths and resets of a network's run.
pub struct Times {
    pub shape: Shape,
    pub lengths: Vec<usize>,
    /// `[T, B]`; empty: none.
    pub resets: Vec<bool>,
}

impl Times {
    fn rows(&self, rows: Rows) -> impl Iterator<Item = (usize, usize)> {
        let steps = if rows == Rows::Steps { self.shape.time } else { 1 };
        (0..steps).flat_map(|t| (0..self.shape.batch).map(move |b| (t, b))).filter(|&(t, b)| t < self.lengths[b])
    }
    /// Whether an episode begins between two steps.
    fn apart(&self, b: usize, p: isize, t: isize) -> bool {
        let steps = p.min(t) + 1..=p.max(t);
        steps.filter(|&s| s >= 0).any(|s| self.resets.get(s as usize * self.shape.batch + b) == Some(&true))
    }
}

struct Run<'a, N> {
    network: &'a Network,
    times: &'a Times,
    reads: &'a Reads<N>,
    values: Vec<Vec<N>>,
}

/// The values of outputs, and last states.
pub fn forward<N: Number>(network: &Network, times: &Times, reads: &Reads<N>) -> Result<[Vec<Vec<N>>; 2]> {
    let rows = times.shape.time * times.shape.batch;
    let of = |v: Rows| if v == Rows::Steps { rows } else { times.shape.batch };
    let values = network.values.iter().map(|v| vec![N::constant(0.0); of(v.rows) * v.width]).collect();
    let mut run = Run { network, times, reads, values };
    for (&id, values) in network.inputs.iter().zip(&reads.inputs) {
        run.values[id].clone_from(values);
    }
    let mut last = Vec::new();
    for node in &network.nodes {
        let width = network.values[node.value].width;
        let mut y = vec![N::constant(0.0); of(network.values[node.value].rows) * width];
        match &node.op {
            Op::Pool(pool) => y = run.pool(pool),
            Op::Scan(scan) => {
                let results = run.scan(scan, reads.states[last.len()].clone())?;
                y = results.y;
                last.push(results.last);
            }
            Op::Layers(layers) => {
                let (values, state) = run.layers(layers, &reads.states[last.len()]);
                y = values;
                last.push(state);
            }
            op => {
                for (t, b) in times.rows(network.values[node.value].rows) {
                    let row = t * times.shape.batch + b;
                    let own = run.row(op, last.len(), t, b);
                    y[row * width..][..width].copy_from_slice(&own);
                }
                match *op {
                    Op::Conv(Conv { x, low, high: 0, .. }) => last.push(run.ends(x, low, last.len())),
                    Op::Shift(Shift { x }) => last.push(run.ends(x, 1, last.len())),
                    _ => {}
                }
            }
        }
        run.values[node.value] = y;
    }
    let part = |p: Part| -> Vec<N> {
        run.values[p.value]
            .chunks(network.values[p.value].width)
            .flat_map(|r| r[p.first..][..p.width].to_vec())
            .collect()
    };
    Ok([network.outputs.iter().map(|(_, p)| part(*p)).collect(), last])
}

/// Values, last states and all gradients, by name.
pub fn run<N: Number>(
    network: &Network,
    times: &Times,
    reads: &Reads<N>,
    up: &[Vec<N>],
) -> Result<Vec<(String, Vec<f64>)>> {
    let tape = Tape::new();
    let on_tape = reads.map(|v| tape.variable(v));
    let [outputs, last] = forward(network, times, &on_tape)?;
    let results: Vec<_> = outputs.iter().chain(&last).flatten().copied().collect();
    let weights = up.iter().flatten().copied();
    let gradients = tape.gradients(&results.into_iter().zip(weights).collect::<Vec<_>>());
    let mut all = Vec::new();
    for (what, lists) in [("out", &outputs), ("state", &last)] {
        all.extend(
            lists.iter().enumerate().map(|(n, l)| (format!("{what} {n}"), l.iter().map(|v| v.value()).collect())),
        );
    }
    for (what, lists) in [("d.input", &on_tape.inputs), ("d.param", &on_tape.params), ("d.state", &on_tape.states)] {
        let of = |l: &Vec<_>| l.iter().map(|&v| gradients.of(v).value()).collect();
        all.extend(lists.iter().enumerate().map(|(n, l)| (format!("{what} {n}"), of(l))));
    }
    Ok(all)
}

impl<N: Number> Run<'_, N> {
    fn at(&self, part: Part, t: usize, b: usize, c: usize) -> N {
        let width = self.network.values[part.value].width;
        self.values[part.value][(t * self.times.shape.batch + b) * width + part.first + c]
    }

    fn operand(&self, operand: &Operand, t: usize, b: usize, c: usize) -> N {
        match operand.source {
            Source::Value(part) => self.at(part, t, b, operand.column(c)),
            Source::Param { param, first, .. } => self.reads.params[param][first + operand.column(c)],
        }
    }

    /// x[p] as step t sees it; steps before the first are in the state, the oldest first.
    fn seen(&self, x: Part, low: usize, state: Option<usize>, b: usize, c: usize, [p, t]: [isize; 2]) -> N {
        match state {
            _ if p >= self.times.lengths[b] as isize || self.times.apart(b, p, t) => N::constant(0.0),
            _ if p >= 0 => self.at(x, p as usize, b, c),
            Some(n) => self.reads.states[n][(b * low + (low as isize + p) as usize) * x.width + c],
            None => N::constant(0.0),
        }
    }

    fn ends(&self, x: Part, low: usize, state: usize) -> Vec<N> {
        let mut all = Vec::new();
        for (b, &length) in self.times.lengths.iter().enumerate() {
            for i in 0..low {
                let at = [length as isize - low as isize + i as isize, length as isize - 1];
                all.extend((0..x.width).map(|c| self.seen(x, low, Some(state), b, c, at)));
            }
        }
        all
    }

    fn row(&self, op: &Op, state: usize, t: usize, b: usize) -> Vec<N> {
        let params = &self.reads.params;
        match op {
            Op::Linear(Linear { x, weight, bias }) => {
                let out = self.network.params[*weight].shape[0];
                let one = |o: usize| {
                    let first = bias.map_or(N::constant(0.0), |p| params[p][o]);
                    (0..x.width).fold(first, |sum, i| sum + params[*weight][o * x.width + i] * self.at(*x, t, b, i))
                };
                (0..out).map(one).collect()
            }
            Op::Norm(Normalise { x, kind, groups, epsilon, gain, bias }) => {
                let all: Vec<N> = (0..x.width).map(|c| self.at(*x, t, b, c)).collect();
                let normal = all.chunks(x.width / groups).flat_map(|g| normalised(g, *kind, *epsilon));
                let one = |(c, v): (usize, N)| {
                    let v = gain.map_or(v, |p| v * params[p][c]);
                    bias.map_or(v, |p| v + params[p][c])
                };
                normal.enumerate().map(one).collect()
            }
            Op::Conv(Conv { x, weight, bias, low, high }) => {
                let taps = low + 1 + high;
                let state = (*high == 0).then_some(state);
                let one = |c: usize| {
                    let first = bias.map_or(N::constant(0.0), |p| params[p][c]);
                    (0..taps).fold(first, |sum, k| {
                        let p = (t + k) as isize - *low as isize;
                        sum + params[*weight][c * taps + k] * self.seen(*x, *low, state, b, c, [p, t as isize])
                    })
                };
                (0..x.width).map(one).collect()
            }
            Op::Sum(Sum { x, groups }) => {
                let size = x.width / groups;
                let column = |c: usize| self.at(*x, t, b, c);
                (0..*groups).map(|g| (1..size).fold(column(g * size), |sum, c| sum + column(g * size + c))).collect()
            }
            Op::Concat(Concat { parts }) => {
                parts.iter().flat_map(|p| (0..p.width).map(move |c| self.at(*p, t, b, c))).collect()
            }
            Op::Shift(Shift { x }) => {
                let at = [t as isize - 1, t as isize];
                (0..x.width).map(|c| self.seen(*x, 1, Some(state), b, c, at)).collect()
            }
            Op::Map(Map { expr, operands }) => {
                let one = |c: usize| evaluate(expr, &|n| self.operand(&operands[n], t, b, c));
                (0..operands[0].width()).map(one).collect()
            }
            Op::Loss(Compared { x, targets, weights, loss }) => {
                let weight = weights.map_or(N::constant(1.0), |w| self.at(w, t, b, 0));
                let all: Vec<N> = (0..x.width).map(|c| self.at(*x, t, b, c)).collect();
                vec![match loss {
                    Loss::CrossEntropy => {
                        let class = self.at(*targets, t, b, 0).value() as usize;
                        let largest = all.iter().fold(f64::NEG_INFINITY, |a, v| a.max(v.value()));
                        let sum = all.iter().fold(N::constant(0.0), |s, &v| s + (v - N::constant(largest)).exp());
                        weight * ((sum - N::constant(1.0)).ln_1p() + N::constant(largest) - all[class])
                    }
                    Loss::MeanSquared => {
                        let square = |c: usize| {
                            let d = all[c] - N::constant(self.at(*targets, t, b, c).value());
                            d * d
                        };
                        let sum = (1..x.width).fold(square(0), |s, c| s + square(c));
                        weight * sum / N::constant(x.width as f64)
                    }
                }]
            }
            Op::Embedding(Embedding { ids, table }) => {
                let (id, width) = (self.at(*ids, t, b, 0).value() as usize, self.network.params[*table].shape[1]);
                params[*table][id * width..][..width].to_vec()
            }
            Op::Scan(_) | Op::Layers(_) | Op::Pool(_) => Vec::new(),
        }
    }

    /// Real steps alone; a maximum's gradient goes to the first step that has it.
    fn pool(&self, Pool { x, kind }: &Pool) -> Vec<N> {
        let zero = N::constant(0.0);
        let one = |b: usize, c: usize| {
            let steps: Vec<N> = (0..self.times.lengths[b]).map(|t| self.at(*x, t, b, c)).collect();
            let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return zero };
            match kind {
                Pooling::First => *first,
                Pooling::Last => *last,
                Pooling::Mean => steps.iter().fold(zero, |s, v| s + *v) / N::constant(steps.len() as f64),
                Pooling::Max => steps.iter().fold(*first, |m, v| if v.value() > m.value() { *v } else { m }),
            }
        };
        (0..self.times.shape.batch).flat_map(|b| (0..x.width).map(move |c| (b, c))).map(|(b, c)| one(b, c)).collect()
    }

    fn scan(&self, scan: &ScanShape, initial: Vec<N>) -> Result<naive_linear::Results<N>> {
        let Times { shape, lengths, resets } = self.times;
        let inputs = scan.rule.inputs.len();
        let port = |(n, operand): (usize, &Operand)| -> Vec<N> {
            let rows = if n < inputs { shape.time * shape.batch } else { 1 };
            let of = |r: usize| (0..operand.width()).map(move |c| (r / shape.batch, r % shape.batch, c));
            (0..rows).flat_map(of).map(|(t, b, c)| self.operand(operand, t, b, c)).collect()
        };
        naive_linear::forward(&Problem {
            rule: scan.rule,
            sizes: [scan.heads, scan.key_size, scan.value_size],
            shape: *shape,
            ports: scan.operands.iter().enumerate().map(port).collect(),
            initial,
            lengths: lengths.clone(),
            resets: resets.clone(),
            reverse: scan.reverse,
        })
    }
}

impl<N: Number> Run<'_, N> {
    /// LSTM and GRU (reset-after) as PyTorch's documentation has them: y, and h `[L·D, H]` and c of every sequence.
    fn layers(&self, layers: &LayersShape, initial: &[N]) -> (Vec<N>, Vec<N>) {
        let (config, Times { shape, lengths, resets }) = (&layers.config, self.times);
        let (count, units, directions) = (config.num_layers, config.hidden_size, config.directions());
        let lstm = config.cell == &cells::LSTM;
        assert!(lstm || config.cell == &cells::GRU, "{}", config.cell.name);
        let all = count * directions * units;
        let (size, zero) = (if lstm { 2 * all } else { all }, N::constant(0.0));
        let mut last = initial.to_vec();
        let width = |layer: usize| if layer == 0 { config.input_size } else { directions * units };
        let mut x: Vec<N> = self.values[layers.x.value].clone();
        for layer in 0..count {
            let inputs = width(layer);
            let mut y = vec![zero; shape.time * shape.batch * directions * units];
            for direction in 0..directions {
                let at = layer * directions + direction;
                let [w, r, b_w, b_r] = [0, 1, 2, 3].map(|n| &self.reads.params[layers.first + 4 * at + n]);
                for b in 0..shape.batch {
                    let mut h = initial[b * size + at * units..][..units].to_vec();
                    let mut c = if lstm { initial[b * size + all + at * units..][..units].to_vec() } else { vec![] };
                    for s in 0..lengths[b] {
                        let t = if direction == 1 { lengths[b] - 1 - s } else { s };
                        let first = if direction == 1 { t + 1 } else { t };
                        if (direction == 0 || s > 0) && resets.get(first * shape.batch + b) == Some(&true) {
                            h.fill(zero);
                            c.fill(zero);
                        }
                        let x = &x[(t * shape.batch + b) * inputs..][..inputs];
                        let sum = |rows: &[N], bias: &[N], row: usize, v: &[N]| {
                            let products = v.iter().zip(&rows[row * v.len()..]);
                            products.fold(bias[row], |sum, (v, w)| sum + *w * *v)
                        };
                        let now: Vec<N> = (0..units)
                            .map(|n| {
                                let of_x = |gate: usize| sum(w, b_w, gate * units + n, x);
                                let of_h = |gate: usize| sum(r, b_r, gate * units + n, &h);
                                let both = |gate: usize| of_x(gate) + of_h(gate);
                                if lstm {
                                    let kept = both(1).sigmoid() * c[n];
                                    c[n] = kept + both(0).sigmoid() * both(2).tanh();
                                    return both(3).sigmoid() * c[n].tanh();
                                }
                                let candidate = (of_x(2) + both(0).sigmoid() * of_h(2)).tanh();
                                let z = both(1).sigmoid();
                                candidate + z * (h[n] - candidate)
                            })
                            .collect();
                        h = now;
                        let row = (t * shape.batch + b) * directions + direction;
                        y[row * units..][..units].copy_from_slice(&h);
                    }
                    last[b * size + at * units..][..units].copy_from_slice(&h);
                    if lstm {
                        last[b * size + all + at * units..][..units].copy_from_slice(&c);
                    }
                }
            }
            x = y;
        }
        (x, last)
    }
}

fn normalised<N: Number>(x: &[N], kind: Norm, epsilon: f64) -> Vec<N> {
    let (zero, count, epsilon) = (N::constant(0.0), N::constant(x.len() as f64), N::constant(epsilon));
    let mean = if kind == Norm::Layer { x.iter().fold(zero, |s, &v| s + v) / count } else { zero };
    let squares = x.iter().fold(zero, |s, &v| s + (v - mean) * (v - mean));
    let size = match kind {
        Norm::L2 => squares.sqrt().larger(epsilon),
        _ => (squares / count + epsilon).sqrt(),
    };
    x.iter().map(|&v| (v - mean) / size).collect()
}

fn evaluate<N: Number>(e: &Expr, inputs: &dyn Fn(usize) -> N) -> N {
    match e {
        Expr::Input(n) => inputs(*n),
        Expr::Constant(v) => N::constant(*v),
        Expr::Apply(function, x) => {
            let x = evaluate(x, inputs);
            match function {
                Function::Exp => x.exp(),
                Function::ExpM1 => x.exp_m1(),
                Function::Sigmoid => x.sigmoid(),
                Function::Tanh => x.tanh(),
                Function::Softplus => x.softplus(),
                Function::Relu => x.larger(N::constant(0.0)),
                Function::Step => N::constant(if x.value() > 0.0 { 1.0 } else { 0.0 }),
                Function::Sqrt => x.sqrt(),
                // log x = log(1 + (x − 1))
                Function::Log => (x - N::constant(1.0)).ln_1p(),
                Function::Hold => N::constant(x.value()),
            }
        }
        Expr::Combine(operator, a, b) => {
            let (a, b) = (evaluate(a, inputs), evaluate(b, inputs));
            match operator {
                Operator::Add => a + b,
                Operator::Sub => a - b,
                Operator::Mul => a * b,
                Operator::Div => a / b,
                Operator::Max => a.larger(b),
            }
        }
    }
}
