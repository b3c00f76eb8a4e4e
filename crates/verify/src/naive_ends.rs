//! The calibrator's ends of a network, and what trains it: embedding, dense layer, mean cross entropy, their ways back, and
//! Adam, as naive sequential loops over the plain data of [`Weights`]. Like [`super::naive`] they share no arithmetic with the
//! executors: in f64 they must agree with the goldens, in f32 their error is the yardstick of [`super::tolerance`].
//!
//! Time-major, every sequence of full length: that is what the goldens with ends have.

use super::naive::{self, Scalar, dot};
use super::naive_backward::{self, dot_adjoint};
use wgpu_rnn::weights::{Weights, parameters};
use wgpu_rnn::{Gradients, Initial, Input, Output, Result, RnnConfig, Tensor, Upstream};

/// The rows of the embedding table `[V, I]` that `ids` `[T, B]` name: x `[T, B, I]`.
pub(super) fn embedded<T: Scalar>(config: &RnnConfig, weights: &Weights<T>, ids: &Tensor<u32>) -> Tensor<T> {
    let width = config.input_size;
    let row = |&id: &u32| &weights.embedding[id as usize * width..][..width];
    Tensor { data: ids.data.iter().flat_map(row).copied().collect(), shape: with_features(ids, width) }
}

/// The adjoint of [`embedded`]: what every row of the table gets of dx, in the order of the tokens.
pub(super) fn embedding_gradient<T: Scalar>(ids: &Tensor<u32>, d_x: &Tensor<T>, to: &mut [T]) {
    let width = d_x.data.len() / ids.data.len();
    for (&id, d_row) in ids.data.iter().zip(d_x.data.chunks_exact(width)) {
        for (sum, d) in to[id as usize * width..].iter_mut().zip(d_row) {
            *sum = *sum + *d;
        }
    }
}

/// Embedding, stack, dense layer, mean cross entropy, and all the way back.
pub(super) struct Pass<T> {
    /// y, hn, cn.
    pub output: Output<T>,
    /// `[T, B, O]`
    pub logits: Tensor<T>,
    /// The mean of −log softmax(logits)[class] over all rows.
    pub loss: T,
    /// Of the loss; x is the embedded input.
    pub gradients: Gradients<T>,
}

/// Runs `config`, which has a vocabulary and a head, over `ids` `[T, B]`; `classes` are those that the head should name.
pub(super) fn pass<T: Scalar>(
    config: &RnnConfig,
    weights: &Weights<T>,
    ids: &Tensor<u32>,
    classes: &Tensor<u32>,
    initial: Initial<'_, T>,
) -> Result<Pass<T>> {
    let x = embedded(config, weights, ids);
    let input = Input { initial, ..Input::new(x.view()) };
    let output = naive::forward(config, weights, &input)?;
    let logits = dense(weights, config.output_size(), &output.y);
    let (loss, d_logits) = cross_entropy(&logits, classes);

    let mut d_head = (vec![T::default(); weights.head.len()], vec![T::default(); weights.head_bias.len()]);
    let d_y = dense_gradient(weights, &output.y, &d_logits, (&mut d_head.0, &mut d_head.1));
    let upstream = Upstream { y: Some(d_y.view()), hn: None, cn: None };
    let mut gradients = naive_backward::backward(config, weights, &input, &upstream)?;
    (gradients.weights.head, gradients.weights.head_bias) = d_head;
    embedding_gradient(ids, &gradients.x, &mut gradients.weights.embedding);
    Ok(Pass { output, logits, loss, gradients })
}

/// `W_o y + b_o` of every row.
fn dense<T: Scalar>(weights: &Weights<T>, features: usize, y: &Tensor<T>) -> Tensor<T> {
    let outputs = weights.head_bias.len();
    let row = |y: &[T]| (0..outputs).map(|o| dot(&weights.head, &weights.head_bias, o, y)).collect::<Vec<T>>();
    let data = y.data.chunks_exact(features).flat_map(row).collect();
    Tensor { data, shape: vec![y.shape[0], y.shape[1], outputs] }
}

/// The adjoint of [`dense`]: dy, and what W_o and b_o get.
fn dense_gradient<T: Scalar>(
    weights: &Weights<T>,
    y: &Tensor<T>,
    d_logits: &Tensor<T>,
    to: (&mut [T], &mut [T]),
) -> Tensor<T> {
    let (outputs, features) = (weights.head_bias.len(), y.shape[2]);
    let mut d_y = vec![T::default(); y.data.len()];
    let rows = y.data.chunks_exact(features).zip(d_logits.data.chunks_exact(outputs));
    for ((y, d_row), d_y) in rows.zip(d_y.chunks_exact_mut(features)) {
        for (o, &d) in d_row.iter().enumerate() {
            dot_adjoint(&weights.head, o, y, d, (&mut *to.0, &mut *to.1), d_y);
        }
    }
    Tensor { data: d_y, shape: y.shape.clone() }
}

