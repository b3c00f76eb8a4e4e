// norm_backward: the adjoint of norm_forward to x, and what every row gives the gain.
//
// With x^ = (x − mean) · inverse and d = dy · gain: dx += inverse (d − mean(d) − x^ mean(d x^)), without mean(d) where no mean is
// taken off; sums instead of means for L2, whose x^ is x / |x|.
//
// Parallel over (row, group).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let first = item % GROUPS * SIZE;
    let row = item / GROUPS;
    if is_padding(row) {
        return;
    }
    let x = at_x() + row * X_STRIDE + first;
    let dy = at_dy() + row * (GROUPS * SIZE) + first;
    let s = statistics(x);
    var along = 0.0;
    var mean = 0.0;
    for (var c = 0u; c < SIZE; c++) {
        let normal = (arena[x + c] - s.mean) * s.inverse;
        var d = arena[dy + c];
        if GAIN {
            arena[at_contributions() + row * (GROUPS * SIZE) + first + c] = d * normal;
            d *= params[at_gain() + first + c];
        }
        along = fma(d, normal, along);
        mean += d;
    }
    if KIND != L2 {
        along /= f32(SIZE);
    }
    mean = select(0.0, mean / f32(SIZE), KIND == LAYER);
    along = select(0.0, along, s.sized);
    for (var c = 0u; c < SIZE; c++) {
        let normal = (arena[x + c] - s.mean) * s.inverse;
        var d = arena[dy + c];
        if GAIN {
            d *= params[at_gain() + first + c];
        }
        arena[at_dx() + row * X_STRIDE + first + c] += s.inverse * (d - mean - normal * along);
    }
}
