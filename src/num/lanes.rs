//! A vector of `f32` or `f64` as wide as the machine's registers, with the operators that cells are written in.

use crate::num::Real;
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
    /// Two registers from `WIDTH` words: bf16 in their lower, and in their upper halves.
    fn of_bf16(isa: Self::Isa, words: &[u32]) -> [Self; 2];
    /// The same of f16; not of infinities and NaN.
    fn of_f16(isa: Self::Isa, words: &[u32]) -> [Self; 2];
    /// Four registers from `WIDTH` words: their bytes, lowest first, less 128.
    fn of_codes(isa: Self::Isa, words: &[u32]) -> [Self; 4];
    /// The constant `v` in a register like this one.
    fn like(self, v: f64) -> Self;
    /// `self · b + c`, rounded once where the machine can.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Lane-wise maximum; NaN in `self` stays.
    fn max(self, other: Self) -> Self;
    /// Lane-wise minimum; NaN in `self` stays.
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
    /// eˣ for all x; f32: relative error < 1.5e-7, 0 where it would be subnormal.
    fn full_exp(self) -> Self;
    /// log(1 + x) for x in 0..=1.
    fn log_of_one_plus(self) -> Self;
    /// 1 where the lane is above 0, else 0.
    fn positive(self) -> Self;
    /// 1 / (1 + exp(−x)); f32: |error| < 2e-7, f64: the standard library's exp.
    fn sigmoid(self) -> Self;
    /// tanh(x); f32: |error| < 4e-7, f64: the standard library's.
    fn tanh(self) -> Self;
    /// The derivative of sigmoid at x, e / (1 + e)² with e = exp(−|x|): y·(1 − y) cancels where the gate saturates. f32: for |x|
    /// clamped to 87, relative error < 1e-6.
    fn sigmoid_slope(self) -> Self;
}

/// 1.5 · 2²³: adding it rounds to an integer in the low mantissa bits.
const ROUND: f64 = 12_582_912.0;

/// `S::f32s` with its instruction set at hand.
#[derive(Clone, Copy)]
pub struct F32s<S: Simd>(S, S::f32s);

/// `S::f64s` with its instruction set at hand.
#[derive(Clone, Copy)]
pub struct F64s<S: Simd>(S, S::f64s);

/// Whether its maximum and minimum may be the other value where one is NaN: all but AVX's, which is wider than the others.
#[inline(always)]
fn may_lose_nan<S: Simd>() -> bool {
    S::F32_LANES <= 4
}

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

impl<S: Simd> F32s<S> {
    /// x = n·ln 2 + r: n + [`ROUND`], r and p of eˣ = 2ⁿ (1 + r + p r²), p a polynomial in r (Cephes `expf`); for |x| up to 89.
    #[inline(always)]
    fn exp_parts(self) -> (Self, Self, Self) {
        let round = self.like(ROUND);
        let biased = self.mul_add(self.like(std::f64::consts::LOG2_E), round);
        let n = biased - round;
        let r = n.mul_add(self.like(-0.693_359_375), self);
        let r = n.mul_add(self.like(2.121_944_4e-4), r);
        let mut p = self.like(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
            p = p.mul_add(r, self.like(c));
        }
        (biased, r, p)
    }
    /// 2ⁿ from n + [`ROUND`], n a whole number in −126..=127.
    #[inline(always)]
    fn power_of_two(self) -> Self {
        let s = self.0;
        let bits = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(self.1), s.splat_u32s(23));
        Self(s, s.transmute_f32s_u32s(s.add_u32s(bits, s.splat_u32s(0x3f80_0000))))
    }
    /// self / by, for `by` in 1e-37..=1e38 (and NaN), to 3e-7 of itself where it is no subnormal: an estimate of 1 / by from its
    /// bits (to 12 %), two Newton steps, and the remainder's share. The machine's own division would take half the time of an
    /// LSTM's pointwise part.
    #[inline(always)]
    fn quotient(self, by: Self) -> Self {
        let s = self.0;
        let bits = s.sub_u32s(s.splat_u32s(0x7ef3_11c7), s.transmute_u32s_f32s(by.1));
        let (mut inverse, minus, one) = (Self(s, s.transmute_f32s_u32s(bits)), self.like(0.0) - by, self.like(1.0));
        for _ in 0..2 {
            inverse = inverse.mul_add(minus.mul_add(inverse, one), inverse);
        }
        let quotient = self * inverse;
        inverse.mul_add(minus.mul_add(quotient, self), quotient)
    }
}

