// pool_backward: a sequence's gradient, to the step that its row is of, or to all its steps alike.
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
    if steps == 0u {
        return;
    }
    let dy = arena[at_dy() + item];
    if KIND == 2u {
        let share = dy / f32(steps);
        for (var t = 0u; t < steps; t++) {
            arena[at_dx() + (t * at_batch() + b) * X_STRIDE + c] += share;
        }
        return;
    }
    arena[at_dx() + (step_of(b, c) * at_batch() + b) * X_STRIDE + c] += dy;
}
