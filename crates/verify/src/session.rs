//! A session of random weights, checked where no golden holds its truth: before it is timed, say.
//!
//! Two runs of the session's weights and kernels: the whole shape against the f64 CPU executor, and as much of it as the naive
//! loops (slow by design) manage in seconds against the f64 one of them, which shares no code with any executor. The f32 one's
//! error on that part is the yardstick of both bounds. A plan that trains is checked forward and backward.

use super::naive::{self, Scalar};
use super::{Comparison, Report, naive_backward, tolerance};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use wgpu_rnn::weights::Weights;
use wgpu_rnn::{
    ActivationFormat, Device, Error, Gradients, Input, Layout, Options, Output, Plan, Precision, Result, RnnConfig,
    Session, Shape, Tensor, Upstream,
};

/// Floating-point operations that one naive loop may take: a second or so.
const NAIVE_FLOPS: u64 = 1_000_000_000;

/// The numbers of a run from a zero state, time-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers<T> {
    /// x `[T, B, I]`.
    pub x: Tensor<T>,
    /// Upstream gradients in the outputs' shapes, for plans that train.
    pub up: Option<Output<T>>,
}

impl Numbers<f32> {
    /// For `plan`, uniform in ±1; the same seed gives the same numbers.
    pub fn random(plan: &Plan, seed: u64) -> Self {
        let (config, Shape { time, batch }) = (&plan.config, plan.shape);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut tensor = |shape: [usize; 3]| Tensor {
            data: (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect(),
            shape: shape.to_vec(),
        };
        let stack = config.num_layers * config.directions();
        let x = tensor([time, batch, config.input_size]);
        let up = plan.train.then(|| Output {
            y: tensor([time, batch, config.output_size()]),
            hn: tensor([stack, batch, config.state_size()]),
            cn: config.cell.has_cell_state().then(|| tensor([stack, batch, config.cell_size()])),
            predictions: None,
        });
        Self { x, up }
    }

    /// The first `part.batch` sequences of the first `part.time` steps.
    fn part(&self, part: Shape) -> Self {
        let stacked = |t: &Tensor<f32>| cut(t, t.shape[0], part.batch);
        let up = self.up.as_ref().map(|up| Output {
            y: cut(&up.y, part.time, part.batch),
            hn: stacked(&up.hn),
            cn: up.cn.as_ref().map(stacked),
            predictions: None,
        });
        Self { x: cut(&self.x, part.time, part.batch), up }
    }

    /// The same numbers in f64.
    pub fn widen(&self) -> Numbers<f64> {
        let widen =
            |t: &Tensor<f32>| Tensor { data: t.data.iter().map(|&v| v.into()).collect(), shape: t.shape.clone() };
        let up = self.up.as_ref();
        Numbers {
            x: widen(&self.x),
            up: up.map(|up| Output {
                y: widen(&up.y),
                hn: widen(&up.hn),
                cn: up.cn.as_ref().map(widen),
                predictions: None,
            }),
        }
    }
}

impl<T> Numbers<T> {
    /// What the session reads.
    pub fn input(&self) -> Input<'_, T> {
        Input::new(self.x.view())
    }

    /// What its way back starts from.
    pub fn upstream(&self) -> Option<Upstream<'_, T>> {
        self.up.as_ref().map(|Output { y, hn, cn, .. }| Upstream {
            y: Some(y.view()),
            hn: Some(hn.view()),
            cn: cn.as_ref().map(Tensor::view),
        })
    }
}

/// `[N, B, width]` → its first rows `[n, b, width]`.
fn cut(tensor: &Tensor<f32>, n: usize, b: usize) -> Tensor<f32> {
    let (batch, width) = (tensor.shape[1], tensor.shape[2]);
    let rows = tensor.data.chunks_exact(batch * width).take(n);
    Tensor { data: rows.flat_map(|row| &row[..b * width]).copied().collect(), shape: vec![n, b, width] }
}

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

