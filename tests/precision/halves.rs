//! Activations in f16: every cell with every strategy against the f64 executor that rounds at the same places, which itself must
//! be what the naive f64 loop with the same rounding places gives.
//!
//! An f32 run and the truth may round a value to neighbours where it lies next to a boundary ([`tolerance::crossing`]), so a
//! largest error alone would let much pass. What is held besides: nearly all values of y are the truth's bits, which no run is that
//! rounds at other places.

use super::executors::{outputs, run};
use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, tolerance};

const F16: ActivationFormat = ActivationFormat::F16;

/// How much of y must be the truth's bits.
const SAME: f64 = 0.9;

pub fn halves(strategy: Strategy) -> Options {
    Options { activations: F16, ..forced(strategy) }
}

/// The share of values that are the truth's.
fn share(got: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(got.len(), truth.len());
    got.iter().zip(truth).filter(|(g, t)| g == t).count() as f64 / got.len() as f64
}

/// What a case came to: the largest share of a bound that an executor takes, and the smallest share of y that is the truth's bits.
#[derive(Clone, Copy)]
pub struct Measured {
    pub of_bound: f64,
    pub same: f64,
}

impl Measured {
    const BEST: Self = Self { of_bound: 0.0, same: 1.0 };

    fn and(self, other: Self) -> Self {
        Self { of_bound: self.of_bound.max(other.of_bound), same: self.same.min(other.same) }
    }
}

/// Runs a case on every executor with every strategy, with weights in a format, and holds it to its truth.
pub fn check(what: &str, case: &Case, format: WeightFormat) -> Measured {
    check_on(executors_for(case.config.cell, case.config.proj_size), what, case, format)
}

/// The same on these executors.
pub fn check_on(on: Vec<(Device, Strategy)>, what: &str, case: &Case, format: WeightFormat) -> Measured {
    let cpu = Device::cpu();
    let weights = format.rounded(&case.config, &case.weights.cast::<f64>()).unwrap();
    let options = Options { activations: F16, ..Default::default() };
    let truth = outputs(&run(case, &cpu, &options, &weights));
    let exact = case.with_input_as(|input| naive::forward_stored(&case.config, &weights, input, F16).unwrap());
    for (n, (truth, exact)) in truth.iter().zip(&outputs(&exact)).enumerate() {
        let (error, bound) = (tolerance::error(truth, exact), tolerance::bound_f64(tolerance::scale(exact)));
        assert!(error <= bound, "{what}: output {n} of the f64 executor {error:.1e}, bound {bound:.1e}");
    }
    let narrow = weights.cast::<f32>();
    let plain = case.with_input(|input| naive::forward_stored(&case.config, &narrow, input, F16).unwrap());
    let plain = outputs(&plain);
    let mut measured = Measured::BEST;
    for (device, strategy) in on {
        let options = Options { weights: format, ..halves(strategy) };
        let got = outputs(&run(case, &device, &options, &case.weights));
        let what = format!("{what}, weights in {format}, {}, {strategy}", device.kind());
        assert!(got[0].iter().all(|&v| F16.rounded(v) == v), "{what}: y is not f16");
        for (n, name) in ["y", "hn", "cn"].iter().enumerate() {
            let scale = tolerance::scale(&truth[n]);
            let bound = tolerance::bound_f32(scale, tolerance::error(&plain[n], &truth[n]));
            let bound = bound + tolerance::crossing(scale, F16);
            let error = tolerance::error(&got[n], &truth[n]);
            assert!(error <= bound, "{what}: {name} {error:.1e}, bound {bound:.1e}");
            measured.of_bound = measured.of_bound.max(if error > 0.0 { error / bound } else { 0.0 });
        }
        let same = share(&got[0], &truth[0]);
        assert!(same >= SAME, "{what}: only {same:.3} of y are the truth's bits");
        measured.same = measured.same.min(same);
    }
    measured
}

