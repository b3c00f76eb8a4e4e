//! The selective copying task (Gu and Dao 2023, §4.1.1), and three networks that learn it.
//!
//! A sequence is noise with a few tokens in it, at any steps; then come as many recall steps, at which the tokens must be given in
//! their order. How far a token lies from where it is recalled differs from sequence to sequence: what is right at which distance
//! shows what a network remembers.

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::index::sample};
use std::sync::Arc;
use wgpu_rnn::blocks::Mamba;
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::{
    Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Norm, Part,
};
use wgpu_rnn::{
    Device, Head, Input, Loss, Optimiser, Options, Plan, Result, RnnConfig, Session, Shape, Targets, View, Weights,
    cells, rules,
};

/// Kinds of tokens.
const KINDS: usize = 8;
/// Tokens of a sequence.
const TOKENS: usize = 4;
/// Steps of noise and tokens.
const STEPS: usize = 32;
/// Ids: noise, the tokens, recall.
const VOCABULARY: usize = KINDS + 2;
const RECALL: u32 = KINDS as u32 + 1;
const TIME: usize = STEPS + TOKENS;
const BATCH: usize = 16;
/// Columns of the residual stream; half of a Mamba block's channels.
const WIDTH: usize = 32;
const LAYERS: usize = 2;
const SHAPE: Shape = Shape { time: TIME, batch: BATCH };

/// Sequences `[T, B]`, and what is to be recalled.
pub struct Batch {
    /// Ids.
    pub ids: Vec<u32>,
    /// The token at recall steps.
    pub targets: Vec<u32>,
    /// How many steps before its recall the token was; `None` at other steps.
    pub distances: Vec<Option<usize>>,
}

impl Batch {
    /// The n-th batch: the same at every call.
    pub fn new(n: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(n);
        let rows = TIME * BATCH;
        let mut batch = Self { ids: vec![0; rows], targets: vec![0; rows], distances: vec![None; rows] };
        for b in 0..BATCH {
            let mut places = sample(&mut rng, STEPS, TOKENS).into_vec();
            places.sort_unstable();
            for (n, &t) in places.iter().enumerate() {
                let (token, recall) = (rng.random_range(1..=KINDS as u32), STEPS + n);
                batch.ids[t * BATCH + b] = token;
                batch.ids[recall * BATCH + b] = RECALL;
                batch.targets[recall * BATCH + b] = token;
                batch.distances[recall * BATCH + b] = Some(recall - t);
            }
        }
        batch
    }
}

/// A network that gives a score `[T, B, VOCABULARY]` per id.
pub trait Learner {
    /// One step of training; the mean cross entropy of the recalled tokens, in nats.
    fn learn(&mut self, batch: &Batch) -> Result<f64>;
    /// The scores.
    fn scores(&mut self, batch: &Batch) -> Result<Vec<f32>>;
}

/// Right answers and all, by distance.
pub fn accuracy(learner: &mut dyn Learner, batches: std::ops::Range<u64>) -> Result<Vec<(usize, usize)>> {
    let mut counts = vec![(0, 0); TIME];
    for n in batches {
        let batch = Batch::new(n);
        let scores = learner.scores(&batch)?;
        for (row, distance) in batch.distances.iter().enumerate() {
            let Some(distance) = *distance else { continue };
            let own = &scores[row * VOCABULARY..][..VOCABULARY];
            let best = (0..VOCABULARY).max_by(|&a, &b| own[a].total_cmp(&own[b])).unwrap_or_default();
            counts[distance].0 += usize::from(best as u32 == batch.targets[row]);
            counts[distance].1 += 1;
        }
    }
    Ok(counts)
}

/// The names of the learners, in the order of [`learner`].
pub const NAMES: [&str; 3] = ["minGRU", "Mamba", "LSTM"];

/// The n-th learner.
pub fn learner(n: usize, device: &Device) -> Result<Box<dyn Learner>> {
    Ok(match n {
        0 => Box::new(Linear::new(device, min_gru)?),
        1 => Box::new(Linear::new(device, mamba)?),
        _ => Box::new(Lstm::new(device)?),
    })
}

