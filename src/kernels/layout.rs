//! Where things lie in packed weights, in the history and in workgroup memory; one truth for kernels and executors.

use crate::config::{RnnConfig, StageShape};

/// The offsets of one (layer, direction)'s packed recurrent weights, in vec4s; see `shaders/lib/stage.wgsl`.
pub(crate) struct WeightOffsets {
    /// Per stage: where R starts and where the unit parameters start.
    pub stages: Vec<(usize, usize)>,
    /// All of it.
    pub total: usize,
}

pub(crate) fn weight_offsets(stages: &[StageShape]) -> WeightOffsets {
    let mut at = 0;
    let stages = stages
        .iter()
        .map(|s| {
            let matrix = at;
            at += s.operand.div_ceil(4) * s.matrix_rows();
            let params = at;
            at += s.unit_params().div_ceil(4) * s.units;
            (matrix, params)
        })
        .collect();
    WeightOffsets { stages, total: at.max(1) }
}

/// The offsets of the transposed pack that the backward kernels read: per stage Rᵀ `[gate][N/4][K]`, then unit parameters.
pub(crate) fn transposed_offsets(stages: &[StageShape]) -> WeightOffsets {
    let mut at = 0;
    let stages = stages
        .iter()
        .map(|s| {
            let matrix = at;
            at += transposed_size(s);
            let params = at;
            at += s.unit_params().div_ceil(4) * s.units;
            (matrix, params)
        })
        .collect();
    WeightOffsets { stages, total: at.max(1) }
}

fn transposed_size(s: &StageShape) -> usize {
    if s.matrix_rows() == 0 { 0 } else { s.stage.recurrent_gates() * s.units.div_ceil(4) * s.operand }
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
        let hidden = config.cell.states.len() * config.hidden_size;
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
/// Values per sequence and side of `sequence_forward`'s workgroup memory: the widest operand, in whole vec4s.
pub(crate) fn shared_stride(stages: &[StageShape]) -> usize {
    stages.iter().map(|s| s.operand.max(s.units).next_multiple_of(4)).max().unwrap_or(4)
}

/// Bytes of workgroup memory of `sequence_forward`.
pub(crate) fn sequence_workgroup_bytes(config: &RnnConfig, tile: usize, width: usize) -> usize {
    let stages = config.stages();
    let partial = if stages.iter().any(|s| s.stage.normalise) { width } else { 0 };
    4 * (2 * tile * shared_stride(&stages) + partial)
}
