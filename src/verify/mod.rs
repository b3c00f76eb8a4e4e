//! The proof chain: golden file (another implementation's result, in f64) → both executors, within a calibrated bound.
//!
//! ```text
//! golden ──f64──> naive loop ──┐ its f32 error is the yardstick ([`tolerance`])
//!        ──f32──> naive loop ──┘
//!        ──────> Session (cpu f64 | cpu f32 | gpu f32), all working memory NaN-filled first ──> out.*, grad.* compared
//! ```
//!
//! There are two sessions: one that only infers and, where the golden has gradients, one that trains; the outputs of both
//! count.

mod golden;
pub mod naive;
pub mod naive_backward;
#[cfg(feature = "onnx")]
mod onnx_case;
#[cfg(feature = "onnx")]
mod paths;
mod session;
pub mod tolerance;
#[cfg(feature = "onnx")]
mod webnn_case;

pub use golden::{Golden, Truth};
#[cfg(feature = "onnx")]
pub use paths::{Verified, goldens, verify_path};
pub use session::{Check, check};

use crate::config::RnnConfig;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::plan::{Options, Plan, Precision, Strategy};
use crate::session::{Gradients, Initial, Input, Output, Session, Upstream};
use crate::tensor::Tensor;
use crate::weights::{Parameter, Weights};
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

/// Reads the golden at `path`, runs it on `device` and compares every `out.*` and `grad.*` tensor with the recorded truth.
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
    let (runs, naive_errors) = match precision {
        Precision::F64 => (runs::<f64>(golden, device, &options)?, Vec::new()),
        Precision::F32 => (runs::<f32>(golden, device, &options)?, calibrate(golden)?),
    };
    let compare = |truth: &Truth| {
        let missing = || Error::mismatch(&truth.name, "a tensor that this build computes", "none");
        let of = |run: &Named| run.iter().find(|(n, _)| *n == truth.name).map(|(_, got)| off_by(got, &truth.tensor));
        let error = runs.iter().filter_map(of).reduce(f64::max).ok_or_else(missing)?;
        let mut bound = match precision {
            Precision::F64 => tolerance::bound_f64(truth.scale),
            Precision::F32 => {
                let (_, naive) = naive_errors.iter().find(|(n, _)| *n == truth.name).ok_or_else(missing)?;
                tolerance::bound_f32(truth.scale, *naive)
            }
        };
        bound += tolerance::recording(truth.scale, truth.recorded);
        Ok(Comparison { tensor: truth.name.clone(), error, bound })
    };
    let comparisons = golden.truths.iter().map(compare).collect::<Result<_>>()?;
    Ok(Report { name: golden.name.clone(), comparisons })
}

/// Tensors under the golden's names.
type Named = Vec<(String, Tensor<f64>)>;

/// [`tolerance::error`]; infinite for another shape.
fn off_by(got: &Tensor<f64>, truth: &Tensor<f64>) -> f64 {
    if got.shape == truth.shape { tolerance::error(&got.data, &truth.data) } else { f64::INFINITY }
}

/// What the executor makes of the golden's inputs: by inference, and by a run that trains if there are gradients.
fn runs<T: Scalar>(golden: &Golden, device: &Device, options: &Options) -> Result<Vec<Named>> {
    let session = |train: bool| {
        let options = Options { train, ..options.clone() };
        let plan = Plan::new(&golden.config, golden.shape, &device.caps(), &options)?;
        let mut session = Session::<T>::from_plan(device, plan, &golden.weights.cast())?;
        session.poison()?;
        Ok::<_, Error>(session)
    };
    let mut inference = session(false)?;
    let mut runs = vec![named_outputs(golden, golden.with_input(|input| inference.forward(input))?)];
    if golden.upstream.is_some() {
        let mut training = session(true)?;
        let output = golden.with_input(|input| training.forward(input))?;
        let gradients = golden.with_upstream(|up| training.backward(up))?;
        let mut run = named_outputs(golden, output);
        run.extend(gradients.map(|g| named_gradients(&golden.config, g)).into_iter().flatten());
        runs.push(run);
    }
    Ok(runs)
}

