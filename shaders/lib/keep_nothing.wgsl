// Inference: `pre` holds the x parts and is only read; nothing is kept.

@group(0) @binding(2) var<storage, read> pre: array<gate>;

fn keep_gate(at: u32, value: real) {
}

fn keep(direction: u32, s: u32, b: u32, column: u32, value: real) {
}
