// conv_state: the last LOW inputs of every sequence, as the step after its last one would see them.
//
// Parallel over (sequence, place, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let c = item % WIDTH;
    let i = item / WIDTH % LOW;
    let b = item / (WIDTH * LOW);
    let end = i32(length_of(b));
    arena[at_last() + item] = seen(b, c, end - i32(LOW) + i32(i), end - 1);
}