/// max |f32 − f64| of the naive loop per tensor: what plain f32 arithmetic costs on this golden. Both sides are the naive
/// loop's own, so that a wrong truth cannot widen the bound it is held against.
fn calibrate(golden: &Golden) -> Result<Vec<(String, f64)>> {
    let (exact, rounded) = (naive_run::<f64>(golden)?, naive_run::<f32>(golden)?);
    Ok(exact.into_iter().zip(&rounded).map(|((name, e), (_, r))| (name, tolerance::error(&r.data, &e.data))).collect())
}

fn naive_run<T: Scalar>(golden: &Golden) -> Result<Named> {
    let mut run = named_outputs(golden, golden.naive::<T>()?);
    run.extend(golden.naive_gradients::<T>()?.map(|g| named_gradients(&golden.config, g)).into_iter().flatten());
    Ok(run)
}

impl Golden {
    /// What the naive loop makes of it in precision `T`: y, hn and cn in the golden's shapes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] or [`Error::Unsupported`] for a golden put together by hand that does not fit together.
    pub fn naive<T: Scalar>(&self) -> Result<Output<T>> {
        let weights = self.weights.cast::<T>();
        self.with_input(|input| naive::forward(&self.config, &weights, input))
    }

    /// The gradients that the naive loop gives in precision `T`; `None` for a golden without upstream gradients.
    ///
    /// # Errors
    /// As [`Golden::naive`].
    pub fn naive_gradients<T: Scalar>(&self) -> Result<Option<Gradients<T>>> {
        let weights: Weights<T> = self.weights.cast();
        self.with_upstream(|up| self.with_input(|input| naive_backward::backward(&self.config, &weights, input, up)))
    }

    /// Runs `run` on the input in precision `T`.
    fn with_input<T: Scalar, R>(&self, run: impl FnOnce(&Input<'_, T>) -> Result<R>) -> Result<R> {
        let (x, h0, c0) = (cast(&self.x), self.h0.as_ref().map(cast), self.c0.as_ref().map(cast));
        let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
        run(&Input { lengths: self.lengths.as_deref(), initial, ..Input::new(x.view()) })
    }

    /// Runs `run` on the upstream gradients in precision `T`, if there are any.
    fn with_upstream<T: Scalar, R>(&self, run: impl FnOnce(&Upstream<'_, T>) -> Result<R>) -> Result<Option<R>> {
        let Some(up) = &self.upstream else { return Ok(None) };
        let (y, hn, cn) = (cast(&up.y), cast(&up.hn), up.cn.as_ref().map(cast));
        run(&Upstream { y: Some(y.view()), hn: Some(hn.view()), cn: cn.as_ref().map(Tensor::view) }).map(Some)
    }
}

fn cast<T: Scalar>(tensor: &Tensor<f64>) -> Tensor<T> {
    Tensor { data: tensor.data.iter().map(|&v| T::from_f64(v)).collect(), shape: tensor.shape.clone() }
}

fn widen<T: Scalar>(tensor: Tensor<T>) -> Tensor<f64> {
    Tensor { data: tensor.data.into_iter().map(T::to_f64).collect(), shape: tensor.shape }
}

/// `out.*`, and the loss where there are upstream gradients.
fn named_outputs<T: Scalar>(golden: &Golden, output: Output<T>) -> Named {
    let mut list = vec![("out.y".to_string(), widen(output.y)), ("out.hn".into(), widen(output.hn))];
    list.extend(output.cn.map(|cn| ("out.cn".into(), widen(cn))));
    if let Some(up) = &golden.upstream {
        let pairs = [Some(&up.y), Some(&up.hn), up.cn.as_ref()].into_iter().flatten().zip(&list);
        let loss = pairs.map(|(up, (_, out))| tolerance::product(&up.data, &out.data, |v| v)).sum();
        list.push(("out.loss".into(), Tensor { data: vec![loss], shape: vec![1] }));
    }
    list
}

/// `grad.*`
fn named_gradients<T: Scalar>(config: &RnnConfig, gradients: Gradients<T>) -> Named {
    let parameter = |(p, values): (Parameter, &[T])| {
        (format!("grad.{}", p.name), Tensor { data: values.iter().map(|v| v.to_f64()).collect(), shape: p.shape })
    };
    let mut list: Named = gradients.weights.named(config).map(parameter).collect();
    list.extend([("grad.x".into(), widen(gradients.x)), ("grad.h0".into(), widen(gradients.h0))]);
    list.extend(gradients.c0.map(|c0| ("grad.c0".into(), widen(c0))));
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
