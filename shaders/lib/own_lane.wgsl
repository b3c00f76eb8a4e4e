// For lib/lane_gradients.wgsl.
var<private> own_lane: u32;

fn set_lane(lane: u32) {
    own_lane = lane;
}

fn may_leave(idle: bool) -> bool {
    return idle;
}
