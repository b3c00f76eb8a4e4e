//! THE kernel table: every kernel's name, bindings and WGSL, and how a pipeline's source is put together.
//!
//! A source is plain text joined in order: generated constants, `lib/*.wgsl`, `cells/<cell>.wgsl`, `kernels/<kernel>.wgsl`.
//! Two things are generated, because a static language without generics needs them: the constants of a configuration
//! (sizes, gate counts, offsets: one source of truth, the Rust data), and one copy of a stage's text per stage, with
//! `_STAGE` replaced by `_0`, `_1`, … A test compares the table with naga's reflection of every source.

use crate::cell::{Initial, Product};
use crate::config::{RnnConfig, StageShape};
use std::fmt::Write as _;

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
    /// one stage of one step
    StepForward,
    /// the product of a normalising stage of one step
    StepProduct,
    /// the statistic and pointwise part of a normalising stage of one step
    StepNormalise,
    /// all stages of a block of steps
    SequenceForward,
    /// operand, state → hn, cn
    StoreState,
    /// one stage of one step, keeping what the backward pass needs
    StepForwardTrain,
    /// all stages of a block of steps, keeping what the backward pass needs
    SequenceForwardTrain,
    /// gradient of cn → gradient of the states after the last step
    LoadGradient,
    /// one stage of one step backwards
    StepBackward,
    /// all stages of a block of steps backwards
    SequenceBackward,
    /// gradients of h0 and c0
    StoreGradient,
    /// gradient of x
    InputBackward,
    /// gradients of W and b_w
    WeightBackwardInput,
    /// gradients of R and b_r of one stage
    WeightBackwardRecurrent,
    /// gradients of the unit parameters
    UnitBackward,
}

