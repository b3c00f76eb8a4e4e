//! The calibrator's way back: backpropagation through time of [`super::naive`], one step of one sequence at a time.
//!
//! Each cell's adjoint is spelled out from its equations (in the docs of [`wgpu_rnn::cells`]); like the forward loop it shares
//! no arithmetic with the executors. In f64 it must agree with the golden `grad.*`, in f32 its error is the yardstick of
//! [`super::tolerance`].

use super::naive::{self, Scalar, Sums, Tape, rearranged, shape_of, time_of};
use super::naive_rules::Rules;
use super::{naive_normal, naive_slstm};
use wgpu_rnn::weights::{Field, LayerWeights, Weights};
use wgpu_rnn::{ActivationFormat, Error, Gradients, Input, Output, Result, RnnConfig, Shape, Tensor, Upstream, View};

/// Gradients of everything that a run over `input` reads, given those of what it gives, as [`wgpu_rnn::Session::backward`]
/// does: same arguments, same shapes, same result.
///
/// # Errors
/// As [`naive::forward`], and [`Error::Mismatch`] for an upstream gradient of another shape than its output.
pub fn backward<T: Scalar>(
    config: &RnnConfig,
    weights: &Weights<T>,
    input: &Input<'_, T>,
    upstream: &Upstream<'_, T>,
) -> Result<Gradients<T>> {
    let mut tape = Tape::default();
    let output = naive::run(config, weights, input, ActivationFormat::F32, Some(&mut tape))?;
    let (shape, _) = shape_of(config, input.x)?;
    let Start { y, mut h, mut c } = Start::new(&output, upstream)?;
    let (adjoint, rules) = (adjoint_of(config)?, Rules::of(config));
    let (hidden, state, directions) = (config.hidden_size, config.state_size(), config.directions());
    let (heads, cell_size) = (config.recurrence.heads(state), config.cell_size());
    let mut grads = zeros_like(weights);

    let mut d_output = rearranged(&y, config.layout, shape, config.output_size(), true);
    for layer in (0..config.num_layers).rev() {
        let features = config.layer_input_size(layer);
        let layer_input = &tape.inputs[layer];
        let mut d_input = vec![T::default(); layer_input.len()];
        for direction in (0..directions).rev() {
            let entry = layer * directions + direction;
            for b in (0..shape.batch).rev() {
                let d_h = &mut h[(entry * shape.batch + b) * state..][..state];
                let d_c = &mut c[(entry * shape.batch + b) * cell_size..][..cell_size];
                let length = input.lengths.map_or(shape.time, |l| l[b]);
                for step in (0..length).rev() {
                    let before = tape.states.split_off(tape.states.len() - state - cell_size);
                    let row = time_of(config, direction, step, length) * shape.batch + b;
                    for (d, up) in d_h.iter_mut().zip(&d_output[(row * directions + direction) * state..][..state]) {
                        *d = *d + *up;
                    }
                    let x = &layer_input[row * features..][..features];
                    let mut at = Step {
                        sums: Sums {
                            weights: &weights.layers[entry],
                            hidden,
                            heads,
                            x,
                            activations: ActivationFormat::F32,
                        },
                        rules: &rules[direction],
                        h: &before[..state],
                        c: &before[state..],
                        grads: &mut grads.layers[entry],
                        d_x: &mut d_input[row * features..][..features],
                    };
                    adjoint(&mut at, d_h, d_c);
                }
            }
        }
        d_output = d_input;
    }
    Ok(collected(config, input, shape, &output, (d_output, h, c), grads))
}

/// Upstream gradients, zeros where none is given: where the way back starts.
struct Start<T> {
    y: Vec<T>,
    h: Vec<T>,
    c: Vec<T>,
}

