//! The calibrator: every cell as a naive sequential loop, std `exp` and `tanh`, one multiply and one add at a time.
//!
//! It shares no arithmetic with the executors: it takes the plain data of [`RnnConfig`] and [`Weights`] and spells each
//! cell's equations out (they are in the docs of [`wgpu_rnn::cells`]). In f64 it must agree with the golden truths, in f32 its
//! error is the yardstick of [`super::tolerance`].

use super::naive_rules::Rules;
use super::{naive_normal, naive_slstm};
use std::ops::{Div, Range, Sub};
use wgpu_rnn::weights::{LayerWeights, Weights};
use wgpu_rnn::{
    ActivationFormat, Direction, Element, Error, Initial, Input, Layout, Output, Result, RnnConfig, Shape, Tensor,
    View, Zoneout,
};

/// A number with std's elementary functions: `f32` or `f64`.
pub trait Scalar: Element + Sub<Output = Self> + Div<Output = Self> {
    /// The natural logarithm of x.
    fn ln(self) -> Self;
}

impl Scalar for f32 {
    fn ln(self) -> Self {
        f32::ln(self)
    }
}

impl Scalar for f64 {
    fn ln(self) -> Self {
        f64::ln(self)
    }
}

/// Runs the stack over `input`, as [`wgpu_rnn::Session::forward`] does: same arguments, same shapes, same result.
///
/// # Errors
/// [`Error::Mismatch`] for shapes, lengths or weights that do not fit; [`Error::Unsupported`] for a cell whose equations are
/// not here, and for [`Initial::Carry`].
pub fn forward<T: Scalar>(config: &RnnConfig, weights: &Weights<T>, input: &Input<'_, T>) -> Result<Output<T>> {
    run(config, weights, input, ActivationFormat::F32, None)
}

/// The same with x, the x parts of the gates and y of every layer rounded where a plan with these
/// [`wgpu_rnn::Options::activations`] stores them.
///
/// # Errors
/// As [`forward`].
pub fn forward_stored<T: Scalar>(
    config: &RnnConfig,
    weights: &Weights<T>,
    input: &Input<'_, T>,
    activations: ActivationFormat,
) -> Result<Output<T>> {
    run(config, weights, input, activations, None)
}

/// What [`super::naive_backward`] needs of a run.
#[derive(Default)]
pub(super) struct Tape<T> {
    /// The time-major input of every layer.
    pub inputs: Vec<Vec<T>>,
    /// h, then c, before every step, in the order of the loops below: the way back takes them off the end.
    pub states: Vec<T>,
}

