//! The number formats of tensors in files, and their values.

use half::{bf16, f16};
use wgpu_rnn::num::Real;

/// How a file holds the numbers of a tensor. All are read into f32 or f64; what a session computes in is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

impl Element {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// `f32`, `bf16`, `i64`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// The one of that name, in whatever case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether it is a floating-point format.
    pub fn is_real(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// A real number as it is in this format.
    pub(crate) fn rounded(self, v: f64) -> f64 {
        match self {
            Self::F32 => f64::from(v as f32),
            Self::F16 => f16::from_f64(v).to_f64(),
            Self::Bf16 => bf16::from_f64(v).to_f64(),
            _ => v,
        }
    }

    /// The smallest and the largest whole number of it, of those that i64 holds.
    pub(crate) fn range(self) -> (i64, i64) {
        match self {
            Self::I32 => (i32::MIN.into(), i32::MAX.into()),
            Self::I16 => (i16::MIN.into(), i16::MAX.into()),
            Self::I8 => (i8::MIN.into(), i8::MAX.into()),
            Self::U64 => (0, i64::MAX),
            Self::U32 => (0, u32::MAX.into()),
            Self::U16 => (0, u16::MAX.into()),
            Self::U8 => (0, u8::MAX.into()),
            Self::Bool => (0, 1),
            Self::F64 | Self::F32 | Self::F16 | Self::Bf16 | Self::I64 => (i64::MIN, i64::MAX),
        }
    }

    /// The numbers of little-endian bytes, rounded to `T`.
    pub fn real<T: Real>(self, bytes: &[u8]) -> Vec<T> {
        fn each<T: Real, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|b| T::from_f64(value(*b))).collect()
        }
        match self {
            Self::F64 => each(bytes, f64::from_le_bytes),
            Self::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f64()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f64()),
            Self::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
            Self::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
            Self::I16 => each(bytes, |b| i16::from_le_bytes(b).into()),
            Self::I8 => each(bytes, |b| i8::from_le_bytes(b).into()),
            Self::U64 => each(bytes, |b| u64::from_le_bytes(b) as f64),
            Self::U32 => each(bytes, |b| u32::from_le_bytes(b).into()),
            Self::U16 => each(bytes, |b| u16::from_le_bytes(b).into()),
            Self::U8 | Self::Bool => each(bytes, |[b]| b.into()),
        }
    }

    /// Little-endian bytes of real numbers in this floating-point format, each rounded to the nearest, of two as near to the even one.
    /// Or the first number that is beyond its range.
    pub(crate) fn encoded<T: Real>(self, values: &[T]) -> Result<Vec<u8>, f64> {
        let mut bytes = Vec::with_capacity(values.len() * self.size());
        for value in values.iter().map(|v| v.to_f64()) {
            let rounded = self.rounded(value);
            if value.is_finite() && !rounded.is_finite() {
                return Err(value);
            }
            match self {
                Self::F32 => bytes.extend((value as f32).to_le_bytes()),
                Self::F16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
                Self::Bf16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
                _ => bytes.extend(value.to_le_bytes()),
            }
        }
        Ok(bytes)
    }

    /// The whole numbers of little-endian bytes; `None` for a floating-point format, and for a u64 that no i64 holds.
    pub fn integers(self, bytes: &[u8]) -> Option<Vec<i64>> {
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> Option<i64>) -> Option<Vec<i64>> {
            bytes.as_chunks::<N>().0.iter().map(|b| value(*b)).collect()
        }
        match self {
            Self::F64 | Self::F32 | Self::F16 | Self::Bf16 => None,
            Self::I64 => each(bytes, |b| Some(i64::from_le_bytes(b))),
            Self::I32 => each(bytes, |b| Some(i32::from_le_bytes(b).into())),
            Self::I16 => each(bytes, |b| Some(i16::from_le_bytes(b).into())),
            Self::I8 => each(bytes, |b| Some(i8::from_le_bytes(b).into())),
            Self::U64 => each(bytes, |b| u64::from_le_bytes(b).try_into().ok()),
            Self::U32 => each(bytes, |b| Some(u32::from_le_bytes(b).into())),
            Self::U16 => each(bytes, |b| Some(u16::from_le_bytes(b).into())),
            Self::U8 | Self::Bool => each(bytes, |[b]| Some(b.into())),
        }
    }
}
