//! What a GPU runs for each operation, one file per row of [`crate::model::network::ops`].

mod concat;
mod conv;
mod embedding;
mod layers;
mod linear;
mod loss;
mod map;
mod norm;
mod pool;
mod scan;
mod sum;

pub(in crate::plan::network) use scan::pair_rounds;

use super::program::Build;
use crate::model::network::Op;
use crate::model::network::ops::operations;

/// The dispatches of an operation, `n` of the network's, in order.
pub(in crate::plan::network) trait Dispatches {
    /// Of its value.
    fn forward(&self, n: usize, build: &mut Build<'_>);
    /// Of the gradients of what it reads.
    fn backward(&self, n: usize, build: &mut Build<'_>);
}

macro_rules! dispatches {
    ($($(#[$doc:meta])* $name:ident($type:ident),)*) => {
        /// Those of any operation.
        pub(in crate::plan::network) fn dispatches(op: &Op) -> &dyn Dispatches {
            match op {
                $(Op::$name(op) => op,)*
            }
        }
    };
}
operations!(dispatches);
