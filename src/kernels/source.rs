//! How a pipeline's WGSL is put together; see the module doc above.

use super::functions::functions;
use super::layout::{HistoryLayout, KeptLayout, shared_stride, transposed_offsets, weight_offsets};
use super::zoneout;
use super::{GRADIENT_BLOCK, Kernel, NORM_GROUPS, NORM_WIDTH, NORMALISE_EPSILON, RPlace, SUBGROUP, Variant};
use crate::model::activation_format::ActivationFormat;
use crate::model::cell::{Initial, Product};
use crate::model::optimiser::Hyper;
use crate::model::stack::Reset;
use crate::model::stack::{Layout, RnnConfig, StageShape};
use crate::model::weights::WeightFormat;
use crate::num::random::{MaskKind, RUN_WORDS, scale, threshold};
use std::fmt::Write as _;

/// The WGSL of a kernel for a configuration.
pub fn source(config: &RnnConfig, variant: &Variant) -> String {
    match config.head_layer().filter(|_| variant.head) {
        Some(head) => layer_source(&head, variant),
        None => layer_source(config, variant),
    }
}

fn layer_source(config: &RnnConfig, variant: &Variant) -> String {
    let stages = config.stages();
    let kernel = variant.kernel;
    let mut parts: Vec<String> =
        vec![constants(config, &stages, variant), include_str!("../../shaders/lib/dims.wgsl").into()];
    if kernel.bindings().iter().any(|b| b.0 == "schedule") {
        parts.push(include_str!("../../shaders/lib/schedule.wgsl").into());
    }
    let tile_text = kernel.tile_text().filter(|_| uses_tiles(&stages, variant));
    match (tile_text, kernel.tile_text()) {
        (Some(_), _) => parts.push(include_str!("../../shaders/lib/tile.wgsl").into()),
        (None, Some(_)) => parts.push(include_str!("../../shaders/lib/spread.wgsl").into()),
        (None, None) => {}
    }
    if kernel.bindings().iter().any(|b| b.0 == "weights") {
        parts.push(weights_text(variant.weights).into());
    }
    if shares_lanes(kernel) {
        parts.push(if variant.tiles.lanes { LANES } else { LANES_ALONE }.into());
    }
    parts.extend(dropout_parts(config, variant));
    if kernel.reads_history() {
        parts.push(include_str!("../../shaders/lib/history.wgsl").into());
    }
    if kernel.bindings().iter().any(|b| b.0 == "kept") {
        parts.push(include_str!("../../shaders/lib/kept.wgsl").into());
    }
    let text = tile_text.unwrap_or(if loads_fours(variant) { WEIGHT_FOURS } else { kernel.text() });
    let one = variant.stage;
    match kernel {
        Kernel::LoadState
        | Kernel::StoreState
        | Kernel::BeginSegment
        | Kernel::SaveCheckpoint
        | Kernel::LoadCheckpoint
        | Kernel::LoadGradient
        | Kernel::StoreGradient
        | Kernel::ResetState
        | Kernel::SaveHistory
        | Kernel::LoadHistory
        | Kernel::Clear
        | Kernel::StoreY
        | Kernel::LoadDy
        | Kernel::SkipInput
        | Kernel::UnitBackward
        | Kernel::GatherGradient
        | Kernel::SquareSum
        | Kernel::Clip
        | Kernel::UpdateSgd
        | Kernel::UpdateMomentum
        | Kernel::UpdateAdam
        | Kernel::Embed
        | Kernel::EmbedBackward
        | Kernel::LossMeanSquared
        | Kernel::LossSum
        | Kernel::Dropout
        | Kernel::DropoutCopy => parts.push(text.into()),
        Kernel::LossCrossEntropy => {
            parts.extend([include_str!("../../shaders/lib/math.wgsl").into(), text.into()]);
        }
        Kernel::ProjectVec4 => parts.extend([include_str!("../../shaders/lib/input_vec4.wgsl").into(), text.into()]),
        Kernel::ProjectScalar => {
            parts.extend([include_str!("../../shaders/lib/input_scalar.wgsl").into(), text.into()])
        }
        Kernel::Pack => parts.extend(pack_parts(variant.weights).into_iter().chain([text]).map(String::from)),
        Kernel::StepProduct => {
            parts.extend([heads_part(one, true), instantiate(ROW_SCALE, one), instantiate(text, one)])
        }
        Kernel::NormaliseInput | Kernel::StepNormaliseBackward => {
            parts.extend([WORKGROUP_SUM.into(), instantiate(text, one)]);
        }
        Kernel::InputBackward | Kernel::SkipBackward => {
            let directions = include_str!("../../shaders/lib/input_directions.wgsl");
            if kernel == Kernel::InputBackward && tile_text.is_none() {
                parts.push(if variant.tiles.fours { PRE_FOURS } else { PRE_SCALAR }.into());
            }
            parts.extend([include_str!("../../shaders/lib/step_of.wgsl").into(), directions.into(), text.into()]);
        }
        Kernel::WeightBackwardInput => {
            parts.extend([include_str!("../../shaders/lib/operand_input.wgsl").into(), text.into()]);
        }
        Kernel::WeightBackwardRecurrent => {
            parts.push(heads_part(one, false));
            parts.push(instantiate(include_str!("../../shaders/lib/operand_recurrent.wgsl"), one));
            parts.push(text.into());
        }
        Kernel::CarryGradient => {
            parts.push(text.into());
            parts.extend(backward_parts(config, &stages, KEEP_NOTHING));
        }
        Kernel::StepForward | Kernel::StepForwardTrain => {
            parts.push(include_str!("../../shaders/lib/split_sums.wgsl").into());
            parts.extend(forward_parts(config, &stages, kernel));
            parts.push(heads_part(one, true));
            parts.push(instantiate(include_str!("../../shaders/lib/stage.wgsl"), one));
            parts.extend([ROW_SCALE, text].map(|text| instantiate(text, one)));
        }
        Kernel::StepNormalise | Kernel::StepNormaliseTrain => {
            parts.extend(forward_parts(config, &stages, kernel));
            parts.push(instantiate(include_str!("../../shaders/lib/stage.wgsl"), one));
            parts.extend([WORKGROUP_SUM.into(), instantiate(text, one)]);
        }
        Kernel::SequenceForward | Kernel::SequenceForwardTrain => {
            parts.extend(forward_parts(config, &stages, kernel));
            parts.push(text.into());
            parts.extend(sequence_parts(&stages, variant));
        }
        Kernel::Rebuild | Kernel::RebuildNormalise => {
            parts.extend(backward_parts(config, &stages, include_str!("../../shaders/lib/keep_history.wgsl")));
            parts.push(include_str!("../../shaders/lib/step_of.wgsl").into());
            parts.extend((kernel == Kernel::RebuildNormalise).then(|| WORKGROUP_SUM.to_string()));
            parts.extend([heads_part(one, false), instantiate(text, one)]);
        }
        Kernel::StepBackward => {
            parts.extend(backward_parts(config, &stages, KEEP_NOTHING));
            parts.push(next_part(&stages, one, variant));
            parts.extend([shared_part(&stages, variant), instantiate(text, one)]);
        }
        Kernel::SequenceBackward => {
            parts.extend(backward_parts(config, &stages, KEEP_NOTHING));
            parts.push(text.into());
            let mut calls = String::new();
            parts.extend(config.cell.normalises().then(|| WORKGROUP_SUM.to_string()));
            for n in (0..stages.len()).rev() {
                parts.push(next_part(&stages, n, variant));
                let text = match stages[n].stage.normalise {
                    true => include_str!("../../shaders/kernels/sequence_normalise_backward.wgsl"),
                    false => include_str!("../../shaders/kernels/sequence_backward_stage.wgsl"),
                };
                parts.push(instantiate(text, n));
                // Where lanes load what all read, none stays behind.
                let shares = gradients(next_stage(&stages, n), variant) != Gradients::Alone;
                let guard = if shares { "true" } else { "unit < UNITS_STAGE" };
                calls.push_str(&instantiate(&BACKWARD_CALL.replace("HAS_UNIT", guard), n));
            }
            parts.push(shared_part(&stages, variant));
            let head = "direction: u32, s: u32, tile: u32, running: u32, unit: u32";
            parts.push(format!("fn run_stages({head}) {{\n{calls}}}"));
        }
    }
    parts.push(zoneout::parts(config, &stages, variant));
    parts.join("\n")
}

