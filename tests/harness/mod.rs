//! What the law tests share: devices, strategies, seeded values, one call that runs a configuration.

#![expect(dead_code, reason = "every test file uses its own part")]

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::sync::{Arc, OnceLock};
use wgpu_rnn::*;

/// The sizes that fit no tile evenly.
pub const ODD_SIZES: [usize; 7] = [1, 3, 17, 63, 64, 65, 129];

/// A GPU adapter of any kind; a test that needs one fails without.
pub fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| unchecked_gpu().checked()).clone()
}

/// The adapter as users get it, without checks in its shaders.
pub fn unchecked_gpu() -> Device {
    Device::gpu().expect("these tests need a Vulkan, Metal or DX12 adapter (lavapipe will do)")
}

/// Every executor with every strategy.
pub fn executors() -> Vec<(Device, Strategy)> {
    let both = |d: Device| [(d.clone(), Strategy::Step), (d, Strategy::Sequence)];
    both(Device::cpu()).into_iter().chain(both(gpu())).collect()
}

/// Whether everything runs on the GPU too (`scripts/test.sh --all`): full products of cells and properties, which a software
/// rasteriser's compiler takes an hour over.
pub fn everything() -> bool {
    std::env::var_os("WGPU_RNN_ALL").is_some_and(|v| v == "1")
}

/// Whether a property is run on the GPU with this cell: with every cell if [`everything`] is asked for, else with those that between them
/// have all that kernels tell apart: a cell state and a chain of two products, and rows that are normalised. (Every
/// cell's numbers, there and back, are held on the GPU by tests/backward/executors.rs and tests/golden.rs.)
pub fn on_gpu(cell: &Cell, proj_size: usize) -> bool {
    let typical = [(&cells::LSTM, true), (&cells::GRU_LAYER_NORM, false)];
    everything() || typical.iter().any(|(c, projects)| *c == cell && *projects == (proj_size > 0))
}

/// Every executor that a property is run on with this cell, with every strategy.
pub fn executors_for(cell: &Cell, proj_size: usize) -> Vec<(Device, Strategy)> {
    let both = |d: Device| [(d.clone(), Strategy::Step), (d, Strategy::Sequence)];
    both(Device::cpu()).into_iter().chain(on_gpu(cell, proj_size).then(|| both(gpu())).into_iter().flatten()).collect()
}

/// Both strategies on the CPU executor, and one of them on the GPU: of many cases that are alike, the n-th ([`everything`]: both).
pub fn executors_in_turn(n: usize) -> Vec<(Device, Strategy)> {
    let list = executors().into_iter().enumerate();
    list.filter(|(at, _)| *at < 2 || at % 2 == n % 2 || everything()).map(|(_, on)| on).collect()
}

/// The cells, projected or not, that a property is run on the GPU with.
pub fn gpu_cells(proj_size: usize) -> Vec<(&'static Cell, usize)> {
    cells_and_projections(proj_size).into_iter().filter(|(cell, proj_size)| on_gpu(cell, *proj_size)).collect()
}

/// Uniform in ±`scale`.
pub fn values(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-scale..scale)).collect()
}

/// c0 of values in ±1 as a run may have left it: sLSTM's normaliser n is 1 or more, and c no larger.
pub fn cell_state(config: &RnnConfig, mut c0: Vec<f32>) -> Vec<f32> {
    let parts = config.cell.states.iter().filter(|s| s.initial == wgpu_rnn::cell::Initial::Cell);
    for (part, state) in c0.chunks_exact_mut(config.hidden_size).zip(parts.cycle()) {
        part.iter_mut().filter(|_| state.name == "n").for_each(|n| *n = 1.0 + n.abs());
    }
    c0
}

/// Every cell of the registry and, once more, the LSTMs of one cell state with a projection to `proj_size` (its stage is the same
/// behind every cell; sLSTM's is in tests/golden.rs).
pub fn cells_and_projections(proj_size: usize) -> Vec<(&'static Cell, usize)> {
    let with = |cell: &&'static Cell| [Some((*cell, 0)), (cell.cell_states() == 1).then_some((*cell, proj_size))];
    cells::ALL.iter().flat_map(with).flatten().collect()
}

