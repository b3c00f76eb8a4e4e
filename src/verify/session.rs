//! A session of random weights, checked where no golden holds its truth: before it is timed, say.
//!
//! Two runs of the session's weights and kernels: the whole shape against the f64 CPU executor, and as much of it as the naive
//! loops (slow by design) manage in seconds against the f64 one of them, which shares no code with any executor. The f32 one's
//! error on that part is the yardstick of both bounds.

use super::naive::{self, Scalar};
use super::{Comparison, Report, tolerance};
use crate::config::Shape;
use crate::device::Device;
use crate::error::Result;
use crate::plan::Plan;
use crate::session::{Input, Output, Session};
use crate::tensor::View;
use crate::weights::Weights;

/// Floating-point operations that one naive loop may take: a second or so.
const NAIVE_FLOPS: u64 = 1_000_000_000;

/// What was held against what.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The whole run against the f64 CPU executor.
    pub whole: Report,
    /// The part that the naive loops ran.
    pub part: Shape,
    /// The part's run against the naive f64 loop.
    pub naive: Report,
}

impl Check {
    /// Whether every tensor of both is within its bound.
    pub fn passed(&self) -> bool {
        self.whole.passed() && self.naive.passed()
    }
}

/// Runs `session`, which was made of `weights`, over a time-major x `[T, B, I]` from a zero state, and holds the result against
/// both truths.
///
/// # Errors
/// As [`Session::forward`] and [`Session::for_shape`].
pub fn check(session: &mut Session<f32>, weights: &Weights<f32>, x: &[f32]) -> Result<Check> {
    let plan = session.plan().clone();
    let (config, shape) = (&plan.config, plan.shape);
    let exact_weights = weights.cast::<f64>();
    let part = naive_part(&plan);
    let part_x = cut(x, shape, part, config.input_size);

    let rounded = naive_output(&plan, part, weights, &part_x)?;
    let truth = naive_output(&plan, part, &exact_weights, &widen(&part_x))?;
    let naive_errors: Vec<f64> =
        named(&rounded).iter().zip(named(&truth)).map(|((_, r), (_, t))| tolerance::error(r, &t)).collect();
    let got = session.for_shape(part)?.forward(&Input::new(View::new(&part_x, &x_shape(&plan, part))))?;
    let naive = compare("naive f64 loop", &got, &truth, &naive_errors);

    let mut oracle = Session::<f64>::new(&Device::cpu(), config, shape, &exact_weights)?;
    let truth = oracle.forward(&Input::new(View::new(&widen(x), &x_shape(&plan, shape))))?;
    let got = session.forward(&Input::new(View::new(x, &x_shape(&plan, shape))))?;
    // Rounding errors of steps add up at worst: where the naive loops saw only some steps, the yardstick grows with the rest.
    let growth = shape.time as f64 / part.time as f64;
    let scaled: Vec<f64> = naive_errors.iter().map(|e| e * growth).collect();
    let whole = compare("f64 CPU executor", &got, &truth, &scaled);
    Ok(Check { whole, part, naive })
}

/// As many whole sequences as the naive loops have time for, or the first steps of one.
fn naive_part(plan: &Plan) -> Shape {
    let Shape { time, batch } = plan.shape;
    let per_step = (plan.flops() / (time * batch) as u64).max(1);
    let steps = (NAIVE_FLOPS / per_step).clamp(1, (time * batch) as u64) as usize;
    Shape { time: steps.min(time), batch: (steps / time).clamp(1, batch) }
}

/// The first `part.batch` sequences of the first `part.time` steps of a time-major x.
fn cut(x: &[f32], shape: Shape, part: Shape, features: usize) -> Vec<f32> {
    let step = shape.batch * features;
    x.chunks_exact(step).take(part.time).flat_map(|row| &row[..part.batch * features]).copied().collect()
}

fn naive_output<T: Scalar>(plan: &Plan, part: Shape, weights: &Weights<T>, x: &[T]) -> Result<Output<T>> {
    naive::forward(&plan.config, weights, &Input::new(View::new(x, &x_shape(plan, part))))
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

fn named<T: Scalar>(output: &Output<T>) -> Vec<(&'static str, Vec<f64>)> {
    let cn = output.cn.as_ref().map(|cn| ("cn", cn));
    let tensors = [("y", &output.y), ("hn", &output.hn)].into_iter().chain(cn);
    tensors.map(|(name, t)| (name, t.data.iter().map(|v| v.to_f64()).collect())).collect()
}

fn compare(against: &str, got: &Output<f32>, truth: &Output<f64>, naive_errors: &[f64]) -> Report {
    let tensors = named(got).into_iter().zip(named(truth)).zip(naive_errors);
    let comparisons = tensors.map(|(((name, got), (_, truth)), &naive)| Comparison {
        tensor: name.into(),
        error: tolerance::error(&got, &truth),
        bound: tolerance::bound_f32(tolerance::scale(&truth), naive),
    });
    Report { name: against.into(), comparisons: comparisons.collect() }
}

fn x_shape(plan: &Plan, shape: Shape) -> [usize; 3] {
    [shape.time, shape.batch, plan.config.input_size]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, RnnConfig};

    fn plan(time: usize, batch: usize, size: usize) -> Plan {
        let config = RnnConfig { input_size: size, hidden_size: size, ..Default::default() };
        Plan::new(&config, Shape { time, batch }, &Device::cpu().caps(), &Options::default()).expect("it fits")
    }

    #[test]
    fn a_wrong_result_is_not_verified() {
        let plan = plan(5, 2, 3);
        let weights = Weights::<f32>::random(&plan.config, 1).expect("valid");
        let mut session = Session::from_plan(&Device::cpu(), plan.clone(), &weights).expect("it fits");
        let x: Vec<f32> = (0..5 * 2 * 3).map(|i: u16| f32::from(i % 7) / 3.0 - 1.0).collect();
        assert!(check(&mut session, &weights, &x).expect("it runs").passed());
        // The session's weights are not the ones it is checked against.
        let mut other = weights.clone();
        other.layers[0].r[7] += 1e-4;
        let check = check(&mut session, &other, &x).expect("it runs");
        assert!(!check.whole.passed() && !check.naive.passed() && !check.passed());
    }

    #[test]
    fn the_naive_loops_get_what_they_can_do() {
        assert_eq!(naive_part(&plan(7, 3, 5)), Shape { time: 7, batch: 3 });
        // 2 * 8 * 512 * 512 operations a step: 238 steps.
        assert_eq!(naive_part(&plan(100, 9, 512)), Shape { time: 100, batch: 2 });
        assert_eq!(naive_part(&plan(1000, 9, 512)), Shape { time: 238, batch: 1 });
        assert_eq!(naive_part(&plan(2, 2, 20_000)), Shape { time: 1, batch: 1 });
    }

    #[test]
    fn a_part_is_the_first_steps_of_the_first_sequences() {
        let x: Vec<f32> = (0..12u8).map(f32::from).collect(); // [T, B, I] = [2, 3, 2]
        let cut = cut(&x, Shape { time: 2, batch: 3 }, Shape { time: 2, batch: 2 }, 2);
        assert_eq!(cut, [0.0, 1.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0]);
    }
}
