//! Convolutions and windows: over time, over columns, or over both.
//!
//! A convolution over time with all channels is three operations: a product that makes every tap's part of every output, a depthwise
//! convolution whose taps are one 1 each, which takes each part from its step, and a sum over taps. Over columns it is the product alone,
//! with the matrix that the kernel is when it is laid out.
//!
//! In a model without recurrent nodes nothing says which axis counts steps. A convolved axis is of columns there, unless its matrix would be
//! too large: then it is of steps.

use super::super::super::constant::Constant;
use super::super::axes::Made;
use super::super::lower::{Begin, Lowering, Source};
use super::super::node::Op;
use super::super::value::{Axis, Column, Kind, Laid, Value};
use super::matrix::MOST_GROUPS;
use super::{Row, refused, row};
use wgpu_rnn::expr::{Expr, max};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 3] = [row("Conv", 1, conv), row("MaxPool", 1, pool), row("AveragePool", 1, pool)];

/// Elements of the largest matrix that a kernel is laid out as.
const MOST_OF_ONE: usize = 1 << 25;
/// The same of a kernel of groups.
const MOST_WITH_GROUPS: usize = 1 << 20;
/// Taps of a window, at most.
const MOST_TAPS: usize = 4096;

/// What a window does along one axis.
#[derive(Clone, Copy, Debug)]
struct Window {
    size: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    behind: usize,
}

impl Window {
    fn span(&self) -> usize {
        (self.taps - 1) * self.dilation + 1
    }

    /// Places of the result.
    fn places(&self) -> Result<usize> {
        let padded = self.size + self.before + self.behind;
        let places = padded.checked_sub(self.span()).map(|rest| rest / self.stride + 1);
        places.ok_or_else(|| Error::mismatch("an axis with its pads", format!("at least {}", self.span()), padded))
    }

    /// Whether every place of the result is that of x.
    fn keeps(&self) -> bool {
        self.stride == 1 && self.before + self.behind == self.span() - 1
    }

    /// Whether every place reads itself alone.
    fn is_none(&self) -> bool {
        self.keeps() && self.span() == 1
    }

    /// What tap k of place n reads.
    fn reads(&self, n: usize, k: usize) -> Option<usize> {
        (n * self.stride + k * self.dilation).checked_sub(self.before).filter(|&at| at < self.size)
    }
}

/// The windows over all axes of `x` behind the second.
fn windows(lowering: &mut Lowering<'_>, op: &Op<'_>, x: &Laid, kernel: Option<&[usize]>) -> Made<Vec<Window>> {
    let attributes = op.attributes(lowering.file);
    let axes = x.axes.get(2..).ok_or_else(|| Error::mismatch("X", "[B, C, ...]", x.axes_in_words()))?;
    let list = |name: &str, default: i64| -> Result<Vec<usize>> {
        let list =
            attributes.ints(name)?.unwrap_or_else(|| vec![default; axes.len() * if name == "pads" { 2 } else { 1 }]);
        let size = |&v: &i64| usize::try_from(v).ok().filter(|&v| v <= MOST_TAPS);
        let sizes = list.iter().map(size).collect::<Option<Vec<_>>>();
        sizes.ok_or_else(|| Error::mismatch(name, format!("numbers of 0 to {MOST_TAPS}"), format!("{list:?}")))
    };
    let taps = match kernel {
        Some(kernel) => kernel.to_vec(),
        None => list("kernel_shape", 1)?,
    };
    let (strides, dilations, pads) = (list("strides", 1)?, list("dilations", 1)?, list("pads", 0)?);
    let whole = taps.len() == axes.len() && strides.len() == axes.len() && dilations.len() == axes.len();
    if !whole || pads.len() != 2 * axes.len() || taps.contains(&0) || strides.contains(&0) {
        return Err(
            Error::mismatch("kernel, strides, dilations, pads", format!("{} of each", axes.len()), "others").into()
        );
    }
    if attributes.int("ceil_mode")?.unwrap_or(0) != 0 {
        return Err(refused("ceil_mode", "windows end within the axis"));
    }
    let auto = attributes.text("auto_pad")?.unwrap_or_default();
    let mut all = Vec::new();
    for (n, axis) in axes.iter().enumerate() {
        let mut window = Window {
            size: axis.size,
            taps: taps[n],
            stride: strides[n],
            dilation: dilations[n].max(1),
            before: pads[n],
            behind: pads[n + axes.len()],
        };
        if let "SAME_UPPER" | "SAME_LOWER" = auto.as_str() {
            let places = axis.size.div_ceil(window.stride);
            let pad = ((places - 1) * window.stride + window.span()).saturating_sub(axis.size);
            let more = pad.div_ceil(2);
            (window.before, window.behind) = if auto == "SAME_UPPER" { (pad - more, more) } else { (more, pad - more) };
        } else if auto == "VALID" {
            (window.before, window.behind) = (0, 0);
        }
        if window.taps > MOST_TAPS || window.span() > MOST_TAPS {
            return Err(refused(format!("{} taps", window.span()), format!("at most {MOST_TAPS} are read")));
        }
        all.push(window);
    }
    Ok(all)
}

