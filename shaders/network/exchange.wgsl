// exchange: some columns of a value to a buffer of the host's, or with IN from it: 0 past a sequence's end.
//
// Parallel over (row, column).

@group(0) @binding(4) var<storage, read_write> host: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let row = item / at_width();
    let place = at_place() + row * at_stride() + item % at_width();
    // A row per sequence counts as its first step.
    let padding = is_padding(row);
    if IN {
        arena[place] = select(host[item], 0.0, padding);
    } else {
        host[item] = select(arena[place], 0.0, padding);
    }
}
