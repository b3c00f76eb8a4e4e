//! Layers that look at several steps at once: a convolution is products of moved copies, `Flatten` puts the steps side by side.

use super::super::hdf5::Array;
use super::{Graph, Step, Value};
use wgpu_rnn::network::{Part, Pooling};
use wgpu_rnn::{Error, Result};

/// Steps that a `Flatten` puts side by side, at most: every one is an operation.
const MOST_FLATTENED: usize = 512;

/// Refuses a mask where Keras looks at masked steps too.
pub(super) fn refuse_mask(step: &Step<'_>, x: &Value) -> Result<()> {
    if x.masked {
        let reason =
            format!("Keras's {} reads masked steps as if they were real, which networks cannot", step.layer.class);
        return Err(Error::Unsupported { what: "an input with a mask".into(), reason });
    }
    Ok(())
}

/// `Conv1D` of stride 1, `causal` or `same`.
pub(super) fn convolution(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.row()?;
    refuse_mask(step, x)?;
    let layer = step.layer;
    let ones = |key: &str| layer.integers(key).is_none_or(|all| all == [1]);
    let refused = [
        (!ones("strides") || !ones("subsample_length"), "strides other than 1: the result has fewer steps"),
        (!ones("groups"), "groups"),
        (layer.text("data_format") == Some("channels_first"), "data_format channels_first"),
    ];
    if let Some((_, what)) = refused.iter().find(|(refused, _)| *refused) {
        let reason = "networks have Conv1D of stride 1 without groups, channels last".into();
        return Err(Error::Unsupported { what: (*what).into(), reason });
    }
    let (kernel, bias) = graph.kernel(step)?;
    let &[taps, inputs, outputs] = &kernel.shape[..] else {
        return Err(Error::mismatch("kernel", "[taps, in, out]", format!("{:?}", kernel.shape)));
    };
    let dilation = match layer.integers("dilation_rate").as_deref() {
        None => 1,
        Some(&[rate]) if rate > 0 => usize::try_from(rate).unwrap_or(usize::MAX),
        Some(other) => return Err(Error::mismatch("dilation_rate", "one of at least 1", format!("{other:?}"))),
    };
    let before = taps.saturating_sub(1).saturating_mul(dilation);
    let low = match layer.text("padding").or_else(|| layer.text("border_mode")) {
        _ if taps == 1 => 0,
        Some("causal") => before,
        // One more behind where it is not even.
        Some("same") => before / 2,
        other => {
            let reason = "networks keep the number of steps: padding causal or same".into();
            return Err(Error::Unsupported { what: format!("padding {}", other.unwrap_or("valid")), reason });
        }
    };
    graph.over_time(step, x);
    graph.count(2 * taps)?;
    let mut parts = Vec::new();
    for tap in 0..taps {
        let at = tap.saturating_mul(dilation);
        let (back, by) = (at < low, at.abs_diff(low));
        parts.push(graph.moved(&format!("{}/{tap}", step.name), x.part, back != x.reversed, by)?);
    }
    let all = match parts[..] {
        [one] => one,
        _ => graph.b.concat(&format!("{}/taps", step.name), &parts)?,
    };
    let flat = Array { shape: vec![taps.saturating_mul(inputs), outputs], data: kernel.data };
    let y = graph.linear(&step.name, all, &flat, bias.as_ref())?;
    let y = graph.activated(step, y)?;
    Ok(vec![Some(x.with(y))])
}

/// `Flatten`: of a row its features, of steps all of them side by side.
pub(super) fn flatten(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    if step.layer.text("data_format") == Some("channels_first") {
        let reason = "networks have it channels last".into();
        return Err(Error::Unsupported { what: "data_format channels_first".into(), reason });
    }
    let x = step.x()?;
    if !x.steps || step.per_row {
        return Ok(vec![Some(x.with(x.part))]);
    }
    graph.side_by_side(step, x).map(|value| vec![Some(value)])
}

/// `Reshape` that keeps the steps, or the row, or puts all steps in one row.
pub(super) fn reshape(graph: &mut Graph<'_>, step: &Step<'_>) -> Result<Vec<Option<Value>>> {
    let x = step.x()?;
    let target = step.layer.integers("target_shape").unwrap_or_default();
    let refused = || Error::Unsupported {
        what: format!("from {} features of {} to {target:?}", x.part.width, if x.steps { "steps" } else { "a row" }),
        reason: "networks keep steps as steps and rows as rows, or put all steps in one row".into(),
    };
    // What a target says of an extent; −1 is whatever is left.
    let fits = |target: &[i64], extent: usize| -> Option<Vec<usize>> {
        let known: Vec<usize> =
            target.iter().filter(|&&d| d > 0).map(|&d| usize::try_from(d)).collect::<Result<_, _>>().ok()?;
        let known = known.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let open = target.iter().filter(|&&d| d == -1).count();
        if known == 0
            || !extent.is_multiple_of(known)
            || open > 1
            || open == 0 && known != extent
            || target.contains(&0)
        {
            return None;
        }
        Some(target.iter().map(|&d| usize::try_from(d).unwrap_or(extent / known)).collect())
    };
    if !x.steps || step.per_row {
        let features = fits(&target, x.part.width).ok_or_else(refused)?;
        return Ok(vec![Some(Value { features, ..x.clone() })]);
    }
    if let Some((&first, rest)) = target.split_first().filter(|(_, rest)| !rest.is_empty()) {
        let same = match x.time {
            Some(time) => first == -1 || usize::try_from(first) == Ok(time),
            None => first == -1,
        };
        let features = fits(rest, x.part.width).filter(|_| same && (first != -1 || !rest.contains(&-1)));
        return features.map(|features| vec![Some(Value { features, ..x.clone() })]).ok_or_else(refused);
    }
    let all = x.time.and_then(|time| time.checked_mul(x.part.width));
    if all.is_none_or(|all| target != [-1] && !target.first().is_some_and(|&d| usize::try_from(d) == Ok(all))) {
        return Err(refused());
    }
    graph.side_by_side(step, x).map(|value| vec![Some(value)])
}

impl Graph<'_> {
    /// The steps of a value one beside the other in a row of the sequence.
    fn side_by_side(&mut self, step: &Step<'_>, x: &Value) -> Result<Value> {
        refuse_mask(step, x)?;
        let Some(time) = x.time.filter(|&time| time <= MOST_FLATTENED) else {
            let what = x.time.map_or("an open number of steps".into(), |time| format!("{time} steps"));
            let reason = format!("it is made for one number of steps, at most {MOST_FLATTENED}");
            return Err(Error::Unsupported { what, reason });
        };
        if self.time.is_some_and(|other| other != time) {
            return Err(Error::mismatch("steps", self.time.unwrap_or_default(), time));
        }
        self.time = Some(time);
        self.over_time(step, x);
        self.count(2 * time)?;
        // From the last step back: every one is the last of a copy that comes a step later.
        let (mut moved, mut rows) = (x.part, Vec::new());
        for back in 0..time {
            if back > 0 {
                moved = self.b.shift(&format!("{}/{back}", step.name), moved)?;
            }
            rows.push(self.b.pool(&format!("{}/row{back}", step.name), moved, Pooling::Last)?);
        }
        if !x.reversed {
            rows.reverse();
        }
        let part = self.b.concat(&step.name, &rows)?;
        Ok(Value { steps: false, time: None, reversed: false, ..x.with(part) })
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
        self.b.conv(name, x, (weight, None), if back { (by, 0) } else { (0, by) })
    }
}
