// scan_maxima: m = max(m_before + log decay, log input) over a stretch of time, of rules with gates in log space.
//
// Parallel over (sequence, head).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let h = item % HEADS;
    let b = item / HEADS;
    let place = b * STATE + HEADS * COLUMNS * KEY + h;
    var m = arena[at_before() + place];
    for (var t = at_stretch() * at_span(); t < min((at_stretch() + 1u) * at_span(), length_of(b)); t++) {
        let row = row_of(b, t, at_reverse() != 0u);
        if is_reset(b, t, at_reverse() != 0u) {
            m = EMPTY_MAXIMUM;
        }
        arena[at_m_before() + row * HEADS + h] = m;
        m = max(m + log_decay(row, h), log_input(row, h));
        arena[at_m() + row * HEADS + h] = m;
    }
    arena[at_last() + place] = m;
}
