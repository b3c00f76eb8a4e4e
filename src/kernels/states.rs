//! The kernels between a pool's slots and a batch: the same for every configuration and network, so that no text is put together.

use super::Access;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKernel {
    /// slots → the states before a batch's first step
    Gather,
    /// the states after its last steps → slots
    Scatter,
}

impl StateKernel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Gather, Self::Scatter];

    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gather => "gather",
            Self::Scatter => "scatter",
        }
    }

    /// Its bindings, in binding order, all in group 0.
    pub fn bindings(self) -> [(&'static str, Access); 4] {
        use Access::{Read, ReadWrite};
        match self {
            Self::Gather => [("pieces", Read), ("streams", Read), ("states", Read), ("values", ReadWrite)],
            Self::Scatter => [("pieces", Read), ("streams", Read), ("values", Read), ("states", ReadWrite)],
        }
    }

    /// Its WGSL.
    pub fn text(self) -> &'static str {
        match self {
            Self::Gather => include_str!("../../shaders/pool/gather.wgsl"),
            Self::Scatter => include_str!("../../shaders/pool/scatter.wgsl"),
        }
    }
}
