//! Matrix products of crate `gemm` for certain instructions. The crate itself takes the widest that the machine has; its parts are
//! put together here for narrower ones.

use crate::num::{Family, InstructionSet, Pair, Real, instructions};
use gemm_common::Parallelism;

/// out ← α·out + β·lhs·rhs of one element type: m, n, k; out, the distance of its columns and of its rows, whether it is read; lhs and
/// rhs with theirs; α, β; whether any is conjugated; threads.
pub(super) type Product<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

/// The product for the instructions of this thread.
pub(super) fn product<T: Real>() -> Product<T> {
    T::of(&PRODUCTS)(instructions::current())
}

struct Products;

impl Family for Products {
    type Of<T: Real> = fn(InstructionSet) -> Product<T>;
}

const PRODUCTS: Pair<Products> = Pair { f32: for_f32, f64: for_f64 };

fn for_f32(set: InstructionSet) -> Product<f32> {
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => narrow::avx2_f32,
        InstructionSet::Portable => narrow::portable_f32,
        _ => gemm_f32::gemm::f32::get_gemm_fn(),
    }
}

fn for_f64(set: InstructionSet) -> Product<f64> {
    match set {
        // As all of f64 ([`Real::dispatch`]).
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 | InstructionSet::Avx512 => narrow::avx2_f64,
        InstructionSet::Portable => narrow::portable_f64,
        _ => gemm_f64::gemm::f64::get_gemm_fn(),
    }
}

/// One driver per element type and instruction set, of the microkernels of `gemm`.
mod narrow {
    use super::Parallelism;
    use gemm_common::simd::MixedSimd;

    macro_rules! product {
        ($name:ident, $float:ident, $microkernels:path, $simd:ident, $lanes:expr) => {
            #[expect(clippy::too_many_arguments, reason = "the signature of `gemm`'s functions")]
            pub(super) unsafe fn $name(
                m: usize,
                n: usize,
                k: usize,
                out: *mut $float,
                out_columns: isize,
                out_rows: isize,
                read: bool,
                lhs: *const $float,
                lhs_columns: isize,
                lhs_rows: isize,
                rhs: *const $float,
                rhs_columns: isize,
                rhs_rows: isize,
                alpha: $float,
                beta: $float,
                conjugate_out: bool,
                conjugate_lhs: bool,
                conjugate_rhs: bool,
                threads: Parallelism,
            ) {
                use gemm_common::simd::$simd;
                use $microkernels::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
                const N: usize = $lanes;
                let Some(simd) = <$simd as MixedSimd<$float, $float, $float, $float>>::try_new() else {
                    unreachable!("instructions are looked for before a device has them")
                };
                // SAFETY: the caller's promise, which is that of `gemm`'s own functions.
                unsafe {
                    gemm_common::gemm::gemm_basic_generic::<_, _, N, { MR_DIV_N * N }, NR, MR_DIV_N, H_M, H_N>(
                        simd,
                        m,
                        n,
                        k,
                        out,
                        out_columns,
                        out_rows,
                        read,
                        lhs,
                        lhs_columns,
                        lhs_rows,
                        rhs,
                        rhs_columns,
                        rhs_rows,
                        alpha,
                        beta,
                        conjugate_out,
                        conjugate_lhs,
                        conjugate_rhs,
                        |a, b, c| a * b + c,
                        &UKR,
                        &H_UKR,
                        false,
                        threads,
                    );
                }
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    product!(avx2_f32, f32, gemm_f32::microkernel::fma::f32, V3, 8);
    #[cfg(target_arch = "x86_64")]
    product!(avx2_f64, f64, gemm_f64::microkernel::fma::f64, V3, 4);
    product!(portable_f32, f32, gemm_f32::microkernel::scalar::f32, Scalar, 1);
    product!(portable_f64, f64, gemm_f64::microkernel::scalar::f64, Scalar, 1);
}
