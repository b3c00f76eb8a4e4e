// R · operand of stage _STAGE in sequence_forward: all gates of a lane's unit for the tile's sequences, R from cache.

fn load_rows_STAGE(direction: u32, lane: u32) {
}

fn product_STAGE(direction: u32, lane: u32, src: u32) -> array<array<real, RECURRENT_STAGE>, TILE> {
    let own = min(lane, UNITS_STAGE - 1u);
    var acc: array<array<real, RECURRENT_STAGE>, TILE>;
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + own;
    for (var k = 0u; k < DEPTH_STAGE; k++) {
        var r: array<vec4<real>, RECURRENT_STAGE>;
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            r[g] = weight4(at + (k * RECURRENT_STAGE + g) * UNITS_STAGE);
        }
        for (var b = 0u; b < TILE; b++) {
            let h = head_operand_STAGE(src + b * SHARED_STRIDE, own, k);
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                acc[b][g] = fma(r[g].w, h.w, fma(r[g].z, h.z, fma(r[g].y, h.y, fma(r[g].x, h.x, acc[b][g]))));
            }
        }
    }
    return acc;
}
