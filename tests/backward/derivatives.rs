//! The CPU executor's f64 gradients against differences of its f64 losses. The loss is Σ up ∘ out over y, hn and cn, with
//! random upstream gradients `up`.

use super::harness::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use wgpu_rnn::*;

/// Everything a run reads, by name: x, h0, c0 (if the cell has one), then the parameters. The order of [`named`].
type Values = Vec<Named<f64>>;

fn values_of(case: &Case) -> Values {
    let cell = case.config.cell.has_cell_state();
    let states = [("x", &case.x, true), ("h0", &case.h0, true), ("c0", &case.c0, cell)];
    let states = states.into_iter().filter(|s| s.2).map(|(name, v, _)| (name.to_string(), cast::<f64>(v)));
    states.chain(case.weights.named(&case.config).map(|(p, v)| (p.name, cast::<f64>(v)))).collect()
}

/// The loss, and Σ |up ∘ out|: the size of what is added up, which bounds its rounding error.
fn loss(case: &Case, values: &Values) -> (f64, f64) {
    let get = |name: &str| values.iter().find(|v| v.0 == name).map(|v| v.1.as_slice());
    let shapes = weights::parameters(&case.config);
    let weights = Weights::from_named(&case.config, |name| {
        let shape = shapes.iter().find(|p| p.name == name).map(|p| p.shape.clone());
        Ok(shape.zip(get(name).map(<[f64]>::to_vec)))
    });
    // Only plans that train drop; a new session's first run draws the masks that the gradients were taken with.
    let train = case.config.dropout != Dropout::default();
    let options = Options { precision: Precision::F64, resets: case.resets, train, ..Default::default() };
    let plan = Plan::new(&case.config, case.shape, &Device::cpu().caps(), &options).unwrap();
    let mut session = Session::from_plan(&Device::cpu(), plan, &weights.unwrap()).unwrap();
    let (shape, [h, c]) = (case.x_shape(), case.state_shapes());
    let input = Input {
        lengths: case.lengths.as_deref(),
        resets: case.resets.map(|_| case.flags.as_slice()),
        initial: Initial::Given { h0: get("h0").map(|v| View::new(v, &h)), c0: get("c0").map(|v| View::new(v, &c)) },
        ..Input::new(View::new(get("x").unwrap(), &shape))
    };
    let out = session.forward(&input).unwrap();
    let none = Vec::new();
    let cn = out.cn.as_ref().map_or(&none, |t| &t.data);
    let pairs = [(&case.dy, &out.y.data), (&case.dhn, &out.hn.data), (&case.dcn, cn)];
    let products = pairs.into_iter().flat_map(|(up, v)| up.iter().zip(v).map(|(&u, v)| f64::from(u) * v));
    products.fold((0.0, 0.0), |(sum, size), p: f64| (sum + p, size + p.abs()))
}

/// (L(v + h·d) − L(v − h·d)) / 2h, and the size of the loss.
fn central(case: &Case, values: &Values, direction: &Values, h: f64) -> (f64, f64) {
    let moved = |h: f64| {
        let step = |((name, v), (_, d)): (&Named<f64>, &Named<f64>)| {
            (name.clone(), v.iter().zip(d).map(|(v, d)| v + h * d).collect())
        };
        loss(case, &values.iter().zip(direction).map(step).collect())
    };
    let ((above, size), (below, _)) = (moved(h), moved(-h));
    ((above - below) / (2.0 * h), size)
}

/// Rounding of a central difference: the losses carry a few roundings of their size, magnified by 1/h.
fn rounding(size: f64, h: f64) -> f64 {
    16.0 * f64::EPSILON * size / h
}

fn zeros(values: &Values) -> Values {
    values.iter().map(|(name, v)| (name.clone(), vec![0.0; v.len()])).collect()
}

/// The cases that every cell goes through; `other` activations than its own in the last one (relu becomes smooth there).
fn cases(cell: &'static Cell, proj_size: usize) -> Vec<Case> {
    let base = RnnConfig { cell, input_size: 3, hidden_size: 5, proj_size, ..Default::default() };
    let two = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..base.clone() };
    let reverse = RnnConfig { direction: Direction::Reverse, bias: Bias::One, num_layers: 3, ..base.clone() };
    let first = RnnConfig { layout: Layout::BatchFirst, bias: Bias::None, ..two.clone() };
    let other = |a: &(&str, Activation)| if a.1 == Activation::Tanh { Activation::Sigmoid } else { Activation::Tanh };
    let activations = cell.activations.iter().map(other).collect();
    vec![
        Case::new(two, 5, 4, 101).with_lengths(&[3, 5, 1, 4]),
        Case::new(reverse.clone(), 4, 2, 102),
        Case::new(reverse, 1, 1, 103),
        Case::new(first, 3, 3, 104).with_lengths(&[1, 2, 2]),
        Case::new(RnnConfig { activations, ..base }, 4, 2, 105).with_lengths(&[2, 4]),
    ]
}

fn label(case: &Case) -> String {
    let c = &case.config;
    format!("{} P={} {:?} T={} {:?}", c.cell.name, c.proj_size, c.direction, case.shape.time, case.lengths)
}

/// Up to so many entries of every tensor: its first, its last and some between, by chance.
const SAMPLE: usize = 6;

