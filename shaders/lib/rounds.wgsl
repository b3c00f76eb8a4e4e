// rounds: a loop as long as it is told to be, to find out whether the device lets it end by itself.

@group(0) @binding(0) var<storage, read_write> data: array<u32>;

// data: how many rounds, then a number that every round changes in a way that no compiler foresees.
@compute @workgroup_size(1)
fn main() {
    var x = data[1];
    for (var n = 0u; n < data[0]; n++) {
        x = (x ^ (x >> 7u)) * 1664525u + 1013904223u;
    }
    data[1] = x;
}
