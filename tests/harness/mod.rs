//! What the law tests share: devices, strategies, seeded values, one call that runs a configuration.

#![expect(dead_code, reason = "every test file uses its own part")]

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::sync::OnceLock;
use wgpu_rnn::*;

/// The sizes that fit no tile evenly.
pub const ODD_SIZES: [usize; 7] = [1, 3, 17, 63, 64, 65, 129];

/// A GPU adapter of any kind; a test that needs one fails without.
pub fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| Device::gpu().expect("these tests need a Vulkan, Metal or DX12 adapter (lavapipe will do)"))
        .clone()
}

/// Every executor with every strategy.
pub fn executors() -> Vec<(Device, Strategy)> {
    let both = |d: Device| [(d.clone(), Strategy::Step), (d, Strategy::Sequence)];
    both(Device::cpu()).into_iter().chain(both(gpu())).collect()
}

/// Uniform in ±`scale`.
pub fn values(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-scale..scale)).collect()
}

/// A configuration, a shape and the numbers to run it on.
#[derive(Clone)]
pub struct Case {
    pub config: RnnConfig,
    pub shape: Shape,
    pub weights: Weights<f32>,
    pub x: Vec<f32>,
    pub lengths: Option<Vec<usize>>,
    pub h0: Vec<f32>,
    pub c0: Vec<f32>,
}

impl Case {
    pub fn new(config: RnnConfig, time: usize, batch: usize, seed: u64) -> Self {
        let states = config.num_layers * config.directions() * batch;
        let (h0, c0) = (states * config.state_size(), states * config.hidden_size);
        Self {
            shape: Shape { time, batch },
            weights: Weights::random(&config, seed).unwrap(),
            x: values(seed + 1, time * batch * config.input_size, 2.0),
            lengths: None,
            h0: values(seed + 2, h0, 1.0),
            c0: values(seed + 3, c0, 1.0),
            config,
        }
    }

    pub fn with_lengths(mut self, lengths: &[usize]) -> Self {
        self.lengths = Some(lengths.to_vec());
        self
    }

    pub fn x_shape(&self) -> Vec<usize> {
        let (t, b, i) = (self.shape.time, self.shape.batch, self.config.input_size);
        if self.config.layout == Layout::TimeMajor { vec![t, b, i] } else { vec![b, t, i] }
    }

    pub fn state_shapes(&self) -> [Vec<usize>; 2] {
        let outer = self.config.num_layers * self.config.directions();
        [self.config.state_size(), self.config.hidden_size].map(|n| vec![outer, self.shape.batch, n])
    }

    pub fn session(&self, device: &Device, strategy: Strategy, block: Option<usize>) -> Session {
        let options = Options { strategy: Some(strategy), max_block: block, ..Default::default() };
        let plan = Plan::new(&self.config, self.shape, &device.caps(), &options).unwrap();
        Session::from_plan(device, plan, &self.weights).unwrap()
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
        let (shape, [h, c]) = (self.x_shape(), self.state_shapes());
        let cell = self.config.cell.has_cell_state();
        f(&Input {
            x: View::new(&self.x, &shape),
            lengths: self.lengths.as_deref(),
            initial: Initial::Given { h0: Some(View::new(&self.h0, &h)), c0: cell.then(|| View::new(&self.c0, &c)) },
        })
    }

    /// Sequence `b` alone.
    pub fn alone(&self, b: usize) -> Self {
        let (t, n, i) = (self.shape.time, self.shape.batch, self.config.input_size);
        assert_eq!(self.config.layout, Layout::TimeMajor);
        let pick =
            |v: &[f32], width: usize| v.chunks_exact(width).skip(b).step_by(n).flatten().copied().collect::<Vec<_>>();
        Self {
            shape: Shape { time: t, batch: 1 },
            x: pick(&self.x, i),
            lengths: self.lengths.as_ref().map(|l| vec![l[b]]),
            h0: pick(&self.h0, self.config.state_size()),
            c0: pick(&self.c0, self.config.hidden_size),
            ..self.clone()
        }
    }
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
    v.chunks_exact(width).skip(b).step_by(batch).flatten().copied().collect()
}
