//! The work of a plan: multiply-adds of its matrix products.

use super::{Dispatch, Plan};
use crate::kernels::Kernel;

impl Plan {
    /// Multiply-adds of the matrix products of a dispatch, times two, as if no sequence were shorter than T; of one that runs
    /// once per step, for all steps of its block.
    pub fn dispatch_flops(&self, d: &Dispatch) -> u64 {
        let dims = &self.dims[d.dims];
        let head = self.config.head_layer().filter(|_| d.head);
        let config = head.as_ref().unwrap_or(&self.config);
        let stages = config.stages();
        let input = config.row_layout(false).inputs * dims.input_size as usize;
        let of = |n: usize| stages[n].matrix_rows() * stages[n].depth();
        let all: usize = (0..stages.len()).map(of).sum();
        let directions = config.directions();
        // Steps of the block, over all layers of a wave.
        let layers = if dims.chunk > 0 { d.groups.2 / directions } else { 1 } as u32;
        let end = |layer: u32| (dims.end - layer * dims.chunk).min(dims.time);
        let steps_of = |layer: u32| end(layer).saturating_sub(dims.first - layer * dims.chunk);
        let block = (dims.layer..dims.layer + layers).map(steps_of).sum::<u32>() as usize;
        let (steps, directions, products) = match d.kernel {
            Kernel::ProjectVec4 | Kernel::ProjectScalar | Kernel::WeightBackwardInput => (block, directions, input),
            // One direction at a time.
            Kernel::InputBackward => (block, 1, input),
            Kernel::StepForward
            | Kernel::StepForwardTrain
            | Kernel::StepProduct
            | Kernel::StepBackward
            | Kernel::Rebuild
            | Kernel::WeightBackwardRecurrent => (block, directions, of(d.stage)),
            Kernel::SequenceForward | Kernel::SequenceForwardTrain | Kernel::SequenceBackward => {
                (block, directions, all)
            }
            _ => return 0,
        };
        2 * (steps * self.shape.batch * directions) as u64 * products as u64
    }
}
