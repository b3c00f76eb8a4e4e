// unit_backward: gradients of the cell's unit parameters, summed over the sequences in a fixed order (each sequence's sum
// over time was made step by step), onto what is there where gradients accumulate. One invocation per unit; y = parameter,
// z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> d_unit: array<real>;
@group(0) @binding(2) var<storage, read_write> gradient: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    if unit >= HIDDEN {
        return;
    }
    var sum: real = 0.0;
    for (var b = 0u; b < dims.batch; b++) {
        sum += d_unit[((plane(group.z) * dims.batch + b) * UNIT_PARAMS + group.y) * HIDDEN + unit];
    }
    let at = (group.z * UNIT_PARAMS + group.y) * HIDDEN + unit;
    if dims.accumulate == 1u {
        sum += gradient[at];
    }
    gradient[at] = sum;
}