impl<T: Scalar> Start<T> {
    fn new(output: &Output<T>, upstream: &Upstream<'_, T>) -> Result<Self> {
        let owned = |what: &str, view: Option<View<'_, T>>, of: &Tensor<T>| match view {
            Some(v) if v.shape == of.shape && v.data.len() == of.data.len() => Ok(v.data.to_vec()),
            Some(v) => {
                let got = format!("{:?}, {} values", v.shape, v.data.len());
                Err(Error::mismatch(what, format!("{:?}", of.shape), got))
            }
            None => Ok(vec![T::default(); of.data.len()]),
        };
        let c = match (&output.cn, upstream.cn) {
            (Some(cn), up) => owned("dcn", up, cn)?,
            (None, Some(up)) => return Err(Error::mismatch("dcn", "none", format!("{:?}", up.shape))),
            (None, None) => Vec::new(),
        };
        Ok(Self { y: owned("dy", upstream.y, &output.y)?, h: owned("dhn", upstream.hn, &output.hn)?, c })
    }
}

fn collected<T: Scalar>(
    config: &RnnConfig,
    input: &Input<'_, T>,
    shape: Shape,
    output: &Output<T>,
    (d_x, d_h, d_c): (Vec<T>, Vec<T>, Vec<T>),
    weights: Weights<T>,
) -> Gradients<T> {
    let data = rearranged(&d_x, config.layout, shape, config.input_size, false);
    Gradients {
        x: Tensor { data, shape: input.x.shape.to_vec() },
        h0: Tensor { data: d_h, shape: output.hn.shape.clone() },
        c0: output.cn.as_ref().map(|cn| Tensor { data: d_c, shape: cn.shape.clone() }),
        weights,
    }
}

fn zeros_like<T: Scalar>(weights: &Weights<T>) -> Weights<T> {
    let mut zeros = weights.clone();
    for layer in &mut zeros.layers {
        Field::ALL.iter().for_each(|&field| layer.get_mut(field).fill(T::default()));
    }
    // What is around the stack has its gradients from [`super::naive_ends`].
    [&mut zeros.embedding, &mut zeros.head, &mut zeros.head_bias].into_iter().for_each(|ends| ends.fill(T::default()));
    zeros
}

/// One step of one sequence: the gradients of h and c after it become those of h and c before it; those of x and of the
/// parameters are added to what is there.
type Adjoint<T> = fn(&mut Step<'_, T>, &mut [T], &mut [T]);

fn adjoint_of<T: Scalar>(config: &RnnConfig) -> Result<Adjoint<T>> {
    match config.cell.name {
        "rnn-tanh" | "rnn-relu" => Ok(rnn),
        "lstm" | "lstm-peephole" => Ok(lstm),
        "gru" => Ok(gru_reset_after),
        "gru-reset-before" => Ok(gru_reset_before),
        "lstm-layer-norm" => Ok(naive_normal::lstm_back),
        "slstm" => Ok(naive_slstm::slstm_back),
        "gru-layer-norm" => Ok(naive_normal::gru_back),
        other => {
            let reason = "the naive way back lacks it".into();
            Err(Error::Unsupported { what: format!("gradients of cell {other}"), reason })
        }
    }
}

/// What a step read, and where its gradients go.
pub(super) struct Step<'a, T> {
    pub sums: Sums<'a, T>,
    pub rules: &'a Rules,
    /// h before the step.
    pub h: &'a [T],
    /// c before the step.
    pub c: &'a [T],
    pub grads: &'a mut LayerWeights<T>,
    pub d_x: &'a mut [T],
}

impl<T: Scalar> Step<'_, T> {
    /// Adjoint of [`Sums::w`].
    fn w(&mut self, gate: usize, unit: usize, d: T) {
        let (row, sums) = (gate * self.sums.hidden + unit, &self.sums);
        if sums.weights.w.is_empty() {
            if let Some(sum) = self.grads.b_w.get_mut(row) {
                *sum = *sum + d;
            }
            self.d_x[unit] = self.d_x[unit] + d;
            return;
        }
        dot_adjoint(&sums.weights.w, row, sums.x, d, (&mut self.grads.w, &mut self.grads.b_w), self.d_x);
    }
    /// Adjoint of [`Sums::r`].
    fn r(&mut self, gate: usize, unit: usize, h: &[T], d: T, d_h: &mut [T]) {
        let (row, seen) = (gate * self.sums.hidden + unit, self.sums.seen(unit, h.len()));
        let to = (&mut self.grads.r[..], &mut self.grads.b_r[..]);
        dot_adjoint(&self.sums.weights.r, row, &h[seen.clone()], d, to, &mut d_h[seen]);
    }
    /// Adjoint of [`Sums::both`].
    pub fn both(&mut self, gate: usize, unit: usize, h: &[T], d: T, d_h: &mut [T]) {
        self.w(gate, unit, d);
        self.r(gate, unit, h, d, d_h);
    }
    /// Adjoint of [`Sums::unit`].
    fn unit(&mut self, index: usize, unit: usize, d: T) {
        if let Some(sum) = self.grads.unit.get_mut(index * self.sums.hidden + unit) {
            *sum = *sum + d;
        }
    }
}

