// What every kernel knows about the run: one block per layer and stretch of steps, written once per session.

struct Dims {
    batch: u32,
    // T, for the position of the tables behind it.
    time: u32,
    layer: u32,
    // Steps [first, end) of this block.
    first: u32,
    end: u32,
    // Rows of `pre` per direction.
    pre_rows: u32,
    // Features of this layer's input.
    input_size: u32,
    // Steps [segment, segment_end): what `pre` (and in training the history) holds.
    segment: u32,
    segment_end: u32,
    // The direction, for kernels that run one at a time.
    direction: u32,
    // Which checkpoint.
    checkpoint: u32,
    // 1 where the last hidden state alternates between two operand buffers (strategy Step), else 0.
    alternating: u32,
    // 1 where the gradients of parameters are added to those that are there.
    accumulate: u32,
    // In a wave, how many steps a layer is behind the one below it; else 0.
    chunk: u32,
    // In slots that layers share one behind the other (a wave plan): the dispatch's first (layer, direction), and how many there
    // are. Elsewhere 0 and the directions.
    plane: u32,
    planes: u32,
    // The same in packed recurrent weights.
    weights_plane: u32,
    // The first row of the layer's input in its slot.
    input_rows: u32,
}

// z of a dispatch counts (layer, direction) from dims.layer on. Only a wave has more than one layer; what kernels call a direction
// is that index.

fn direction_of(z: u32) -> u32 {
    return z % DIRECTIONS;
}

// How many steps the layer is behind the wave's own count.
fn lag(z: u32) -> u32 {
    return (dims.layer + z / DIRECTIONS) * dims.chunk;
}

// Where (layer, direction) lies in a slot that layers share, and in packed recurrent weights.
fn plane(z: u32) -> u32 {
    return dims.plane + z;
}

fn weights_plane(z: u32) -> u32 {
    return dims.weights_plane + z;
}
