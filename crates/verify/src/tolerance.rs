//! How far a result may be from its truth. Bounds are calibrated, not picked: they follow from what a naive f32 loop costs,
//! max |naive f32 − naive f64|. Both are the naive loop's own (which in f64 agrees with PyTorch's goldens to 1e-10), so that a
//! wrong truth cannot widen the bound that it is held to.

use safetensors::Dtype;
use wgpu_rnn::{ActivationFormat, Error, Result};

/// The element type a truth was recorded in; anything below f64 is itself inexact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Exact for our purposes.
    F64,
    /// Computed and stored in 32 bits.
    F32,
    /// Stored in 16 bits.
    F16,
}

impl Recorded {
    /// The type of a tensor that stands for a truth.
    pub(crate) fn from_dtype(name: &str, dtype: Dtype) -> Result<Self> {
        match dtype {
            Dtype::F64 => Ok(Self::F64),
            Dtype::F32 => Ok(Self::F32),
            Dtype::F16 => Ok(Self::F16),
            other => Err(Error::mismatch(name, "a truth in F64, F32 or F16", format!("{other:?}"))),
        }
    }
}

/// How far off a tensor is, and what that is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// max |got − truth|, against max |truth|.
    Largest,
    /// ‖got − truth‖₂, against ‖truth‖₂: for results of which single values are ill-conditioned.
    Norm,
}

impl Measure {
    /// The error of a result; infinite if any difference is NaN or the counts differ.
    pub fn error(self, got: &[f64], truth: &[f64]) -> f64 {
        let largest = error(got, truth);
        match self {
            Self::Norm if largest.is_finite() => norm(got.iter().zip(truth).map(|(g, t)| g - t)),
            _ => largest,
        }
    }

    /// The size of a tensor.
    pub fn scale(self, truth: &[f64]) -> f64 {
        match self {
            Self::Largest => scale(truth),
            Self::Norm => norm(truth.iter().copied()),
        }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// The size of a tensor: max |truth|.
pub fn scale(truth: &[f64]) -> f64 {
    truth.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// max |got − truth|; infinite if any difference is NaN or the counts differ.
pub fn error(got: &[f64], truth: &[f64]) -> f64 {
    if got.len() != truth.len() {
        return f64::INFINITY;
    }
    let differences = got.iter().zip(truth).map(|(g, t)| (g - t).abs());
    differences.fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

/// Σ map(a·b): the loss that a and its upstream gradients b stand for, and with [`f64::abs`] its scale.
pub fn product(a: &[f64], b: &[f64], map: impl Fn(f64) -> f64) -> f64 {
    a.iter().zip(b).map(|(a, b)| map(a * b)).sum()
}

/// The bound of an f64 result.
pub fn bound_f64(scale: f64) -> f64 {
    1e-10 * scale
}

/// The bound of an f32 result, where a naive sequential f32 loop is off by `naive_error`.
pub fn bound_f32(scale: f64, naive_error: f64) -> f64 {
    4.0 * naive_error + 1e-6 * scale
}

/// What stored activations add to the bound: two runs that differ by f32's roundings may lie on two sides of a boundary of f16 and
/// are then rounded to neighbours, ε = 2^-10 of the value apart (or less). For y itself that is ε · scale. An x part p before it
/// moves its unit by ε · |p| times the gate's slope: |p| · sigmoid'(p) < 0.23 and |p| · tanh'(p) < 0.45 for any p, |p| for a
/// linear or rectified unit, whose value it then is; so again at most ε · scale, in a recurrence that does not amplify. Boundaries
/// are crossed by few values (one of some thousand: 2^-23 against 2^-10), so of each kind one counts.
pub fn crossing(scale: f64, activations: ActivationFormat) -> f64 {
    match activations {
        ActivationFormat::F32 => 0.0,
        ActivationFormat::F16 => 2.0 * half::f16::EPSILON.to_f64() * scale,
    }
}

/// What the recording of the truth adds to the bound.
pub fn recording(scale: f64, recorded: Recorded) -> f64 {
    match recorded {
        Recorded::F64 => 0.0,
        Recorded::F32 => 16.0 * f64::from(f32::EPSILON) * scale,
        Recorded::F16 => 2.0 * half::f16::EPSILON.to_f64() * scale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_or_a_missing_value_is_an_infinite_error() {
        assert_eq!(error(&[1.0, 2.5], &[1.0, 2.0]), 0.5);
        assert_eq!(error(&[f64::NAN, 2.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(error(&[2.0, f64::NAN], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(error(&[f64::INFINITY], &[f64::INFINITY]), f64::INFINITY);
        assert_eq!(error(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }

    #[test]
    fn a_norm_is_over_all_values() {
        assert_eq!(Measure::Norm.error(&[4.0, 2.0, 7.0], &[1.0, 2.0, 3.0]), 5.0);
        assert_eq!(Measure::Norm.scale(&[-3.0, 4.0]), 5.0);
        assert_eq!(Measure::Largest.error(&[4.0, 2.0, 7.0], &[1.0, 2.0, 3.0]), 4.0);
        assert_eq!(Measure::Largest.scale(&[-3.0, 4.0]), 4.0);
        for bad in [&[f64::NAN, 1.0][..], &[f64::INFINITY, 1.0], &[1.0]] {
            assert_eq!(Measure::Norm.error(bad, &[1.0, 1.0]), f64::INFINITY);
        }
    }

    #[test]
    fn bounds_follow_the_rule() {
        assert_eq!(scale(&[-3.0, 2.0]), 3.0);
        assert_eq!(bound_f64(2.0), 2e-10);
        assert_eq!(bound_f32(2.0, 1e-7), 4e-7 + 2e-6);
        assert_eq!(recording(1.0, Recorded::F64), 0.0);
        assert_eq!(recording(1.0, Recorded::F32), 16.0 / 2f64.powi(23));
        assert_eq!(recording(1.0, Recorded::F16), 2.0 / 2f64.powi(10));
    }
}