/// Adjoint of `bias[row] + Σ matrix[row] · v`.
pub(super) fn dot_adjoint<T: Scalar>(matrix: &[T], row: usize, v: &[T], d: T, to: (&mut [T], &mut [T]), d_v: &mut [T]) {
    let (d_matrix, d_bias) = to;
    if let Some(sum) = d_bias.get_mut(row) {
        *sum = *sum + d;
    }
    let at = row * v.len();
    for (k, (x, d_x)) in v.iter().zip(d_v).enumerate() {
        d_matrix[at + k] = d_matrix[at + k] + d * *x;
        *d_x = *d_x + d * matrix[at + k];
    }
}

/// Takes the gradients out and leaves zeros to add to.
pub(super) fn taken<T: Scalar>(d: &mut [T]) -> Vec<T> {
    let values = d.to_vec();
    d.fill(T::default());
    values
}

fn rnn<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], _d_c: &mut [T]) {
    let h = s.h;
    for (j, d) in taken(d_h).into_iter().enumerate() {
        let (_, slope) = s.rules.both(0, s.sums.both(0, j, h));
        s.both(0, j, h, d * slope, d_h);
    }
}

/// The values of one LSTM unit at a step, each but c' with its activation's derivative.
struct LstmUnit<T> {
    i: (T, T),
    f: (T, T),
    g: (T, T),
    o: (T, T),
    /// c'
    c: T,
    /// How much of its gradient comes back.
    passes: T,
    /// tanh(c')
    t: (T, T),
}

impl<T: Scalar> LstmUnit<T> {
    fn new(s: &Step<'_, T>, j: usize) -> Self {
        let (sums, rules, c) = (&s.sums, s.rules, s.c[j]);
        let i = rules.both(0, sums.both(0, j, s.h) + sums.unit(0, j) * c);
        let f = match rules.coupled(i.0) {
            Some(f) => (f, T::default()),
            None => rules.both(0, sums.both(1, j, s.h) + sums.unit(1, j) * c),
        };
        let g = rules.both(1, sums.both(2, j, s.h));
        let (c, passes) = rules.cell(f.0 * c + i.0 * g.0);
        let o = rules.both(0, sums.both(3, j, s.h) + sums.unit(2, j) * c);
        Self { i, f, g, o, c, passes, t: rules.both(2, c) }
    }
}

fn lstm<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], d_c: &mut [T]) {
    let h = s.h;
    let units: Vec<LstmUnit<T>> = (0..d_c.len()).map(|j| LstmUnit::new(s, j)).collect();
    let d_new = taken(d_h);
    let mut d_out = d_new.clone();
    if !s.sums.weights.projection.is_empty() {
        let out: Vec<T> = units.iter().map(|u| u.o.0 * u.t.0).collect();
        d_out = vec![T::default(); units.len()];
        for (p, &d) in d_new.iter().enumerate() {
            let to = (&mut s.grads.projection[..], &mut [][..]);
            dot_adjoint(&s.sums.weights.projection, p, &out, d, to, &mut d_out);
        }
    }
    for (j, u) in units.iter().enumerate() {
        let old = s.c[j];
        let [p_i, p_f, p_o] = [0, 1, 2].map(|n| s.sums.unit(n, j));
        let d_o = d_out[j] * u.t.0 * u.o.1;
        // c' leads to h' directly, through the peephole of o, and to the next step.
        let d = u.passes * (d_out[j] * u.o.0 * u.t.1 + d_o * p_o + d_c[j]);
        // Coupled, i takes from the old c what it gives to the new one.
        let effect = if s.rules.coupled(u.i.0).is_some() { u.g.0 - old } else { u.g.0 };
        let d_i = d * effect * u.i.1;
        let d_f = d * old * u.f.1;
        let d_g = d * u.i.0 * u.g.1;
        d_c[j] = d * u.f.0 + d_i * p_i + d_f * p_f;
        for (gate, d) in [d_i, d_f, d_g, d_o].into_iter().enumerate() {
            s.both(gate, j, h, d, d_h);
        }
        for (index, d) in [d_i * old, d_f * old, d_o * u.c].into_iter().enumerate() {
            s.unit(index, j, d);
        }
    }
}

