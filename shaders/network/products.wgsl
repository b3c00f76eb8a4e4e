// What the kernels of chunks as matrix products share (src/network/gpu/products.rs): where a block's factors, pairs and sums are.
//
// A block is a chunk of one head of one sequence: [chunks of this window, B, heads]; its steps i count from the chunk's first, BACK
// from its last. A step reads the state along two rows of K factors, `reads` (gives y; BACK dv) and `crossing` (gives u; BACK g), and
// writes along two others: `writes` (values v; BACK dy) and `corrects` (u; BACK g). Steps past a sequence's end have factors of 0.
//
// What a read sees of a write: AFTER (a state is read once written) reads see the writes of their own step, crossings those of
// earlier ones; BEFORE (it is read before, with its crossing) both see earlier ones; the way back of AFTER sees `writes` of its own
// step and `corrects` of earlier ones.

const AFTER: bool = !BEFORE && !BACK;

struct Block {
    h: u32,
    b: u32,
    chunk: u32,
    length: u32,
    first: u32,
    end: u32,
}

fn block_of(block: u32) -> Block {
    let h = block % HEADS;
    let b = block / HEADS % at_batch();
    let chunk = at_first() + block / (HEADS * at_batch());
    let length = length_of(b);
    return Block(h, b, chunk, length, min(chunk * at_chunk(), length), min((chunk + 1u) * at_chunk(), length));
}

// The step of a sequence that is step i of a block.
fn step_of(p: Block, i: u32) -> u32 {
    return select(p.first + i, p.end - 1u - i, BACK);
}

// [blocks, steps, K]
fn factor_at(block: u32, i: u32) -> u32 {
    return (block * at_chunk() + i) * KEY;
}

// [blocks, steps, columns]
fn values_at(block: u32, i: u32) -> u32 {
    return (block * at_chunk() + i) * COLUMNS;
}

// What step i reads of the writes of all steps: [blocks, steps, steps].
fn pair_at(block: u32, i: u32) -> u32 {
    return (block * at_chunk() + i) * at_chunk();
}
