//! The GPU against the CPU, strategies against each other, f32 against f64.

use super::harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive_backward, tolerance};

pub fn trace(case: &Case, device: &Device, strategy: Strategy) -> Vec<Snapshot<f32>> {
    // Blocks of 3 steps on both, so that the slots have the same sizes.
    let mut session = case.training::<f32>(device, Options { max_block: Some(3), ..forced(strategy) });
    session.poison().unwrap();
    case.with_input(|input| session.forward(input).unwrap());
    case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap())
}

fn ragged(cell: &'static Cell, proj_size: usize) -> Case {
    let direction = Direction::Bidirectional;
    let config =
        RnnConfig { cell, input_size: 5, hidden_size: 9, num_layers: 2, direction, proj_size, ..Default::default() };
    Case::new(config, 5, 4, 21).with_lengths(&[2, 5, 1, 4])
}

/// Per slot relative to its largest value: gradients are sums of at most 2·4·9 products of what is at most 40 products deep,
/// with a rounding of 2^-24 each way.
pub const TOLERANCE: f32 = 72.0 * 8.0 * f32::EPSILON;

#[test]
fn executors_agree_after_every_dispatch_of_the_way_back() {
    let mut failures = Vec::new();
    for (cell, proj_size) in gpu_cells(5) {
        let case = ragged(cell, proj_size);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let (cpu, gpu) = (trace(&case, &Device::cpu(), strategy), trace(&case, &gpu(), strategy));
            assert!(cpu.len() > 12, "{} {strategy}: a trace of {} entries", cell.name, cpu.len());
            if let Some(what) = first_difference(&cpu, &gpu, TOLERANCE) {
                failures.push(format!("{} P={proj_size} {strategy}: {what}", cell.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The comparison does name the first place: a changed gradient of layer 1's hn shows where it is loaded.
#[test]
fn a_difference_is_named() {
    let good = ragged(&cells::LSTM, 0);
    let mut bad = good.clone();
    bad.dhn[9 * 4 * 2] += 0.5;
    let found = first_difference(
        &trace(&good, &Device::cpu(), Strategy::Step),
        &trace(&bad, &gpu(), Strategy::Step),
        TOLERANCE,
    );
    let found = found.expect("a difference");
    assert!(found.starts_with("load_gradient layer 1 from step 0 wrote d_hidden"), "{found}");
}

/// What f32 costs: per gradient the bound 4 × (error of the naive f32 loop) + 1e-6 of the scale. A cell that the naive loop
/// does not know is measured by the CPU executor's f32 instead.
pub fn bounds(case: &Case, truth: &[Named<f64>]) -> Vec<f64> {
    let naive = case.with_input(|input| {
        case.with_upstream_as(|up| naive_backward::backward::<f32>(&case.config, &case.weights, input, up))
    });
    let plain = match naive {
        Ok(g) => g,
        Err(Error::Unsupported { .. }) => case.train(&Device::cpu(), Strategy::Step).1,
        Err(e) => panic!("{e}"),
    };
    let bound = |((_, plain), (_, truth)): (&Named<f32>, &Named<f64>)| {
        tolerance::bound_f32(tolerance::scale(truth), tolerance::error(&cast::<f64>(plain), truth))
    };
    named(&case.config, &plain).iter().zip(truth).map(bound).collect()
}

/// How far every gradient is from the truth, as a share of its bound; the worst one by name.
pub fn worst(case: &Case, got: &Gradients<f32>, truth: &[Named<f64>], bounds: &[f64]) -> (String, f64) {
    let share = |(((name, got), (_, truth)), bound): ((Named<f32>, &Named<f64>), &f64)| {
        let error = tolerance::error(&cast::<f64>(&got), truth);
        // A gradient that is 0 altogether (relu units that are off) must be 0.
        (name, if error == 0.0 { 0.0 } else { error / bound })
    };
    let all = named(&case.config, got).into_iter().zip(truth).zip(bounds).map(share);
    all.fold((String::new(), 0.0), |w, s| if s.1 > w.1 { s } else { w })
}

/// On the devices and strategies that its cell runs on; failures are collected, so that one run shows them all.
pub fn compare(case: &Case, what: &str, failures: &mut Vec<String>) -> f64 {
    compare_on(executors_for(case.config.cell, case.config.proj_size), case, what, failures)
}

fn compare_on(on: Vec<(Device, Strategy)>, case: &Case, what: &str, failures: &mut Vec<String>) -> f64 {
    let truth = named(&case.config, &case.true_gradients());
    let bounds = bounds(case, &truth);
    let mut most = 0.0f64;
    for (device, strategy) in on {
        let (_, got) = case.train(&device, strategy);
        let (name, share) = worst(case, &got, &truth, &bounds);
        most = most.max(share);
        if share > 1.0 {
            failures.push(format!("{what} on {} with {strategy}: {name} {share:.2} of its bound", device.kind()));
        }
    }
    most
}

/// H, I, B all from the odd sizes, each H with every cell; memory full of NaN before. On the GPU every cell has one of the sizes and
/// one of the strategies, and all of the sizes are some cell's (with [`everything`], every cell has all of both).
#[test]
fn odd_sizes_over_poisoned_memory_are_within_what_f32_costs() {
    let (mut failures, mut most) = (Vec::new(), 0.0f64);
    for (turn, cell) in cells::ALL.into_iter().enumerate() {
        for (n, &hidden_size) in ODD_SIZES.iter().enumerate() {
            let (input_size, batch) = (ODD_SIZES[(n + 3) % 7], ODD_SIZES[(n + 5) % 7].min(65));
            // P = 1, 2, 32, 31, 33, 65 with every other H that a projection fits under.
            // R h of a single h that is near 0 is next to a step where it is normalised: its f32 error is chance.
            let fits = n % 2 == 1 && !(cell.normalises() && hidden_size < 17);
            let proj_size = if cell.has_cell_state() && fits { hidden_size / 2 } else { 0 };
            let config = RnnConfig { cell, input_size, hidden_size, proj_size, ..Default::default() };
            let lengths: Vec<usize> = (0..batch).map(|b| 1 + (b * 2 + 2) % 3).collect();
            let case = Case::new(config, 3, batch, 31).with_lengths(&lengths);
            let what = format!("{} H={hidden_size} I={input_size} B={batch} P={proj_size}", cell.name);
            let (step, sequence) = ([Strategy::Step, Strategy::Sequence], [Strategy::Sequence, Strategy::Step]);
            let order = if turn % 2 == 0 { step } else { sequence };
            let count = if everything() { 2 } else { usize::from(turn % 7 == n) };
            let gpus = order.into_iter().take(count).map(|strategy| (gpu(), strategy));
            let on = step.map(|strategy| (Device::cpu(), strategy)).into_iter().chain(gpus).collect();
            most = most.max(compare_on(on, &case, &what, &mut failures));
        }
    }
    println!("at most {most:.2} of a bound");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The other corners: T = 1, B = 1, both; more steps than a block of the sums over time; three layers, both directions.
#[test]
fn corner_shapes_are_within_what_f32_costs() {
    let (mut failures, mut most) = (Vec::new(), 0.0f64);
    for (cell, proj_size) in cells_and_projections(4) {
        for (time, batch, num_layers, direction) in [
            (1, 1, 1, Direction::Forward),
            (1, 5, 2, Direction::Bidirectional),
            (6, 1, 3, Direction::Bidirectional),
            (131, 2, 1, Direction::Reverse),
        ] {
            let config = RnnConfig {
                cell,
                input_size: 5,
                hidden_size: 7,
                num_layers,
                direction,
                proj_size,
                ..Default::default()
            };
            let lengths: Vec<usize> = (0..batch).map(|b| time - b * (time - 1) / batch).collect();
            let case = Case::new(config, time, batch, 32).with_lengths(&lengths);
            let what = format!("{} P={proj_size} T={time} B={batch} L={num_layers} {direction:?}", cell.name);
            most = most.max(compare(&case, &what, &mut failures));
        }
    }
    println!("at most {most:.2} of a bound");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// In f64 the executor and the naive loop, which share no arithmetic, agree to 1e-10.
#[test]
fn the_naive_loop_agrees_in_f64() {
    for (cell, proj_size) in cells_and_projections(5) {
        let case = ragged(cell, proj_size);
        let truth = named(&case.config, &case.true_gradients());
        let naive = case.with_input_as(|input| {
            case.with_upstream_as(|up| naive_backward::backward::<f64>(&case.config, &case.weights.cast(), input, up))
        });
        for ((name, naive), (_, truth)) in named(&case.config, &naive.unwrap()).iter().zip(&truth) {
            let (error, bound) = (tolerance::error(naive, truth), tolerance::bound_f64(tolerance::scale(truth)));
            assert!(error <= bound, "{} P={proj_size}: {name} differs by {error:e}, bound {bound:e}", cell.name);
        }
    }
}

/// The strategies differ only by f32 roundings (on the CPU in f64, by f64 roundings).
#[test]
fn strategies_agree() {
    for (cell, proj_size) in cells_and_projections(5) {
        let case = ragged(cell, proj_size);
        let truth = named(&case.config, &case.true_gradients());
        let step = case.train_in(&mut case.training::<f64>(&Device::cpu(), forced(Strategy::Step))).1;
        for ((name, step), (_, truth)) in named(&case.config, &step).iter().zip(&truth) {
            let (error, bound) = (tolerance::error(step, truth), tolerance::bound_f64(tolerance::scale(truth)));
            assert!(error <= bound, "{} P={proj_size}: {name} differs by {error:e}, bound {bound:e}", cell.name);
        }
        let bounds = bounds(&case, &truth);
        for device in [Some(Device::cpu()), on_gpu(cell, proj_size).then(gpu)].into_iter().flatten() {
            let [step, sequence] =
                [Strategy::Step, Strategy::Sequence].map(|s| named(&case.config, &case.train(&device, s).1));
            for (n, ((name, step), (_, sequence))) in step.iter().zip(&sequence).enumerate() {
                let d = difference(step, sequence);
                // Each is within its bound of the truth.
                let most = 2.0 * bounds[n];
                assert!(
                    f64::from(d) <= most,
                    "{} on {}: {name} differs by {d}, bound {most}",
                    cell.name,
                    device.kind()
                );
            }
        }
    }
}
