//! The naive loops of the layer-normalised cells, forward and back: equations in the docs of [`wgpu_rnn::cells`]. Parts are laid out as
//! the published implementation (Haste) has them: W x, R h and c' of one step of one sequence, each normalised over all its values.

use super::naive::{Scalar, Sums, dot};
use super::naive_backward::{Step, dot_adjoint, taken};
use super::naive_rules::Rules;

/// A part after its statistic.
struct Normal<T> {
    /// (p − mean) / σ
    hat: Vec<T>,
    /// √(var + ε)
    sigma: T,
}

impl<T: Scalar> Normal<T> {
    fn of(part: &[T]) -> Self {
        let count = T::from_f64(part.len() as f64);
        let zero = T::from_f64(0.0);
        let mean = part.iter().fold(zero, |sum, &p| sum + p) / count;
        let variance = part.iter().fold(zero, |sum, &p| sum + (p - mean) * (p - mean)) / count;
        let sigma = (variance + T::from_f64(1e-5)).sqrt();
        Self { hat: part.iter().map(|&p| (p - mean) / sigma).collect(), sigma }
    }

    /// γ∘hat + b; no bias counts as 0.
    fn scaled(&self, gain: &[T], bias: &[T]) -> Vec<T> {
        let bias = |n: usize| bias.get(n).copied().unwrap_or_default();
        self.hat.iter().zip(gain).enumerate().map(|(n, (&v, &g))| v * g + bias(n)).collect()
    }

    /// From the gradient of [`Normal::scaled`]: adds those of gains and bias to what is there, and returns that of the part. Every
    /// derivative of every normalised value is spelled out: ∂hat_i / ∂p_j = (δ_ij − 1/n − hat_i hat_j / n) / σ.
    fn back(&self, gain: &[T], d: &[T], d_gain: &mut [T], d_bias: &mut [T]) -> Vec<T> {
        let share = T::from_f64(1.0) / T::from_f64(d.len() as f64);
        for (n, &d) in d.iter().enumerate() {
            d_gain[n] = d_gain[n] + d * self.hat[n];
            if let Some(sum) = d_bias.get_mut(n) {
                *sum = *sum + d;
            }
        }
        let one = |j: usize| {
            (0..d.len()).fold(T::from_f64(0.0), |sum, i| {
                let same = T::from_f64(if i == j { 1.0 } else { 0.0 });
                sum + d[i] * gain[i] * (same - share - self.hat[i] * self.hat[j] * share) / self.sigma
            })
        };
        (0..d.len()).map(one).collect()
    }
}

/// A step's normalised parts W x and R h, each with its gains and biases.
struct Parts<T> {
    w: Normal<T>,
    r: Normal<T>,
    a: Vec<T>,
    u: Vec<T>,
}

impl<T: Scalar> Parts<T> {
    fn new(sums: &Sums<'_, T>, h: &[T], gates: usize) -> Self {
        let (rows, hidden, weights) = (gates * sums.hidden, sums.hidden, sums.weights);
        // A layer without W adds x to every gate.
        let of_x = |row: usize| match weights.w.is_empty() {
            true => sums.x[row % hidden],
            false => dot(&weights.w, &[], row, sums.x),
        };
        let of_h = |row: usize| dot(&weights.r, &[], row, &h[sums.seen(row % hidden, h.len())]);
        let mut stored: Vec<T> = (0..rows).map(of_x).collect();
        // W x is stored before it is normalised, and after.
        sums.activations.round(&mut stored);
        let (mut w, r) = (Normal::of(&stored), Normal::of(&(0..rows).map(of_h).collect::<Vec<_>>()));
        sums.activations.round(&mut w.hat);
        let a = w.scaled(&weights.gains[..rows], &weights.b_w);
        let u = r.scaled(&weights.gains[rows..][..rows], &weights.b_r);
        Self { w, r, a, u }
    }

    /// From the gradients of `a` and `u`: those of x, h and the parameters.
    fn back(&self, s: &mut Step<'_, T>, d_a: &[T], d_u: &[T], d_h: &mut [T]) {
        let (weights, h) = (s.sums.weights, s.h);
        let (g_w, g_r) = s.grads.gains.split_at_mut(d_a.len());
        let d_w = self.w.back(&weights.gains[..d_a.len()], d_a, g_w, &mut s.grads.b_w);
        let d_r = self.r.back(&weights.gains[d_a.len()..], d_u, g_r, &mut s.grads.b_r);
        for (row, (&d_w, &d_r)) in d_w.iter().zip(&d_r).enumerate() {
            let unit = row % s.sums.hidden;
            if weights.w.is_empty() {
                s.d_x[unit] = s.d_x[unit] + d_w;
            } else {
                dot_adjoint(&weights.w, row, s.sums.x, d_w, (&mut s.grads.w, &mut []), s.d_x);
            }
            let seen = s.sums.seen(unit, h.len());
            dot_adjoint(&weights.r, row, &h[seen.clone()], d_r, (&mut s.grads.r, &mut []), &mut d_h[seen]);
        }
    }
}

