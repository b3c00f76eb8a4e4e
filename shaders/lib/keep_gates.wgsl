// Training: every pre-activation stays in `pre`; the backward pass computes everything else from them and the states.

@group(0) @binding(2) var<storage, read_write> pre: array<real>;

fn keep_gate(at: u32, value: real) {
    pre[at] = value;
}
