//! Many live streams on one set of weights: [`StreamPool`].
//!
//! ```text
//! push ──> frames that wait ──┐ tick: one ragged batch
//!                             ▼
//! slots of states ──gather──> run ──scatter──> slots of states      one store on the device, a slot per state
//!                             │
//! pull <── results <──────────┘
//! ```
//!
//! A stream's state is a slot of the store. Whoever forks a stream, takes a snapshot or keeps a history holds the same slot; a run writes
//! another one where a slot has several holders. What runs a batch is a session of its rounded shape, as in [`crate::Rnn`].

mod calls;
pub(crate) mod engine;
mod kept;
mod options;
mod ring;
mod saved;
pub(crate) mod slots;
mod states;
mod statistics;
mod stream;
mod tick;

pub use kept::Recovered;
pub use options::{History, Keep, Policy, PoolOptions};
pub use states::StreamSnapshot;
pub use statistics::PoolStatistics;
pub use stream::StreamId;
pub use tick::Tick;

use crate::error::Result;
use crate::exec::{Device, Element, Moving};
use crate::face::{ModelOptions, RnnOptions};
use crate::model::network::Network;
use crate::model::stack::RnnConfig;
use crate::model::weights::Weights;
use crate::num::Clock;
use engine::Engine;
use kept::{Keeper, Source};
use slots::Slots;
use statistics::Spread;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use stream::Stream;
use tick::{Entry, Pending};

/// Live streams that come and go, over one set of weights: a stack, or a whole network of layers, Mamba, RWKV and what else reads time
/// forwards. For inference.
///
/// [`StreamPool::open`] gives a stream its name, [`StreamPool::push`] hands it frames (a step's input each), [`StreamPool::tick`] runs what
/// waits of all streams as one batch, and [`StreamPool::pull`] takes a stream's results, one row per frame, in order. States stay on the
/// device; a result comes back with its tick.
///
/// - **Bits.** A stream's results and states are the same bit for bit alone or among others, however its frames were cut into pushes and
///   ticks, and whether it was forked, rolled back, saved or loaded on the way.
/// - **Order.** Streams that wait take turns: a tick takes those that have waited longest for one, at most [`Policy::max_batch`] of them,
///   at most [`Policy::max_steps`] frames of each.
/// - **Time.** [`StreamPool::is_ready`] says when [`Policy`] wants a tick, and [`StreamPool::due`] when it will; the pool starts none by
///   itself. Every call that has to do with time has a twin `…_at` that takes the time from the caller.
/// - **Bounds.** [`PoolOptions::frames`] bounds a stream, [`PoolOptions::bytes`] all of them; a call beyond is refused with a typed error
///   and changes nothing.
/// - **Faults.** With [`PoolOptions::keep`] a lost device loses nothing: another takes its place, and all goes on with the same bits. A frame
///   with a NaN is refused ([`StreamError::Poisoned`](crate::StreamError::Poisoned)), and no other stream is touched.
/// - **Branches.** [`StreamPool::fork`], [`StreamPool::snapshot`] and [`StreamPool::rollback`] copy no state: a state that several hold is left
///   as it is by whoever runs on from it. They, and what else reads or sets a state, first run what the stream has waiting (in a tick of all
///   that waits), so that nothing depends on when ticks were; [`StreamPool::rollback`] alone drops it.
///
/// ```
/// use wgpu_rnn::{Device, PoolOptions, RnnConfig, StreamPool, Weights};
/// # fn main() -> wgpu_rnn::Result<()> {
/// let config = RnnConfig::gru(3, 5);
/// let weights = Weights::<f32>::random(&config, 1)?;
/// let mut pool = StreamPool::of_rnn(&Device::cpu(), &config, &weights, &PoolOptions::default())?;
/// let (a, b) = (pool.open()?, pool.open()?);
/// pool.push(a, &[0.5, -0.5, 1.0])?;                // one frame
/// pool.push(b, &[0.5, -0.5, 1.0, 0.0, 0.2, 0.4])?; // two
/// let tick = pool.tick()?;
/// assert_eq!((tick.streams, tick.frames), (2, 3));
/// let (y_a, y_b) = (pool.pull(a)?, pool.pull(b)?);
/// assert_eq!((y_a.shape, y_b.shape), (vec![1, 5], vec![2, 5]));
/// assert_eq!(y_a.data, y_b.data[..5]); // the same frame after the same steps: the same bits
///
/// // What b would give for one more frame, without b going on.
/// let draft = pool.fork(b)?;
/// pool.push(draft, &[0.1, 0.1, 0.1])?;
/// pool.tick()?;
/// assert_eq!(pool.pull(draft)?.shape, [1, 5]);
/// pool.close(draft)?;
/// # Ok(()) }
/// ```
pub struct StreamPool<T: Element = f32> {
    engine: Engine<T>,
    slots: Slots<T>,
    options: PoolOptions,
    /// Tells its streams from those of other pools.
    number: u32,
    streams: Vec<Stream<T>>,
    /// Places of closed streams.
    closed: Vec<u32>,
    /// Streams that have frames, each once, in the order of their turns; some may have none any more.
    queue: VecDeque<u32>,
    /// Of the streams in it, those that a tick has left something of.
    rests: usize,
    /// Streams that have frames.
    waiting: usize,
    /// Bytes of all streams' frames and results.
    bytes: u64,
    /// Streams opened so far.
    opened: u64,
    clock: Clock,
    /// The latest time that a call has given, in nanoseconds.
    latest: u64,
    /// What ran last, and until its results are there what they belong to.
    batch: Vec<Entry>,
    pending: Option<Pending>,
    /// Scratch of a tick.
    scratch: tick::Scratch,
    /// Who got how many results in the last tick.
    gave: Vec<(StreamId, usize)>,
    counts: Counts,
    /// What outlives the device.
    keeper: Option<Keeper<T>>,
    /// What the call at hand went on with.
    recovered: Option<Recovered>,
    /// The device that it is on.
    moving: Moving,
}

