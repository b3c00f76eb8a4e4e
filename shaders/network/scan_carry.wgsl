// scan_carry: the states before a stretch of chunks, one after the other: S_next = M S + N with M and N of scan_forward's summaries; BACK:
// the gradients of the states after all chunks, from the last to the first, the same with those of scan_columns.
//
// Parallel over (sequence, head, column).

// What passes an element of M; 0 lets nothing pass, not even what is no number.
fn through(m: f32, s: f32, sum: f32) -> f32 {
    return select(fma(m, s, sum), sum, m == 0.0);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let j = item % COLUMNS;
    let h = item / COLUMNS % HEADS;
    let b = item / (COLUMNS * HEADS);
    let chunks = (length_of(b) + at_chunk() - 1u) / at_chunk();
    var s: array<f32, KEY>;
    for (var n = 0u; n < KEY; n++) {
        s[n] = arena[at_before() + state_at(b, h, j) + n];
    }
    let first = min(at_stretch() * at_span(), chunks);
    let end = min((at_stretch() + 1u) * at_span(), chunks);
    for (var i = 0u; i < end - first; i++) {
        let chunk = select(first + i, end - 1u - i, BACK);
        for (var n = 0u; n < KEY; n++) {
            arena[at_kept() + kept_at(chunk, b, h, j) + n] = s[n];
        }
        var after: array<f32, KEY>;
        for (var n = 0u; n < KEY; n++) {
            after[n] = arena[at_summary() + summary_at(chunk, b, h, j) + n];
        }
        if ERASE {
            for (var i = 0u; i < KEY; i++) {
                let column = at_summary() + summary_at(chunk, b, h, COLUMNS + i);
                for (var n = 0u; n < KEY; n++) {
                    after[n] = through(arena[column + n], s[i], after[n]);
                }
            }
        } else {
            let column = at_summary() + summary_at(chunk, b, h, COLUMNS);
            for (var n = 0u; n < KEY; n++) {
                after[n] = through(arena[column + n], s[n], after[n]);
            }
        }
        for (var n = 0u; n < KEY; n++) {
            s[n] = after[n];
        }
    }
    for (var n = 0u; n < KEY; n++) {
        arena[at_end() + state_at(b, h, j) + n] = s[n];
    }
    if BACK && MAXIMA && j == 0u {
        // Results do not depend on m.
        arena[at_end() + b * STATE + HEADS * COLUMNS * KEY + h] = 0.0;
    }
}
