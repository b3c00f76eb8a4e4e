//! The proof chain: golden file (another implementation's result, in f64) → both executors, within a calibrated bound.
//!
//! ```text
//! golden ──f64──> naive loop ──┐ its f32 error is the yardstick ([`tolerance`])
//!        ──f32──> naive loop ──┘
//!        ──────> Session (cpu f64 | cpu f32 | gpu f32), all working memory NaN-filled first ──> out.*, grad.* compared
//! ```
//!
//! A golden is of one of several kinds ([`Case`]); each says how it is read, how the executors run it, and how the naive loops.
//! Of a stack there are two sessions, one that only infers and, where the golden has gradients, one that trains; the outputs
//! of both count. Linear recurrences, alone and in blocks, go both ways over time; a strategy says nothing about them.

mod bare;
mod blocks;
mod golden;
mod layers;
mod linear;
mod linear_names;
pub mod naive;
mod naive_attention;
pub mod naive_backward;
pub mod naive_blocks;
mod naive_ends;
pub mod naive_linear;
mod naive_normal;
mod naive_rules;
mod naive_slstm;
mod onnx_case;
mod paths;
mod recurrence;
mod seq2seq;
mod session;
pub mod tape;
pub mod tolerance;
mod training;
mod webnn_case;

pub use bare::{Bare, Checked};
pub use blocks::Blocks;
pub use golden::{Case, Golden, Truth};
pub use layers::Layers;
pub use linear::Linear;
pub use paths::{Verified, goldens, verify_path};
pub use recurrence::RecurrentNode;
pub use seq2seq::{Part, Seq2Seq};
pub use session::{Check, Numbers, check};
pub use training::Training;

use naive::Scalar;
use std::path::Path;
use tape::Number;
use wgpu_rnn::weights::{Parameter, Weights};
use wgpu_rnn::{Device, Element, Error, Options, Precision, Result, RnnConfig, Strategy, Tensor};

/// One tensor held against its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Its name in the golden file, e.g. `out.y`.
    pub tensor: String,
    /// How far off it is, by the truth's [`tolerance::Measure`]; infinite if anything is NaN or missing.
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
/// `strategy`: `None` leaves the choice to the planner; that of networks always is.
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
    let (runs, naive) = match precision {
        Precision::F64 => (golden.case.runs::<f64>(device, &options)?, None),
        Precision::F32 => {
            let runs = golden.case.runs::<f32>(device, &options)?;
            (runs, Some((golden.case.naive::<f32>()?, golden.case.naive::<f64>()?)))
        }
    };
    let compare = |truth: &Truth| {
        let missing = || Error::mismatch(&truth.name, "a tensor that this build computes", "none");
        let of = |run: &Named, exact: &Tensor<f64>| {
            let (_, got) = run.iter().find(|(name, _)| *name == truth.name)?;
            Some(off_by(truth.measure, got, exact))
        };
        let error = runs.iter().filter_map(|run| of(run, &truth.tensor)).reduce(f64::max).ok_or_else(missing)?;
        let mut bound = match &naive {
            None => tolerance::bound_f64(truth.scale),
            // max |f32 − f64| of the naive loops: what plain f32 arithmetic costs on this golden. Both sides are the naive
            // loops' own, so that a wrong truth cannot widen the bound it is held against.
            Some((rounded, exact)) => {
                let (_, exact) = exact.iter().find(|(name, _)| *name == truth.name).ok_or_else(missing)?;
                tolerance::bound_f32(truth.scale, of(rounded, exact).ok_or_else(missing)?)
            }
        };
        bound += tolerance::recording(truth.scale, truth.recorded);
        Ok(Comparison { tensor: truth.name.clone(), error, bound })
    };
    let comparisons = golden.truths.iter().map(compare).collect::<Result<_>>()?;
    Ok(Report { name: golden.name.clone(), comparisons })
}

impl Case {
    /// What the executor makes of it: one or several runs, which together have every truth's name.
    fn runs<T: Scalar + Element>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        match self {
            Self::Recurrence(node) => node.runs::<T>(device, options),
            Self::Layers(layers) => layers.runs::<T>(device, options),
            Self::Seq2Seq(seq2seq) => seq2seq.runs::<T>(device, options),
            Self::Training(training) => training.runs::<T>(device, options),
            Self::Linear(linear) => linear.runs::<T>(device, options),
            Self::Blocks(blocks) => blocks.runs::<T>(device, options),
        }
    }

    /// What the naive loops make of it.
    fn naive<T: Scalar + Number>(&self) -> Result<Named> {
        match self {
            Self::Recurrence(node) => node.naive_run::<T>(),
            Self::Layers(layers) => layers.naive_run::<T>(),
            Self::Seq2Seq(seq2seq) => seq2seq.naive_run::<T>(),
            Self::Training(training) => training.naive_run::<T>(),
            Self::Linear(linear) => linear.naive_run::<T>(),
            Self::Blocks(blocks) => blocks.naive_run::<T>(),
        }
    }
}

/// Tensors under the golden's names.
type Named = Vec<(String, Tensor<f64>)>;

/// The error by `measure`; infinite for another shape.
fn off_by(measure: tolerance::Measure, got: &Tensor<f64>, truth: &Tensor<f64>) -> f64 {
    if got.shape == truth.shape { measure.error(&got.data, &truth.data) } else { f64::INFINITY }
}

fn cast<T: Scalar>(tensor: &Tensor<f64>) -> Tensor<T> {
    Tensor { data: tensor.data.iter().map(|&v| T::from_f64(v)).collect(), shape: tensor.shape.clone() }
}

fn widen<T: Scalar>(tensor: Tensor<T>) -> Tensor<f64> {
    Tensor { data: tensor.data.into_iter().map(T::to_f64).collect(), shape: tensor.shape }
}

/// Parameters, or their gradients, under the names that `name` gives them.
fn named_parameters<T: Scalar>(config: &RnnConfig, weights: &Weights<T>, name: impl Fn(&Parameter) -> String) -> Named {
    let tensor = |(p, values): (Parameter, &[T])| {
        (name(&p), Tensor { data: values.iter().map(|v| v.to_f64()).collect(), shape: p.shape })
    };
    weights.named(config).map(tensor).collect()
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
