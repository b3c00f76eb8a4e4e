// input_backward: adds d_pre W of one direction over a segment's packed rows to dx (cleared before; a row of x belongs to one
// packed row of a direction, so the sum of two directions has one order).
//
// Parallel over: x = features, y = packed rows; an invocation owns PROJECT_ROWS rows of one feature. W is packed transposed,
// [D][G·H / 4][I] in vec4s (four columns of `pre` for one feature), 0 past the last column.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
@group(0) @binding(2) var<storage, read> pre: array<real>;
@group(0) @binding(3) var<storage, read_write> dx: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let feature = group.x * WIDTH + lane;
    let start = row_offset(dims.segment);
    let rows = row_offset(dims.segment_end) - start;
    let first = group.y * PROJECT_ROWS;
    if feature >= dims.input_size || first >= rows {
        return;
    }
    let depth = (PRE_WIDTH + 3u) / 4u;
    var acc: array<real, PROJECT_ROWS>;
    var at: array<u32, PROJECT_ROWS>;
    for (var r = 0u; r < PROJECT_ROWS; r++) {
        at[r] = pre_row(dims.direction, start + min(first + r, rows - 1u)) * ROW_WIDTH;
    }
    for (var k = 0u; k < depth; k++) {
        let w = weight4((dims.direction * depth + k) * dims.input_size + feature);
        let column = min(vec4<u32>(0u, 1u, 2u, 3u) + k * 4u, vec4<u32>(PRE_WIDTH - 1u));
        for (var r = 0u; r < PROJECT_ROWS; r++) {
            let d = vec4<real>(pre[at[r] + column.x], pre[at[r] + column.y], pre[at[r] + column.z], pre[at[r] + column.w]);
            acc[r] = fma(w.w, d.w, fma(w.z, d.z, fma(w.y, d.y, fma(w.x, d.x, acc[r]))));
        }
    }
    for (var r = 0u; r < PROJECT_ROWS; r++) {
        if first + r < rows {
            dx[outer_row(dims.direction, start + first + r) * dims.input_size + feature] += acc[r];
        }
    }
}
