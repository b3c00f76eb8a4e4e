//! What holds of f16 activations bit for bit, what plans say of them, and what is refused.

use super::halves::halves;
use super::harness::*;
use half::f16;
use half::slice::HalfFloatSliceExt;
use wgpu_rnn::*;

const F16: ActivationFormat = ActivationFormat::F16;

fn session(case: &Case, device: &Device, options: &Options) -> Session {
    let plan = Plan::new(&case.config, case.shape, &device.caps(), options).unwrap();
    let mut session = Session::from_plan(device, plan, &case.weights).unwrap();
    session.poison().unwrap();
    session
}

fn case(cell: &'static Cell, direction: Direction) -> Case {
    let config = RnnConfig { cell, input_size: 3, hidden_size: 5, num_layers: 2, direction, ..Default::default() };
    Case::new(config, 5, 3, 81)
}

#[test]
fn a_sequence_does_not_see_its_neighbours() {
    for cell in [&cells::LSTM, &cells::GRU_LAYER_NORM] {
        let case = case(cell, Direction::Bidirectional).with_lengths(&[4, 5, 1]);
        for (device, strategy) in executors() {
            let all = case.run_in(&mut session(&case, &device, &halves(strategy)));
            for b in 0..3 {
                let alone = case.alone(b);
                let one = alone.run_in(&mut session(&alone, &device, &halves(strategy)));
                for (all, one) in [(&all.y, &one.y), (&all.hn, &one.hn)] {
                    let own = sequence(&all.data, 3, *all.shape.last().unwrap(), b);
                    assert_eq!(bits(&own), bits(&one.data), "{} {strategy}, sequence {b}", device.kind());
                }
            }
        }
    }
}

#[test]
fn runs_repeat_and_blocks_change_nothing() {
    let case = case(&cells::LSTM, Direction::Bidirectional).with_lengths(&[4, 5, 1]);
    for (device, strategy) in executors() {
        let mut whole = session(&case, &device, &halves(strategy));
        let first = case.run_in(&mut whole);
        assert_same("a second run", &first, &case.run_in(&mut whole));
        let created = whole.objects_created();
        whole.run().unwrap();
        assert_eq!(whole.objects_created(), created);
        for block in [1, 2, 3] {
            let options = Options { max_block: Some(block), ..halves(strategy) };
            assert_same("blocks", &first, &case.run_in(&mut session(&case, &device, &options)));
        }
    }
}

#[test]
fn step_by_step_is_the_whole_sequence() {
    for cell in [&cells::LSTM, &cells::GRU, &cells::LSTM_LAYER_NORM] {
        let case = case(cell, Direction::Forward);
        for (device, strategy) in executors() {
            let mut whole = session(&case, &device, &halves(strategy));
            let expected = case.run_in(&mut whole);
            let mut stream = whole.for_shape(Shape { time: 1, batch: 3 }).unwrap();
            assert_eq!(stream.plan().options.activations, F16);
            let [h, c] = case.state_shapes();
            let c0 = cell.has_cell_state().then(|| View::new(&case.c0, &c));
            stream.set_state(View::new(&case.h0, &h), c0).unwrap();
            let mut y = Vec::new();
            for x in case.x.chunks_exact(9) {
                y.extend(stream.step(View::new(x, &[1, 3, 3])).unwrap().y.data);
            }
            assert_eq!(bits(&y), bits(&expected.y.data), "{} {} {strategy}", cell.name, device.kind());
        }
    }
}

/// A sibling may store its own activations otherwise: the weights they share know nothing of it.
#[test]
fn a_sibling_has_a_format_of_its_own() {
    let case = case(&cells::GRU, Direction::Forward);
    for (device, strategy) in executors() {
        let mut plain = session(&case, &device, &forced(strategy));
        let mut half = plain.sibling(case.shape, &halves(strategy)).unwrap();
        let expected = case.run_in(&mut session(&case, &device, &halves(strategy)));
        assert_same("a sibling in f16", &case.run_in(&mut half), &expected);
        assert_same("its elder", &case.run_in(&mut plain), &case.run(&device, strategy));
    }
}