#[test]
fn every_cell() {
    let mut all = Measured::BEST;
    for (cell, proj_size) in cells_and_projections(5) {
        // Rows of x, and of the hidden layer's y, that are read one by one, and four by four.
        for (input_size, hidden_size, proj_size) in [(5, 9, proj_size), (4, 10, proj_size.min(1) * 6)] {
            let sizes = RnnConfig { cell, input_size, hidden_size, num_layers: 2, proj_size, ..Default::default() };
            let config = RnnConfig { direction: Direction::Bidirectional, ..sizes };
            let case = Case::new(config, 5, 4, 21).with_lengths(&[2, 5, 1, 4]);
            all = all.and(check(&format!("{} H={hidden_size} P={proj_size}", cell.name), &case, WeightFormat::F32));
        }
    }
    println!("at most {:.2} of the bound, at least {:.4} of y the truth's bits", all.of_bound, all.same);
}

#[test]
fn odd_sizes() {
    let sizes = ODD_SIZES.into_iter().zip([3, 1, 5, 17, 4, 63, 2]);
    for ((n, (hidden_size, input_size)), cell) in sizes.enumerate().zip([&cells::LSTM, &cells::GRU].into_iter().cycle())
    {
        let config = RnnConfig { cell, input_size, hidden_size, ..Default::default() };
        let case = Case::new(config, 3, 3, 31);
        check_on(
            executors_in_turn(n),
            &format!("{} H={hidden_size} I={input_size}", cell.name),
            &case,
            WeightFormat::F32,
        );
    }
}

#[test]
fn with_weights_in_fewer_bits() {
    let config = RnnConfig { cell: &cells::GRU, input_size: 5, hidden_size: 9, num_layers: 2, ..Default::default() };
    let case = Case::new(config, 5, 4, 41);
    for (n, format) in WeightFormat::ALL.into_iter().enumerate() {
        check_on(executors_in_turn(n), "gru", &case, format);
    }
}

/// Without W, with x in the other layout, with heads, in reverse, and blocks of steps.
#[test]
fn other_ways_to_read_x() {
    let sizes = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 6, ..Default::default() };
    for config in [
        RnnConfig { input: InputMode::Skip, num_layers: 2, ..sizes.clone() },
        RnnConfig { layout: Layout::BatchFirst, direction: Direction::Reverse, ..sizes.clone() },
        RnnConfig { recurrence: Recurrence::Heads(2), bias: Bias::One, ..sizes.clone() },
        RnnConfig { bias: Bias::None, ..sizes },
    ] {
        let case = Case::new(config, 5, 3, 51).with_lengths(&[5, 3, 4]);
        check_on(executors_in_turn(0), &format!("{:?}", case.config), &case, WeightFormat::F32);
    }
}

/// The test sees a rounding that is missing: y of a run in f32, rounded afterwards, is not the truth.
#[test]
fn roundings_inside_are_seen() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 5, hidden_size: 9, ..Default::default() };
    let case = Case::new(config, 6, 8, 61);
    let options = Options { activations: F16, ..Default::default() };
    let truth = outputs(&run(&case, &Device::cpu(), &options, &case.weights.cast::<f64>()));
    let rounded_x = Case { x: case.x.iter().map(|&x| F16.rounded(x)).collect(), ..case.clone() };
    for (what, case) in [("nothing inside", &case), ("x alone", &rounded_x)] {
        let exact = outputs(&run(case, &Device::cpu(), &Options::default(), &case.weights.cast::<f64>()));
        let y: Vec<f64> = exact[0].iter().map(|&v| F16.rounded(v)).collect();
        let same = share(&y, &truth[0]);
        println!("{what} rounded: {same:.3} of y the truth's bits");
        assert!(same < SAME - 0.1, "{what}: {same}");
    }
}