/// Whether lanes of a subgroup may load together what all of them read.
fn shares_lanes(kernel: Kernel) -> bool {
    use Kernel::*;
    let forward = [ProjectVec4, ProjectScalar, StepForward, StepForwardTrain, SequenceForward, SequenceForwardTrain];
    forward.contains(&kernel) || [StepBackward, SequenceBackward].contains(&kernel)
}

const LANES: &str = include_str!("../../shaders/lib/lanes.wgsl");
const LANES_ALONE: &str = include_str!("../../shaders/lib/lanes_alone.wgsl");

/// Whether a matrix product's operands pass through workgroup memory. Not where rows see features of their own.
fn uses_tiles(stages: &[StageShape], variant: &Variant) -> bool {
    let whole = variant.kernel != Kernel::WeightBackwardRecurrent || stages[variant.stage].heads == 1;
    variant.tiles.shared && whole
}

/// How `input_backward` reads rows of `pre`.
const PRE_SCALAR: &str = include_str!("../../shaders/lib/pre_scalar.wgsl");
const PRE_FOURS: &str = include_str!("../../shaders/lib/pre_fours.wgsl");

/// `weight_backward` where everything it reads comes in whole vec4s.
const WEIGHT_FOURS: &str = include_str!("../../shaders/kernels/weight_backward_fours.wgsl");

