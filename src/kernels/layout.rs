//! Where things lie in packed weights, in the history and in workgroup memory; one truth for kernels and executors.

use crate::model::cell::{Initial, State};
use crate::model::stack::{RnnConfig, StageShape};
use crate::model::weights::WeightFormat;

/// The offsets of one (layer, direction)'s packed recurrent weights, in entries of four; see `shaders/lib/stage.wgsl`.
pub(crate) struct WeightOffsets {
    /// Per stage: where R starts and where the unit parameters start.
    pub stages: Vec<(usize, usize)>,
    /// All of it.
    pub total: usize,
}

pub(crate) fn weight_offsets(stages: &[StageShape], format: WeightFormat) -> WeightOffsets {
    let mut at = 0;
    let stages = stages
        .iter()
        .map(|s| {
            let matrix = at;
            at += s.depth().div_ceil(4) * s.matrix_rows();
            let params = at;
            at += exact_size(s, format);
            (matrix, params)
        })
        .collect();
    WeightOffsets { stages, total: at.max(1) }
}

/// The offsets of the transposed pack that the backward kernels read: per stage Rᵀ `[gate][N/4][K]` (with n heads
/// `[gate][N/n/4][K]`: a feature is seen by its head's units), then unit parameters.
pub(crate) fn transposed_offsets(stages: &[StageShape], format: WeightFormat) -> WeightOffsets {
    let mut at = 0;
    let stages = stages
        .iter()
        .map(|s| {
            let matrix = at;
            at += transposed_size(s);
            let params = at;
            at += exact_size(s, format);
            (matrix, params)
        })
        .collect();
    WeightOffsets { stages, total: at.max(1) }
}

/// Entries of a stage's unit parameters and, where rows have scales, of those.
fn exact_size(s: &StageShape, format: WeightFormat) -> usize {
    let scales = if format.scaled() && s.matrix_rows() > 0 { s.stage.recurrent_gates() } else { 0 };
    format.exact_entries() * (s.unit_params() + scales).div_ceil(4) * s.units
}

fn transposed_size(s: &StageShape) -> usize {
    if s.matrix_rows() == 0 { 0 } else { s.stage.recurrent_gates() * s.head_units().div_ceil(4) * s.operand }
}

/// The columns of a row of the history: unit states `[S][H]`, h `[P]`, then the operands between stages.
pub(crate) struct HistoryLayout {
    /// Where each stage's `out` is kept (that of the last one is h).
    pub links: Vec<usize>,
    /// All of it.
    pub width: usize,
}

impl HistoryLayout {
    pub fn new(config: &RnnConfig, stages: &[StageShape]) -> Self {
        let hidden = config.states().len() * config.hidden_size;
        let mut width = hidden + config.state_size();
        let mut links = Vec::new();
        for (n, shape) in stages.iter().enumerate() {
            if n + 1 == stages.len() {
                links.push(hidden);
            } else {
                links.push(width);
                width += shape.units;
            }
        }
        Self { links, width }
    }
}

/// The columns of a row of `kept` (`Memory::Recompute`): only what nothing else holds or gives.
pub(crate) struct KeptLayout {
    /// Where each of the cell's states is found: a cell state in columns of its own, the unit's copy of h in those of h
    /// (unless recurrent dropout makes them differ or a projection narrower), a state that only goes from stage to stage nowhere.
    pub states: Vec<Option<usize>>,
    /// Where h (as the next step's product sees it) starts.
    pub hidden: usize,
    /// All of it.
    pub width: usize,
}

impl KeptLayout {
    pub fn new(config: &RnnConfig) -> Self {
        let (states, dropped) = (config.states(), config.dropout.recurrent > 0.0 || config.proj_size > 0);
        let own = |s: &State| s.initial == Initial::Cell || s.initial == Initial::Hidden && dropped;
        let hidden = states.iter().filter(|s| own(s)).count() * config.hidden_size;
        let mut next = 0;
        let place = |s: &State| match s.initial {
            _ if own(s) => {
                next += config.hidden_size;
                Some(next - config.hidden_size)
            }
            Initial::Hidden => Some(hidden),
            _ => None,
        };
        Self { states: states.iter().map(place).collect(), hidden, width: hidden + config.state_size() }
    }
}

/// Values per sequence and side of `sequence_forward`'s workgroup memory: the widest operand, in whole vec4s.
pub(crate) fn shared_stride(stages: &[StageShape]) -> usize {
    stages.iter().map(|s| s.operand.max(s.units).next_multiple_of(4)).max().unwrap_or(4)
}

/// Bytes of workgroup memory of `sequence_forward`, or of `sequence_backward` where that has more, without what both have where
/// GPUs share more through it ([`super::Tiles`]).
pub(crate) fn sequence_workgroup_bytes(config: &RnnConfig, tile: usize, width: usize) -> usize {
    let stages = config.stages();
    let partial = if stages.iter().any(|s| s.stage.normalise) { width } else { 0 };
    4 * (2 * tile * shared_stride(&stages) + partial).max(4 * partial)
}