/// A register of words.
#[inline(always)]
fn load_words<S: Simd>(_: S, words: &[u32]) -> S::u32s {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words[..S::F32_LANES]))
}

// These are functions and no closures: closures may not be inlined into code for other instruction sets (an LSTM of 512 units with f16
// weights then took nearly forty times as long).

// f32 counts exponents from 127, f16 from 15: 113 more are twice the value, but for subnormal numbers, which are not 1.x but 0.x
// times 2^-14: 2^-14 less. The smaller of the two is the right one in either case. (To multiply by 2^112 instead would be shorter,
// but many processors are slow with subnormal numbers of f32.)
/// The f16 in the upper half of every word.
#[inline(always)]
fn upper_half<S: Simd>(isa: S, word: S::u32s) -> S::f32s {
    let (half, unit) = (isa.splat_f32s(0.5), isa.splat_f32s(f32::from_bits(113 << 23)));
    let rest = isa.and_u32s(isa.wrapping_dyn_shr_u32s(word, isa.splat_u32s(3)), isa.splat_u32s(0x0fff_e000));
    let twice = isa.transmute_f32s_u32s(isa.add_u32s(rest, isa.splat_u32s(113 << 23)));
    let value = isa.min_f32s(isa.mul_f32s(twice, half), isa.sub_f32s(twice, unit));
    let sign = isa.and_u32s(word, isa.splat_u32s(0x8000_0000));
    isa.transmute_f32s_u32s(isa.or_u32s(isa.transmute_u32s_f32s(value), sign))
}

