// gather_gradient: a gradient slot into the gradient of all parameters, in canonical order. Invocations stride over it.

const NOTHING: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<real>;
@group(0) @binding(3) var<storage, read_write> gradient: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&table); i += groups.x * WIDTH) {
        let to = table[i];
        if to != NOTHING {
            gradient[to] = values[i];
        }
    }
}
