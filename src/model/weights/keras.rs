//! Weights from Keras, as `layer.get_weights()` gives them: kernel `[I, G·H]`, recurrent kernel `[H, G·H]` and bias, which are the
//! transposes of W and R with the gates along the columns.
//!
//! | Keras 2 and 3 | gates there | here | bias | [`Bias`] |
//! |---|---|---|---|---|
//! | `SimpleRNN` | h | [`cells::RNN_TANH`], [`cells::RNN_RELU`] | `[H]` | `One` |
//! | `LSTM` | i, f, c, o | [`cells::LSTM`] (c is g) | `[4·H]` | `One` |
//! | `GRU` (`reset_after=True`) | z, r, h | [`cells::GRU`] (r, z, n) | `[2, 3·H]` | `Two` |
//! | `GRU(reset_after=False)` | z, r, h | [`cells::GRU_RESET_BEFORE`] | `[3·H]` | `One` |
//! | any, `use_bias=False` | | | none | `None` |
//!
//! `Bidirectional(merge_mode="concat")` is [`crate::Direction::Bidirectional`]: its forward layer's arrays, then its backward
//! layer's. Keras 1, and files of its time, have `hard_sigmoid` as recurrent activation; that is another cell. Source:
//! `keras/src/layers/rnn/{simple_rnn,lstm,gru}.py`.

use super::{LayerWeights, Weights};
use crate::error::{Error, Result};
use crate::model::cell::Cell;
use crate::model::cells;
use crate::model::recurrence::Recurrence;
use crate::model::stack::{Bias, InputMode, RnnConfig};
use crate::num::Real;
use crate::tensor::View;

/// The arrays of one Keras layer in one direction.
#[derive(Clone, Copy, Debug)]
pub struct KerasLayer<'a, T> {
    /// `kernel` `[I, G·H]`.
    pub kernel: View<'a, T>,
    /// `recurrent_kernel` `[H, G·H]`.
    pub recurrent_kernel: View<'a, T>,
    /// `bias` `[G·H]` or, of a GRU with `reset_after`, `[2, G·H]`: input, recurrent; none with `use_bias=False`.
    pub bias: Option<View<'a, T>>,
}

impl<T: Real> Weights<T> {
    /// The stack of `config` from Keras's arrays, one entry per layer and direction as in [`Weights::layers`]; the table above
    /// says which cell and [`Bias`] a Keras layer is.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an array of another shape, and for another number of layers; [`Error::Unsupported`] for a
    /// configuration that Keras's layers cannot be: another cell, a projection, a recurrence that is not dense, an embedding, a
    /// head, no W in layer 0.
    pub fn from_keras(config: &RnnConfig, layers: &[KerasLayer<'_, T>]) -> Result<Self> {
        config.validate()?;
        let places = places(config)?;
        let entries = config.num_layers * config.directions();
        if layers.len() != entries {
            return Err(Error::mismatch("layers", format!("[layers · directions] = {entries}"), layers.len()));
        }
        let (h, gates) = (config.hidden_size, places.len());
        let mut weights = Self::default();
        for (n, layer) in layers.iter().enumerate() {
            let (what, i) = (|part: &str| format!("{part} {n}"), config.layer_input_size(n / config.directions()));
            layer.kernel.check(&what("kernel"), &["I", "G·H"], &[i, gates * h])?;
            layer.recurrent_kernel.check(&what("recurrent_kernel"), &["H", "G·H"], &[h, gates * h])?;
            let (b_w, b_r) = match (config.bias, layer.bias) {
                (Bias::None, None) => (Vec::new(), Vec::new()),
                (Bias::One, Some(bias)) => {
                    bias.check(&what("bias"), &["G·H"], &[gates * h])?;
                    (rows(bias.data, 1, places, h), Vec::new())
                }
                (Bias::Two, Some(bias)) => {
                    bias.check(&what("bias"), &["2", "G·H"], &[2, gates * h])?;
                    let (b_w, b_r) = bias.data.split_at(gates * h);
                    (rows(b_w, 1, places, h), rows(b_r, 1, places, h))
                }
                (bias, given) => {
                    let got = given.map_or("none".into(), |b| format!("{:?}", b.shape));
                    return Err(Error::mismatch(what("bias"), format!("that of Bias::{bias:?}"), got));
                }
            };
            let (w, r) = (rows(layer.kernel.data, i, places, h), rows(layer.recurrent_kernel.data, h, places, h));
            weights.layers.push(LayerWeights { w, r, b_w, b_r, ..Default::default() });
        }
        Ok(weights)
    }
}

/// For every gate of this crate's order, its place in Keras's.
fn places(config: &RnnConfig) -> Result<&'static [usize]> {
    let is = |cells: [&Cell; 2]| cells.contains(&config.cell);
    let places: Option<&'static [usize]> = if is([&cells::RNN_TANH, &cells::RNN_RELU]) {
        Some(&[0])
    } else if is([&cells::LSTM, &cells::LSTM]) {
        Some(&[0, 1, 2, 3])
    } else if is([&cells::GRU, &cells::GRU_RESET_BEFORE]) {
        Some(&[1, 0, 2])
    } else {
        None
    };
    let around = config.recurrence != Recurrence::Dense
        || config.input == InputMode::Skip
        || config.proj_size > 0
        || config.vocabulary.is_some()
        || config.head.is_some();
    places.filter(|_| !around).ok_or_else(|| Error::Unsupported {
        what: format!("{} with these options from Keras's arrays", config.cell.name),
        reason:
            "its layers are SimpleRNN, LSTM and GRU, with W, without projection, heads of the recurrence, embedding \
                 or head"
                .into(),
    })
}

