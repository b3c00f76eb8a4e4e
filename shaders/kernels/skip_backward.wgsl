// skip_backward: the adjoint of skip_input for x: adds the sum of d_pre over the x gates, in their order, over a stretch of steps'
// packed rows to dx (cleared before), of one direction or of both, one after the other (lib/input_directions.wgsl).
//
// Parallel over: x = units, y = packed rows (PROJECT_ROWS each).

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> pre: array<real>;
@group(0) @binding(2) var<storage, read_write> dx: array<real>;
@group(0) @binding(3) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let first = group.y * PROJECT_ROWS;
    if unit >= HIDDEN {
        return;
    }
    for (var r = first; r < min(first + PROJECT_ROWS, rows); r++) {
        for (var direction = first_direction(); direction < end_direction(); direction++) {
            let own = row_in(direction, start + r);
            let at = pre_row(direction, own) * ROW_WIDTH + unit;
            var sum: real = 0.0;
            for (var column = 0u; column < PRE_WIDTH; column += HIDDEN) {
                sum += pre[at + column];
            }
            dx[input_row(direction, own) * HIDDEN + unit] += sum;
        }
    }
}
