// Where every lane loads what it reads by itself.

const SUBGROUP: u32 = 1u;

fn from_lane(own: vec4<real>, n: u32) -> vec4<real> {
    return own;
}