/// An embedding in front, a head behind: the embedded x and the head's input are rounded, its outputs are not.
#[test]
fn embedding_and_head() {
    let head = Some(Head { size: 5, loss: Some(Loss::CrossEntropy) });
    let sizes = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 6, ..Default::default() };
    let config = RnnConfig { direction: Direction::Bidirectional, vocabulary: Some(7), head, ..sizes };
    let weights = Weights::<f32>::random(&config, 61).unwrap();
    let shape = Shape { time: 4, batch: 3 };
    let ids = [3, 1, 0, 3, 3, 5, 1, 0, 6, 3, 5, 5];
    for keep_y in [true, false] {
        let options = Options { activations: F16, keep_y, precision: Precision::F64, ..Default::default() };
        let truth = predictions(&config, shape, &ids, &Device::cpu(), &options, &weights.cast::<f64>());
        let exact = Options { activations: ActivationFormat::F32, ..options };
        let exact = predictions(&config, shape, &ids, &Device::cpu(), &exact, &weights.cast::<f64>());
        assert!(tolerance::error(&truth, &exact) > 1e-6);
        for (device, strategy) in executors() {
            let options = Options { keep_y, ..halves(strategy) };
            let got = predictions(&config, shape, &ids, &device, &options, &weights);
            let error = tolerance::error(&got, &truth);
            assert!(error < 1e-6, "{} with {strategy}: {error}", device.kind());
        }
    }
}

fn predictions<T: Element>(
    config: &RnnConfig,
    shape: Shape,
    ids: &[u32],
    device: &Device,
    options: &Options,
    weights: &Weights<T>,
) -> Vec<f64> {
    let plan = Plan::new(config, shape, &device.caps(), options).unwrap();
    let mut session = Session::from_plan(device, plan, weights).unwrap();
    session.poison().unwrap();
    session.forward(&Input::of_ids(View::new(ids, &[shape.time, shape.batch]))).unwrap();
    session.predictions().unwrap().data.iter().map(|v| v.to_f64()).collect()
}

/// Both executors, dispatch by dispatch: no slot is further off than a neighbour in f16.
#[test]
fn traces_agree() {
    let config = RnnConfig { cell: &cells::GRU_LAYER_NORM, input_size: 3, hidden_size: 5, ..Default::default() };
    let case = Case::new(config, 3, 3, 71).with_lengths(&[3, 1, 2]);
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let [a, b] = [Device::cpu(), gpu()].map(|device| {
            // The same blocks on both, of an odd count of values.
            let options = Options { max_block: Some(1), ..halves(strategy) };
            let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
            let mut session = Session::from_plan(&device, plan, &case.weights).unwrap();
            session.poison().unwrap();
            case.with_input(|input| session.trace(input).unwrap())
        });
        assert_eq!(first_difference(&a, &b, 2.0 / 1024.0), None, "{strategy}");
        assert!(a.iter().any(|s| s.slot == "pre" && s.values.len() % 2 == 1), "odd counts are read back too");
    }
}

/// What real networks lose; the numbers are printed for the README.
#[test]
fn real_networks() {
    println!("network            weights   activations, bytes saved   y, max error");
    for (name, case) in &super::models::networks() {
        let exact = super::models::run_f64(case, &case.weights.cast());
        for format in [WeightFormat::F32, WeightFormat::F16] {
            let measured = check(name, case, format);
            let weights = format.rounded(&case.config, &case.weights.cast::<f64>()).unwrap();
            let options = Options { activations: F16, ..Default::default() };
            let y = &outputs(&run(case, &Device::cpu(), &options, &weights))[0];
            let (error, scale) = (tolerance::error(y, &exact), tolerance::scale(&exact));
            let plan = Plan::new(&case.config, case.shape, &gpu().caps(), &options).unwrap();
            let (bytes, full) = plan.activation_bytes();
            println!(
                "{name:18} {:5} {:>12} of {full:<8}   {error:.1e} of {scale:.2}; executors {:.2} of their bound, {:.3} of y the truth's bits",
                format.name(),
                full - bytes,
                measured.of_bound,
                measured.same
            );
            assert!(error.is_finite(), "{name} {format}");
        }
    }
}