/// `(name, access)` in binding order.
type Bindings = &'static [(&'static str, Access)];

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 18] = [
        Self::LoadState,
        Self::ProjectVec4,
        Self::ProjectScalar,
        Self::StepForward,
        Self::StepProduct,
        Self::StepNormalise,
        Self::SequenceForward,
        Self::StoreState,
        Self::StepForwardTrain,
        Self::SequenceForwardTrain,
        Self::LoadGradient,
        Self::StepBackward,
        Self::SequenceBackward,
        Self::StoreGradient,
        Self::InputBackward,
        Self::WeightBackwardInput,
        Self::WeightBackwardRecurrent,
        Self::UnitBackward,
    ];

    /// The name of its file and of its CPU twin.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoadState => "load_state",
            Self::ProjectVec4 | Self::ProjectScalar => "project",
            Self::StepForward | Self::StepForwardTrain => "step_forward",
            Self::StepProduct => "step_product",
            Self::StepNormalise => "step_normalise",
            Self::SequenceForward | Self::SequenceForwardTrain => "sequence_forward",
            Self::StoreState => "store_state",
            Self::LoadGradient => "load_gradient",
            Self::StepBackward => "step_backward",
            Self::SequenceBackward => "sequence_backward",
            Self::StoreGradient => "store_gradient",
            Self::InputBackward => "input_backward",
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => "weight_backward",
            Self::UnitBackward => "unit_backward",
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
            Self::ProjectVec4 | Self::ProjectScalar => {
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
            ],
            Self::SequenceForwardTrain => &[
                ("dims", Uniform),
                ("weights", Read),
                ("pre", ReadWrite),
                ("operand", ReadWrite),
                ("state", ReadWrite),
                ("y", ReadWrite),
                ("schedule", Read),
                ("link_0", ReadWrite),
                ("link_1", ReadWrite),
            ],
            Self::LoadGradient => {
                &[("dims", Uniform), ("dcn", Read), ("d_state", ReadWrite), ("d_unit", ReadWrite), ("schedule", Read)]
            }
            Self::StepBackward => &[
                ("dims", Uniform),
                ("step", Uniform),
                ("pre", ReadWrite),
                ("weights", Read),
                ("state", Read),
                ("d_state", ReadWrite),
                ("dy", Read),
                ("dhn", Read),
                ("d_unit", ReadWrite),
                ("schedule", Read),
            ],
            Self::SequenceBackward => &[
                ("dims", Uniform),
                ("weights", Read),
                ("pre", ReadWrite),
                ("state", Read),
                ("d_state", ReadWrite),
                ("dy", Read),
                ("dhn", Read),
                ("d_unit", ReadWrite),
                ("schedule", Read),
            ],
            Self::StoreGradient => &[
                ("dims", Uniform),
                ("weights", Read),
                ("pre", Read),
                ("d_state", Read),
                ("dh0", ReadWrite),
                ("dc0", ReadWrite),
                ("schedule", Read),
            ],
            Self::InputBackward => {
                &[("dims", Uniform), ("weights", Read), ("pre", Read), ("dx", ReadWrite), ("schedule", Read)]
            }
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => &[
                ("dims", Uniform),
                ("pre", Read),
                ("operand", Read),
                ("h0", Read),
                ("gradient", ReadWrite),
                ("schedule", Read),
            ],
            Self::UnitBackward => &[("dims", Uniform), ("d_unit", Read), ("gradient", ReadWrite), ("schedule", Read)],
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
                | Self::StepBackward
                | Self::WeightBackwardRecurrent
        )
    }

    fn text(self) -> &'static str {
        match self {
            Self::LoadState => include_str!("../shaders/kernels/load_state.wgsl"),
            Self::ProjectVec4 | Self::ProjectScalar => include_str!("../shaders/kernels/project.wgsl"),
            Self::StepForward | Self::StepForwardTrain => include_str!("../shaders/kernels/step_forward.wgsl"),
            Self::StepProduct => include_str!("../shaders/kernels/step_product.wgsl"),
            Self::StepNormalise => include_str!("../shaders/kernels/step_normalise.wgsl"),
            Self::SequenceForward | Self::SequenceForwardTrain => {
                include_str!("../shaders/kernels/sequence_forward.wgsl")
            }
            Self::StoreState => include_str!("../shaders/kernels/store_state.wgsl"),
            Self::LoadGradient => include_str!("../shaders/kernels/load_gradient.wgsl"),
            Self::StepBackward => include_str!("../shaders/kernels/step_backward.wgsl"),
            Self::SequenceBackward => include_str!("../shaders/kernels/sequence_backward.wgsl"),
            Self::StoreGradient => include_str!("../shaders/kernels/store_gradient.wgsl"),
            Self::InputBackward => include_str!("../shaders/kernels/input_backward.wgsl"),
            Self::WeightBackwardInput | Self::WeightBackwardRecurrent => {
                include_str!("../shaders/kernels/weight_backward.wgsl")
            }
            Self::UnitBackward => include_str!("../shaders/kernels/unit_backward.wgsl"),
        }
    }
}

/// The sizes of workgroups and register tiles: they decide speed, never bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Invocations of a workgroup (units per workgroup) in the step, project and state kernels.
    pub width: usize,
    /// Sequences per invocation in the recurrent kernels.
    pub tile: usize,
    /// Invocations of a workgroup of `sequence_forward`: at least the padded units of every stage.
    pub sequence_width: usize,
    /// Columns and rows per invocation in `project`.
    pub project: (usize, usize),
}

/// ε of layer normalisation, PyTorch's default; one value for both executors.
pub(crate) const NORMALISE_EPSILON: f64 = 1e-5;

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

/// Steps that weight gradients are summed over before they join the running sum.
pub(crate) const GRADIENT_BLOCK: usize = 64;
/// Columns of `pre` per invocation of `weight_backward`.
pub(crate) const WEIGHT_ROWS: usize = 8;

/// What a pipeline's text depends on besides the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Which kernel.
    pub kernel: Kernel,
    /// The stage, for per-stage kernels; else 0.
    pub stage: usize,
    /// Tile sizes.
    pub tiles: Tiles,
    /// Whether the forward pass keeps what the backward pass needs.
    pub train: bool,
}

