// loss_sum: the sum of all rows' losses: every lane its own rows in ascending order, then lane 0 the lanes' sums.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> losses: array<real>;
@group(0) @binding(2) var<storage, read_write> loss: array<real>;
@group(0) @binding(3) var<storage, read> schedule: array<u32>;

var<workgroup> sums: array<real, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32) {
    let rows = row_offset(dims.end);
    var sum: real = 0.0;
    for (var row = lane; row < rows; row += WIDTH) {
        sum += losses[row];
    }
    sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var total: real = 0.0;
        for (var i = 0u; i < WIDTH; i++) {
            total += sums[i];
        }
        loss[0] = total;
    }
}
