// embed_backward: the gradient of every row of the embedding table, summed over the rows of x that it was read into, in the
// order of the list: a scatter turned into a gather, so no two invocations ever add to one value.
// Onto what is there where gradients accumulate.
//
// occurrences = start[V + 1], then the rows of x of token 0, of token 1, …, ascending (real steps only).
// Parallel over: x = features; y strides over tokens.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> dx: array<real>;
@group(0) @binding(2) var<storage, read> occurrences: array<u32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<real>;

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let feature = group.x * WIDTH + lane;
    if feature >= dims.input_size {
        return;
    }
    for (var token = group.y; token < VOCABULARY; token += groups.y) {
        var sum: real = 0.0;
        for (var i = occurrences[token]; i < occurrences[token + 1u]; i++) {
            sum += dx[occurrences[VOCABULARY + 1u + i] * dims.input_size + feature];
        }
        let at = token * dims.input_size + feature;
        if dims.accumulate == 1u {
            sum += gradient[at];
        }
        gradient[at] = sum;
    }
}
