// scan_divide: y = num / den of the sums, or with AT_LEAST_ONE num / max(|den|, e^−m).
//
// Parallel over (row, head, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let place = item / VALUE;
    var y = 0.0;
    if !is_padding(place / HEADS) {
        var divisor = arena[at_sums() + place * COLUMNS + VALUE];
        if AT_LEAST_ONE {
            divisor = max(abs(divisor), safe_exp(-arena[at_m() + place]));
        }
        y = arena[at_sums() + place * COLUMNS + item % VALUE] / divisor;
    }
    arena[at_y() + item] = y;
}
