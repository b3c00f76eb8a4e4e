//! THE kernel table: every kernel's name, bindings and WGSL, and how a pipeline's source is put together.
//!
//! A source is plain text joined in order: generated constants, `lib/*.wgsl`, `cells/<cell>.wgsl`, `kernels/<kernel>.wgsl`.
//! Two things are generated, because a static language without generics needs them: the constants of a configuration
//! (sizes, gate counts, offsets: one source of truth, the Rust data), and one copy of a stage's text per stage, with
//! `_STAGE` replaced by `_0`, `_1`, … A test compares the table with naga's reflection of every source.
//! x, `pre` and y are arrays of `act` and `gate`, aliases of f32 or f16 ([`ActivationFormat`]): reads widen, writes round.
//! Weights are read through two functions, `weight4` and `exact`, one text per [`WeightFormat`]: `lib/weights_*.wgsl`.

mod choose;
mod encode;
mod functions;
mod layout;
mod pack;
mod source;
mod spread;
mod states;
mod zoneout;

pub use choose::ChooseKernel;
pub(crate) use choose::{
    FIELDS, MOST_ROWS, NONE, RowState, RowStatus, TRANSDUCER_FIELDS, TransducerPlaces, TransducerWords, Words,
};
pub(crate) use encode::Encoder;
pub(crate) use layout::{HistoryLayout, KeptLayout, sequence_workgroup_bytes, transposed_offsets, weight_offsets};
pub(crate) use pack::Flat;
pub use pack::{GradientOf, Pack, Table};
pub use source::source;
pub(crate) use spread::Spread;
pub use states::StateKernel;

use crate::model::activation_format::ActivationFormat;
use crate::model::stack::Reset;
use crate::model::weights::WeightFormat;

/// How a kernel sees a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform block at a dynamic offset.
    Uniform,
    /// A read-only storage buffer.
    Read,
    /// A read-write storage buffer.
    ReadWrite,
}

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// h0, c0 → operand, state
    LoadState,
    /// x·Wᵀ + b over a block of steps, I divisible by 4
    ProjectVec4,
    /// x·Wᵀ + b over a block of steps, any I
    ProjectScalar,
    /// x + b over a block of steps, where a layer has no W
    SkipInput,
    /// one stage of one step
    StepForward,
    /// the product of a normalising stage of one step
    StepProduct,
    /// the statistic and pointwise part of a normalising stage of one step
    StepNormalise,
    /// the same, keeping what the backward pass needs
    StepNormaliseTrain,
    /// the statistic of a normalising stage's W x over a block of steps
    NormaliseInput,
    /// all stages of a block of steps
    SequenceForward,
    /// operand, state → hn, cn
    StoreState,
    /// one stage of one step, keeping what the backward pass needs
    StepForwardTrain,
    /// all stages of a block of steps, keeping what the backward pass needs
    SequenceForwardTrain,
    /// what an episode begins from → operand and state, where one begins at a step
    ResetState,
    /// states and h before a segment → the history's first rows
    BeginSegment,
    /// states and h before a segment → checkpoint
    SaveCheckpoint,
    /// checkpoint → states and h
    LoadCheckpoint,
    /// gradients of hn and cn → gradients of h and the states after the last step
    LoadGradient,
    /// gradient of h before a segment
    CarryGradient,
    /// zeros
    Clear,
    /// a segment's history → rows kept of all steps
    SaveHistory,
    /// kept rows → a segment's history
    LoadHistory,
    /// all gates of one stage over a block of steps, from the kept rows
    Rebuild,
    /// the statistic of a normalising stage's product over a block of steps, and its `out`, from what rebuild made
    RebuildNormalise,
    /// one stage of one step backwards
    StepBackward,
    /// the adjoints of a normalising stage's statistics at one step
    StepNormaliseBackward,
    /// all stages of a block of steps backwards
    SequenceBackward,
    /// gradients of h0 and c0
    StoreGradient,
    /// gradient of x
    InputBackward,
    /// gradient of x, where a layer has no W
    SkipBackward,
    /// gradients of W and b_w
    WeightBackwardInput,
    /// gradients of R and b_r of one stage
    WeightBackwardRecurrent,
    /// gradients of the unit parameters
    UnitBackward,
    /// rows of the embedding table → x
    Embed,
    /// gradient of the embedding table
    EmbedBackward,
    /// squared errors of the head's outputs, and their gradient
    LossMeanSquared,
    /// cross entropies of the head's outputs, and their gradient
    LossCrossEntropy,
    /// sum of the rows' losses
    LossSum,
    /// a layer's input, or its gradient, times its masks, in place
    Dropout,
    /// the caller's x times its masks, into a copy
    DropoutCopy,
    /// a gradient slot → gradient of all parameters
    GatherGradient,
    /// sums of squares of the gradient
    SquareSum,
    /// their norm, and what clips it
    Clip,
    /// gradient descent
    UpdateSgd,
    /// gradient descent with momentum
    UpdateMomentum,
    /// Adam and AdamW
    UpdateAdam,
    /// parameters → a packed weight buffer
    Pack,
    /// the last layer's outputs among those of all layers → y
    StoreY,
    /// gradient of y → behind those of the other layers' outputs
    LoadDy,
}

