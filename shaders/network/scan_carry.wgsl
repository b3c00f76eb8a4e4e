// scan_carry: the states before a stretch of chunks, one after the other: S_next = M S + N with M and N of their summaries, where M is
// diagonal; BACK: the gradients of the states after all chunks, from the last to the first.
//
// Parallel over (sequence, head, column, key index).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let n = item % KEY;
    let j = item / KEY % COLUMNS;
    let h = item / (KEY * COLUMNS) % HEADS;
    let b = item / (KEY * COLUMNS * HEADS);
    let chunks = (length_of(b) + at_chunk() - 1u) / at_chunk();
    let first = min(at_stretch() * at_span(), chunks);
    let end = min((at_stretch() + 1u) * at_span(), chunks);
    var s = arena[at_before() + state_at(b, h, j) + n];
    for (var i = 0u; i < end - first; i++) {
        let chunk = select(first + i, end - 1u - i, BACK);
        arena[at_kept() + kept_at(chunk, b, h, j) + n] = s;
        let left = arena[at_summary() + summary_at(chunk, b, h, COLUMNS) + n];
        s = passed(left, s, arena[at_summary() + summary_at(chunk, b, h, j) + n]);
    }
    arena[at_end() + state_at(b, h, j) + n] = s;
    if BACK && MAXIMA && j == 0u && n == 0u {
        // Results do not depend on m.
        arena[at_end() + b * STATE + HEADS * COLUMNS * KEY + h] = 0.0;
    }
}
