// Training: every pre-activation stays in `pre`; states, h and the operands between stages go into the history.

@group(0) @binding(2) var<storage, read_write> pre: array<real>;
@group(0) @binding(HISTORY_BINDING) var<storage, read_write> history: array<real>;

fn keep_gate(at: u32, value: real) {
    pre[at] = value;
}

fn keep(direction: u32, s: u32, b: u32, column: u32, value: real) {
    history[history_after(direction, s, b) * HISTORY + column] = value;
}
