//! The functions of expressions ([`crate::expr`]) register by register: f32 by polynomials, to a unit or two of the last digit; f64
//! through the standard library. Every value's bits are the same wherever it stands.

use crate::expr::Function;
use crate::num::Lanes;
use crate::num::Real;
use pulp::{Simd, WithSimd};

/// Exp, Sigmoid and Softplus in place; others are the caller's.
pub(crate) fn apply<T: Real>(function: Function, values: &mut [T]) {
    T::dispatch(Apply(function, values));
}

struct Apply<'a, T>(Function, &'a mut [T]);

impl<T: Real> WithSimd for Apply<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, isa: S) {
        match self.0 {
            Function::Exp => each::<T::Lanes<S>>(isa, self.1, |x| x.full_exp()),
            Function::Sigmoid => each::<T::Lanes<S>>(isa, self.1, sigmoid),
            Function::Softplus => each::<T::Lanes<S>>(isa, self.1, softplus),
            _ => debug_assert!(false, "a function of registers"),
        }
    }
}

#[inline(always)]
fn each<L: Lanes>(isa: L::Isa, values: &mut [L::Elem], f: impl Fn(L) -> L) {
    for chunk in values.chunks_mut(L::WIDTH) {
        f(L::load(isa, chunk)).store(chunk);
    }
}

/// 1 or e^−|x| by 1 + e^−|x|: never overflows, and keeps the digits of small gates.
#[inline(always)]
fn sigmoid<L: Lanes>(x: L) -> L {
    let e = (x.like(0.0) - x.abs()).full_exp();
    x.pick(x.like(0.0), x.like(1.0), e).div(x.like(1.0) + e)
}

/// max(x, 0) + log(1 + e^−|x|)
#[inline(always)]
fn softplus<L: Lanes>(x: L) -> L {
    x.max(x.like(0.0)) + (x.like(0.0) - x.abs()).full_exp().log_of_one_plus()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_the_standard_library() {
        let all: Vec<f32> = (-4000..4000).map(|n| n as f32 * 0.0237).collect();
        for (function, exact) in [
            (Function::Exp, f64::exp as fn(f64) -> f64),
            (Function::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (Function::Softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        ] {
            let mut got = all.clone();
            apply(function, &mut got);
            let mut worst = 0.0f64;
            for (x, y) in all.iter().zip(&got).filter(|(x, _)| x.abs() < 86.0) {
                let exact = exact(f64::from(*x));
                worst = worst.max(((f64::from(*y) - exact) / exact).abs());
            }
            assert!(worst < 2.5e-7, "{function:?}: {worst:e}");
            // Alone and at any place the same bits.
            for (n, (x, y)) in all.iter().zip(&got).enumerate().step_by(97) {
                let mut alone = [*x];
                apply(function, &mut alone);
                assert_eq!(alone[0].to_bits(), y.to_bits(), "{function:?} of {x}, number {n}");
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let all: Vec<f32> = (-9000..9000).map(|n| n as f32 * 0.0117).chain([f32::NAN, f32::INFINITY]).collect();
        let bits = |y: &[f32]| y.iter().map(|v| if v.is_nan() { 1 } else { v.to_bits() }).collect::<Vec<u32>>();
        for function in [Function::Exp, Function::Sigmoid, Function::Softplus] {
            let (mut widest, mut scalars) = (all.clone(), all.clone());
            apply(function, &mut widest);
            Simd::vectorize(pulp::Scalar, Apply(function, &mut scalars));
            assert_eq!(bits(&widest), bits(&scalars), "{function:?}");
            #[cfg(target_arch = "x86_64")]
            if let Some(isa) = pulp::x86::V3::try_new() {
                let mut of_v3 = all.clone();
                Simd::vectorize(isa, Apply(function, &mut of_v3));
                assert_eq!(bits(&of_v3), bits(&scalars), "{function:?}");
            }
        }
    }

    #[test]
    fn ends_are_exact() {
        let of = |function, x: f32| {
            let mut value = [x];
            apply(function, &mut value);
            value[0]
        };
        for x in [-1e30, -1000.0, -90.0, f32::NEG_INFINITY] {
            assert_eq!([of(Function::Exp, x), of(Function::Sigmoid, x), of(Function::Softplus, x)], [0.0; 3]);
        }
        for x in [89.0, 1e30, f32::INFINITY] {
            assert_eq!([of(Function::Exp, x), of(Function::Sigmoid, x)], [f32::INFINITY, 1.0]);
            assert_eq!(of(Function::Softplus, x), x);
        }
        assert_eq!([of(Function::Exp, 0.0), of(Function::Sigmoid, 0.0)], [1.0, 0.5]);
        for function in [Function::Exp, Function::Sigmoid, Function::Softplus] {
            assert!(of(function, f32::NAN).is_nan());
            assert!((1..40).all(|n| {
                let mut many = vec![0.5f32; n];
                many[n - 1] = f32::NAN;
                apply(function, &mut many);
                many[n - 1].is_nan() && many[..n - 1].iter().all(|v| !v.is_nan())
            }));
        }
    }
}