/// `(name, access)` in binding order.
type Bindings = &'static [(&'static str, Access)];

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 49] = [
        Self::LoadState,
        Self::ProjectVec4,
        Self::ProjectScalar,
        Self::SkipInput,
        Self::StepForward,
        Self::StepProduct,
        Self::StepNormalise,
        Self::StepNormaliseTrain,
        Self::NormaliseInput,
        Self::SequenceForward,
        Self::StoreState,
        Self::StepForwardTrain,
        Self::SequenceForwardTrain,
        Self::BeginSegment,
        Self::SaveCheckpoint,
        Self::LoadCheckpoint,
        Self::LoadGradient,
        Self::CarryGradient,
        Self::Clear,
        Self::ResetState,
        Self::SaveHistory,
        Self::LoadHistory,
        Self::Rebuild,
        Self::RebuildNormalise,
        Self::StepBackward,
        Self::StepNormaliseBackward,
        Self::SequenceBackward,
        Self::StoreGradient,
        Self::InputBackward,
        Self::SkipBackward,
        Self::WeightBackwardInput,
        Self::WeightBackwardRecurrent,
        Self::UnitBackward,
        Self::Embed,
        Self::EmbedBackward,
        Self::LossMeanSquared,
        Self::LossCrossEntropy,
        Self::LossSum,
        Self::Dropout,
        Self::DropoutCopy,
        Self::GatherGradient,
        Self::SquareSum,
        Self::Clip,
        Self::UpdateSgd,
        Self::UpdateMomentum,
        Self::UpdateAdam,
        Self::Pack,
        Self::StoreY,
        Self::LoadDy,
    ];

    /// The name of its file and of its CPU twin.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoadState => "load_state",
            Self::ProjectVec4 | Self::ProjectScalar => "project",
            Self::SkipInput => "skip_input",
            Self::StepForward | Self::StepForwardTrain => "step_forward",
            Self::StepProduct => "step_product",
            Self::StepNormalise | Self::StepNormaliseTrain => "step_normalise",
            Self::NormaliseInput => "normalise_input",
            Self::RebuildNormalise => "rebuild_normalise",
            Self::StepNormaliseBackward => "step_normalise_backward",
            Self::SequenceForward | Self::SequenceForwardTrain => "sequence_forward",
            Self::StoreState => "store_state",
            Self::BeginSegment => "begin_segment",
            Self::SaveCheckpoint => "save_checkpoint",
            Self::LoadCheckpoint => "load_checkpoint",
            Self::LoadGradient => "load_gradient",
            Self::CarryGradient => "carry_gradient",
            Self::Clear => "clear",
            Self::ResetState => "reset_state",
            Self::SaveHistory => "save_history",
            Self::LoadHistory => "load_history",
            Self::Rebuild => "rebuild",
            Self::StepBackward => "step_backward",
            Self::SequenceBackward => "sequence_backward",
            Self::StoreGradient => "store_gradient",
            Self::InputBackward => "input_backward",
            Self::SkipBackward => "skip_backward",
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => "weight_backward",
            Self::UnitBackward => "unit_backward",
            Self::Embed => "embed",
            Self::EmbedBackward => "embed_backward",
            Self::LossMeanSquared => "loss_mean_squared",
            Self::LossCrossEntropy => "loss_cross_entropy",
            Self::LossSum => "loss_sum",
            Self::Dropout | Self::DropoutCopy => "dropout",
            Self::GatherGradient => "gather_gradient",
            Self::SquareSum => "square_sum",
            Self::Clip => "clip",
            Self::UpdateSgd => "update_sgd",
            Self::UpdateMomentum => "update_momentum",
            Self::UpdateAdam => "update_adam",
            Self::Pack => "pack",
            Self::StoreY => "store_y",
            Self::LoadDy => "load_dy",
        }
    }

    /// Its bindings, in binding order, all in group 0.
    pub fn bindings(self) -> Bindings {
        use Access::{Read, ReadWrite, Uniform};
        match self {
            Self::LoadState => &[
                ("dims", Uniform),
                ("h0", Read),
                ("c0", Read),
                ("operand", ReadWrite),
                ("state", ReadWrite),
                ("schedule", Read),
            ],
            Self::ProjectVec4 | Self::ProjectScalar | Self::SkipInput => {
                &[("dims", Uniform), ("x", Read), ("weights", Read), ("pre", ReadWrite), ("schedule", Read)]
            }
            Self::StepForward => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("pre", Read),
                ("weights", Read),
                ("operand", Read),
                ("out", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
            ],
            Self::StepProduct => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("weights", Read),
                ("operand", Read),
                ("product", ReadWrite),
                ("schedule", Read),
            ],
            Self::StepNormalise => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("pre", Read),
                ("weights", Read),
                ("product", Read),
                ("out", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
            ],
            Self::StepNormaliseTrain => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("pre", ReadWrite),
                ("weights", Read),
                ("product", Read),
                ("out", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
                ("history", ReadWrite),
            ],
            Self::NormaliseInput => &[("dims", Uniform), ("pre", ReadWrite), ("schedule", Read)],
            Self::StepNormaliseBackward => {
                &[("dims", Uniform), ("step", Uniform), ("pre", ReadWrite), ("d_unit", Read), ("schedule", Read)]
            }
            Self::StepForwardTrain => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("pre", ReadWrite),
                ("weights", Read),
                ("operand", Read),
                ("out", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
                ("history", ReadWrite),
            ],
            Self::SequenceForwardTrain => &[
                ("dims", Uniform),
                ("weights", Read),
                ("pre", ReadWrite),
                ("operand", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
                ("history", ReadWrite),
            ],
            Self::BeginSegment => {
                &[("dims", Uniform), ("operand", Read), ("state", Read), ("history", ReadWrite), ("schedule", Read)]
            }
            Self::SaveCheckpoint => {
                &[("dims", Uniform), ("operand", Read), ("state", Read), ("checkpoints", ReadWrite)]
            }
            Self::LoadCheckpoint => {
                &[("dims", Uniform), ("operand", ReadWrite), ("state", ReadWrite), ("checkpoints", Read)]
            }
            Self::CarryGradient => {
                &[("dims", Uniform), ("weights", Read), ("pre", Read), ("d_hidden", ReadWrite), ("schedule", Read)]
            }
            Self::Clear => &[("dims", Uniform), ("values", ReadWrite)],
            Self::ResetState => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("operand", ReadWrite),
                ("state", ReadWrite),
                ("schedule", Read),
            ],
            Self::SaveHistory => &[("dims", Uniform), ("history", Read), ("kept", ReadWrite), ("schedule", Read)],
            Self::LoadHistory => &[("dims", Uniform), ("history", ReadWrite), ("kept", Read), ("schedule", Read)],
            Self::Rebuild | Self::RebuildNormalise => {
                &[("dims", Uniform), ("weights", Read), ("pre", ReadWrite), ("history", ReadWrite), ("schedule", Read)]
            }
            Self::LoadGradient => &[
                ("dims", Uniform),
                ("dhn", Read),
                ("dcn", Read),
                ("d_hidden", ReadWrite),
                ("d_state", ReadWrite),
                ("d_unit", ReadWrite),
                ("schedule", Read),
            ],
            Self::StepBackward => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("pre", ReadWrite),
                ("weights", Read),
                ("history", Read),
                ("d_state", ReadWrite),
                ("dy", Read),
                ("d_hidden", Read),
                ("d_unit", ReadWrite),
                ("schedule", Read),
            ],
            Self::SequenceBackward => &[
                ("dims", Uniform),
                ("weights", Read),
                ("pre", ReadWrite),
                ("history", Read),
                ("d_state", ReadWrite),
                ("dy", Read),
                ("d_hidden", Read),
                ("d_unit", ReadWrite),
                ("schedule", Read),
            ],
            Self::StoreGradient => &[
                ("dims", Uniform),
                ("d_hidden", Read),
                ("d_state", Read),
                ("dh0", ReadWrite),
                ("dc0", ReadWrite),
                ("schedule", Read),
            ],
            Self::InputBackward => {
                &[("dims", Uniform), ("weights", Read), ("pre", Read), ("dx", ReadWrite), ("schedule", Read)]
            }
            Self::SkipBackward => &[("dims", Uniform), ("pre", Read), ("dx", ReadWrite), ("schedule", Read)],
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => {
                &[("dims", Uniform), ("pre", Read), ("operand", Read), ("gradient", ReadWrite), ("schedule", Read)]
            }
            Self::UnitBackward => &[("dims", Uniform), ("d_unit", Read), ("gradient", ReadWrite)],
            Self::Embed => &[("dims", Uniform), ("ids", Read), ("table", Read), ("x", ReadWrite)],
            Self::EmbedBackward => &[("dims", Uniform), ("dx", Read), ("occurrences", Read), ("gradient", ReadWrite)],
            Self::LossMeanSquared | Self::LossCrossEntropy => &[
                ("dims", Uniform),
                ("outputs", Read),
                ("targets", Read),
                ("target_weights", Read),
                ("losses", ReadWrite),
                ("d_outputs", ReadWrite),
                ("schedule", Read),
            ],
            Self::LossSum => &[("dims", Uniform), ("losses", Read), ("loss", ReadWrite), ("schedule", Read)],
            Self::Dropout => &[("dims", Uniform), ("values", ReadWrite), ("schedule", Read)],
            Self::DropoutCopy => &[("dims", Uniform), ("values", ReadWrite), ("schedule", Read), ("source", Read)],
            Self::GatherGradient => &[("dims", Uniform), ("table", Read), ("values", Read), ("gradient", ReadWrite)],
            Self::SquareSum => &[("dims", Uniform), ("gradient", Read), ("sums", ReadWrite)],
            Self::Clip => &[("dims", Uniform), ("sums", Read), ("norm", ReadWrite), ("hyper", ReadWrite)],
            Self::UpdateSgd => &[("dims", Uniform), ("hyper", Read), ("gradient", Read), ("parameters", ReadWrite)],
            Self::UpdateMomentum => {
                &[("dims", Uniform), ("hyper", Read), ("gradient", Read), ("parameters", ReadWrite), ("m", ReadWrite)]
            }
            Self::UpdateAdam => &[
                ("dims", Uniform),
                ("hyper", Read),
                ("gradient", Read),
                ("parameters", ReadWrite),
                ("m", ReadWrite),
                ("v", ReadWrite),
            ],
            Self::StoreY => &[("dims", Uniform), ("outputs", Read), ("y", ReadWrite)],
            Self::LoadDy => &[("dims", Uniform), ("dy", Read), ("d_outputs", ReadWrite)],
            Self::Pack => &[("dims", Uniform), ("table", Read), ("parameters", Read), ("values", ReadWrite)],
            Self::SequenceForward => &[
                ("dims", Uniform),
                ("weights", Read),
                ("pre", Read),
                ("operand", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
            ],
            Self::StoreState => &[
                ("dims", Uniform),
                ("operand_even", Read),
                ("operand_odd", Read),
                ("state", Read),
                ("hn", ReadWrite),
                ("cn", ReadWrite),
                ("schedule", Read),
            ],
        }
    }

    /// Whether the kernel works on one stage of the cell (then there is one pipeline per stage).
    pub fn is_per_stage(self) -> bool {
        matches!(
            self,
            Self::StepForward
                | Self::StepForwardTrain
                | Self::StepProduct
                | Self::StepNormalise
                | Self::StepNormaliseTrain
                | Self::NormaliseInput
                | Self::StepBackward
                | Self::StepNormaliseBackward
                | Self::Rebuild
                | Self::RebuildNormalise
                | Self::WeightBackwardRecurrent
        )
    }

    /// Whether it runs once per time step, at a step that a uniform tells.
    pub fn is_per_step(self) -> bool {
        self.bindings().contains(&("step", Access::Uniform))
    }

    /// Whether it evaluates the cell.
    pub fn calls_cell(self) -> bool {
        matches!(
            self,
            Self::StepForward
                | Self::StepForwardTrain
                | Self::StepNormalise
                | Self::StepNormaliseTrain
                | Self::SequenceForward
                | Self::SequenceForwardTrain
                | Self::Rebuild
                | Self::RebuildNormalise
                | Self::StepBackward
                | Self::SequenceBackward
        )
    }

    /// Whether it reads or writes rows of the history.
    fn reads_history(self) -> bool {
        self.bindings().iter().any(|b| b.0 == "history") || self == Self::WeightBackwardRecurrent
    }

    /// Whether it writes y or reads its gradient.
    pub(crate) fn has_y(self) -> bool {
        self.bindings().iter().any(|b| b.0 == "y" || b.0 == "dy")
    }

    /// Whether it reads or writes x, `pre` or y in an inference plan: what [`crate::Options::activations`] is about.
    pub fn has_activations(self) -> bool {
        matches!(
            self,
            Self::ProjectVec4
                | Self::ProjectScalar
                | Self::SkipInput
                | Self::NormaliseInput
                | Self::StepForward
                | Self::StepNormalise
                | Self::SequenceForward
                | Self::Embed
                | Self::StoreY
        )
    }

    /// The text for operands in workgroup memory, of kernels that have one.
    fn tile_text(self) -> Option<&'static str> {
        match self {
            Self::ProjectVec4 | Self::ProjectScalar => Some(include_str!("../../shaders/kernels/project_tile.wgsl")),
            Self::InputBackward => Some(include_str!("../../shaders/kernels/input_backward_tile.wgsl")),
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => {
                Some(include_str!("../../shaders/kernels/weight_backward_tile.wgsl"))
            }
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::LoadState => include_str!("../../shaders/kernels/load_state.wgsl"),
            Self::ProjectVec4 | Self::ProjectScalar => include_str!("../../shaders/kernels/project.wgsl"),
            Self::SkipInput => include_str!("../../shaders/kernels/skip_input.wgsl"),
            Self::StepForward | Self::StepForwardTrain => include_str!("../../shaders/kernels/step_forward.wgsl"),
            Self::StepProduct => include_str!("../../shaders/kernels/step_product.wgsl"),
            Self::StepNormalise | Self::StepNormaliseTrain => {
                include_str!("../../shaders/kernels/step_normalise.wgsl")
            }
            Self::NormaliseInput => include_str!("../../shaders/kernels/normalise_input.wgsl"),
            Self::RebuildNormalise => include_str!("../../shaders/kernels/rebuild_normalise.wgsl"),
            Self::StepNormaliseBackward => include_str!("../../shaders/kernels/step_normalise_backward.wgsl"),
            Self::SequenceForward | Self::SequenceForwardTrain => {
                include_str!("../../shaders/kernels/sequence_forward.wgsl")
            }
            Self::StoreState => include_str!("../../shaders/kernels/store_state.wgsl"),
            Self::BeginSegment => include_str!("../../shaders/kernels/begin_segment.wgsl"),
            Self::SaveCheckpoint => include_str!("../../shaders/kernels/save_checkpoint.wgsl"),
            Self::LoadCheckpoint => include_str!("../../shaders/kernels/load_checkpoint.wgsl"),
            Self::LoadGradient => include_str!("../../shaders/kernels/load_gradient.wgsl"),
            Self::CarryGradient => include_str!("../../shaders/kernels/carry_gradient.wgsl"),
            Self::Clear => include_str!("../../shaders/kernels/clear.wgsl"),
            Self::ResetState => include_str!("../../shaders/kernels/reset_state.wgsl"),
            Self::SaveHistory => include_str!("../../shaders/kernels/save_history.wgsl"),
            Self::LoadHistory => include_str!("../../shaders/kernels/load_history.wgsl"),
            Self::Rebuild => include_str!("../../shaders/kernels/rebuild.wgsl"),
            Self::StepBackward => include_str!("../../shaders/kernels/step_backward.wgsl"),
            Self::SequenceBackward => include_str!("../../shaders/kernels/sequence_backward.wgsl"),
            Self::StoreGradient => include_str!("../../shaders/kernels/store_gradient.wgsl"),
            Self::InputBackward => include_str!("../../shaders/kernels/input_backward.wgsl"),
            Self::SkipBackward => include_str!("../../shaders/kernels/skip_backward.wgsl"),
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => {
                include_str!("../../shaders/kernels/weight_backward.wgsl")
            }
            Self::UnitBackward => include_str!("../../shaders/kernels/unit_backward.wgsl"),
            Self::Embed => include_str!("../../shaders/kernels/embed.wgsl"),
            Self::EmbedBackward => include_str!("../../shaders/kernels/embed_backward.wgsl"),
            Self::LossMeanSquared => include_str!("../../shaders/kernels/loss_mean_squared.wgsl"),
            Self::LossCrossEntropy => include_str!("../../shaders/kernels/loss_cross_entropy.wgsl"),
            Self::LossSum => include_str!("../../shaders/kernels/loss_sum.wgsl"),
            Self::Dropout | Self::DropoutCopy => include_str!("../../shaders/kernels/dropout.wgsl"),
            Self::GatherGradient => include_str!("../../shaders/kernels/gather_gradient.wgsl"),
            Self::SquareSum => include_str!("../../shaders/kernels/square_sum.wgsl"),
            Self::Clip => include_str!("../../shaders/kernels/clip.wgsl"),
            Self::UpdateSgd => include_str!("../../shaders/kernels/update_sgd.wgsl"),
            Self::UpdateMomentum => include_str!("../../shaders/kernels/update_momentum.wgsl"),
            Self::UpdateAdam => include_str!("../../shaders/kernels/update_adam.wgsl"),
            Self::Pack => include_str!("../../shaders/kernels/pack.wgsl"),
            Self::StoreY => include_str!("../../shaders/kernels/store_y.wgsl"),
            Self::LoadDy => include_str!("../../shaders/kernels/load_dy.wgsl"),
        }
    }
}

