//! A network over the host's own buffers, in the host's own encoder.

use crate::networks::{gpu, random};
use std::sync::Arc;
use std::time::Duration;
use wgpu_rnn::network::*;
use wgpu_rnn::{Device, Direction, Error, Result, RnnConfig, Shape, View, rules};

const SHAPE: Shape = Shape { time: 4, batch: 3 };

/// Outputs: a whole value, some columns of it, a row per sequence.
fn network(ways: Direction) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let (x, z) = (b.input("x", 3)?, b.input("z", 5)?);
    let h = b.layers("lstm", x, &RnnConfig { direction: ways, ..RnnConfig::lstm(3, 5) })?;
    let y = b.scan("mingru", &rules::MINGRU, [5, 1, 1], &[z.into(), h.columns(0, 5)?.into()], false)?;
    let last = b.pool("last", y, Pooling::Last)?;
    b.output("y", y)?;
    b.output("some", y.columns(1, 3)?)?;
    b.output("last", last)?;
    Ok(Arc::new(b.finish()?))
}

fn session(device: &Device, options: &NetworkOptions, ways: Direction) -> Result<NetworkSession> {
    let network = network(ways)?;
    let params: Vec<f32> = random(network.parameter_count(), 5).into_iter().map(|v| v as f32).collect();
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), options)?;
    let mut session = NetworkSession::new(device, plan, &params)?;
    session.poison()?;
    Ok(session)
}

fn values(count: usize, seed: u64) -> Vec<f32> {
    random(count, seed).into_iter().map(|v| v as f32).collect()
}

pub fn buffer(device: &Device, data: &[f32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let (device, queue) = device.wgpu().expect("a GPU");
    let usage = usage | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let size = size_of_val(data) as u64;
    let buffer = device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    queue.write_buffer(&buffer, 0, bytemuck::cast_slice(data));
    buffer
}

pub fn read(device: &Device, buffer: &wgpu::Buffer) -> Vec<f32> {
    let (device, queue) = device.wgpu().expect("a GPU");
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let size = buffer.size();
    let copy = device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, size);
    queue.submit([encoder.finish()]);
    copy.map_async(wgpu::MapMode::Read, .., |result| result.expect("mapped"));
    device.poll(wgpu::PollType::wait_indefinitely()).expect("the queue");
    bytemuck::pod_collect_to_vec(&copy.get_mapped_range(..).expect("mapped"))
}