/// Indices of all places along several axes, in row-major order.
fn every(sizes: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let sizes = sizes.to_vec();
    (0..sizes.iter().product::<usize>()).map(move |mut at| {
        let mut index = vec![0; sizes.len()];
        for (n, &size) in sizes.iter().enumerate().rev() {
            index[n] = at % size;
            at /= size;
        }
        index
    })
}

/// How many products a large kernel of so many groups is.
fn pieces(group: usize) -> usize {
    if group <= MOST_GROUPS { group } else { 1 }
}

/// Whether an axis counts sequences, alone or with steps.
fn of_sequences(axis: &Axis) -> bool {
    matches!(axis.kind, Kind::Batch | Kind::Both { .. })
}

/// The first axis counts sequences, if it counts anything.
fn first_axis(x: &Laid) -> Option<(usize, Kind)> {
    let columns = x.axes.first().is_some_and(|axis| axis.kind == Kind::Columns && axis.size != 1);
    columns.then_some((0, Kind::Batch))
}

/// What the axes of x count in a convolution: channels are columns; of the convolved ones one may count steps, and the rest are columns.
/// `weights`: elements of the matrix between two places.
fn wanted(lowering: &Lowering<'_>, x: &Laid, windows: &[Window], weights: usize) -> Result<Vec<(usize, Kind)>> {
    let mut wanted: Vec<(usize, Kind)> = match x.axes[1].kind {
        Kind::Time if x.axes.len() == 3 => vec![(1, Kind::Columns), (2, Kind::Time)],
        _ => vec![(1, Kind::Columns)],
    };
    wanted.extend(first_axis(x));
    let mut laid_out = weights;
    for window in windows {
        laid_out = laid_out.saturating_mul(window.size).saturating_mul(window.places()?);
    }
    // Too many columns are steps, if nothing has said what they are.
    let open = |n: &usize| {
        let Axis { size, from, .. } = x.axes[n + 2];
        size > 1 && windows[*n].keeps() && from.is_some_and(|place| !lowering.facts.knows(place))
    };
    let steps = x.axes.iter().all(|axis| axis.kind != Kind::Time) && laid_out > MOST_OF_ONE;
    let steps = (0..windows.len()).filter(|_| steps).filter(open).max_by_key(|&n| windows[n].size);
    wanted.extend(steps.map(|n| (n + 2, Kind::Time)));
    let others = (0..windows.len()).filter(|&n| Some(n) != steps && of_sequences(&x.axes[n + 2]));
    wanted.extend(others.map(|n| (n + 2, Kind::Columns)));
    Ok(wanted)
}

fn conv(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let w = op.constant(1).ok_or_else(|| Error::mismatch("W", "a constant", "a value of a run"))?;
    convolved(lowering, op, w, op.constant(2))
}