/// Runs `session`, which was made of `weights`, on `numbers`, and holds the result against both truths: outputs and, of a plan
/// that trains, every gradient.
///
/// # Errors
/// [`Error::Unsupported`] for what is more than a time-major stack (embedding, head, dropout, zoneout) or a plan that keeps no y; else as
/// [`Session::forward`], [`Session::backward`] and [`Session::for_shape`].
pub fn check(session: &mut Session<f32>, weights: &Weights<f32>, numbers: &Numbers<f32>) -> Result<Check> {
    let plan = session.plan().clone();
    let (config, shape) = (&plan.config, plan.shape);
    let bare = RnnConfig {
        vocabulary: None,
        head: None,
        dropout: Default::default(),
        zoneout: Default::default(),
        ..config.clone()
    };
    if *config != bare || config.layout != Layout::TimeMajor || !plan.keep_y {
        let reason = "the check runs time-major stacks without embedding, head, dropout and zoneout, with y".into();
        return Err(Error::Unsupported { what: "checking this session".into(), reason });
    }
    // The truth is that of the weights as they are stored.
    let exact_weights = plan.options.weights.rounded(config, &weights.cast::<f64>())?;
    let weights = &exact_weights.cast::<f32>();
    let activations = plan.options.activations;
    let part = naive_part(&plan);
    let part_numbers = numbers.part(part);

    let rounded = naive_run(config, weights, &part_numbers, activations)?;
    let truth = naive_run(config, &exact_weights, &part_numbers.widen(), activations)?;
    let naive_errors: Vec<f64> =
        rounded.iter().zip(&truth).map(|(r, t)| tolerance::error(&r.values, &t.values)).collect();
    let got = run(&mut session.for_shape(part)?, &part_numbers)?;
    let naive = compare("naive f64 loop", &got, &truth, &naive_errors, activations);

    let options = Options { precision: Precision::F64, activations, train: plan.train, ..Default::default() };
    let oracle = Device::cpu();
    let oracle_plan = Plan::new(config, shape, &oracle.caps(), &options)?;
    let truth = run(&mut Session::from_plan(&oracle, oracle_plan, &exact_weights)?, &numbers.widen())?;
    let got = run(session, numbers)?;
    // Rounding errors add up at worst: over the steps, and in a parameter's gradient over all rows. Where the naive loops saw
    // only some of them, the yardstick grows with the rest.
    let steps = shape.time as f64 / part.time as f64;
    let rows = steps * shape.batch as f64 / part.batch as f64;
    let growth = |q: &Quantity| if q.over_rows { rows } else { steps };
    let scaled: Vec<f64> = naive_errors.iter().zip(&truth).map(|(e, q)| e * growth(q)).collect();
    let whole = compare("f64 CPU executor", &got, &truth, &scaled, activations);
    Ok(Check { whole, part, naive })
}

/// As many whole sequences as the naive loops have time for, or the first steps of one.
fn naive_part(plan: &Plan) -> Shape {
    let Shape { time, batch } = plan.shape;
    let per_step = (plan.flops() / (time * batch) as u64).max(1);
    let steps = (NAIVE_FLOPS / per_step).clamp(1, (time * batch) as u64) as usize;
    Shape { time: steps.min(time), batch: (steps / time).clamp(1, batch) }
}

/// One tensor of a result.
struct Quantity {
    name: String,
    values: Vec<f64>,
    /// It is a sum over all steps of all sequences.
    over_rows: bool,
}

fn run<T: Scalar>(session: &mut Session<T>, numbers: &Numbers<T>) -> Result<Vec<Quantity>> {
    let output = session.forward(&numbers.input())?;
    let gradients = numbers.upstream().map(|up| session.backward(&up)).transpose()?;
    Ok(quantities(&session.plan().config, output, gradients))
}

fn naive_run<T: Scalar>(
    config: &RnnConfig,
    weights: &Weights<T>,
    numbers: &Numbers<T>,
    activations: ActivationFormat,
) -> Result<Vec<Quantity>> {
    let input = numbers.input();
    let output = naive::forward_stored(config, weights, &input, activations)?;
    let upstream = numbers.upstream();
    let gradients = upstream.map(|up| naive_backward::backward(config, weights, &input, &up)).transpose()?;
    Ok(quantities(config, output, gradients))
}

fn quantities<T: Scalar>(config: &RnnConfig, output: Output<T>, gradients: Option<Gradients<T>>) -> Vec<Quantity> {
    let quantity = |name: &str, values: &[T], over_rows| Quantity {
        name: name.into(),
        values: values.iter().map(|v| v.to_f64()).collect(),
        over_rows,
    };
    let mut list = vec![quantity("y", &output.y.data, false), quantity("hn", &output.hn.data, false)];
    list.extend(output.cn.map(|cn| quantity("cn", &cn.data, false)));
    if let Some(g) = gradients {
        list.extend([quantity("grad.x", &g.x.data, false), quantity("grad.h0", &g.h0.data, false)]);
        list.extend(g.c0.map(|c0| quantity("grad.c0", &c0.data, false)));
        list.extend(g.weights.named(config).map(|(p, v)| quantity(&format!("grad.{}", p.name), v, true)));
    }
    list
}

