//! Variants of the cells: activations, one set per direction, clipping, coupled gates, one bias of the two. Every variant is held against the naive loop, against
//! differences of the loss, and executor against executor; and what a variant must equal bit for bit, it equals.

mod harness;

use harness::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use wgpu_rnn::cell::CellOption;
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, naive_backward, tolerance};

/// Every activation, with parameters that are not the defaults where it has some.
const ACTIVATIONS: [Activation; 11] = [
    Activation::Sigmoid,
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::Softplus,
    Activation::ScaledTanh { alpha: 1.2, beta: 0.7 },
    Activation::HardSigmoid { alpha: 0.3, beta: 0.4 },
    Activation::Elu { alpha: 0.8 },
    Activation::Tanh,
    Activation::Affine { alpha: 0.5, beta: 0.1 },
    Activation::ThresholdedRelu { alpha: 0.3 },
    Activation::Softsign,
    Activation::Relu,
];

/// `count` of them from the `first`-th on.
fn some(first: usize, count: usize) -> Vec<Activation> {
    (first..first + count).map(|n| ACTIVATIONS[n % ACTIVATIONS.len()]).collect()
}

/// A cell's configuration before anything is changed.
fn base(cell: &'static Cell, proj_size: usize) -> RnnConfig {
    RnnConfig { cell, input_size: 3, hidden_size: 5, proj_size, ..Default::default() }
}

/// What may be set beside the activations, as changes of a configuration: alone, and all at once. The thresholds are within the
/// arguments' range, so that some are clipped and some not ([`thresholds_clip_some_arguments_and_not_others`]).
fn options(cell: &Cell) -> Vec<fn(RnnConfig) -> RnnConfig> {
    let mut list: Vec<fn(RnnConfig) -> RnnConfig> =
        vec![|c| RnnConfig { clip: Some(0.6), ..c }, |c| RnnConfig { bias: Bias::Recurrent, ..c }];
    if cell.options.contains(&CellOption::CellClip) {
        let coupled: [fn(RnnConfig) -> RnnConfig; 3] = [
            |c| RnnConfig { cell_clip: Some(0.4), ..c },
            |c| RnnConfig { input_forget: true, ..c },
            |c| RnnConfig { clip: Some(0.7), cell_clip: Some(0.4), input_forget: true, bias: Bias::Recurrent, ..c },
        ];
        list.extend(coupled);
    }
    list
}

/// Every variant of every cell: each activation in each place, sets that differ between directions, and the options.
fn variants() -> Vec<RnnConfig> {
    let mut list = Vec::new();
    for (cell, proj_size) in cells_and_projections(3) {
        let (base, count) = (base(cell, proj_size), cell.activations.len());
        let both = RnnConfig { direction: Direction::Bidirectional, ..base.clone() };
        for first in 0..ACTIVATIONS.len() {
            list.push(RnnConfig { activations: some(first, count), ..base.clone() });
        }
        for first in [0, 4, 7] {
            let activations = some(first, 2 * count);
            list.push(RnnConfig { activations, num_layers: 2, ..both.clone() });
        }
        for options in options(cell) {
            let activations = some(3, 2 * count);
            list.push(options(RnnConfig { num_layers: 2, ..both.clone() }));
            list.push(options(RnnConfig { activations, ..both.clone() }));
        }
    }
    list
}

/// Few enough for a software GPU: of every cell that properties run on there what is compiled differently.
fn gpu_variants() -> Vec<RnnConfig> {
    let mut list = Vec::new();
    for (cell, proj_size) in gpu_cells(3) {
        let (base, count) = (base(cell, proj_size), cell.activations.len());
        let both = RnnConfig { direction: Direction::Bidirectional, ..base.clone() };
        list.push(RnnConfig { activations: some(3, 2 * count), ..both.clone() });
        list.push(RnnConfig { activations: some(9, count), ..both.clone() });
        list.extend(options(cell).last().map(|all| all(both.clone())));
        list.push(RnnConfig { clip: Some(0.6), activations: some(2, 2 * count), ..both });
    }
    list
}

