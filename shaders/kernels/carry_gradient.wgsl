// carry_gradient: the gradient of h before a segment's first step, through R of stage 0, for the sequences that run there; where
// an episode begins, it goes to what that began from instead (behind the gradients of all sequences), last episode first.
// One invocation per (unit, sequence); z = direction (and layer).

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
@group(0) @binding(2) var<storage, read> pre: array<real>;
@group(0) @binding(3) var<storage, read_write> d_hidden: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let b = group.y;
    if unit >= OUTPUT || b >= active_at(dims.segment) {
        return;
    }
    let place = plane(group.z) * dims.batch + b;
    let row = pre_row(group.z, row_offset(dims.segment) + b);
    var factor: real = 1.0;
    if RECURRENT_DROPOUT {
        factor = recurrent_factor(dims.layer * DIRECTIONS + group.z, b, unit);
    }
    if RESETS {
        let initial = (dims.planes * dims.batch + place) * OUTPUT + unit;
        var sum = d_hidden[initial];
        for (var s = min(length_of(b), dims.end); s > dims.first; s--) {
            let r = row_offset(s - 1u) + b;
            if is_reset(group.z, r) {
                sum += operand_gradient_0(group.z, pre_row(group.z, r), unit) * factor;
            }
        }
        d_hidden[initial] = sum;
    }
    if dims.first > dims.segment {
        return;
    }
    var d: real = 0.0;
    if !is_reset(group.z, row_offset(dims.segment) + b) {
        d = operand_gradient_0(group.z, row, unit);
        if RECURRENT_DROPOUT {
            d *= factor;
        }
    }
    d_hidden[place * OUTPUT + unit] = d;
}
