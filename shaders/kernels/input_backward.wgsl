// input_backward: adds d_pre W over a stretch of steps' packed rows to dx (cleared before), of one direction or of both, one after the
// other (lib/input_directions.wgsl).
//
// Parallel over: x and y = features and packed rows by lib/spread.wgsl; an invocation owns INPUT_COLUMNS features of
// PROJECT_ROWS rows in registers. W is packed transposed, [D][G·H / 4][I] in vec4s (four columns of `pre` for one feature), 0
// past the last column.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
// binding 2, pre: lib/pre_scalar.wgsl or lib/pre_fours.wgsl
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
    for (var direction = first_direction(); direction < end_direction(); direction++) {
        add_direction(direction, start + place.row * PROJECT_ROWS, start + rows, place);
    }
}

// One direction's part of the rows from `first` on.
fn add_direction(direction: u32, first: u32, end: u32, place: Spread) {
    let depth = (PRE_WIDTH + 3u) / 4u;
    // Rows and features past the edge compute a copy of the last one, which is not stored.
    var feature: array<u32, INPUT_COLUMNS>;
    for (var c = 0u; c < INPUT_COLUMNS; c++) {
        feature[c] = direction * depth * dims.input_size + min(place.column + c * place.step, dims.input_size - 1u);
    }
    var acc: array<array<real, INPUT_COLUMNS>, PROJECT_ROWS>;
    var own: array<u32, PROJECT_ROWS>;
    var at: array<u32, PROJECT_ROWS>;
    for (var r = 0u; r < PROJECT_ROWS; r++) {
        own[r] = row_in(direction, min(first + r, end - 1u));
        at[r] = pre_row(direction, own[r]);
    }
    for (var k = 0u; k < depth; k++) {
        var w: array<vec4<real>, INPUT_COLUMNS>;
        for (var c = 0u; c < INPUT_COLUMNS; c++) {
            w[c] = weight4(feature[c] + k * dims.input_size);
        }
        for (var r = 0u; r < PROJECT_ROWS; r++) {
            let d = load_pre(at[r], k * 4u);
            for (var c = 0u; c < INPUT_COLUMNS; c++) {
                acc[r][c] = fma(w[c].w, d.w, fma(w[c].z, d.z, fma(w[c].y, d.y, fma(w[c].x, d.x, acc[r][c]))));
            }
        }
    }
    // Where loops are not unrolled a row at a time: the loads and stores of all of them would take the compiler seconds.
    let count = select(min(end - first, PROJECT_ROWS), PROJECT_ROWS, UNROLL);
    for (var r = 0u; r < count; r++) {
        var sum: array<real, INPUT_COLUMNS>;
        var row = 0u;
        for (var n = 0u; n < PROJECT_ROWS; n++) {
            row = select(row, own[n], r == n);
            for (var c = 0u; c < INPUT_COLUMNS; c++) {
                sum[c] = select(sum[c], acc[n][c], r == n);
            }
        }
        if first + r < end {
            let to = input_row(direction, row) * dims.input_size;
            for (var c = 0u; c < INPUT_COLUMNS; c++) {
                let column = place.column + c * place.step;
                if column < dims.input_size {
                    dx[to + column] += sum[c];
                }
            }
        }
    }
}
