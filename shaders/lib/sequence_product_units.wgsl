// The same as lib/sequence_product.wgsl for software rasterisers and small R, the same bits: a lane keeps all gates' rows of its unit for
// all steps, in what the compiler takes for registers (it unrolls the loops over k), where a load serves all lanes at once.

const SHARES_STAGE: bool = SUBGROUP > 1u && HEADS_STAGE == 1u && SUBGROUP % TILE == 0u;
// Fours of k of all the tile's sequences that the lanes of a subgroup load together.
const AT_ONCE_STAGE: u32 = max(SUBGROUP / TILE, 1u);

var<private> own_rows_STAGE: array<array<vec4<real>, RECURRENT_STAGE>, DEPTH_STAGE>;

fn load_rows_STAGE(direction: u32, lane: u32) {
    let own = min(lane, UNITS_STAGE - 1u);
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + own;
    for (var k = 0u; k < DEPTH_STAGE; k++) {
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            own_rows_STAGE[k][g] = weight4(at + (k * RECURRENT_STAGE + g) * UNITS_STAGE);
        }
    }
}

fn product_STAGE(direction: u32, lane: u32, src: u32) -> array<array<real, RECURRENT_STAGE>, TILE> {
    let own = min(lane, UNITS_STAGE - 1u);
    let shared_row = src + lane % TILE * SHARED_STRIDE;
    let shared_k = lane % SUBGROUP / TILE;
    var acc: array<array<real, RECURRENT_STAGE>, TILE>;
    var shared_h: vec4<real>;
    for (var k = 0u; k < DEPTH_STAGE; k++) {
        let r = own_rows_STAGE[k];
        if SHARES_STAGE && k % AT_ONCE_STAGE == 0u {
            shared_h = head_operand_STAGE(shared_row, own, min(k + shared_k, DEPTH_STAGE - 1u));
        }
        for (var b = 0u; b < TILE; b++) {
            var h: vec4<real>;
            if SHARES_STAGE {
                h = from_lane(shared_h, k % AT_ONCE_STAGE * TILE + b);
            } else {
                h = head_operand_STAGE(src + b * SHARED_STRIDE, own, k);
            }
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                acc[b][g] = fma(r[g].w, h.w, fma(r[g].z, h.z, fma(r[g].y, h.y, fma(r[g].x, h.x, acc[b][g]))));
            }
        }
    }
    return acc;
}
