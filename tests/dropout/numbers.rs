//! The numbers: naive loops with masks from the documented formula, differences of the loss, executors and strategies against
//! each other.

use super::harness::*;
use super::{ALL, ragged};
use wgpu_rnn::num::random::{MaskKind, Masks};
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

/// 0, or 1 / (1 − p).
fn factor(masks: &Masks, p: f32, kind: MaskKind, place: usize, sequence: usize, t: usize, feature: usize) -> f64 {
    if masks.drops(p, kind, place, sequence, t, feature) { 0.0 } else { 1.0 / (1.0 - f64::from(p)) }
}

/// bias + Σ row ∘ v
fn dot(row: &[f64], v: &[f64], bias: f64) -> f64 {
    row.iter().zip(v).fold(bias, |sum, (a, b)| sum + a * b)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One step of an LSTM or a GRU (PyTorch's equations): `seen` is what R multiplies, `h` and `c` the state that it changes.
fn step(gru: bool, w: &LayerParts, x: &[f64], seen: &[f64], h: &mut [f64], c: &mut [f64]) {
    let n = h.len();
    let (from_x, from_h): (Vec<f64>, Vec<f64>) = (0..w.b_w.len())
        .map(|g| (dot(&w.w[g * x.len()..], x, w.b_w[g]), dot(&w.r[g * n..][..n], seen, w.b_r[g])))
        .unzip();
    for u in 0..n {
        let gate = |g: usize| from_x[g * n + u] + from_h[g * n + u];
        if gru {
            let (r, z) = (sigmoid(gate(0)), sigmoid(gate(1)));
            let new = (from_x[2 * n + u] + r * from_h[2 * n + u]).tanh();
            h[u] = (1.0 - z) * new + z * h[u];
        } else {
            c[u] = sigmoid(gate(1)) * c[u] + sigmoid(gate(0)) * gate(2).tanh();
            h[u] = sigmoid(gate(3)) * c[u].tanh();
        }
    }
}

type LayerParts = weights::LayerWeights<f64>;

/// Both directions, time-major, as plainly as it can be: y and hn.
fn naive(case: &Case, masks: &Masks) -> (Vec<f64>, Vec<f64>) {
    let (config, Shape { time, batch }, lengths) = (&case.config, case.shape, case.lengths.as_deref().unwrap());
    let (n, p, weights) = (config.hidden_size, config.dropout, case.weights.cast::<f64>());
    let gru = !config.cell.has_cell_state();
    let (mut input, mut hn) = (cast::<f64>(&case.x), Vec::new());
    for layer in 0..config.num_layers {
        let width = config.layer_input_size(layer);
        for (i, v) in input.iter_mut().enumerate() {
            let (t, b, feature) = (i / width / batch, i / width % batch, i % width);
            *v *= factor(masks, p.input, MaskKind::Input, 2 * layer, b, 0, feature);
            if layer > 0 {
                *v *= factor(masks, p.layers, MaskKind::Layers, 2 * layer, b, t, feature);
            }
        }
        let mut y = vec![0.0; time * batch * 2 * n];
        for direction in 0..2 {
            let z = 2 * layer + direction;
            for b in 0..batch {
                let initial = |v: &[f32], n: usize| cast::<f64>(&v[(z * batch + b) * n..][..n]);
                let (mut h, mut c) = (initial(&case.h0, n), initial(&case.c0, config.cell_size()));
                let mask: Vec<f64> =
                    (0..n).map(|u| factor(masks, p.recurrent, MaskKind::Recurrent, z, b, 0, u)).collect();
                for s in 0..lengths[b] {
                    let t = if direction == 1 { lengths[b] - 1 - s } else { s };
                    let seen: Vec<f64> = h.iter().zip(&mask).map(|(h, m)| h * m).collect();
                    let x = &input[(t * batch + b) * width..][..width];
                    step(gru, &weights.layers[z], x, &seen, &mut h, &mut c);
                    y[((t * batch + b) * 2 + direction) * n..][..n].copy_from_slice(&h);
                }
                hn.extend(h);
            }
        }
        input = y;
    }
    (input, hn)
}

#[test]
fn naive_loops_with_the_documented_masks_agree() {
    for cell in [&cells::LSTM, &cells::GRU] {
        let case = ragged(cell, 0, ALL);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let mut session = case.training::<f64>(&Device::cpu(), forced(strategy));
            session.set_seed(13);
            for run in 0..2 {
                let out = case.with_input_as(|input| session.forward(input).unwrap());
                let (y, hn) = naive(&case, &Masks::new(13, run));
                for (what, got, truth) in [("y", &out.y.data, &y), ("hn", &out.hn.data, &hn)] {
                    let (error, bound) = (tolerance::error(got, truth), tolerance::bound_f64(tolerance::scale(truth)));
                    assert!(error <= bound, "{} {strategy} run {run}: {what} is off by {error:e}", cell.name);
                }
            }
        }
    }
}

fn trace(case: &Case, device: &Device, strategy: Strategy) -> Vec<Snapshot<f32>> {
    // Blocks of 3 steps on both, so that the slots have the same sizes.
    let mut session: Session = case.training(device, Options { max_block: Some(3), ..forced(strategy) });
    session.poison().unwrap();
    session.set_seed(14);
    let mut trace = case.with_input(|input| session.trace(input).unwrap());
    trace.extend(case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap()));
    trace
}