/// Whether it is that one; a tuning file may have chosen a tile that is not made of such.
fn loads_fours(variant: &Variant) -> bool {
    let (rows, columns) = variant.tiles.weight;
    let is_weight = matches!(variant.kernel, Kernel::WeightBackwardInput | Kernel::WeightBackwardRecurrent);
    variant.tiles.fours && is_weight && rows.is_multiple_of(4) && columns.is_multiple_of(4)
}

/// A stage of `sequence_backward` over the workgroup's tile.
const BACKWARD_CALL: &str = "    var through_STAGE: array<array<real, BACK_UNITS>, BACK_TILE>;
    if HAS_UNIT {
        var units: array<u32, BACK_UNITS>;
        units[0] = min(unit, UNITS_STAGE - 1u);
        through_STAGE = gather_STAGE(direction, s, tile, units);
    }
    let sequences_STAGE = select(min(running - tile, BACK_TILE), BACK_TILE, UNROLL);
    for (var slot = 0u; slot < sequences_STAGE; slot++) {
        if tile + slot < running {
            stage_STAGE(direction, s, tile + slot, slot, unit, through_STAGE[slot][0]);
        }
    }
    storageBarrier();
    workgroupBarrier();
";

const ROW_SCALE: &str = include_str!("../../shaders/lib/row_scale.wgsl");

/// How kernels read weights.
fn weights_text(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::F32 => include_str!("../../shaders/lib/weights_f32.wgsl"),
        WeightFormat::F16 => include_str!("../../shaders/lib/weights_f16.wgsl"),
        WeightFormat::Bf16 => include_str!("../../shaders/lib/weights_bf16.wgsl"),
        WeightFormat::Int8 => include_str!("../../shaders/lib/weights_int8.wgsl"),
    }
}

/// How a word of them is made. Int8 is never packed on the device: it does not train.
fn pack_parts(format: WeightFormat) -> Vec<&'static str> {
    let halves = include_str!("../../shaders/lib/pack_halves.wgsl");
    match format {
        WeightFormat::F32 | WeightFormat::Int8 => vec![include_str!("../../shaders/lib/pack_f32.wgsl")],
        WeightFormat::F16 => vec![include_str!("../../shaders/lib/round_f16.wgsl"), halves],
        WeightFormat::Bf16 => vec![include_str!("../../shaders/lib/round_bf16.wgsl"), halves],
    }
}

/// Masks for the kernels that use them, and what stands in for them elsewhere.
fn dropout_parts(config: &RnnConfig, variant: &Variant) -> Vec<String> {
    let kernel = variant.kernel;
    let elementwise = matches!(kernel, Kernel::Dropout | Kernel::DropoutCopy);
    let recurrent = matches!(
        kernel,
        Kernel::LoadState
            | Kernel::StepForward
            | Kernel::StepForwardTrain
            | Kernel::StepNormalise
            | Kernel::StepNormaliseTrain
            | Kernel::SequenceForward
            | Kernel::SequenceForwardTrain
            | Kernel::StepBackward
            | Kernel::SequenceBackward
            | Kernel::CarryGradient
    );
    let mut parts: Vec<String> = Vec::new();
    if elementwise || recurrent && config.drops_recurrent(variant.train) || zoneout::draws(config, variant) {
        parts.push(include_str!("../../shaders/lib/random.wgsl").into());
        parts.push(include_str!("../../shaders/lib/dropout.wgsl").into());
    } else if recurrent {
        parts.push("fn recurrent_factor(place: u32, b: u32, unit: u32) -> real {\n    return 1.0;\n}".into());
    }
    match kernel {
        Kernel::Dropout => parts.push("fn source_value(at: u32) -> real {\n    return values[at];\n}".into()),
        Kernel::DropoutCopy => parts.push(
            "@group(0) @binding(3) var<storage, read> source: array<real>;\n\
             fn source_value(at: u32) -> real {\n    return source[at];\n}"
                .into(),
        ),
        _ => {}
    }
    parts
}

