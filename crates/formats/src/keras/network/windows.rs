//! Layers that look at several steps at once, or give other steps than they read. A convolution that keeps the steps is products of moved
//! copies within the network; all others have their windows made between two networks ([`KerasSteps`]).

use super::super::hdf5::Array;
use super::steps::{MOST_SPAN, MOST_STEPS};
use super::{Graph, KerasFill, KerasPadding, KerasState, KerasSteps, KerasWindows, Step, Value};
use wgpu_rnn::expr::{Expr, max};
use wgpu_rnn::network::{Operand, Part};
use wgpu_rnn::{Error, Result};

/// Refuses a mask where Keras looks at masked steps too.
pub(super) fn refuse_mask(step: &Step<'_>, x: &Value) -> Result<()> {
    if x.masked {
        let reason =
            format!("Keras's {} reads masked steps as if they were real, which networks cannot", step.layer.class);
        return Err(Error::Unsupported { what: "an input with a mask".into(), reason });
    }
    Ok(())
}

/// The first of several fields as one size; `default` where there is none of them.
fn size(step: &Step<'_>, keys: &[&str], default: usize) -> Result<usize> {
    let Some(found) = keys.iter().find_map(|key| step.layer.integers(key)) else { return Ok(default) };
    let size = match found[..] {
        [size] => usize::try_from(size).ok().filter(|size| (1..=MOST_SPAN).contains(size)),
        _ => None,
    };
    let expected = || format!("one number of 1 to {MOST_SPAN}");
    size.ok_or_else(|| Error::mismatch(keys.first().copied().unwrap_or_default(), expected(), format!("{found:?}")))
}

fn channels_last(step: &Step<'_>) -> Result<()> {
    if step.layer.text("data_format") == Some("channels_first") {
        let reason = format!("networks have {} channels last", step.layer.class);
        return Err(Error::Unsupported { what: "data_format channels_first".into(), reason });
    }
    Ok(())
}

/// The windows of a layer, whose size is `taps`.
fn windows(step: &Step<'_>, taps: usize, stride: usize, fill: KerasFill) -> Result<KerasWindows> {
    channels_last(step)?;
    let padding = match step.layer.text("padding").or_else(|| step.layer.text("border_mode")).unwrap_or("valid") {
        "valid" => KerasPadding::Valid,
        "same" => KerasPadding::Same,
        "causal" => KerasPadding::Causal,
        other => return Err(Error::mismatch("padding", "valid, same or causal", super::shown(other))),
    };
    let dilation = size(step, &["dilation_rate"], 1)?;
    let windows = KerasWindows { taps, dilation, stride, padding, fill };
    if taps == 0 || windows.span() > MOST_SPAN {
        return Err(Error::mismatch("steps of a window", format!("1 to {MOST_SPAN}"), windows.span()));
    }
    Ok(windows)
}

/// `Conv1D`.
pub(super) fn convolution(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    refuse_mask(step, x)?;
    let (kernel, bias) = graph.kernel(step)?;
    let &[taps, inputs, outputs] = &kernel.shape[..] else {
        return Err(Error::mismatch("kernel", "[taps, in, out]", format!("{:?}", kernel.shape)));
    };
    let stride = size(step, &["strides", "subsample_length", "subsample"], 1)?;
    let groups = size(step, &["groups"], 1)?;
    let windows = windows(step, taps, stride, KerasFill::Zero)?;
    if inputs == 0 || outputs == 0 || inputs.checked_mul(groups) != Some(x.part.width) || outputs % groups != 0 {
        let expected = format!("[taps, {} / {groups} groups, out]", x.part.width);
        return Err(Error::mismatch("kernel", expected, format!("{:?}", kernel.shape)));
    }
    let (value, all) = graph.of_windows(step, x, windows)?;
    graph.count(groups.saturating_mul(2))?;
    let of_group = |group: usize| {
        let columns = outputs / groups;
        let rows = kernel.data.chunks_exact(outputs).flat_map(|row| &row[group * columns..][..columns]).copied();
        let kernel = Array { shape: vec![taps * inputs, columns], data: rows.collect() };
        let bias = bias.as_ref().map(|bias| {
            let data = bias.data.get(group * columns..).unwrap_or_default();
            Array { shape: vec![columns], data: data.iter().take(columns).copied().collect() }
        });
        (kernel, bias)
    };
    let mut parts = Vec::new();
    for group in 0..groups {
        let name = if groups == 1 { step.name.clone() } else { format!("{}/group{group}", step.name) };
        let (kernel, bias) = of_group(group);
        let read = match groups {
            1 => all,
            _ => {
                let of = |tap: usize| all.columns(tap * x.part.width + group * inputs, inputs);
                let taps = (0..taps).map(of).collect::<Result<Vec<_>>>()?;
                graph.side_by_side_columns(&format!("{name}/taps"), &taps)?
            }
        };
        parts.push(graph.linear(&name, read, &kernel, bias.as_ref())?);
    }
    let y = graph.side_by_side_columns(&step.name, &parts)?;
    let y = graph.activated(step, y)?;
    Ok(vec![Some(value.with(y))])
}

