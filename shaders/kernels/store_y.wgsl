// store_y: in a wave plan, the last layer's outputs from those of all layers into y. Invocations stride over them.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> outputs: array<act>;
@group(0) @binding(2) var<storage, read_write> y: array<act>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let count = dims.time * dims.batch * DIRECTIONS * OUTPUT;
    for (var i = id.x; i < count; i += groups.x * WIDTH) {
        y[i] = outputs[dims.layer * count + i];
    }
}
