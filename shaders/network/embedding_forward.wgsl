// embedding_forward: the row of the table that a row's number names; 0 past a sequence's end.
//
// Parallel over (row, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let row = item / WIDTH;
    var y = 0.0;
    if !is_padding(row) {
        y = params[at_table() + id_of(row) * WIDTH + item % WIDTH];
    }
    arena[at_y() + item] = y;
}
