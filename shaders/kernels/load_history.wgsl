// load_history: back into the history what save_history kept of a segment, with the rows it starts from. A state without a
// column of its own (it is not read before it is written) becomes 0.
//
// Parallel over: x = units, y = packed rows of the segment (PROJECT_ROWS each), z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read_write> history: array<real>;
@group(0) @binding(2) var<storage, read> kept: array<real>;
@group(0) @binding(3) var<storage, read> schedule: array<u32>;

fn copy(row_kept: u32, row_after: u32, unit: u32) {
    let src = row_kept * KEPT;
    let dst = row_after * HISTORY;
    var columns = STATE_KEPT;
    if unit < HIDDEN {
        for (var s = 0u; s < STATE_COUNT; s++) {
            var v: real = 0.0;
            if columns[s] < KEPT {
                v = kept[src + columns[s] + unit];
            }
            history[dst + s * HIDDEN + unit] = v;
        }
    }
    if unit < OUTPUT {
        history[dst + STATE_COUNT * HIDDEN + unit] = kept[src + KEPT_HIDDEN + unit];
    }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let start = row_offset(dims.segment);
    let rows = row_offset(dims.segment_end) - start;
    let first = group.y * PROJECT_ROWS;
    for (var r = first; r < min(first + PROJECT_ROWS, rows); r++) {
        copy(kept_after(group.z, start + r), history_after(group.z, dims.segment, r), unit);
        // Packed row r of the segment is sequence r of its first step.
        if r < active_at(dims.segment) {
            copy(kept_before(group.z, r), history_start(group.z, r), unit);
        }
    }
}
