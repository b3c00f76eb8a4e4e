//! Weights in fewer bits: how matrices lie in device memory. One rounding, on the host, for both executors.
//!
//! W, R, the projection and the head's W are rounded, row by row; biases, unit parameters, gains and the embedding table are not,
//! and all arithmetic stays in 32 bits. A row is what one gate of one unit is the sum over: `[.., columns]` of its tensor.
//!
//! | format | bytes | error of a weight w |
//! |---|---|---|
//! | f16 | 2 | at most 2^-11 · abs(w), below 2^-14 at most 2^-25 |
//! | bf16 | 2 | at most 2^-8 · abs(w) |
//! | int8 | 1, and 4 per row | at most half the row's scale, its largest abs(w) / 127; none where the row is 8-bit numbers already |
//!
//! All round to nearest, ties to even. A row whose weights are whole multiples of one number, at most 127 of it, stays as it is in int8 (but
//! for f32's own rounding): weights that a file has in 8 bits. A GPU may take f16's subnormal numbers (below 2^-14 = 6.1e-5) for 0: WGSL allows it.

use super::{Field, Parameter, Place, Weights, parameters};
use crate::error::{Error, Result};
use crate::model::stack::RnnConfig;
use crate::num::Real;
use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// How W, R, the projection and the head's W are stored ([`crate::Options::weights`]). Sessions that train on the CPU executor, and
/// those of f64, hold the rounded values in their element type; all others save the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum WeightFormat {
    /// 32 bits: nothing is rounded.
    #[default]
    F32,
    /// IEEE 754 binary16: 11 significant bits, up to 65504.
    F16,
    /// The upper half of an f32: 8 significant bits, the range of f32.
    Bf16,
    /// 8 bits and one f32 scale per row, symmetric: w = q · scale with q in -127..=127. Inference only.
    Int8,
}

impl WeightFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// `"f32"`, `"f16"`, `"bf16"`, `"int8"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of a weight.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Entries (of four weights each) that four exact values take.
    pub(crate) fn exact_entries(self) -> usize {
        4 / self.bytes()
    }

    /// Whether rows have a scale.
    pub(crate) fn scaled(self) -> bool {
        self == Self::Int8
    }

    /// The bits of a weight in one of the two 16-bit formats.
    pub(crate) fn half(self, value: f32) -> u16 {
        match self {
            Self::Bf16 => bf16::from_f32(value).to_bits(),
            _ => f16::from_f32(value).to_bits(),
        }
    }

    /// The weights that a session in this format computes with: every matrix rounded (f64 values to f32 first), the rest as it is.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the parameter, where a value is NaN, infinite or beyond the format's range (nothing is checked
    /// in `F32`), or where the weights do not fit the configuration.
    pub fn rounded<T: Real>(self, config: &RnnConfig, weights: &Weights<T>) -> Result<Weights<T>> {
        weights.validate(config)?;
        self.check(config, weights)?;
        Ok(self.held(config, weights))
    }

    /// Refuses values that the format has no number for; the weights fit the configuration.
    pub(crate) fn check<T: Real>(self, config: &RnnConfig, weights: &Weights<T>) -> Result<()> {
        if self == Self::F32 {
            return Ok(());
        }
        let held = self.held(config, weights);
        let mut matrices = parameters(config).into_iter().filter(is_matrix);
        matrices.try_for_each(|p| check(self, &p, weights.get(p.place), held.get(p.place)))
    }

    /// The same without a check: what does not fit becomes infinite or NaN.
    pub(crate) fn held<T: Real>(self, config: &RnnConfig, weights: &Weights<T>) -> Weights<T> {
        let mut held = weights.clone();
        if self == Self::F32 {
            return held;
        }
        for p in parameters(config).iter().filter(|p| is_matrix(p)) {
            for row in held.get_mut(p.place).chunks_exact_mut(p.shape[1]) {
                let values: Vec<f32> = row.iter().map(|v| v.to_f64() as f32).collect();
                for (to, value) in row.iter_mut().zip(self.held_row(&values)) {
                    *to = T::from_f64(value);
                }
            }
        }
        held
    }

    /// A row as it is held.
    pub(crate) fn held_row(self, row: &[f32]) -> Vec<f64> {
        let scale = f64::from(scale(row));
        let one = |(&value, code): (&f32, i8)| match self {
            Self::F32 => f64::from(value),
            Self::F16 => f16::from_f32(value).to_f64(),
            Self::Bf16 => bf16::from_f32(value).to_f64(),
            Self::Int8 => f64::from(code) * scale,
        };
        row.iter().zip(codes(row)).map(one).collect()
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By [`WeightFormat::name`].
impl FromStr for WeightFormat {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|f| f.name() == name);
        found.ok_or_else(|| Error::mismatch("weight format", "f32, f16, bf16 or int8", name))
    }
}