/// The cell, and where pre-activations go.
fn forward_parts(config: &RnnConfig, stages: &[StageShape], kernel: Kernel) -> [String; 3] {
    let keep = match kernel {
        Kernel::StepForwardTrain | Kernel::StepNormaliseTrain | Kernel::SequenceForwardTrain => {
            include_str!("../../shaders/lib/keep_history.wgsl")
        }
        _ => include_str!("../../shaders/lib/keep_nothing.wgsl"),
    };
    [functions(config), cell_text(config, stages), keep.into()]
}

/// One copy of each stage, and `run_stages` that calls them in order.
fn sequence_parts(stages: &[StageShape], variant: &Variant) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    if stages.iter().any(|s| s.stage.normalise) {
        parts.push("var<workgroup> sums: array<real, WIDTH>;".into());
    }
    let (mut calls, mut loads) = (String::new(), String::new());
    for (n, shape) in stages.iter().enumerate() {
        parts.push(instantiate(
            match variant.tiles.r {
                _ if shape.stage.product == Product::Identity => {
                    include_str!("../../shaders/lib/sequence_product.wgsl")
                }
                RPlace::Cache => include_str!("../../shaders/lib/sequence_product.wgsl"),
                RPlace::Rows => include_str!("../../shaders/lib/sequence_product_rows.wgsl"),
                RPlace::Units => include_str!("../../shaders/lib/sequence_product_units.wgsl"),
            },
            n,
        ));
        let _ = writeln!(loads, "    load_rows_{n}(direction, lane);");
        parts.push(instantiate(include_str!("../../shaders/lib/stage.wgsl"), n));
        parts.push(instantiate(ROW_SCALE, n));
        parts.push(heads_part(n, false));
        parts.push(instantiate(include_str!("../../shaders/kernels/sequence_stage.wgsl"), n));
        parts.push(instantiate(
            if shape.stage.normalise {
                include_str!("../../shaders/kernels/sequence_normalise.wgsl")
            } else {
                "fn normalise_STAGE(p: Place, acc: ptr<function, array<array<real, RECURRENT_STAGE>, TILE>>) {}"
            },
            n,
        ));
        let _ = write!(calls, "    stage_{n}(p, side);\n    workgroupBarrier();\n    side = 1u - side;\n");
    }
    parts.push(format!("fn load_rows(direction: u32, lane: u32) {{\n{loads}}}"));
    let run = "fn run_stages(p: Place, start: u32) -> u32 {\n    var side = start;\n";
    parts.push(format!("{run}{calls}    return side;\n}}"));
    parts
}

/// Everything the adjoint of any stage needs: the cell, every stage's reading functions, and the states before each stage;
/// `keep`: where gates and links go that are computed again.
fn backward_parts(config: &RnnConfig, stages: &[StageShape], keep: &str) -> Vec<String> {
    let mut parts = vec![functions(config), cell_text(config, stages), keep.into()];
    let mut before = String::from("    var m = memory;\n");
    for n in 0..stages.len() {
        parts.push(instantiate(include_str!("../../shaders/lib/stage.wgsl"), n));
        parts.push(instantiate(include_str!("../../shaders/lib/stage_backward.wgsl"), n));
        let head = "direction: u32, row: u32, unit: u32, memory: array<real, STATES>) -> array<real, STATES>";
        parts.push(format!("fn states_before_{n}({head} {{\n{before}    return m;\n}}"));
        let params = format!("cell_params_{n}(unit_params_{n}(direction, unit))");
        let _ = writeln!(before, "    m = forward_{n}(read_gates_{n}(direction, row, unit), m, {params}).state;");
    }
    parts
}

/// Sums over a workgroup's lanes.
const WORKGROUP_SUM: &str = include_str!("../../shaders/lib/workgroup_sum.wgsl");