/// The difference at h is off by a third of its distance to the one at 2h (truncation, which goes with h²) and by the
/// rounding of the losses; h = ε^(1/3) balances the two. A bound that is not small means a kink of relu within 2h.
#[test]
fn every_gradient_is_the_central_difference_of_the_loss() {
    let step = f64::EPSILON.cbrt();
    let mut rng = SmallRng::seed_from_u64(1);
    let (mut entries, mut tightest, mut loosest) = (0, f64::INFINITY, 0.0f64);
    for (cell, proj_size) in cells_and_projections(3) {
        for case in cases(cell, proj_size) {
            let (values, what) = (values_of(&case), label(&case));
            let got = named(&case.config, &case.true_gradients());
            assert_eq!(values.iter().map(|v| &v.0).collect::<Vec<_>>(), got.iter().map(|v| &v.0).collect::<Vec<_>>());
            for (n, (name, gradient)) in got.iter().enumerate() {
                let count = gradient.len();
                assert_eq!(count, values[n].1.len(), "{what}: {name}");
                let mut sample: Vec<usize> =
                    (0..SAMPLE.saturating_sub(2)).map(|_| rng.random_range(0..count)).collect();
                sample.extend([0, count - 1]);
                sample.sort_unstable();
                sample.dedup();
                for at in sample {
                    let mut direction = zeros(&values);
                    direction[n].1[at] = 1.0;
                    let (near, size) = central(&case, &values, &direction, step);
                    let (far, _) = central(&case, &values, &direction, 2.0 * step);
                    let bound = (far - near).abs() + rounding(size, step);
                    assert!(bound < 1e-7 * size, "{what}: {name}[{at}]: no derivative here ({near} and {far})");
                    let error = (near - gradient[at]).abs();
                    assert!(error <= bound, "{what}: {name}[{at}] is {}, not {near} within {bound:e}", gradient[at]);
                    entries += 1;
                    (tightest, loosest) = (tightest.min(bound / size), loosest.max(bound / size));
                }
            }
        }
    }
    println!("{entries} entries, bounds {tightest:.1e} to {loosest:.1e} of the loss's size");
    assert!(entries > 1000);
}

/// ⟨J v, u⟩ = ⟨v, Jᵀ u⟩ for random v over everything a run reads and random u over everything it gives. J v by Richardson's
/// extrapolation of three central differences, exact to h⁶ and the rounding of the losses; the extrapolation's last
/// correction is its error bound. Relu is linear between its kinks, so a smaller step stays clear of them.
pub fn check_adjoint(case: &Case) -> f64 {
    let (values, what) = (values_of(case), label(case));
    let mut rng = SmallRng::seed_from_u64(2);
    let mut direction = zeros(&values);
    direction.iter_mut().flat_map(|d| &mut d.1).for_each(|d| *d = rng.random_range(-1.0..1.0));
    // So is a row that is normalised and has little variance steep and strongly curved; and sLSTM's m has the kinks of a max.
    let h = match case.config.activations().contains(&Activation::Relu) {
        true => 1e-6,
        false if case.config.cell.normalises() || case.config.cell == &cells::SLSTM => 1e-5,
        false => 1e-3,
    };
    let [(d1, size), (d2, _), (d4, _)] = [h, h / 2.0, h / 4.0].map(|h| central(case, &values, &direction, h));
    let (coarse, fine) = ((4.0 * d2 - d1) / 3.0, (4.0 * d4 - d2) / 3.0);
    let forward = fine + (fine - coarse) / 15.0;
    let bound = (forward - fine).abs() + rounding(size, h / 4.0);
    let got = named(&case.config, &case.true_gradients());
    let dot = |(d, g): (&Named<f64>, &Named<f64>)| -> f64 {
        assert_eq!(d.0, g.0);
        d.1.iter().zip(&g.1).map(|(d, g)| d * g).sum()
    };
    let backward: f64 = direction.iter().zip(&got).map(dot).sum();
    assert!(bound < 1e-6 * size, "{what}: no derivative here ({d1}, {d2}, {d4})");
    assert!((forward - backward).abs() <= bound, "{what}: {forward} forward, {backward} back, bound {bound:e}");
    bound / size
}

#[test]
fn backward_is_the_adjoint_of_forward() {
    let mut worst = [0.0f64; 2];
    for (cell, proj_size) in cells_and_projections(3) {
        for case in cases(cell, proj_size) {
            let relu = case.config.activations().contains(&Activation::Relu);
            let relative = check_adjoint(&case);
            worst[usize::from(relu)] = worst[usize::from(relu)].max(relative);
        }
    }
    println!("bounds up to {:.1e} of the loss's size, {:.1e} with relu", worst[0], worst[1]);
}

/// More steps than a block of the sums over time has (64), with lengths on its edges.
#[test]
fn backward_is_the_adjoint_of_forward_over_several_blocks_of_time() {
    for (cell, proj_size) in cells_and_projections(3) {
        let direction = Direction::Bidirectional;
        let config = RnnConfig { cell, input_size: 2, hidden_size: 4, proj_size, direction, ..Default::default() };
        check_adjoint(&Case::new(config, 131, 5, 106).with_lengths(&[64, 131, 1, 65, 128]));
    }
}
