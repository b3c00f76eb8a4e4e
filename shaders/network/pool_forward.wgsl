// pool_forward: the row of every sequence; 0 for one of no steps.
//
// Parallel over (sequence, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let b = item / WIDTH;
    let c = item % WIDTH;
    let steps = length_of(b);
    var y = 0.0;
    if steps > 0u {
        if KIND == 2u {
            for (var t = 0u; t < steps; t++) {
                y += value_of(t, b, c);
            }
            y = y / f32(steps);
        } else {
            y = value_of(step_of(b, c), b, c);
        }
    }
    arena[at_y() + item] = y;
}
