//! The proof chain: golden file (another implementation's result, in f64) → both executors, within a calibrated bound.
//!
//! ```text
//! golden ──f64──> naive loop ──┐ its f32 error is the yardstick ([`tolerance`])
//!        ──f32──> naive loop ──┘
//!        ──────> Session (cpu f64 | cpu f32 | gpu f32), all working memory NaN-filled first ──> out.* compared
//! ```
//!
//! A later backward pass adds `grad.*` (and `out.loss`) to what [`Golden`] reads and to what a run computes; the comparison
//! goes by tensor name and stays as it is.

mod golden;
pub mod naive;
mod session;
pub mod tolerance;

pub use golden::{Golden, Truth};
pub use session::{Check, check};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::plan::{Options, Plan, Precision, Strategy};
use crate::session::{Initial, Input, Output, Session};
use crate::tensor::Tensor;
use naive::Scalar;
use std::path::Path;

/// One tensor held against its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Its name in the golden file, e.g. `out.y`.
    pub tensor: String,
    /// max |got − truth|; infinite if anything is NaN or missing.
    pub error: f64,
    /// What the error may be; see [`tolerance`].
    pub bound: f64,
}

impl Comparison {
    /// Whether the error is within the bound; never where either is not a finite number.
    pub fn passed(&self) -> bool {
        self.error.is_finite() && self.bound.is_finite() && self.error <= self.bound
    }

    /// How much of the bound the error takes; infinite for what cannot pass.
    fn strain(&self) -> f64 {
        if !self.error.is_finite() || !self.bound.is_finite() {
            f64::INFINITY
        } else if self.error == 0.0 {
            0.0
        } else {
            self.error / self.bound
        }
    }
}

/// Every comparison of one golden.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The golden's name.
    pub name: String,
    /// One per truth; never empty.
    pub comparisons: Vec<Comparison>,
}

impl Report {
    /// Whether every tensor is within its bound.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::passed)
    }

    /// The tensor that comes closest to its bound, or exceeds it most.
    pub fn worst(&self) -> Option<&Comparison> {
        self.comparisons.iter().max_by(|a, b| a.strain().total_cmp(&b.strain()))
    }
}

/// Reads the golden at `path`, runs it on `device` and compares every `out.*` tensor with the recorded truth.
///
/// `strategy`: `None` leaves the choice to the planner.
///
/// # Errors
/// [`Error::File`] and [`Error::Mismatch`] for a file that cannot be read or does not hold a golden of a kind this build
/// knows; [`Error::Unsupported`] for f64 on a GPU or a strategy that the device cannot run; errors of the device.
pub fn verify_file(
    path: impl AsRef<Path>,
    device: &Device,
    strategy: Option<Strategy>,
    precision: Precision,
) -> Result<Report> {
    verify(&Golden::open(path)?, device, strategy, precision)
}

/// The same for a golden in memory.
///
/// # Errors
/// As [`verify_file`], from the run.
pub fn verify(golden: &Golden, device: &Device, strategy: Option<Strategy>, precision: Precision) -> Result<Report> {
    let options = Options { strategy, precision, ..Default::default() };
    let (got, naive_errors) = match precision {
        Precision::F64 => (run::<f64>(golden, device, &options)?, Vec::new()),
        Precision::F32 => (run::<f32>(golden, device, &options)?, calibrate(golden)?),
    };
    let compare = |truth: &Truth| {
        let name = truth.name.as_str();
        let missing = || Error::mismatch(name, "a tensor that this build computes", "none");
        let (_, values) = got.iter().find(|(n, _)| *n == name).ok_or_else(missing)?;
        let scale = tolerance::scale(&truth.tensor.data);
        let mut bound = match precision {
            Precision::F64 => tolerance::bound_f64(scale),
            Precision::F32 => {
                let (_, error) = naive_errors.iter().find(|(n, _)| *n == name).ok_or_else(missing)?;
                tolerance::bound_f32(scale, *error)
            }
        };
        bound += tolerance::recording(scale, truth.recorded);
        Ok(Comparison { tensor: name.into(), error: tolerance::error(&values.data, &truth.tensor.data), bound })
    };
    let comparisons = golden.truths.iter().map(compare).collect::<Result<_>>()?;
    Ok(Report { name: golden.name.clone(), comparisons })
}