/// [`forward`], recording what the way back needs.
pub(super) fn run<T: Scalar>(
    config: &RnnConfig,
    weights: &Weights<T>,
    input: &Input<'_, T>,
    activations: ActivationFormat,
    mut tape: Option<&mut Tape<T>>,
) -> Result<Output<T>> {
    config.validate()?;
    weights.validate(config)?;
    if input.resets.is_some() {
        let reason = "the naive loop knows no episodes".into();
        return Err(Error::Unsupported { what: "resets".into(), reason });
    }
    if config.zoneout != Zoneout::default() {
        let reason = "the naive loop knows no zoneout".into();
        return Err(Error::Unsupported { what: "zoneout".into(), reason });
    }
    let cell = equations(config)?;
    let (shape, unbatched) = shape_of(config, input.x)?;
    let Shape { time, batch } = shape;
    if let Some(lengths) = input.lengths {
        shape.validate_lengths(lengths)?;
    }
    let (hidden, state, directions) = (config.hidden_size, config.state_size(), config.directions());
    let cell_size = config.cell_size();
    let entries = config.num_layers * directions;
    let heads = config.recurrence.heads(state);
    let (h0, c0) = initial_state(config, input, batch, unbatched)?;
    let rules = Rules::of(config);

    // Time-major between the layers; x and y are in the caller's layout.
    let mut features = config.input_size;
    let mut layer_input = rearranged(input.x.data, config.layout, shape, features, true);
    activations.round(&mut layer_input);
    let (mut hn, mut cn) = (h0, c0);
    for layer in 0..config.num_layers {
        let mut layer_output = vec![T::default(); time * batch * directions * state];
        for direction in 0..directions {
            let entry = layer * directions + direction;
            for b in 0..batch {
                let h = &mut hn[(entry * batch + b) * state..][..state];
                let c = &mut cn[(entry * batch + b) * cell_size..][..cell_size];
                let length = input.lengths.map_or(time, |l| l[b]);
                for step in 0..length {
                    if let Some(tape) = &mut tape {
                        tape.states.extend_from_slice(h);
                        tape.states.extend_from_slice(c);
                    }
                    let row = time_of(config, direction, step, length) * batch + b;
                    let sums = Sums {
                        weights: &weights.layers[entry],
                        hidden,
                        heads,
                        x: &layer_input[row * features..][..features],
                        activations,
                    };
                    cell(&sums, &rules[direction], h, c);
                    layer_output[(row * directions + direction) * state..][..state].copy_from_slice(h);
                }
            }
        }
        activations.round(&mut layer_output);
        let read = std::mem::replace(&mut layer_input, layer_output);
        if let Some(tape) = &mut tape {
            tape.inputs.push(read);
        }
        features = directions * state;
    }

    let y = rearranged(&layer_input, config.layout, shape, features, false);
    let y_shape = match (unbatched, config.layout) {
        (true, _) => vec![time, features],
        (false, Layout::TimeMajor) => vec![time, batch, features],
        (false, Layout::BatchFirst) => vec![batch, time, features],
    };
    let stacked = |width| if unbatched { vec![entries, width] } else { vec![entries, batch, width] };
    Ok(Output {
        y: Tensor { data: y, shape: y_shape },
        hn: Tensor { data: hn, shape: stacked(state) },
        cn: config.cell.has_cell_state().then(|| Tensor { data: cn, shape: stacked(cell_size) }),
        predictions: None,
    })
}

/// The time step that a sequence of `length` steps reads as its `step`-th.
pub(super) fn time_of(config: &RnnConfig, direction: usize, step: usize, length: usize) -> usize {
    let reverse = config.direction == Direction::Reverse || direction == 1;
    if reverse { length - 1 - step } else { step }
}

/// T and B of x, and whether it came without a batch dimension.
pub(super) fn shape_of<T>(config: &RnnConfig, x: View<'_, T>) -> Result<(Shape, bool)> {
    let i = config.input_size;
    if x.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(x.data.len()) {
        return Err(Error::mismatch("x", format!("the values of {:?}", x.shape), format!("{} values", x.data.len())));
    }
    let (shape, unbatched) = match (x.shape, config.layout) {
        (&[time, _], _) => (Shape { time, batch: 1 }, true),
        (&[time, batch, _], Layout::TimeMajor) => (Shape { time, batch }, false),
        (&[batch, time, _], Layout::BatchFirst) => (Shape { time, batch }, false),
        _ => return Err(Error::mismatch("x", "2 or 3 dimensions", format!("{:?}", x.shape))),
    };
    let Shape { time, batch } = shape;
    match (unbatched, config.layout) {
        (true, _) => x.check("x", &["T", "I"], &[time, i])?,
        (_, Layout::TimeMajor) => x.check("x", &["T", "B", "I"], &[time, batch, i])?,
        (_, Layout::BatchFirst) => x.check("x", &["B", "T", "I"], &[batch, time, i])?,
    }
    shape.validate()?;
    Ok((shape, unbatched))
}

