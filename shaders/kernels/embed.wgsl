// embed: x[row] = table[ids[row]], every row of x in the caller's layout. Invocations stride over x.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<real>;
@group(0) @binding(3) var<storage, read_write> x: array<act>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let values = dims.time * dims.batch * dims.input_size;
    for (var i = id.x; i < values; i += groups.x * WIDTH) {
        x[i] = act(table[ids[i / dims.input_size] * dims.input_size + i % dims.input_size]);
    }
}
