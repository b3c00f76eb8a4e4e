// How the lanes of a workgroup lie over a matrix whose rows have `columns` values, TILE of them to a lane: lanes side by side
// read neighbouring values (a lane's own are `step` apart), and where a row needs fewer lanes than there are, the others take
// further rows of tiles. The twin of kernels::Spread.

struct Spread {
    // The lane's first column, and how far apart its columns are.
    column: u32,
    step: u32,
    // Which row of tiles; BEYOND for a lane that has none.
    row: u32,
}

const BEYOND: u32 = 0xffffffffu;

fn spread(group: vec3<u32>, lane: u32, columns: u32, tile: u32) -> Spread {
    let tiles = (columns + tile - 1u) / tile;
    let groups = (tiles + WIDTH - 1u) / WIDTH;
    let step = (tiles + groups - 1u) / groups;
    let rows = WIDTH / step;
    let column = group.x * step * tile + lane % step;
    let row = select(BEYOND, group.y * rows + lane / step, lane / step < rows && column < columns);
    return Spread(column, step, row);
}