/// Whether a parameter is a matrix that formats round.
pub(crate) fn is_matrix(p: &Parameter) -> bool {
    matches!(p.place, Place::Head | Place::Layer(_, Field::W | Field::R | Field::Projection))
}

/// The scale of a row in int8: what all of its weights are multiples of, at most 127 times; else its largest |w| / 127.
pub(crate) fn scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    let whole = |scale: &f32| {
        let scale = f64::from(*scale);
        let multiple = |v: &f32| {
            let times = f64::from(*v) / scale;
            (times - times.round()).abs() <= times.round().abs() * MULTIPLE
        };
        scale >= f64::from(f32::MIN_POSITIVE) && row.iter().all(multiple)
    };
    let most = largest / 127.0;
    (1..=127u8).rev().map(|n| largest / f32::from(n)).find(whole).unwrap_or(most)
}

/// How far from a whole multiple a product of a number and a scale is once both are f32, as a share.
const MULTIPLE: f64 = 1.0 / (1 << 22) as f64;

/// A row's weights in units of its scale; 0 where that is 0.
pub(crate) fn codes(row: &[f32]) -> impl Iterator<Item = i8> {
    let scale = scale(row);
    let code = move |&v: &f32| if scale > 0.0 { (v / scale).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 };
    row.iter().map(code)
}

/// Refuses what the format has no number for.
fn check<T: Real>(format: WeightFormat, p: &Parameter, given: &[T], held: &[T]) -> Result<()> {
    let finite = |v: &T| v.to_f64().is_finite() && (v.to_f64() as f32).is_finite();
    // What is given first: one infinite value leaves none of its row in int8.
    let bad = |values: &[T]| values.iter().position(|v| !finite(v));
    let Some(at) = bad(given).or_else(|| bad(held)) else { return Ok(()) };
    let expected = match format {
        WeightFormat::F16 => "finite values of at most 65504 (f16)".into(),
        _ => format!("finite values within the range of {format}"),
    };
    let what = format!("{}[{}, {}]", p.name, at / p.shape[1], at % p.shape[1]);
    Err(Error::mismatch(what, expected, given[at].to_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_zeros_has_scale_0() {
        assert_eq!(scale(&[0.0, -0.0]), 0.0);
        assert_eq!(codes(&[0.0, -0.0]).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(WeightFormat::Int8.held_row(&[0.0; 3]), [0.0; 3]);
    }

    #[test]
    fn int8_rounds_ties_to_even_and_keeps_the_largest() {
        // Scale 1: halves are ties.
        let row = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0, 126.5];
        assert_eq!(codes(&row).collect::<Vec<_>>(), [127, 0, 2, 2, 0, -2, -127, 126]);
        // One huge value leaves nothing of the others.
        assert_eq!(WeightFormat::Int8.held_row(&[1e6, 1.0, -1.0])[1..], [0.0, 0.0]);
        // Smaller than any scale.
        let tiny = f32::from_bits(1);
        assert_eq!(WeightFormat::Int8.held_row(&[tiny, -tiny]), [0.0, 0.0]);
    }

    #[test]
    fn rows_that_are_8_bit_numbers_stay() {
        for (most, scale) in [(127, 0.013f32), (93, 0.37), (5, 1e-3), (1, 2.5e6)] {
            let numbers = (0..24i16).map(|n| n * 37 % (2 * most + 1) - most).chain([most]);
            let row: Vec<f32> = numbers.map(|q| f32::from(q) * scale).collect();
            for (held, value) in WeightFormat::Int8.held_row(&row).iter().zip(&row) {
                assert!((held - f64::from(*value)).abs() <= f64::from(value.abs()) * MULTIPLE);
            }
        }
        // Other rows have the scale of their largest.
        assert_eq!(scale(&[1.0, 0.31415, -0.77]), 1.0 / 127.0);
    }

    #[test]
    fn names_are_read_back() {
        for format in WeightFormat::ALL {
            assert_eq!(format.name().parse::<WeightFormat>().unwrap(), format);
        }
        assert!("f8".parse::<WeightFormat>().unwrap_err().to_string().contains("f8"));
    }
}
