// Inference: `pre` holds the x parts of the block's rows and is only read.

@group(0) @binding(2) var<storage, read> pre: array<real>;

fn keep_gate(at: u32, value: real) {
}
