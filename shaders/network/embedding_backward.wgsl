// embedding_backward: dtable[id] += Σ dy over the rows of a block with that id, in ascending order: the first of them goes along their
// links.
//
// Parallel over (row of the block, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    var row = at_first() + item / WIDTH;
    if arena[at_links() + 2u * row + 1u] == 0.0 {
        return;
    }
    let column = item % WIDTH;
    let place = at_to() + id_of(row) * WIDTH + column;
    var sum = arena[place];
    var further = true;
    while further {
        sum += arena[at_dy() + row * WIDTH + column];
        let next = u32(arena[at_links() + 2u * row]);
        further = next > 0u;
        row += next;
    }
    arena[place] = sum;
}