/// `DepthwiseConv1D`.
pub(super) fn depthwise(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    refuse_mask(step, x)?;
    let (kernel, bias) = graph.kernel(step)?;
    let (value, y) = graph.by_channel(step, x, &kernel, bias.as_ref())?;
    let y = graph.activated(step, y)?;
    Ok(vec![Some(value.with(y))])
}

/// `SeparableConv1D`: a depthwise one, and a product of what it gives at every step.
pub(super) fn separable(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    refuse_mask(step, x)?;
    let (kernel, pointwise, bias) = if step.layer.flag("use_bias", step.layer.flag("bias", true)) {
        graph.arrays(step).map(|[kernel, pointwise, bias]| (kernel, pointwise, Some(bias)))?
    } else {
        graph.arrays(step).map(|[kernel, pointwise]| (kernel, pointwise, None))?
    };
    let &[1, inputs, outputs] = &pointwise.shape[..] else {
        return Err(Error::mismatch("pointwise kernel", "[1, in, out]", format!("{:?}", pointwise.shape)));
    };
    let (value, y) = graph.by_channel(step, x, &kernel, None)?;
    let pointwise = Array { shape: vec![inputs, outputs], data: pointwise.data };
    let y = graph.linear(&format!("{}/pointwise", step.name), y, &pointwise, bias.as_ref())?;
    let y = graph.activated(step, y)?;
    Ok(vec![Some(value.with(y))])
}

/// `MaxPooling1D` and `AveragePooling1D`.
pub(super) fn pooling(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    let largest = step.layer.class.starts_with("Max");
    let taps = size(step, &["pool_size", "pool_length"], 2)?;
    let stride = size(step, &["strides", "stride"], taps)?;
    let windows = windows(step, taps, stride, if largest { KerasFill::Lowest } else { KerasFill::Mean })?;
    let value = graph.other_steps(step, x, KerasSteps::Windows(windows))?;
    graph.count(taps)?;
    let width = x.part.width;
    let mut y = value.part.columns(0, width)?;
    for tap in 1..taps {
        let (a, b) = (Expr::input(0), Expr::input(1));
        let both = if largest { max(a, b) } else { a + b };
        let operands = [y.into(), value.part.columns(tap * width, width)?.into()];
        y = graph.b().map(&format!("{}/{tap}", step.name), both, &operands)?;
    }
    if !largest {
        y = graph.b().map(&step.name, Expr::input(0) / (taps as f64).into(), &[y.into()])?;
    }
    Ok(vec![Some(value.with(y))])
}

/// `UpSampling1D`, `ZeroPadding1D`, `Cropping1D` and `RepeatVector`.
pub(super) fn other_steps(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.x()?;
    channels_last(step)?;
    let class = step.layer.class.as_str();
    let count = |value: i64, least: usize| {
        let count = usize::try_from(value).ok().filter(|count| (least..=MOST_STEPS).contains(count));
        count.ok_or_else(|| Error::mismatch("steps", format!("a number of {least} to {MOST_STEPS}"), value))
    };
    let one = |keys: &[&str], default: i64| {
        let found = keys.iter().find_map(|key| step.layer.integers(key));
        count(found.and_then(|all| all.first().copied()).unwrap_or(default), 1)
    };
    // A number for both ends, or one for each; a list of lists in no version.
    let ends = |key: &str| match step.layer.integers(key).as_deref() {
        None => Ok([1, 1]),
        Some(&[both]) => Ok([count(both, 0)?; 2]),
        Some(&[before, behind]) => Ok([count(before, 0)?, count(behind, 0)?]),
        Some(other) => Err(Error::mismatch(key, "one number or two", format!("{other:?}"))),
    };
    let steps = match class {
        "UpSampling1D" => KerasSteps::Repeated(one(&["size", "length"], 2)?),
        "ZeroPadding1D" => KerasSteps::Padded(ends("padding")?),
        "Cropping1D" => KerasSteps::Cropped(ends("cropping")?),
        _ => KerasSteps::Spread(one(&["n"], 0)?),
    };
    if x.steps == matches!(steps, KerasSteps::Spread(_)) {
        let (expected, got) = if x.steps { ("a row per sequence", "steps") } else { ("steps", "a row per sequence") };
        return Err(Error::mismatch("input", expected, got));
    }
    if x.features.is_empty() {
        let reason = "networks take them as they are given".into();
        return Err(Error::Unsupported { what: format!("{class} of token ids"), reason });
    }
    graph.other_steps(step, x, steps).map(|value| vec![Some(value)])
}

