//! Operators that add up, or compare, along axes.

use super::super::constant::Constant;
use super::{Call, Keeps, Places, Row, normal_axis, row, strides};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 6] = [
    row("ReduceSum", Keeps::Nothing, reduce),
    row("ReduceMean", Keeps::Nothing, reduce),
    row("ReduceMax", Keeps::Nothing, reduce),
    row("ReduceMin", Keeps::Nothing, reduce),
    row("ReduceProd", Keeps::Nothing, reduce),
    row("ReduceL2", Keeps::Nothing, reduce),
];

/// Which axes go, and whether they stay with a size of 1.
pub(in crate::onnx) struct Reduced {
    pub axes: Vec<usize>,
    pub keeps: bool,
}

impl Reduced {
    /// What a node says; none of the axes where it says so, all of them where it says nothing.
    pub fn read(call: &Call<'_>, rank: usize) -> Result<Self> {
        let axes = call.list(1, "axes")?.unwrap_or_default();
        let nothing = axes.is_empty() && call.attributes.int("noop_with_empty_axes")?.unwrap_or(0) != 0;
        let mut axes = axes.into_iter().map(|axis| normal_axis(axis, rank)).collect::<Result<Vec<_>>>()?;
        if axes.is_empty() && !nothing {
            axes = (0..rank).collect();
        }
        axes.sort_unstable();
        axes.dedup();
        Ok(Self { axes, keeps: call.attributes.int("keepdims")?.unwrap_or(1) != 0 })
    }

    /// The shape of the result.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let size = |(n, &size): (usize, &usize)| match self.axes.contains(&n) {
            true => self.keeps.then_some(1),
            false => Some(size),
        };
        shape.iter().enumerate().filter_map(size).collect()
    }
}

fn reduce(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let x = call.input(0)?.clone();
    let reduced = Reduced::read(call, x.shape.len())?;
    let result = reduced.shape(&x.shape);
    call.budget.take(&result)?;
    let own: Vec<isize> = strides(&x.shape).into_iter().map(|s| s as isize).collect();
    let part = |of: bool| {
        let axes: Vec<usize> = (0..x.shape.len()).filter(|n| reduced.axes.contains(n) == of).collect();
        let shape: Vec<usize> = axes.iter().map(|&n| x.shape[n]).collect();
        (shape, axes.into_iter().map(|n| own[n]).collect::<Vec<_>>())
    };
    let ((kept, kept_steps), (gone, gone_steps)) = (part(false), part(true));
    let count: usize = gone.iter().product();
    let values = x.numbers();
    if count == 0 && call.op != "ReduceSum" && call.op != "ReduceProd" {
        return Err(Error::mismatch("data", "at least one value along the axes", "none"));
    }
    let one = |first: usize| {
        let along = Places::new(&gone, first as isize, gone_steps.clone()).map(|at| values[at]);
        match call.op {
            "ReduceMean" => along.sum::<f64>() / count as f64,
            "ReduceMax" => along.fold(f64::NEG_INFINITY, f64::max),
            "ReduceMin" => along.fold(f64::INFINITY, f64::min),
            "ReduceProd" => along.product(),
            "ReduceL2" => along.map(|v| v * v).sum::<f64>().sqrt(),
            _ => along.sum(),
        }
    };
    let values = Places::new(&kept, 0, kept_steps).map(one).collect();
    Ok(vec![Call::numbers(result, x.element, values)?])
}
