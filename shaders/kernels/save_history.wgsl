// save_history: a segment's states and h from the history into the rows kept for the backward pass, and before the first
// segment the rows it starts from.
//
// Parallel over: x = units, y = packed rows of the segment (PROJECT_ROWS each), z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> history: array<real>;
@group(0) @binding(2) var<storage, read_write> kept: array<real>;
@group(0) @binding(3) var<storage, read> schedule: array<u32>;

fn copy(row_before: u32, row_kept: u32, unit: u32) {
    let src = row_before * HISTORY;
    let dst = row_kept * KEPT;
    var columns = STATE_KEPT;
    if unit < HIDDEN {
        for (var s = 0u; s < STATE_COUNT; s++) {
            if columns[s] < KEPT {
                kept[dst + columns[s] + unit] = history[src + s * HIDDEN + unit];
            }
        }
    }
    if unit < OUTPUT {
        kept[dst + KEPT_HIDDEN + unit] = history[src + STATE_COUNT * HIDDEN + unit];
    }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let start = row_offset(dims.segment);
    let rows = row_offset(dims.segment_end) - start;
    let first = group.y * PROJECT_ROWS;
    for (var r = first; r < min(first + PROJECT_ROWS, rows); r++) {
        copy(history_after(group.z, dims.segment, r), kept_after(group.z, start + r), unit);
        // Packed row r of the segment is sequence r of its first step.
        if dims.segment == 0u && r < active_at(0u) {
            copy(history_start(group.z, r), kept_before(group.z, r), unit);
        }
    }
}