/// The node's first input, convolved with a kernel.
pub(super) fn convolved(
    lowering: &mut Lowering<'_>,
    op: &Op<'_>,
    w: &Constant,
    bias: Option<&Constant>,
) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let wrong = || Error::mismatch("W", "[M, C / group, kernel]", format!("{:?}", w.shape));
    let (&[outputs, per_group], kernel) = w.shape.split_first_chunk::<2>().ok_or_else(wrong)?;
    let group = op.attributes(lowering.file).int("group")?.unwrap_or(1);
    let group = usize::try_from(group).ok().filter(|&g| g > 0 && outputs % g == 0).ok_or_else(wrong)?;
    let windows = windows(lowering, op, &x, Some(kernel))?;
    if x.axes[1].size != per_group * group {
        return Err(wrong().into());
    }
    lowering.want(&x, &wanted(lowering, &x, &windows, per_group * outputs * (group / pieces(group)))?)?;
    let time = x.axes.iter().position(|axis| axis.kind == Kind::Time).and_then(|n| n.checked_sub(2));
    if let Some(n) = time {
        let window = windows[n];
        if !window.keeps() {
            // Steps that were only guessed may be columns.
            lowering.want(&x, &[(n + 2, Kind::Columns)])?;
            let reason =
                format!("every value of a network has the same steps, of {} it would make others", window.size);
            return Err(refused("a convolution that changes the number of steps", reason));
        }
    }
    let values = w.numbers();
    let taps = time.map_or(1, |n| windows[n].taps);
    let places = |(n, window): (usize, &Window)| if Some(n) == time { Ok(1) } else { window.places() };
    let made = windows.iter().enumerate().map(places).collect::<Result<Vec<_>>>()?;
    let inputs: Vec<usize> =
        x.axes.iter().skip(2).enumerate().map(|(n, a)| if Some(n) == time { 1 } else { a.size }).collect();
    let (in_place, out_place) = (inputs.iter().product::<usize>(), made.iter().product::<usize>());
    let rows = outputs * out_place * taps;
    // A large kernel of groups has most of its matrix 0: a product for each group.
    let whole = rows.saturating_mul(per_group * group * in_place);
    let pieces = if whole > MOST_WITH_GROUPS { pieces(group) } else { 1 };
    let (piece_rows, width) = (rows / pieces, per_group * group / pieces * in_place);
    if rows.saturating_mul(width) > MOST_OF_ONE {
        return Err(refused(
            format!("a convolution that is a matrix of {rows} x {width}"),
            "it is more than is laid out",
        ));
    }
    let kernel_size: usize = kernel.iter().product();
    let kernel_steps = super::super::super::fold::strides(kernel);
    let input_steps = super::super::super::fold::strides(&inputs);
    let mut parts = Vec::new();
    for (piece, columns) in x.columns.chunks(width.max(1)).enumerate() {
        let part = lowering.columns(&op.name, columns)?;
        // Rows: output, place, tap in time; columns: channel, place.
        let mut matrix = lowering.matrix(piece_rows, width)?;
        let of_piece = outputs / pieces;
        for own in 0..of_piece {
            let m = piece * of_piece + own;
            for (at, place) in every(&made).enumerate() {
                for tap in every(kernel) {
                    let reads = (0..kernel.len()).map(|n| match time {
                        Some(t) if t == n => Some(0),
                        _ => windows[n].reads(place[n], tap[n]).map(|i| i * input_steps[n]),
                    });
                    let Some(read) = reads.sum::<Option<usize>>() else { continue };
                    let k = time.map_or(0, |t| tap[t]);
                    let row = (own * out_place + at) * taps + k;
                    let of_kernel: usize = tap.iter().zip(&kernel_steps).map(|(i, s)| i * s).sum();
                    for c in 0..per_group {
                        let channel = m / (outputs / group) * per_group + c - piece * (per_group * group / pieces);
                        let value = values[(m * per_group + c) * kernel_size + of_kernel];
                        matrix[row * width + channel * in_place + read] += value;
                    }
                }
            }
        }
        let weight = lowering.param(&format!("{}.weight", op.name), &[piece_rows, width], &matrix)?;
        let name = lowering.fresh(&op.name);
        parts.push(lowering.builder.linear(&name, part, weight, None)?);
    }
    let mut y = match parts[..] {
        [one] => one,
        _ => {
            let name = lowering.fresh(&format!("{}.groups", op.name));
            lowering.builder.concat(&name, &parts)?
        }
    };
    if let Some(n) = time.filter(|&n| windows[n].span() > 1) {
        if x.reversed {
            return Err(refused("a convolution over steps in reverse order", "networks go over them as they come"));
        }
        lowering.over_all_steps.get_or_insert_with(|| op.name.clone());
        let (window, span) = (windows[n], windows[n].span());
        let (low, high) = (window.before, span - 1 - window.before);
        let mut ones = lowering.matrix(rows, span)?;
        for row in 0..rows {
            ones[row * span + row % taps * window.dilation] = 1.0;
        }
        let shifts = lowering.param(&format!("{}.taps", op.name), &[rows, 1, span], &ones)?;
        let name = lowering.fresh(&format!("{}.steps", op.name));
        y = lowering.builder.conv(&name, y, (shifts, None), (low, high))?;
        if high == 0 && low > 0 {
            lowering.states.push(Begin { size: low * rows, columns: None });
        }
        let name = lowering.fresh(&format!("{}.sum", op.name));
        y = lowering.builder.sum(&name, y, rows / taps)?;
    }
    let mut axes = x.axes.clone();
    axes[1] = Axis::columns(outputs);
    for (n, &places) in made.iter().enumerate().filter(|(n, _)| Some(*n) != time) {
        // What an axis counts whose places stay can still be learned.
        let from = x.axes[n + 2].from.filter(|_| windows[n].keeps());
        axes[n + 2] = Axis { from, ..Axis::columns(places) };
    }
    let y = Value::Laid(lowering.laid(y, axes, &x));
    let Some(bias) = bias else { return Ok(vec![y]) };
    let mut shape = vec![1; x.axes.len()];
    shape[1] = outputs;
    let bias: Constant = bias.reshaped("B", shape)?;
    let sum = |x: &[Expr]| x[0].clone() + x[1].clone();
    Ok(vec![lowering.pointwise(&format!("{}.bias", op.name), &[y, Value::Constant(bias)], None, sum)?])
}

