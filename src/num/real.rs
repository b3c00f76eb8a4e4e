//! The two element types: `f32` (both executors) and `f64` (CPU only: the oracle).

use super::instructions;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::instructions::InstructionSet;
use super::lanes::{F32s, F64s, Lanes};

/// What exists once for every element type, as a function compiled for each.
pub trait Family {
    /// That of one element type.
    type Of<T: Real>: Copy;
}

/// One for f32 and one for f64.
pub struct Pair<F: Family> {
    /// The one for f32.
    pub f32: F::Of<f32>,
    /// The one for f64.
    pub f64: F::Of<f64>,
}

impl<F: Family> Clone for Pair<F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: Family> Copy for Pair<F> {}

/// `f32` or `f64`, with the arithmetic that kernels, cells and expressions need.
pub trait Real:
    bytemuck::Pod
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Mul<Output = Self>
{
    /// `"f32"` or `"f64"`.
    const NAME: &'static str;
    /// Machine epsilon as f64.
    const EPSILON: f64;
    /// Rounds to this type.
    fn from_f64(v: f64) -> Self;
    /// Widens.
    fn to_f64(self) -> f64;
    /// The register type of this element on an instruction set.
    #[doc(hidden)]
    type Lanes<S: pulp::Simd>: Lanes<Elem = Self, Isa = S>;
    /// The one of a pair that is for this type.
    fn of<F: Family>(pair: &Pair<F>) -> &F::Of<Self>;
    /// a − b
    fn minus(self, other: Self) -> Self;
    /// a / b
    fn over(self, other: Self) -> Self;
    /// e^x
    fn exp(self) -> Self;
    /// e^x − 1
    fn exp_m1(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// max(x, 0)
    fn relu(self) -> Self;
    /// 1 where x > 0, else 0
    fn step(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// The natural logarithm
    fn log(self) -> Self;
    /// Runs `op` with the registers that kernels of this type are compiled for.
    #[doc(hidden)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output;
}

macro_rules! arithmetic {
    () => {
        #[inline]
        fn minus(self, other: Self) -> Self {
            self - other
        }
        #[inline]
        fn over(self, other: Self) -> Self {
            self / other
        }
        #[inline]
        fn exp(self) -> Self {
            self.exp()
        }
        #[inline]
        fn exp_m1(self) -> Self {
            self.exp_m1()
        }
        #[inline]
        fn tanh(self) -> Self {
            self.tanh()
        }
        #[inline]
        fn relu(self) -> Self {
            self.max(0.0)
        }
        #[inline]
        fn step(self) -> Self {
            if self > 0.0 { 1.0 } else { 0.0 }
        }
        #[inline]
        fn sqrt(self) -> Self {
            self.sqrt()
        }
        #[inline]
        fn log(self) -> Self {
            self.ln()
        }
    };
}

impl Real for f32 {
    type Lanes<S: pulp::Simd> = F32s<S>;
    const NAME: &'static str = "f32";
    const EPSILON: f64 = f32::EPSILON as f64;
    fn from_f64(v: f64) -> Self {
        v as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn of<F: Family>(pair: &Pair<F>) -> &F::Of<Self> {
        &pair.f32
    }
    arithmetic!();
    #[inline(always)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output {
        match instructions::current() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 if let Some(isa) = pulp::x86::V4::try_new() => pulp::Simd::vectorize(isa, op),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 if let Some(isa) = pulp::x86::V3::try_new() => pulp::Simd::vectorize(isa, op),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon if let Some(isa) = pulp::aarch64::Neon::try_new() => pulp::Simd::vectorize(isa, op),
            _ => pulp::Simd::vectorize(pulp::Scalar, op),
        }
    }
}

impl Real for f64 {
    type Lanes<S: pulp::Simd> = F64s<S>;
    const NAME: &'static str = "f64";
    const EPSILON: f64 = f64::EPSILON;
    fn from_f64(v: f64) -> Self {
        v
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn of<F: Family>(pair: &Pair<F>) -> &F::Of<Self> {
        &pair.f64
    }
    arithmetic!();
    // An oracle has no need of the widest registers, and a third instruction set takes the compiler as long as the second.
    #[inline(always)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output {
        match instructions::current() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx2 if let Some(isa) = pulp::x86::V3::try_new() => {
                pulp::Simd::vectorize(isa, op)
            }
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon if let Some(isa) = pulp::aarch64::Neon::try_new() => pulp::Simd::vectorize(isa, op),
            _ => pulp::Simd::vectorize(pulp::Scalar, op),
        }
    }
}
