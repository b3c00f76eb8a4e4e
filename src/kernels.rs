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
}

/// `(name, access)` in binding order.
type Bindings = &'static [(&'static str, Access)];

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 8] = [
        Self::LoadState,
        Self::ProjectVec4,
        Self::ProjectScalar,
        Self::StepForward,
        Self::StepProduct,
        Self::StepNormalise,
        Self::SequenceForward,
        Self::StoreState,
    ];

    /// The name of its file and of its CPU twin.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoadState => "load_state",
            Self::ProjectVec4 | Self::ProjectScalar => "project",
            Self::StepForward => "step_forward",
            Self::StepProduct => "step_product",
            Self::StepNormalise => "step_normalise",
            Self::SequenceForward => "sequence_forward",
            Self::StoreState => "store_state",
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
            Self::SequenceForward => &[
                ("dims", Uniform),
                ("pre", Read),
                ("weights", Read),
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
        matches!(self, Self::StepForward | Self::StepProduct | Self::StepNormalise)
    }

    fn text(self) -> &'static str {
        match self {
            Self::LoadState => include_str!("../shaders/kernels/load_state.wgsl"),
            Self::ProjectVec4 | Self::ProjectScalar => include_str!("../shaders/kernels/project.wgsl"),
            Self::StepForward => include_str!("../shaders/kernels/step_forward.wgsl"),
            Self::StepProduct => include_str!("../shaders/kernels/step_product.wgsl"),
            Self::StepNormalise => include_str!("../shaders/kernels/step_normalise.wgsl"),
            Self::SequenceForward => include_str!("../shaders/kernels/sequence_forward.wgsl"),
            Self::StoreState => include_str!("../shaders/kernels/store_state.wgsl"),
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

/// The WGSL of `kernel` for a configuration; `stage` only matters to per-stage kernels.
pub fn source(config: &RnnConfig, kernel: Kernel, stage: usize, tiles: &Tiles) -> String {
    let stages = config.stages();
    let mut text = constants(config, &stages, kernel, tiles);
    let mut push = |part: &str| {
        text.push_str(part);
        text.push('\n');
    };
    push(include_str!("../shaders/lib/schedule.wgsl"));
    match kernel {
        Kernel::LoadState | Kernel::StoreState => push(kernel.text()),
        Kernel::ProjectVec4 => push(&[include_str!("../shaders/lib/input_vec4.wgsl"), kernel.text()].join("\n")),
        Kernel::ProjectScalar => push(&[include_str!("../shaders/lib/input_scalar.wgsl"), kernel.text()].join("\n")),
        Kernel::StepProduct => push(&instantiate(kernel.text(), stage)),
        Kernel::StepForward | Kernel::StepNormalise => {
            push(include_str!("../shaders/lib/math.wgsl"));
            push(&cell_text(config, &stages));
            push(&instantiate(include_str!("../shaders/lib/stage.wgsl"), stage));
            push(&instantiate(kernel.text(), stage));
        }
        Kernel::SequenceForward => {
            push(include_str!("../shaders/lib/math.wgsl"));
            push(&cell_text(config, &stages));
            push(kernel.text());
            let mut calls = String::new();
            if stages.iter().any(|s| s.stage.normalise) {
                push("var<workgroup> sums: array<real, WIDTH>;");
            }
            for (n, shape) in stages.iter().enumerate() {
                push(&instantiate(include_str!("../shaders/lib/stage.wgsl"), n));
                push(&instantiate(include_str!("../shaders/kernels/sequence_stage.wgsl"), n));
                push(&instantiate(
                    if shape.stage.normalise {
                        include_str!("../shaders/kernels/sequence_normalise.wgsl")
                    } else {
                        "fn normalise_STAGE(p: Place, acc: ptr<function, array<array<real, RECURRENT_STAGE>, TILE>>) {}"
                    },
                    n,
                ));
                let _ = write!(calls, "    stage_{n}(p, side);\n    workgroupBarrier();\n    side = 1u - side;\n");
            }
            push(&format!(
                "fn run_stages(p: Place, start: u32) -> u32 {{\n    var side = start;\n{calls}    return side;\n}}"
            ));
        }
    }
    text
}

fn instantiate(text: &str, stage: usize) -> String {
    text.replace("_STAGE", &format!("_{stage}"))
}

/// The cell's text, and the identity pointwise part of a projection.
fn cell_text(config: &RnnConfig, stages: &[StageShape]) -> String {
    let mut text = config.cell.wgsl.to_string();
    if stages.len() > config.cell.stages.len() {
        text.push_str(&instantiate(
            "fn forward_STAGE(pre: array<real, PRE_STAGE>, state: array<real, STATES>, unit: array<real, UNIT_STAGE>) -> Forward {\n    return Forward(state, pre[0]);\n}\n",
            stages.len() - 1,
        ));
    }
    text
}

/// The generated constants. Array lengths are at least 1 (WGSL has no empty arrays); `*_COUNT` is the true number.
fn constants(config: &RnnConfig, stages: &[StageShape], kernel: Kernel, tiles: &Tiles) -> String {
    let mut text = String::from("alias real = f32;\n");
    let mut put = |name: &str, value: usize| {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    };
    put("WIDTH", if kernel == Kernel::SequenceForward { tiles.sequence_width } else { tiles.width });
    put("TILE", tiles.tile);
    put("PROJECT_COLUMNS", tiles.project.0);
    put("PROJECT_ROWS", tiles.project.1);
    put("DIRECTIONS", config.directions());
    put("HIDDEN", config.hidden_size);
    put("OUTPUT", config.state_size());
    put("OUTPUT_PADDED", config.state_size().next_multiple_of(4));
    put("PRE_WIDTH", config.cell.input_gates() * config.hidden_size);
    put("STATE_COUNT", config.cell.states.len());
    put("STATES", config.cell.states.len().max(1));
    put("FROM_HIDDEN", 0);
    put("FROM_CELL", 1);
    put("SHARED_STRIDE", shared_stride(stages));
    let offsets = weight_offsets(stages);
    put("LAYER_WEIGHTS", offsets.total);
    for (n, activation) in config.activations().iter().enumerate() {
        put(&format!("ACT_{n}"), activation.code() as usize);
    }
    let mut pre_at = 0;
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
        put("PRE_AT", pre_at);
        put("WEIGHTS_AT", offsets.stages[n].0);
        put("PARAMS_AT", offsets.stages[n].1);
        put("PARAM_COUNT", shape.unit_params());
        put("PARAMS", shape.unit_params().max(1));
        put("UNIT_COUNT", shape.params);
        put("UNIT", shape.params.max(1));
        put("STATE_COUNT", shape.states);
        pre_at += s.input_gates() * shape.units;
    }
    for (n, shape) in stages.iter().enumerate() {
        let _ = writeln!(text, "const NORMALISE_{n}: bool = {};", shape.stage.normalise);
        let _ = writeln!(text, "const IDENTITY_{n}: bool = {};", shape.stage.product == Product::Identity);
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
    let _ = writeln!(text, "const STATE_INITIAL = array<u32, STATES>({});", initial.join(", "));
    let _ = writeln!(text, "const NORMALISE_EPSILON: real = {NORMALISE_EPSILON:e};");
    text.push_str("\n// A unit after one stage: its states, and what the others will see of it.\n");
    text.push_str("struct Forward {\n    state: array<real, STATES>,\n    out: real,\n}\n\n");
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
