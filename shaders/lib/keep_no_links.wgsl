// Inference: operands between stages live in workgroup memory only.

fn keep_link(stage: u32, at: u32, value: real) {
}