/// A step of the LSTM up to its output.
struct LstmStep<T> {
    parts: Parts<T>,
    /// Each with its activation's derivative.
    i: Vec<(T, T)>,
    f: Vec<(T, T)>,
    g: Vec<(T, T)>,
    o: Vec<(T, T)>,
    /// c', and how much of its gradient comes back.
    c: Vec<(T, T)>,
    norm: Normal<T>,
    /// tanh
    t: Vec<(T, T)>,
}

impl<T: Scalar> LstmStep<T> {
    fn new(sums: &Sums<'_, T>, rules: &Rules, h: &[T], c: &[T]) -> Self {
        let n = sums.hidden;
        let parts = Parts::new(sums, h, 4);
        let gate = |gate: usize, act: usize| -> Vec<(T, T)> {
            (0..n).map(|j| rules.both(act, parts.a[gate * n + j] + parts.u[gate * n + j])).collect()
        };
        let (i, mut f, g, o) = (gate(0, 0), gate(1, 0), gate(2, 1), gate(3, 0));
        for (f, i) in f.iter_mut().zip(&i) {
            *f = rules.coupled(i.0).map_or(*f, |f| (f, T::default()));
        }
        let c: Vec<(T, T)> = (0..n).map(|j| rules.cell(f[j].0 * c[j] + i[j].0 * g[j].0)).collect();
        let norm = Normal::of(&c.iter().map(|c| c.0).collect::<Vec<_>>());
        let v = norm.scaled(&sums.weights.gains[8 * n..], &sums.weights.unit);
        let t = v.into_iter().map(|v| rules.both(2, v)).collect();
        Self { parts, i, f, g, o, c, norm, t }
    }

    /// o∘tanh
    fn out(&self) -> Vec<T> {
        self.o.iter().zip(&self.t).map(|(o, t)| o.0 * t.0).collect()
    }
}

/// With projection where there is one.
pub(super) fn lstm<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], c: &mut [T]) {
    let step = LstmStep::new(sums, rules, h, c);
    c.iter_mut().zip(&step.c).for_each(|(c, new)| *c = new.0);
    let out = step.out();
    if sums.weights.projection.is_empty() {
        h.copy_from_slice(&out);
    } else {
        h.iter_mut().enumerate().for_each(|(p, h)| *h = dot(&sums.weights.projection, &[], p, &out));
    }
}

pub(super) fn lstm_back<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], d_c: &mut [T]) {
    let n = s.sums.hidden;
    let step = LstmStep::new(&s.sums, s.rules, s.h, s.c);
    let mut d_out = taken(d_h);
    if !s.sums.weights.projection.is_empty() {
        let (out, d_new) = (step.out(), d_out);
        d_out = vec![T::default(); n];
        for (p, &d) in d_new.iter().enumerate() {
            let to = (&mut s.grads.projection[..], &mut [][..]);
            dot_adjoint(&s.sums.weights.projection, p, &out, d, to, &mut d_out);
        }
    }
    let d_v: Vec<T> = (0..n).map(|j| d_out[j] * step.o[j].0 * step.t[j].1).collect();
    let (gain, d_gain) = (&s.sums.weights.gains[8 * n..], &mut s.grads.gains[8 * n..]);
    let d_new = step.norm.back(gain, &d_v, d_gain, &mut s.grads.unit);
    let mut d = vec![T::default(); 4 * n];
    for j in 0..n {
        let [i, f, g] = [step.i[j], step.f[j], step.g[j]];
        let d_cell = (d_new[j] + d_c[j]) * step.c[j].1;
        let effect = if s.rules.coupled(i.0).is_some() { g.0 - s.c[j] } else { g.0 };
        d[j] = d_cell * effect * i.1;
        d[n + j] = d_cell * s.c[j] * f.1;
        d[2 * n + j] = d_cell * i.0 * g.1;
        d[3 * n + j] = d_out[j] * step.t[j].0 * step.o[j].1;
        d_c[j] = d_cell * f.0;
    }
    let mut d_gates = std::mem::take(&mut s.grads.gains);
    let rest = d_gates.split_off(8 * n);
    s.grads.gains = d_gates;
    step.parts.back(s, &d, &d, d_h);
    s.grads.gains.extend(rest);
}

pub(super) fn gru<T: Scalar>(sums: &Sums<'_, T>, rules: &Rules, h: &mut [T], _c: &mut [T]) {
    let n = sums.hidden;
    let Parts { a, u, .. } = Parts::new(sums, h, 3);
    for (j, h) in h.iter_mut().enumerate() {
        let r = rules.apply(0, a[j] + u[j]);
        let z = rules.apply(0, a[n + j] + u[n + j]);
        let g = rules.apply(1, a[2 * n + j] + r * u[2 * n + j]);
        *h = z * *h + (T::from_f64(1.0) - z) * g;
    }
}

