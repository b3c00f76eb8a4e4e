//! The two element types: `f32` (both executors) and `f64` (CPU only: the oracle).

use crate::cell::StageFn;
use crate::cpu::{Compiled, F32s, F64s, Lanes};
use crate::entry::Entry;

/// `f32` or `f64`.
pub trait Real:
    Entry
    + bytemuck::Pod
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
    #[doc(hidden)]
    fn compiled(stage: &StageFn) -> Compiled<Self>;
    /// Runs `op` with the registers that kernels of this type are compiled for.
    #[doc(hidden)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output;
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
    fn compiled(stage: &StageFn) -> Compiled<Self> {
        stage.f32
    }
    #[inline(always)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output {
        pulp::Arch::new().dispatch(op)
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
    fn compiled(stage: &StageFn) -> Compiled<Self> {
        stage.f64
    }
    // An oracle has no need of the widest registers, and a third instruction set takes the compiler as long as the second.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    #[inline(always)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output {
        match pulp::x86::V3::try_new() {
            Some(isa) => pulp::Simd::vectorize(isa, op),
            None => pulp::Simd::vectorize(pulp::Scalar, op),
        }
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    #[inline(always)]
    fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output {
        pulp::Arch::new().dispatch(op)
    }
}