/// As without dropout (tests/backward/executors.rs): sums of at most 2·4·9 products, eight roundings of 2^-24 each.
const TOLERANCE: f32 = 72.0 * 8.0 * f32::EPSILON;

#[test]
fn executors_agree_after_every_dispatch() {
    let mut failures = Vec::new();
    for (cell, proj_size) in gpu_cells(5) {
        let case = ragged(cell, proj_size, ALL);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let (cpu, gpu) = (trace(&case, &Device::cpu(), strategy), trace(&case, &gpu(), strategy));
            if let Some(what) = first_difference(&cpu, &gpu, TOLERANCE) {
                failures.push(format!("{} P={proj_size} {strategy}: {what}", cell.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The strategies draw the same masks: in f64 they differ by roundings only.
#[test]
fn strategies_agree() {
    for (cell, proj_size) in cells_and_projections(5) {
        let case = ragged(cell, proj_size, ALL);
        let train = |strategy| {
            let (out, gradients) = case.train_in(&mut case.training::<f64>(&Device::cpu(), forced(strategy)));
            let outputs = [("y".to_string(), out.y.data), ("hn".to_string(), out.hn.data)];
            [outputs.to_vec(), named(&case.config, &gradients)].concat()
        };
        for ((name, step), (_, truth)) in train(Strategy::Step).iter().zip(&train(Strategy::Sequence)) {
            let (error, bound) = (tolerance::error(step, truth), tolerance::bound_f64(tolerance::scale(truth)));
            assert!(error <= bound, "{} P={proj_size}: {name} differs by {error:e}, bound {bound:e}", cell.name);
        }
    }
}

/// Every gradient in run 0 of seed 17, with this memory policy.
fn gradients_with<T: Element>(case: &Case, device: &Device, options: Options) -> Vec<Named<T>> {
    let mut session = case.training::<T>(device, options);
    session.set_seed(17);
    named(&case.config, &case.train_in(&mut session).1)
}

/// `Memory::Recompute` makes gates again from the masked h that it kept, and a GRU's pointwise part from h itself: in f64 to
/// roundings what everything kept gives, in f32 on the GPU to what f32 costs (4 × the error of the CPU executor's f32 + 1e-6).
#[test]
fn recomputed_gates_see_the_same_masks() {
    for (cell, proj_size) in
        [(&cells::LSTM, 5), (&cells::GRU, 0), (&cells::GRU_RESET_BEFORE, 0), (&cells::LSTM_LAYER_NORM, 5)]
    {
        let config = ragged(cell, proj_size, ALL).config;
        let case = Case::new(config, 67, 3, 23).with_lengths(&[64, 67, 65]);
        let recompute = Options { memory: Memory::Recompute, ..Default::default() };
        let truth = gradients_with::<f64>(&case, &Device::cpu(), Options::default());
        let again = gradients_with::<f64>(&case, &Device::cpu(), recompute.clone());
        let plain = gradients_with::<f32>(&case, &Device::cpu(), Options::default());
        let on_gpu = gradients_with::<f32>(&case, &gpu(), recompute);
        for (n, (name, truth)) in truth.iter().enumerate() {
            let (scale, what) = (tolerance::scale(truth), format!("{} P={proj_size}: {name}", cell.name));
            let (error, bound) = (tolerance::error(&again[n].1, truth), tolerance::bound_f64(scale));
            assert!(error <= bound, "{what} is off by {error:e} in f64, bound {bound:e}");
            let bound = tolerance::bound_f32(scale, tolerance::error(&cast::<f64>(&plain[n].1), truth));
            let error = tolerance::error(&cast::<f64>(&on_gpu[n].1), truth);
            assert!(error <= bound, "{what} is off by {error:e} on the GPU, bound {bound:e}");
        }
    }
}

/// Everything a run reads, by name, in the order of [`named`].
fn values_of(case: &Case) -> Vec<Named<f64>> {
    let cell = case.config.cell.has_cell_state();
    let states = [("x", &case.x, true), ("h0", &case.h0, true), ("c0", &case.c0, cell)];
    let states = states.into_iter().filter(|s| s.2).map(|(name, v, _)| (name.to_string(), cast::<f64>(v)));
    states.chain(case.weights.named(&case.config).map(|(p, v)| (p.name, cast::<f64>(v)))).collect()
}

/// Σ up ∘ out over y, hn and cn in run 0 of seed 15, and Σ |up ∘ out|, the size of what is added up.
fn loss(case: &Case, values: &[Named<f64>]) -> (f64, f64) {
    let get = |name: &str| values.iter().find(|v| v.0 == name).map(|v| v.1.as_slice());
    let shapes = weights::parameters(&case.config);
    let weights = Weights::from_named(&case.config, |name| {
        let shape = shapes.iter().find(|p| p.name == name).map(|p| p.shape.clone());
        Ok(shape.zip(get(name).map(<[f64]>::to_vec)))
    });
    let options = Options { precision: Precision::F64, train: true, ..Default::default() };
    let plan = Plan::new(&case.config, case.shape, &Device::cpu().caps(), &options).unwrap();
    let mut session = Session::from_plan(&Device::cpu(), plan, &weights.unwrap()).unwrap();
    session.set_seed(15);
    let (shape, [h, c]) = (case.x_shape(), case.state_shapes());
    let input = Input {
        lengths: case.lengths.as_deref(),
        initial: Initial::Given { h0: get("h0").map(|v| View::new(v, &h)), c0: get("c0").map(|v| View::new(v, &c)) },
        ..Input::new(View::new(get("x").unwrap(), &shape))
    };
    let out = session.forward(&input).unwrap();
    let none = Vec::new();
    let pairs =
        [(&case.dy, &out.y.data), (&case.dhn, &out.hn.data), (&case.dcn, out.cn.as_ref().map_or(&none, |t| &t.data))];
    let products = pairs.into_iter().flat_map(|(up, v)| up.iter().zip(v).map(|(&u, v)| f64::from(u) * v));
    products.fold((0.0, 0.0), |(sum, size), p: f64| (sum + p, size + p.abs()))
}

/// The central difference along one value, and the size of the loss.
fn central(case: &Case, values: &[Named<f64>], (tensor, at): (usize, usize), h: f64) -> (f64, f64) {
    let moved = |h: f64| {
        let mut values = values.to_vec();
        values[tensor].1[at] += h;
        loss(case, &values)
    };
    let ((above, size), (below, _)) = (moved(h), moved(-h));
    ((above - below) / (2.0 * h), size)
}

/// As without dropout (tests/backward/derivatives.rs): the difference at h is off by a third of its distance to the one at 2h
/// and by the rounding of the losses.
#[test]
fn gradients_are_the_central_differences_of_the_loss_under_the_same_masks() {
    let h = f64::EPSILON.cbrt();
    for (cell, proj_size) in cells_and_projections(3) {
        let base = RnnConfig {
            cell,
            input_size: 3,
            hidden_size: 5,
            num_layers: 2,
            proj_size,
            dropout: ALL,
            ..Default::default()
        };
        let both = RnnConfig { direction: Direction::Bidirectional, ..base.clone() };
        let first = RnnConfig { direction: Direction::Reverse, layout: Layout::BatchFirst, num_layers: 3, ..base };
        for case in [
            Case::new(both, 5, 4, 101).with_lengths(&[3, 5, 1, 4]),
            Case::new(first, 3, 3, 104).with_lengths(&[1, 3, 2]),
        ] {
            let mut session = case.training::<f64>(&Device::cpu(), Options::default());
            session.set_seed(15);
            let (values, got) = (values_of(&case), named(&case.config, &case.train_in(&mut session).1));
            let mut zeros = 0;
            for (n, (name, gradient)) in got.iter().enumerate() {
                // The first, the last, and every so manieth between.
                let every = gradient.len().div_ceil(5);
                for at in (0..gradient.len()).step_by(every).chain([gradient.len() - 1]) {
                    let (near, size) = central(&case, &values, (n, at), h);
                    let (far, _) = central(&case, &values, (n, at), 2.0 * h);
                    let bound = (far - near).abs() + 16.0 * f64::EPSILON * size / h;
                    let what = format!("{} P={proj_size}: {name}[{at}]", cell.name);
                    assert!(bound < 1e-7 * size, "{what}: no derivative here ({near} and {far})");
                    let error = (near - gradient[at]).abs();
                    assert!(error <= bound, "{what} is {}, not {near} within {bound:e}", gradient[at]);
                    zeros += usize::from(gradient[at] == 0.0);
                }
            }
            assert!(zeros > 0, "{}: something was dropped", cell.name);
        }
    }
}
