// skip_input: pre = x + b for every x gate, in place of `project` where a layer has no W, over all real (step, sequence) rows of
// a block of steps, both directions at once.
//
// Parallel over: x = columns (gates * units), y = rows (PROJECT_ROWS each), z = direction. `weights` is packed as that of
// `project` with no row of W: only the bias.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<act>;
@group(0) @binding(2) var<storage, read> weights: array<Packed>;
@group(0) @binding(3) var<storage, read_write> pre: array<gate>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * WIDTH + lane;
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let first = group.y * PROJECT_ROWS;
    if column >= PRE_WIDTH {
        return;
    }
    let bias = exact(group.z * EXACT * PRE_WIDTH, column, 0u);
    for (var r = first; r < min(first + PROJECT_ROWS, rows); r++) {
        let v = real(x[input_row(group.z, start + r) * HIDDEN + column % HIDDEN]);
        pre[pre_row(group.z, start + r) * ROW_WIDTH + column] = gate(bias + v);
    }
}
