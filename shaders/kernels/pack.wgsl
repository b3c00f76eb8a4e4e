// pack: a packed weight buffer from the parameters, as its table says (src/kernels/pack.rs): a parameter, nothing, or the sum of
// two, which stand further back in the table. Invocations stride over its words, each made by lib/pack_*.wgsl.

const NOTHING: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> parameters: array<real>;
@group(0) @binding(3) var<storage, read_write> values: array<u32>;

// What an entry of the table stands for.
fn element(entry: u32) -> real {
    let count = arrayLength(&parameters);
    if entry < count {
        return parameters[entry];
    }
    if entry == NOTHING {
        return 0.0;
    }
    let pair = entry - count;
    return parameters[table[pair]] + parameters[table[pair + 1u]];
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&values); i += groups.x * WIDTH) {
        values[i] = word(i);
    }
}
