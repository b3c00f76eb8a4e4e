// scan_carry_full: as scan_carry, where M is a full matrix: rules with a correction.
//
// Parallel over (sequence, head, four columns) by workgroups, whose lanes have a row of S each, in workgroup memory; sums over the
// rows before run in ascending order.

const ROWS: u32 = (KEY + LANES - 1u) / LANES;

var<workgroup> state: array<vec4<f32>, KEY>;

// Where column j + c of a state that begins at a place has its rows; of columns past the last one, that one's.
fn columns_of(place: u32, j: u32) -> vec4<u32> {
    return vec4(place) + min(vec4(j) + vec4(0u, 1u, 2u, 3u), vec4(COLUMNS - 1u)) * KEY;
}

fn rows_at(columns: vec4<u32>, n: u32) -> vec4<f32> {
    return vec4(arena[columns.x + n], arena[columns.y + n], arena[columns.z + n], arena[columns.w + n]);
}

fn store(columns: vec4<u32>, n: u32, j: u32, value: vec4<f32>) {
    for (var c = 0u; c < min(4u, COLUMNS - j); c++) {
        arena[columns[c] + n] = value[c];
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = group.y * at_groups() + group.x;
    let wide = (COLUMNS + 3u) / 4u;
    let j = item % wide * 4u;
    let h = item / wide % HEADS;
    // Workgroups past the last one do its work again and store nothing.
    let b = min(item / (wide * HEADS), at_batch() - 1u);
    let stores = item < wide * HEADS * at_batch();
    let chunks = (length_of(b) + at_chunk() - 1u) / at_chunk();
    let first = min(at_stretch() * at_span(), chunks);
    let end = min((at_stretch() + 1u) * at_span(), chunks);
    let before = columns_of(at_before() + state_at(b, h, 0u), j);
    for (var n = lane; n < KEY; n += LANES) {
        state[n] = rows_at(before, n);
    }
    workgroupBarrier();
    for (var i = 0u; i < end - first; i++) {
        let chunk = select(first + i, end - 1u - i, BACK);
        let kept = columns_of(at_kept() + kept_at(chunk, b, h, 0u), j);
        let added = columns_of(at_summary() + summary_at(chunk, b, h, 0u), j);
        let matrix = at_summary() + summary_at(chunk, b, h, COLUMNS);
        var after: array<vec4<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let n = min(lane + r * LANES, KEY - 1u);
            if stores && lane + r * LANES < KEY {
                store(kept, n, j, state[n]);
            }
            var sum = rows_at(added, n);
            for (var k = 0u; k < KEY; k++) {
                let m = arena[matrix + k * KEY + n];
                sum = select(fma(vec4(m), state[k], sum), sum, m == 0.0);
            }
            after[r] = sum;
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS; r++) {
            if lane + r * LANES < KEY {
                state[lane + r * LANES] = after[r];
            }
        }
        workgroupBarrier();
    }
    if !stores {
        return;
    }
    let last = columns_of(at_end() + state_at(b, h, 0u), j);
    for (var n = lane; n < KEY; n += LANES) {
        store(last, n, j, state[n]);
    }
    if BACK && MAXIMA && j == 0u && lane == 0u {
        arena[at_end() + b * STATE + HEADS * COLUMNS * KEY + h] = 0.0;
    }
}
