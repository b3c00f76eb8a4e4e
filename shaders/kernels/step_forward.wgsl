// step_forward: one stage of one time step, both directions, of a wave every layer: R · operand with the pointwise part as epilogue.
//
// Parallel over: x = units, y = tiles of TILE sequences, z = direction (and layer). Every invocation owns all gates of one unit for TILE
// sequences in registers; lanes are neighbouring units, so R loads are coalesced and operand loads are uniform. The operand
// is a read-only buffer of its own (it swaps with the output every step); the dispatch boundary is the grid barrier. Of large layers
// on a GPU several lanes own a unit together (lib/split_sums.wgsl).

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
// binding 2, pre: lib/keep_nothing.wgsl or lib/keep_history.wgsl
@group(0) @binding(3) var<storage, read> weights: array<Packed>;
@group(0) @binding(4) var<storage, read> operand: array<vec4<real>>;
@group(0) @binding(5) var<storage, read_write> out: array<real>;
@group(0) @binding(6) var<storage, read_write> state: array<real>;
@group(0) @binding(7) var<storage, read_write> y: array<act>;
@group(0) @binding(8) var<storage, read> schedule: array<u32>;

// The step within the block: dynamic offset.
struct Step {
    index: u32,
}

// Whether lanes load the operand together (lib/lanes.wgsl), and how many fours of k of all the tile's sequences.
const SHARES_STAGE: bool = SUBGROUP > 1u && SPLIT == 1u && HEADS_STAGE == 1u && SUBGROUP % TILE == 0u;
const AT_ONCE_STAGE: u32 = select(1u, max(SUBGROUP / TILE, 1u), SHARES_STAGE);

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = dims.first + step.index - lag(group.z);
    let running = running_at(s);
    let direction = group.z;
    use_direction(direction);
    let tile = group.y * TILE;
    let part = part_of(lane);
    let unit = group.x * SPLIT_UNITS + lane % SPLIT_UNITS;
    // Lanes of a subgroup leave together (lib/lanes.wgsl).
    if tile >= running || (SPLIT == 1u && unit >= (PADDED_STAGE + SUBGROUP - 1u) / SUBGROUP * SUBGROUP) {
        return;
    }
    let own = min(unit, UNITS_STAGE - 1u);
    let sequence = (dims.layer * DIRECTIONS + direction) * dims.batch;
    var operands: array<u32, TILE>;
    for (var b = 0u; b < TILE; b++) {
        operands[b] = (sequence + min(tile + b, running - 1u)) * OPERAND_STRIDE_STAGE;
    }
    var acc: array<array<real, RECURRENT_STAGE>, TILE>;
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + own;
    let shared_operand = (sequence + min(tile + lane % TILE, running - 1u)) * OPERAND_STRIDE_STAGE;
    let shared_k = lane % SUBGROUP / TILE;
    for (var first = part; first < DEPTH_STAGE; first += SPLIT * AT_ONCE_STAGE) {
        var shared_h: vec4<real>;
        if SHARES_STAGE {
            shared_h = head_operand_STAGE(shared_operand, own, min(first + shared_k, DEPTH_STAGE - 1u));
        }
        for (var j = 0u; j < AT_ONCE_STAGE; j++) {
            let k = first + j;
            if AT_ONCE_STAGE > 1u && k >= DEPTH_STAGE {
                break;
            }
            var r: array<vec4<real>, RECURRENT_STAGE>;
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                r[g] = weight4(at + (k * RECURRENT_STAGE + g) * UNITS_STAGE);
            }
            for (var b = 0u; b < TILE; b++) {
                var h: vec4<real>;
                if SHARES_STAGE {
                    h = from_lane(shared_h, j * TILE + b);
                } else {
                    h = head_operand_STAGE(operands[b], own, k);
                }
                for (var g = 0u; g < RECURRENT_STAGE; g++) {
                    acc[b][g] = fma(r[g].w, h.w, fma(r[g].z, h.z, fma(r[g].y, h.y, fma(r[g].x, h.x, acc[b][g]))));
                }
            }
        }
    }
    if SPLIT > 1u {
        for (var b = 0u; b < TILE; b++) {
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                share_sum(lane, b, g, RECURRENT_STAGE, acc[b][g]);
            }
        }
        workgroupBarrier();
    }
    if unit >= PADDED_STAGE {
        return;
    }
    var scale: array<real, RECURRENT_STAGE>;
    if SCALED {
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            scale[g] = row_scale_STAGE(direction, own, g);
        }
    }
    let params = unit_params_STAGE(direction, own);
    let first_row = row_offset(s);
    let row = pre_row(direction, first_row);
    for (var b = part; b < TILE; b += SPLIT) {
        if tile + b < running {
            let place = sequence + tile + b;
            var memory: array<real, STATES>;
            for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
                memory[i] = state[(place * STATE_COUNT + i) * HIDDEN + own];
            }
            var sums: array<real, RECURRENT_STAGE>;
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                if SPLIT > 1u {
                    sums[g] = whole_sum(lane, b, g, RECURRENT_STAGE);
                } else {
                    sums[g] = acc[b][g];
                }
                if SCALED {
                    sums[g] *= scale[g];
                }
            }
            let gates = gates_STAGE(sums, row + tile + b, own, params);
            if ZONEOUT {
                use_zone(direction, s, tile + b, own);
            }
            let after = forward_STAGE(gates, memory, cell_params_STAGE(params));
            memory = after.state;
            if unit < UNITS_STAGE {
                for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
                    state[(place * STATE_COUNT + i) * HIDDEN + unit] = memory[i];
                }
                var seen = after.out;
                if LAST_STAGE && RECURRENT_DROPOUT {
                    seen *= recurrent_factor(dims.layer * DIRECTIONS + direction, tile + b, unit);
                    out[place * OUT_STRIDE_STAGE + OWN_AT + unit] = after.out;
                }
                out[place * OUT_STRIDE_STAGE + unit] = seen;
                keep_stage_STAGE(direction, s, tile + b, unit, memory, seen);
                if LAST_STAGE && WRITE_Y {
                    y[output_row(direction, first_row + tile + b) * UNITS_STAGE + unit] = act(after.out);
                }
            } else {
                out[place * OUT_STRIDE_STAGE + unit] = 0.0;
                if LAST_STAGE && RECURRENT_DROPOUT {
                    out[place * OUT_STRIDE_STAGE + OWN_AT + unit] = 0.0;
                }
            }
        }
    }
}