/// A ragged batch of three sequences.
fn case(config: &RnnConfig, seed: u64) -> Case {
    Case::new(config.clone(), 4, 3, seed).with_lengths(&[2, 4, 1])
}

/// y, hn, cn and every gradient, by name.
fn all<T: Element>(config: &RnnConfig, (out, gradients): (Output<T>, Gradients<T>)) -> Vec<Named<f64>> {
    let outputs = [("y", Some(out.y)), ("hn", Some(out.hn)), ("cn", out.cn)];
    let outputs = outputs.into_iter().filter_map(|(name, t)| t.map(|t| (name.to_string(), t.data)));
    let gradients = named(config, &gradients).into_iter().map(|(name, v)| (format!("grad.{name}"), v));
    let wide = |v: Vec<T>| v.into_iter().map(T::to_f64).collect();
    outputs.chain(gradients).map(|(name, v)| (name, wide(v))).collect()
}

fn naive_of<T: naive::Scalar>(case: &Case) -> Vec<Named<f64>> {
    let (config, weights) = (&case.config, case.weights.cast::<T>());
    case.with_input_as(|input| {
        let output = naive::forward(config, &weights, input).unwrap();
        let back = case.with_upstream_as(|up| naive_backward::backward(config, &weights, input, up)).unwrap();
        all(config, (output, back))
    })
}

/// How far off the naive f32 loop is, per tensor. Where rows are normalised a few roundings are magnified and decide, so a single
/// run is luck: there the worst of three, of x and of x moved by some units in its last place, each against its own truth.
fn naive_errors(case: &Case) -> Vec<f64> {
    let runs = if case.config.cell.normalises() { 3 } else { 1 };
    let mut worst: Vec<f64> = Vec::new();
    for run in 0..runs {
        let mut moved = case.clone();
        moved.x.iter_mut().for_each(|x| *x *= 1.0 + 8.0 * run as f32 * f32::EPSILON);
        let pairs = naive_of::<f64>(&moved).into_iter().zip(naive_of::<f32>(&moved));
        let errors: Vec<f64> = pairs.map(|((_, truth), (_, rounded))| tolerance::error(&rounded, &truth)).collect();
        worst.resize(errors.len(), 0.0);
        worst.iter_mut().zip(errors).for_each(|(w, e)| *w = w.max(e));
    }
    worst
}