/// The WGSL of a kernel for a configuration.
pub fn source(config: &RnnConfig, variant: &Variant) -> String {
    let stages = config.stages();
    let kernel = variant.kernel;
    let mut parts: Vec<String> = vec![
        constants(config, &stages, variant),
        include_str!("../shaders/lib/schedule.wgsl").into(),
        include_str!("../shaders/lib/state.wgsl").into(),
    ];
    let text = kernel.text();
    let one = variant.stage;
    match kernel {
        Kernel::LoadState
        | Kernel::StoreState
        | Kernel::LoadGradient
        | Kernel::InputBackward
        | Kernel::UnitBackward => {
            parts.push(text.into());
        }
        Kernel::ProjectVec4 => parts.extend([include_str!("../shaders/lib/input_vec4.wgsl").into(), text.into()]),
        Kernel::ProjectScalar => parts.extend([include_str!("../shaders/lib/input_scalar.wgsl").into(), text.into()]),
        Kernel::StepProduct => parts.push(instantiate(text, one)),
        Kernel::WeightBackwardInput => {
            parts.extend([include_str!("../shaders/lib/operand_input.wgsl").into(), text.into()]);
        }
        Kernel::WeightBackwardRecurrent => {
            parts.push(instantiate(include_str!("../shaders/lib/operand_recurrent.wgsl"), one));
            parts.push(text.into());
        }
        Kernel::StoreGradient => {
            parts.push(text.into());
            parts.extend(backward_parts(config, &stages));
        }
        Kernel::StepForward | Kernel::StepForwardTrain | Kernel::StepNormalise => {
            parts.extend(forward_parts(config, &stages, kernel));
            parts.push(instantiate(include_str!("../shaders/lib/stage.wgsl"), one));
            parts.push(instantiate(text, one));
        }
        Kernel::SequenceForward | Kernel::SequenceForwardTrain => {
            parts.extend(forward_parts(config, &stages, kernel));
            parts.push(text.into());
            parts.extend(sequence_parts(&stages, kernel));
        }
        Kernel::StepBackward => {
            parts.extend(backward_parts(config, &stages));
            parts.push(next_part(&stages, one));
            parts.push(instantiate(text, one));
        }
        Kernel::SequenceBackward => {
            parts.extend(backward_parts(config, &stages));
            parts.push(text.into());
            let mut calls = String::new();
            for n in (0..stages.len()).rev() {
                parts.push(next_part(&stages, n));
                parts.push(instantiate(include_str!("../shaders/kernels/sequence_backward_stage.wgsl"), n));
                let _ = write!(
                    calls,
                    "    stage_{n}(direction, s, b, unit);\n    storageBarrier();\n    workgroupBarrier();\n"
                );
            }
            parts.push(format!("fn run_stages(direction: u32, s: u32, b: u32, unit: u32) {{\n{calls}}}"));
        }
    }
    parts.join("\n")
}

/// The cell, and where pre-activations go.
fn forward_parts(config: &RnnConfig, stages: &[StageShape], kernel: Kernel) -> [String; 3] {
    let keep = match kernel {
        Kernel::StepForwardTrain | Kernel::SequenceForwardTrain => include_str!("../shaders/lib/keep_gates.wgsl"),
        _ => include_str!("../shaders/lib/keep_nothing.wgsl"),
    };
    [include_str!("../shaders/lib/math.wgsl").into(), cell_text(config, stages), keep.into()]
}

