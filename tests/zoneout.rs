//! Zoneout: against loops that mix what [`wgpu_rnn::verify::naive`]'s cells make of one step with the values before it, by the
//! documented masks or by the expectation; and the laws.

mod harness;

use harness::*;
use wgpu_rnn::cpu::random::{MaskKind, Masks};
use wgpu_rnn::verify::{naive, naive_backward, tolerance};
use wgpu_rnn::weights::{Field, LayerWeights, parameters};
use wgpu_rnn::*;

const SEED: u64 = 5;

fn config(cell: &'static Cell, proj_size: usize) -> RnnConfig {
    let cell_share = if cell.has_cell_state() { 0.4 } else { 0.0 };
    RnnConfig {
        cell,
        input_size: 3,
        hidden_size: 6,
        num_layers: 2,
        direction: Direction::Bidirectional,
        proj_size,
        zoneout: Zoneout { hidden: 0.3, cell: cell_share },
        ..Default::default()
    }
}

/// Two layers, both directions, odd sizes, ragged.
fn ragged(cell: &'static Cell, proj_size: usize) -> Case {
    Case::new(config(cell, proj_size), 5, 4, 41).with_lengths(&[2, 5, 1, 4])
}

/// What a run reads, in either precision.
#[derive(Clone)]
struct Numbers<T: Real> {
    x: Vec<T>,
    h0: Vec<T>,
    c0: Vec<T>,
    weights: Weights<T>,
}

impl<T: Real> Numbers<T> {
    fn of(case: &Case) -> Self {
        Self { x: cast(&case.x), h0: cast(&case.h0), c0: cast(&case.c0), weights: case.weights.cast() }
    }
}

/// One layer and direction of a case, a step of a sequence at a time.
struct OneStep<T: Real> {
    config: RnnConfig,
    weights: Weights<T>,
}

impl<T: naive::Scalar> OneStep<T> {
    fn new(case: &Case, layers: &[LayerWeights<T>], entry: usize) -> Self {
        let layer = entry / case.config.directions();
        let config = RnnConfig {
            input_size: case.config.layer_input_size(layer),
            num_layers: 1,
            direction: Direction::Forward,
            zoneout: Zoneout::default(),
            ..case.config.clone()
        };
        Self { config, weights: Weights { layers: vec![layers[entry].clone()], ..Default::default() } }
    }

    fn with<R>(&self, (x, h, c): (&[T], &[T], &[T]), run: impl FnOnce(&Input<'_, T>) -> R) -> R {
        let (x_shape, [h_shape, c_shape]) = ([1, x.len()], [h, c].map(|v| [1, v.len()]));
        let c0 = self.config.cell.has_cell_state().then(|| View::new(c, &c_shape));
        let initial = Initial::Given { h0: Some(View::new(h, &h_shape)), c0 };
        run(&Input { initial, ..Input::new(View::new(x, &x_shape)) })
    }

    /// What the cell makes of h and c.
    fn forward(&self, read: (&[T], &[T], &[T])) -> (Vec<T>, Vec<T>) {
        let out = self.with(read, |input| naive::forward(&self.config, &self.weights, input).unwrap());
        (out.hn.data, out.cn.map_or_else(|| read.2.to_vec(), |c| c.data))
    }

    fn backward(&self, read: (&[T], &[T], &[T]), d_h: &[T], d_c: &[T]) -> Gradients<T> {
        let [h, c] = [d_h, d_c].map(|d| [1, d.len()]);
        let cn = self.config.cell.has_cell_state().then(|| View::new(d_c, &c));
        let up = Upstream { y: None, hn: Some(View::new(d_h, &h)), cn };
        self.with(read, |input| naive_backward::backward(&self.config, &self.weights, input, &up).unwrap())
    }
}

/// m∘old + (1 − m)∘new
fn mixed<T: naive::Scalar>(m: &[T], old: &[T], new: &[T]) -> Vec<T> {
    m.iter().zip(old.iter().zip(new)).map(|(&m, (&old, &new))| m * old + (T::from_f64(1.0) - m) * new).collect()
}

/// How much every unit keeps at a time step: by masks, or the expectation.
fn shares<T: Real>(case: &Case, masks: Option<Masks>, entry: usize, b: usize, t: usize) -> [Vec<T>; 2] {
    let Zoneout { hidden, cell } = case.config.zoneout;
    let of = |p: f32, kind: MaskKind, n: usize| {
        let one = |unit: usize| match masks {
            Some(masks) => f64::from(u8::from(masks.drops(p, kind, entry, b, t, unit))),
            None => f64::from(p),
        };
        (0..n).map(|unit| T::from_f64(one(unit))).collect()
    };
    [
        of(hidden, MaskKind::ZoneoutHidden, case.config.state_size()),
        of(cell, MaskKind::ZoneoutCell, case.config.hidden_size),
    ]
}

/// What a step read: x, h and c before it, how much it keeps, and whether an episode begins there.
struct Read<T> {
    row: usize,
    x: Vec<T>,
    h: Vec<T>,
    c: Vec<T>,
    m: [Vec<T>; 2],
    begins: bool,
}

/// The sizes of a case, and where its steps are in time-major rows.
struct Walk<'a> {
    case: &'a Case,
    directions: usize,
    p: usize,
    n: usize,
}

