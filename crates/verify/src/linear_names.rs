//! How goldens of linear recurrences store what a run reads and gives: names, shapes and orders of axes of every kind.

use super::golden::Reader;
use super::naive_linear::Problem;
use wgpu_rnn::rule::Rule;
use wgpu_rnn::{Result, Shape, rules};

/// How the golden stores what a port reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// `[B, width, T]`
    Channels,
    /// `[B, T, width]`
    Batch,
    /// Once for all steps.
    Once,
    /// −e^x once for all steps.
    OnceExp,
    /// Not: zeros.
    Not,
}

/// A tensor of the golden.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub stored: Stored,
}

#[derive(Clone, Debug)]
pub(super) struct Names {
    pub ports: Vec<Name>,
    pub gate: Option<Name>,
    pub y: Name,
    pub state: State,
}

/// How the golden stores states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As executors do; the initial one is zeros.
    Last(&'static str),
    /// As executors do: first and last.
    Both(&'static str, &'static str),
    /// aa, bb, pp; with gradients of the initial ones or without.
    Fractions(bool),
}

/// Sizes of a golden.
pub(super) struct Sizes {
    pub shape: Shape,
    pub rule: &'static Rule,
    /// Heads, K, V.
    pub scan: [usize; 3],
}

/// Bytes that the naive loop takes of one value of the state at one step, for its gradients: about a dozen operations on the tape, of
/// 32 bytes and 8 of a derivative, in a list that doubles as it grows.
const TAPE: u64 = 1 << 10;

/// Sizes of a run, small enough for this machine.
fn sized(reader: &Reader<'_>, rule: &'static Rule, shape: Shape, scan: [usize; 3]) -> Result<Sizes> {
    shape.validate().map_err(|e| reader.in_file(e))?;
    let [heads, keys, values] = scan;
    if scan.contains(&0) {
        return Err(reader.mismatch("sizes of the state", "at least 1", format!("{scan:?}")));
    }
    reader.check_memory("states of all steps", &[shape.time, shape.batch, heads, keys, values], TAPE)?;
    Ok(Sizes { shape, rule, scan })
}

pub(super) fn mamba(reader: &Reader<'_>) -> Result<(Sizes, Names)> {
    let shape = Shape { time: reader.size("T", None)?, batch: reader.size("B", None)? };
    let (channels, states) = (reader.size("D", None)?, reader.size("N", None)?);
    if !reader.flag("delta_softplus", true)? {
        return Err(reader.mismatch("delta_softplus", "true", "false"));
    }
    let sizes = sized(reader, &rules::MAMBA, shape, [channels, states, 1])?;
    let moving = |name, width| Name { name, shape: vec![shape.batch, width, shape.time], stored: Stored::Channels };
    let optional = |name, flag| {
        let stored = if reader.flag(flag, true)? { Stored::Once } else { Stored::Not };
        Ok(Name { name, shape: vec![channels], stored })
    };
    let ports = vec![
        moving("u", channels),
        moving("delta", channels),
        moving("B", states),
        moving("C", states),
        Name { name: "A", shape: vec![channels, states], stored: Stored::OnceExp },
        optional("D", "skip")?,
        optional("delta_bias", "delta_bias")?,
    ];
    let gate = reader.flag("z", true)?.then(|| moving("z", channels));
    Ok((sizes, Names { ports, gate, y: moving("y", channels), state: State::Last("last_state") }))
}

pub(super) fn rwkv4(reader: &Reader<'_>) -> Result<(Sizes, Names)> {
    let shape = Shape { time: reader.size("T", None)?, batch: reader.size("B", None)? };
    let channels = reader.size("C", None)?;
    let sizes = sized(reader, &rules::RWKV4, shape, [channels, 1, 1])?;
    let moving = |name| Name { name, shape: vec![shape.batch, shape.time, channels], stored: Stored::Batch };
    let once = |name| Name { name, shape: vec![channels], stored: Stored::Once };
    let ports = vec![moving("k"), moving("v"), once("time_decay"), once("time_first")];
    let state = State::Fractions(reader.flag("state", false)?);
    Ok((sizes, Names { ports, gate: None, y: moving("y"), state }))
}

