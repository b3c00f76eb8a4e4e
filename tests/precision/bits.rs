//! `lib/weights_*.wgsl` and `lib/round_*.wgsl` against the `half` crate, over every number there is to read.

use super::harness::{gpu, values};
use half::{bf16, f16};
use wgpu_rnn::wgpu::{self, util::DeviceExt};

/// What comes before anything else where f16 is a type.
const ENABLE: &str = "enable f16;\n";

/// Runs `main` over `output` words with the words of `input` in binding 0, the output in binding 1.
fn run(text: &str, input: &[u32], output: usize) -> Vec<u32> {
    let device = gpu();
    let (device, queue) = device.wgpu().unwrap();
    let (enable, text) = text.strip_prefix(ENABLE).map_or(("", text), |rest| (ENABLE, rest));
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(format!("{enable}alias real = f32;\n{text}").into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let contents = bytemuck::cast_slice(input);
    let usage = wgpu::BufferUsages::STORAGE;
    let given = device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage });
    let buffer = |usage| {
        let size = 4 * output as u64;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let made = buffer(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let read = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: given.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: made.as_entire_binding() },
        ],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(64, 1, 1);
    drop(pass);
    encoder.copy_buffer_to_buffer(&made, 0, &read, 0, read.size());
    queue.submit([encoder.finish()]);
    read.map_async(wgpu::MapMode::Read, .., Result::unwrap);
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    bytemuck::pod_collect_to_vec(&read.get_mapped_range(..).unwrap())
}

/// Four weights per entry as f32.
fn unpacked(text: &str, input: &[u32], weights: usize) -> Vec<f32> {
    let main = "
@group(0) @binding(0) var<storage, read> weights: array<Packed>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<real>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&out); i += 4096u) {
        out[i] = weight4(i);
    }
}";
    run(&format!("{text}{main}"), input, weights).into_iter().map(f32::from_bits).collect()
}

/// The low halves of what `values` round to.
fn rounded(text: &str, values: &[f32]) -> Vec<u16> {
    let main = "
@group(0) @binding(0) var<storage, read> given: array<real>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&out); i += 4096u) {
        out[i] = round_half(given[i]);
    }
}";
    let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    run(&format!("{text}{main}"), &bits, bits.len()).into_iter().map(|w| w as u16).collect()
}

/// Every pattern of 16 bits, two to a word.
fn every_half() -> Vec<u32> {
    (0..1 << 15).map(|n: u32| (2 * n) | ((2 * n + 1) << 16)).collect()
}

fn same(got: f32, expected: f32) -> bool {
    got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan()
}

#[test]
fn every_f16_is_read_exactly() {
    let got = unpacked(include_str!("../../shaders/lib/weights_f16.wgsl"), &every_half(), 1 << 16);
    for (bits, &got) in got.iter().enumerate() {
        let expected = f16::from_bits(bits as u16).to_f32();
        assert!(same(got, expected), "{bits:#06x}: {got:e}, expected {expected:e}");
    }
}

/// Subnormal ones are subnormal in f32 too, which any arithmetic may take for 0.
#[test]
fn every_bf16_is_read_exactly() {
    let got = unpacked(include_str!("../../shaders/lib/weights_bf16.wgsl"), &every_half(), 1 << 16);
    for (bits, &got) in got.iter().enumerate() {
        let expected = bf16::from_bits(bits as u16).to_f32();
        assert!(same(got, expected) || expected.is_subnormal() && got == 0.0, "{bits:#06x}: {got:e}");
    }
}

#[test]
fn every_int8_is_read_exactly() {
    let words: Vec<u32> = (0..64u32).map(|n| u32::from_le_bytes([0, 1, 2, 3].map(|k| (4 * n + k) as u8))).collect();
    let got = unpacked(include_str!("../../shaders/lib/weights_int8.wgsl"), &words, 256);
    for (byte, &got) in got.iter().enumerate() {
        assert_eq!(got, f32::from((byte as u8).cast_signed()), "{byte:#04x}");
    }
}

