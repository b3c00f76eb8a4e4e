//! Activations in fewer bits: how x, the x parts of the gates and y lie in device memory, the slots that grow with T.
//!
//! Only storage: every value is widened when it is read and rounded once when it is written, and all arithmetic between stays in
//! the plan's precision, as do h (what the next step's product reads), cell states, h0, c0, hn, cn and the head's outputs.

use crate::error::{Error, Result};
use crate::num::Real;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::fmt;
use std::str::FromStr;

/// How x, `pre` (the x parts of the gates) and y of every layer are stored ([`crate::Options::activations`]): bytes are saved on
/// GPUs only, the CPU executor holds the rounded values in its own element type. Inference only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ActivationFormat {
    /// 32 bits: nothing is rounded.
    #[default]
    F32,
    /// IEEE 754 binary16: 11 significant bits, up to 65504; what is beyond (from 65520 on) becomes infinite. x is rounded to
    /// nearest, ties to even, on the host. What kernels write a GPU may round to either neighbour, take subnormal numbers (below
    /// 2^-14 = 6.1e-5) for 0 and make of values beyond the range what it likes: WGSL allows it. The CPU executor rounds to nearest.
    F16,
}

impl ActivationFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];

    /// `"f32"`, `"f16"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        if self == Self::F16 { 2 } else { 4 }
    }

    /// What a value reads back as: f64 values are rounded to f32 first.
    pub fn rounded<T: Real>(self, value: T) -> T {
        match self {
            Self::F32 => value,
            // By way of f32 on every machine: the direct conversion rounds twice on some and once on others.
            Self::F16 => T::from_f64(f16::from_f32(value.to_f64() as f32).to_f64()),
        }
    }

    /// [`Self::rounded`] over a slice, in place.
    pub fn round<T: Real>(self, values: &mut [T]) {
        if self == Self::F16 {
            values.iter_mut().for_each(|v| *v = self.rounded(*v));
        }
    }
}

impl fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By [`ActivationFormat::name`].
impl FromStr for ActivationFormat {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|f| f.name() == name);
        found.ok_or_else(|| Error::mismatch("activation format", "f32 or f16", name))
    }
}

/// The bytes of values in f16, filled up to whole words of 4 bytes.
pub(crate) fn to_halves(values: &[f32]) -> Vec<f16> {
    let mut halves = vec![f16::ZERO; values.len().next_multiple_of(2)];
    halves[..values.len()].convert_from_f32_slice(values);
    halves
}

/// The values that bytes in f16 stand for.
pub(crate) fn from_halves(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec::<u8, f16>(bytes).to_f32_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_and_beyond_the_range_to_infinity() {
        let cases = [
            (1.0 + 1.0 / 2048.0, 1.0),
            (1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0),
            (65519.0, 65504.0),
            (65520.0, f32::INFINITY),
            (-1e6, f32::NEG_INFINITY),
            (2f32.powi(-24), 2f32.powi(-24)),
            (2f32.powi(-25), 0.0),
        ];
        for (value, expected) in cases {
            assert_eq!(ActivationFormat::F16.rounded(value), expected, "{value}");
            assert_eq!(ActivationFormat::F16.rounded(f64::from(value)), f64::from(expected), "{value}");
            assert_eq!(ActivationFormat::F32.rounded(value), value);
        }
        assert!(ActivationFormat::F16.rounded(f32::NAN).is_nan());
        // By way of f32 a tie, which goes to even: directly it would go up.
        assert_eq!(ActivationFormat::F16.rounded(1.0 + 2f64.powi(-11) + 2f64.powi(-40)), 1.0);
    }

    #[test]
    fn an_odd_count_is_filled_up() {
        let halves = to_halves(&[1.0, 65536.0, -2.5]);
        assert_eq!(halves.len(), 4);
        assert_eq!(from_halves(bytemuck::cast_slice(&halves)), [1.0, f32::INFINITY, -2.5, 0.0]);
    }

    #[test]
    fn names_are_read_back() {
        for format in ActivationFormat::ALL {
            assert_eq!(format.name().parse::<ActivationFormat>().unwrap(), format);
        }
        assert!("bf16".parse::<ActivationFormat>().unwrap_err().to_string().contains("bf16"));
    }
}
