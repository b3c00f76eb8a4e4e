//! What is around the stack: an embedding in front of it, a dense layer with a loss behind it.
//!
//! ```text
//! embed                ids, table -> x                           first
//! ... the stack ...
//! project (head)       y·W_oᵀ + b_o -> outputs                   the head is a layer without recurrence: the same kernels
//! loss_*               outputs, targets -> losses, d_outputs     a number per row, already divided by the mean's divisor
//! loss_sum             losses -> loss                            both only where the head has a loss
//!
//! weight_backward, input_backward (head)     d_outputs -> d_head, dy              the backward pass begins here
//! ... the stack's ...
//! embed_backward       dx -> de                                  and ends here
//! ```

use super::build::{Builder, ELEMENTWISE_GROUPS, UNUSED, once};
use super::{Dims, Dispatch, Extent, Role, SlotId, Step};
use crate::kernels::Kernel;
use crate::model::stack::{Head, Loss, RnnConfig};
use std::ops::Range;

/// Slots of the embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingIds {
    /// Token ids, from the caller.
    pub ids: SlotId,
    /// The table `[V, I]`.
    pub table: SlotId,
    /// In training plans: where each token occurs, and the table's gradient.
    pub grad: Option<EmbeddingGradientIds>,
}

/// Slots of the embedding's backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingGradientIds {
    /// `start[V + 1]`, then the rows of x of every token.
    pub occurrences: SlotId,
    /// The gradient of the table `[V, I]`.
    pub table: SlotId,
}

/// Slots of the head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadIds {
    /// W_o and b_o, packed as a layer's W.
    pub w: SlotId,
    /// The outputs, one row per real (step, sequence), packed.
    pub outputs: SlotId,
    /// Those of the loss, if it has one.
    pub loss: Option<LossIds>,
    /// In training plans: W_oᵀ, and the gradient of W_o and, in the last column, b_o.
    pub grad: Option<HeadGradientIds>,
}

/// Slots of the head's loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LossIds {
    /// Targets, from the caller: classes, or values.
    pub targets: SlotId,
    /// The weight of every row of y over the mean's divisor.
    pub target_weights: SlotId,
    /// The loss of every packed row.
    pub losses: SlotId,
    /// Their sum.
    pub loss: SlotId,
    /// The gradient of the outputs; unused unless the plan trains.
    pub d_outputs: SlotId,
}

/// Slots of the head's backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadGradientIds {
    /// W_oᵀ, packed as a layer's.
    pub wt: SlotId,
    /// The gradient of W_o and, in the last column, of b_o: `[1, O, D·P + 1]`.
    pub dw: SlotId,
}

