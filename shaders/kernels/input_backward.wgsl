// input_backward: adds d_pre W of one direction over the packed rows of a stretch of steps to dx (cleared before; a row of x belongs to one
// packed row of a direction, so the sum of two directions has one order).
//
// Parallel over: x and y = features and packed rows by lib/spread.wgsl; an invocation owns INPUT_COLUMNS features of
// PROJECT_ROWS rows in registers. W is packed transposed, [D][G·H / 4][I] in vec4s (four columns of `pre` for one feature), 0
// past the last column.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
@group(0) @binding(2) var<storage, read> pre: array<real>;
@group(0) @binding(3) var<storage, read_write> dx: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let place = spread(group, lane, dims.input_size, INPUT_COLUMNS);
    if place.row >= (rows + PROJECT_ROWS - 1u) / PROJECT_ROWS {
        return;
    }
    let first = place.row * PROJECT_ROWS;
    let depth = (PRE_WIDTH + 3u) / 4u;
    // Rows and features past the edge compute a copy of the last one, which is not stored.
    var feature: array<u32, INPUT_COLUMNS>;
    for (var c = 0u; c < INPUT_COLUMNS; c++) {
        feature[c] = dims.direction * depth * dims.input_size + min(place.column + c * place.step, dims.input_size - 1u);
    }
    var acc: array<array<real, INPUT_COLUMNS>, PROJECT_ROWS>;
    var at: array<u32, PROJECT_ROWS>;
    for (var r = 0u; r < PROJECT_ROWS; r++) {
        at[r] = pre_row(dims.direction, start + min(first + r, rows - 1u)) * ROW_WIDTH;
    }
    for (var k = 0u; k < depth; k++) {
        var w: array<vec4<real>, INPUT_COLUMNS>;
        for (var c = 0u; c < INPUT_COLUMNS; c++) {
            w[c] = weight4(feature[c] + k * dims.input_size);
        }
        let column = min(vec4<u32>(0u, 1u, 2u, 3u) + k * 4u, vec4<u32>(PRE_WIDTH - 1u));
        for (var r = 0u; r < PROJECT_ROWS; r++) {
            let d = vec4<real>(pre[at[r] + column.x], pre[at[r] + column.y], pre[at[r] + column.z], pre[at[r] + column.w]);
            for (var c = 0u; c < INPUT_COLUMNS; c++) {
                acc[r][c] = fma(w[c].w, d.w, fma(w[c].z, d.z, fma(w[c].y, d.y, fma(w[c].x, d.x, acc[r][c]))));
            }
        }
    }
    for (var r = 0u; r < PROJECT_ROWS; r++) {
        if first + r < rows {
            let to = input_row(dims.direction, start + first + r) * dims.input_size;
            for (var c = 0u; c < INPUT_COLUMNS; c++) {
                let own = place.column + c * place.step;
                if own < dims.input_size {
                    dx[to + own] += acc[r][c];
                }
            }
        }
    }
}
