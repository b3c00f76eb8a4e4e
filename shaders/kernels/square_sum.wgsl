// square_sum: sums of squares of the gradient, one per workgroup. Which elements an invocation adds up, and in which order, is
// fixed by constants alone.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> gradient: array<real>;
@group(0) @binding(2) var<storage, read_write> sums: array<real>;

var<workgroup> lanes: array<real, NORM_WIDTH>;

@compute @workgroup_size(NORM_WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum: real = 0.0;
    for (var i = group.x * NORM_WIDTH + lane; i < arrayLength(&gradient); i += NORM_GROUPS * NORM_WIDTH) {
        sum = fma(gradient[i], gradient[i], sum);
    }
    lanes[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var total: real = 0.0;
        for (var n = 0u; n < NORM_WIDTH; n++) {
            total += lanes[n];
        }
        sums[group.x] = total;
    }
}
