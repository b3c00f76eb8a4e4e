// The same as lib/sequence_product.wgsl for GPUs and small R, the same bits: a lane owns one row of R (a gate of a unit), in
// registers for all steps, and hands its products to the lanes of the units through workgroup memory.

const ROWS_STAGE: u32 = RECURRENT_STAGE * UNITS_STAGE;
var<private> own_row_STAGE: array<vec4<real>, DEPTH_STAGE>;
// [sequence of the tile][row]
var<workgroup> products_STAGE: array<real, TILE * ROWS_STAGE>;

fn load_rows_STAGE(direction: u32, lane: u32) {
    let row = min(lane, ROWS_STAGE - 1u);
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + row % UNITS_STAGE;
    for (var k = 0u; k < DEPTH_STAGE; k++) {
        own_row_STAGE[k] = weight4(at + (k * RECURRENT_STAGE + row / UNITS_STAGE) * UNITS_STAGE);
    }
}

fn product_STAGE(direction: u32, lane: u32, src: u32) -> array<array<real, RECURRENT_STAGE>, TILE> {
    var sums: array<real, TILE>;
    for (var k = 0u; k < DEPTH_STAGE; k++) {
        let r = own_row_STAGE[k];
        for (var b = 0u; b < TILE; b++) {
            let h = head_operand_STAGE(src + b * SHARED_STRIDE, 0u, k);
            sums[b] = fma(r.w, h.w, fma(r.z, h.z, fma(r.y, h.y, fma(r.x, h.x, sums[b]))));
        }
    }
    if lane < ROWS_STAGE {
        for (var b = 0u; b < TILE; b++) {
            products_STAGE[b * ROWS_STAGE + lane] = sums[b];
        }
    }
    workgroupBarrier();
    let own = min(lane, UNITS_STAGE - 1u);
    var acc: array<array<real, RECURRENT_STAGE>, TILE>;
    for (var b = 0u; b < TILE; b++) {
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            acc[b][g] = products_STAGE[b * ROWS_STAGE + g * UNITS_STAGE + own];
        }
    }
    return acc;
}
