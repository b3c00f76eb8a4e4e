// Training with the time loop inside: the operands between stages stay in memory of their own (strategy Step keeps them
// anyway), for the gradient of R.

@group(0) @binding(7) var<storage, read_write> link_0: array<real>;
@group(0) @binding(8) var<storage, read_write> link_1: array<real>;

fn keep_link(stage: u32, at: u32, value: real) {
    if stage == 0u {
        link_0[at] = value;
    } else {
        link_1[at] = value;
    }
}