/// Where `sequence_forward` has R while it goes over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RPlace {
    /// In memory, read once per step and tile (`shaders/lib/sequence_product.wgsl`).
    Cache,
    /// In registers: one row of it per lane (`shaders/lib/sequence_product_rows.wgsl`); `sequence_width` is at least its rows.
    Rows,
    /// In registers: all rows of a lane's unit (`shaders/lib/sequence_product_units.wgsl`).
    Units,
}

/// The sizes of workgroups and register tiles: they decide speed, never bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Invocations of a workgroup (units per workgroup) in the step, project and state kernels.
    pub width: usize,
    /// Sequences per invocation in the recurrent kernels.
    pub tile: usize,
    /// Invocations that own a unit together in `step_forward`, each a part of its sums (`shaders/lib/split_sums.wgsl`): it decides
    /// their order of additions.
    pub split: usize,
    /// Units per invocation in `step_backward`.
    pub back_units: usize,
    /// Whether the way back unrolls its loops over pointwise parts: private arrays then need no indices.
    pub unroll: bool,
    /// Invocations of a workgroup of `sequence_forward`: at least the padded units of every stage.
    pub sequence_width: usize,
    /// Columns and rows per invocation in `project`; the rows also in `input_backward` and `rebuild`.
    pub project: (usize, usize),
    /// Rows and columns of the gradient per invocation in `weight_backward`.
    pub weight: (usize, usize),
    /// Features per invocation in `input_backward`.
    pub input: usize,
    /// Whether the operands of `project`, `weight_backward` and `input_backward` pass through workgroup memory
    /// (`shaders/lib/tile.wgsl`), and of the way back what all lanes of a workgroup read.
    pub shared: bool,
    /// Where `sequence_forward` has R.
    pub r: RPlace,
    /// Whether every row of `pre`, of the history and of every layer's input is made of whole vec4s, which the way back then loads as
    /// such (`shaders/kernels/weight_backward_fours.wgsl`): of software rasterisers, which pay for every load.
    pub fours: bool,
    /// Whether lanes of a subgroup load together what all of them read (`shaders/lib/lanes.wgsl`).
    pub lanes: bool,
}

