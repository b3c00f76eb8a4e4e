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
        let (directions, block) = (config.directions(), (dims.end - dims.first) as usize);
        let (steps, directions, products) = match d.kernel {
            Kernel::ProjectVec4 | Kernel::ProjectScalar | Kernel::WeightBackwardInput => (block, directions, input),
            // One direction at a time.
            Kernel::InputBackward => ((dims.segment_end - dims.segment) as usize, 1, input),
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