/// A configuration, a shape and the numbers to run it on, and upstream gradients to go back from.
#[derive(Clone)]
pub struct Case {
    pub config: RnnConfig,
    pub shape: Shape,
    pub weights: Weights<f32>,
    pub x: Vec<f32>,
    pub lengths: Option<Vec<usize>>,
    pub h0: Vec<f32>,
    pub c0: Vec<f32>,
    pub dy: Vec<f32>,
    pub dhn: Vec<f32>,
    pub dcn: Vec<f32>,
    /// Whether and how episodes begin inside the run, and the flags of `Input::resets` in x's layout.
    pub resets: Option<Reset>,
    pub flags: Vec<bool>,
}

impl Case {
    pub fn new(config: RnnConfig, time: usize, batch: usize, seed: u64) -> Self {
        let states = config.num_layers * config.directions() * batch;
        let (h0, c0) = (states * config.state_size(), states * config.cell_size());
        let mut weights = Weights::random(&config, seed).unwrap();
        // Gains start as 1, which would hide where they belong. Smaller ones on average: with 1 a small layer-normalised LSTM is
        // chaotic (derivatives of thousands after 66 steps), and how far off an f32 run is then says nothing.
        for (n, layer) in weights.layers.iter_mut().enumerate() {
            let offsets = values(seed + 7 + n as u64, layer.gains.len(), 0.5);
            layer.gains = offsets.into_iter().map(|v| 0.25 + v * 0.3).collect();
        }
        Self {
            shape: Shape { time, batch },
            weights,
            x: values(seed + 1, time * batch * config.input_size, 2.0),
            lengths: None,
            h0: values(seed + 2, h0, 1.0),
            c0: cell_state(&config, values(seed + 3, c0, 1.0)),
            dy: values(seed + 4, time * batch * config.output_size(), 1.0),
            dhn: values(seed + 5, h0, 1.0),
            dcn: values(seed + 6, c0, 1.0),
            resets: None,
            flags: Vec::new(),
            config,
        }
    }

    pub fn with_lengths(mut self, lengths: &[usize]) -> Self {
        self.lengths = Some(lengths.to_vec());
        self
    }

    /// With episodes that begin at each `(time, sequence)`.
    pub fn with_resets(mut self, reset: Reset, at: &[(usize, usize)]) -> Self {
        let Shape { time, batch } = self.shape;
        let place = |&(t, b): &(usize, usize)| match self.config.layout {
            Layout::TimeMajor => t * batch + b,
            Layout::BatchFirst => b * time + t,
        };
        self.flags = vec![false; time * batch];
        at.iter().for_each(|at| self.flags[place(at)] = true);
        self.resets = Some(reset);
        self
    }

    pub fn x_shape(&self) -> Vec<usize> {
        let (t, b, i) = (self.shape.time, self.shape.batch, self.config.input_size);
        if self.config.layout == Layout::TimeMajor { vec![t, b, i] } else { vec![b, t, i] }
    }

    pub fn y_shape(&self) -> Vec<usize> {
        let mut shape = self.x_shape();
        shape[2] = self.config.output_size();
        shape
    }

    pub fn state_shapes(&self) -> [Vec<usize>; 2] {
        let outer = self.config.num_layers * self.config.directions();
        [self.config.state_size(), self.config.cell_size()].map(|n| vec![outer, self.shape.batch, n])
    }

    pub fn session(&self, device: &Device, strategy: Strategy, block: Option<usize>) -> Session {
        let options = Options { max_block: block, resets: self.resets, ..forced(strategy) };
        let options = self.small_tiles(device, options);
        let plan = Plan::new(&self.config, self.shape, &device.caps(), &options).unwrap();
        Session::from_plan(device, plan, &self.weights).unwrap()
    }

    /// On a GPU the smallest register tiles that are tiles, in every shape, where nothing else was asked for: a software rasteriser
    /// compiles them five times as fast as its own choice, and tiles change no bits (tests/kernels_of_gpus.rs, tests/tuning.rs).
    fn small_tiles(&self, device: &Device, options: Options) -> Options {
        if device.kind() == "cpu" || options.tuning.is_some() || options.kernels.is_some() {
            return options;
        }
        let tiles = TileChoice { tile: 2, back_units: 2, project: (2, 2), weight: (2, 2), input: 2 };
        let mut tuning = Tuning::new(device);
        for (time, batch) in (0..8).flat_map(|t| (0..8).map(move |b| (1 << t, 1 << b))) {
            for strategy in [Strategy::Step, Strategy::Sequence] {
                let choice = Choice { tiles, block: None, ratio: 1.0 };
                tuning.set(&self.config, Shape { time, batch }, &options, strategy, choice).unwrap();
            }
        }
        Options { tuning: Some(Arc::new(tuning)), ..options }
    }