/// One copy of each stage, and `run_stages` that calls them in order.
fn sequence_parts(stages: &[StageShape], kernel: Kernel) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    parts.push(match kernel {
        Kernel::SequenceForwardTrain => include_str!("../shaders/lib/keep_links.wgsl").into(),
        _ => include_str!("../shaders/lib/keep_no_links.wgsl").into(),
    });
    if stages.iter().any(|s| s.stage.normalise) {
        parts.push("var<workgroup> sums: array<real, WIDTH>;".into());
    }
    let mut calls = String::new();
    for (n, shape) in stages.iter().enumerate() {
        parts.push(instantiate(include_str!("../shaders/lib/stage.wgsl"), n));
        parts.push(instantiate(include_str!("../shaders/kernels/sequence_stage.wgsl"), n));
        parts.push(instantiate(
            if shape.stage.normalise {
                include_str!("../shaders/kernels/sequence_normalise.wgsl")
            } else {
                "fn normalise_STAGE(p: Place, acc: ptr<function, array<array<real, RECURRENT_STAGE>, TILE>>) {}"
            },
            n,
        ));
        let _ = write!(calls, "    stage_{n}(p, side);\n    workgroupBarrier();\n    side = 1u - side;\n");
    }
    let run = "fn run_stages(p: Place, start: u32) -> u32 {\n    var side = start;\n";
    parts.push(format!("{run}{calls}    return side;\n}}"));
    parts
}

/// Everything the adjoint of any stage needs: the cell, every stage's reading functions, and the states before each stage.
fn backward_parts(config: &RnnConfig, stages: &[StageShape]) -> Vec<String> {
    let mut parts = vec![
        include_str!("../shaders/lib/math.wgsl").into(),
        cell_text(config, stages),
        "fn keep_gate(at: u32, value: real) {}".into(),
    ];
    let mut before = String::from("    var m = memory;\n");
    for n in 0..stages.len() {
        parts.push(instantiate(include_str!("../shaders/lib/stage.wgsl"), n));
        parts.push(instantiate(include_str!("../shaders/lib/stage_backward.wgsl"), n));
        let head = "direction: u32, row: u32, unit: u32, memory: array<real, STATES>) -> array<real, STATES>";
        parts.push(format!("fn states_before_{n}({head} {{\n{before}    return m;\n}}"));
        let params = format!("cell_params_{n}(unit_params_{n}(direction, unit))");
        let _ = writeln!(before, "    m = forward_{n}(read_gates_{n}(row, unit), m, {params}).state;");
    }
    parts
}

/// Where the gradient of stage `n`'s `out` comes from.
fn next_part(stages: &[StageShape], n: usize) -> String {
    let next = if n + 1 == stages.len() { 0 } else { n + 1 };
    instantiate(&include_str!("../shaders/lib/backward_next.wgsl").replace("_NEXT", &format!("_{next}")), n)
}

fn instantiate(text: &str, stage: usize) -> String {
    text.replace("_STAGE", &format!("_{stage}"))
}

/// The cell's text, and the identity pointwise part of a projection.
fn cell_text(config: &RnnConfig, stages: &[StageShape]) -> String {
    let mut text = config.cell.wgsl.to_string();
    if stages.len() > config.cell.stages.len() {
        text.push_str(&instantiate(include_str!("../shaders/cells/projection.wgsl"), stages.len() - 1));
    }
    text
}

