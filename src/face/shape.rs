//! Batches in sessions of another shape: rounded up, put in place, and cut out again.

use crate::model::stack::Shape;
use crate::tensor::Tensor;

/// The shape that a batch runs in.
pub(crate) fn rounded(shape: Shape) -> Shape {
    Shape { time: rounded_size(shape.time), batch: rounded_size(shape.batch) }
}

/// Up to 64 the next power of two, beyond it the next quarter of one.
fn rounded_size(n: usize) -> usize {
    match n {
        0..=64 => n.next_power_of_two(),
        _ => n.checked_next_multiple_of(1 << (n.ilog2() - 2)).unwrap_or(n),
    }
}

/// Rows `[from.0, from.1, width]` to the front of `to`, which becomes `[to.0, to.1, width]`; what else is there stays, whatever it is.
pub(super) fn place<E: Copy + Default>(data: &[E], into: &mut Vec<E>, from: [usize; 2], to: [usize; 2], width: usize) {
    into.resize(to[0] * to[1] * width, E::default());
    let rows = data.chunks_exact((from[1] * width).max(1));
    for (row, into) in rows.zip(into.chunks_exact_mut((to[1] * width).max(1))) {
        into[..row.len()].copy_from_slice(row);
    }
}

/// The front `[to.0, to.1]` of a tensor `[.., .., width]`, without dimension `without`.
pub(super) fn cut<E: Copy>(tensor: Tensor<E>, to: [usize; 2], without: Option<usize>) -> Tensor<E> {
    let [from, inner, width] = [0, 1, 2].map(|n| tensor.shape[n]);
    let mut data = tensor.data;
    if inner != to[1] {
        let rows = data.chunks_exact((inner * width).max(1)).take(to[0]);
        data = rows.flat_map(|row| &row[..to[1] * width]).copied().collect();
    } else if from != to[0] {
        data.truncate(to[0] * to[1] * width);
    }
    let mut shape = vec![to[0], to[1], width];
    without.map(|n| shape.remove(n));
    Tensor { data, shape }
}

#[cfg(test)]
mod tests {
    use super::rounded_size;

    #[test]
    fn sizes_are_rounded_up_a_little() {
        let small: Vec<usize> = [1, 2, 3, 5, 9, 33, 64].map(rounded_size).to_vec();
        assert_eq!(small, [1, 2, 4, 8, 16, 64, 64]);
        let large: Vec<usize> = [65, 80, 81, 128, 129, 1000, 1025].map(rounded_size).to_vec();
        assert_eq!(large, [80, 80, 96, 128, 160, 1024, 1280]);
        assert_eq!(rounded_size(usize::MAX), usize::MAX);
    }
}