    /// A session with a backward pass.
    pub fn training<T: Element>(&self, device: &Device, options: Options) -> Session<T> {
        let precision = if size_of::<T>() == 8 { Precision::F64 } else { Precision::F32 };
        let options = Options { precision, train: true, resets: self.resets, ..options };
        let options = self.small_tiles(device, options);
        let plan = Plan::new(&self.config, self.shape, &device.caps(), &options).unwrap();
        Session::from_plan(device, plan, &self.weights.cast()).unwrap()
    }

    /// Forward and back over NaN-filled memory.
    pub fn train(&self, device: &Device, strategy: Strategy) -> (Output<f32>, Gradients<f32>) {
        self.poisoned(&mut self.training(device, forced(strategy)))
    }

    /// The same in a session that there is.
    pub fn poisoned(&self, session: &mut Session) -> (Output<f32>, Gradients<f32>) {
        session.poison().unwrap();
        self.train_in(session)
    }

    /// Forward and back, in either precision.
    pub fn train_in<T: Element>(&self, session: &mut Session<T>) -> (Output<T>, Gradients<T>) {
        let out = self.with_input_as(|input| session.forward(input).unwrap());
        (out, self.with_upstream_as(|upstream| session.backward(upstream).unwrap()))
    }

    /// The truth: f64 on the CPU executor.
    pub fn true_gradients(&self) -> Gradients<f64> {
        self.train_in(&mut self.training::<f64>(&Device::cpu(), Options::default())).1
    }

    /// Runs over NaN-filled memory.
    pub fn run(&self, device: &Device, strategy: Strategy) -> Output<f32> {
        let mut session = self.session(device, strategy, None);
        session.poison().unwrap();
        self.run_in(&mut session)
    }

    pub fn run_in(&self, session: &mut Session) -> Output<f32> {
        self.with_input(|input| session.forward(input).unwrap())
    }

