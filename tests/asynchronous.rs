//! What goes between threads, and what may be awaited instead of waited for: the same bits, and who awaits is woken. Needs a GPU
//! adapter (Mesa's lavapipe will do).

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use wgpu_rnn::network::*;
use wgpu_rnn::weights::{Field, KerasLayer, LayerWeights, Parameter, Place};
use wgpu_rnn::{blocks, cell, exec, expr, gpu, io, kernels, num, rule, *};

/// The names of types, each of which is [`Send`] and [`Sync`].
macro_rules! shared {
    ($($type:ty,)*) => {{
        fn shared<T: Send + Sync>(name: &'static str, _: PhantomData<T>) -> &'static str {
            name
        }
        [$(shared(stringify!($type), PhantomData::<$type>)),*]
    }};
}

/// Types that say `pub` but that no other crate can have or would send: registers of an instruction set, and tables of functions.
const INNER: [&str; 5] = ["F32s", "F64s", "Pair", "Compiled", "RowLayout"];

/// Sessions, devices, plans, errors and everything else go between threads and are shared by them.
#[test]
fn public_types_are_send_and_sync() {
    let mut all: Vec<&str> = Vec::new();
    all.extend(shared! {
        Device, gpu::Gpu, gpu::GpuInfo, IoBinding, IoBuffers<'static>, exec::Startup, Error, Session<f32>,
        Session<f64>, NetworkSession<f32>, NetworkSession<f64>, KernelTime, OperationTime,
        NetworkBinding, NetworkBuffers<'static>, Snapshot<f32>, Initial<'static, f32>,
        Input<'static, f32>, Output<f32>, Upstream<'static, f32>, Gradients<f32>, Targets<'static, f32>,
        TargetValues<'static, f32>, Tensor<f32>, View<'static, f32>, NetworkInput<'static, f32>,
        NetworkInitial<'static, f32>, NetworkOutput<f32>, NetworkUpstream<'static, f32>, NetworkGradients<f32>,
        io::Kind, io::safetensors::TensorFile, Tuning, Choice, TileChoice, Schedule, Rnn<f32>, RnnOptions, wgpu_rnn::Model<f32>,
        ModelOptions, ModelOutput<f32>, wgpu_rnn::State<f32>, StreamPool<f32>, StreamPool<f64>, StreamId, StreamSnapshot, PoolOptions,
        PoolStatistics, Policy, History, Keep, Recovered, Tick, StreamError, kernels::StateKernel, Decoder<f32>, DecoderOptions,
        Decoding, Sampling, Beam, TokenRules, Prompt<'static, f32>, Ended, Hypothesis, DecodeRow<'static>, Transducer<f32>,
        TransducerOptions, Transcript, kernels::ChooseKernel,
    });
    all.extend(shared! {
        Plan, PlanData, Options, Caps, DeviceClass, Strategy, Precision, Memory, Role, Slot, Extent, Dispatch, Step,
        Dims, SlotIds, UpdateIds, GradientIds, EmbeddingIds, EmbeddingGradientIds, HeadIds, HeadGradientIds, Origin,
        Choices, Wavefront, Shader, Floor, Rates, Work, PassWork, KernelWork, DispatchWork, Amount, NetworkPlan,
        NetworkPlanData, NetworkOptions, NetworkSlot, Parallel, Empty, LossIds, kernels::Pack, kernels::GradientOf, kernels::Table,
        kernels::Access, kernels::Kernel, kernels::RPlace, kernels::Tiles, kernels::Variant, num::random::Masks,
        num::random::MaskKind,
    });
    all.extend(shared! {
        RnnConfig, Shape, StageShape, Direction, Bias, InputMode, Layout, Head, Loss, Dropout, Reset, Zoneout,
        ActivationFormat, WeightFormat, InstructionSet, Optimiser, Recurrence, Weights<f32>, LayerWeights<f32>, Parameter, Place,
        Field, Names<'static>, KerasLayer<'static, f32>, Cell, cell::Gate, cell::Product, cell::Stage,
        cell::Initial, cell::State, cell::CellOption, cell::Adjoint<f32>, cell::StageFn, Activation, cell::Function,
        cell::Functions, rule::Rule, rule::Extent, rule::Port, rule::Read, rule::Divisor, rule::Stabiliser,
        rule::Form, rule::HeadState,
    });
    all.extend(shared! {
        Network, NetworkData, Builder, Node, Value, Param, Stored, Rows, Part, Source, Operand, ops::Op, Linear,
        Conv, Norm, Normalise, Map, Shift, ScanShape, Sum, LayersShape, Compared, Concat, Pool, Pooling, Embedding, expr::Expr,
        expr::Function, expr::Operator, blocks::Model, blocks::Mamba, blocks::Mamba2, blocks::Rwkv4, blocks::Rwkv6,
        blocks::Rwkv7, blocks::Rwkv7Names,
    });
    // Without parameters and without modules.
    let bare = |name: &str| {
        let name = name.split('<').next().unwrap_or_default();
        name.rsplit("::").next().unwrap_or_default().trim().to_string()
    };
    let known: Vec<String> = all.into_iter().chain(INNER).map(bare).collect();
    let mut sources = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let mut missing = Vec::new();
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("a source can be read");
        // Within `exec::cpu` nothing is public, whatever it says.
        for line in text.lines().filter(|_| !path.components().any(|c| c.as_os_str() == "cpu")) {
            let item = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
            let Some(item) = item else { continue };
            let name: String = item.chars().take_while(|c| c.is_alphanumeric()).collect();
            if !known.contains(&name) {
                missing.push(format!("{name} of {}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "not in the lists above: {missing:#?}");
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Drives a future as an executor does that owns no device: it asks again when it was woken, and not before. Somebody else polls the
/// device. That futures go between threads is checked by the way.
#[track_caller]
fn awaited<R>(device: &Device, future: impl Future<Output = R> + Send) -> R {
    let mut future = pin!(future);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let start = Instant::now();
    loop {
        let seen = woken.0.load(Relaxed);
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        while woken.0.load(Relaxed) == seen {
            assert!(start.elapsed() < Duration::from_secs(60), "never woken");
            device.poll().expect("a device that works");
            std::thread::yield_now();
        }
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect()
}

const SHAPE: Shape = Shape { time: 4, batch: 3 };

fn config() -> RnnConfig {
    let head = Some(Head { size: 2, loss: Some(Loss::MeanSquared) });
    RnnConfig { cell: &cells::LSTM, input_size: 2, hidden_size: 5, head, ..Default::default() }
}

fn devices() -> [Device; 2] {
    [Device::cpu(), Device::gpu().expect("these tests need a GPU adapter; Mesa's lavapipe will do")]
}

#[test]
fn devices_can_be_awaited() {
    let nothing = Device::cpu();
    let gpu = awaited(&nothing, Device::gpu_async()).expect("a GPU");
    assert_eq!(gpu.to_string(), Device::gpu().expect("a GPU").to_string());
    assert_eq!(awaited(&nothing, Device::list_gpus_async()), Device::list_gpus());
    assert_eq!(awaited(&nothing, Device::auto_async()).to_string(), Device::auto().to_string());
    let none = awaited(&nothing, Device::gpu_where_async(|_| false)).map(drop);
    assert!(matches!(none, Err(Error::NoAdapter { .. })));
    assert!(nothing.poll().expect("the CPU"));
}

/// Everything that waits, awaited: the same bits.
#[test]
fn sessions_can_be_awaited() {
    let (c, x) = (config(), values(4 * 3 * 2));
    let input = Input::new(View::new(&x, &[4, 3, 2]));
    let targets = values(4 * 3 * 2);
    let targets = Targets::values(View::new(&targets, &[4, 3, 2]));
    let weights = Weights::<f32>::random(&c, 1).expect("weights");
    let upstream = Upstream { y: None, hn: None, cn: None };
    let options =
        Options { train: true, optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..Default::default() };
    for d in devices() {
        let plan = Plan::new(&c, SHAPE, &d.caps(), &options).expect("a plan");
        let mut one = Session::from_plan(&d, plan.clone(), &weights).expect("a session");
        let mut two = awaited(&d, Session::from_plan_async(&d, plan, &weights)).expect("a session");
        assert_eq!(one.startup().pipelines, two.startup().pipelines);
        assert_eq!(awaited(&d, two.forward_async(&input)).expect("a run"), one.forward(&input).expect("a run"));
        for s in [&mut one, &mut two] {
            s.write(&input).expect("an input");
            s.write_targets(&targets).expect("targets");
        }
        let state = one.run_for_state().expect("a state");
        assert_eq!(awaited(&d, two.run_for_state_async()).expect("a state"), state);
        assert_eq!(awaited(&d, two.output_async()).expect("an output"), one.output().expect("an output"));
        assert_eq!(awaited(&d, two.loss_async()).expect("a loss"), one.loss().expect("a loss"));
        let predictions = one.predictions().expect("predictions");
        assert_eq!(awaited(&d, two.predictions_async()).expect("predictions"), predictions);
        let gradients = one.backward(&upstream).expect("gradients");
        assert_eq!(awaited(&d, two.backward_async(&upstream)).expect("gradients"), gradients);
        assert_eq!(awaited(&d, two.gradients_async()).expect("gradients"), gradients);
        for s in [&mut one, &mut two] {
            s.run().expect("a run");
        }
        let gradients = one.run_backward().expect("gradients");
        assert_eq!(awaited(&d, two.run_backward_async()).expect("gradients"), gradients);
        for s in [&mut one, &mut two] {
            s.update(0.1).expect("an update");
        }
        let norm = one.gradient_norm().expect("a norm");
        assert_eq!(awaited(&d, two.gradient_norm_async()).expect("a norm"), norm);
        assert_eq!(awaited(&d, two.weights_async()).expect("weights"), one.weights().expect("weights"));

        let shape = Shape { time: 1, batch: 1 };
        let mut one = one.for_shape(shape).expect("a sibling");
        let mut two = awaited(&d, two.for_shape_async(shape)).expect("a sibling");
        let mut three = awaited(&d, two.sibling_async(shape, &Options::default())).expect("a sibling");
        for x in values(6).chunks(2) {
            let x = View::new(x, &[1, 1, 2]);
            let out = one.step(x).expect("a step");
            assert_eq!(awaited(&d, two.step_async(x)).expect("a step"), out);
            assert_eq!(awaited(&d, three.step_async(x)).expect("a step").hn.shape, out.hn.shape);
        }
        let fresh = awaited(&d, Session::new_async(&d, &c, SHAPE, &weights)).expect("a session");
        assert_eq!(awaited(&d, fresh.bind_async(&IoBuffers::default())).is_ok(), d.kind() == "gpu");
    }
}

/// x 3 wide, a stack and a map of it.
fn network() -> Arc<Network> {
    let mut b = Builder::new();
    let x = b.input("x", 3).expect("an input");
    let c = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 4, ..Default::default() };
    let y = b.layers("rnn", x, &c).expect("layers");
    let y = b.map("doubled", expr::Expr::input(0) * 2.0.into(), &[y.into()]).expect("a map");
    b.output("y", y).expect("an output");
    Arc::new(b.finish().expect("a network"))
}

#[test]
fn sessions_of_networks_can_be_awaited() {
    let network = network();
    let params = values(network.parameter_count());
    let (x, dy) = (values(4 * 3 * 3), values(4 * 3 * 4));
    let (x, dy) = ([View::new(&x, &[4, 3, 3])], [View::new(&dy, &[4, 3, 4])]);
    let (input, upstream) = (NetworkInput::new(&x), NetworkUpstream { values: &dy, states: None });
    let options = NetworkOptions { train: true, ..Default::default() };
    for d in devices() {
        let plan = NetworkPlan::new(&network, SHAPE, &d.caps(), &options).expect("a plan");
        let mut one = NetworkSession::new(&d, plan.clone(), &params).expect("a session");
        let mut two = awaited(&d, NetworkSession::new_async(&d, plan, &params)).expect("a session");
        assert_eq!(awaited(&d, two.forward_async(&input)).expect("a run"), one.forward(&input).expect("a run"));
        assert_eq!(awaited(&d, two.output_async()).expect("an output"), one.output().expect("an output"));
        let gradients = one.backward(&upstream).expect("gradients");
        assert_eq!(awaited(&d, two.backward_async(&upstream)).expect("gradients"), gradients);
        assert_eq!(awaited(&d, two.gradients_async()).expect("gradients"), gradients);
        assert_eq!(two.submits(), one.submits());

        let shape = Shape { time: 1, batch: 2 };
        let plan = NetworkPlan::new(&network, shape, &d.caps(), &NetworkOptions::default()).expect("a plan");
        let mut one = one.sibling(plan.clone()).expect("a sibling");
        let mut two = awaited(&d, two.sibling_async(plan)).expect("a sibling");
        for x in values(4 * 6).chunks(6) {
            let (x, active) = ([View::new(x, &[1, 2, 3])], [false, true]);
            assert_eq!(awaited(&d, two.step_async(&x)).expect("a step"), one.step(&x).expect("a step"));
            let out = one.step_where(&x, &active).expect("a step");
            assert_eq!(awaited(&d, two.step_where_async(&x, &active)).expect("a step"), out);
            assert_eq!(awaited(&d, two.states_async()).expect("states"), out.states);
            assert_eq!(awaited(&d, two.states_of_async(1)).expect("states"), one.states_of(1).expect("states"));
        }
    }
}

#[test]
fn faces_can_be_awaited() {
    let (c, network) = (config(), network());
    let weights = Weights::<f32>::random(&c, 1).expect("weights");
    let ids_of = RnnConfig { vocabulary: Some(5), ..c.clone() };
    let embedded = Weights::<f32>::random(&ids_of, 2).expect("weights");
    let params = values(network.parameter_count());
    for d in devices() {
        let mut one = Rnn::new(&d, &c, &weights).expect("a stack");
        let mut two = awaited(&d, Rnn::new_async(&d, &c, &weights)).expect("a stack");
        let mut ids_one = Rnn::new(&d, &ids_of, &embedded).expect("a stack");
        let mut ids_two = awaited(&d, Rnn::new_async(&d, &ids_of, &embedded)).expect("a stack");
        let mut model = wgpu_rnn::Model::new(&d, &network, &params).expect("a model");
        let mut other = awaited(&d, wgpu_rnn::Model::new_async(&d, &network, &params)).expect("a model");
        for (time, batch) in [(4, 3), (2, 5)] {
            let (x, x3) = (values(time * batch * 2), values(time * batch * 3));
            let shapes = [[time, batch, 2], [time, batch, 3]];
            let (x, x3) = (View::new(&x, &shapes[0]), View::new(&x3, &shapes[1]));
            let expected = one.forward(x, None, Initial::Zero).expect("a batch");
            assert_eq!(awaited(&d, two.forward_async(x, None, Initial::Zero)).expect("a batch"), expected);
            let ids: Vec<u32> = (0..time * batch).map(|n| n as u32 % 5).collect();
            let ids = View::new(&ids, &shapes[0][..2]);
            let expected = ids_one.forward_ids(ids, None, Initial::Zero).expect("a batch");
            assert_eq!(awaited(&d, ids_two.forward_ids_async(ids, None, Initial::Zero)).expect("a batch"), expected);
            let expected = model.forward(&[("x", x3)], None).expect("a batch");
            assert_eq!(awaited(&d, other.forward_async(&[("x", x3)], None)).expect("a batch"), expected);
            let states: Vec<_> = expected.states.iter().map(Tensor::view).collect();
            let expected = model.forward_from(&[("x", x3)], None, &states).expect("a batch");
            assert_eq!(awaited(&d, other.forward_from_async(&[("x", x3)], None, &states)).expect("a batch"), expected);
        }
        assert_eq!((two.sessions(), other.sessions()), (one.sessions(), model.sessions()));
    }
}

/// A future that reads and is dropped before it is ready leaves a session that works, whoever owns the device.
#[test]
fn a_reading_that_nobody_awaits_any_more_is_undone() {
    let (c, x) = (config(), values(4 * 3 * 2));
    let input = Input::new(View::new(&x, &[4, 3, 2]));
    let weights = Weights::<f32>::random(&c, 1).expect("weights");
    let [_, ours] = devices();
    let (device, queue) = ours.wgpu().expect("a GPU");
    let host = Device::from_wgpu(device.clone(), queue.clone());
    for d in [ours.clone(), host] {
        let mut s = Session::new(&d, &c, SHAPE, &weights).expect("a session");
        let expected = s.forward(&input).expect("a run");
        for _ in 0..3 {
            {
                let mut future = pin!(s.forward_async(&input));
                let once = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(once.is_pending(), "nobody has polled the device");
            }
            assert_eq!(s.output().expect("the run itself was submitted"), expected);
            assert_eq!(s.forward(&input).expect("a run"), expected);
        }
    }
}

/// What cannot be done is told to those who await as to those who wait.
#[test]
fn errors_can_be_awaited() {
    let (c, x) = (config(), values(4 * 3 * 2));
    let input = Input::new(View::new(&x, &[4, 3, 2]));
    let weights = Weights::<f32>::random(&c, 1).expect("weights");
    let [_, d] = devices();
    let mut s = Session::new(&d, &c, SHAPE, &weights).expect("a session");
    assert!(matches!(awaited(&d, s.output_async()), Err(Error::Mismatch { .. })));
    s.write(&input).expect("an input");
    s.run().expect("submitted");
    d.wgpu().expect("a GPU").0.destroy();
    // An executor that polls the device hears of it, and so does the future.
    let mut future = pin!(s.output_async());
    let result = loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => break result,
            Poll::Pending => drop(d.poll()),
        }
    };
    assert!(matches!(result, Err(Error::DeviceLost { .. })), "{result:?}");
    assert!(matches!(d.poll(), Err(Error::DeviceLost { .. })));
}
