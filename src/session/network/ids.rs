//! Token ids: checked when an input is written, because kernels look them up in a table.

use super::{NetworkInput, NetworkSession};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::plan::network::Times;

impl<T: Element> NetworkSession<T> {
    /// Whether all ids of rows that are no padding are in their tables.
    pub(super) fn check_ids(&self, input: &NetworkInput<'_, T>, times: &Times) -> Result<()> {
        let network = &self.plan.network;
        for (value, of) in network.embeddings() {
            let (name, vocabulary) = (&network.values[value].name, network.params[of.table].shape[0]);
            for row in (0..self.plan.rows_of(value)).filter(|&row| !times.is_padding(row)) {
                let id = input.number(network, of.ids, row).to_f64();
                if !is_index(id, vocabulary) {
                    let expected = format!("a whole number in 0..{vocabulary}");
                    return Err(Error::mismatch(format!("id {row} of {name}"), expected, id));
                }
            }
        }
        Ok(())
    }
}

/// Whether a number is one of 0..count.
pub(super) fn is_index(number: f64, count: usize) -> bool {
    number >= 0.0 && number.fract() == 0.0 && number < count as f64
}