/// What the adjoint keeps of the gates and states it computes again.
const KEEP_NOTHING: &str = "fn keep_gate(at: u32, value: real) {}
fn keep(direction: u32, s: u32, b: u32, column: u32, value: real) {}";

/// Where the gradient of stage `n`'s `out` comes from.
fn next_part(stages: &[StageShape], n: usize, variant: &Variant) -> String {
    let next = if n + 1 == stages.len() { 0 } else { n + 1 };
    let mut text = include_str!("../../shaders/lib/backward_next.wgsl").to_string();
    let mut parts = Vec::new();
    let (name, product) = match gradients(next_stage(stages, n), variant) {
        Gradients::Alone => ("operand_gradients_NEXT", ""),
        Gradients::Workgroup => ("shared_gradients_NEXT", include_str!("../../shaders/lib/shared_gradients.wgsl")),
        Gradients::Lanes => ("lane_gradients_NEXT", include_str!("../../shaders/lib/lane_gradients.wgsl")),
    };
    text = text.replace("operand_gradients_NEXT", name);
    parts.push(instantiate(product, next));
    parts.push(instantiate(&text.replace("_NEXT", &format!("_{next}")), n));
    parts.join("\n")
}

/// The stage whose operand stage `n`'s `out` is.
fn next_stage(stages: &[StageShape], n: usize) -> &StageShape {
    &stages[(n + 1) % stages.len()]
}

/// Who loads what goes back through a stage's product.
#[derive(Clone, Copy, PartialEq)]
enum Gradients {
    /// Every lane what it reads.
    Alone,
    /// All lanes of a workgroup, into its memory.
    Workgroup,
    /// The lanes of a subgroup (`shaders/lib/lanes.wgsl`).
    Lanes,
}

/// Together only where units of a workgroup do not see gradients of their own.
fn gradients(stage: &StageShape, variant: &Variant) -> Gradients {
    let tiles = &variant.tiles;
    match stage.heads == 1 && stage.stage.product == Product::Dense {
        true if tiles.shared => Gradients::Workgroup,
        true if tiles.lanes && SUBGROUP.is_multiple_of(tiles.back_tile()) => Gradients::Lanes,
        _ => Gradients::Alone,
    }
}

/// What lanes need to load together, where they do for any stage.
fn shared_part(stages: &[StageShape], variant: &Variant) -> String {
    let of = |stage: &StageShape| gradients(stage, variant);
    let all: Vec<Gradients> = match variant.kernel {
        Kernel::StepBackward => vec![of(next_stage(stages, variant.stage))],
        _ => stages.iter().map(of).collect(),
    };
    if all.contains(&Gradients::Workgroup) {
        include_str!("../../shaders/lib/shared_gradients_memory.wgsl").into()
    } else if all.contains(&Gradients::Lanes) {
        include_str!("../../shaders/lib/own_lane.wgsl").into()
    } else {
        "fn set_lane(lane: u32) {}\nfn may_leave(idle: bool) -> bool {\n    return idle;\n}".into()
    }
}

/// What a unit of a stage sees of its operand; `vec4`: where that is a buffer of vec4s.
fn heads_part(stage: usize, vec4: bool) -> String {
    let rest = if vec4 { include_str!("../../shaders/lib/heads_vec4.wgsl") } else { "" };
    instantiate(&format!("{}\n{rest}", include_str!("../../shaders/lib/heads.wgsl")), stage)
}

fn instantiate(text: &str, stage: usize) -> String {
    text.replace("_STAGE", &format!("_{stage}"))
}

/// The cell's text, and the identity pointwise part of a projection.
fn cell_text(config: &RnnConfig, stages: &[StageShape]) -> String {
    let mut text = config.cell.wgsl.to_string();
    if stages.len() > config.cell.stages.len() {
        text.push_str(&instantiate(include_str!("../../shaders/cells/projection.wgsl"), stages.len() - 1));
    }
    zoneout::renamed(config, text)
}