/// h0 and c0 as owned `[L·D, B, ·]`, zeros where nothing is given. Without a cell state c0 is empty.
fn initial_state<T: Scalar>(
    config: &RnnConfig,
    input: &Input<'_, T>,
    batch: usize,
    unbatched: bool,
) -> Result<(Vec<T>, Vec<T>)> {
    let (h0, c0) = match input.initial {
        Initial::Zero => (None, None),
        Initial::Given { h0, c0 } => (h0, c0),
        Initial::Carry => {
            let reason = "the naive loop keeps no state between runs; give h0 and c0".into();
            return Err(Error::Unsupported { what: "initial state carried over".into(), reason });
        }
    };
    if let (Some(c0), false) = (c0, config.cell.has_cell_state()) {
        return Err(Error::mismatch("c0", format!("none ({})", config.cell.name), format!("{:?}", c0.shape)));
    }
    let entries = config.num_layers * config.directions();
    let owned = |what: &str, view: Option<View<'_, T>>, width: usize| match view {
        Some(v) if unbatched && v.shape.len() == 2 => {
            v.check(what, &["L·D", "H"], &[entries, width])?;
            Ok(v.data.to_vec())
        }
        Some(v) => {
            v.check(what, &["L·D", "B", "H"], &[entries, batch, width])?;
            Ok(v.data.to_vec())
        }
        None => Ok(vec![T::default(); entries * batch * width]),
    };
    Ok((owned("h0", h0, config.state_size())?, owned("c0", c0, config.cell_size())?))
}

/// The caller's layout to time-major (`to_native`) or back.
pub(super) fn rearranged<T: Scalar>(
    data: &[T],
    layout: Layout,
    shape: Shape,
    features: usize,
    to_native: bool,
) -> Vec<T> {
    if layout == Layout::TimeMajor {
        return data.to_vec();
    }
    let mut out = vec![T::default(); data.len()];
    for t in 0..shape.time {
        for b in 0..shape.batch {
            let (native, batch_first) = (t * shape.batch + b, b * shape.time + t);
            let (from, to) = if to_native { (batch_first, native) } else { (native, batch_first) };
            out[to * features..][..features].copy_from_slice(&data[from * features..][..features]);
        }
    }
    out
}

/// One step of one sequence: h and c (of a cell of several cell states one after the other) are updated in place.
type Cell<T> = fn(&Sums<'_, T>, &Rules, &mut [T], &mut [T]);

fn equations<T: Scalar>(config: &RnnConfig) -> Result<Cell<T>> {
    match config.cell.name {
        "rnn-tanh" | "rnn-relu" => Ok(rnn),
        "lstm" | "lstm-peephole" => Ok(lstm),
        "gru" => Ok(gru_reset_after),
        "gru-reset-before" => Ok(gru_reset_before),
        "lstm-layer-norm" => Ok(naive_normal::lstm),
        "slstm" => Ok(naive_slstm::slstm),
        "gru-layer-norm" => Ok(naive_normal::gru),
        other => Err(Error::Unsupported { what: format!("cell {other}"), reason: "the naive loop lacks it".into() }),
    }
}

/// The linear parts of a step, from gate-major rows.
pub(super) struct Sums<'a, T> {
    pub weights: &'a LayerWeights<T>,
    pub hidden: usize,
    /// R is so many blocks: a unit of head j of `heads` sees part j of h.
    pub heads: usize,
    pub x: &'a [T],
    /// How the x parts are stored.
    pub activations: ActivationFormat,
}

impl<T: Scalar> Sums<'_, T> {
    /// `W_gate x + b_w` of a unit, or `x + b_w` of a layer without W; as it is stored.
    pub fn w(&self, gate: usize, unit: usize) -> T {
        self.activations.rounded(self.x_part(gate, unit))
    }
    fn x_part(&self, gate: usize, unit: usize) -> T {
        if self.weights.w.is_empty() {
            let bias = self.weights.b_w.get(gate * self.hidden + unit).copied().unwrap_or_default();
            return bias + self.x[unit];
        }
        dot(&self.weights.w, &self.weights.b_w, gate * self.hidden + unit, self.x)
    }
    /// `R_gate h + b_r` of a unit.
    pub fn r(&self, gate: usize, unit: usize, h: &[T]) -> T {
        dot(&self.weights.r, &self.weights.b_r, gate * self.hidden + unit, &h[self.seen(unit, h.len())])
    }
    /// Which of the `features` of h a unit sees.
    pub fn seen(&self, unit: usize, features: usize) -> Range<usize> {
        let (head, depth) = (unit / (self.hidden / self.heads), features / self.heads);
        head * depth..(head + 1) * depth
    }
    /// Both. What is stored of them is the x part with both biases.
    pub fn both(&self, gate: usize, unit: usize, h: &[T]) -> T {
        if self.activations == ActivationFormat::F32 {
            return self.x_part(gate, unit) + self.r(gate, unit, h);
        }
        let row = gate * self.hidden + unit;
        let bias = self.weights.b_r.get(row).copied().unwrap_or_default();
        let stored = self.activations.rounded(self.x_part(gate, unit) + bias);
        stored + dot(&self.weights.r, &[], row, &h[self.seen(unit, h.len())])
    }
    /// Per-unit parameter `index` of a unit, or 0 for a cell without.
    pub fn unit(&self, index: usize, unit: usize) -> T {
        self.weights.unit.get(index * self.hidden + unit).copied().unwrap_or_default()
    }
}

