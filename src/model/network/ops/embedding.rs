//! Rows of a table by their numbers.

use super::super::{Builder, ParamId, Part};
use super::Operation;
use crate::error::{Error, Result};

/// Rows of the largest table: beyond this f32 does not have every whole number.
const MOST: usize = 1 << 24;

/// The row of a table `[vocabulary, width]` that a token id names (PyTorch `nn.Embedding`); 0 past a sequence's end. Ids are whole
/// numbers in one column of an input, checked when it is written; they have no gradient. A row's gradient is the sum over the steps that
/// read it, the first first.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// One column of an input: a number in 0..vocabulary per row.
    pub ids: Part,
    /// The table.
    pub table: ParamId,
}

impl Operation for Embedding {}

impl Builder {
    /// See [`Embedding`]: a value `[T, B, width]`, or `[B, width]` of ids `[B, 1]`. The table is the parameter `<name>.weight`
    /// `[vocabulary, width]`; [`Builder::param_id`] tells which, for a head that shares it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for ids of several columns or that are no input, a vocabulary of 0 or of more than 2²⁴ (ids are f32), a width of
    /// 0, or a name that is taken.
    ///
    /// ```
    /// use wgpu_rnn::network::Builder;
    /// # fn main() -> wgpu_rnn::Result<()> {
    /// let mut b = Builder::new();
    /// let ids = b.input("ids", 1)?;
    /// let x = b.embedding("embed", ids, 100, 8)?;
    /// assert_eq!(x.width, 8);
    /// // Tied: logits are products with the same table.
    /// let table = b.param_id("embed.weight").expect("the embedding has made it");
    /// let logits = b.linear("logits", x, table, None)?;
    /// assert_eq!(logits.width, 100);
    /// # Ok(()) }
    /// ```
    pub fn embedding(&mut self, name: &str, ids: Part, vocabulary: usize, width: usize) -> Result<Part> {
        let rows = self.rows(name, [ids])?;
        self.given(name, "ids", ids, 1)?;
        if !(1..=MOST).contains(&vocabulary) {
            let expected = format!("1..={MOST} (ids are whole numbers of f32)");
            return Err(Error::mismatch(format!("vocabulary of {name}"), expected, vocabulary));
        }
        self.whole_or_nothing(|b| {
            let table = b.param(&format!("{name}.weight"), &[vocabulary, width])?;
            b.node(name, width, rows, Embedding { ids, table })
        })
    }
}
