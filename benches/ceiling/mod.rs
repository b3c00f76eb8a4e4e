//! What a device can do at all: the best of several plain matrix products, and a copy.

use rayon::prelude::*;
use std::fmt;
use std::time::Instant;
use wgpu_rnn::{Device, wgpu};

/// Rows, columns, depth of the product.
const SIZE: [usize; 3] = [768, 768, 512];
/// Bytes copied.
const BYTES: usize = 64 << 20;
const RUNS: usize = 7;

/// The device's best.
pub struct Ceilings {
    /// GFLOP/s
    pub product: f64,
    /// GB/s, reads and writes together.
    pub copy: f64,
    /// Which product it was.
    best: String,
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m, n, k] = SIZE;
        write!(f, "matrix product {m} x {n} x {k} {:.2} GFLOP/s ({}), ", self.product, self.best)?;
        write!(f, "copy of {} MiB {:.1} GB/s", BYTES >> 20, self.copy)
    }
}

impl Ceilings {
    /// Of a device: the fastest of [`RUNS`] runs of each.
    pub fn measure(device: &Device) -> Self {
        match device.wgpu() {
            Some((device, queue)) => on_gpu(device, queue),
            None => on_cpu(),
        }
    }

    fn of(products: Vec<(f64, String)>, copy_seconds: f64) -> Self {
        let flops = 2.0 * SIZE.iter().product::<usize>() as f64;
        let (seconds, best) = products.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are products");
        Self { product: flops / seconds / 1e9, copy: 2.0 * BYTES as f64 / copy_seconds / 1e9, best }
    }
}

/// Seconds of the fastest run, after one that does not count.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(time).fold(f64::INFINITY, f64::min)
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 31 % 97) as f32 / 97.0 - 0.5).collect()
}

/// The `gemm` crate on all threads, and a copy by all threads.
fn on_cpu() -> Ceilings {
    let [m, n, k] = SIZE;
    let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0f32; m * n]);
    let product = fastest(|| {
        let (to, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
        let [columns, inner] = [n, k].map(|count| count as isize);
        let threads = gemm_common::Parallelism::Rayon(0);
        let product = gemm_f32::gemm::f32::get_gemm_fn();
        // SAFETY: c is m x n, a m x k, b k x n, all dense and row by row, as the strides say: cᵀ = bᵀ·aᵀ, columns of which they are.
        unsafe {
            product(n, m, k, to, columns, 1, false, b, columns, 1, a, inner, 1, 0.0, 1.0, false, false, false, threads);
        }
    });
    check(&a, |k, col| b[k * n + col], &c);
    let (source, mut target) = (values(BYTES / 4), vec![0.0f32; BYTES / 4]);
    let part = source.len() / rayon::current_num_threads();
    let copy =
        fastest(|| target.par_chunks_mut(part).zip(source.par_chunks(part)).for_each(|(t, s)| t.copy_from_slice(s)));
    Ceilings::of(vec![(product, "the gemm crate".into())], copy)
}

/// A few values of c = a b against sums in f64.
fn check(a: &[f32], b: impl Fn(usize, usize) -> f32, c: &[f32]) {
    let [m, n, depth] = SIZE;
    for (row, column) in [(0, 0), (m - 1, n - 1), (m / 2, 5), (7, n / 3)] {
        let truth: f64 = (0..depth).map(|k| f64::from(a[row * depth + k]) * f64::from(b(k, column))).sum();
        let got = f64::from(c[row * n + column]);
        assert!((got - truth).abs() <= 1e-4, "ceiling product at {row}, {column}: {got} is not {truth}");
    }
}

/// Lanes own ROWS x COLUMNS values in registers, four k at a time, no workgroup memory: what suits a software rasteriser.
const REGISTERS: &str = "
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let lanes = N / COLUMNS;
    let column = id.x % lanes;
    let row = id.x / lanes * ROWS;
    if row >= M { return; }
    var acc: array<array<f32, COLUMNS>, ROWS>;
    for (var k = 0u; k < K / 4u; k++) {
        var w: array<vec4<f32>, COLUMNS>;
        for (var j = 0u; j < COLUMNS; j++) { w[j] = b[k * N + column + j * lanes]; }
        for (var i = 0u; i < ROWS; i++) {
            let v = a[(row + i) * (K / 4u) + k];
            for (var j = 0u; j < COLUMNS; j++) {
                acc[i][j] = fma(w[j].w, v.w, fma(w[j].z, v.z, fma(w[j].y, v.y, fma(w[j].x, v.x, acc[i][j]))));
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        for (var j = 0u; j < COLUMNS; j++) { c[(row + i) * N + column + j * lanes] = acc[i][j]; }
    }
}";

/// 64 x 64 values per workgroup of 256, 16 deep through workgroup memory, 4 x 4 per lane: what suits a GPU.
const TILES: &str = "
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
var<workgroup> rows: array<vec4<f32>, 256>;
var<workgroup> columns: array<vec4<f32>, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile_row = group.x / (N / 64u) * 64u;
    let tile_column = group.x % (N / 64u) * 64u;
    let row = lane / 16u * 4u;
    let column = lane % 16u * 4u;
    var acc: array<vec4<f32>, 4>;
    for (var k = 0u; k < K / 4u; k += 4u) {
        workgroupBarrier();
        rows[lane] = a[(tile_row + lane / 4u) * (K / 4u) + k + lane % 4u];
        columns[lane] = b[(k + lane / 64u) * N + tile_column + lane % 64u];
        workgroupBarrier();
        for (var q = 0u; q < 4u; q++) {
            let w = mat4x4(columns[q * 64u + column], columns[q * 64u + column + 1u], columns[q * 64u + column + 2u],
                columns[q * 64u + column + 3u]);
            for (var i = 0u; i < 4u; i++) { acc[i] += rows[(row + i) * 4u + q] * w; }
        }
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) { c[(tile_row + row + i) * N + tile_column + column + j] = acc[i][j]; }
    }
}";