/// The largest or the mean of windows over columns.
fn pool(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let x = op.laid(0)?.clone();
    let windows = windows(lowering, op, &x, None)?;
    let columns = |&n: &usize| n == 1 || !windows[n - 2].is_none() || of_sequences(&x.axes[n]);
    let mut wanted: Vec<(usize, Kind)> = (1..x.axes.len()).filter(columns).map(|n| (n, Kind::Columns)).collect();
    wanted.extend(first_axis(&x));
    lowering.want(&x, &wanted)?;
    let largest = op.kind == "MaxPool";
    if !largest && windows.iter().any(|w| w.before + w.behind > 0) {
        return Err(refused("a mean over pads", "windows lie within the axis"));
    }
    let time = x.axes.iter().position(|axis| axis.kind == Kind::Time).and_then(|n| n.checked_sub(2));
    let sizes = windows.iter().enumerate().map(|(n, w)| if Some(n) == time { Ok(1) } else { w.places() });
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    let kernel: Vec<usize> = windows.iter().map(|w| w.taps).collect();
    let inputs: Vec<usize> =
        x.axes.iter().skip(2).enumerate().map(|(n, a)| if Some(n) == time { 1 } else { a.size }).collect();
    let steps = super::super::super::fold::strides(&inputs);
    let (channels, per_channel) = (x.axes[1].size, inputs.iter().product::<usize>());
    let taps: usize = kernel.iter().product();
    lowering.budget.take(&[taps, channels, sizes.iter().product()])?;
    let mut operands = Vec::new();
    for tap in every(&kernel) {
        let mut columns = Vec::new();
        for c in 0..channels {
            for place in every(&sizes) {
                let reads = (0..kernel.len()).map(|n| match time {
                    Some(t) if t == n => Some(0),
                    _ => windows[n].reads(place[n], tap[n]).map(|i| i * steps[n]),
                });
                let at = reads.sum::<Option<usize>>();
                columns.push(at.map_or(Column::Number(f64::from(f32::MIN)), |at| x.columns[c * per_channel + at]));
            }
        }
        operands.push(lowering.operand(&op.name, &columns)?);
    }
    let all = |n: usize| Expr::input(n);
    let inner = (0..operands.len()).map(all).reduce(|a, b| if largest { max(a, b) } else { a + b });
    let inner = inner.unwrap_or(Expr::Constant(0.0));
    let made = if largest { inner } else { inner * Expr::from(1.0 / taps as f64) };
    let name = lowering.fresh(&op.name);
    let part = lowering.builder.map(&name, made, &operands)?;
    let mut axes = x.axes.clone();
    for (n, &size) in sizes.iter().enumerate().filter(|(n, _)| Some(*n) != time) {
        axes[n + 2] = Axis::columns(size);
    }
    let source = lowering.source(Source::Made(part));
    let columns = (0..part.width as u32).map(|at| Column::Of(source, at)).collect();
    Ok(vec![Value::Laid(x.with(axes, columns))])
}