/// A ragged batch, then another that goes on from its states: the bits of runs of the session's own, whatever stands in the padding and
/// in however many submits.
#[test]
fn encoded_runs_have_the_bits_of_runs() -> Result<()> {
    let device = gpu();
    let (wgpu_device, queue) = device.wgpu().expect("a GPU");
    let lengths = [2, 4, 0];
    for submit_budget in [Duration::from_millis(500), Duration::from_micros(100)] {
        let options = NetworkOptions { submit_budget, ..Default::default() };
        let mut own = session(&device, &options, Direction::Forward)?;
        let mut hosts = session(&device, &options, Direction::Forward)?;
        let rows = SHAPE.time * SHAPE.batch;
        let z = values(rows * 5, 9);
        // What is not bound is what was written last, as are the states.
        let x = values(rows * 3, 8);
        hosts.write(&NetworkInput::new(&[View::new(&x, &[4, 3, 3]), View::new(&z, &[4, 3, 5])]))?;
        hosts.set_lengths(Some(&lengths))?;
        let mut written = x.clone();
        for t in 0..SHAPE.time {
            for b in (0..SHAPE.batch).filter(|&b| t >= lengths[b]) {
                written[(t * SHAPE.batch + b) * 3..][..3].fill(f32::NAN);
            }
        }
        let storage = wgpu::BufferUsages::STORAGE;
        let x_buffer = buffer(&device, &written, storage);
        let [y, some, last] =
            [5 * rows, 3 * rows, 5 * SHAPE.batch].map(|n| buffer(&device, &vec![f32::NAN; n], storage));
        let outputs = [Some(&y), Some(&some), Some(&last)];
        let binding = hosts.bind(&NetworkBuffers { inputs: &[Some(&x_buffer), None], outputs: &outputs })?;
        for run in 0..2 {
            let initial = if run == 0 { NetworkInitial::Empty } else { NetworkInitial::Carry };
            let views = [View::new(&x, &[4, 3, 3]), View::new(&z, &[4, 3, 5])];
            let lengths = Some(&lengths[..]);
            let truth = own.forward(&NetworkInput { lengths, initial, ..NetworkInput::new(&views) })?;
            let parts = hosts.plan().submit_count(false);
            for part in 0..parts {
                let mut encoder = wgpu_device.create_command_encoder(&Default::default());
                if part == 0 && run == 1 {
                    hosts.encode_carry(&mut encoder)?;
                }
                if parts == 1 {
                    hosts.encode(&mut encoder, &binding)?;
                } else {
                    assert!(matches!(hosts.encode(&mut encoder, &binding), Err(Error::Mismatch { .. })));
                    hosts.encode_part(part, &mut encoder, &binding)?;
                }
                queue.submit([encoder.finish()]);
            }
            for (of, buffer) in truth.values.iter().zip([&y, &some, &last]) {
                let bits = |v: &[f32]| -> Vec<u32> { v.iter().map(|v| v.to_bits()).collect() };
                assert_eq!(bits(&read(&device, buffer)), bits(&of.data), "run {run}, {parts} submits");
            }
            assert!(truth.values.iter().all(|t| t.data.iter().any(|v| *v != 0.0)));
            assert!(hosts.output().is_err(), "what an earlier run gave is not there any more");
        }
    }
    Ok(())
}

#[test]
fn buffers_that_do_not_fit_are_refused() -> Result<()> {
    let (cpu, device) = (Device::cpu(), gpu());
    let none = NetworkBuffers::default();
    let unsupported = session(&cpu, &NetworkOptions::default(), Direction::Forward)?.bind(&none);
    assert!(matches!(unsupported, Err(Error::Unsupported { .. })));
    let mut s = session(&device, &NetworkOptions::default(), Direction::Forward)?;
    let text = |result: Result<NetworkBinding>| result.err().map(|e| e.to_string()).unwrap_or_default();
    let small = buffer(&device, &[0.0; 7], wgpu::BufferUsages::STORAGE);
    let message = text(s.bind(&NetworkBuffers { inputs: &[Some(&small)], outputs: &[] }));
    assert!(message.contains("buffers of inputs: expected 2, got 1"), "{message}");
    let message = text(s.bind(&NetworkBuffers { inputs: &[], outputs: &[None, Some(&small), None] }));
    assert!(message.contains("buffer some: expected at least 144 bytes, got 28 bytes"), "{message}");
    let uniform = buffer(&device, &[0.0; 36], wgpu::BufferUsages::UNIFORM);
    let result = s.bind(&NetworkBuffers { inputs: &[Some(&uniform), None], outputs: &[] });
    assert!(matches!(result, Err(Error::Gpu { .. })));
    let mut b = Builder::new();
    let ids = b.input("ids", 1)?;
    let e = b.embedding("embedding", ids, 4, 2)?;
    b.output("e", e)?;
    let plan = NetworkPlan::new(&Arc::new(b.finish()?), SHAPE, &device.caps(), &NetworkOptions::default())?;
    let of_ids = NetworkSession::new(&device, plan, &[0.0f32; 8])?;
    let data = buffer(&device, &[0.0; 12], wgpu::BufferUsages::STORAGE);
    let message = text(of_ids.bind(&NetworkBuffers { inputs: &[Some(&data)], outputs: &[] }));
    assert!(message.contains("a buffer of the host's for ids"), "{message}");
    let binding = s.bind(&none)?;
    let (wgpu_device, _) = device.wgpu().expect("a GPU");
    let mut encoder = wgpu_device.create_command_encoder(&Default::default());
    let message = s.encode_part(1, &mut encoder, &binding).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("part: expected 0..1, got 1"), "{message}");
    Ok(())
}