/// `bias[row] + Σ matrix[row] · v`, in order; no bias counts as 0.
pub(super) fn dot<T: Scalar>(matrix: &[T], bias: &[T], row: usize, v: &[T]) -> T {
    let mut sum = bias.get(row).copied().unwrap_or_default();
    for (m, x) in matrix[row * v.len()..][..v.len()].iter().zip(v) {
        sum = sum + *m * *x;
    }
    sum
}

fn rnn<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], _c: &mut [T]) {
    let old = h.to_vec();
    for (j, new) in h.iter_mut().enumerate() {
        *new = rules.apply(0, sums.both(0, j, &old));
    }
}

/// With peepholes where there are unit parameters (p_i, p_f, p_o), with projection where there is one.
fn lstm<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], c: &mut [T]) {
    let mut out = vec![T::default(); c.len()];
    for (j, c) in c.iter_mut().enumerate() {
        let i = rules.apply(0, sums.both(0, j, h) + sums.unit(0, j) * *c);
        let f = rules.coupled(i).unwrap_or_else(|| rules.apply(0, sums.both(1, j, h) + sums.unit(1, j) * *c));
        let g = rules.apply(1, sums.both(2, j, h));
        *c = rules.cell(f * *c + i * g).0;
        let o = rules.apply(0, sums.both(3, j, h) + sums.unit(2, j) * *c);
        out[j] = o * rules.apply(2, *c);
    }
    let projection = &sums.weights.projection;
    if projection.is_empty() {
        h.copy_from_slice(&out);
    } else {
        for (p, new) in h.iter_mut().enumerate() {
            *new = dot(projection, &[], p, &out);
        }
    }
}

fn gru_reset_after<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], _c: &mut [T]) {
    let old = h.to_vec();
    for (j, new) in h.iter_mut().enumerate() {
        let r = rules.apply(0, sums.both(0, j, &old));
        let z = rules.apply(0, sums.both(1, j, &old));
        let n = rules.apply(1, sums.w(2, j) + r * sums.r(2, j, &old));
        *new = (T::from_f64(1.0) - z) * n + z * old[j];
    }
}