impl<'a> Walk<'a> {
    fn new(case: &'a Case) -> Self {
        let config = &case.config;
        Self { case, directions: config.directions(), p: config.state_size(), n: config.hidden_size }
    }

    /// The time steps of sequence `b`, in the order of a direction.
    fn times(&self, direction: usize, b: usize) -> Vec<usize> {
        let length = self.case.lengths.as_ref().map_or(self.case.shape.time, |l| l[b]);
        match self.case.config.direction == Direction::Reverse || direction == 1 {
            true => (0..length).rev().collect(),
            false => (0..length).collect(),
        }
    }

    /// Whether an episode begins there; the reverse direction comes to it from its end.
    fn begins(&self, direction: usize, b: usize, t: usize) -> bool {
        let times = self.times(direction, b);
        let first = if times.first() > times.last() { t + 1 } else { t };
        self.case.resets.is_some() && first <= times.iter().copied().max().unwrap_or(0) && {
            self.case.flags[first * self.case.shape.batch + b]
        }
    }
}

/// Outputs over time-major values, as plainly as they can be, and per layer and direction what every step read.
fn there<T: naive::Scalar>(case: &Case, numbers: &Numbers<T>, masks: Option<Masks>) -> (Output<T>, Vec<Vec<Read<T>>>) {
    let (walk, batch, config) = (Walk::new(case), case.shape.batch, &case.config);
    let Walk { directions, p, n, .. } = walk;
    let (mut hn, mut cn) = (numbers.h0.clone(), numbers.c0.clone());
    let (mut input, mut tape) = (numbers.x.clone(), Vec::new());
    for layer in 0..config.num_layers {
        let width = config.layer_input_size(layer);
        let mut y = vec![T::default(); case.shape.time * batch * directions * p];
        for direction in 0..directions {
            let entry = layer * directions + direction;
            let step = OneStep::new(case, &numbers.weights.layers, entry);
            let mut reads = Vec::new();
            for b in 0..batch {
                let (h_at, c_at) = ((entry * batch + b) * p, (entry * batch + b) * n);
                for t in walk.times(direction, b) {
                    let row = t * batch + b;
                    let begins = walk.begins(direction, b, t);
                    let (h, c) = match (begins, case.resets) {
                        (true, Some(Reset::Initial)) => (&numbers.h0[h_at..][..p], &numbers.c0[c_at..][..n]),
                        _ => (&hn[h_at..][..p], &cn[c_at..][..n]),
                    };
                    let (mut h, mut c) = (h.to_vec(), c.to_vec());
                    if begins && case.resets == Some(Reset::Zero) {
                        h.fill(T::default());
                        c.fill(T::default());
                    }
                    let x = input[row * width..][..width].to_vec();
                    let (new_h, new_c) = step.forward((&x, &h, &c));
                    let m = shares(case, masks, entry, b, t);
                    hn[h_at..][..p].copy_from_slice(&mixed(&m[0], &h, &new_h));
                    cn[c_at..][..n].copy_from_slice(&mixed(&m[1], &c, &new_c));
                    y[(row * directions + direction) * p..][..p].copy_from_slice(&hn[h_at..][..p]);
                    reads.push(Read { row, x, h, c, m, begins });
                }
            }
            tape.push(reads);
        }
        input = y;
    }
    let [h_shape, c_shape] = case.state_shapes();
    let cn = config.cell.has_cell_state().then_some(Tensor { data: cn, shape: c_shape });
    (Output { y: Tensor { data: input, shape: case.y_shape() }, hn: Tensor { data: hn, shape: h_shape }, cn }, tape)
}

