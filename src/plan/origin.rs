//! Where the planner's choices come from: the caller, else what was measured, else the table.

use super::choices::{choose_block, choose_strategy};
use super::tiles::{choose_tiles, sequence_bytes};
use super::{Caps, Options, Strategy};
use crate::error::Result;
use crate::kernels::Tiles;
use crate::model::stack::{RnnConfig, Shape};
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

/// What is decided before anything is sized.
pub(super) struct Chosen {
    pub strategy: Strategy,
    pub reason: String,
    pub tiles: Tiles,
    pub block: usize,
    pub choices: Choices,
}

impl Chosen {
    pub fn new(config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options) -> Result<Self> {
        let mut refused = Vec::new();
        let (strategy, reason, origin) = choose_strategy(config, caps, options, &mut refused)?;
        let nominal = options.nominal.unwrap_or(shape);
        let measured = options.tuning.as_ref().and_then(|t| t.choice(config, nominal, options, strategy));
        let table = choose_tiles(config, nominal, caps, options, strategy);
        let tuned = measured.map(|m| m.tiles.over(table)).filter(|tiles| {
            let bytes = sequence_bytes(config, tiles);
            let fits = strategy == Strategy::Step || bytes <= caps.max_workgroup_memory;
            if !fits {
                refused.push(format!("tiles of {} sequences: {bytes} bytes of workgroup memory", tiles.tile));
            }
            fits
        });
        let tiles = tuned.unwrap_or(table);
        let block = |measured| choose_block(config, shape, caps, options, strategy, &tiles, measured);
        let (block, block_origin) = match measured.and_then(|m| m.block) {
            None => (block(None)?, Origin::Table),
            Some(steps) => match block(Some(steps)) {
                Ok(block) => (block, Origin::Cache),
                Err(e) => {
                    refused.push(format!("blocks of {steps} steps: {e}"));
                    (block(None)?, Origin::Table)
                }
            },
        };
        let choices = Choices {
            strategy: origin,
            tiles: if tuned.is_some() { Origin::Cache } else { Origin::Table },
            block: if options.max_block == Some(block) { Origin::Forced } else { block_origin },
            refused,
        };
        Ok(Self { strategy, reason, tiles, block, choices })
    }
}
