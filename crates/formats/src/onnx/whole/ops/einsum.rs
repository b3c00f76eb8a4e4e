//! `Einsum` of a run's value and a constant: products with a matrix, or with one of each group of columns (grouped linear layers).

use super::super::super::constant::Constant;
use super::super::super::fold::{Places, strides};
use super::super::axes::Made;
use super::super::lower::{Lowering, Source};
use super::super::node::Op;
use super::super::value::{Axis, Column, Kind, Value};
use super::matrix::MOST_GROUPS;
use super::{Row, refused, row};
use wgpu_rnn::Error;

pub(super) const ROWS: [Row; 1] = [row("Einsum", 2, einsum)];

/// The letters of both inputs and of the output.
struct Equation {
    x: Vec<char>,
    w: Vec<char>,
    out: Vec<char>,
}

impl Equation {
    /// `None` for what is no product of two with every letter once in each.
    fn new(text: &str) -> Option<Self> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (inputs, out) = text.split_once("->")?;
        let (x, w) = inputs.split_once(',')?;
        let letters = |text: &str| {
            let letters: Vec<char> = text.chars().collect();
            let once = |(n, c): (usize, &char)| c.is_ascii_alphabetic() && !letters[..n].contains(c);
            letters.iter().enumerate().all(once).then_some(letters)
        };
        let (x, w, out) = (letters(x)?, letters(w)?, letters(out)?);
        let known = out.iter().all(|c| x.contains(c) || w.contains(c));
        // What is summed is in both.
        let summed =
            x.iter().all(|c| out.contains(c) || w.contains(c)) && w.iter().all(|c| out.contains(c) || x.contains(c));
        (known && summed).then_some(Self { x, w, out })
    }
}

fn einsum(lowering: &mut Lowering<'_>, op: &Op<'_>) -> Made<Vec<Value>> {
    let text = op.attributes(lowering.file).text("equation")?.unwrap_or_default();
    let short: String = text.chars().take(40).collect();
    let unread =
        || refused(format!("the equation {short}"), "it is read of a value and a constant, every letter once in each");
    let Equation { x: of_x, w: of_w, out } =
        Equation::new(&text).filter(|_| op.values.len() == 2).ok_or_else(unread)?;
    let (x, of_x, w, of_w): (_, _, &Constant, _) = match (op.value(0)?, op.value(1)?) {
        (Value::Laid(x), Value::Constant(w)) => (x, of_x, w, of_w),
        (Value::Constant(w), Value::Laid(x)) => (x, of_w, w, of_x),
        _ => return Err(refused("a product of two values of a run", "networks multiply by constant matrices")),
    };
    let place = |letters: &[char], letter: &char| letters.iter().position(|c| c == letter);
    if x.axes.len() != of_x.len() || w.shape.len() != of_w.len() {
        let got = format!("{} and {:?}", x.axes_in_words(), w.shape);
        return Err(Error::mismatch("inputs", format!("those of {short}"), got).into());
    }
    // Axes of x by themselves, those that both keep, those that are summed, and those of w by themselves.
    let only: Vec<char> = of_x.iter().filter(|c| !of_w.contains(c)).copied().collect();
    let kept: Vec<char> = of_x.iter().filter(|c| of_w.contains(c) && out.contains(c)).copied().collect();
    let summed: Vec<char> = of_x.iter().filter(|c| of_w.contains(c) && !out.contains(c)).copied().collect();
    let new: Vec<char> = of_w.iter().filter(|c| !of_x.contains(c)).copied().collect();
    let mut wanted = Vec::new();
    for letter in kept.iter().chain(&summed) {
        if let (Some(axis), Some(of_w)) = (place(&of_x, letter), place(&of_w, letter)) {
            wanted.push((axis, Kind::Columns));
            if x.axes[axis].size != w.shape[of_w] {
                return Err(Error::mismatch(format!("axis {letter}"), w.shape[of_w], x.axes[axis].size).into());
            }
        }
    }
    lowering.want(x, &wanted)?;
    let order: Vec<usize> = only.iter().chain(&kept).chain(&summed).filter_map(|c| place(&of_x, c)).collect();
    let turned = x.transposed(&order);
    // w as [kept, new, summed].
    let order: Vec<usize> = kept.iter().chain(&new).chain(&summed).filter_map(|c| place(&of_w, c)).collect();
    let steps = strides(&w.shape);
    let shape: Vec<usize> = order.iter().map(|&n| w.shape[n]).collect();
    let places = Places::new(&shape, 0, order.iter().map(|&n| steps[n] as isize).collect());
    let w = w.taken(shape.clone(), places);
    let size = |letters: &[char], first: usize| w.shape[first..][..letters.len()].iter().product::<usize>();
    let (matrices, rows) = (size(&kept, 0), size(&new, kept.len()));
    let columns = size(&summed, kept.len() + new.len());
    let groups = turned.columns.len() / columns.max(1);
    if groups > MOST_GROUPS || matrices * rows * columns == 0 {
        let reason = format!("a product runs over 1 to {MOST_GROUPS} groups of columns");
        return Err(refused(format!("{groups} groups of columns"), reason));
    }
    let numbers = w.numbers();
    let mut weights = Vec::new();
    for matrix in numbers.chunks_exact(rows * columns) {
        weights.push(lowering.param(&format!("{}.weight", op.name), &[rows, columns], matrix)?);
    }
    let mut made = Vec::new();
    for (n, group) in turned.columns.chunks_exact(columns).enumerate() {
        let part = lowering.columns(&op.name, group)?;
        let own = lowering.fresh(&op.name);
        let part = lowering.builder.linear(&own, part, weights[n % matrices], None)?;
        let source = lowering.source(Source::Made(part));
        made.extend((0..part.width as u32).map(|at| Column::Of(source, at)));
    }
    let mut axes: Vec<Axis> = turned.axes[..only.len() + kept.len()].to_vec();
    axes.extend(w.shape[kept.len()..][..new.len()].iter().map(|&size| Axis::columns(size)));
    let letters: Vec<char> = only.into_iter().chain(kept).chain(new).collect();
    let order: Vec<usize> = out.iter().filter_map(|c| place(&letters, c)).collect();
    Ok(vec![Value::Laid(turned.with(axes, made).transposed(&order))])
}