fn gru_reset_before<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], _c: &mut [T]) {
    let old = h.to_vec();
    let reset: Vec<T> = (0..h.len()).map(|j| rules.apply(0, sums.both(0, j, &old)) * old[j]).collect();
    for (j, new) in h.iter_mut().enumerate() {
        let z = rules.apply(0, sums.both(1, j, &old));
        let n = rules.apply(1, sums.both(2, j, &reset));
        *new = (T::from_f64(1.0) - z) * n + z * old[j];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Case, Golden, tolerance};
    use wgpu_rnn::{Activation, Bias, cells};

    /// The link that makes the calibrator trustworthy: in f64 it agrees with PyTorch on every golden of a stack.
    #[test]
    fn f64_agrees_with_every_golden() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/torch_golden");
        let (mut seen, mut failures) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).expect("the goldens are in the project") {
            let golden = Golden::open(entry.expect("readable folder").path()).expect("a golden of a known kind");
            let Case::Layers(layers) = &golden.case else { continue };
            let output = layers.naive::<f64>().expect("a golden fits together");
            let got = [Some(&output.y), Some(&output.hn), output.cn.as_ref()];
            let truths = golden.truths.iter().filter(|t| t.name.starts_with("out.") && t.name != "out.loss");
            assert_eq!(got.iter().flatten().count(), truths.clone().count(), "{}", golden.name);
            for (truth, tensor) in truths.zip(got.iter().flatten()) {
                assert_eq!(tensor.shape, truth.tensor.shape, "{} {}", golden.name, truth.name);
                let error = tolerance::error(&tensor.data, &truth.tensor.data);
                if error > tolerance::bound_f64(tolerance::scale(&truth.tensor.data)) {
                    failures.push(format!("{} {} {error:.3e}", golden.name, truth.name));
                }
            }
            seen += 1;
        }
        assert_eq!((seen, failures), (26, Vec::new()));
    }

    fn config(cell: &'static wgpu_rnn::Cell, hidden_size: usize) -> RnnConfig {
        RnnConfig { cell, input_size: 3, hidden_size, ..Default::default() }
    }

    fn values(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 37 + seed * 13) % 101) as f64 / 50.0 - 1.0).collect()
    }

    fn run(config: &RnnConfig, weights: &Weights<f64>, x: &[f64], h0: &[f64]) -> Output<f64> {
        let (x_shape, h_shape) = ([x.len() / config.input_size, config.input_size], [1, h0.len()]);
        let initial = Initial::Given { h0: Some(View::new(h0, &h_shape)), c0: None };
        let input = Input { initial, ..Input::new(View::new(x, &x_shape)) };
        forward(config, weights, &input).expect("fits")
    }

    fn close(a: &Output<f64>, b: &Output<f64>) -> bool {
        tolerance::error(&a.y.data, &b.y.data) < 1e-14
    }

    /// PyTorch has no reset-before GRU, but with a diagonal R_n and no recurrent bias r∘(R_n h) = R_n (r∘h), and with r = 1
    /// the two are the same for any R_n.
    #[test]
    fn reset_before_is_reset_after_where_the_order_does_not_matter() {
        let (before, after) = (config(&cells::GRU_RESET_BEFORE, 4), config(&cells::GRU, 4));
        let (x, h0) = (values(15, 1), values(4, 2));
        let mut diagonal = Weights::<f64>::random(&after, 3).expect("valid");
        for j in 0..4 {
            diagonal.layers[0].b_r[8 + j] = 0.0;
            for k in (0..4).filter(|&k| k != j) {
                diagonal.layers[0].r[(8 + j) * 4 + k] = 0.0;
            }
        }
        assert!(close(&run(&before, &diagonal, &x, &h0), &run(&after, &diagonal, &x, &h0)));
        let mut open = Weights::<f64>::random(&after, 4).expect("valid");
        assert!(!close(&run(&before, &open, &x, &h0), &run(&after, &open, &x, &h0)), "the order matters in general");
        open.layers[0].b_w[..4].fill(100.0);
        assert!(close(&run(&before, &open, &x, &h0), &run(&after, &open, &x, &h0)));
    }

    /// Which reset gate meets which column of R_n, and the candidate's activation: two units that swap, by hand.
    #[test]
    fn reset_before_by_hand() {
        let config = RnnConfig {
            input_size: 1,
            activations: vec![Activation::Sigmoid, Activation::Relu],
            ..config(&cells::GRU_RESET_BEFORE, 2)
        };
        let mut weights = Weights::<f64>::random(&config, 1).expect("valid");
        let layer = &mut weights.layers[0];
        (layer.w, layer.b_r) = (vec![0.0; 6], vec![0.0; 6]);
        layer.b_w = vec![0.5, -1.0, 0.25, 0.75, 0.1, 0.2];
        layer.r = [[0.0; 2]; 4].into_iter().chain([[0.0, 2.0], [3.0, 0.0]]).flatten().collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (r, z, h) = ([sigmoid(0.5), sigmoid(-1.0)], [sigmoid(0.25), sigmoid(0.75)], [0.6, 0.9]);
        let n = [0.1 + 2.0 * r[1] * h[1], 0.2 + 3.0 * r[0] * h[0]];
        let expected = [0, 1].map(|j| (1.0 - z[j]) * n[j] + z[j] * h[j]);
        assert!(tolerance::error(&run(&config, &weights, &[1.0], &h).hn.data, &expected) < 1e-15);
    }

    /// PyTorch has no peepholes: i and f see the old cell state, o the new one; without them it is the LSTM.
    #[test]
    fn peepholes_by_hand() {
        let plain = config(&cells::LSTM, 1);
        let peeping = config(&cells::LSTM_PEEPHOLE, 1);
        let mut weights = Weights::<f64>::random(&peeping, 5).expect("valid");
        let mut without = weights.clone();
        without.layers[0].unit.clear();
        let x = values(12, 6);
        weights.layers[0].unit.fill(0.0);
        assert_eq!(run(&peeping, &weights, &x, &[0.3]), run(&plain, &without, &x, &[0.3]));

        let layer = &mut weights.layers[0];
        (layer.w, layer.r, layer.b_r) = (vec![0.0; 12], vec![0.0; 4], vec![0.0; 4]);
        (layer.b_w, layer.unit) = (vec![0.1, 0.2, 0.3, 0.4], vec![2.0, -3.0, 5.0]);
        let (shape, c0, x) = ([1, 1], [0.7], [0.0; 3]);
        let initial = Initial::Given { h0: None, c0: Some(View::new(&c0, &shape)) };
        let input = Input { initial, ..Input::new(View::new(&x, &[1, 3])) };
        let got = forward(&peeping, &weights, &input).expect("fits");
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let c = sigmoid(0.2 - 3.0 * 0.7) * 0.7 + sigmoid(0.1 + 2.0 * 0.7) * 0.3f64.tanh();
        let h = sigmoid(0.4 + 5.0 * c) * c.tanh();
        assert!(tolerance::error(&got.hn.data, &[h]) < 1e-15);
        assert!(tolerance::error(&got.cn.expect("an LSTM").data, &[c]) < 1e-15);
    }

    #[test]
    fn reverse_is_flip_and_one_bias_is_two_with_a_zero() {
        for cell in cells::ALL {
            let two = config(cell, 4);
            let one = RnnConfig { bias: Bias::One, ..two.clone() };
            let reverse = RnnConfig { direction: Direction::Reverse, ..two.clone() };
            let mut weights = Weights::<f64>::random(&two, 7).expect("valid");
            let (x, h0) = (values(15, 8), values(4, 9));
            let flip = |v: &[f64], n: usize| v.chunks(n).rev().flatten().copied().collect::<Vec<_>>();
            let forwards = run(&two, &weights, &x, &h0);
            let backwards = run(&reverse, &weights, &flip(&x, 3), &h0);
            assert_eq!((flip(&forwards.y.data, 4), forwards.hn), (backwards.y.data, backwards.hn), "{}", cell.name);

            weights.layers[0].b_r.fill(0.0);
            let zero = run(&two, &weights, &x, &h0);
            weights.layers[0].b_r.clear();
            assert_eq!(zero, run(&one, &weights, &x, &h0), "{}", cell.name);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let config = config(&cells::GRU, 4);
        let weights = Weights::<f64>::random(&config, 1).expect("valid");
        let x = values(30, 1);
        let few = View::new(&x[..10], &[5, 2, 3]);
        let message = |input: &Input<'_, f64>| forward(&config, &weights, input).expect_err("does not fit").to_string();
        assert_eq!(message(&Input::new(View::new(&x, &[5, 3, 2]))), "x: expected [T, B, I] = [5, 3, 3], got [5, 3, 2]");
        assert_eq!(message(&Input::new(few)), "x: expected the values of [5, 2, 3], got 10 values");
        assert_eq!(message(&Input::new(View::new(&x, &[30]))), "x: expected 2 or 3 dimensions, got [30]");
        let good = Input::new(View::new(&x, &[5, 2, 3]));
        assert!(message(&Input { lengths: Some(&[5, 6]), ..good }).starts_with("lengths[1]"));
        assert!(message(&Input { initial: Initial::Carry, ..good }).contains("not supported"));
        let given = Initial::Given { h0: Some(View::new(&x, &[1, 2, 5])), c0: None };
        assert!(message(&Input { initial: given, ..good }).starts_with("h0: expected [L·D, B, H] = [1, 2, 4]"));
        let given = Initial::Given { h0: None, c0: Some(View::new(&x, &[1, 2, 4])) };
        assert!(message(&Input { initial: given, ..good }).starts_with("c0: expected none"));
    }
}
