//! A vector of `f32` or `f64` as wide as the machine's registers, with the operators that cells are written in.

use crate::real::Real;
use pulp::Simd;
use std::ops::{Add, Mul, Sub};

/// A register of values. Cells see nothing but this trait, so one text serves f32, f64 and every instruction set.
pub trait Lanes: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// `f32` or `f64`.
    type Elem: Real;
    /// The instruction set.
    type Isa: Simd;
    /// Values per register.
    const WIDTH: usize;

    /// The instruction set at hand.
    fn isa(self) -> Self::Isa;
    /// All lanes `v`.
    fn splat(isa: Self::Isa, v: Self::Elem) -> Self;
    /// The first `WIDTH` values of `from`; missing ones are 0.
    fn load(isa: Self::Isa, from: &[Self::Elem]) -> Self;
    /// Writes as many lanes as `to` holds.
    fn store(self, to: &mut [Self::Elem]);
    /// The constant `v` in a register like this one.
    fn like(self, v: f64) -> Self;
    /// `self · b + c`, rounded once where the machine can.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Lane-wise maximum; NaN in `self` gives `other` on some machines.
    fn max(self, other: Self) -> Self;
    /// Lane-wise minimum; NaN as in `max`.
    fn min(self, other: Self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// self / b
    fn div(self, b: Self) -> Self;
    /// `yes` where the lane is at least `limit`, else `no` (also for NaN).
    fn pick(self, limit: Self, yes: Self, no: Self) -> Self;
    /// The lane where it is NaN, else `value`.
    fn nan_or(self, value: Self) -> Self;
    /// eˣ; f32: for x clamped to ±87, relative error < 2e-7.
    fn exp(self) -> Self;
    /// log(1 + x) for x in 0..=1.
    fn log_of_one_plus(self) -> Self;
    /// 1 where the lane is above 0, else 0.
    fn positive(self) -> Self;
    /// 1 / (1 + exp(−x)); f32: |error| < 2e-7, f64: the standard library's exp.
    fn sigmoid(self) -> Self;
    /// tanh(x); f32: |error| < 4e-7, f64: the standard library's.
    fn tanh(self) -> Self;
    /// The derivative of sigmoid at x, e / (1 + e)² with e = exp(−|x|): y·(1 − y) cancels where the gate saturates.
    fn sigmoid_slope(self) -> Self;
}

/// `S::f32s` with its instruction set at hand.
#[derive(Clone, Copy)]
pub struct F32s<S: Simd>(S, S::f32s);

/// `S::f64s` with its instruction set at hand.
#[derive(Clone, Copy)]
pub struct F64s<S: Simd>(S, S::f64s);

macro_rules! operators {
    ($name:ident, $add:ident, $sub:ident, $mul:ident) => {
        impl<S: Simd> Add for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                Self(self.0, self.0.$add(self.1, b.1))
            }
        }
        impl<S: Simd> Sub for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                Self(self.0, self.0.$sub(self.1, b.1))
            }
        }
        impl<S: Simd> Mul for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                Self(self.0, self.0.$mul(self.1, b.1))
            }
        }
    };
}
operators!(F32s, add_f32s, sub_f32s, mul_f32s);
operators!(F64s, add_f64s, sub_f64s, mul_f64s);

impl<S: Simd> Lanes for F32s<S> {
    type Elem = f32;
    type Isa = S;
    const WIDTH: usize = S::F32_LANES;