/// And back.
fn back<T: naive::Scalar>(case: &Case, numbers: &Numbers<T>, tape: &[Vec<Read<T>>]) -> Gradients<T> {
    let (walk, batch, config) = (Walk::new(case), case.shape.batch, &case.config);
    let Walk { directions, p, n, .. } = walk;
    let one = T::from_f64(1.0);
    let (mut dh0, mut dc0) = (cast::<T>(&case.dhn), cast::<T>(&case.dcn));
    let mut weights = numbers.weights.clone();
    parameters(config).iter().for_each(|p| weights.get_mut(p.place).fill(T::default()));
    let add = |to: &mut [T], d: &[T]| to.iter_mut().zip(d).for_each(|(to, &d)| *to = *to + d);
    let mut d_y = cast::<T>(&case.dy);
    for layer in (0..config.num_layers).rev() {
        let width = config.layer_input_size(layer);
        let mut d_x = vec![T::default(); case.shape.time * batch * width];
        for direction in 0..directions {
            let entry = layer * directions + direction;
            let step = OneStep::new(case, &numbers.weights.layers, entry);
            let mut reads = tape[entry].iter().rev();
            for b in (0..batch).rev() {
                let (h_at, c_at) = ((entry * batch + b) * p, (entry * batch + b) * n);
                let (mut d_h, mut d_c) = (dh0[h_at..][..p].to_vec(), dc0[c_at..][..n].to_vec());
                let mut initial = (vec![T::default(); p], vec![T::default(); n]);
                for read in reads.by_ref().take(walk.times(direction, b).len()) {
                    add(&mut d_h, &d_y[(read.row * directions + direction) * p..][..p]);
                    let rest = |m: &[T], d: &[T]| -> Vec<T> { m.iter().zip(d).map(|(&m, &d)| (one - m) * d).collect() };
                    let stays = |m: &[T], d: &[T]| -> Vec<T> { m.iter().zip(d).map(|(&m, &d)| m * d).collect() };
                    let (new_h, new_c) = (rest(&read.m[0], &d_h), rest(&read.m[1], &d_c));
                    (d_h, d_c) = (stays(&read.m[0], &d_h), stays(&read.m[1], &d_c));
                    let d = step.backward((&read.x, &read.h, &read.c), &new_h, &new_c);
                    add(&mut d_h, &d.h0.data);
                    if let Some(c0) = &d.c0 {
                        add(&mut d_c, &c0.data);
                    }
                    add(&mut d_x[read.row * width..][..width], &d.x.data);
                    for field in Field::ALL {
                        add(weights.layers[entry].get_mut(field), d.weights.layers[0].get(field));
                    }
                    if read.begins {
                        add(&mut initial.0, &d_h);
                        add(&mut initial.1, &d_c);
                        d_h.fill(T::default());
                        d_c.fill(T::default());
                    }
                }
                if case.resets == Some(Reset::Initial) {
                    add(&mut d_h, &initial.0);
                    add(&mut d_c, &initial.1);
                }
                dh0[h_at..][..p].copy_from_slice(&d_h);
                dc0[c_at..][..n].copy_from_slice(&d_c);
            }
        }
        d_y = d_x;
    }
    let [h_shape, c_shape] = case.state_shapes();
    let c0 = config.cell.has_cell_state().then_some(Tensor { data: dc0, shape: c_shape });
    Gradients { x: Tensor { data: d_y, shape: case.x_shape() }, h0: Tensor { data: dh0, shape: h_shape }, c0, weights }
}