/// x + out(minGRU(norm(x)))
fn min_gru(b: &mut Builder, n: usize, x: Part) -> Result<Part> {
    let name = |what: &str| format!("layers.{n}.{what}");
    let inner = 2 * WIDTH;
    let gain = b.param(&name("norm.weight"), &[WIDTH])?;
    let normal = b.norm(&name("norm"), x, (Norm::Rms, 1, 1e-5), Some(gain), None)?;
    let mut linear = |what: &str, x: Part, rows: usize| -> Result<Part> {
        let weight = b.param(&name(&format!("{what}.weight")), &[rows, x.width])?;
        let bias = b.param(&name(&format!("{what}.bias")), &[rows])?;
        b.linear(&name(what), x, weight, Some(bias))
    };
    let (z, h) = (linear("z", normal, inner)?, linear("h", normal, inner)?);
    let scan = b.scan(&name("cell"), &rules::MINGRU, [inner, 1, 1], &[z.into(), h.into()], false)?;
    let weight = b.param(&name("out.weight"), &[WIDTH, inner])?;
    let out = b.linear(&name("out"), scan, weight, None)?;
    b.map(&name("sum"), Expr::input(0) + Expr::input(1), &[x.into(), out.into()])
}

fn mamba(b: &mut Builder, n: usize, x: Part) -> Result<Part> {
    let (hidden_size, intermediate_size) = (WIDTH, 2 * WIDTH);
    let sizes = Mamba { hidden_size, intermediate_size, state_size: 8, time_step_rank: 4, ..Default::default() };
    sizes.block(b, &format!("layers.{n}."), x)
}

/// Blocks of a linear recurrence between an embedding and a head, and Adam (Kingma and Ba 2014) on the host.
struct Linear {
    session: NetworkSession<f32>,
    params: Vec<f32>,
    moments: [Vec<f32>; 2],
    updates: i32,
}

impl Linear {
    fn new(device: &Device, block: fn(&mut Builder, usize, Part) -> Result<Part>) -> Result<Self> {
        let mut b = Builder::new();
        let x = b.input("one-hot", VOCABULARY)?;
        let embedding = b.param("embedding.weight", &[WIDTH, VOCABULARY])?;
        let x = b.linear("embedding", x, embedding, None)?;
        let x = (0..LAYERS).try_fold(x, |x, n| block(&mut b, n, x))?;
        let gain = b.param("norm.weight", &[WIDTH])?;
        let x = b.norm("norm", x, (Norm::Rms, 1, 1e-5), Some(gain), None)?;
        let head = b.param("head.weight", &[VOCABULARY, WIDTH])?;
        let y = b.linear("head", x, head, None)?;
        b.output("scores", y)?;
        let network = Arc::new(b.finish()?);
        let params = initial(&network);
        let options = NetworkOptions { train: true, ..Default::default() };
        let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options)?;
        let session = NetworkSession::new(device, plan, &params)?;
        let moments = [vec![0.0; params.len()], vec![0.0; params.len()]];
        Ok(Self { session, params, moments, updates: 0 })
    }

    fn adam(&mut self, gradient: &[f32]) {
        const RATE: f32 = 3e-3;
        let (beta, beta2) = (0.9f32, 0.999f32);
        self.updates += 1;
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let clip = (1.0 / (norm + 1e-6)).min(1.0);
        let [first, second] = &mut self.moments;
        let steps = self.params.iter_mut().zip(gradient).zip(first.iter_mut().zip(second));
        for ((p, g), (m, v)) in steps {
            let g = g * clip;
            *m = beta * *m + (1.0 - beta) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let (m, v) = (*m / (1.0 - beta.powi(self.updates)), *v / (1.0 - beta2.powi(self.updates)));
            *p -= RATE * m / (v.sqrt() + 1e-8);
        }
    }
}

