//! Products of constants.

use super::super::constant::Constant;
use super::{Call, Keeps, Places, Row, broadcast, row};
use wgpu_rnn::{Error, Result};

pub(super) const ROWS: [Row; 2] = [row("MatMul", Keeps::Nothing, matmul), row("Gemm", Keeps::Nothing, gemm)];

/// Row-major `[rows, inner] · [inner, columns]`.
fn product(a: &[f64], b: &[f64], [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
    let mut made = vec![0.0; rows * columns];
    for (row, a) in made.chunks_exact_mut(columns.max(1)).zip(a.chunks_exact(inner.max(1))) {
        for (&v, b) in a.iter().zip(b.chunks_exact(columns.max(1))) {
            row.iter_mut().zip(b).for_each(|(sum, w)| *sum += v * w);
        }
    }
    made
}

/// Refuses more multiplications than a file of its size may ask for, as elements are refused.
fn room(call: &mut Call<'_>, sizes: &[usize]) -> Result<()> {
    call.budget.take(sizes).map(|_| ())
}

fn matmul(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let (a, b) = (call.input(0)?.clone(), call.input(1)?.clone());
    let wrong = || Error::mismatch("B", format!("a matrix for {:?}", a.shape), format!("{:?}", b.shape));
    // A vector is a row on the left and a column on the right.
    let (mut left, mut right) = (a.shape.clone(), b.shape.clone());
    if left.len() == 1 {
        left.insert(0, 1);
    }
    if right.len() == 1 {
        right.push(1);
    }
    let ([front_a @ .., rows, inner], [front_b @ .., inner_b, columns]) = (&left[..], &right[..]) else {
        return Err(wrong());
    };
    if inner != inner_b {
        return Err(wrong());
    }
    let front = broadcast(front_a, front_b)?;
    let sizes = [*rows, *inner, *columns];
    room(call, &[&front[..], &sizes[..]].concat())?;
    let (x, y) = (a.numbers(), b.numbers());
    let blocks = Places::repeated(front_a, &front).zip(Places::repeated(front_b, &front));
    let block = |(i, j): (usize, usize)| {
        let (a, b) = (rows * inner, inner * columns);
        Some(product(x.get(i * a..(i + 1) * a)?, y.get(j * b..(j + 1) * b)?, sizes))
    };
    let values = blocks.map(block).collect::<Option<Vec<_>>>().ok_or_else(wrong)?.concat();
    let mut shape = front.clone();
    shape.extend((a.shape.len() > 1).then_some(*rows));
    shape.extend((b.shape.len() > 1).then_some(*columns));
    Ok(vec![Call::numbers(shape, a.element, values)?])
}

fn gemm(call: &mut Call<'_>) -> Result<Vec<Constant>> {
    let side = |n: usize, attribute: &str| {
        let matrix = call.input(n)?;
        let [rows, columns] = matrix.sizes(if n == 0 { "A" } else { "B" }, "a matrix")?;
        if call.attributes.int(attribute)?.unwrap_or(0) == 0 {
            return Ok::<_, Error>((rows, columns, matrix.numbers().into_owned()));
        }
        let places = Places::new(&[columns, rows], 0, vec![1, columns as isize]);
        let all = matrix.numbers();
        Ok((columns, rows, places.map(|at| all[at]).collect()))
    };
    let (rows, inner, x) = side(0, "transA")?;
    let (inner_b, columns, y) = side(1, "transB")?;
    if inner != inner_b {
        return Err(Error::mismatch("B", format!("{inner} rows"), inner_b));
    }
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = call.attributes.float("beta")?.unwrap_or(1.0);
    let element = call.input(0)?.element;
    room(call, &[rows, inner, columns])?;
    let mut values = product(&x, &y, [rows, inner, columns]);
    values.iter_mut().for_each(|v| *v *= alpha);
    let shape = vec![rows, columns];
    if let Some(c) = call.optional(2) {
        if broadcast(&c.shape, &shape)? != shape {
            return Err(Error::mismatch("C", format!("a shape that fits {shape:?}"), format!("{:?}", c.shape)));
        }
        let all = c.numbers();
        values.iter_mut().zip(Places::repeated(&c.shape, &shape)).for_each(|(v, at)| *v += beta * all[at]);
    }
    Ok(vec![Call::numbers(shape, element, values)?])
}