fn gru_reset_after<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], _d_c: &mut [T]) {
    let (h, rules, one) = (s.h, s.rules, T::from_f64(1.0));
    for (j, d) in taken(d_h).into_iter().enumerate() {
        let (r, r_slope) = rules.both(0, s.sums.both(0, j, h));
        let (z, z_slope) = rules.both(0, s.sums.both(1, j, h));
        let recurrent = s.sums.r(2, j, h);
        let (n, n_slope) = rules.both(1, s.sums.w(2, j) + r * recurrent);
        let d_n = d * (one - z) * n_slope;
        s.both(0, j, h, d_n * recurrent * r_slope, d_h);
        s.both(1, j, h, d * (h[j] - n) * z_slope, d_h);
        s.w(2, j, d_n);
        s.r(2, j, h, d_n * r, d_h);
        d_h[j] = d_h[j] + d * z;
    }
}

fn gru_reset_before<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], _d_c: &mut [T]) {
    let (h, rules, one) = (s.h, s.rules, T::from_f64(1.0));
    let r: Vec<(T, T)> = (0..h.len()).map(|j| rules.both(0, s.sums.both(0, j, h))).collect();
    let reset: Vec<T> = r.iter().zip(h).map(|(r, h)| r.0 * *h).collect();
    let mut d_reset = vec![T::default(); h.len()];
    for (j, d) in taken(d_h).into_iter().enumerate() {
        let (z, z_slope) = rules.both(0, s.sums.both(1, j, h));
        let (n, n_slope) = rules.both(1, s.sums.both(2, j, &reset));
        s.both(1, j, h, d * (h[j] - n) * z_slope, d_h);
        s.both(2, j, &reset, d * (one - z) * n_slope, &mut d_reset);
        d_h[j] = d_h[j] + d * z;
    }
    for (j, d) in d_reset.into_iter().enumerate() {
        s.both(0, j, h, d * h[j] * r[j].1, d_h);
        d_h[j] = d_h[j] + d * r[j].0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Golden, tolerance};
    use wgpu_rnn::weights::parameters;
    use wgpu_rnn::{Bias, Direction, Initial, Layout, cells};

    /// The link that makes the calibrator trustworthy: in f64 it agrees with PyTorch's autograd on every golden of a stack.
    #[test]
    fn f64_agrees_with_every_golden() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/torch_golden");
        let (mut seen, mut failures) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).expect("the goldens are in the project") {
            let golden = Golden::open(entry.expect("readable folder").path()).expect("a golden of a known kind");
            let crate::Case::Layers(layers) = &golden.case else { continue };
            let got = layers.naive_run::<f64>().expect("it fits together");
            let truths: Vec<_> = golden.truths.iter().filter(|t| t.name.starts_with("grad.")).collect();
            let states = usize::from(layers.h0.is_some()) + usize::from(layers.c0.is_some());
            assert_eq!(truths.len(), 1 + states + parameters(&layers.config).len(), "{}", golden.name);
            for truth in truths {
                let (_, tensor) = got.iter().find(|(name, _)| *name == truth.name).expect("computed");
                assert_eq!(tensor.shape, truth.tensor.shape, "{} {}", golden.name, truth.name);
                let error = tolerance::error(&tensor.data, &truth.tensor.data);
                if error > tolerance::bound_f64(truth.scale) {
                    failures.push(format!("{} {} {error:.3e}", golden.name, truth.name));
                }
            }
            seen += 1;
        }
        assert_eq!((seen, failures), (26, Vec::new()));
    }

    const SHAPE: Shape = Shape { time: 4, batch: 3 };
    const LENGTHS: [usize; 3] = [2, 4, 1];

    fn values(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 37 + seed * 13) % 101) as f64 / 50.0 - 1.0).collect()
    }

    /// A run's arguments: x, h0, c0, parameters; and its upstream gradients y, hn, cn.
    #[derive(Clone)]
    struct Case {
        config: RnnConfig,
        read: [Vec<f64>; 3],
        weights: Weights<f64>,
        up: [Vec<f64>; 3],
    }

    impl Case {
        fn new(config: RnnConfig) -> Self {
            let rows = SHAPE.time * SHAPE.batch;
            let stack = config.num_layers * config.directions() * SHAPE.batch;
            let (h, c) = (stack * config.state_size(), stack * config.cell_size());
            let mut weights = Weights::random(&config, 4).expect("valid");
            // Gains start as 1, which would hide where they belong.
            for layer in &mut weights.layers {
                layer.gains = values(layer.gains.len(), 8).iter().map(|v| 1.0 + v / 2.0).collect();
            }
            let mut read = [(rows * config.input_size, 1), (h, 2), (c, 3)].map(|(n, seed)| values(n, seed));
            if config.cell == &cells::SLSTM {
                // A state that a run may have left: n is at least 1.
                let normalisers = read[2].chunks_exact_mut(config.hidden_size).skip(1).step_by(3);
                normalisers.flatten().for_each(|n| *n = 1.0 + n.abs());
            }
            Self {
                read,
                weights,
                up: [(rows * config.output_size(), 5), (h, 6), (c, 7)].map(|(n, seed)| values(n, seed)),
                config,
            }
        }

        fn with<R>(&self, run: impl FnOnce(&Input<'_, f64>, &Upstream<'_, f64>) -> R) -> R {
            let outer = match self.config.layout {
                Layout::TimeMajor => [SHAPE.time, SHAPE.batch],
                Layout::BatchFirst => [SHAPE.batch, SHAPE.time],
            };
            let [x, y] = [self.config.input_size, self.config.output_size()].map(|n| [outer[0], outer[1], n]);
            let stack = self.config.num_layers * self.config.directions();
            let [h, c] = [self.config.state_size(), self.config.cell_size()].map(|n| [stack, SHAPE.batch, n]);
            let cell = self.config.cell.has_cell_state();
            let initial = Initial::Given {
                h0: Some(View::new(&self.read[1], &h)),
                c0: cell.then(|| View::new(&self.read[2], &c)),
            };
            let input = Input { lengths: Some(&LENGTHS), initial, ..Input::new(View::new(&self.read[0], &x)) };
            let upstream = Upstream {
                y: Some(View::new(&self.up[0], &y)),
                hn: Some(View::new(&self.up[1], &h)),
                cn: cell.then(|| View::new(&self.up[2], &c)),
            };
            run(&input, &upstream)
        }

        fn loss(&self) -> f64 {
            let output = self.with(|input, _| naive::forward(&self.config, &self.weights, input)).expect("fits");
            let outputs = [Some(output.y), Some(output.hn), output.cn].into_iter().flatten();
            outputs.zip(&self.up).map(|(t, up)| t.data.iter().zip(up).map(|(a, b)| a * b).sum::<f64>()).sum()
        }

        /// d loss / d (the number that `at` points to).
        fn difference(&self, at: impl Fn(&mut Self) -> &mut f64) -> f64 {
            let shifted = |by: f64| {
                let mut case = self.clone();
                *at(&mut case) += by;
                case.loss()
            };
            let central = |step: f64| (shifted(step) - shifted(-step)) / (2.0 * step);
            // Without the term in step², which is large where a row that is normalised has little variance.
            (4.0 * central(STEP) - central(2.0 * STEP)) / 3.0
        }
    }

    /// About eps^(1/3): the truncation error (step², then extrapolated away) and the rounding error (eps / step) of a difference
    /// are both 4e-11.
    const STEP: f64 = 6e-6;
    /// A hundred of those errors, for the sizes of the third derivatives and of the loss.
    const DIFFERENCE_BOUND: f64 = 4e-9;

    fn agrees_with_differences(case: &Case) {
        let (config, name) = (&case.config, case.config.cell.name);
        let got = case.with(|input, up| backward(config, &case.weights, input, up)).expect("fits");
        let close = |what: &str, got: &[f64], truth: &[f64]| {
            let bound = DIFFERENCE_BOUND * tolerance::scale(truth).max(1.0);
            let error = tolerance::error(got, truth);
            assert!(error <= bound, "{name} {what}: {error:e} > {bound:e}");
        };
        let read = [Some(&got.x), Some(&got.h0), got.c0.as_ref()];
        for (n, tensor) in read.iter().enumerate().filter_map(|(n, t)| t.map(|t| (n, t))) {
            let truth: Vec<f64> = (0..case.read[n].len()).map(|i| case.difference(|c| &mut c.read[n][i])).collect();
            close(["x", "h0", "c0"][n], &tensor.data, &truth);
        }
        for (p, values) in got.weights.named(config) {
            let truth: Vec<f64> =
                (0..values.len()).map(|i| case.difference(|c| &mut c.weights.get_mut(p.place)[i])).collect();
            close(&p.name, values, &truth);
        }
    }

    /// PyTorch has neither peepholes nor a reset-before GRU nor one bias: those rest on differences of the forward loop.
    #[test]
    fn f64_agrees_with_central_differences_for_every_cell() {
        for cell in cells::ALL {
            let one = RnnConfig { cell, input_size: 3, hidden_size: 4, ..Default::default() };
            for bias in [Bias::None, Bias::One, Bias::Recurrent, Bias::Two] {
                agrees_with_differences(&Case::new(RnnConfig { bias, direction: Direction::Reverse, ..one.clone() }));
            }
            let proj_size = if cell.has_cell_state() { 2 } else { 0 };
            let direction = Direction::Bidirectional;
            let layout = Layout::BatchFirst;
            agrees_with_differences(&Case::new(RnnConfig { num_layers: 2, direction, layout, proj_size, ..one }));
        }
    }

    #[test]
    fn nothing_past_a_sequences_end_counts() {
        for cell in cells::ALL {
            let config = RnnConfig { cell, input_size: 3, hidden_size: 4, num_layers: 2, ..Default::default() };
            let mut case = Case::new(RnnConfig { direction: Direction::Bidirectional, ..config });
            let run =
                |case: &Case| case.with(|input, up| backward(&case.config, &case.weights, input, up)).expect("fits");
            let clean = run(&case);
            let (inputs, outputs) = (case.config.input_size, case.config.output_size());
            for (row, (t, b)) in (0..SHAPE.time).flat_map(|t| (0..SHAPE.batch).map(move |b| (t, b))).enumerate() {
                if t >= LENGTHS[b] {
                    assert_eq!(clean.x.data[row * inputs..][..inputs], [0.0; 3]);
                    case.read[0][row * inputs..][..inputs].fill(f64::NAN);
                    case.up[0][row * outputs..][..outputs].fill(f64::NAN);
                }
            }
            assert_eq!(run(&case), clean, "{}", cell.name);
        }
    }

    #[test]
    fn upstream_gradients_that_do_not_fit_are_refused() {
        let case = Case::new(RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 4, ..Default::default() });
        let message = |change: fn(&mut Upstream<'_, f64>)| {
            let refused = case.with(|input, up| {
                let mut up = *up;
                change(&mut up);
                backward(&case.config, &case.weights, input, &up)
            });
            refused.expect_err("does not fit").to_string()
        };
        assert_eq!(
            message(|up| up.y = Some(View::new(&[0.0; 4], &[1, 1, 4]))),
            "dy: expected [4, 3, 4], got [1, 1, 4], 4 values"
        );
        assert_eq!(
            message(|up| up.hn = Some(View::new(&[0.0; 4], &[1, 3, 4]))),
            "dhn: expected [1, 3, 4], got [1, 3, 4], 4 values"
        );
        assert_eq!(message(|up| up.cn = up.hn), "dcn: expected none, got [1, 3, 4]");
    }
}
