// sequence_forward: the time loop inside the kernel. One workgroup owns TILE sequences of one direction and all their units
// for the block's steps: no other workgroup ever needs their h, so workgroupBarrier is the only synchronisation.
//
// Parallel over: lanes = units (WIDTH >= every stage's padded units), y = tiles of sequences, z = direction (and layer). The operand lies
// in workgroup memory, two sides that swap at every stage; states and the last h stay in registers; R is read from cache.
// Each stage is kernels/sequence_stage.wgsl, instantiated once per stage; `run_stages` calls them in order.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
// binding 2, pre: lib/keep_nothing.wgsl or lib/keep_history.wgsl
@group(0) @binding(3) var<storage, read_write> operand: array<real>;
@group(0) @binding(4) var<storage, read_write> state: array<real>;
@group(0) @binding(5) var<storage, read_write> y: array<act>;
@group(0) @binding(6) var<storage, read> schedule: array<u32>;

// [side][sequence of the tile][k]
var<workgroup> shared_operand: array<real, 2u * TILE * SHARED_STRIDE>;

// One unit's own states of the tile's sequences, its last out, and what others' products multiply that by.
var<private> memory: array<array<real, STATES>, TILE>;
var<private> last: array<real, TILE>;
var<private> own_factors: array<real, TILE>;

struct Place {
    direction: u32,
    // First sequence of the tile.
    tile: u32,
    unit: u32,
    // Step, sequences running, row of `pre` and packed row of the step's sequence 0.
    step: u32,
    running: u32,
    row: u32,
    first_row: u32,
}

// Sequences of the tile that a new episode begins for at this step get the operand and the states that it begins from (they lie
// behind those of all sequences).
fn begin_episodes(direction: u32, tile: u32, running: u32, first_row: u32, lane: u32, side: u32) {
    for (var b = 0u; b < TILE; b++) {
        if tile + b < running && is_reset(direction, first_row + tile + b) {
            let place = ((LAYERS + dims.layer) * DIRECTIONS + direction) * dims.batch + tile + b;
            for (var k = lane; k < OUTPUT_PADDED; k += WIDTH) {
                shared_operand[(side * TILE + b) * SHARED_STRIDE + k] = operand[place * OPERAND_ROW + k];
            }
            for (var i = 0u; i < STATE_COUNT; i++) {
                memory[b][i] = state[(place * STATE_COUNT + i) * HIDDEN + min(lane, HIDDEN - 1u)];
            }
        }
    }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    use_direction(group.z);
    let sequence = (dims.layer * DIRECTIONS + group.z) * dims.batch;
    let tile = group.y * TILE;
    // Rows past the batch load the last sequence and store nothing.
    for (var i = lane; i < TILE * OUTPUT_PADDED; i += WIDTH) {
        let b = min(tile + i / OUTPUT_PADDED, dims.batch - 1u);
        shared_operand[(i / OUTPUT_PADDED) * SHARED_STRIDE + i % OUTPUT_PADDED] =
            operand[(sequence + b) * OPERAND_ROW + i % OUTPUT_PADDED];
    }
    for (var b = 0u; b < TILE; b++) {
        let place = sequence + min(tile + b, dims.batch - 1u);
        for (var i = 0u; i < STATE_COUNT; i++) {
            memory[b][i] = state[(place * STATE_COUNT + i) * HIDDEN + min(lane, HIDDEN - 1u)];
        }
        last[b] = operand[place * OPERAND_ROW + OWN_AT + min(lane, OUTPUT - 1u)];
        if RECURRENT_DROPOUT {
            let own = min(tile + b, dims.batch - 1u);
            own_factors[b] = recurrent_factor(dims.layer * DIRECTIONS + group.z, own, min(lane, OUTPUT - 1u));
        }
    }
    workgroupBarrier();

    var side = 0u;
    let behind = lag(group.z);
    for (var s = dims.first - behind; s < min(dims.end - behind, dims.time); s++) {
        let running = active_at(s);
        if tile >= running {
            break;
        }
        let first_row = row_offset(s);
        let row = pre_row(group.z, first_row);
        if RESETS {
            begin_episodes(group.z, tile, running, first_row, lane, side);
            workgroupBarrier();
        }
        side = run_stages(Place(group.z, tile, lane, s, running, row, first_row), side);
    }

    for (var b = 0u; b < TILE; b++) {
        if tile + b < dims.batch {
            let place = sequence + tile + b;
            if lane < HIDDEN {
                for (var i = 0u; i < STATE_COUNT; i++) {
                    state[(place * STATE_COUNT + i) * HIDDEN + lane] = memory[b][i];
                }
            }
            if lane < OUTPUT {
                operand[place * OPERAND_ROW + OWN_AT + lane] = last[b];
                if RECURRENT_DROPOUT {
                    operand[place * OPERAND_ROW + lane] = last[b] * own_factors[b];
                }
            }
        }
    }
}