/// The generated constants. Array lengths are at least 1 (WGSL has no empty arrays); `*_COUNT` is the true number.
fn constants(config: &RnnConfig, stages: &[StageShape], variant: &Variant) -> String {
    let Variant { kernel, tiles, train, write_y, .. } = variant;
    let rows = config.row_layout(*train);
    let mut text = storage_aliases(variant);
    let mut put = |name: &str, value: usize| {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    };
    let sequence = matches!(kernel, Kernel::SequenceForward | Kernel::SequenceForwardTrain);
    let units = stages.iter().map(StageShape::padded_units).max().unwrap_or(4).next_multiple_of(8);
    put(
        "WIDTH",
        match kernel {
            // The rows of R are the forward pass's alone.
            Kernel::SequenceBackward => units,
            _ if sequence => tiles.sequence_width,
            _ => tiles.width,
        },
    );
    put("TILE", tiles.tile);
    let gates = stages.iter().map(|s| s.stage.recurrent_gates()).max().unwrap_or(0);
    put("SPLIT", tiles.split);
    put("PARTIAL_SUMS", if tiles.split > 1 { tiles.tile * gates * tiles.width } else { 1 });
    put("BACK_TILE", tiles.back_tile());
    put("BACK_UNITS", if *kernel == Kernel::StepBackward { tiles.back_units } else { 1 });
    put("PROJECT_COLUMNS", tiles.project.0);
    put("PROJECT_ROWS", tiles.project.1);
    put("DIRECTIONS", config.directions());
    put("HIDDEN", config.hidden_size);
    put("OUTPUT", config.state_size());
    put("OUTPUT_PADDED", config.state_size().next_multiple_of(4));
    put("PRE_WIDTH", rows.inputs);
    put("ROW_WIDTH", rows.width);
    put("OPERAND_ROW", config.operand_row(*train));
    put("OWN_AT", config.operand_own(*train));
    let history = HistoryLayout::new(config, stages);
    put("HISTORY", history.width);
    put("HISTORY_HEADS", if variant.resets.is_some() { 2 } else { 1 });
    put("HISTORY_BINDING", kernel.bindings().iter().position(|b| b.0 == "history").unwrap_or(0));
    let kept = KeptLayout::new(config);
    put("KEPT", kept.width);
    put("KEPT_HIDDEN", kept.hidden);
    put("LAYERS", config.num_layers);
    put("VOCABULARY", config.vocabulary.unwrap_or(1));
    put("GRADIENT_BLOCK", GRADIENT_BLOCK);
    put("WEIGHT_ROWS", tiles.weight.0);
    put("WEIGHT_COLUMNS", tiles.weight.1);
    put("INPUT_COLUMNS", tiles.input);
    put("NORM_WIDTH", NORM_WIDTH);
    put("NORM_GROUPS", NORM_GROUPS);
    Hyper::NAMES.into_iter().for_each(|(hyper, name)| put(name, hyper as usize));
    put("UNIT_PARAMS", config.cell.unit_sums());
    put("UNIT_SUMS", config.cell.unit_sums().max(1));
    put("NORMAL_GATES", config.cell.normal_gates());
    put("STATE_COUNT", config.states().len());
    put("STATES", config.states().len().max(1));
    put("CELL_SIZE", config.cell_size());
    put("FROM_HIDDEN", 0);
    put("FROM_CELL", 1);
    put("SHARED_STRIDE", shared_stride(stages));
    let offsets = match kernel {
        Kernel::StepBackward | Kernel::SequenceBackward | Kernel::CarryGradient => {
            transposed_offsets(stages, variant.weights)
        }
        _ => weight_offsets(stages, variant.weights),
    };
    put("LAYER_WEIGHTS", offsets.total);
    for (n, shape) in stages.iter().enumerate() {
        let s = &shape.stage;
        let mut put = |name: &str, value: usize| put(&format!("{name}_{n}"), value);
        put("UNITS", shape.units);
        put("PADDED", shape.padded_units());
        put("DEPTH", shape.depth().div_ceil(4));
        put("HEADS", shape.heads);
        put("HEAD_UNITS", shape.head_units());
        put("HEAD_UNITS4", shape.head_units().div_ceil(4));
        put("HEAD_OPERAND", shape.depth());
        let (first, last) = (n == 0, n + 1 == stages.len());
        put("OPERAND_STRIDE", if first { config.operand_row(*train) } else { shape.operand.next_multiple_of(4) } / 4);
        put("OUT_STRIDE", if last { config.operand_row(*train) } else { shape.padded_units() });
        put("PRE", s.gates.len());
        put("INPUT", s.input_gates());
        put("BOTH", s.both_gates());
        put("ONLY", s.recurrent_only_gates());
        put("RECURRENT", s.recurrent_gates());
        put("PRE_AT", rows.stages[n].0);
        put("ONLY_AT", rows.stages[n].1);
        put("INPUT_SCALE_AT", rows.scales[n].0);
        put("SCALE_AT", rows.scales[n].1);
        put("SUMS_AT", shape.sums_at);
        put("LINK_AT", history.links[n]);
        put("OPERAND_AT", if n == 0 { config.states().len() * config.hidden_size } else { history.links[n - 1] });
        put("OPERAND", shape.operand);
        put("OPERAND_PADDED", shape.operand.next_multiple_of(4));
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
    let states = config.states();
    let initial: Vec<String> = states
        .iter()
        .map(|s| match s.initial {
            Initial::Hidden => "0u".into(),
            Initial::Cell => "1u".into(),
            Initial::Scratch => "2u".to_string(),
        })
        .chain(states.is_empty().then(|| "2u".to_string()))
        .collect();
    let keeps = matches!(
        kernel,
        Kernel::StepForwardTrain | Kernel::StepNormaliseTrain | Kernel::SequenceForwardTrain | Kernel::Rebuild
    );
    let _ = writeln!(text, "const UNROLL: bool = {};", tiles.unroll);
    let _ = writeln!(text, "const TRAIN: bool = {keeps};");
    let _ = writeln!(text, "const RESETS: bool = {};", variant.resets.is_some());
    let _ = writeln!(text, "const RESET_INITIAL: bool = {};", variant.resets == Some(Reset::Initial));
    let _ = writeln!(text, "const WRITE_Y: bool = {write_y};");
    let _ = writeln!(text, "const BACKWARD: bool = {train};");
    let _ = writeln!(text, "const STATE_INITIAL = array<u32, STATES>({});", initial.join(", "));
    // u32::MAX: nowhere.
    let columns = kept.states.iter().map(|s| format!("{}u", s.map_or(u32::MAX, |at| at as u32)));
    let columns: Vec<String> = columns.chain(kept.states.is_empty().then(|| format!("{}u", u32::MAX))).collect();
    let _ = writeln!(text, "const STATE_KEPT = array<u32, STATES>({});", columns.join(", "));
    let _ = writeln!(text, "const NORMALISE_EPSILON: real = {NORMALISE_EPSILON:e};");
    text.push_str(&dropout_constants(config, *train));
    text.push_str("\n// A unit after one stage: its states, and what the others will see of it.\n");
    text.push_str("struct Forward {\n    state: array<real, STATES>,\n    out: real,\n}\n\n");
    for n in 0..stages.len() {
        let _ = writeln!(text, "// Gradients of a stage's gates, of the states before it, and of its unit parameters.");
        let fields = "pre: array<real, PRE_STAGE>,\n    state: array<real, STATES>,\n    unit: array<real, UNIT_STAGE>";
        let _ = writeln!(text, "struct Backward_{n} {{\n    {},\n}}\n", instantiate(fields, n));
    }
    text
}

/// The type of arithmetic, that of x and y (`act`) and that of `pre` (`gate`; the head's is its outputs, which stay as they are).
fn storage_aliases(variant: &Variant) -> String {
    let half = variant.activations == ActivationFormat::F16 && variant.kernel.has_activations();
    let (enable, act) = if half { ("enable f16;\n", "f16") } else { ("", "real") };
    let gate = if variant.head { "real" } else { act };
    format!("{enable}alias real = f32;\nalias act = {act};\nalias gate = {gate};\n")
}

/// What masks are drawn with; see `src/cpu/random.rs`.
fn dropout_constants(config: &RnnConfig, train: bool) -> String {
    let mut text = format!("const RUN_WORDS: u32 = {RUN_WORDS}u;\n");
    let dropout = &config.dropout;
    for (name, kind, p) in [
        ("LAYERS", MaskKind::Layers, dropout.layers),
        ("INPUT", MaskKind::Input, dropout.input),
        ("RECURRENT", MaskKind::Recurrent, dropout.recurrent),
    ] {
        let _ = writeln!(text, "const MASK_{name}: u32 = {}u;", kind as u32);
        let _ = writeln!(text, "const {name}_DROPOUT: bool = {};", train && p > 0.0);
        let _ = writeln!(text, "const {name}_THRESHOLD: u32 = {}u;", threshold(p));
        // All digits of the f32: nothing is rounded on the way.
        let _ = writeln!(text, "const {name}_SCALE: real = {:e};", f64::from(scale::<f32>(p)));
    }
    let _ = writeln!(text, "const BATCH_FIRST: bool = {};", config.layout == Layout::BatchFirst);
    text
}
