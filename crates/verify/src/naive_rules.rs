//! The naive loops' elementwise functions: activations and their derivatives, spelled out from the ONNX operator
//! specification. They share no arithmetic with the executors.

use super::naive::Scalar;
use wgpu_rnn::{Activation, RnnConfig};

/// What the units of one direction follow.
pub(super) struct Rules {
    act: Vec<Activation>,
    clip: Option<f32>,
    cell_clip: Option<f32>,
    input_forget: bool,
}

impl Rules {
    /// One per direction.
    pub fn of(config: &RnnConfig) -> Vec<Self> {
        let count = config.cell.activations.len();
        let all = config.activations();
        let set =
            |d: usize| all.chunks(count.max(1)).nth(d).or(all.chunks(count.max(1)).next()).unwrap_or(&[]).to_vec();
        (0..config.directions())
            .map(|d| Self {
                act: set(d),
                clip: config.clip,
                cell_clip: config.cell_clip,
                input_forget: config.input_forget,
            })
            .collect()
    }

    /// The `n`-th activation of the cell.
    pub fn apply<T: Scalar>(&self, n: usize, x: T) -> T {
        value(self.act[n], clamped(self.clip, x).0)
    }

    /// Its value and its derivative at `x`.
    pub fn both<T: Scalar>(&self, n: usize, x: T) -> (T, T) {
        let (x, passes) = clamped(self.clip, x);
        let y = value(self.act[n], x);
        (y, passes * slope(self.act[n], x, y))
    }

    /// 1 − i with ONNX's `input_forget`: then f has no argument of its own.
    pub fn coupled<T: Scalar>(&self, i: T) -> Option<T> {
        self.input_forget.then(|| T::from_f64(1.0) - i)
    }

    /// A cell state as it is kept, and how much of its gradient comes back: 1, or 0 where it is clipped.
    pub fn cell<T: Scalar>(&self, c: T) -> (T, T) {
        clamped(self.cell_clip, c)
    }
}

/// `x` within ±`limit`, and the derivative of that.
fn clamped<T: Scalar>(limit: Option<f32>, x: T) -> (T, T) {
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    match limit.map(number::<T>) {
        Some(limit) if x > limit => (limit, zero),
        Some(limit) if x < zero - limit => (zero - limit, zero),
        _ => (x, one),
    }
}

fn number<T: Scalar>(v: f32) -> T {
    T::from_f64(v.into())
}

fn abs<T: Scalar>(x: T) -> T {
    if x < T::from_f64(0.0) { T::from_f64(0.0) - x } else { x }
}

fn value<T: Scalar>(activation: Activation, x: T) -> T {
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    match activation {
        Activation::Sigmoid => one / (one + (zero - x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Relu if x < zero => zero,
        Activation::Relu => x,
        Activation::Affine { alpha, beta } => number::<T>(alpha) * x + number(beta),
        Activation::LeakyRelu { .. } | Activation::Elu { .. } if x >= zero => x,
        Activation::LeakyRelu { alpha } => number::<T>(alpha) * x,
        Activation::Elu { alpha } => number::<T>(alpha) * (x.exp() - one),
        Activation::ThresholdedRelu { alpha } if x >= number(alpha) => x,
        Activation::ThresholdedRelu { .. } => zero,
        Activation::ScaledTanh { alpha, beta } => number::<T>(alpha) * (number::<T>(beta) * x).tanh(),
        Activation::HardSigmoid { alpha, beta } => match number::<T>(alpha) * x + number(beta) {
            y if y < zero => zero,
            y if y > one => one,
            y => y,
        },
        Activation::Softsign => x / (one + abs(x)),
        Activation::Softplus if x > zero => x + (one + (zero - x).exp()).ln(),
        Activation::Softplus => (one + x.exp()).ln(),
    }
}

/// The derivative at `x`, where the value is `y`; at a kink that of the branch which takes the kink, and 0 for relu and the
/// ends of the hard sigmoid.
fn slope<T: Scalar>(activation: Activation, x: T, y: T) -> T {
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    match activation {
        Activation::Sigmoid => y * (one - y),
        Activation::Tanh => one - y * y,
        Activation::Relu if y > zero => one,
        Activation::Relu => zero,
        Activation::Affine { alpha, .. } => number(alpha),
        Activation::LeakyRelu { .. } | Activation::Elu { .. } if x >= zero => one,
        Activation::LeakyRelu { alpha } => number(alpha),
        Activation::Elu { alpha } => number::<T>(alpha) * x.exp(),
        Activation::ThresholdedRelu { alpha } if x >= number(alpha) => one,
        Activation::ThresholdedRelu { .. } => zero,
        Activation::ScaledTanh { alpha, beta } => {
            let t = (number::<T>(beta) * x).tanh();
            number::<T>(alpha) * number::<T>(beta) * (one - t * t)
        }
        Activation::HardSigmoid { alpha, .. } if y > zero && y < one => number(alpha),
        Activation::HardSigmoid { .. } => zero,
        Activation::Softsign => one / ((one + abs(x)) * (one + abs(x))),
        Activation::Softplus => one / (one + (zero - x).exp()),
    }
}
