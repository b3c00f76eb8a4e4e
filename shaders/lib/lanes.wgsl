// Vec4s that all lanes of a subgroup read, on software rasterisers, which pay for every load of every lane: of eight of them each lane
// loads one and gets the others from its neighbours. The same values, the same bits. For subgroups of eight that follow
// the invocation index, all of whose lanes come here. (No `enable subgroups`: naga takes the functions but not the word.)

const SUBGROUP: u32 = 8u;

// What lane n has; n is the same for all of them, and a constant once loops are unrolled.
fn from_lane(own: vec4<real>, n: u32) -> vec4<real> {
    switch n {
        case 0u: { return subgroupBroadcast(own, 0u); }
        case 1u: { return subgroupBroadcast(own, 1u); }
        case 2u: { return subgroupBroadcast(own, 2u); }
        case 3u: { return subgroupBroadcast(own, 3u); }
        case 4u: { return subgroupBroadcast(own, 4u); }
        case 5u: { return subgroupBroadcast(own, 5u); }
        case 6u: { return subgroupBroadcast(own, 6u); }
        default: { return subgroupBroadcast(own, 7u); }
    }
}