/// Columns of `[inputs, G·H]`, in Keras's order of gates, as the rows of `[G·H, inputs]`.
fn rows<T: Real>(values: &[T], inputs: usize, places: &[usize], hidden: usize) -> Vec<T> {
    let columns = places.len() * hidden;
    let column = places.iter().flat_map(|&place| (0..hidden).map(move |unit| place * hidden + unit));
    column.flat_map(|column| (0..inputs).map(move |input| values[input * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{naive, tolerance};
    use crate::{Direction, Input};

    const T: usize = 3;
    const I: usize = 2;
    const H: usize = 3;

    /// Numbers with no symmetry that a swap of gates, units or axes would survive.
    fn values(seed: usize, n: usize) -> Vec<f64> {
        (0..n).map(|k| ((k * k + 7 * seed * k + seed) % 31) as f64 / 31.0 - 0.5).collect()
    }

    /// A layer's arrays.
    struct Arrays {
        gates: usize,
        kernel: Vec<f64>,
        recurrent: Vec<f64>,
        bias: Vec<f64>,
        biases: usize,
    }

    impl Arrays {
        fn new(gates: usize, biases: usize, seed: usize) -> Self {
            let n = gates * H;
            let (kernel, recurrent) = (values(seed, I * n), values(seed + 1, H * n));
            Self { gates, kernel, recurrent, bias: values(seed + 2, biases * n), biases }
        }
        /// `np.dot(v, matrix) + bias`, row `which` of the biases.
        fn dot(&self, v: &[f64], matrix: &[f64], which: usize) -> Vec<f64> {
            let n = self.gates * H;
            let bias = |c: usize| if which < self.biases { self.bias[which * n + c] } else { 0.0 };
            let column = |c: usize| v.iter().enumerate().map(|(row, v)| v * matrix[row * n + c]).sum::<f64>() + bias(c);
            (0..n).map(column).collect()
        }
        fn weights(&self, config: &RnnConfig) -> Result<Weights<f64>> {
            let n = self.gates * H;
            let bias_shape = if self.biases == 2 { vec![2, n] } else { vec![n] };
            let (kernel_shape, recurrent_shape) = ([I, n], [H, n]);
            let layer = KerasLayer {
                kernel: View::new(&self.kernel, &kernel_shape),
                recurrent_kernel: View::new(&self.recurrent, &recurrent_shape),
                bias: (self.biases > 0).then(|| View::new(&self.bias, &bias_shape)),
            };
            Weights::from_keras(config, &vec![layer; config.directions()])
        }
    }

    /// Every h of a Keras layer: `step(kernel part, h, c)` gives the next h and c.
    fn keras(arrays: &Arrays, x: &[f64], step: impl Fn(&[f64], &[f64], &[f64]) -> (Vec<f64>, Vec<f64>)) -> Vec<f64> {
        let (mut h, mut c, mut y) = (vec![0.0; H], vec![0.0; H], Vec::new());
        for x in x.chunks(I) {
            (h, c) = step(&arrays.dot(x, &arrays.kernel, 0), &h, &c);
            y.extend_from_slice(&h);
        }
        y
    }

    fn agrees(cell: &'static Cell, arrays: &Arrays, bias: Bias, expected: &[f64], x: &[f64]) {
        let config = RnnConfig { cell, input_size: I, hidden_size: H, bias, ..Default::default() };
        let weights = arrays.weights(&config).expect("they fit");
        weights.validate(&config).expect("they fit");
        let got = naive::forward(&config, &weights, &Input::new(View::new(x, &[T, 1, I]))).expect("it runs").y.data;
        assert!(tolerance::error(&got, expected) < 1e-14, "{}: {got:?} {expected:?}", cell.name);
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn the_layers_compute_what_keras_says() {
        let x = values(5, T * I);

        let a = Arrays::new(1, 1, 1);
        let y = keras(&a, &x, |k, h, _| {
            let r = a.dot(h, &a.recurrent, 9);
            ((0..H).map(|j| (k[j] + r[j]).tanh()).collect(), h.to_vec())
        });
        agrees(&cells::RNN_TANH, &a, Bias::One, &y, &x);

        // x_i, x_f, x_c, x_o
        let a = Arrays::new(4, 1, 2);
        let y = keras(&a, &x, |k, h, c| {
            let r = a.dot(h, &a.recurrent, 9);
            let z = |gate: usize, j: usize| k[gate * H + j] + r[gate * H + j];
            let c: Vec<f64> = (0..H).map(|j| sigmoid(z(1, j)) * c[j] + sigmoid(z(0, j)) * z(2, j).tanh()).collect();
            ((0..H).map(|j| sigmoid(z(3, j)) * c[j].tanh()).collect(), c)
        });
        agrees(&cells::LSTM, &a, Bias::One, &y, &x);

        // x_z, x_r, x_h; reset_after
        let a = Arrays::new(3, 2, 3);
        let y = keras(&a, &x, |k, h, c| {
            let r = a.dot(h, &a.recurrent, 1);
            let gate = |gate: usize, j: usize| sigmoid(k[gate * H + j] + r[gate * H + j]);
            let hh = |j: usize| (k[2 * H + j] + gate(1, j) * r[2 * H + j]).tanh();
            ((0..H).map(|j| gate(0, j) * h[j] + (1.0 - gate(0, j)) * hh(j)).collect(), c.to_vec())
        });
        agrees(&cells::GRU, &a, Bias::Two, &y, &x);

        for biases in [0, 1] {
            let a = Arrays::new(3, biases, 4);
            let y = keras(&a, &x, |k, h, c| {
                let r = a.dot(h, &a.recurrent, 9);
                let gate = |gate: usize, j: usize| sigmoid(k[gate * H + j] + r[gate * H + j]);
                let reset: Vec<f64> = (0..H).map(|j| gate(1, j) * h[j]).collect();
                let hidden = a.dot(&reset, &a.recurrent, 9);
                let hh = |j: usize| (k[2 * H + j] + hidden[2 * H + j]).tanh();
                ((0..H).map(|j| gate(0, j) * h[j] + (1.0 - gate(0, j)) * hh(j)).collect(), c.to_vec())
            });
            let bias = if biases == 0 { Bias::None } else { Bias::One };
            agrees(&cells::GRU_RESET_BEFORE, &a, bias, &y, &x);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let gru = |bias| RnnConfig { cell: &cells::GRU, input_size: I, hidden_size: H, bias, ..Default::default() };
        let message = |arrays: &Arrays, config: &RnnConfig| arrays.weights(config).expect_err("refused").to_string();
        let two = Arrays::new(3, 2, 1);
        assert_eq!(message(&two, &gru(Bias::One)), "bias 0: expected [G·H] = [9], got [2, 9]");
        assert_eq!(message(&two, &gru(Bias::None)), "bias 0: expected that of Bias::None, got [2, 9]");
        assert_eq!(message(&Arrays::new(3, 0, 1), &gru(Bias::Two)), "bias 0: expected that of Bias::Two, got none");
        let lstm = message(&Arrays::new(4, 1, 1), &gru(Bias::Two));
        assert_eq!(lstm, "kernel 0: expected [I, G·H] = [2, 9], got [2, 12]");
        let peephole = RnnConfig { cell: &cells::LSTM_PEEPHOLE, ..gru(Bias::One) };
        assert!(message(&two, &peephole).starts_with("not supported: lstm-peephole with these options"));
        let deep = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..gru(Bias::Two) };
        assert_eq!(message(&two, &deep), "layers: expected [layers · directions] = 4, got 2");
    }
}
