// pack: a packed weight buffer from the parameters, as its table says (src/kernels/pack.rs): a parameter, nothing, or the sum of
// two, which stand further back in the table. Invocations stride over it.

const NOTHING: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> parameters: array<real>;
@group(0) @binding(3) var<storage, read_write> values: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let count = arrayLength(&parameters);
    for (var i = id.x; i < arrayLength(&values); i += groups.x * WIDTH) {
        let entry = table[i];
        var value: real = 0.0;
        if entry < count {
            value = parameters[entry];
        } else if entry != NOTHING {
            let pair = entry - count;
            value = parameters[table[pair]] + parameters[table[pair + 1u]];
        }
        values[i] = value;
    }
}
