// join: what the joint network reads next: every stream's step of its encoder, and where a token came what the prediction network gave for it.
//
// A workgroup per row, its lanes over the columns.

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read> encoded: array<f32>;
@group(0) @binding(2) var<storage, read> given: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<u32>;
@group(0) @binding(4) var<storage, read_write> joint: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let own = row * FIELDS;
    let width = words[ENCODED];
    // Who is done reads its last step again.
    let at = row * words[WINDOW] + min(state[own + AT], words[WINDOW] - 1u);
    for (var c = lane; c < width; c += 64u) {
        joint[words[ENCODED_FIRST] + row * width + c] = encoded[at * width + c];
    }
    if state[own + ADVANCED] == 1u {
        for (var c = lane; c < words[PREDICTED]; c += 64u) {
            joint[words[PREDICTED_FIRST] + row * words[PREDICTED] + c] =
                given[words[GIVEN_FIRST] + row * words[GIVEN_STRIDE] + c];
        }
    }
}