/// Outputs and gradients by name.
fn all<T: Real>(case: &Case, (out, gradients): &(Output<T>, Gradients<T>)) -> Vec<Named<T>> {
    outputs(out).into_iter().chain(named(&case.config, gradients)).collect()
}

fn outputs<T: Real>(out: &Output<T>) -> Vec<Named<T>> {
    let list = [("y", Some(&out.y)), ("hn", Some(&out.hn)), ("cn", out.cn.as_ref())];
    list.into_iter().filter_map(|(name, t)| t.map(|t| (format!("out {name}"), t.data.clone()))).collect()
}

fn plain<T: naive::Scalar>(case: &Case, masks: Option<Masks>) -> Vec<Named<T>> {
    let numbers = Numbers::<T>::of(case);
    let (out, tape) = there(case, &numbers, masks);
    let gradients = back(case, &numbers, &tape);
    all(case, &(out, gradients))
}

/// Per tensor, the truth and what f32 may be off.
fn truth_of(case: &Case, masks: Option<Masks>) -> Vec<(Named<f64>, f64)> {
    let bound = |((_, rounded), truth): (Named<f32>, Named<f64>)| {
        let error = tolerance::error(&cast::<f64>(&rounded), &truth.1);
        let bound = tolerance::bound_f32(tolerance::scale(&truth.1), error);
        (truth, bound)
    };
    plain::<f32>(case, masks).into_iter().zip(plain::<f64>(case, masks)).map(bound).collect()
}

fn assert_within(what: &str, got: &[Named<f64>], truth: &[(Named<f64>, f64)]) {
    assert!(!got.is_empty());
    for ((name, got), ((expected, truth), bound)) in got.iter().zip(truth) {
        assert_eq!(name, expected);
        let error = tolerance::error(got, truth);
        assert!(error <= *bound, "{what}: {name} is off by {error:e}, more than {bound:e}");
    }
}

fn wide(values: Vec<Named<f32>>) -> Vec<Named<f64>> {
    values.into_iter().map(|(name, v)| (name, cast(&v))).collect()
}

/// Forward and back in run 0 of a seed, over NaN-filled memory.
fn seeded(case: &Case, session: &mut Session, seed: u64) -> (Output<f32>, Gradients<f32>) {
    session.set_seed(seed);
    case.poisoned(session)
}

/// The cases: every cell with all of it; some with h only, c only; always and never; read backwards, with one bias; with episodes.
fn cases(cell: &'static Cell, proj_size: usize) -> Vec<Case> {
    let whole = ragged(cell, proj_size);
    if ![&cells::LSTM, &cells::GRU_RESET_BEFORE].contains(&cell) {
        return vec![whole];
    }
    let with = |hidden: f32, share: f32, direction: Direction, seed: u64| {
        let zoneout = Zoneout { hidden, cell: if cell.has_cell_state() { share } else { 0.0 } };
        let config = RnnConfig { zoneout, direction, num_layers: 1, bias: Bias::One, ..whole.config.clone() };
        Case::new(config, 4, 3, seed)
    };
    let mut list = vec![
        with(0.5, 0.0, Direction::Reverse, 42).with_lengths(&[1, 4, 3]),
        with(0.2, 0.3, Direction::Bidirectional, 43).with_resets(Reset::Initial, &[(1, 0), (3, 1), (2, 1)]),
    ];
    if cell.has_cell_state() {
        list.push(with(0.0, 0.5, Direction::Forward, 44).with_lengths(&[4, 2, 3]));
        list.push(with(1.0, 0.2, Direction::Forward, 45).with_resets(Reset::Zero, &[(2, 0), (2, 2)]));
    }
    list.push(whole);
    list
}