type Named = Vec<(&'static str, Tensor<f64>)>;

/// What the executor makes of the golden's inputs, under the golden's names.
fn run<T: Scalar>(golden: &Golden, device: &Device, options: &Options) -> Result<Named> {
    let plan = Plan::new(&golden.config, golden.shape, &device.caps(), options)?;
    let mut session = Session::<T>::from_plan(device, plan, &golden.weights.cast())?;
    session.poison()?;
    with_input(golden, |input| session.forward(input)).map(named)
}

/// max |f32 − f64| of the naive loop per tensor: what plain f32 arithmetic costs on this golden. Both sides are the naive
/// loop's own, so that a wrong truth cannot widen the bound it is held against.
fn calibrate(golden: &Golden) -> Result<Vec<(&'static str, f64)>> {
    let exact = named(golden.naive::<f64>()?);
    let rounded = named(golden.naive::<f32>()?);
    Ok(exact.iter().zip(&rounded).map(|((name, e), (_, r))| (*name, tolerance::error(&r.data, &e.data))).collect())
}

impl Golden {
    /// What the naive loop makes of it in precision `T`: y, hn and cn in the golden's shapes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] or [`Error::Unsupported`] for a golden put together by hand that does not fit together.
    pub fn naive<T: Scalar>(&self) -> Result<Output<T>> {
        let weights = self.weights.cast::<T>();
        with_input(self, |input| naive::forward(&self.config, &weights, input))
    }
}

/// The golden's input in precision `T`.
fn with_input<T: Scalar, R>(golden: &Golden, run: impl FnOnce(&Input<'_, T>) -> Result<R>) -> Result<R> {
    let cast = |tensor: &Tensor<f64>| Tensor {
        data: tensor.data.iter().map(|&v| T::from_f64(v)).collect(),
        shape: tensor.shape.clone(),
    };
    let (x, h0, c0) = (cast(&golden.x), golden.h0.as_ref().map(cast), golden.c0.as_ref().map(cast));
    let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
    run(&Input { x: x.view(), lengths: golden.lengths.as_deref(), initial })
}

fn named<T: Scalar>(output: Output<T>) -> Named {
    let widen = |t: Tensor<T>| Tensor { data: t.data.into_iter().map(|v| v.to_f64()).collect(), shape: t.shape };
    let mut list = vec![("out.y", widen(output.y)), ("out.hn", widen(output.hn))];
    list.extend(output.cn.map(|cn| ("out.cn", widen(cn))));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(error: f64, bound: f64) -> Comparison {
        Comparison { tensor: "out.y".into(), error, bound }
    }

    #[test]
    fn only_finite_errors_within_finite_bounds_pass() {
        assert!(comparison(0.0, 0.0).passed());
        assert!(comparison(1.0, 2.0).passed());
        assert!(!comparison(3.0, 2.0).passed());
        for (error, bound) in [(f64::INFINITY, f64::INFINITY), (0.0, f64::INFINITY), (0.0, f64::NAN), (f64::NAN, 1.0)] {
            assert!(!comparison(error, bound).passed(), "{error} {bound}");
        }
    }

    #[test]
    fn the_worst_tensor_is_the_one_that_cannot_pass() {
        for bad in [comparison(f64::INFINITY, 1.0), comparison(0.0, f64::INFINITY), comparison(0.0, f64::NAN)] {
            let report =
                Report { name: "n".into(), comparisons: vec![comparison(0.0, 0.0), bad, comparison(0.9, 1.0)] };
            assert!(!report.passed());
            assert!(!report.worst().expect("three comparisons").passed());
        }
        assert!(!Report { name: "n".into(), comparisons: Vec::new() }.passed(), "nothing compared is not a pass");
    }
}