// 2²³ + code as an f32 has the code in its lowest bits.
/// A code of 0 to 255 in every word, less 128.
#[inline(always)]
fn code<S: Simd>(isa: S, code: S::u32s) -> S::f32s {
    let number = isa.transmute_f32s_u32s(isa.or_u32s(code, isa.splat_u32s(0x4b00_0000)));
    isa.sub_f32s(number, isa.splat_f32s(8_388_608.0 + 128.0))
}

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
    fn of_bf16(isa: S, words: &[u32]) -> [Self; 2] {
        let words = load_words(isa, words);
        let low = isa.wrapping_dyn_shl_u32s(words, isa.splat_u32s(16));
        let high = isa.and_u32s(words, isa.splat_u32s(0xffff_0000));
        [Self(isa, isa.transmute_f32s_u32s(low)), Self(isa, isa.transmute_f32s_u32s(high))]
    }
    #[inline(always)]
    fn of_f16(isa: S, words: &[u32]) -> [Self; 2] {
        let high = load_words(isa, words);
        let low = isa.wrapping_dyn_shl_u32s(high, isa.splat_u32s(16));
        [Self(isa, upper_half(isa, low)), Self(isa, upper_half(isa, high))]
    }
    #[inline(always)]
    fn of_codes(isa: S, words: &[u32]) -> [Self; 4] {
        let words = load_words(isa, words);
        let byte = isa.splat_u32s(0xff);
        let second = isa.wrapping_dyn_shr_u32s(words, isa.splat_u32s(8));
        let third = isa.wrapping_dyn_shr_u32s(words, isa.splat_u32s(16));
        let fourth = isa.wrapping_dyn_shr_u32s(words, isa.splat_u32s(24));
        [
            Self(isa, code(isa, isa.and_u32s(words, byte))),
            Self(isa, code(isa, isa.and_u32s(second, byte))),
            Self(isa, code(isa, isa.and_u32s(third, byte))),
            Self(isa, code(isa, fourth)),
        ]
    }
    #[inline(always)]
    fn like(self, v: f64) -> Self {
        Self(self.0, self.0.splat_f32s(v as f32))
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(self.0, self.0.mul_add_f32s(self.1, b.1, c.1))
    }
    // The other comes first: x86 keeps the second operand where one is NaN; others may keep the one that is none.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        let max = Self(self.0, self.0.max_f32s(other.1, self.1));
        if may_lose_nan::<S>() { self.nan_or(max) } else { max }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let min = Self(self.0, self.0.min_f32s(other.1, self.1));
        if may_lose_nan::<S>() { self.nan_or(min) } else { min }
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
    #[inline(always)]
    fn exp(self) -> Self {
        let (biased, r, p) = self.max(self.like(-87.0)).min(self.like(87.0)).exp_parts();
        biased.power_of_two() * p.mul_add(r * r, r + self.like(1.0))
    }
    // What is small is summed first; 2ⁿ in two halves, for n = 128 is beyond one.
    #[inline(always)]
    fn full_exp(self) -> Self {
        let (low, high) = (self.like(-87.336_54), self.like(88.722_84));
        let (biased, r, p) = self.max(low).min(high).exp_parts();
        let round = self.like(ROUND);
        let n = biased - round;
        let half = n.mul_add(self.like(0.5), round);
        let rest = n - (half - round) + round;
        let e = (p.mul_add(r * r, r) + self.like(1.0)) * half.power_of_two() * rest.power_of_two();
        let e = self.pick(low, e, self.like(0.0));
        self.nan_or(high.pick(self, e, self.like(f64::INFINITY)))
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
        one.quotient(one + (self.like(0.0) - self).exp())
    }
    #[inline(always)]
    fn sigmoid_slope(self) -> Self {
        let zero = self.like(0.0);
        let e = (zero - self.max(zero - self)).exp();
        let whole = e + self.like(1.0);
        e.quotient(whole * whole)
    }
    // The coefficients of `safe_tanh` in shaders/lib/math.wgsl.
    #[inline(always)]
    fn tanh(self) -> Self {
        let limit = 7.905_311;
        let x = self.max(self.like(-limit)).min(self.like(limit));
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
        (x * p).quotient(q)
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

/// A register of what words say.
#[inline(always)]
fn of_words<S: Simd>(isa: S, words: &[u32], value: impl Fn(u32) -> f64) -> F64s<S> {
    let mut lanes = isa.splat_f64s(0.0);
    for (lane, &word) in
        bytemuck::cast_slice_mut::<S::f64s, f64>(std::slice::from_mut(&mut lanes)).iter_mut().zip(words)
    {
        *lane = value(word);
    }
    F64s(isa, lanes)
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
    fn of_bf16(isa: S, words: &[u32]) -> [Self; 2] {
        [0, 16].map(|bit| of_words(isa, words, |word| half::bf16::from_bits((word >> bit) as u16).to_f64()))
    }
    #[inline(always)]
    fn of_f16(isa: S, words: &[u32]) -> [Self; 2] {
        [0, 16].map(|bit| of_words(isa, words, |word| half::f16::from_bits((word >> bit) as u16).to_f64()))
    }
    #[inline(always)]
    fn of_codes(isa: S, words: &[u32]) -> [Self; 4] {
        [0, 8, 16, 24].map(|bit| of_words(isa, words, |word| f64::from((word >> bit) as u8) - 128.0))
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
        let max = Self(self.0, self.0.max_f64s(other.1, self.1));
        if may_lose_nan::<S>() { self.nan_or(max) } else { max }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let min = Self(self.0, self.0.min_f64s(other.1, self.1));
        if may_lose_nan::<S>() { self.nan_or(min) } else { min }
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
    fn full_exp(self) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::WithSimd;

    /// `y[n] = f(x[n])` on one instruction set.
    struct Map<'a>(&'a [f32], &'a mut [f32], usize);

    impl WithSimd for Map<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) {
            let width = F32s::<S>::WIDTH;
            for (x, y) in self.0.chunks(width).zip(self.1.chunks_mut(width)) {
                let x = F32s::load(isa, x);
                let f = match self.2 {
                    0 => x.sigmoid(),
                    1 => x.tanh(),
                    2 => x.exp(),
                    3 => x.sigmoid_slope(),
                    _ => x.full_exp(),
                };
                f.store(y);
            }
        }
    }

    /// Values of every exponent and sign, subnormals, zeros, infinities and a NaN; and many between -100 and 100.
    fn values() -> Vec<f32> {
        let all = (0..=u32::MAX).step_by(16_381).map(f32::from_bits).filter(|x| !x.is_nan());
        let near = (-400_000..=400_000).map(|n| n as f32 / 4_000.0);
        let ends = [0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY, 7.905_311, 87.0, 87.000_01, 88.722_84];
        let signed = ends.into_iter().flat_map(|x| [x, -x]);
        all.chain(near).chain(signed).chain([f32::NAN]).collect()
    }

    #[test]
    fn errors_of_f32_functions_are_bounded() {
        let x = values();
        let clamped = |x: f64| x.clamp(-87.0, 87.0);
        let slope = |x: f64| (-clamped(x.abs())).exp() / (1.0 + (-clamped(x.abs())).exp()).powi(2);
        type Reference<'a> = &'a dyn Fn(f64) -> f64;
        let functions: [(&str, Reference<'_>, f64, bool); 4] = [
            ("sigmoid", &|x| 1.0 / (1.0 + (-x).exp()), 2e-7, false),
            ("tanh", &f64::tanh, 4e-7, false),
            ("exp", &|x| clamped(x).exp(), 2e-7, true),
            ("sigmoid_slope", &slope, 1e-6, true),
        ];
        for (n, (name, exact, bound, relative)) in functions.into_iter().enumerate() {
            let run = |isa: &str, y: &[f32]| {
                for (&x, &y) in x.iter().zip(y) {
                    assert_eq!(x.is_nan(), y.is_nan(), "{name}({x}) = {y} on {isa}");
                    let exact = exact(x.into());
                    let scale = if relative { exact } else { 1.0 };
                    let error = (f64::from(y) - exact).abs() / scale;
                    assert!(x.is_nan() || error < bound, "{name}({x}) = {y} on {isa}: {error:.1e}");
                }
            };
            let mut y = vec![0.0; x.len()];
            pulp::Arch::new().dispatch(Map(&x, &mut y, n));
            run("the widest", &y);
            Simd::vectorize(pulp::Scalar, Map(&x, &mut y, n));
            run("scalars", &y);
            Simd::vectorize(pulp::Scalar128b, Map(&x, &mut y, n));
            run("four lanes", &y);
            #[cfg(target_arch = "x86_64")]
            if let Some(isa) = pulp::x86::V3::try_new() {
                Simd::vectorize(isa, Map(&x, &mut y, n));
                run("AVX2", &y);
            }
        }
    }

    /// Words widened on one instruction set: bf16, f16, bytes.
    struct Widen<'a>(&'a [u32], Vec<f32>);

    impl WithSimd for Widen<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn with_simd<S: Simd>(self, isa: S) -> Vec<f32> {
            let Self(words, mut out) = self;
            for words in words.chunks_exact(F32s::<S>::WIDTH) {
                let ([a, b], [c, d], [e, f, g, h]) =
                    (F32s::<S>::of_bf16(isa, words), F32s::<S>::of_f16(isa, words), F32s::<S>::of_codes(isa, words));
                for register in [a, b, c, d, e, f, g, h] {
                    let at = out.len();
                    out.resize(at + F32s::<S>::WIDTH, 0.0);
                    register.store(&mut out[at..]);
                }
            }
            out
        }
    }

    /// Every finite f16 and what lies between, as bf16, f16 and bytes: those of crate `half`, bit for bit, with every instruction set.
    #[test]
    fn widened_words_are_exact() {
        let finite = |bits: u32| half::f16::from_bits(bits as u16).is_finite();
        let halves: Vec<u32> = (0..1 << 16).filter(|&bits| finite(bits)).collect();
        let words: Vec<u32> = halves.iter().zip(halves.iter().rev()).map(|(a, b)| a | b << 16).collect();
        assert_eq!(words.len() % 16, 0);
        let check = |name: &str, width: usize, out: Vec<f32>| {
            for (words, out) in words.chunks_exact(width).zip(out.chunks_exact(8 * width)) {
                for (n, &word) in words.iter().enumerate() {
                    let [low, high] = [word as u16, (word >> 16) as u16];
                    let bf16 = [low, high].map(|bits| half::bf16::from_bits(bits).to_f32());
                    let f16 = [low, high].map(|bits| half::f16::from_bits(bits).to_f32());
                    let bytes = word.to_le_bytes().map(|byte| f32::from(byte) - 128.0);
                    let exact = bf16.into_iter().chain(f16).chain(bytes);
                    for (register, exact) in exact.enumerate() {
                        let own = out[register * width + n];
                        assert!(
                            own.to_bits() == exact.to_bits() || own.is_nan() && exact.is_nan(),
                            "{name} {word:x}: {own} {exact}"
                        );
                    }
                }
            }
        };
        check("scalars", 1, Simd::vectorize(pulp::Scalar, Widen(&words, Vec::new())));
        check("four lanes", 4, Simd::vectorize(pulp::Scalar128b, Widen(&words, Vec::new())));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(isa) = pulp::x86::V3::try_new() {
                check("AVX2", 8, Simd::vectorize(isa, Widen(&words, Vec::new())));
            }
            if let Some(isa) = pulp::x86::V4::try_new() {
                check("AVX-512", 16, Simd::vectorize(isa, Widen(&words, Vec::new())));
            }
        }
    }

    /// e^x over all of f32, with the same bits on every instruction set.
    #[test]
    fn the_whole_range_of_exp() {
        let x = values();
        let mut y = vec![0.0; x.len()];
        Simd::vectorize(pulp::Scalar, Map(&x, &mut y, 4));
        for (&x, &y) in x.iter().zip(&y) {
            let exact = f64::from(x).exp();
            match exact {
                _ if x.is_nan() => assert!(y.is_nan(), "{x}"),
                e if e > f64::from(f32::MAX) * (1.0 + 1e-6) => assert_eq!(y, f32::INFINITY, "{x}"),
                e if e < f64::from(f32::MIN_POSITIVE) * (1.0 - 1e-6) => assert_eq!(y, 0.0, "{x}"),
                // Either at the very ends.
                e if !(1.175_5e-38..=3.402_82e38).contains(&e) => {}
                e => assert!((f64::from(y) - e).abs() < 1.5e-7 * e, "{x}: {y} for {e}"),
            }
        }
        let bits = |y: &[f32]| y.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let mut widest = y.clone();
        pulp::Arch::new().dispatch(Map(&x, &mut widest, 4));
        assert_eq!(bits(&widest), bits(&y));
        Simd::vectorize(pulp::Scalar128b, Map(&x, &mut widest, 4));
        assert_eq!(bits(&widest), bits(&y));
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = pulp::x86::V3::try_new() {
            Simd::vectorize(isa, Map(&x, &mut widest, 4));
            assert_eq!(bits(&widest), bits(&y));
        }
    }
}
