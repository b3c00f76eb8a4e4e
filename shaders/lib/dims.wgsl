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
}
