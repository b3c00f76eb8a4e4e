// Four neighbouring columns of d_pre from column `column` of row `row` on, each by itself; those past the end are the last one.

@group(0) @binding(2) var<storage, read> pre: array<real>;

fn load_pre(row: u32, column: u32) -> vec4<real> {
    let i = row * ROW_WIDTH + min(vec4<u32>(0u, 1u, 2u, 3u) + column, vec4<u32>(PRE_WIDTH - 1u));
    return vec4<real>(pre[i.x], pre[i.y], pre[i.z], pre[i.w]);
}