const COPY: &str = "
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var n = id.x; n < arrayLength(&a); n += 64u * GROUPS) { c[n] = a[n]; }
}";

/// Workgroups of the copy, which stride.
const GROUPS: u32 = 4096;

fn on_gpu(device: &wgpu::Device, queue: &wgpu::Queue) -> Ceilings {
    let [m, n, k] = SIZE;
    let (a, b) = (values(m * k), values(k * n));
    // b in groups of four k of a column.
    let packed: Vec<f32> = (0..k / 4)
        .flat_map(|q| (0..n).flat_map(move |j| (0..4).map(move |e| (q * 4 + e, j))))
        .map(|(k, j)| b[k * n + j])
        .collect();
    let [a_buffer, b_buffer] = [&a, &packed].map(|v| upload(device, queue, v));
    let c_buffer = buffer(device, m * n * 4);
    let constants = format!("const M = {m}u; const N = {n}u; const K = {k}u;\n");
    let mut products = Vec::new();
    for (rows, columns) in [(8, 4), (8, 8), (16, 8)] {
        let text = format!("{constants}const ROWS = {rows}u; const COLUMNS = {columns}u;\n{REGISTERS}");
        let lanes = (m / rows) * (n / columns);
        let run = Dispatch::new(device, &text, [&a_buffer, &b_buffer, &c_buffer], true, lanes.div_ceil(64));
        products.push((fastest(|| run.run(device, queue)), format!("{rows} x {columns} values per lane")));
        check(&a, |k, col| b[k * n + col], &read(device, queue, &c_buffer));
    }
    let run = Dispatch::new(
        device,
        &format!("{constants}{TILES}"),
        [&a_buffer, &b_buffer, &c_buffer],
        true,
        m / 64 * (n / 64),
    );
    products.push((fastest(|| run.run(device, queue)), "64 x 64 tiles in workgroup memory".into()));
    check(&a, |k, col| b[k * n + col], &read(device, queue, &c_buffer));

    let (source, target) = (upload(device, queue, &values(BYTES / 4)), buffer(device, BYTES));
    let text = format!("const GROUPS = {GROUPS}u;\n{COPY}");
    let run = Dispatch::new(device, &text, [&source, &source, &target], false, GROUPS as usize);
    Ceilings::of(products, fastest(|| run.run(device, queue)))
}

fn buffer(device: &wgpu::Device, bytes: usize) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false })
}

fn upload(device: &wgpu::Device, queue: &wgpu::Queue, values: &[f32]) -> wgpu::Buffer {
    let buffer = buffer(device, size_of_val(values));
    queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    buffer
}

fn wait(device: &wgpu::Device) {
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
}

fn read(device: &wgpu::Device, queue: &wgpu::Queue, buffer: &wgpu::Buffer) -> Vec<f32> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
    let readback = device.create_buffer(&descriptor);
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &readback, 0, buffer.size());
    queue.submit([encoder.finish()]);
    readback.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    wait(device);
    bytemuck::cast_slice(&readback.get_mapped_range(..).unwrap()).to_vec()
}

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    groups: u32,
}

impl Dispatch {
    /// `second`: whether the kernel has binding 1.
    fn new(device: &wgpu::Device, text: &str, buffers: [&wgpu::Buffer; 3], second: bool, groups: usize) -> Self {
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source };
        // SAFETY: M, N and K are multiples of every tile, and the buffers hold exactly that many values; loops count to constants;
        // workgroup memory is written before it is read.
        let module = unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let entries: Vec<_> = buffers
            .iter()
            .enumerate()
            .filter(|(binding, _)| second || *binding != 1)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding: binding as u32, resource: b.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        Self { pipeline, group, groups: groups as u32 }
    }

    /// One dispatch, waited for.
    fn run(&self, device: &wgpu::Device, queue: &wgpu::Queue) {
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.groups, 1, 1);
        drop(pass);
        queue.submit([encoder.finish()]);
        wait(device);
    }
}
