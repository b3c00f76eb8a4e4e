//! `DynamicQuantizeLSTM` of ONNX Runtime (domain `com.microsoft`): W `[D, I, 4·H]` and R `[D, H, 4·H]` in 8 bits, with scales and zero
//! points, one of a direction or one of each of its columns. The node also rounds x and h to 8 bits at every step; here they stay as they are.

use super::constant::Constant;
use super::fold::{Places, scaled, strides};
use wgpu_rnn::{Error, Result};

/// Such a matrix as the operator LSTM has it: `[D, 4·H, rows]`, real.
///
/// # Errors
/// [`Error::Mismatch`] for another shape or type, or other scales and zero points.
pub(super) fn matrix(what: &str, q: &Constant, scale: &Constant, zero: Option<&Constant>) -> Result<Constant> {
    let [directions, rows, columns] = q.sizes(what, "[D, rows, 4·H]")?;
    let per = group([directions, rows, columns], scale.len());
    if scale.len() != directions && scale.len() != directions * columns {
        let expected = format!("[D] = [{directions}] or [D, 4·H] = [{directions}, {columns}]");
        return Err(Error::mismatch(format!("{what}_scale"), expected, format!("{:?}", scale.shape)));
    }
    if let Some(zero) = zero.filter(|zero| zero.len() != scale.len()) {
        let expected = format!("as many as scales, {}", scale.len());
        return Err(Error::mismatch(format!("{what}_zero_point"), expected, zero.len()));
    }
    let real = scaled(q, scale, zero, per)?;
    let own = strides(&q.shape);
    let shape = vec![directions, columns, rows];
    let places = Places::new(&shape, 0, vec![own[0] as isize, own[2] as isize, own[1] as isize]);
    Ok(real.taken(shape, places))
}

/// Whether [`wgpu_rnn::weights::WeightFormat::Int8`] holds such a matrix as it is: it has a scale for every row, and numbers of -127 to 127
/// without a zero point. So where no number is beyond that once its zero point is taken off.
pub(super) fn fits_int8(q: &Constant, zero: Option<&Constant>) -> bool {
    let Ok(sizes) = q.sizes::<3>("q", "[D, rows, 4·H]") else { return false };
    let zeros = zero.map_or(Ok(&[0][..]), |zero| zero.integers("zero point"));
    let (Ok(zeros), Ok(numbers)) = (zeros, q.integers("q")) else { return false };
    let per = group(sizes, zeros.len());
    let zero = |n: usize| if zeros.len() == 1 { Some(&zeros[0]) } else { zeros.get(per(n)) };
    numbers.iter().enumerate().all(|(n, &v)| zero(n).is_some_and(|zero| (v - zero).abs() <= 127))
}

/// Which scale and zero point an element has: its direction's, or its column's.
fn group([directions, rows, columns]: [usize; 3], scales: usize) -> impl Fn(usize) -> usize {
    move |n| match scales == directions {
        true => n / (rows * columns).max(1),
        false => n / (rows * columns).max(1) * columns + n % columns.max(1),
    }
}