impl Graph<'_> {
    /// A value whose rows are the windows' places, and the steps of every window side by side.
    fn of_windows(&mut self, step: &Step<'_>, x: &Value, windows: KerasWindows) -> Result<(Value, Part)> {
        if windows.keeps_steps() {
            let all = self.windows_in_place(step, x, &windows)?;
            return Ok((x.clone(), all));
        }
        let value = self.other_steps(step, x, KerasSteps::Windows(windows))?;
        let all = value.part;
        Ok((value, all))
    }

    /// A convolution of every channel by itself, with a kernel `[taps, C, M]`: M columns of each channel, one after the other.
    fn by_channel(
        &mut self,
        step: &Step<'_>,
        x: &Value,
        kernel: &Array,
        bias: Option<&Array>,
    ) -> Result<(Value, Part)> {
        let &[taps, channels, times] = &kernel.shape[..] else {
            return Err(Error::mismatch("kernel", "[taps, in, times]", format!("{:?}", kernel.shape)));
        };
        let wanted = || format!("[taps, {}, times]", x.part.width);
        let width = channels.checked_mul(times).filter(|&width| width > 0 && channels == x.part.width);
        let width = width.ok_or_else(|| Error::mismatch("kernel", wanted(), format!("{:?}", kernel.shape)))?;
        let stride = size(step, &["strides"], 1)?;
        let windows = windows(step, taps, stride, KerasFill::Zero)?;
        let (value, all) = self.of_windows(step, x, windows)?;
        self.count(2 * taps + 2)?;
        let mut y: Option<Part> = None;
        for (tap, weights) in kernel.data.chunks_exact(width).enumerate() {
            let name = format!("{}/tap{tap}", step.name);
            let weights = self.param(&format!("{name}.weight"), &[width], weights.to_vec())?;
            let read = Operand::from(all.columns(tap * channels, channels)?).each(times);
            let (product, weights) = (Expr::input(0) * Expr::input(1), self.b().whole(weights));
            y = Some(match y {
                None => self.b().map(&name, product, &[read, weights])?,
                Some(y) => self.b().map(&name, product + Expr::input(2), &[read, weights, y.into()])?,
            });
        }
        let y = y.ok_or_else(|| Error::mismatch("kernel", "taps", "none"))?;
        let Some(bias) = bias else { return Ok((value, y)) };
        let bias = self.param(&format!("{}.bias", step.name), &[bias.data.len()], bias.data.clone())?;
        let operands = [y.into(), self.b().whole(bias)];
        let y = self.b().map(&step.name, Expr::input(0) + Expr::input(1), &operands)?;
        Ok((value, y))
    }

    /// The steps of every window side by side, of windows that there is one of for every step.
    fn windows_in_place(&mut self, step: &Step<'_>, x: &Value, windows: &KerasWindows) -> Result<Part> {
        let before = windows.span() - 1;
        // One more behind where it is not even.
        let low = if windows.padding == KerasPadding::Causal { before } else { before / 2 };
        self.over_time(step, x);
        self.count(2 * windows.taps)?;
        let mut parts = Vec::new();
        for tap in 0..windows.taps {
            let at = tap * windows.dilation;
            let (back, by) = (at < low, at.abs_diff(low));
            parts.push(self.moved(&format!("{}/{tap}", step.name), x.part, back != x.reversed, by)?);
        }
        self.side_by_side_columns(&format!("{}/taps", step.name), &parts)
    }

    fn side_by_side_columns(&mut self, name: &str, parts: &[Part]) -> Result<Part> {
        match *parts {
            [one] => Ok(one),
            _ => self.b().concat(name, parts),
        }
    }

    /// x so many steps later (`back`: every step sees one before it) or earlier; 0 where there is none.
    fn moved(&mut self, name: &str, x: Part, back: bool, by: usize) -> Result<Part> {
        if by == 0 {
            return Ok(x);
        }
        // A depthwise convolution whose only tap is the farthest.
        let too_many = || Error::mismatch("dilated kernel", "one that can be counted", by);
        let taps = by.checked_add(1).filter(|&taps| taps <= 1 << 16).ok_or_else(too_many)?;
        let values =
            taps.checked_mul(x.width).filter(|&n| (n as u64).saturating_mul(8) <= self.budget).ok_or_else(too_many)?;
        let tap = if back { 0 } else { by };
        let one = (0..values).map(|n| if n % taps == tap { 1.0 } else { 0.0 }).collect();
        let weight = self.param(&format!("{name}.weight"), &[x.width, taps], one)?;
        if back {
            self.stage().states.push(KerasState { size: by * x.width, begin: Vec::new() });
        }
        self.b().conv(name, x, (weight, None), if back { (by, 0) } else { (0, by) })
    }
}