/// Every f16 number, what lies halfway to the next one, and that one's neighbours; the edges of the range; random bits.
fn hard_cases() -> Vec<f32> {
    let mut list =
        vec![f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::from_bits(0x7fff_ffff), 65520.0, 65519.998];
    let halfway = |bits: u16| {
        let (a, b) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64());
        let middle = ((a + b) / 2.0) as f32;
        [a as f32, middle, middle.next_up(), middle.next_down()]
    };
    list.extend((0..0x7c00).step_by(7).flat_map(halfway).filter(|v| v.is_finite()));
    // The same for bf16: its halfway points are those with 0x8000 below.
    let low = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    list.extend((0..0x8000u32).step_by(11).flat_map(|high| low.map(|low| f32::from_bits(high << 16 | low))));
    list.extend(values(5, 20000, 1.0));
    let negative: Vec<f32> = list.iter().map(|v| -v).collect();
    list.extend(negative);
    list
}

/// What `act(..)` stores of each value, and what `real(..)` reads of that, in pairs.
fn stored(values: &[f32]) -> Vec<(f32, f32)> {
    let main = "
@group(0) @binding(0) var<storage, read> given: array<real>;
@group(0) @binding(1) var<storage, read_write> out: array<act>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&out); i += 4096u) {
        out[i] = act(given[i]);
    }
}";
    let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    let halves = run(&format!("{ENABLE}alias act = f16;{main}"), &bits, bits.len().div_ceil(2));
    let main = "
@group(0) @binding(0) var<storage, read> given: array<act>;
@group(0) @binding(1) var<storage, read_write> out: array<real>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&out); i += 4096u) {
        out[i] = real(given[i]);
    }
}";
    let read = run(&format!("{ENABLE}alias act = f16;{main}"), &halves, 2 * halves.len());
    let held = halves.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).map(|h| f16::from_bits(h).to_f32());
    held.zip(read.into_iter().map(f32::from_bits)).take(values.len()).collect()
}

/// What f16 activations do to any value: on a device that rounds to nearest the host's rounding; WGSL lets it take the other
/// neighbour, 0 for subnormal numbers, and anything beyond the range.
#[test]
fn the_device_stores_a_neighbour_and_reads_it_back() {
    let cases = hard_cases();
    let (mut others, mut flushed) = (0, 0);
    for (&value, (held, read)) in cases.iter().zip(stored(&cases)) {
        let nearest = f16::from_f32(value);
        let tiny = held.is_subnormal() || held.abs() < 2f32.powi(-14);
        assert!(same(read, held) || tiny && read == 0.0, "{value:e}: holds {held:e}, reads {read:e}");
        if value.is_nan() || same(held, nearest.to_f32()) {
            continue;
        }
        if value.abs() < 2f32.powi(-14) && held.abs() <= 2f32.powi(-14) {
            flushed += 1;
            continue;
        }
        let ulp = f16::from_bits((nearest.to_bits() & 0x7fff).min(0x7bff)).to_f32() / 1024.0;
        let beyond = value.abs() > 65504.0;
        assert!(beyond || (held - value).abs() < ulp, "{value:e}: holds {held:e}");
        others += usize::from(!beyond);
    }
    println!("{others} of {} rounded to the farther neighbour, {flushed} subnormal ones otherwise", cases.len());
}

#[test]
fn the_device_rounds_as_the_host() {
    let cases = hard_cases();
    let of_f16 = rounded(include_str!("../../shaders/lib/round_f16.wgsl"), &cases);
    let of_bf16 = rounded(include_str!("../../shaders/lib/round_bf16.wgsl"), &cases);
    for ((&value, &half), &upper) in cases.iter().zip(&of_f16).zip(&of_bf16) {
        if value.is_nan() {
            assert!(f16::from_bits(half).is_nan() && bf16::from_bits(upper).is_nan(), "{:#x}", value.to_bits());
            continue;
        }
        assert_eq!(half, f16::from_f32(value).to_bits(), "{value:e} in f16");
        // A driver may take a subnormal value for 0 when it loads it.
        let expected = bf16::from_f32(value).to_bits();
        assert!(upper == expected || value.is_subnormal() && upper & 0x7fff == 0, "{value:e} in bf16");
    }
}