/// Matrices by their fan-in; Mamba's A, D and Δ as its paper begins.
fn initial(network: &Network) -> Vec<f32> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut values = Vec::new();
    for p in &network.params {
        let columns = p.shape[p.shape.len() - 1];
        let bound = 1.0 / (columns as f32).sqrt();
        values.extend((0..p.len()).map(|n| match &p.name[..] {
            name if name.ends_with("norm.weight") || name.ends_with("mixer.D") => 1.0,
            name if name.ends_with("A_log") => ((n % columns + 1) as f32).ln(),
            // softplus⁻¹ of 0.001 to 0.1
            name if name.ends_with("dt_proj.bias") => (rng.random_range(-6.9f32..-2.3)).exp().exp_m1().ln(),
            name if name.ends_with("bias") => 0.0,
            _ => rng.random_range(-bound..bound),
        }));
    }
    values
}

fn one_hot(batch: &Batch) -> Vec<f32> {
    batch.ids.iter().flat_map(|&id| (0..VOCABULARY as u32).map(move |n| f32::from(u8::from(n == id)))).collect()
}

const X_SHAPE: [usize; 3] = [TIME, BATCH, VOCABULARY];

impl Learner for Linear {
    fn learn(&mut self, batch: &Batch) -> Result<f64> {
        let scores = self.scores(batch)?;
        let (loss, gradient) = cross_entropy(&scores, batch);
        let values = [View::new(&gradient[..], &X_SHAPE)];
        let gradients = self.session.backward(&NetworkUpstream { values: &values, states: None })?;
        let flat: Vec<f32> = gradients.params.into_iter().flat_map(|t| t.data).collect();
        self.adam(&flat);
        self.session.set_params(&self.params)?;
        Ok(loss)
    }

    fn scores(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let x = one_hot(batch);
        Ok(self.session.forward(&NetworkInput::new(&[View::new(&x, &X_SHAPE)]))?.values.remove(0).data)
    }
}

/// The mean over the recalled tokens, and its gradient.
fn cross_entropy(scores: &[f32], batch: &Batch) -> (f64, Vec<f32>) {
    let count = (TOKENS * BATCH) as f32;
    let mut gradient = vec![0.0; scores.len()];
    let mut loss = 0.0;
    for (row, _) in batch.distances.iter().enumerate().filter(|(_, d)| d.is_some()) {
        let own = &scores[row * VOCABULARY..][..VOCABULARY];
        let largest = own.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = own.iter().map(|s| (s - largest).exp()).sum();
        let target = batch.targets[row] as usize;
        loss += f64::from(sum.ln() + largest - own[target]);
        for (n, s) in own.iter().enumerate() {
            let p = (s - largest).exp() / sum;
            gradient[row * VOCABULARY + n] = (p - f32::from(u8::from(n == target))) / count;
        }
    }
    (loss / f64::from(count), gradient)
}

/// Two layers of an LSTM between an embedding and a head, all on the device.
struct Lstm {
    session: Session,
}

impl Lstm {
    fn new(device: &Device) -> Result<Self> {
        let config = RnnConfig {
            cell: &cells::LSTM,
            input_size: WIDTH,
            hidden_size: 2 * WIDTH,
            num_layers: LAYERS,
            vocabulary: Some(VOCABULARY),
            head: Some(Head { size: VOCABULARY, loss: Some(Loss::CrossEntropy) }),
            ..Default::default()
        };
        let optimiser = Some(Optimiser::adam());
        let options = Options { train: true, optimiser, clip_norm: Some(1.0), ..Default::default() };
        let plan = Plan::new(&config, SHAPE, &device.caps(), &options)?;
        Ok(Self { session: Session::from_plan(device, plan, &Weights::random(&config, 7)?)? })
    }
}

impl Learner for Lstm {
    fn learn(&mut self, batch: &Batch) -> Result<f64> {
        let shape = [TIME, BATCH];
        self.session.write(&Input::of_ids(View::new(&batch.ids, &shape)))?;
        let weights: Vec<f32> = batch.distances.iter().map(|d| f32::from(u8::from(d.is_some()))).collect();
        let targets = Targets::classes(View::new(&batch.targets, &shape));
        self.session.write_targets(&Targets { weights: Some(View::new(&weights, &shape)), ..targets })?;
        self.session.train_step(3e-3)?;
        Ok(self.session.loss()?.into())
    }

    fn scores(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.session.write(&Input::of_ids(View::new(&batch.ids, &[TIME, BATCH])))?;
        self.session.run()?;
        Ok(self.session.predictions()?.data)
    }
}
