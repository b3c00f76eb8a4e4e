//! Layers that make a row of all steps, or keep what there is in another shape: `Flatten` and `Reshape`.

use super::windows::refuse_mask;
use super::{Graph, Step, Value};
use wgpu_rnn::network::Pooling;
use wgpu_rnn::{Error, Result};

/// Steps that a `Flatten` puts side by side, at most: every one is an operation.
const MOST_FLATTENED: usize = 512;

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
        if let Some(other) = self.stage().time.filter(|&other| other != time) {
            return Err(Error::mismatch("steps", other, time));
        }
        self.stage().time = Some(time);
        self.over_time(step, x);
        self.count(2 * time)?;
        // From the last step back: every one is the last of a copy that comes a step later.
        let (mut moved, mut rows) = (x.part, Vec::new());
        for back in 0..time {
            if back > 0 {
                moved = self.b().shift(&format!("{}/{back}", step.name), moved)?;
            }
            rows.push(self.b().pool(&format!("{}/row{back}", step.name), moved, Pooling::Last)?);
        }
        if !x.reversed {
            rows.reverse();
        }
        let part = self.b().concat(&step.name, &rows)?;
        Ok(Value { steps: false, time: None, reversed: false, ..x.with(part) })
    }
}