/// The mean over all rows of −log softmax(row)[class], and its gradient, (softmax(row) − [class]) / rows.
fn cross_entropy<T: Scalar>(logits: &Tensor<T>, classes: &Tensor<u32>) -> (T, Tensor<T>) {
    let outputs = logits.shape[2];
    let rows = T::from_f64(classes.data.len() as f64);
    let (mut sum, mut d_logits) = (T::default(), Vec::with_capacity(logits.data.len()));
    for (row, &class) in logits.data.chunks_exact(outputs).zip(&classes.data) {
        let largest = row.iter().fold(row[0], |m, &v| if v > m { v } else { m });
        let powers: Vec<T> = row.iter().map(|&v| (v - largest).exp()).collect();
        let total = powers.iter().fold(T::default(), |sum, &p| sum + p);
        sum = sum + (total.ln() + largest - row[class as usize]);
        let hot = |o: usize| if o == class as usize { T::from_f64(1.0) } else { T::default() };
        d_logits.extend(powers.iter().enumerate().map(|(o, &p)| (p / total - hot(o)) / rows));
    }
    (sum / rows, Tensor { data: d_logits, shape: logits.shape.clone() })
}

/// Adam (Kingma and Ba 2015, algorithm 1, as PyTorch's `torch.optim.Adam` without weight decay): with g the gradient,
/// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← w − rate · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε).
pub(super) struct Adam<T> {
    betas: [f64; 2],
    epsilon: f64,
    steps: i32,
    /// m and v of every parameter, in canonical order.
    moments: Vec<[Vec<T>; 2]>,
}

impl<T: Scalar> Adam<T> {
    pub fn new(config: &RnnConfig, betas: [f64; 2], epsilon: f64) -> Self {
        let zeros = |p: &wgpu_rnn::weights::Parameter| vec![T::default(); p.shape.iter().product()];
        let moments = parameters(config).iter().map(|p| [zeros(p), zeros(p)]).collect();
        Self { betas, epsilon, steps: 0, moments }
    }

    /// One update.
    pub fn update(&mut self, config: &RnnConfig, weights: &mut Weights<T>, gradients: &Weights<T>, rate: f64) {
        self.steps += 1;
        let number = T::from_f64;
        // 1 − β and 1 − βᵗ cancel: PyTorch takes them in f64 whatever the parameters are.
        let ([b1, b2], [a1, a2]) = (self.betas.map(number), self.betas.map(|beta| number(1.0 - beta)));
        let [c1, c2] = self.betas.map(|beta| number(1.0 - beta.powi(self.steps)));
        for (p, [m, v]) in parameters(config).iter().zip(&mut self.moments) {
            let values = weights.get_mut(p.place).iter_mut().zip(gradients.get(p.place));
            for ((w, &g), (m, v)) in values.zip(m.iter_mut().zip(v)) {
                *m = b1 * *m + a1 * g;
                *v = b2 * *v + a2 * (g * g);
                *w = *w - number(rate) * (*m / c1) / ((*v / c2).sqrt() + number(self.epsilon));
            }
        }
    }
}

fn with_features(ids: &Tensor<u32>, features: usize) -> Vec<usize> {
    ids.shape.iter().copied().chain([features]).collect()
}

#[cfg(test)]
mod tests {
    use crate::{Case, Golden, off_by, tolerance};

    /// The link that makes the calibrator trustworthy: in f64 it agrees with PyTorch on every golden with ends, outputs and
    /// gradients, and after ten steps of Adam; and on those of linear recurrences.
    #[test]
    fn f64_agrees_with_every_golden_with_ends_or_a_scan() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/torch_golden");
        let (mut seen, mut failures) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).expect("the goldens are in the project") {
            let golden = Golden::open(entry.expect("readable folder").path()).expect("a golden of a known kind");
            if matches!(golden.case, Case::Layers(_)) {
                continue;
            }
            let got = golden.case.naive::<f64>().expect("it fits together");
            if !matches!(golden.case, Case::Linear(_)) {
                assert_eq!(got.len(), golden.truths.len(), "{}", golden.name);
            }
            for truth in &golden.truths {
                let (_, tensor) = got.iter().find(|(name, _)| *name == truth.name).expect("computed");
                let error = off_by(truth.measure, tensor, &truth.tensor);
                if error > tolerance::bound_f64(truth.scale) {
                    failures.push(format!("{} {} {error:.3e}", golden.name, truth.name));
                }
            }
            seen += 1;
        }
        assert_eq!((seen, failures), (11, Vec::new()));
    }
}