/// The generated constants. Array lengths are at least 1 (WGSL has no empty arrays); `*_COUNT` is the true number.
fn constants(config: &RnnConfig, stages: &[StageShape], variant: &Variant) -> String {
    let Variant { kernel, tiles, train, .. } = variant;
    let rows = config.row_layout(*train);
    let mut text = String::from("alias real = f32;\n");
    let mut put = |name: &str, value: usize| {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    };
    let sequence = matches!(kernel, Kernel::SequenceForward | Kernel::SequenceForwardTrain | Kernel::SequenceBackward);
    put("WIDTH", if sequence { tiles.sequence_width } else { tiles.width });
    put("TILE", tiles.tile);
    put("PROJECT_COLUMNS", tiles.project.0);
    put("PROJECT_ROWS", tiles.project.1);
    put("DIRECTIONS", config.directions());
    put("HIDDEN", config.hidden_size);
    put("OUTPUT", config.state_size());
    put("OUTPUT_PADDED", config.state_size().next_multiple_of(4));
    put("PRE_WIDTH", rows.inputs);
    put("ROW_WIDTH", rows.width);
    put("GRADIENT_BLOCK", GRADIENT_BLOCK);
    put("WEIGHT_ROWS", WEIGHT_ROWS);
    put("UNIT_PARAMS", config.cell.params.len());
    put("UNIT_SUMS", config.cell.params.len().max(1));
    put("STATE_COUNT", config.cell.states.len());
    put("STATES", config.cell.states.len().max(1));
    put("FROM_HIDDEN", 0);
    put("FROM_CELL", 1);
    put("SHARED_STRIDE", shared_stride(stages));
    let offsets = match kernel {
        Kernel::StepBackward | Kernel::SequenceBackward | Kernel::StoreGradient => transposed_offsets(stages),
        _ => weight_offsets(stages),
    };
    put("LAYER_WEIGHTS", offsets.total);
    for (n, activation) in config.activations().iter().enumerate() {
        put(&format!("ACT_{n}"), activation.code() as usize);
    }
    for (n, shape) in stages.iter().enumerate() {
        let s = &shape.stage;
        let mut put = |name: &str, value: usize| put(&format!("{name}_{n}"), value);
        put("UNITS", shape.units);
        put("PADDED", shape.padded_units());
        put("DEPTH", shape.operand.div_ceil(4));
        put("PRE", s.gates.len());
        put("INPUT", s.input_gates());
        put("BOTH", s.both_gates());
        put("ONLY", s.recurrent_only_gates());
        put("RECURRENT", s.recurrent_gates());
        put("PRE_AT", rows.stages[n].0);
        put("ONLY_AT", rows.stages[n].1);
        put("INDEX", n);
        put("OPERAND", shape.operand);
        put("OPERAND_PADDED", shape.operand.next_multiple_of(4));
        put("UNITS4", shape.units.div_ceil(4));
        put("WEIGHTS_AT", offsets.stages[n].0);
        put("PARAMS_AT", offsets.stages[n].1);
        put("PARAM_COUNT", shape.unit_params());
        put("PARAMS", shape.unit_params().max(1));
        put("UNIT_COUNT", shape.params);
        put("UNIT", shape.params.max(1));
        put("STATE_COUNT", shape.states);
    }
    for (n, shape) in stages.iter().enumerate() {
        let _ = writeln!(text, "const NORMALISE_{n}: bool = {};", shape.stage.normalise);
        let _ = writeln!(text, "const IDENTITY_{n}: bool = {};", shape.stage.product == Product::Identity);
        let _ = writeln!(text, "const FIRST_{n}: bool = {};", n == 0);
        let _ = writeln!(text, "const LAST_{n}: bool = {};", n + 1 == stages.len());
    }
    let initial: Vec<String> = config
        .cell
        .states
        .iter()
        .map(|s| match s.initial {
            Initial::Hidden => "0u".into(),
            Initial::Cell => "1u".into(),
            Initial::Scratch => "2u".to_string(),
        })
        .chain(config.cell.states.is_empty().then(|| "2u".to_string()))
        .collect();
    let _ = writeln!(text, "const TRAIN: bool = {train};");
    let _ = writeln!(text, "const STATE_INITIAL = array<u32, STATES>({});", initial.join(", "));
    let _ = writeln!(text, "const NORMALISE_EPSILON: real = {NORMALISE_EPSILON:e};");
    text.push_str("\n// A unit after one stage: its states, and what the others will see of it.\n");
    text.push_str("struct Forward {\n    state: array<real, STATES>,\n    out: real,\n}\n\n");
    for n in 0..stages.len() {
        let _ = writeln!(text, "// Gradients of a stage's gates, of the states before it, and of its unit parameters.");
        let fields = "pre: array<real, PRE_STAGE>,\n    state: array<real, STATES>,\n    unit: array<real, UNIT_STAGE>";
        let _ = writeln!(text, "struct Backward_{n} {{\n    {},\n}}\n", instantiate(fields, n));
    }
    text
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