/// What is counted and timed.
#[derive(Default)]
struct Counts {
    ticks: u64,
    frames: u64,
    recovered: u64,
    batch: Spread,
    /// In nanoseconds.
    latency: Spread,
    run: Spread,
}

/// A duration in the pool's own unit.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<T: Element> StreamPool<T> {
    /// A pool over a stack, with default [`RnnOptions`]. Of a head the loss is left out, and the layout does not matter: a frame is a step's x
    /// (or a token id, for a configuration with a vocabulary), and its result is y, or the predictions of a head.
    ///
    /// # Errors
    /// As [`StreamPool::of_rnn_with`].
    #[cfg(not(target_family = "wasm"))]
    pub fn of_rnn(device: &Device, config: &RnnConfig, weights: &Weights<T>, options: &PoolOptions) -> Result<Self> {
        Self::of_rnn_with(device, config, weights, &RnnOptions::default(), options)
    }

    /// [`StreamPool::of_rnn`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::of_rnn_with`].
    pub async fn of_rnn_async(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        options: &PoolOptions,
    ) -> Result<Self> {
        Self::of_rnn_with_async(device, config, weights, &RnnOptions::default(), options).await
    }

    /// A pool over a stack whose sessions are as `sessions` says.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a stack that reads time backwards; [`Error::Mismatch`](crate::Error::Mismatch) for
    /// options of training or sizes of 0; as [`Plan::new`](crate::Plan::new) and [`Session::from_plan`](crate::Session::from_plan).
    #[cfg(not(target_family = "wasm"))]
    pub fn of_rnn_with(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        sessions: &RnnOptions,
        options: &PoolOptions,
    ) -> Result<Self> {
        device.block(Self::of_rnn_with_async(device, config, weights, sessions, options))
    }

    /// [`StreamPool::of_rnn_with`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::of_rnn_with`].
    pub async fn of_rnn_with_async(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        sessions: &RnnOptions,
        options: &PoolOptions,
    ) -> Result<Self> {
        options.validate()?;
        let source = || Source::Stack(Box::new((config.clone(), weights.clone(), sessions.clone())));
        Self::with(Engine::of_rnn(device, config, weights, sessions, "a StreamPool").await?, options, source)
    }

    /// A pool over a network and all of its parameters, one after the other in the network's order, with default [`ModelOptions`]. A frame
    /// is a step's row of every input, side by side ([`StreamPool::inputs`]), and its result that of every output
    /// ([`StreamPool::outputs`]). Token ids are numbers of an input, or given with [`StreamPool::push_ids`].
    ///
    /// # Errors
    /// As [`StreamPool::of_model_with`].
    #[cfg(not(target_family = "wasm"))]
    pub fn of_model(device: &Device, network: &Arc<Network>, params: &[T], options: &PoolOptions) -> Result<Self> {
        Self::of_model_with(device, network, params, &ModelOptions::default(), options)
    }

    /// [`StreamPool::of_model`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::of_model_with`].
    pub async fn of_model_async(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        options: &PoolOptions,
    ) -> Result<Self> {
        Self::of_model_with_async(device, network, params, &ModelOptions::default(), options).await
    }

    /// A pool over a network whose sessions are as `sessions` says; scans go step after step, whatever it says
    /// ([`Parallel::Recurrent`](crate::network::Parallel::Recurrent)), so that bits do not depend on how a stream is cut.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a network of which an operation needs later steps, or a whole sequence;
    /// [`Error::Mismatch`](crate::Error::Mismatch) for options of training, sizes of 0, or a wrong number of parameters; as
    /// [`NetworkPlan::new`](crate::network::NetworkPlan::new) and [`NetworkSession::new`](crate::network::NetworkSession::new).
    #[cfg(not(target_family = "wasm"))]
    pub fn of_model_with(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        sessions: &ModelOptions,
        options: &PoolOptions,
    ) -> Result<Self> {
        device.block(Self::of_model_with_async(device, network, params, sessions, options))
    }

    /// [`StreamPool::of_model_with`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::of_model_with`].
    pub async fn of_model_with_async(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        sessions: &ModelOptions,
        options: &PoolOptions,
    ) -> Result<Self> {
        options.validate()?;
        let source = || Source::Network(Box::new((Arc::clone(network), params.to_vec(), sessions.clone())));
        Self::with(Engine::of_model(device, network, params, sessions, "a StreamPool").await?, options, source)
    }

    fn with(engine: Engine<T>, options: &PoolOptions, source: impl Fn() -> Source<T>) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let slots = Slots::new(engine.device(), &engine.empty())?;
        let (streams, closed, queue, batch, gave) = Default::default();
        let is_kept = engine.device().kind() == "gpu";
        let keeper = options.keep.filter(|_| is_kept).map(|keep| Keeper::new(source(), keep, engine.empty()));
        let moving = Moving::new(engine.device());
        Ok(Self {
            engine,
            slots,
            options: *options,
            number: NEXT.fetch_add(1, Relaxed),
            streams,
            closed,
            queue,
            rests: 0,
            waiting: 0,
            bytes: 0,
            opened: 0,
            clock: Clock::start(),
            latest: 0,
            batch,
            pending: None,
            scratch: tick::Scratch::default(),
            gave,
            counts: Counts::default(),
            keeper,
            recovered: None,
            moving,
        })
    }

    /// What a frame is made of: every input with its columns of a frame. Token ids of a stack are one.
    pub fn inputs(&self) -> &[(String, Range<usize>)] {
        &self.engine.columns.inputs
    }

    /// What a result is made of: every output with its columns of a row.
    pub fn outputs(&self) -> &[(String, Range<usize>)] {
        &self.engine.columns.outputs
    }

    /// Where it runs; after a device was lost, on what it went on with.
    pub fn device(&self) -> &Device {
        self.engine.device()
    }

    /// How it keeps streams.
    pub fn options(&self) -> &PoolOptions {
        &self.options
    }

    /// What tells the model from others: of its element type, its structure, sizes, names and all of its parameters. A state that was
    /// saved can be restored where this is the same.
    pub fn fingerprint(&self) -> u64 {
        self.engine.fingerprint
    }

    /// Time since the pool was made, which calls without a time of the caller's own go by. On wasm, where the standard library has no clock,
    /// no time passes.
    pub fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// What it has done and what it has. Goes over all streams.
    pub fn statistics(&self) -> PoolStatistics {
        let open = || self.streams.iter().filter(|s| s.is_open);
        let times = |spread: &Spread| [0.5, 0.99, 1.0].map(|part| Duration::from_nanos(spread.quantile(part)));
        PoolStatistics {
            streams: open().count(),
            waiting_streams: self.waiting,
            waiting: open().map(Stream::waiting).sum(),
            unpulled: open().map(|s| s.results.len()).sum(),
            slots: self.slots.count(),
            bytes: self.taken(),
            sessions: self.engine.sessions(),
            ticks: self.counts.ticks,
            frames: self.counts.frames,
            recovered: self.counts.recovered,
            batch: [0.5, 0.99, 1.0].map(|part| self.counts.batch.quantile(part) as usize),
            latency: times(&self.counts.latency),
            run: times(&self.counts.run),
        }
    }

    /// Counts and times from now on anew.
    pub fn forget_statistics(&mut self) {
        self.counts = Counts::default();
    }

    /// Bytes of streams that may be needed with no more streams, frames or snapshots than now.
    fn taken(&self) -> u64 {
        self.bytes + self.slots.bytes_with(0)
    }
}