#[test]
fn executors_compute_what_the_plain_loops_do() {
    for (cell, proj_size) in cells_and_projections(4) {
        for case in cases(cell, proj_size) {
            let masks = Masks::new(SEED, 0);
            let (masked, mean) = (truth_of(&case, Some(masks)), truth_of(&case, None));
            let what = format!("{} P={proj_size} {:?} {:?}", cell.name, case.config.zoneout, case.resets);
            let exact = |truth: &[(Named<f64>, f64)]| -> Vec<(Named<f64>, f64)> {
                truth.iter().map(|(t, _)| (t.clone(), tolerance::bound_f64(tolerance::scale(&t.1)))).collect()
            };
            let mut oracle = case.training::<f64>(&Device::cpu(), Options::default());
            oracle.set_seed(SEED);
            assert_within(&format!("{what}, f64"), &all(&case, &case.train_in(&mut oracle)), &exact(&masked));
            oracle.set_dropout(false);
            assert_within(&format!("{what}, f64 off"), &all(&case, &case.train_in(&mut oracle)), &exact(&mean));
            for (device, strategy) in executors() {
                let what = format!("{what} on {} with {strategy}", device.kind());
                let mut session = case.training(&device, forced(strategy));
                assert_within(&what, &wide(all(&case, &seeded(&case, &mut session, SEED))), &masked);
                session.set_dropout(false);
                let off = case.poisoned(&mut session);
                assert_within(&format!("{what}, off"), &wide(all(&case, &off)), &mean);
                // Off, a plan that trains is one that does not.
                let inference = case.run(&device, strategy);
                assert_same(&what, &off.0, &inference);
                assert_within(&format!("{what}, inference"), &wide(outputs(&inference)), &mean);
            }
        }
    }
}

/// Σ up ∘ out of the plain loops, and the size of what is added up.
fn loss(case: &Case, numbers: &Numbers<f64>, masks: Option<Masks>) -> (f64, f64) {
    let (out, _) = there(case, numbers, masks);
    let none = Vec::new();
    let cn = out.cn.as_ref().map_or(&none, |t| &t.data);
    let pairs = [(&case.dy, &out.y.data), (&case.dhn, &out.hn.data), (&case.dcn, cn)];
    let products = pairs.into_iter().flat_map(|(up, v)| up.iter().zip(v).map(|(&u, v)| f64::from(u) * v));
    products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
}

/// The adjoint rests on nothing but the loops' way there: as in tests/backward/derivatives.rs the difference at h is off by a
/// third of its distance to the one at 2h and by the rounding of the losses.
#[test]
fn gradients_are_central_differences_of_the_loops() {
    let h = f64::EPSILON.cbrt();
    for (cell, proj_size) in cells_and_projections(4) {
        let case = ragged(cell, proj_size);
        for masks in [Some(Masks::new(SEED, 0)), None] {
            let mut session = case.training::<f64>(&Device::cpu(), Options::default());
            session.set_seed(SEED);
            session.set_dropout(masks.is_some());
            let got = named(&case.config, &case.train_in(&mut session).1);
            let places = parameters(&case.config);
            for (name, gradient) in &got {
                let count = gradient.len();
                for at in [0, count / 3, count / 2, count - 1] {
                    let moved = |by: f64| {
                        let mut numbers = Numbers::of(&case);
                        let values = match name.as_str() {
                            "x" => &mut numbers.x,
                            "h0" => &mut numbers.h0,
                            "c0" => &mut numbers.c0,
                            _ => numbers.weights.get_mut(places.iter().find(|p| p.name == *name).unwrap().place),
                        };
                        values[at] += by;
                        loss(&case, &numbers, masks)
                    };
                    let central = |h: f64| (moved(h).0 - moved(-h).0) / (2.0 * h);
                    let (near, far, size) = (central(h), central(2.0 * h), moved(0.0).1);
                    let bound = (far - near).abs() + 16.0 * f64::EPSILON * size / h;
                    let what = format!("{} P={proj_size} {name}[{at}]", cell.name);
                    assert!(bound < 1e-7 * size, "{what}: no derivative here ({near} and {far})");
                    let error = (near - gradient[at]).abs();
                    assert!(error <= bound, "{what} is {}, not {near} within {bound:e}", gradient[at]);
                }
            }
        }
    }
}

