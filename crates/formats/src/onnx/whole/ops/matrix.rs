//! Products with constant matrices.

use super::super::super::constant::Constant;
use super::super::super::fold::Places;
use super::super::axes::Made;
use super::super::lower::Lowering;
use super::super::node::Op;
use super::super::value::{Axis, Column, Kind, Laid, Value};
use super::{Row, refused, row};
use wgpu_rnn::expr::Expr;
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 2] = [row("MatMul", 2, matmul), row("Gemm", 3, gemm)];

/// Groups of columns that are multiplied by the same matrix, at most.
pub(super) const MOST_GROUPS: usize = 512;

/// Row-major.
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f64>,
}

impl Matrix {
    /// A constant of two axes, or of more of size 1 before them.
    pub fn read(what: &str, constant: &Constant) -> Result<Self> {
        let sizes: Vec<usize> = constant.shape.clone();
        let (front, last) = sizes.split_at(sizes.len().saturating_sub(2));
        match last {
            &[rows, columns] if front.iter().all(|&d| d == 1) => {
                Ok(Self { rows, columns, values: constant.numbers().into_owned() })
            }
            _ => Err(Error::mismatch(what, "a matrix", format!("{sizes:?}"))),
        }
    }

    pub fn transposed(&self) -> Self {
        let shape = [self.columns, self.rows];
        let places = Places::new(&shape, 0, vec![1, self.columns as isize]);
        Self { rows: self.columns, columns: self.rows, values: places.map(|at| self.values[at]).collect() }
    }
}

/// Along an axis of columns, w·x with w `[out, in]`: that axis has `out` columns then.
pub(super) fn along(lowering: &mut Lowering<'_>, name: &str, x: &Laid, axis: usize, w: &Matrix) -> Made<Laid> {
    if axis >= x.axes.len() {
        return Err(Error::mismatch("a value to multiply", "a matrix", x.axes_in_words()).into());
    }
    lowering.want(x, &[(axis, Kind::Columns)])?;
    if x.axes[axis].size != w.columns {
        return Err(Error::mismatch("columns of the product", w.columns, x.axes[axis].size).into());
    }
    // That axis innermost, so that each group of columns lies together.
    let order: Vec<usize> = (0..x.axes.len()).filter(|&n| n != axis).chain([axis]).collect();
    let turned = x.transposed(&order);
    let groups = turned.columns.len() / w.columns;
    if groups > MOST_GROUPS {
        let reason = format!("a product runs over {MOST_GROUPS} groups of columns at most");
        return Err(refused(format!("{groups} groups of columns"), reason));
    }
    let weight = lowering.param(&format!("{name}.weight"), &[w.rows, w.columns], &w.values)?;
    let mut columns = Vec::new();
    for group in turned.columns.chunks(w.columns) {
        let part = lowering.columns(name, group)?;
        let own = lowering.fresh(name);
        let part = lowering.builder.linear(&own, part, weight, None)?;
        let source = lowering.source(super::super::lower::Source::Made(part));
        columns.extend((0..part.width as u32).map(|at| Column::Of(source, at)));
    }
    let mut axes = turned.axes.clone();
    if let Some(last) = axes.last_mut() {
        *last = Axis::columns(w.rows);
    }
    let mut back: Vec<usize> = (0..x.axes.len() - 1).collect();
    back.insert(axis, x.axes.len() - 1);
    Ok(turned.with(axes, columns).transposed(&back))
}

fn matmul(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let made = match (op.value(0)?, op.value(1)?) {
        (Value::Laid(x), Value::Constant(w)) if w.shape.len() == 1 => {
            let rows = Matrix { rows: 1, columns: w.len(), values: w.numbers().into_owned() };
            let y = along(lowering, &op.name, x, x.axes.len().saturating_sub(1), &rows)?;
            let shape: Vec<usize> = y.shape()[..y.axes.len() - 1].to_vec();
            y.reshaped(&shape)?
        }
        (Value::Laid(x), Value::Constant(w)) => {
            let w = Matrix::read("B", w)?.transposed();
            let last = x.axes.len().checked_sub(1).ok_or_else(|| Error::mismatch("A", "a matrix", "a number"))?;
            along(lowering, &op.name, x, last, &w)?
        }
        (Value::Constant(w), Value::Laid(x)) => {
            let w = Matrix::read("A", w)?;
            let axis =
                x.axes.len().checked_sub(2).ok_or_else(|| Error::mismatch("B", "a matrix", x.axes_in_words()))?;
            along(lowering, &op.name, x, axis, &w)?
        }
        _ => return Err(refused("a product of two values of a run", "networks multiply by constant matrices")),
    };
    Ok(vec![Value::Laid(made)])
}

fn gemm(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let attributes = op.attributes(lowering.file);
    let flag = |name: &str| Ok::<_, Error>(attributes.int(name)?.unwrap_or(0) != 0);
    if let Some(x) =
        op.values.iter().take(2).flatten().find_map(|v| if let Value::Laid(x) = v { Some(x) } else { None })
        && x.axes.len() != 2
    {
        return Err(Error::mismatch("A and B", "matrices", x.axes_in_words()).into());
    }
    let (alpha, beta) = (attributes.float("alpha")?.unwrap_or(1.0), attributes.float("beta")?.unwrap_or(1.0));
    let y = match (op.value(0)?, op.value(1)?) {
        (Value::Laid(x), Value::Constant(w)) => {
            let mut w = Matrix::read("B", w)?;
            if !flag("transB")? {
                w = w.transposed();
            }
            w.values.iter_mut().for_each(|v| *v *= alpha);
            let x = if flag("transA")? { x.transposed(&[1, 0]) } else { x.clone() };
            along(lowering, &op.name, &x, 1, &w)?
        }
        (Value::Constant(w), Value::Laid(x)) => {
            let mut w = Matrix::read("A", w)?;
            if flag("transA")? {
                w = w.transposed();
            }
            w.values.iter_mut().for_each(|v| *v *= alpha);
            let x = if flag("transB")? { x.transposed(&[1, 0]) } else { x.clone() };
            along(lowering, &op.name, &x, 0, &w)?
        }
        _ => return Err(refused("a product of two values of a run", "networks multiply by constant matrices")),
    };
    let Some(c) = op.values.get(2).and_then(Option::as_ref) else { return Ok(vec![Value::Laid(y)]) };
    let sum = |x: &[Expr]| x[0].clone() + Expr::from(beta) * x[1].clone();
    Ok(vec![lowering.pointwise(&format!("{}.bias", op.name), &[Value::Laid(y), c.clone()], None, sum)?])
}