pub(super) fn rwkv_matrix(reader: &Reader<'_>, rule: &'static Rule) -> Result<(Sizes, Names)> {
    let shape = Shape { time: reader.size("T", None)?, batch: reader.size("B", None)? };
    let (heads, width) = (reader.size("H", None)?, reader.size("N", None)?);
    let sizes = sized(reader, rule, shape, [heads, width, width])?;
    let name = |name, stored| {
        let shape = match stored {
            Stored::Batch => vec![shape.batch, shape.time, heads, width],
            _ => vec![heads, width],
        };
        Name { name, shape, stored }
    };
    let inputs = rule.inputs.iter().map(|p| name(p.name, Stored::Batch));
    let ports = inputs.chain(rule.params.iter().map(|p| name(p.name, Stored::Once))).collect();
    Ok((sizes, Names { ports, gate: None, y: name("y", Stored::Batch), state: State::Both("s0", "s") }))
}

/// `in.<name>`, time-major.
pub(super) fn input(reader: &mut Reader<'_>, name: &Name, shape: Shape) -> Result<Vec<f64>> {
    if name.stored == Stored::Not {
        return Ok(vec![0.0; name.shape.iter().product()]);
    }
    let full = format!("in.{}", name.name);
    let mut values = reader.tensor(&full, &name.shape)?.data;
    if name.stored == Stored::OnceExp {
        if let Some(wrong) = values.iter().find(|v| **v >= 0.0) {
            return Err(reader.mismatch(&full, "values below 0", wrong));
        }
        values.iter_mut().for_each(|v| *v = (-*v).ln());
    }
    Ok(time_major(name, shape, values))
}

/// The state before the first step, as executors lay it out.
pub(super) fn initial(reader: &mut Reader<'_>, state: &State, problem: &Problem<f64>) -> Result<Vec<f64>> {
    let (batch, heads) = (problem.shape.batch, problem.sizes[0]);
    match state {
        State::Last(_) => Ok(vec![0.0; batch * problem.state_size()]),
        State::Both(first, _) => Ok(reader.tensor(&format!("in.{first}"), &state_shape(problem))?.data),
        State::Fractions(given) => {
            let mut part = |name: &str| reader.tensor(name, &[batch, heads]).map(|t| t.data);
            let pp = part("in.pp")?;
            let zeros = || vec![0.0; batch * heads];
            let (aa, bb) = if *given { (part("in.aa")?, part("in.bb")?) } else { (zeros(), zeros()) };
            let rows = aa.chunks_exact(heads).zip(bb.chunks_exact(heads)).zip(pp.chunks_exact(heads));
            let row = |((aa, bb), pp): ((&[f64], &[f64]), &[f64])| {
                let pairs = aa.iter().zip(bb).flat_map(|(a, b)| [*a, *b]);
                pairs.chain(pp.iter().copied()).collect::<Vec<f64>>()
            };
            Ok(rows.flat_map(row).collect())
        }
    }
}

/// `[B, heads, columns, K]`, or without the dimension of a single column.
pub(super) fn state_shape(problem: &Problem<f64>) -> Vec<usize> {
    let ([heads, keys, values], batch) = (problem.sizes, problem.shape.batch);
    if values == 1 && problem.rule == &rules::MAMBA {
        vec![batch, heads, keys]
    } else {
        vec![batch, heads, values, keys]
    }
}

/// Where the golden's value of step t, sequence b, column c is.
fn place(name: &Name, time: usize, width: usize) -> impl Fn([usize; 3]) -> usize {
    let channels = name.stored == Stored::Channels;
    move |[t, b, c]| if channels { (b * width + c) * time + t } else { (b * time + t) * width + c }
}

fn indices(Shape { time, batch }: Shape, width: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..time * batch * width).map(move |n| [n / width / batch, n / width % batch, n % width])
}

/// From the golden's order to `[T, B, width]`; parameters stay as they are.
pub(super) fn time_major(name: &Name, shape: Shape, values: Vec<f64>) -> Vec<f64> {
    if !matches!(name.stored, Stored::Channels | Stored::Batch) {
        return values;
    }
    let width = values.len() / (shape.time * shape.batch);
    let place = place(name, shape.time, width);
    indices(shape, width).map(|at| values[place(at)]).collect()
}

/// And back.
pub(super) fn time_minor(name: &Name, shape: Shape, values: &[f64]) -> Vec<f64> {
    let mut out = values.to_vec();
    if matches!(name.stored, Stored::Channels | Stored::Batch) {
        let width = values.len() / (shape.time * shape.batch);
        let place = place(name, shape.time, width);
        indices(shape, width).zip(values).for_each(|(at, v)| out[place(at)] = *v);
    }
    out
}
