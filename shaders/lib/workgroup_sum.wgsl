// Sums over a workgroup, in the order of its lanes.

var<workgroup> lane_sums: array<vec4<real>, WIDTH>;

// The sum of every lane's value. All lanes must get here together.
fn workgroup_sum(lane: u32, value: vec4<real>) -> vec4<real> {
    lane_sums[lane] = value;
    workgroupBarrier();
    var sum = vec4<real>();
    for (var i = 0u; i < WIDTH; i++) {
        sum += lane_sums[i];
    }
    workgroupBarrier();
    return sum;
}