/// Lanes of the subgroups that load together; the twin of SUBGROUP in `shaders/lib/lanes.wgsl`.
pub(crate) const SUBGROUP: usize = 8;

impl Tiles {
    /// Sequences per invocation on the way back: fewer where the way forward has more workgroups by sharing units.
    pub fn back_tile(&self) -> usize {
        if self.split > 1 { self.tile.div_ceil(2) } else { self.tile }
    }
}

/// Lanes of a workgroup along rows and along columns where matrices pass through workgroup memory; the twin of LANES in
/// `shaders/lib/tile.wgsl`.
pub(crate) const TILE_LANES: usize = 8;

/// ε of layer normalisation, PyTorch's default; one value for both executors.
pub(crate) const NORMALISE_EPSILON: f64 = 1e-5;

/// Steps that weight gradients are summed over before they join the running sum.
pub(crate) const GRADIENT_BLOCK: usize = 64;
/// Invocations of a workgroup and workgroups of `square_sum`: they fix the order of additions.
pub(crate) const NORM_WIDTH: usize = 64;
/// See [`NORM_WIDTH`].
pub(crate) const NORM_GROUPS: usize = 64;
/// What a pipeline's text depends on besides the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Which kernel.
    pub kernel: Kernel,
    /// The stage, for per-stage kernels; else 0.
    pub stage: usize,
    /// Tile sizes.
    pub tiles: Tiles,
    /// Whether the plan trains: rows of `pre` then hold all gates.
    pub train: bool,
    /// Whether y (forward) and its gradient (backward) exist.
    pub write_y: bool,
    /// Whether it works on the head, as a layer of its own.
    pub head: bool,
    /// Whether and how episodes begin inside a run ([`crate::Options::resets`]).
    pub resets: Option<Reset>,
    /// How weights are stored.
    pub weights: WeightFormat,
    /// How x, `pre` and y are stored, of kernels that have any ([`Kernel::has_activations`]).
    pub activations: ActivationFormat,
}
