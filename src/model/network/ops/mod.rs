//! The operations: one file each, with what it reads and the [`Builder`](super::Builder)'s method that adds it, and one row of the table
//! here. What a GPU runs for an operation stands in the file of its name in `plan/network/ops`, what the CPU runs in that of
//! `exec/cpu/network`; both take the rows from here.

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
mod shift;
mod sum;

pub use concat::Concat;
pub use conv::Conv;
pub use embedding::Embedding;
pub use layers::LayersShape;
pub use linear::Linear;
pub use loss::Compared;
pub use map::Map;
pub use norm::{Norm, Normalise};
pub use pool::{Pool, Pooling};
pub use scan::ScanShape;
pub use shift::Shift;
pub use sum::Sum;

use super::NetworkData;

/// The table: hands every row, an operation's name and its type, to the macro `$with`.
macro_rules! operations {
    ($with:ident) => {
        $with! {
            /// x·Wᵀ + b
            Linear(Linear),
            /// A norm over groups of columns.
            Norm(Normalise),
            /// A depthwise convolution over time.
            Conv(Conv),
            /// Groups of columns summed.
            Sum(Sum),
            /// The step before.
            Shift(Shift),
            /// A pointwise expression.
            Map(Map),
            /// Parts side by side.
            Concat(Concat),
            /// A row per sequence of those of its steps.
            Pool(Pool),
            /// Rows of a table by their numbers.
            Embedding(Embedding),
            /// How far a value is from what it should have been.
            Loss(Compared),
            /// A linear recurrence; the value has V columns per head.
            Scan(ScanShape),
            /// A stack of recurrent layers: the value is its y. It has a plan of its own within the network's.
            Layers(LayersShape),
        }
    };
}
pub(crate) use operations;

/// What every operation tells of itself.
pub(crate) trait Operation {
    /// Values that it carries per sequence from run to run.
    fn state_size(&self) -> Option<usize> {
        None
    }

    /// Multiply-adds of a row, times two, but for those of plans within the network's.
    fn flops_of_row(&self, _network: &NetworkData) -> usize {
        0
    }

    /// Why a step's value cannot be given before later steps are there; `None`: it can.
    fn waits_for(&self) -> Option<&'static str> {
        None
    }
}

macro_rules! op {
    ($($(#[$doc:meta])* $name:ident($type:ident),)*) => {
        /// One operation.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $name($type),)*
        }

        impl Op {
            fn operation(&self) -> &dyn Operation {
                match self {
                    $(Self::$name(op) => op,)*
                }
            }
        }

        $(impl From<$type> for Op {
            fn from(op: $type) -> Self {
                Self::$name(op)
            }
        })*
    };
}
operations!(op);

impl Op {
    /// Values that it carries per sequence.
    pub(crate) fn state_size(&self) -> Option<usize> {
        self.operation().state_size()
    }

    /// Multiply-adds of a row, times two, but for those of plans within the network's.
    pub(crate) fn flops_of_row(&self, network: &NetworkData) -> usize {
        self.operation().flops_of_row(network)
    }

    /// Why a step's value cannot be given before later steps are there.
    pub(crate) fn waits_for(&self) -> Option<&'static str> {
        self.operation().waits_for()
    }
}
