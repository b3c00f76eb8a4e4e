// scatter: states of a batch's streams, from where the batch has those after its last steps to the slots of a pool.
//
// Parallel over the values of a piece of a state (x) and the pieces (y). `pieces` is the size of a state, then per piece where it begins
// in a state, where the batch has that of its first sequence, and its width; `streams` is how many there are, then the slot of each: no two
// the same.

@group(0) @binding(0) var<storage, read> pieces: array<u32>;
@group(0) @binding(1) var<storage, read> streams: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> states: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let piece = 1u + 3u * id.y;
    let width = pieces[piece + 2u];
    let count = streams[0] * width;
    for (var i = id.x; i < count; i += groups.x * 64u) {
        let slot = streams[1u + i / width];
        states[slot * pieces[0] + pieces[piece] + i % width] = values[pieces[piece + 1u] + i];
    }
}