/// The caller's x and y are f16 in memory of their own.
#[test]
fn buffers_of_the_caller() {
    let mut case = case(&cells::LSTM, Direction::Forward);
    (case.h0, case.c0) = (vec![0.0; case.h0.len()], vec![0.0; case.c0.len()]);
    let case = case.with_lengths(&[4, 5, 1]);
    let device = unchecked_gpu();
    let (gpu, queue) = device.wgpu().unwrap();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let buffer = |size, usage| {
        gpu.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    for strategy in [Strategy::Step, Strategy::Sequence] {
        let mut own = session(&case, &device, &halves(strategy));
        let expected = case.run_in(&mut own);
        // 45 values of x and 75 of y: each one short of a whole word.
        let (x, y) = (buffer(92, usage), buffer(152, usage));
        let mut halves_of_x = vec![f16::NAN; 46];
        halves_of_x[..45].convert_from_f32_slice(&case.x);
        queue.write_buffer(&x, 0, bytemuck::cast_slice(&halves_of_x));
        queue.write_buffer(&y, 0, &[0xff; 152]);
        let mut theirs = session(&case, &device, &halves(strategy));
        case.with_input(|input| theirs.write(input).unwrap());
        let io = theirs.bind(&IoBuffers { x: Some(&x), y: Some(&y), ..Default::default() }).unwrap();
        let mut encoder = gpu.create_command_encoder(&Default::default());
        theirs.encode(&mut encoder, &io).unwrap();
        let read = buffer(152, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        encoder.copy_buffer_to_buffer(&y, 0, &read, 0, 152);
        queue.submit([encoder.finish()]);
        read.map_async(wgpu::MapMode::Read, .., Result::unwrap);
        gpu.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let got: Vec<f16> = bytemuck::pod_collect_to_vec(&read.get_mapped_range(..).unwrap());
        assert_eq!(bits(&got[..75].to_f32_vec()), bits(&expected.y.data), "{strategy}");
        let small = buffer(88, usage);
        let message = theirs.bind(&IoBuffers { x: Some(&small), ..Default::default() }).err().unwrap().to_string();
        assert_eq!(message, "buffer x: expected at least 92 bytes, got 88 bytes");
    }
}

/// Beyond the range x is infinite; gates saturate.
#[test]
fn x_beyond_the_range_is_infinite() {
    let config = RnnConfig { cell: &cells::RNN_TANH, input_size: 1, hidden_size: 3, ..Default::default() };
    let mut case = Case::new(config, 1, 2, 91);
    case.x = vec![1e6, -1e6];
    let y = case.run_in(&mut session(&case, &Device::cpu(), &halves(Strategy::Sequence))).y.data;
    let signs: Vec<f32> = case.weights.layers[0].w.iter().map(|w| w.signum()).collect();
    assert_eq!(y, [signs.clone(), signs.iter().map(|s| -s).collect()].concat());
}

#[test]
fn plans_count_the_bytes_and_fit_longer_blocks() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 5, num_layers: 3, ..Default::default() };
    let shape = Shape { time: 64, batch: 3 };
    let caps = gpu().caps();
    let plan = |caps: &Caps, activations| {
        Plan::new(&config, shape, caps, &Options { activations, ..forced(Strategy::Step) }).unwrap()
    };
    let (full, half) = (plan(&caps, ActivationFormat::F32), plan(&caps, F16));
    // x, pre, two hidden y and y.
    let values = 64 * 3 * (3 + 4 * 5 + 3 * 5) as u64;
    assert_eq!(full.activation_bytes(), (4 * values, 4 * values));
    assert_eq!(half.activation_bytes(), (2 * values, 4 * values));
    assert_eq!(full.bytes() - half.bytes(), 2 * values);
    assert!(!full.to_string().contains("activations"));
    let line = format!("\nactivations: f16, {} B, {} B less than in f32 ({} B)\n", 2 * values, 2 * values, 4 * values);
    assert!(half.to_string().contains(&line), "{half}");
    let small = Caps { max_binding: 64 * 3 * 4 * 5 * 2, ..caps };
    assert_eq!((plan(&small, ActivationFormat::F32).block, plan(&small, F16).block), (32, 64));
    let on_cpu = plan(&Device::cpu().caps(), F16);
    assert_eq!(on_cpu.activation_bytes().0, 4 * values);
    let line = "\nactivations: rounded to f16, held in F32 (bytes are saved on GPUs only)\n";
    assert!(on_cpu.to_string().contains(line), "{on_cpu}");
}

fn unsupported<T>(result: Result<T>) -> String {
    match result {
        Err(e @ Error::Unsupported { .. }) => e.to_string(),
        Err(e) => panic!("{e:?}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn training_is_refused() {
    let case = case(&cells::LSTM, Direction::Forward);
    for device in [Device::cpu(), gpu()] {
        let options = Options { train: true, activations: F16, ..Default::default() };
        let message = unsupported(Plan::new(&case.config, case.shape, &device.caps(), &options));
        assert!(message.starts_with("not supported: training with f16 activations: "), "{message}");
    }
    let options = Options { precision: Precision::F64, activations: F16, ..Default::default() };
    let message = unsupported(Plan::new(&case.config, case.shape, &gpu().caps(), &options));
    assert!(message.starts_with("not supported: f64 on a GPU: "), "{message}");
}

/// A host's own device, made without the feature: no plan for it, no session of a plan for another, no sibling.
#[test]
fn a_device_without_f16_is_refused() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).unwrap();
    assert!(adapter.features().contains(wgpu::Features::SHADER_F16), "the adapter has it");
    let open = |required_features| {
        let descriptor = wgpu::DeviceDescriptor { required_features, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        Device::from_wgpu(device, queue)
    };
    let case = case(&cells::LSTM, Direction::Forward);
    let without = open(wgpu::Features::empty());
    assert!(!without.caps().f16 && !without.gpu_info().unwrap().f16);
    let options = halves(Strategy::Step);
    let expected = "not supported: f16 activations: the device has no f16 in shaders, or was made without wgpu's";
    let message = unsupported(Plan::new(&case.config, case.shape, &without.caps(), &options));
    assert!(message.starts_with(expected), "{message}");
    let with = open(wgpu::Features::SHADER_F16);
    let plan = Plan::new(&case.config, case.shape, &with.caps(), &options).unwrap();
    let message = unsupported(Session::<f32>::from_plan(&without, plan, &case.weights));
    assert!(message.starts_with(expected), "{message}");
    let plain = session(&case, &without, &forced(Strategy::Step));
    assert!(unsupported(plain.sibling(case.shape, &options)).starts_with(expected));
    // With it the host's device runs them.
    let got = case.run_in(&mut session(&case, &with, &options));
    assert_same("the host's device", &got, &case.run_in(&mut session(&case, &gpu(), &options)));
}