pub(super) fn gru_back<T: Scalar>(s: &mut Step<'_, T>, d_h: &mut [T], _d_c: &mut [T]) {
    let (n, rules, one) = (s.sums.hidden, s.rules, T::from_f64(1.0));
    let parts = Parts::new(&s.sums, s.h, 3);
    let (a, u) = (&parts.a, &parts.u);
    let (mut d_a, mut d_u) = (vec![T::default(); 3 * n], vec![T::default(); 3 * n]);
    for (j, d) in taken(d_h).into_iter().enumerate() {
        let (r, r_slope) = rules.both(0, a[j] + u[j]);
        let (z, z_slope) = rules.both(0, a[n + j] + u[n + j]);
        let (g, g_slope) = rules.both(1, a[2 * n + j] + r * u[2 * n + j]);
        let d_g = d * (one - z) * g_slope;
        d_a[j] = d_g * u[2 * n + j] * r_slope;
        d_a[n + j] = d * (s.h[j] - g) * z_slope;
        d_a[2 * n + j] = d_g;
        (d_u[j], d_u[n + j], d_u[2 * n + j]) = (d_a[j], d_a[n + j], d_g * r);
        d_h[j] = d * z;
    }
    parts.back(s, &d_a, &d_u, d_h);
}

#[cfg(test)]
mod tests {
    use crate::{naive, tolerance};
    use wgpu_rnn::weights::Weights;
    use wgpu_rnn::{Cell, Initial, Input, RnnConfig, View, cells};

    fn weights(cell: &'static Cell) -> (RnnConfig, Weights<f64>) {
        let config = RnnConfig { cell, input_size: 1, hidden_size: 1, ..Default::default() };
        let weights = Weights::random(&config, 1).expect("valid");
        (config, weights)
    }

    /// (p − mean) / √(var + 1e-5) of four values.
    fn norm<const N: usize>(p: [f64; N]) -> [f64; N] {
        let mean = p.iter().sum::<f64>() / N as f64;
        let var = p.iter().map(|v| v * v).sum::<f64>() / N as f64 - mean * mean;
        p.map(|v| (v - mean) / (var + 1e-5).sqrt())
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// One unit by hand; c' alone is its own mean, so only β_c is left of it.
    #[test]
    fn one_unit_of_the_lstm_by_hand() {
        let (config, mut weights) = weights(&cells::LSTM_LAYER_NORM);
        let layer = &mut weights.layers[0];
        (layer.w, layer.r) = (vec![0.5, -1.0, 2.0, 0.25], vec![1.0, 3.0, -2.0, 0.0]);
        (layer.b_w, layer.b_r) = (vec![0.1, 0.2, 0.3, 0.4], vec![-0.5, 0.5, 0.25, 0.0]);
        layer.gains = vec![1.5, 0.5, -1.0, 2.0, 0.75, 1.25, 1.0, -0.5, 9.0];
        layer.unit = vec![0.6];
        let (x, h, c, shape) = ([0.8], [-0.3], [0.7], [1, 1, 1]);
        let initial = Initial::Given { h0: Some(View::new(&h, &shape)), c0: Some(View::new(&c, &shape)) };
        let input = Input { initial, ..Input::new(View::new(&x, &shape)) };
        let got = naive::forward(&config, &weights, &input).expect("fits");
        let (w, r) = (norm([0.4, -0.8, 1.6, 0.2]), norm([-0.3, -0.9, 0.6, 0.0]));
        let i = sigmoid(1.5 * w[0] + 0.1 + 0.75 * r[0] - 0.5);
        let f = sigmoid(0.5 * w[1] + 0.2 + 1.25 * r[1] + 0.5);
        let g = (-w[2] + 0.3 + r[2] + 0.25).tanh();
        let o = sigmoid(2.0 * w[3] + 0.4 - 0.5 * r[3]);
        assert!(tolerance::error(&got.cn.expect("an LSTM").data, &[f * 0.7 + i * g]) < 1e-14);
        assert!(tolerance::error(&got.hn.data, &[o * 0.6f64.tanh()]) < 1e-14);
    }

    #[test]
    fn one_unit_of_the_gru_by_hand() {
        let (config, mut weights) = weights(&cells::GRU_LAYER_NORM);
        let layer = &mut weights.layers[0];
        (layer.w, layer.r) = (vec![0.5, -1.0, 2.0], vec![1.0, 3.0, -2.0]);
        (layer.b_w, layer.b_r) = (vec![0.1, 0.2, 0.3], vec![-0.5, 0.5, 0.25]);
        layer.gains = vec![1.5, 0.5, -1.0, 0.75, 1.25, 1.0];
        let (x, h, shape) = ([0.8], [-0.3], [1, 1, 1]);
        let initial = Initial::Given { h0: Some(View::new(&h, &shape)), c0: None };
        let input = Input { initial, ..Input::new(View::new(&x, &shape)) };
        let got = naive::forward(&config, &weights, &input).expect("fits");
        let (w, r) = (norm([0.4, -0.8, 1.6]), norm([-0.3, -0.9, 0.6]));
        let reset = sigmoid(1.5 * w[0] + 0.1 + 0.75 * r[0] - 0.5);
        let z = sigmoid(0.5 * w[1] + 0.2 + 1.25 * r[1] + 0.5);
        let n = (-w[2] + 0.3 + reset * (r[2] + 0.25)).tanh();
        assert!(tolerance::error(&got.hn.data, &[(1.0 - z) * n - z * 0.3]) < 1e-14);
    }
}
