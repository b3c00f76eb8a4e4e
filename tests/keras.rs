//! Arrays of Keras's layers against Keras's own equations, written out over its layout of kernels.

use wgpu_rnn::weights::KerasLayer;
use wgpu_rnn::{Bias, Cell, Direction, Input, Result, RnnConfig, View, Weights, cells};
use wgpu_rnn_verify::{naive, tolerance};

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