impl Builder<'_> {
    pub fn embedding_slots(&mut self) -> Option<EmbeddingIds> {
        let vocabulary = ("V", self.config.vocabulary?);
        let (outer, features) = (self.outer(), ("I", self.config.input_size));
        let ids = self.slot("ids", Role::Index, &outer);
        let table = self.slot("embedding", Role::Weights, &[vocabulary, features]);
        let grad = self.train.then(|| {
            let rows = self.shape.time * self.shape.batch;
            let occurrences = self.slot("occurrences", Role::Index, &[("V+1+rows", vocabulary.1 + 1 + rows)]);
            let table = self.slot("d_embedding", Role::Output, &[vocabulary, features]);
            EmbeddingGradientIds { occurrences, table }
        });
        Some(EmbeddingIds { ids, table, grad })
    }

    pub fn embed(&mut self, e: &EmbeddingIds, x: SlotId) -> Step {
        let dims = self.dims(0, 0..self.shape.time);
        let groups = (self.slots[x].len().div_ceil(self.tiles.width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1);
        once(Kernel::Embed, None, dims, vec![e.ids, e.table, x], groups)
    }

    pub fn embed_backward(&mut self, e: &EmbeddingIds, dx: SlotId) -> Option<Step> {
        let (grad, vocabulary) = (e.grad.as_ref()?, self.config.vocabulary?);
        let dims = self.dims(0, 0..self.shape.time);
        let groups =
            (self.config.input_size.div_ceil(self.tiles.width), Extent::Fixed(vocabulary.min(ELEMENTWISE_GROUPS)), 1);
        Some(once(Kernel::EmbedBackward, None, dims, vec![dx, grad.occurrences, grad.table], groups))
    }

    pub fn head_slots(&mut self) -> Option<HeadIds> {
        let Head { size, loss } = self.config.head?;
        let (width, [outer, inner]) = (self.config.output_size(), self.outer());
        let (rows, outputs) = (("rows", self.shape.time * self.shape.batch), ("O", size));
        let w = self.weight_slot("w.head", &[self.depth(width), outputs, ("k", 4)]);
        let d_outputs = loss.map(|_| match self.train {
            true => self.slot("d_outputs", Role::Scratch, &[rows, outputs]),
            false => self.slot("d_outputs", Role::Scratch, &UNUSED),
        });
        Some(HeadIds {
            w,
            outputs: self.slot("outputs", Role::Output, &[rows, outputs]),
            loss: loss.zip(d_outputs).map(|(loss, d_outputs)| LossIds {
                targets: match loss {
                    Loss::CrossEntropy => self.slot("targets", Role::Index, &[outer, inner]),
                    Loss::MeanSquared => self.slot("targets", Role::Input, &[outer, inner, outputs]),
                },
                target_weights: self.slot("target_weights", Role::Input, &[outer, inner]),
                losses: self.slot("losses", Role::Scratch, &[rows]),
                loss: self.slot("loss", Role::Output, &[("loss", 1)]),
                d_outputs,
            }),
            grad: self.train.then(|| HeadGradientIds {
                wt: self.weight_slot("wt.head", &[("O/4", size.div_ceil(4)), ("I", width), ("k", 4)]),
                dw: self.slot("dw.head", Role::Output, &[("D", 1), outputs, ("I+1", width + 1)]),
            }),
        })
    }

    /// The uniform block of the head over a stretch of steps: its rows are all held at once.
    fn head_dims(&mut self, steps: Range<usize>) -> usize {
        let (time, batch) = (self.shape.time as u32, self.shape.batch as u32);
        self.dims.push(Dims {
            batch,
            time,
            layer: 0,
            first: steps.start as u32,
            end: steps.end as u32,
            pre_rows: time * batch,
            input_size: self.config.output_size() as u32,
            segment: 0,
            segment_end: time,
            direction: 0,
            checkpoint: 0,
            alternating: 0,
            accumulate: u32::from(self.accumulate),
            chunk: 0,
            plane: 0,
            planes: 1,
            weights_plane: 0,
            input_rows: 0,
        });
        self.dims.len() - 1
    }

    /// y → outputs and, where there is a loss, losses and their sum.
    pub fn head_steps(&mut self, head: &HeadIds, y: SlotId, schedule: SlotId) -> Vec<Step> {
        let Some(Head { size, loss }) = self.config.head else { return Vec::new() };
        let kernel = project_kernel(self.config.output_size());
        let (wide, rows) = self.project_grid(size);
        let groups = (wide, rows, 1);
        let mut steps = Vec::new();
        for part in self.head_parts() {
            let dims = self.head_dims(part);
            steps.push(of_head(kernel, dims, vec![y, head.w, head.outputs, schedule], groups));
        }
        let (Some(ids), Some(loss)) = (&head.loss, loss) else { return steps };
        let dims = self.head_dims(0..self.shape.time);
        let kernel = match loss {
            Loss::MeanSquared => Kernel::LossMeanSquared,
            Loss::CrossEntropy => Kernel::LossCrossEntropy,
        };
        let slots = vec![head.outputs, ids.targets, ids.target_weights, ids.losses, ids.d_outputs, schedule];
        let all = self.shape.time * self.shape.batch;
        let groups = (all.div_ceil(self.tiles.width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1);
        steps.push(of_head(kernel, dims, slots, groups));
        let slots = vec![ids.losses, ids.loss, schedule];
        steps.push(of_head(Kernel::LossSum, dims, slots, (1, Extent::Fixed(1), 1)));
        steps
    }

    /// The stretches of steps that one dispatch of the head's products covers each.
    fn head_parts(&self) -> Vec<Range<usize>> {
        let (time, stretch) = (self.shape.time, self.stretches.head);
        (0..time).step_by(stretch).map(|first| first..first.saturating_add(stretch).min(time)).collect()
    }

    /// d_outputs → the gradients of W_o, b_o and y.
    pub fn head_backward(&mut self, head: &HeadIds, y: SlotId, dy: SlotId, schedule: SlotId) -> Vec<Step> {
        let (Some(grad), Some(loss), Some(Head { size, .. })) = (&head.grad, &head.loss, self.config.head) else {
            return Vec::new();
        };
        let (width, inputs) = (self.tiles.width, self.config.output_size());
        let groups = (self.slots[dy].len().div_ceil(width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1);
        let dims = self.head_dims(0..self.shape.time);
        let mut steps = vec![once(Kernel::Clear, None, dims, vec![dy], groups)];
        let stretch = self.stretches.head_weights;
        for first in (0..self.shape.time).step_by(stretch).collect::<Vec<_>>().into_iter().rev() {
            let dims = self.head_dims(first..first.saturating_add(stretch).min(self.shape.time));
            let groups = self.weight_grid(inputs, size, 1, 1);
            let slots = vec![loss.d_outputs, y, grad.dw, schedule];
            steps.push(of_head(Kernel::WeightBackwardInput, dims, slots, groups));
        }
        let groups = self.input_grid(inputs);
        for part in self.head_parts() {
            let dims = self.head_dims(part);
            steps.push(of_head(Kernel::InputBackward, dims, vec![grad.wt, loss.d_outputs, dy, schedule], groups));
        }
        steps
    }
}

/// A dispatch over the head as a layer of its own.
fn of_head(kernel: Kernel, dims: usize, slots: Vec<SlotId>, groups: (usize, Extent, usize)) -> Step {
    Step::Once(Dispatch { kernel, stage: 0, layer: None, dims, write_y: true, head: true, slots, odd: None, groups })
}

/// `project` with 16-byte loads where rows of `inputs` values allow them.
pub(super) fn project_kernel(inputs: usize) -> Kernel {
    if inputs.is_multiple_of(4) { Kernel::ProjectVec4 } else { Kernel::ProjectScalar }
}

/// Multiply-adds per row of the head's product.
pub(super) fn head_products(config: &RnnConfig) -> usize {
    config.head.map_or(0, |head| head.size * config.output_size())
}
