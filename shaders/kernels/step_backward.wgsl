// step_backward: one stage of one time step backwards, both directions, of a wave every layer: gather through R^T, then the adjoint of the
// pointwise part. Gradients of the pre-activations replace them in `pre`.
//
// Parallel over: x = units, y = tiles of BACK_TILE sequences, z = direction (and layer); an invocation owns BACK_UNITS units of a tile in
// registers, as far apart as there are lanes. A dispatch reads the gradients that the stage after it (or the
// step after it) left, and writes only its own stage's columns of its own step's rows (of a normalising stage
// step_normalise_backward does).

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> pre: array<real>;
@group(0) @binding(3) var<storage, read> weights: array<Packed>;
@group(0) @binding(4) var<storage, read> history: array<real>;
@group(0) @binding(5) var<storage, read_write> d_state: array<real>;
@group(0) @binding(6) var<storage, read> dy: array<real>;
@group(0) @binding(7) var<storage, read> d_hidden: array<real>;
@group(0) @binding(8) var<storage, read_write> d_unit: array<real>;
@group(0) @binding(9) var<storage, read> schedule: array<u32>;

// The step within the block: dynamic offset.
struct Step {
    index: u32,
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = dims.first + step.index - lag(group.z);
    let running = running_at(s);
    let tile = group.y * BACK_TILE;
    let lanes = min((UNITS_STAGE + BACK_UNITS - 1u) / BACK_UNITS, WIDTH);
    let first = group.x * lanes * BACK_UNITS + lane;
    set_lane(lane);
    // Lanes of a subgroup leave together (lib/lanes.wgsl).
    let behind = lane % SUBGROUP;
    if tile >= running || may_leave(lane - behind >= lanes || first - behind >= UNITS_STAGE) {
        return;
    }
    let direction = group.z;
    use_direction(direction);
    // Units past the edge compute a copy of the last one, which is not stored.
    var units: array<u32, BACK_UNITS>;
    for (var u = 0u; u < BACK_UNITS; u++) {
        units[u] = min(first + u * lanes, UNITS_STAGE - 1u);
    }
    var through = gather_STAGE(direction, s, tile, units);
    if lane >= lanes {
        return;
    }
    // Where registers have no indices the loops are unrolled; a software rasteriser's compiler would take seconds over that.
    let sequences = select(min(running - tile, BACK_TILE), BACK_TILE, UNROLL);
    let count = select(min((UNITS_STAGE - first + lanes - 1u) / lanes, BACK_UNITS), BACK_UNITS, UNROLL);
    for (var b = 0u; b < sequences; b++) {
        for (var u = 0u; u < count; u++) {
            if tile + b < running && first + u * lanes < UNITS_STAGE {
                unit_backward(direction, s, tile + b, units[u], through[b][u]);
            }
        }
    }
}

// One unit of one sequence; `through`: what its `out` gets back through the next product.
fn unit_backward(direction: u32, s: u32, b: u32, unit: u32, through: real) {
    var factor: real = 1.0;
    if LAST_STAGE && RECURRENT_DROPOUT {
        factor = recurrent_factor(dims.layer * DIRECTIONS + direction, b, unit);
    }
    let row = pre_row(direction, row_offset(s) + b);
    let d_out = out_gradient_STAGE(direction, s, b, unit, through, factor);
    var memory: array<real, STATES>;
    for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
        memory[i] = history[history_before(direction, s, b) * HISTORY + i * HIDDEN + unit];
    }
    var d_memory: array<real, STATES>;
    let place = plane(direction) * dims.batch + b;
    for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
        d_memory[i] = d_state[(place * STATE_COUNT + i) * HIDDEN + unit];
    }
    let own = cell_params_STAGE(unit_params_STAGE(direction, unit));
    if ZONEOUT {
        use_zone(direction, s, b, unit);
    }
    memory = states_before_STAGE(direction, row, unit, memory);
    let d = backward_STAGE(read_gates_STAGE(direction, row, unit), memory, own, d_out, d_memory);
    var d_gates = d.pre;
    d_memory = d.state;
    if FIRST_STAGE && is_reset(direction, row_offset(s) + b) {
        // What goes back from here belongs to what the episode began from, not to the step before.
        let initial = dims.planes * dims.batch + place;
        for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
            d_state[(initial * STATE_COUNT + i) * HIDDEN + unit] += d_memory[i];
            d_memory[i] = 0.0;
        }
    }
    if NORMALISE_STAGE {
        // step_normalise_backward needs what `pre` keeps: gradients of normalised values wait for it behind the sums.
        var kept = read_kept_STAGE(row, unit);
        var params = unit_params_STAGE(direction, unit);
        let sums = (place * UNIT_PARAMS + SUMS_AT_STAGE) * HIDDEN + unit;
        let waiting = (dims.planes * dims.batch * UNIT_PARAMS + place * NORMAL_GATES) * HIDDEN + unit;
        for (var g = 0u; g < PRE_STAGE; g++) {
            d_unit[sums + g * HIDDEN] += d_gates[g] * kept[g];
            d_unit[sums + (PRE_STAGE + g) * HIDDEN] += d_gates[g];
            d_unit[waiting + g * HIDDEN] = d_gates[g] * params[ONLY_STAGE + g];
        }
    } else {
        for (var g = 0u; g < PRE_STAGE; g++) {
            pre[gate_at_STAGE(row, g, unit)] = d_gates[g];
        }
    }
    for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
        d_state[(place * STATE_COUNT + i) * HIDDEN + unit] = d_memory[i];
    }
    var d_params = d.unit;
    for (var i = 0u; i < UNIT_COUNT_STAGE; i++) {
        d_unit[(place * UNIT_PARAMS + i) * HIDDEN + unit] += d_params[i];
    }
}
