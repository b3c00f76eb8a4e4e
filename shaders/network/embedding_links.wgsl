// embedding_links: of every row how far it is to the next row of its block with the same id (0: there is none), and whether it is
// the first with it (1, else 0). Rows past a sequence's end are no links.
//
// Parallel over rows; each looks through its block.

fn is_link(row: u32, id: u32) -> bool {
    return id_of(row) == id && !is_padding(row);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = item_of(group, lane);
    if row >= at_items() {
        return;
    }
    let id = id_of(row);
    let start = row - row % at_block();
    var first = !is_padding(row);
    var next = 0u;
    if first {
        for (var r = start; r < row; r++) {
            if is_link(r, id) {
                first = false;
                break;
            }
        }
        for (var r = row + 1u; r < min(start + at_block(), at_items()); r++) {
            if is_link(r, id) {
                next = r - row;
                break;
            }
        }
    }
    arena[at_to() + 2u * row] = f32(next);
    arena[at_to() + 2u * row + 1u] = select(0.0, 1.0, first);
}
