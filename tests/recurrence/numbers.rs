//! Gradients against differences of losses, the GPU against the CPU, f32 against f64, both executors against the naive loops.

use super::*;
use wgpu_rnn_verify::{naive, naive_backward, tolerance};

/// Σ up ∘ out of a run in f64, with one number moved by `by`.
fn loss(case: &Case, weights: &Weights<f64>, x: &[f64]) -> f64 {
    let options = Options { precision: Precision::F64, ..Default::default() };
    let plan = Plan::new(&case.config, case.shape, &Device::cpu().caps(), &options).unwrap();
    let mut session = Session::from_plan(&Device::cpu(), plan, weights).unwrap();
    let out = case.with_input_as(|input| {
        let shape = input.x.shape;
        session.forward(&Input { x: View::new(x, shape), ..*input }).unwrap()
    });
    let cn = out.cn.map_or(Vec::new(), |t| t.data);
    let pairs = [(&case.dy, &out.y.data), (&case.dhn, &out.hn.data), (&case.dcn, &cn)];
    pairs.into_iter().flat_map(|(up, v)| up.iter().zip(v).map(|(&u, v)| f64::from(u) * v)).sum()
}

/// Every number of R, and some of x, W and the biases. The difference at h is off by a third of its distance to the one at 2h and by
/// the rounding of the losses, which are below 100 here.
#[test]
fn gradients_are_central_differences() {
    let h = f64::EPSILON.cbrt();
    for config in cells::ALL.into_iter().flat_map(kinds) {
        let reverse = RnnConfig { direction: Direction::Reverse, ..config };
        let case = Case::new(reverse, 3, 2, 31).with_lengths(&[2, 3]);
        let what = label(&case.config);
        let (gradients, weights, x) = (case.true_gradients(), case.weights.cast::<f64>(), cast::<f64>(&case.x));
        let check = |name: &str, got: f64, moved: &dyn Fn(f64) -> f64| {
            let at = |h: f64| (moved(h) - moved(-h)) / (2.0 * h);
            let (near, far) = (at(h), at(2.0 * h));
            let bound = (far - near).abs() + 16.0 * f64::EPSILON * 100.0 / h;
            assert!(bound < 1e-6, "{what} {name}: no derivative here ({near} and {far})");
            assert!((near - got).abs() <= bound, "{what} {name} is {got}, not {near} within {bound:e}");
        };
        for (p, values) in gradients.weights.named(&case.config) {
            let stride = if p.name.starts_with("weight_hh") { 1 } else { 7 };
            for n in (0..values.len()).step_by(stride) {
                check(&format!("{}[{n}]", p.name), values[n], &|by| {
                    let mut moved = weights.clone();
                    moved.get_mut(p.place)[n] += by;
                    loss(&case, &moved, &x)
                });
            }
        }
        for n in (0..x.len()).step_by(7) {
            check(&format!("x[{n}]"), gradients.x.data[n], &|by| {
                let mut moved = x.clone();
                moved[n] += by;
                loss(&case, &weights, &moved)
            });
        }
    }
}

/// In f64 the executor and the naive loops, which share no arithmetic, agree to 1e-10, both ways and with both strategies.
#[test]
fn the_naive_loops_agree_in_f64() {
    for config in stacks() {
        let case = ragged(config);
        let weights = case.weights.cast();
        let naive_out = case.with_input_as(|input| naive::forward::<f64>(&case.config, &weights, input)).unwrap();
        let naive = case.with_input_as(|input| {
            case.with_upstream_as(|up| naive_backward::backward::<f64>(&case.config, &weights, input, up))
        });
        let naive = named(&case.config, &naive.unwrap());
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let (out, got) = case.train_in(&mut case.training::<f64>(&Device::cpu(), forced(strategy)));
            let close = |name: &str, got: &[f64], naive: &[f64]| {
                let (error, bound) = (tolerance::error(got, naive), tolerance::bound_f64(tolerance::scale(naive)));
                assert!(error <= bound, "{} {strategy}: {name} differs by {error:e}", label(&case.config));
            };
            close("y", &out.y.data, &naive_out.y.data);
            close("hn", &out.hn.data, &naive_out.hn.data);
            for ((name, got), (_, naive)) in named(&case.config, &got).iter().zip(&naive) {
                close(name, got, naive);
            }
        }
    }
}