/// Every executor and strategy that runs in `T` on `device`, within the bound that the naive loops calibrate.
fn agrees_with_naive<T: Element>(device: &Device, settings: &[RnnConfig]) {
    let mut failures = Vec::new();
    for config in settings {
        let case = case(config, 301);
        let truth = naive_of::<f64>(&case);
        let rounded = naive_errors(&case);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let mut session = case.training::<T>(device, forced(strategy));
            session.poison().unwrap();
            let got = all(config, case.train_in(&mut session));
            assert_eq!(got.len(), truth.len());
            for (((name, got), (_, truth)), rounded) in got.iter().zip(&truth).zip(&rounded) {
                let scale = tolerance::scale(truth);
                let bound = match size_of::<T>() {
                    8 => tolerance::bound_f64(scale),
                    _ => tolerance::bound_f32(scale, *rounded),
                };
                let error = tolerance::error(got, truth);
                if !bound.is_finite() || error > bound {
                    failures.push(format!("{config:?} {strategy} {name}: {error:e} > {bound:e}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_variant_agrees_with_the_naive_loop_on_the_cpu() {
    agrees_with_naive::<f64>(&Device::cpu(), &variants());
    agrees_with_naive::<f32>(&Device::cpu(), &variants());
}

#[test]
fn every_variant_agrees_with_the_naive_loop_on_a_gpu() {
    agrees_with_naive::<f32>(&gpu(), &gpu_variants());
}

/// The loss Σ up ∘ out in f64 on the CPU executor, and Σ |up ∘ out|, with every value that the run reads moved by `h` along
/// `direction`.
fn loss(case: &Case, direction: &[Named<f64>], h: f64) -> (f64, f64) {
    let moved = |name: &str, values: &[f32]| -> Vec<f64> {
        let along = &direction.iter().find(|d| d.0 == name).unwrap().1;
        values.iter().zip(along).map(|(&v, d)| f64::from(v) + h * d).collect()
    };
    let mut weights = case.weights.cast::<f64>();
    for (p, values) in case.weights.named(&case.config) {
        *weights.get_mut(p.place) = moved(&p.name, values);
    }
    let mut session = Session::new(&Device::cpu(), &case.config, case.shape, &weights).unwrap();
    let (x, h0) = (moved("x", &case.x), moved("h0", &case.h0));
    let c0 = case.config.cell.has_cell_state().then(|| moved("c0", &case.c0));
    let (shape, [h_shape, c_shape]) = (case.x_shape(), case.state_shapes());
    let c0 = c0.as_ref().map(|c0| View::new(c0, &c_shape));
    let initial = Initial::Given { h0: Some(View::new(&h0, &h_shape)), c0 };
    let input = Input { lengths: case.lengths.as_deref(), initial, ..Input::new(View::new(&x, &shape)) };
    let out = session.forward(&input).unwrap();
    let pairs = [(&case.dy, Some(&out.y)), (&case.dhn, Some(&out.hn)), (&case.dcn, out.cn.as_ref())];
    let pairs = pairs.into_iter().filter_map(|(up, t)| t.map(|t| up.iter().zip(&t.data)));
    let products = pairs.flatten().map(|(&up, v)| f64::from(up) * v);
    products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
}

/// Along a random direction of every tensor that the run reads, one tensor at a time. The difference at h is off by a third of
/// its distance to the one at 2h and by the rounding of the losses (as in tests/backward/derivatives.rs); a kink within 2h
/// shows as a bound that is not small.
#[test]
fn every_gradient_is_the_central_difference_of_the_loss() {
    let step = f64::EPSILON.cbrt();
    let mut rng = SmallRng::seed_from_u64(3);
    let mut checked = 0;
    for config in variants() {
        let case = case(&config, 302);
        let got = named(&config, &case.true_gradients());
        let zeros: Vec<Named<f64>> = got.iter().map(|(name, v)| (name.clone(), vec![0.0; v.len()])).collect();
        for (n, (name, gradient)) in got.iter().enumerate() {
            // Where a kink is near another direction, and a smaller step, finds a place without.
            let found = [step, step / 50.0, step / 50.0, step / 50.0].into_iter().any(|h| {
                let mut direction = zeros.clone();
                direction[n].1.iter_mut().for_each(|d| *d = rng.random_range(-1.0..1.0));
                let slope: f64 = gradient.iter().zip(&direction[n].1).map(|(g, d)| g * d).sum();
                let central = |h: f64| {
                    let ((above, size), (below, _)) = (loss(&case, &direction, h), loss(&case, &direction, -h));
                    ((above - below) / (2.0 * h), size)
                };
                let ((near, size), (far, _)) = (central(h), central(2.0 * h));
                let bound = (far - near).abs() + 16.0 * f64::EPSILON * size / h;
                let smooth = bound < 1e-6 * size;
                let off = (near - slope).abs();
                assert!(!smooth || off <= bound, "{config:?}: {name} is {slope}, not {near} within {bound:e}");
                smooth
            });
            assert!(found, "{config:?}: {name}: no derivative here");
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked}");
}

/// Per slot relative to its largest value, as in tests/backward/executors.rs: sums of at most 40 products, products 24 deep.
const TOLERANCE: f32 = 64.0 * 8.0 * f32::EPSILON;

#[test]
fn executors_agree_after_every_dispatch() {
    let mut failures = Vec::new();
    for config in gpu_variants() {
        let case = case(&config, 303);
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let trace = |device: &Device| {
                let mut session = case.training::<f32>(device, Options { max_block: Some(2), ..forced(strategy) });
                session.poison().unwrap();
                let mut trace = case.with_input(|input| session.trace(input).unwrap());
                trace.extend(case.with_upstream_as(|upstream| session.trace_backward(upstream).unwrap()));
                trace
            };
            if let Some(what) = first_difference(&trace(&Device::cpu()), &trace(&gpu()), TOLERANCE) {
                failures.push(format!("{config:?} {strategy}: {what}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Value and derivative at `x`, from the definitions.
fn definition(activation: Activation, x: f64) -> (f64, f64) {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let step = |at: f64| if x >= at { 1.0 } else { 0.0 };
    let slope_of_tanh = |x: f64| 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x);
    match activation {
        Activation::Sigmoid => (sigmoid(x), sigmoid(x) * sigmoid(-x)),
        Activation::Tanh => (x.tanh(), slope_of_tanh(x)),
        Activation::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Activation::Affine { alpha, beta } => (f64::from(alpha) * x + f64::from(beta), alpha.into()),
        Activation::LeakyRelu { alpha } => {
            let slope = if x >= 0.0 { 1.0 } else { alpha.into() };
            (slope * x, slope)
        }
        Activation::ThresholdedRelu { alpha } => (step(alpha.into()) * x, step(alpha.into())),
        Activation::ScaledTanh { alpha, beta } => {
            let (alpha, beta) = (f64::from(alpha), f64::from(beta));
            (alpha * (beta * x).tanh(), alpha * beta * slope_of_tanh(beta * x))
        }
        Activation::HardSigmoid { alpha, beta } => {
            let y = f64::from(alpha) * x + f64::from(beta);
            (y.clamp(0.0, 1.0), if y > 0.0 && y < 1.0 { alpha.into() } else { 0.0 })
        }
        Activation::Elu { alpha } if x < 0.0 => (f64::from(alpha) * x.exp_m1(), f64::from(alpha) * x.exp()),
        Activation::Elu { .. } => (x, 1.0),
        Activation::Softsign => (x / (1.0 + x.abs()), 1.0 / (1.0 + x.abs()).powi(2)),
        Activation::Softplus => (x.max(0.0) + (-x.abs()).exp().ln_1p(), sigmoid(x)),
    }
}

/// A vanilla RNN of one unit whose x goes through unchanged and whose h is not read: y is the activation of x, and the
/// gradient of x its derivative.
fn single(activations: Vec<Activation>, x: &[f32]) -> Case {
    let config = RnnConfig { cell: &cells::RNN_TANH, activations, bias: Bias::None, ..RnnConfig::lstm(1, 1) };
    let mut case = Case::new(config, 1, x.len(), 1);
    (case.weights.layers[0].w, case.weights.layers[0].r) = (vec![1.0], vec![0.0]);
    (case.x, case.dy) = (x.to_vec(), vec![1.0; x.len()]);
    case.dhn.fill(0.0);
    case
}

/// At ordinary arguments, at the kinks, where exp overflows, and at the largest numbers.
#[test]
fn every_activation_is_its_definition() {
    let mut x: Vec<f32> = (-60..=60).map(|n| n as f32 / 8.0).collect();
    x.extend([1e-30, 1e-6, 0.3, 17.0, 88.0, 89.0, 200.0, 1e4, 1e20, 3e38].iter().flat_map(|&v| [v, -v]));
    for (n, activation) in ACTIVATIONS.into_iter().enumerate() {
        let case = single(vec![activation], &x);
        let check = |what: &str, got: &[f64], is_slope: bool, f32: bool| {
            for (&x, &got) in x.iter().zip(got) {
                let of = |x: f64| if is_slope { definition(activation, x).1 } else { definition(activation, x).0 };
                let truth = of(x.into());
                let scale = truth.abs().max(1.0);
                let bound = if f32 { tolerance::bound_f32(scale, 0.0) } else { tolerance::bound_f64(scale) };
                assert!((got - truth).abs() <= bound, "{activation} of {x} {what}: {got}, not {truth}");
            }
        };
        let (out, gradients) = case.train_in(&mut case.training::<f64>(&Device::cpu(), Options::default()));
        check("in f64", &out.y.data, false, false);
        check("in f64, slope", &gradients.x.data, true, false);
        for (device, strategy) in executors_in_turn(n) {
            let (out, gradients) = case.train(&device, strategy);
            let what = format!("on {} with {strategy}", device.kind());
            check(&what, &cast::<f64>(&out.y.data), false, true);
            check(&format!("{what}, slope"), &cast::<f64>(&gradients.x.data), true, true);
        }
    }
}

#[test]
fn nan_goes_through_every_activation() {
    for (n, activation) in ACTIVATIONS.into_iter().enumerate() {
        let case = single(vec![activation], &[0.5, f32::NAN, -0.5, 2.0]);
        for (device, strategy) in executors_in_turn(n) {
            let (out, gradients) = case.train(&device, strategy);
            let nan = |v: &[f32]| v.iter().map(|v| v.is_nan()).collect::<Vec<_>>();
            assert_eq!(nan(&out.y.data), [false, true, false, false], "{activation} on {}", device.kind());
            assert_eq!(
                nan(&gradients.x.data),
                [false, true, false, false],
                "slope of {activation} on {}",
                device.kind()
            );
        }
    }
}

/// Asserts that other configurations give the same bits everywhere, forward and back.
fn same_bits(plain: &RnnConfig, others: &[RnnConfig]) {
    let plain = case(plain, 304);
    for (device, strategy) in executors_for(plain.config.cell, plain.config.proj_size) {
        let (out, gradients) = plain.train(&device, strategy);
        for config in others {
            let what = format!("{config:?} on {} with {strategy}", device.kind());
            let other = Case { config: config.clone(), ..plain.clone() };
            let (others_out, others_gradients) = other.train(&device, strategy);
            assert_same(&what, &out, &others_out);
            assert_same_gradients(&what, config, &gradients, &others_gradients);
        }
    }
}

/// Two equal sets, one set and the defaults are the same; so are functions that are special cases of others.
#[test]
fn a_variant_that_changes_nothing_changes_no_bit() {
    for (cell, proj_size) in cells_and_projections(3) {
        let plain = RnnConfig { direction: Direction::Bidirectional, ..base(cell, proj_size) };
        let own: Vec<Activation> = plain.activations();
        let twice = RnnConfig { activations: [own.clone(), own.clone()].concat(), ..plain.clone() };
        let general = |a: &Activation| match a {
            Activation::Tanh => Activation::ScaledTanh { alpha: 1.0, beta: 1.0 },
            Activation::Relu => Activation::ThresholdedRelu { alpha: 0.0 },
            other => *other,
        };
        same_bits(&plain, &[twice, RnnConfig { activations: own.iter().map(general).collect(), ..plain.clone() }]);
    }
}

/// Nothing is above infinity, and nothing here is above 1e30.
#[test]
fn thresholds_above_everything_change_no_bit() {
    for (cell, proj_size) in cells_and_projections(3) {
        let plain = base(cell, proj_size);
        let limited = |limit: f32| {
            let cell_clip = cell.options.contains(&CellOption::CellClip).then_some(limit);
            RnnConfig { clip: Some(limit), cell_clip, ..plain.clone() }
        };
        same_bits(&plain, &[limited(f32::INFINITY), limited(1e30)]);
    }
}

/// The thresholds of [`options`] are where it matters: with them the results are others, and no longer so with a wide one.
#[test]
fn thresholds_clip_some_arguments_and_not_others() {
    for (cell, proj_size) in cells_and_projections(3) {
        let run = |config: &RnnConfig| bits(&case(config, 301).run(&Device::cpu(), Strategy::Step).y.data);
        let plain = base(cell, proj_size);
        let (some, all) = (Some(0.6), Some(1e-6));
        let [none, some, all] = [None, some, all].map(|clip| run(&RnnConfig { clip, ..plain.clone() }));
        assert!(none != some && some != all, "clip of {}", cell.name);
        if cell.options.contains(&CellOption::CellClip) {
            let [none, some, all] =
                [None, Some(0.4), Some(1e-6)].map(|cell_clip| run(&RnnConfig { cell_clip, ..plain.clone() }));
            assert!(none != some && some != all, "cell_clip of {}", cell.name);
        }
    }
}

/// cn and every c between are within the threshold, and reach it.
#[test]
fn no_cell_state_is_above_its_threshold() {
    for (cell, proj_size) in
        cells_and_projections(3).into_iter().filter(|c| c.0.options.contains(&CellOption::CellClip))
    {
        let config = RnnConfig { cell_clip: Some(0.1), ..base(cell, proj_size) };
        for (device, strategy) in executors_for(cell, proj_size) {
            let cn = case(&config, 306).run(&device, strategy).cn.unwrap().data;
            let most = cn.iter().fold(0.0f32, |m, c| m.max(c.abs()));
            assert_eq!(most, 0.1, "{} on {} with {strategy}", cell.name, device.kind());
        }
    }
}

/// Coupled gates: whatever the forget rows hold changes nothing, and their gradients are 0. (Where a row is normalised all of it
/// counts in its statistic.)
#[test]
fn coupled_gates_do_not_see_the_forget_rows() {
    let coupled = |c: &Cell| c.options.contains(&CellOption::InputForget) && !c.normalises();
    let lstms = cells_and_projections(3).into_iter().filter(|c| coupled(c.0));
    for (cell, proj_size) in lstms {
        let config = RnnConfig { input_forget: true, ..base(cell, proj_size) };
        let plain = case(&config, 307);
        let mut other = plain.clone();
        let h = config.hidden_size;
        for field in [weights::Field::W, weights::Field::R, weights::Field::InputBias, weights::Field::RecurrentBias] {
            let values = other.weights.layers[0].get_mut(field);
            let row = values.len() / 4;
            values[row..2 * row].iter_mut().for_each(|v| *v += 0.5);
        }
        if let Some(p_f) = other.weights.layers[0].unit.get_mut(h..2 * h) {
            p_f.iter_mut().for_each(|v| *v += 0.5);
        }
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let ((out, gradients), (others, _)) = (plain.train(&device, strategy), other.train(&device, strategy));
            assert_same(&what, &out, &others);
            let layer = &gradients.weights.layers[0];
            for values in [&layer.w, &layer.r, &layer.b_w, &layer.b_r] {
                let row = values.len() / 4;
                assert!(values[row..2 * row].iter().all(|&d| d == 0.0), "{what}");
                assert!(values[..row].iter().any(|&d| d != 0.0), "{what}");
            }
            assert!(layer.unit.get(h..2 * h).is_none_or(|p_f| p_f.iter().all(|&d| d == 0.0)), "{what}");
        }
    }
}

/// b_r alone is b_w = 0 with b_r; and where every gate sees both x and h, it is b_w alone with b_r's values.
#[test]
fn one_bias_is_two_with_a_zero() {
    for (cell, proj_size) in cells_and_projections(3) {
        let config = |bias: Bias| RnnConfig { bias, ..base(cell, proj_size) };
        let recurrent = case(&config(Bias::Recurrent), 308);
        let (mut two, mut one) = (case(&config(Bias::Two), 308), case(&config(Bias::One), 308));
        for other in [&mut two, &mut one] {
            let layer = &mut other.weights.layers[0];
            layer.clone_from(&recurrent.weights.layers[0]);
            layer.b_w = layer.b_r.clone();
        }
        two.weights.layers[0].b_w.fill(0.0);
        one.weights.layers[0].b_r.clear();
        let joined = cell.stages.iter().all(|s| s.gates.iter().all(|g| g.input && g.recurrent));
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let (out, gradients) = recurrent.train(&device, strategy);
            let (with_zero, all) = two.train(&device, strategy);
            assert_same(&what, &out, &with_zero);
            assert_eq!(gradients.weights.layers[0].b_r, all.weights.layers[0].b_r, "{what}");
            assert!(gradients.weights.layers[0].b_w.is_empty());
            let same = bits(&one.train(&device, strategy).0.y.data) == bits(&out.y.data);
            assert_eq!(same, joined, "{what}");
        }
    }
}

/// A direction has its own set: the reverse half of a bidirectional layer is the reverse layer with that set.
#[test]
fn each_direction_has_its_own_set() {
    for (cell, proj_size) in cells_and_projections(3) {
        let (base, count) = (base(cell, proj_size), cell.activations.len());
        let sets = [some(2, count), some(6, count)];
        let both =
            case(&RnnConfig { direction: Direction::Bidirectional, activations: sets.concat(), ..base.clone() }, 305);
        for (device, strategy) in executors_for(cell, proj_size) {
            let whole = both.run(&device, strategy);
            for (d, direction) in [Direction::Forward, Direction::Reverse].into_iter().enumerate() {
                let mut half = case(&RnnConfig { direction, activations: sets[d].clone(), ..base.clone() }, 305);
                half.weights.layers[0].clone_from(&both.weights.layers[d]);
                let n = half.h0.len();
                half.h0.copy_from_slice(&both.h0[d * n..][..n]);
                let n = half.c0.len();
                half.c0.copy_from_slice(&both.c0[d * n..][..n]);
                let y: Vec<f32> = half.run(&device, strategy).y.data;
                let width = base.state_size();
                let part: Vec<f32> =
                    whole.y.data.chunks(2 * width).flat_map(|row| row[d * width..][..width].to_vec()).collect();
                assert_eq!(bits(&part), bits(&y), "{} {direction:?} on {} with {strategy}", cell.name, device.kind());
            }
        }
    }
}

fn refused(config: &RnnConfig) -> String {
    match config.validate() {
        Err(e @ (Error::Mismatch { .. } | Error::Unsupported { .. })) => e.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn variants_that_cannot_be_are_refused() {
    let gru = RnnConfig::gru(1, 1);
    let acts = |n: usize| RnnConfig { activations: some(0, n), ..gru.clone() };
    assert_eq!(refused(&acts(4)), "activations of gru: expected 2 (f, g), got 4");
    let both = RnnConfig { direction: Direction::Bidirectional, ..acts(3) };
    assert_eq!(refused(&both), "activations of gru: expected 2 (f, g) or 4 (forward, reverse), got 3");
    assert!(RnnConfig { activations: some(0, 4), ..both }.validate().is_ok());
    for alpha in [f32::NAN, f32::INFINITY] {
        let activations = vec![Activation::Sigmoid, Activation::Elu { alpha }];
        let got = refused(&RnnConfig { activations, ..gru.clone() });
        assert_eq!(got, format!("activations of gru: expected finite alpha and beta, got elu({alpha})"));
    }
    for limit in [0.0, -1.0, f32::NAN] {
        let got = refused(&RnnConfig { clip: Some(limit), ..gru.clone() });
        assert_eq!(got, format!("clip: expected a threshold above 0, got {limit}"));
        let got = refused(&RnnConfig { cell_clip: Some(limit), cell: &cells::LSTM, ..gru.clone() });
        assert_eq!(got, format!("cell_clip: expected a threshold above 0, got {limit}"));
    }
    for cell in cells::ALL.into_iter().filter(|c| c.options.is_empty()) {
        let name = cell.name;
        let got = refused(&RnnConfig { cell, cell_clip: Some(1.0), ..gru.clone() });
        assert_eq!(got, format!("not supported: cell_clip with {name}: it clips the cell state of an LSTM"));
        let got = refused(&RnnConfig { cell, input_forget: true, ..gru.clone() });
        assert_eq!(got, format!("not supported: input_forget with {name}: it couples the gates of an LSTM"));
    }
}