    /// Calls `f` with the case as an [`Input`].
    pub fn with_input<R>(&self, f: impl FnOnce(&Input<'_, f32>) -> R) -> R {
        self.with_input_as(f)
    }

    /// The same in either precision.
    pub fn with_input_as<T: Element, R>(&self, f: impl FnOnce(&Input<'_, T>) -> R) -> R {
        let (shape, [h, c]) = (self.x_shape(), self.state_shapes());
        let [x, h0, c0] = [&self.x, &self.h0, &self.c0].map(|v| cast::<T>(v));
        let cell = self.config.cell.has_cell_state();
        f(&Input {
            lengths: self.lengths.as_deref(),
            resets: self.resets.map(|_| self.flags.as_slice()),
            initial: Initial::Given { h0: Some(View::new(&h0, &h)), c0: cell.then(|| View::new(&c0, &c)) },
            ..Input::new(View::new(&x, &shape))
        })
    }

    /// Calls `f` with the case's upstream gradients.
    pub fn with_upstream_as<T: Element, R>(&self, f: impl FnOnce(&Upstream<'_, T>) -> R) -> R {
        let (shape, [h, c]) = (self.y_shape(), self.state_shapes());
        let [dy, dhn, dcn] = [&self.dy, &self.dhn, &self.dcn].map(|v| cast::<T>(v));
        let cell = self.config.cell.has_cell_state();
        f(&Upstream {
            y: Some(View::new(&dy, &shape)),
            hn: Some(View::new(&dhn, &h)),
            cn: cell.then(|| View::new(&dcn, &c)),
        })
    }

    /// Sequence `b` alone.
    pub fn alone(&self, b: usize) -> Self {
        let (t, n, i) = (self.shape.time, self.shape.batch, self.config.input_size);
        assert_eq!(self.config.layout, Layout::TimeMajor);
        let pick = |v: &[f32], width: usize| sequence(v, n, width, b);
        Self {
            shape: Shape { time: t, batch: 1 },
            x: pick(&self.x, i),
            lengths: self.lengths.as_ref().map(|l| vec![l[b]]),
            h0: pick(&self.h0, self.config.state_size()),
            c0: pick(&self.c0, self.config.cell_size()),
            dy: pick(&self.dy, self.config.output_size()),
            dhn: pick(&self.dhn, self.config.state_size()),
            dcn: pick(&self.dcn, self.config.cell_size()),
            ..self.clone()
        }
    }
}

/// The same values in `T`.
pub fn cast<T: Element>(v: &[f32]) -> Vec<T> {
    v.iter().map(|&x| T::from_f64(x.into())).collect()
}

/// Default options with a strategy.
pub fn forced(strategy: Strategy) -> Options {
    Options { strategy: Some(strategy), ..Default::default() }
}

/// A tensor's name and values.
pub type Named<T> = (String, Vec<T>);

/// Every gradient by name: x, h0, c0 (if the cell has one), then the parameters.
pub fn named<T: Element>(config: &RnnConfig, g: &Gradients<T>) -> Vec<Named<T>> {
    let states = [("x", Some(&g.x)), ("h0", Some(&g.h0)), ("c0", g.c0.as_ref())];
    let states = states.into_iter().filter_map(|(name, t)| t.map(|t| (name.to_string(), t.data.clone())));
    states.chain(g.weights.named(config).map(|(p, v)| (p.name, v.to_vec()))).collect()
}

/// Asserts that two sets of gradients are the same bit for bit.
pub fn assert_same_gradients(what: &str, config: &RnnConfig, a: &Gradients<f32>, b: &Gradients<f32>) {
    assert_eq!((&a.x.shape, &a.h0.shape), (&b.x.shape, &b.h0.shape), "{what}");
    for ((name, a), (_, b)) in named(config, a).iter().zip(&named(config, b)) {
        assert_eq!(bits(a), bits(b), "{what}: gradient of {name}");
    }
}

/// wgpu's own counts of live buffers, bind groups, layouts, pipelines and shader modules.
pub fn allocated(device: &Device) -> [isize; 5] {
    let (device, _) = device.wgpu().unwrap();
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let hal = device.get_internal_counters().hal;
    [&hal.buffers, &hal.bind_groups, &hal.bind_group_layouts, &hal.compute_pipelines, &hal.shader_modules]
        .map(|c| c.read())
}

/// Largest |a - b|, where both may be NaN (memory that nothing wrote).
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let one = |(a, b): (&f32, &f32)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs(),
        _ => f32::INFINITY,
    };
    a.iter().zip(b).map(one).fold(0.0, f32::max)
}

/// `None`, or the first place where two traces differ by more than `tolerance` times the slot's scale (at least 1).
pub fn first_difference(a: &[Snapshot<f32>], b: &[Snapshot<f32>], tolerance: f32) -> Option<String> {
    assert_eq!(
        a.iter().map(|s| (&s.dispatch, &s.slot)).collect::<Vec<_>>(),
        b.iter().map(|s| (&s.dispatch, &s.slot)).collect::<Vec<_>>(),
        "both executors walk the same steps"
    );
    a.iter().zip(b).find_map(|(a, b)| {
        let d = difference(&a.values, &b.values);
        let scale = a.values.iter().fold(1.0, |m: f32, v| m.max(v.abs()));
        (d > tolerance * scale).then(|| format!("{} wrote {}: differs by {d}", a.dispatch, a.slot))
    })
}

/// Bits, so that -0, NaN and the last digit count.
pub fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

/// Asserts that two outputs are the same bit for bit.
pub fn assert_same(what: &str, a: &Output<f32>, b: &Output<f32>) {
    assert_eq!(bits(&a.y.data), bits(&b.y.data), "{what}: y");
    assert_eq!(bits(&a.hn.data), bits(&b.hn.data), "{what}: hn");
    assert_eq!(a.cn.as_ref().map(|c| bits(&c.data)), b.cn.as_ref().map(|c| bits(&c.data)), "{what}: cn");
}

/// Rows `[.., b, ..]` of a `[N, B, W]` tensor.
pub fn sequence(v: &[f32], batch: usize, width: usize, b: usize) -> Vec<f32> {
    v.chunks_exact(width.max(1)).skip(b).step_by(batch).flatten().copied().collect()
}
