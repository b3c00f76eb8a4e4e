// Workgroup memory of lib/shared_gradients.wgsl, one for all stages: [sequence of the tile][four units], 4 KiB.
const GRADIENT_CHUNK: u32 = 256u / BACK_TILE;
var<workgroup> gradients: array<vec4<real>, BACK_TILE * GRADIENT_CHUNK>;
var<private> shared_lane: u32;

fn set_lane(lane: u32) {
    shared_lane = lane;
}

// Whether a lane without units of its own may leave before the product: all load what all read.
fn may_leave(idle: bool) -> bool {
    return false;
}