/// A unit that keeps its value keeps its bits, on the documented masks; and some do, some do not.
#[test]
fn what_is_kept_is_kept_to_the_bit() {
    let config = RnnConfig { num_layers: 1, direction: Direction::Forward, ..config(&cells::LSTM, 0) };
    let case = Case::new(config, 6, 2, 46);
    for (device, strategy) in executors() {
        let out = seeded(&case, &mut case.training(&device, forced(strategy)), 7).0;
        let (masks, n) = (Masks::new(7, 0), 6);
        let mut before = bits(&case.h0);
        let mut kept = 0;
        for (t, h) in out.y.data.chunks(2 * n).enumerate() {
            let h = bits(h);
            for (i, (a, b)) in before.iter().zip(&h).enumerate() {
                let keeps = masks.drops(0.3, MaskKind::ZoneoutHidden, 0, i / n, t, i % n);
                assert_eq!(a == b, keeps, "{} {strategy} t={t} {i}", device.kind());
                kept += usize::from(keeps);
            }
            before = h;
        }
        assert!((5..67).contains(&kept), "{kept} of 72");
    }
}

/// Of n draws, p·n keep, within five standard deviations, and those of h and of c differ.
#[test]
fn the_kept_share_is_p() {
    let masks = Masks::new(3, 1);
    let n = 200_000;
    let draw = |kind, i: usize| masks.drops(0.25, kind, 2, i / 1000 % 10, i / 10_000, i % 1000);
    let mut both = 0;
    for kind in [MaskKind::ZoneoutHidden, MaskKind::ZoneoutCell] {
        let kept = (0..n).filter(|&i| draw(kind, i)).count() as f64;
        let (n, p) = (f64::from(n as u32), 0.25);
        assert!((kept - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{kind:?}: {kept}");
    }
    both += (0..n).filter(|&i| draw(MaskKind::ZoneoutHidden, i) && draw(MaskKind::ZoneoutCell, i)).count();
    let expected = n as f64 / 16.0;
    assert!((both as f64 - expected).abs() < 5.0 * expected.sqrt(), "{both} keep both");
    let all = (0..1000).filter(|&i| masks.drops(1.0, MaskKind::ZoneoutHidden, 0, 0, 0, i)).count();
    let none = (0..1000).filter(|&i| masks.drops(0.0, MaskKind::ZoneoutHidden, 0, 0, 0, i)).count();
    assert_eq!((all, none), (1000, 0));
}

fn for_all(law: impl Fn(&str, &Case, &Device, Strategy)) {
    for (cell, proj_size) in
        [(&cells::LSTM, 0), (&cells::LSTM, 4), (&cells::GRU_RESET_BEFORE, 0), (&cells::RNN_TANH, 0)]
    {
        for (device, strategy) in executors() {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            law(&what, &ragged(cell, proj_size), &device, strategy);
        }
    }
}

fn same(what: &str, case: &Case, a: &(Output<f32>, Gradients<f32>), b: &(Output<f32>, Gradients<f32>)) {
    assert_same(what, &a.0, &b.0);
    assert_same_gradients(what, &case.config, &a.1, &b.1);
}

#[test]
fn the_seed_and_the_run_decide() {
    for_all(|what, case, device, strategy| {
        let mut session = case.training(device, forced(strategy));
        let first = seeded(case, &mut session, 1);
        let second = case.train_in(&mut session);
        assert!(first.0 != second.0 && first.1.x != second.1.x, "{what}: another run, other masks");
        same(what, case, &first, &seeded(case, &mut session, 1));
        same(what, case, &second, &case.train_in(&mut session));
        assert!(seeded(case, &mut session, 2).0 != first.0, "{what}: another seed, other masks");
    });
}

/// Blocks and checkpoints to the bit; recomputed gates within what f32 costs.
#[test]
fn cuts_do_not_matter() {
    for_all(|what, case, device, strategy| {
        let whole = seeded(case, &mut case.training(device, forced(strategy)), 8);
        let blocks = Options { max_block: Some(3), ..forced(strategy) };
        same(&format!("{what}, blocks"), case, &whole, &seeded(case, &mut case.training(device, blocks), 8));
        // The longest sequence is slow on a software GPU: one cell each with and without a state that holds h.
        if case.config.proj_size == 0 && case.config.cell != &cells::GRU_RESET_BEFORE {
            return;
        }
        let proj_size = if case.config.proj_size > 0 { 2 } else { 0 };
        let config = RnnConfig { hidden_size: 4, proj_size, ..case.config.clone() };
        let long = Case::new(config, 131, 3, 47).with_lengths(&[64, 131, 65]);
        let whole = seeded(&long, &mut long.training(device, forced(strategy)), 9);
        let segments = Options { memory: Memory::Checkpoint(64), ..forced(strategy) };
        let mut session = long.training(device, segments);
        assert_eq!(session.plan().segment, 64);
        same(&format!("{what}, checkpoints"), &long, &whole, &seeded(&long, &mut session, 9));
        let recompute = Options { memory: Memory::Recompute, ..forced(strategy) };
        let again = seeded(&long, &mut long.training(device, recompute), 9);
        let truth = truth_of(&long, Some(Masks::new(9, 0)));
        assert_within(&format!("{what}, recomputed"), &wide(all(&long, &again)), &truth);
    });
}

/// A sequence's masks go with its index in the batch and its time, with nothing else.
#[test]
fn batch_neighbours_do_not_matter() {
    for_all(|what, case, device, strategy| {
        let whole = seeded(case, &mut case.training(device, forced(strategy)), 10);
        let mut alone = case.training(device, forced(strategy)).for_shape(Shape { batch: 1, ..case.shape }).unwrap();
        let first = seeded(&case.alone(0), &mut alone, 10);
        let own = |v: &[f32], width: usize| bits(&sequence(v, 4, width, 0));
        assert_eq!(bits(&first.0.y.data), own(&whole.0.y.data, case.config.output_size()), "{what}: y");
        assert_eq!(bits(&first.0.hn.data), own(&whole.0.hn.data, case.config.state_size()), "{what}: hn");
        assert_eq!(bits(&first.1.x.data), own(&whole.1.x.data, case.config.input_size), "{what}: dx");
        assert_eq!(bits(&first.1.h0.data), own(&whole.1.h0.data, case.config.state_size()), "{what}: dh0");
    });
}

/// In inference, where the expectation is the same in every run; every training run draws masks of its own.
#[test]
fn streaming_is_the_whole_sequence() {
    for (cell, proj_size) in [(&cells::LSTM, 0), (&cells::LSTM, 4), (&cells::GRU, 0)] {
        let config = RnnConfig { direction: Direction::Forward, ..config(cell, proj_size) };
        let case = Case::new(config, 6, 2, 48);
        for (device, strategy) in executors() {
            let whole = case.run(&device, strategy);
            let mut step = case.session(&device, strategy, None).for_shape(Shape { time: 1, batch: 2 }).unwrap();
            let mut y = Vec::new();
            for (t, x) in case.x.chunks(2 * 3).enumerate() {
                let out = case.with_input(|input| {
                    let initial = if t == 0 { input.initial } else { Initial::Carry };
                    step.forward(&Input { initial, ..Input::new(View::new(x, &[1, 2, 3])) }).unwrap()
                });
                y.extend(out.y.data);
            }
            assert_eq!(bits(&y), bits(&whole.y.data), "{} {} {strategy}", cell.name, device.kind());
        }
    }
}

#[test]
fn layouts_agree() {
    let case = ragged(&cells::LSTM, 4);
    let swap = |v: &[f32], rows: usize, columns: usize, width: usize| -> Vec<f32> {
        let at = |c: usize, r: usize| v[(r * columns + c) * width..][..width].to_vec();
        (0..columns).flat_map(|c| (0..rows).flat_map(move |r| at(c, r))).collect()
    };
    let mut first = case.clone();
    first.config.layout = Layout::BatchFirst;
    first.x = swap(&case.x, 5, 4, 3);
    first.dy = swap(&case.dy, 5, 4, case.config.output_size());
    for (device, strategy) in executors() {
        let expected = seeded(&case, &mut case.training(&device, forced(strategy)), 12);
        let got = seeded(&first, &mut first.training(&device, forced(strategy)), 12);
        let back = swap(&got.0.y.data, 4, 5, case.config.output_size());
        assert_eq!(bits(&back), bits(&expected.0.y.data));
        assert_eq!(bits(&swap(&got.1.x.data, 4, 5, 3)), bits(&expected.1.x.data));
    }
}

/// With all of dropout at once: executors and strategies agree as far as f32 goes, by the yardstick of the same network without
/// dropout; so do cuts, to the bit.
#[test]
fn it_goes_with_dropout() {
    for (cell, proj_size) in [(&cells::LSTM, 4), (&cells::GRU, 0), (&cells::GRU_RESET_BEFORE, 0)] {
        let plain = ragged(cell, proj_size);
        let yardstick = truth_of(&plain, Some(Masks::new(SEED, 0)));
        let mut case = plain;
        case.config.dropout = Dropout { layers: 0.2, input: 0.2, recurrent: 0.3 };
        let mut oracle = case.training::<f64>(&Device::cpu(), Options::default());
        oracle.set_seed(SEED);
        let exact = all(&case, &case.train_in(&mut oracle));
        let truth: Vec<_> = exact
            .into_iter()
            .zip(yardstick)
            .map(|(t, ((_, plain), bound))| {
                let grows = tolerance::scale(&t.1) / tolerance::scale(&plain);
                (t, bound * grows.max(1.0))
            })
            .collect();
        for (device, strategy) in executors() {
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let whole = seeded(&case, &mut case.training(&device, forced(strategy)), SEED);
            assert_within(&what, &wide(all(&case, &whole)), &truth);
            for memory in [Memory::Checkpoint(1), Memory::Recompute] {
                let options = Options { memory, max_block: Some(2), ..forced(strategy) };
                let cut = seeded(&case, &mut case.training(&device, options), SEED);
                assert_within(&format!("{what} {memory}"), &wide(all(&case, &cut)), &truth);
            }
        }
    }
}

/// Nothing is ever new: y is h0 at every step, and nothing but h0 has a gradient.
#[test]
fn a_probability_of_1_stops_time() {
    let mut case = ragged(&cells::GRU, 0);
    case.config.num_layers = 1;
    case.config.zoneout.hidden = 1.0;
    let case = Case::new(case.config, 5, 4, 49);
    for (device, strategy) in executors() {
        let (out, back) = seeded(&case, &mut case.training(&device, forced(strategy)), 13);
        assert_eq!(bits(&out.hn.data), bits(&case.h0));
        for (name, gradient) in named(&case.config, &back) {
            assert_eq!(gradient.iter().all(|&g| g == 0.0), name != "h0", "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |cell, hidden, share| {
        let zoneout = Zoneout { hidden, cell: share };
        RnnConfig { cell, zoneout, ..Default::default() }.validate().unwrap_err().to_string()
    };
    assert_eq!(message(&cells::LSTM, 1.5, 0.0), "zoneout.hidden: expected a probability from 0 to 1, got 1.5");
    assert_eq!(message(&cells::LSTM, 0.0, f32::NAN), "zoneout.cell: expected a probability from 0 to 1, got NaN");
    assert!(message(&cells::GRU, 0.1, 0.1).contains("zoneout.cell with gru"));
    let case = ragged(&cells::GRU, 0);
    let refused = case.with_input(|input| naive::forward(&case.config, &case.weights, input).unwrap_err());
    assert!(matches!(refused, Error::Unsupported { .. }));
}

#[cfg(feature = "onnx")]
#[test]
fn onnx_has_no_zoneout() {
    let config = RnnConfig { num_layers: 1, ..config(&cells::LSTM, 0) };
    let weights = Weights::<f32>::random(&config, 1).unwrap();
    let refused = wgpu_rnn::io::onnx::Export::default().bytes(&config, &weights).unwrap_err();
    assert!(
        matches!(refused, Error::Unsupported { .. }) && refused.to_string().contains("zoneout in ONNX"),
        "{refused}"
    );
}