    #[inline(always)]
    fn isa(self) -> S {
        self.0
    }
    #[inline(always)]
    fn splat(isa: S, v: f32) -> Self {
        Self(isa, isa.splat_f32s(v))
    }
    #[inline(always)]
    fn load(isa: S, from: &[f32]) -> Self {
        if from.len() >= Self::WIDTH {
            Self(isa, bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..Self::WIDTH])))
        } else {
            Self(isa, isa.partial_load_f32s(from))
        }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        if to.len() >= Self::WIDTH {
            to[..Self::WIDTH].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&self.1)));
        } else {
            self.0.partial_store_f32s(to, self.1);
        }
    }
    #[inline(always)]
    fn like(self, v: f64) -> Self {
        Self(self.0, self.0.splat_f32s(v as f32))
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(self.0, self.0.mul_add_f32s(self.1, b.1, c.1))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(self.0, self.0.max_f32s(other.1, self.1))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(self.0, self.0.min_f32s(other.1, self.1))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0, self.0.abs_f32s(self.1))
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Self(self.0, self.0.div_f32s(self.1, b.1))
    }
    #[inline(always)]
    fn pick(self, limit: Self, yes: Self, no: Self) -> Self {
        let isa = self.0;
        Self(isa, isa.select_f32s(isa.less_than_or_equal_f32s(limit.1, self.1), yes.1, no.1))
    }
    #[inline(always)]
    fn nan_or(self, value: Self) -> Self {
        let isa = self.0;
        Self(isa, isa.select_f32s(isa.equal_f32s(self.1, self.1), value.1, self.1))
    }
    // x = n·ln 2 + r, a polynomial in r (Cephes `expf`), and n added to the exponent.
    #[inline(always)]
    fn exp(self) -> Self {
        let s = self.0;
        // The constant comes first so that a NaN argument survives the clamp (x86 keeps the second operand).
        let x = Self(s, s.min_f32s(s.splat_f32s(87.0), s.max_f32s(s.splat_f32s(-87.0), self.1)));
        let round = self.like(12_582_912.0); // 1.5 · 2²³: adding it rounds to an integer in the low mantissa bits
        let biased = x.mul_add(self.like(std::f64::consts::LOG2_E), round);
        let n = biased - round;
        let r = n.mul_add(self.like(-0.693_359_375), x);
        let r = n.mul_add(self.like(2.121_944_4e-4), r);
        let mut p = self.like(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
            p = p.mul_add(r, self.like(c));
        }
        let p = p.mul_add(r * r, r + self.like(1.0));
        let bits = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(biased.1), s.splat_u32s(23));
        let scale = s.transmute_f32s_u32s(s.add_u32s(bits, s.splat_u32s(0x3f80_0000)));
        Self(s, scale) * p
    }
    // 2 artanh(s) with s = x / (2 + x), at most 1/3: the odd series to s^15, the next term being below 2e-9 of the sum.
    #[inline(always)]
    fn log_of_one_plus(self) -> Self {
        let s = self.div(self + self.like(2.0));
        let square = s * s;
        let mut p = self.like(2.0 / 15.0);
        for n in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
            p = p.mul_add(square, self.like(2.0 / n));
        }
        s * p
    }
    #[inline(always)]
    fn positive(self) -> Self {
        let (isa, zero) = (self.0, self.0.splat_f32s(0.0));
        Self(isa, isa.select_f32s(isa.less_than_f32s(zero, self.1), isa.splat_f32s(1.0), zero))
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let one = self.like(1.0);
        one.div(one + (self.like(0.0) - self).exp())
    }
    #[inline(always)]
    fn sigmoid_slope(self) -> Self {
        let zero = self.like(0.0);
        let e = (zero - self.max(zero - self)).exp();
        let whole = e + self.like(1.0);
        e.div(whole * whole)
    }
    // The coefficients of `safe_tanh` in shaders/lib/math.wgsl.
    #[inline(always)]
    fn tanh(self) -> Self {
        let s = self.0;
        let limit = 7.905_311;
        let x = Self(s, s.min_f32s(s.splat_f32s(limit), s.max_f32s(s.splat_f32s(-limit), self.1)));
        let square = x * x;
        let mut p = self.like(-2.760_768_477_423_55e-16);
        for c in [
            2.000_187_904_824_77e-13,
            -8.604_671_522_137_35e-11,
            5.122_297_090_371_14e-8,
            1.485_722_357_179_79e-5,
            6.372_619_288_754_36e-4,
            4.893_524_558_917_86e-3,
        ] {
            p = p.mul_add(square, self.like(c));
        }
        let mut q = self.like(1.198_258_394_667_02e-6);
        for c in [1.185_347_056_866_54e-4, 2.268_434_632_439e-3, 4.893_525_185_543_85e-3] {
            q = q.mul_add(square, self.like(c));
        }
        (x * p).div(q)
    }
}

impl<S: Simd> F64s<S> {
    /// Lane by lane through the standard library: f64 is the oracle, accuracy is all that counts.
    #[inline(always)]
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let mut lanes = self.1;
        for lane in bytemuck::cast_slice_mut::<S::f64s, f64>(std::slice::from_mut(&mut lanes)) {
            *lane = f(*lane);
        }
        Self(self.0, lanes)
    }
}

impl<S: Simd> Lanes for F64s<S> {
    type Elem = f64;
    type Isa = S;
    const WIDTH: usize = S::F64_LANES;

    #[inline(always)]
    fn isa(self) -> S {
        self.0
    }
    #[inline(always)]
    fn splat(isa: S, v: f64) -> Self {
        Self(isa, isa.splat_f64s(v))
    }
    #[inline(always)]
    fn load(isa: S, from: &[f64]) -> Self {
        if from.len() >= Self::WIDTH {
            Self(isa, bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..Self::WIDTH])))
        } else {
            Self(isa, isa.partial_load_f64s(from))
        }
    }
    #[inline(always)]
    fn store(self, to: &mut [f64]) {
        if to.len() >= Self::WIDTH {
            to[..Self::WIDTH].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&self.1)));
        } else {
            self.0.partial_store_f64s(to, self.1);
        }
    }
    #[inline(always)]
    fn like(self, v: f64) -> Self {
        Self(self.0, self.0.splat_f64s(v))
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(self.0, self.0.mul_add_f64s(self.1, b.1, c.1))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(self.0, self.0.max_f64s(other.1, self.1))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(self.0, self.0.min_f64s(other.1, self.1))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0, self.0.abs_f64s(self.1))
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Self(self.0, self.0.div_f64s(self.1, b.1))
    }
    #[inline(always)]
    fn pick(self, limit: Self, yes: Self, no: Self) -> Self {
        let isa = self.0;
        Self(isa, isa.select_f64s(isa.less_than_or_equal_f64s(limit.1, self.1), yes.1, no.1))
    }
    #[inline(always)]
    fn nan_or(self, value: Self) -> Self {
        let isa = self.0;
        Self(isa, isa.select_f64s(isa.equal_f64s(self.1, self.1), value.1, self.1))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        self.map(f64::exp)
    }
    #[inline(always)]
    fn log_of_one_plus(self) -> Self {
        self.map(f64::ln_1p)
    }
    #[inline(always)]
    fn positive(self) -> Self {
        let (isa, zero) = (self.0, self.0.splat_f64s(0.0));
        Self(isa, isa.select_f64s(isa.less_than_f64s(zero, self.1), isa.splat_f64s(1.0), zero))
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        self.map(|x| 1.0 / (1.0 + (-x).exp()))
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        self.map(f64::tanh)
    }
    #[inline(always)]
    fn sigmoid_slope(self) -> Self {
        self.map(|x| {
            let e = (-x.abs()).exp();
            e / ((1.0 + e) * (1.0 + e))
        })
    }
}
