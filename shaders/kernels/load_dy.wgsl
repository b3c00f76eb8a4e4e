// load_dy: in a wave plan, the gradient of y behind those of the other layers' outputs. Invocations stride over it.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> dy: array<real>;
@group(0) @binding(2) var<storage, read_write> d_outputs: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let count = dims.time * dims.batch * DIRECTIONS * OUTPUT;
    for (var i = id.x; i < count; i += groups.x * WIDTH) {
        d_outputs[dims.layer * count + i] = dy[i];
    }
}