/// What f32 costs by the naive loop, or by the CPU executor's f32 steps where the naive loop has no episodes or masks.
fn bounds(case: &Case, truth: &[Named<f64>]) -> Vec<f64> {
    let naive = case.with_input(|input| {
        case.with_upstream_as(|up| naive_backward::backward::<f32>(&case.config, &case.weights, input, up))
    });
    let plain = match naive {
        Ok(g) if case.config.dropout == Dropout::default() => g,
        _ => case.train(&Device::cpu(), Strategy::Step).1,
    };
    let bound = |((_, plain), (_, truth)): (&Named<f32>, &Named<f64>)| {
        tolerance::bound_f32(tolerance::scale(truth), tolerance::error(&cast::<f64>(plain), truth))
    };
    named(&case.config, &plain).iter().zip(truth).map(bound).collect()
}

/// Every executor and strategy, with what `options` say besides.
fn compare(case: &Case, options: &Options, failures: &mut Vec<String>) {
    let truth = named(&case.config, &case.true_gradients());
    let bounds = bounds(case, &truth);
    for (device, strategy) in runs(&case.config) {
        let options = Options { strategy: Some(strategy), ..options.clone() };
        let got = case.poisoned(&mut case.training(&device, options)).1;
        for (((name, got), (_, truth)), bound) in named(&case.config, &got).iter().zip(&truth).zip(&bounds) {
            let error = tolerance::error(&cast::<f64>(got), truth);
            if error > *bound {
                let what = format!("{} on {} with {strategy}", label(&case.config), device.kind());
                failures.push(format!("{what}: {name} off by {error:e}, bound {bound:e}"));
            }
        }
    }
}

/// Gates made again from kept states, by products over many rows; two segments.
#[test]
fn recomputed_gradients_are_within_what_f32_costs() {
    let mut failures = Vec::new();
    for config in cells::ALL.into_iter().flat_map(kinds) {
        let direction = Direction::Bidirectional;
        let case = Case::new(RnnConfig { direction, ..config }, 67, 2, 40).with_lengths(&[66, 67]);
        compare(&case, &Options { memory: Memory::Recompute, ..Default::default() }, &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Episodes that begin inside a run, and masks on all that can have them.
#[test]
fn resets_and_dropout_are_within_what_f32_costs() {
    let mut failures = Vec::new();
    for (n, config) in stacks().into_iter().enumerate() {
        let dropout = Dropout { layers: 0.3, input: 0.25, recurrent: 0.4 };
        let case = match n % 2 {
            0 => ragged(config).with_resets(Reset::Initial, &[(1, 0), (2, 1), (0, 3), (3, 3)]),
            _ => ragged(RnnConfig { dropout, ..config }),
        };
        compare(&case, &Options::default(), &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The executors slot by slot: the first dispatch and slot that differ are named.
#[test]
fn executors_agree_after_every_dispatch() {
    let mut failures = Vec::new();
    for config in stacks().into_iter().filter(|config| runs(config).len() > 2) {
        let case = ragged(config);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let [cpu, gpu] = [Device::cpu(), gpu()].map(|device| {
                let mut session = case.training::<f32>(&device, Options { max_block: Some(3), ..forced(strategy) });
                session.poison().unwrap();
                let mut all = case.with_input(|input| session.trace(input).unwrap());
                all.extend(case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap()));
                all
            });
            // As in tests/backward/executors.rs: sums of at most 72 products, with eight roundings each way.
            if let Some(what) = first_difference(&cpu, &gpu, 72.0 * 8.0 * f32::EPSILON) {
                failures.push(format!("{} {strategy}: {what}", label(&case.config)));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