fn compare(
    against: &str,
    got: &[Quantity],
    truth: &[Quantity],
    naive_errors: &[f64],
    activations: ActivationFormat,
) -> Report {
    let tensors = got.iter().zip(truth).zip(naive_errors);
    let comparisons = tensors.map(|((got, truth), &naive)| {
        let scale = tolerance::scale(&truth.values);
        Comparison {
            tensor: got.name.clone(),
            error: tolerance::error(&got.values, &truth.values),
            bound: tolerance::bound_f32(scale, naive) + tolerance::crossing(scale, activations),
        }
    });
    Report { name: against.into(), comparisons: comparisons.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(time: usize, batch: usize, size: usize, train: bool) -> Plan {
        let config = RnnConfig { input_size: size, hidden_size: size, ..Default::default() };
        let options = Options { train, ..Default::default() };
        Plan::new(&config, Shape { time, batch }, &Device::cpu().caps(), &options).expect("it fits")
    }

    #[test]
    fn a_wrong_result_is_not_verified() {
        for train in [false, true] {
            let plan = plan(5, 2, 3, train);
            let weights = Weights::<f32>::random(&plan.config, 1).expect("valid");
            let mut session = Session::from_plan(&Device::cpu(), plan.clone(), &weights).expect("it fits");
            let numbers = Numbers::random(&plan, 2);
            let good = check(&mut session, &weights, &numbers).expect("it runs");
            assert!(good.passed());
            assert_eq!(good.whole.comparisons.len(), if train { 3 + 3 + 4 } else { 3 });
            // The session's weights are not the ones it is checked against.
            let mut other = weights.clone();
            other.layers[0].r[7] += 1e-4;
            let check = check(&mut session, &other, &numbers).expect("it runs");
            assert!(!check.whole.passed() && !check.naive.passed() && !check.passed());
        }
    }

    #[test]
    fn the_naive_loops_get_what_they_can_do() {
        assert_eq!(naive_part(&plan(7, 3, 5, false)), Shape { time: 7, batch: 3 });
        // 2 * 8 * 512 * 512 operations a step: 238 steps; the way back takes twice as many more.
        assert_eq!(naive_part(&plan(100, 9, 512, false)), Shape { time: 100, batch: 2 });
        assert_eq!(naive_part(&plan(1000, 9, 512, false)), Shape { time: 238, batch: 1 });
        assert_eq!(naive_part(&plan(100, 9, 512, true)), Shape { time: 79, batch: 1 });
        assert_eq!(naive_part(&plan(2, 2, 20_000, false)), Shape { time: 1, batch: 1 });
    }

    #[test]
    fn what_the_naive_loops_do_not_run_is_refused() {
        let head = Some(wgpu_rnn::Head { size: 2, loss: Some(wgpu_rnn::Loss::CrossEntropy) });
        let dropout = wgpu_rnn::Dropout { layers: 0.5, ..Default::default() };
        for config in [
            RnnConfig { vocabulary: Some(3), ..RnnConfig::lstm(1, 1) },
            RnnConfig { head, ..RnnConfig::lstm(1, 1) },
            RnnConfig { dropout, ..RnnConfig::lstm(1, 1) },
            RnnConfig { layout: Layout::BatchFirst, ..RnnConfig::lstm(1, 1) },
        ] {
            let weights = Weights::<f32>::random(&config, 1).expect("valid");
            let mut session =
                Session::new(&Device::cpu(), &config, Shape { time: 2, batch: 2 }, &weights).expect("it fits");
            let numbers = Numbers::random(session.plan(), 2);
            let refused = check(&mut session, &weights, &numbers).expect_err("more than a stack");
            assert!(matches!(refused, Error::Unsupported { .. }), "{config:?}: {refused}");
        }
    }

    #[test]
    fn a_part_is_the_first_steps_of_the_first_sequences() {
        let x = Tensor { data: (0..12u8).map(f32::from).collect(), shape: vec![2, 3, 2] };
        assert_eq!(cut(&x, 2, 2).data, [0.0, 1.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(cut(&x, 1, 1), Tensor { data: vec![0.0, 1.0], shape: vec![1, 1, 2] });
    }
}
