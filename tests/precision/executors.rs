//! Every cell in every format on both executors, with both strategies, against f64 with the same rounded weights.

use super::ROUNDED;
use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, tolerance};

/// y, hn and cn.
pub fn outputs<T: Element>(out: &Output<T>) -> [Vec<f64>; 3] {
    let wide = |values: &[T]| values.iter().map(|v| v.to_f64()).collect();
    [wide(&out.y.data), wide(&out.hn.data), out.cn.as_ref().map_or(Vec::new(), |c| wide(&c.data))]
}

/// A run of the case's inputs over NaN-filled memory.
pub fn run<T: Element>(case: &Case, device: &Device, options: &Options, weights: &Weights<T>) -> Output<T> {
    let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
    let options = Options { precision, ..options.clone() };
    let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
    let mut session = Session::from_plan(device, plan, weights).unwrap();
    session.poison().unwrap();
    case.with_input_as(|input| session.forward(input).unwrap())
}

/// The largest share of the calibrated bound that any executor with any strategy takes.
pub fn check(what: &str, case: &Case, format: WeightFormat) -> f64 {
    check_on(executors_for(case.config.cell, case.config.proj_size), what, case, format)
}

/// The same on these executors.
pub fn check_on(on: Vec<(Device, Strategy)>, what: &str, case: &Case, format: WeightFormat) -> f64 {
    let cpu = Device::cpu();
    let rounded = format.rounded(&case.config, &case.weights.cast::<f64>()).unwrap();
    let exact = run(case, &cpu, &Options::default(), &rounded);
    // The f64 executor rounds as the function does.
    let same = run(case, &cpu, &Options { weights: format, ..Default::default() }, &case.weights.cast::<f64>());
    assert_eq!(exact, same, "{what}: the f64 executor in {format}");
    let narrow = rounded.cast::<f32>();
    let plain = match case.with_input(|input| naive::forward(&case.config, &narrow, input)) {
        Ok(plain) => plain,
        Err(Error::Unsupported { .. }) => run(case, &cpu, &forced(Strategy::Step), &narrow),
        Err(e) => panic!("{what}: {e}"),
    };
    let (truth, plain) = (outputs(&exact), outputs(&plain));
    let mut worst: f64 = 0.0;
    for (device, strategy) in on {
        let options = Options { weights: format, ..forced(strategy) };
        let got = outputs(&run(case, &device, &options, &case.weights));
        for (n, name) in ["y", "hn", "cn"].iter().enumerate() {
            let scale = tolerance::scale(&truth[n]);
            let bound = tolerance::bound_f32(scale, tolerance::error(&plain[n], &truth[n]));
            let error = tolerance::error(&got[n], &truth[n]);
            assert!(
                error <= bound,
                "{what} {format} {}, {strategy}: {name} {error:.1e}, bound {bound:.1e}",
                device.kind()
            );
            worst = worst.max(if error > 0.0 { error / bound } else { 0.0 });
        }
    }
    worst
}

#[test]
fn every_cell_computes_with_its_rounded_weights() {
    let mut worst: f64 = 0.0;
    for (cell, proj_size) in cells_and_projections(5) {
        let sizes = RnnConfig { cell, input_size: 5, hidden_size: 9, num_layers: 2, proj_size, ..Default::default() };
        let config = RnnConfig { direction: Direction::Bidirectional, ..sizes };
        let case = Case::new(config, 5, 4, 21).with_lengths(&[2, 5, 1, 4]);
        for format in ROUNDED {
            worst = worst.max(check(&format!("{} P={proj_size}", cell.name), &case, format));
        }
    }
    println!("at most {worst:.2} of the bound");
}

#[test]
fn odd_sizes() {
    let sizes = ODD_SIZES.into_iter().zip([3, 1, 5, 17, 4, 63, 2]);
    for ((n, (hidden_size, input_size)), cell) in sizes.enumerate().zip([&cells::LSTM, &cells::GRU].into_iter().cycle())
    {
        let config = RnnConfig { cell, input_size, hidden_size, ..Default::default() };
        let case = Case::new(config, 2, 3, 31);
        // What is packed two to a word depends on sizes as what is packed four to one does.
        for format in [[WeightFormat::F16, WeightFormat::Bf16][n % 2], WeightFormat::Int8] {
            check_on(executors_in_turn(n), &format!("{} H={hidden_size} I={input_size}", cell.name), &case, format);
        }
    }
}

/// The rounding is seen: f32 would not pass for it.
#[test]
fn other_weights_give_other_outputs() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 5, hidden_size: 9, ..Default::default() };
    let case = Case::new(config, 5, 4, 41);
    for (device, strategy) in executors() {
        let exact = run(&case, &device, &forced(strategy), &case.weights);
        let mut last = 0.0;
        for format in ROUNDED {
            let got = run(&case, &device, &Options { weights: format, ..forced(strategy) }, &case.weights);
            let error = difference(&got.y.data, &exact.y.data);
            assert!(error > 1e-5 && error < 0.05 && error != last, "{format}: {error}");
            last = error;
        }
    }
}

