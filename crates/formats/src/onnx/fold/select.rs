//! Operators that take parts of tensors, and put tensors side by side.

use super::super::constant::Constant;
use super::{Budget, Call, Keeps, Places, Row, normal_axis, row, strides};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 4] = [
    row("Slice", Keeps::Uniform, slice),
    row("Split", Keeps::Uniform, split),
    row("Gather", Keeps::Uniform, gather),
    row("Concat", Keeps::UniformOfAll, concat),
];

/// What `Slice` takes of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct Cut {
    pub axis: usize,
    pub first: usize,
    pub step: isize,
    pub count: usize,
}

impl Cut {
    /// Of an axis of `size`: from `start` to before `end`, which count from the back where they are below 0.
    fn new(axis: usize, size: usize, start: i64, end: i64, step: i64) -> Result<Self> {
        let all = i64::try_from(size).map_err(|_| Error::mismatch("size", "one that can be counted", size))?;
        let from_back = |n: i64| if n < 0 { n.saturating_add(all) } else { n };
        let (start, end) = (from_back(start), from_back(end));
        let (first, count) = match step {
            0 => return Err(Error::mismatch("steps", "other than 0", 0)),
            1.. => {
                let (start, end) = (start.clamp(0, all), end.clamp(0, all));
                (start, (end - start).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
            }
            _ => {
                let (start, end) = (start.clamp(-1, all - 1), end.clamp(-1, all - 1));
                (start.max(0), (start - end).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
            }
        };
        let step = isize::try_from(step).unwrap_or(if step < 0 { isize::MIN } else { isize::MAX });
        // Of one element or none the step does not count, and could be too large to multiply by.
        let step = if count > 1 { step } else { 1 };
        Ok(Self { axis, first: first.unsigned_abs() as usize, step, count: count as usize })
    }

    /// Whether it takes the whole axis as it is.
    pub fn is_whole(&self, shape: &[usize]) -> bool {
        self.step == 1 && self.count == shape[self.axis]
    }
}

/// What a `Slice` takes of a tensor of that shape.
pub(in crate::onnx) fn cuts(call: &Call<'_>, shape: &[usize]) -> Result<Vec<Cut>> {
    let missing = |what| move || Error::mismatch(what, "integers", "none");
    let starts = call.list(1, "starts")?.ok_or_else(missing("starts"))?;
    let ends = call.list(2, "ends")?.ok_or_else(missing("ends"))?;
    let axes = call.list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    for (what, list) in [("ends", &ends), ("axes", &axes), ("steps", &steps)] {
        if list.len() != starts.len() {
            return Err(Error::mismatch(what, format!("{} numbers, as of starts", starts.len()), list.len()));
        }
    }
    let mut cuts = Vec::<Cut>::new();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = normal_axis(axis, shape.len())?;
        if cuts.iter().any(|cut| cut.axis == axis) {
            return Err(Error::mismatch("axes", "each axis once", format!("{axes:?}")));
        }
        cuts.push(Cut::new(axis, shape[axis], start, end, step)?);
    }
    Ok(cuts)
}

/// The shape that is left, and the place of every element of it.
pub(in crate::onnx) fn cut(shape: &[usize], cuts: &[Cut]) -> (Vec<usize>, Places) {
    let mut steps: Vec<isize> = strides(shape).into_iter().map(|s| s as isize).collect();
    let (mut left, mut first) = (shape.to_vec(), 0);
    for cut in cuts {
        first += cut.first as isize * steps[cut.axis];
        steps[cut.axis] = steps[cut.axis].saturating_mul(cut.step);
        left[cut.axis] = cut.count;
    }
    let places = Places::new(&left, first, steps);
    (left, places)
}

fn slice(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let shape = call.input(0)?.shape.clone();
    let cuts = cuts(call, &shape)?;
    let (shape, places) = cut(&shape, &cuts);
    call.taken(0, shape, places)
}

/// A slice of a value that only a run repeats: of a state `[L, 1, H]`, repeated over the batch, some layers. `None` where the repetition
/// could have changed an axis that is cut.
pub(super) fn slice_of_repeated(
    value: &Constant,
    rest: Vec<Option<Constant>>,
    budget: &mut Budget,
) -> Option<Constant> {
    // More axes may have come in front of fewer.
    if value.shape.len() != 3 {
        return None;
    }
    let list = |n: usize| rest.get(n).and_then(Option::as_ref).and_then(|c| c.integers("list").ok());
    let (starts, ends) = (list(0)?, list(1)?);
    let axes = list(2).map_or_else(|| (0..starts.len() as i64).collect(), <[i64]>::to_vec);
    let mut cuts = Vec::new();
    for (n, &axis) in axes.iter().enumerate() {
        let axis = normal_axis(axis, 3).ok()?;
        let step = list(3).map_or(Some(1), |steps| steps.get(n).copied())?;
        if value.shape[axis] != 1 {
            cuts.push(Cut::new(axis, value.shape[axis], *starts.get(n)?, *ends.get(n)?, step).ok()?);
        }
    }
    let (shape, places) = cut(&value.shape, &cuts);
    budget.take(&shape).ok()?;
    Some(value.taken(shape, places))
}

/// The sizes of `Split`'s parts of an axis.
pub(in crate::onnx) fn parts(call: &Call<'_>, size: usize) -> Result<Vec<usize>> {
    let sizes: Vec<usize> = match call.list(1, "split")? {
        Some(sizes) => {
            let size = |v: i64| usize::try_from(v).map_err(|_| Error::mismatch("split", "sizes from 0", v));
            sizes.into_iter().map(size).collect::<Result<_>>()?
        }
        None => {
            let parts = match call.attributes.int("num_outputs")? {
                Some(parts) if parts != call.outputs as i64 => {
                    return Err(Error::mismatch("num_outputs", call.outputs, parts));
                }
                _ => call.outputs.max(1),
            };
            let each = size.div_ceil(parts);
            (0..parts).map(|n| each.min(size.saturating_sub(n.saturating_mul(each)))).collect()
        }
    };
    let all = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    if all != Some(size) || sizes.len() < call.outputs {
        return Err(Error::mismatch("split", format!("{} parts of {size}", call.outputs), format!("{sizes:?}")));
    }
    Ok(sizes)
}

fn split(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let shape = call.input(0)?.shape.clone();
    let axis = normal_axis(call.attributes.int("axis")?.unwrap_or(0), shape.len())?;
    let mut first = 0;
    let mut made = Vec::new();
    for count in parts(call, shape[axis])? {
        let (shape, places) = cut(&shape, &[Cut { axis, first, step: 1, count }]);
        made.extend(call.taken(0, shape, places)?);
        first += count;
    }
    Ok(made)
}

/// Indices of an axis from the front.
pub(in crate::onnx) fn indices(list: &Constant, size: usize) -> Result<Vec<usize>> {
    let within = |&v: &i64| {
        let from_front = if v < 0 { v.saturating_add(size as i64) } else { v };
        let index = usize::try_from(from_front).ok().filter(|&n| n < size);
        index.ok_or_else(|| Error::mismatch("indices", format!("within an axis of {size}"), v))
    };
    list.integers("indices")?.iter().map(within).collect()
}

fn gather(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let shape = call.input(0)?.shape.clone();
    let axis = normal_axis(call.attributes.int("axis")?.unwrap_or(0), shape.len())?;
    let list = indices(call.input(1)?, shape[axis])?;
    let rows = call.input(1)?.shape.clone();
    let (before, behind) = (&shape[..axis], &shape[axis + 1..]);
    let result: Vec<usize> = [before, &rows, behind].concat();
    call.budget.take(&result)?;
    let inner: usize = behind.iter().product();
    let outer: usize = before.iter().product();
    let step = shape[axis] * inner;
    let places =
        (0..outer).flat_map(|o| list.iter().map(move |&i| o * step + i * inner)).flat_map(|first| first..first + inner);
    Ok(vec![call.input(0)?.taken(result, places)])
}

fn concat(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let parts = (0..call.inputs.len()).map(|n| call.input(n).cloned()).collect::<Result<Vec<_>>>()?;
    let first = call.input(0)?.shape.clone();
    let axis = normal_axis(call.attributes.int("axis")?.unwrap_or(1), first.len())?;
    let mut shape = first.clone();
    shape[axis] = 0;
    let sizes = parts.iter().map(|part| {
        let mut others = part.shape.clone();
        let size = others.get_mut(axis).map(|size| std::mem::replace(size, 0));
        size.filter(|_| others == shape)
            .ok_or_else(|| Error::mismatch("inputs", format!("shapes like {first:?}"), format!("{:?}", part.shape)))
    });
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    let all = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    shape[axis] = all.ok_or_else(|| Error::mismatch("inputs", "as many values as can be counted", "more"))?;
    call.budget.take(&shape)?;
    let joined = Constant::joined("inputs", &parts)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    // Where each part begins among all values, behind one another.
    let begins = sizes.iter().scan(0, |at, &size| Some(std::mem::replace(at, *at + size * outer * inner)));
    let begins: Vec<(usize, usize)> = begins.zip(sizes.iter().map(|size| size * inner)).collect();
    let places = (0..outer)
        .flat_map(|o| begins.iter().map(move |&(begin, block)| (begin + o * block, block)))
        .flat_map(|(first, block)| first..first + block);
    Ok(vec![joined.taken(shape, places)])
}
