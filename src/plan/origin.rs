//! Where the planner's choices come from.

use std::fmt;

/// Where a choice comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table by device class that comes with this crate.
    Table,
    /// A measurement on this very device ([`crate::Options::tuning`]).
    Cache,
    /// The caller.
    Forced,
}

/// Where a plan's choices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The strategy.
    pub strategy: Origin,
    /// Workgroup and register tiles.
    pub tiles: Origin,
    /// Steps per block.
    pub block: Origin,
    /// What was measured but cannot be used here, and why; the table stands in for it.
    pub refused: Vec<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Cache => "cache",
            Self::Forced => "forced",
        })
    }
}

/// `strategy from table, tiles from cache, block forced`.
impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (what, origin)) in
            [("strategy", self.strategy), ("tiles", self.tiles), ("block", self.block)].into_iter().enumerate()
        {
            let from = if origin == Origin::Forced { "" } else { "from " };
            write!(f, "{}{what} {from}{origin}", if n > 0 { ", " } else { "" })?;
        }
        self.refused.iter().try_for_each(|why| write!(f, "; measured but refused: {why}"))
    }
}
