// update_squares: sums of squares of the gradients of a network's own operations, one per workgroup. Which elements an invocation adds
// up, and in which order, is fixed by constants alone.
//
// `hyper`: as in update.wgsl.

@group(0) @binding(0) var<storage, read> hyper: array<f32>;
@group(0) @binding(1) var<storage, read> arena: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> lanes: array<f32, NORM_WIDTH>;

@compute @workgroup_size(NORM_WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = bitcast<u32>(hyper[HYPER_COUNT]);
    let count = bitcast<u32>(hyper[HYPER_COUNT + 1u]);
    var sum = 0.0;
    for (var i = group.x * NORM_WIDTH + lane; i < count; i += NORM_GROUPS * NORM_WIDTH) {
        sum = fma(arena[first + i], arena[first + i], sum);
    }
    lanes[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var total = 0.0;
        for (var n = 0u; n < NORM_WIDTH; n++) {
            total += lanes[n];
        }
        sums[group.x] = total;
    }
}