/// A row of zeros and one with a huge value, in every matrix.
#[test]
fn rows_of_zeros_and_of_one_huge_value() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 7, hidden_size: 5, proj_size: 3, ..Default::default() };
    let mut case = Case::new(config, 4, 2, 51);
    let layer = &mut case.weights.layers[0];
    layer.w[7..14].fill(0.0);
    layer.r[3..6].fill(0.0);
    layer.projection[..5].fill(0.0);
    (layer.w[21 + 4], layer.r[12 + 1], layer.projection[7]) = (3e4, -3e4, 3e4);
    for (n, format) in ROUNDED.into_iter().enumerate() {
        check_on(executors_in_turn(n), "extreme rows", &case, format);
    }
}

/// An embedding in front, a head behind: the head's matrix is rounded, the table is not.
#[test]
fn embedding_and_head() {
    let head = Some(Head { size: 5, loss: Some(Loss::CrossEntropy) });
    let sizes = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 6, ..Default::default() };
    let config = RnnConfig { direction: Direction::Bidirectional, vocabulary: Some(7), head, ..sizes };
    let weights = Weights::<f32>::random(&config, 61).unwrap();
    let shape = Shape { time: 4, batch: 3 };
    let ids = [3, 1, 0, 3, 3, 5, 1, 0, 6, 3, 5, 5];
    let predict = |device: &Device, options: &Options, weights: &Weights<f32>| -> Vec<f32> {
        let plan = Plan::new(&config, shape, &device.caps(), options).unwrap();
        let mut session = Session::from_plan(device, plan, weights).unwrap();
        session.poison().unwrap();
        session.forward(&Input::of_ids(View::new(&ids, &[4, 3]))).unwrap();
        session.predictions().unwrap().data
    };
    for format in ROUNDED {
        let rounded = format.rounded(&config, &weights).unwrap();
        assert_eq!(rounded.embedding, weights.embedding);
        assert_ne!(rounded.head, weights.head);
        let expected = predict(&Device::cpu(), &Options::default(), &rounded);
        for (device, strategy) in executors() {
            let got = predict(&device, &Options { weights: format, ..forced(strategy) }, &weights);
            let error = difference(&got, &expected);
            assert!(error < 1e-6, "{format} on {} with {strategy}: {error}", device.kind());
        }
    }
}

/// What a plan says of its bytes, and what lies where.
#[test]
fn plans_count_the_bytes() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 64, hidden_size: 64, num_layers: 2, ..Default::default() };
    let shape = Shape { time: 2, batch: 1 };
    let plan = |device: &Device, weights| {
        Plan::new(&config, shape, &device.caps(), &Options { weights, ..Default::default() }).unwrap()
    };
    let matrices: u64 = 4 * 64 * 128 * 2;
    // Per layer, in whole fours: the bias (and scale) of every gate and unit, and in int8 R's scales of every unit.
    let exact = |scales: u64| 2 * 64 * 16 * (4 + scales);
    for (format, bytes) in [
        (WeightFormat::F32, 4 * matrices + exact(0)),
        (WeightFormat::F16, 2 * matrices + exact(0)),
        (WeightFormat::Bf16, 2 * matrices + exact(0)),
        (WeightFormat::Int8, matrices + exact(1)),
    ] {
        let plan = plan(&gpu(), format);
        assert_eq!(plan.weight_bytes(), (bytes, 4 * matrices + exact(0)), "{format}");
        let text = plan.to_string();
        let line = text.lines().find(|l| l.starts_with("weights: "));
        assert_eq!(
            line.is_some_and(|l| l.contains(format.name()) && l.contains(&format!("{bytes} B"))),
            format != WeightFormat::F32
        );
    }
    let plan = plan(&Device::cpu(), WeightFormat::Int8);
    assert_eq!(plan.weight_storage(), WeightFormat::F32);
    assert!(plan.to_string().contains("weights: rounded to int8, held in F32 (bytes are saved on GPUs only)"));
}

/// No index into packed weights is out of range: shaders with checks, as the other tests run them, and without give the same bits.
#[test]
fn checks_in_shaders_change_no_bit() {
    let config = RnnConfig { cell: &cells::GRU, input_size: 5, hidden_size: 7, num_layers: 2, ..Default::default() };
    let case =
        Case::new(RnnConfig { direction: Direction::Bidirectional, ..config }, 4, 3, 12).with_lengths(&[2, 4, 1]);
    for format in ROUNDED {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let options = Options { weights: format, ..forced(strategy) };
            let [a, b] = [gpu(), unchecked_gpu()].map(|d| run(&case, &d, &options, &case.weights));
            assert_same(&format!("{format} {strategy}"), &a, &b);
        }
    }
}
