//! The loops: one step of a naive cell at a time, mixed with the values before it, there and back.

use super::harness::*;
use wgpu_rnn::num::random::{MaskKind, Masks};
use wgpu_rnn::weights::{Field, LayerWeights, parameters};
use wgpu_rnn::*;
use wgpu_rnn_verify::{naive, naive_backward, tolerance};

/// What a run reads, in either precision.
#[derive(Clone)]
pub struct Numbers<T: Element> {
    pub x: Vec<T>,
    pub h0: Vec<T>,
    pub c0: Vec<T>,
    pub weights: Weights<T>,
}

impl<T: Element> Numbers<T> {
    pub fn of(case: &Case) -> Self {
        Self { x: cast(&case.x), h0: cast(&case.h0), c0: cast(&case.c0), weights: case.weights.cast() }
    }
}

/// One layer and direction of a case, a step of a sequence at a time.
struct OneStep<T: Element> {
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
fn shares<T: Element>(case: &Case, masks: Option<Masks>, entry: usize, b: usize, t: usize) -> [Vec<T>; 2] {
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
        of(cell, MaskKind::ZoneoutCell, case.config.cell_size()),
    ]
}

/// What a step read: x, h and c before it, how much it keeps, and whether an episode begins there.
pub struct Read<T> {
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
        Self { case, directions: config.directions(), p: config.state_size(), n: config.cell_size() }
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
pub fn there<T: naive::Scalar>(
    case: &Case,
    numbers: &Numbers<T>,
    masks: Option<Masks>,
) -> (Output<T>, Vec<Vec<Read<T>>>) {
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
    (
        Output {
            y: Tensor { data: input, shape: case.y_shape() },
            hn: Tensor { data: hn, shape: h_shape },
            cn,
            predictions: None,
        },
        tape,
    )
}

/// And back.
pub fn back<T: naive::Scalar>(case: &Case, numbers: &Numbers<T>, tape: &[Vec<Read<T>>]) -> Gradients<T> {
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
pub fn all<T: Element>(case: &Case, (out, gradients): &(Output<T>, Gradients<T>)) -> Vec<Named<T>> {
    outputs(out).into_iter().chain(named(&case.config, gradients)).collect()
}

pub fn outputs<T: Element>(out: &Output<T>) -> Vec<Named<T>> {
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
pub fn truth_of(case: &Case, masks: Option<Masks>) -> Vec<(Named<f64>, f64)> {
    let bound = |((_, rounded), truth): (Named<f32>, Named<f64>)| {
        let error = tolerance::error(&cast::<f64>(&rounded), &truth.1);
        let bound = tolerance::bound_f32(tolerance::scale(&truth.1), error);
        (truth, bound)
    };
    plain::<f32>(case, masks).into_iter().zip(plain::<f64>(case, masks)).map(bound).collect()
}
