//! The model of a pool: sessions over one set of weights, kept by their shapes, and what a stream reads and gives.

use crate::error::{Error, Result};
use crate::exec::gpu::{RowsAt, StreamEncoder};
use crate::exec::states::{Moves, States, Streams};
use crate::exec::{Device, Element};
use crate::face::{ModelOptions, RnnOptions, rounded};
use crate::model::network::{Network, Op, Rows};
use crate::model::stack::{Direction, Head, Layout, RnnConfig, Shape};
use crate::model::weights::{Weights, parameters};
use crate::plan::network::{NetworkOptions, NetworkPlan, Parallel};
use crate::plan::{Options, Plan, Precision};
use crate::session::{Batch, NetworkSession, Session};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A session of either kind.
enum Runs<T: Element> {
    Stack(Session<T>),
    Network(NetworkSession<T>),
}

/// See the module.
pub(crate) struct Engine<T: Element> {
    device: Device,
    /// The first is of the nominal shape. It has the weights, and stays.
    kept: Vec<Kept<T>>,
    sessions: usize,
    bytes: u64,
    calls: u64,
    pub columns: Columns,
    pub fingerprint: u64,
    /// Scratch: a length per sequence of the batch.
    lengths: Vec<usize>,
}

struct Kept<T: Element> {
    session: Runs<T>,
    moves: Moves,
    bytes: u64,
    /// The last call that used it.
    used: u64,
}

/// What a frame is made of, and what is given for it.
pub(crate) struct Columns {
    /// Inputs side by side, each with its columns. Token ids of a stack are one column.
    pub inputs: Vec<(String, Range<usize>)>,
    /// Outputs side by side.
    pub outputs: Vec<(String, Range<usize>)>,
    /// Per output the width of the rows that it is a part of, and its first column of these.
    shown: Vec<(usize, usize)>,
    /// Columns that hold token ids, each with how many there are.
    pub ids: Vec<(usize, usize)>,
    /// Whether frames are token ids as whole numbers in 32 bits, not values.
    pub of_ids: bool,
    /// Per state of the model its name and its dimensions, in their order.
    pub states: Vec<(String, Vec<usize>)>,
}

impl Columns {
    pub fn input(&self) -> usize {
        self.inputs.last().map_or(0, |(_, columns)| columns.end)
    }

    pub fn output(&self) -> usize {
        self.outputs.last().map_or(0, |(_, columns)| columns.end)
    }
}

/// Parts of those widths side by side.
fn side_by_side(parts: impl Iterator<Item = (String, usize)>) -> Vec<(String, Range<usize>)> {
    let mut end = 0;
    let place = |(name, width)| {
        end += width;
        (name, end - width..end)
    };
    parts.map(place).collect()
}

/// The frame of a stream, by its number, at a step.
type Frames<'a, T> = dyn Fn(usize, usize) -> &'a [T] + 'a;

/// The rows of the streams of a run, or where they go.
pub(crate) struct Run<'a, T: Element> {
    pub states: &'a mut States<T>,
    pub from: &'a [u32],
    pub to: &'a [u32],
    /// The steps of every stream, the longest first.
    pub steps: &'a mut dyn Iterator<Item = usize>,
    pub frames: &'a Frames<'a, T>,
}

impl<T: Element> Engine<T> {
    /// `user`: who it is for, as errors call it.
    pub async fn of_rnn(
        device: &Device,
        config: &RnnConfig,
        weights: &Weights<T>,
        options: &RnnOptions,
        user: &str,
    ) -> Result<Self> {
        if options.plan.train || options.plan.optimiser.is_some() {
            let expected = "those of inference (a Session trains)";
            return Err(Error::mismatch(format!("options of {user}"), expected, "train: true"));
        }
        if let Some(resets) = options.plan.resets {
            let expected = "none (a stream that is reset begins anew)";
            return Err(Error::mismatch(format!("resets of {user}"), expected, format!("{resets:?}")));
        }
        if config.direction != Direction::Forward {
            return Err(cannot_stream(user, "a stack", &format!("{:?}", config.direction), "it reads time backwards"));
        }
        if !options.plan.keep_y && config.head.is_none() {
            let expected = "a stack that gives something: keep_y, or a head";
            return Err(Error::mismatch(format!("options of {user}"), expected, "neither"));
        }
        let head = config.head.map(|head| Head { loss: None, ..head });
        // A stream has one order of frames, whatever the layout.
        let config = RnnConfig { head, layout: Layout::TimeMajor, ..config.clone() };
        let plan = Options { nominal: Some(options.nominal), precision: Precision::of::<T>(), ..options.plan.clone() };
        let plan = Plan::new(&config, options.nominal, &device.caps(), &plan)?;
        let bytes = plan.session_bytes();
        let session = Runs::Stack(Session::from_plan_async(device, plan, weights).await?);
        let input = config.vocabulary.map_or(("x", config.input_size), |_| ("ids", 1));
        let output = head.map_or(("y", config.output_size()), |head| ("predictions", head.size));
        let cells = config.cell.has_cell_state().then(|| ("c", config.cell_size()));
        let states = [("h", config.state_size())].into_iter().chain(cells);
        let columns = Columns {
            inputs: side_by_side(std::iter::once((input.0.to_string(), input.1))),
            outputs: side_by_side(std::iter::once((output.0.to_string(), output.1))),
            shown: vec![(output.1, 0)],
            ids: config.vocabulary.map(|count| (0, count)).into_iter().collect(),
            of_ids: config.vocabulary.is_some(),
            states: states.map(|(name, width)| (name.to_string(), vec![config.num_layers, width])).collect(),
        };
        let mut print = Fingerprint::new(T::NAME);
        print.add_config(&config);
        print.add_values(&weights.flat::<T>(&config));
        Ok(Self::with(device, session, bytes, (options.sessions, options.bytes), columns, print.0))
    }

    /// `user`: who it is for, as errors call it.
    pub async fn of_model(
        device: &Device,
        network: &Arc<Network>,
        params: &[T],
        options: &ModelOptions,
        user: &str,
    ) -> Result<Self> {
        if options.plan.train {
            let expected = "those of inference (a NetworkSession trains)";
            return Err(Error::mismatch(format!("options of {user}"), expected, "train: true"));
        }
        if let Some((node, reason)) = network.nodes.iter().find_map(|node| Some((node, node.op.waits_for()?))) {
            return Err(cannot_stream(user, "a network", &node.name, reason));
        }
        let by_step = |value: usize| network.values[value].rows == Rows::Steps;
        let parts = network.inputs.iter().copied().chain(network.outputs.iter().map(|(_, part)| part.value));
        if let Some(value) = parts.into_iter().find(|&value| !by_step(value)) {
            return Err(cannot_stream(user, "a network", &network.values[value].name, "it has one row per sequence"));
        }
        if network.inputs.is_empty() || network.outputs.is_empty() {
            return Err(Error::mismatch(format!("network of {user}"), "inputs and outputs", "none"));
        }
        // Bits then do not depend on how a stream is cut; and episodes are streams of their own.
        let plan = NetworkOptions {
            precision: Precision::of::<T>(),
            nominal: Some(options.nominal),
            parallel: Some(Parallel::Recurrent),
            resets: false,
            ..options.plan.clone()
        };
        let plan = NetworkPlan::new(network, options.nominal, &device.caps(), &plan)?;
        let bytes = plan.session_bytes();
        let session = Runs::Network(NetworkSession::new_async(device, plan, params).await?);
        let inputs = network.inputs.iter().map(|&v| (network.values[v].name.clone(), network.values[v].width));
        let inputs = side_by_side(inputs);
        let ids = network.embeddings().filter_map(|(_, of)| {
            let input = network.inputs.iter().position(|&v| v == of.ids.value)?;
            Some((inputs[input].1.start + of.ids.first, network.params[of.table].shape[0]))
        });
        let state = |node: &crate::model::network::Node| Some((node.name.clone(), vec![node.op.state_size()?]));
        let columns = Columns {
            ids: ids.collect(),
            inputs,
            outputs: side_by_side(network.outputs.iter().map(|(name, part)| (name.clone(), part.width))),
            shown: network.outputs.iter().map(|(_, part)| (network.values[part.value].width, part.first)).collect(),
            of_ids: false,
            states: network.nodes.iter().filter_map(state).collect(),
        };
        let mut print = Fingerprint::new(T::NAME);
        print.add_network(network);
        print.add_values(params);
        Ok(Self::with(device, session, bytes, (options.sessions, options.bytes), columns, print.0))
    }

    fn with(
        device: &Device,
        session: Runs<T>,
        bytes: u64,
        (sessions, most): (usize, u64),
        columns: Columns,
        fingerprint: u64,
    ) -> Self {
        let first = Kept { moves: Moves::new(session.places()), session, bytes, used: 0 };
        let (device, lengths) = (device.clone(), Vec::new());
        let mut engine =
            Self { device, kept: vec![first], sessions, bytes: most, calls: 0, columns, fingerprint, lengths };
        engine.kept[0].session.begin();
        engine
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The empty state of a stream.
    pub fn empty(&self) -> Vec<T> {
        match &self.kept[0].session {
            Runs::Stack(session) => session.empty_stream(),
            Runs::Network(session) => session.empty_stream(),
        }
    }

    /// Bytes of sessions, without the parameters, and how many there are.
    pub fn sessions(&self) -> (u64, usize) {
        (self.kept.iter().map(|kept| kept.bytes).sum(), self.kept.len())
    }

    /// A session for at least so many steps of so many streams; or for fewer, where no such session fits.
    ///
    /// # Errors
    /// [`Error::Limit`] where not even one step of one stream fits.
    pub async fn fit(&mut self, mut wanted: Shape) -> Result<(usize, Shape)> {
        self.calls += 1;
        loop {
            let fit = match self.session_for(rounded(wanted)).await {
                // What is too large rounded up may fit as it is.
                Err(Error::Limit { .. }) => self.session_for(wanted).await,
                fit => fit,
            };
            match fit {
                Err(Error::Limit { .. }) if wanted.batch > 1 => wanted.batch = wanted.batch.div_ceil(2),
                Err(Error::Limit { .. }) if wanted.time > 1 => wanted.time = wanted.time.div_ceil(2),
                fit => {
                    let n = fit?;
                    self.kept[n].used = self.calls;
                    return Ok((n, wanted));
                }
            }
        }
    }

    async fn session_for(&mut self, shape: Shape) -> Result<usize> {
        let area = |shape: Shape| shape.time * shape.batch;
        let covers = |of: Shape| of.time >= shape.time && of.batch >= shape.batch && area(of) <= 2 * area(shape);
        let fitting = self.kept.iter().enumerate().filter(|(_, kept)| covers(kept.session.shape()));
        if let Some((n, _)) = fitting.min_by_key(|(_, kept)| area(kept.session.shape())) {
            return Ok(n);
        }
        let (bytes, session) = self.kept[0].session.beside(shape)?;
        let own = self.kept[0].bytes;
        if bytes > self.bytes.saturating_sub(own) {
            let hint = "; shorter and smaller batches need less (Policy::max_batch, max_steps)".into();
            let what = format!("session of {} step(s) of {} stream(s)", shape.time, shape.batch);
            let (limit, limit_name) = (self.bytes.saturating_sub(own), "the bytes that sessions may take");
            return Err(Error::Limit { what, needs: bytes, limit, unit: "bytes", limit_name, hint });
        }
        while self.kept.len() > 1
            && (self.kept.len() > self.sessions || self.sessions().0.saturating_add(bytes) > self.bytes)
        {
            let oldest = self.kept.iter().enumerate().skip(1).min_by_key(|(_, kept)| kept.used);
            self.kept.remove(oldest.map_or(1, |(n, _)| n));
        }
        let mut session = self.kept[0].session.made(session).await?;
        session.begin();
        self.kept.push(Kept { moves: Moves::new(session.places()), session, bytes, used: self.calls });
        Ok(self.kept.len() - 1)
    }

    /// Runs streams in one of the sessions. On a GPU it returns once the work is submitted.
    pub fn run(&mut self, n: usize, run: &mut Run<'_, T>) -> Result<()> {
        self.with_batch(n, run, |session, batch| match session {
            Runs::Stack(session) => session.run_streams(batch),
            Runs::Network(session) => session.run_streams(batch),
        })
    }

    /// Calls `work` with what encodes runs of streams on a GPU.
    pub fn with_encoder<R>(
        &mut self,
        n: usize,
        run: &mut Run<'_, T>,
        work: impl FnOnce(&StreamEncoder<'_>) -> Result<R>,
    ) -> Result<R> {
        self.with_batch(n, run, |session, batch| {
            let runs = match session {
                Runs::Stack(session) => session.stream_encoder(batch)?,
                Runs::Network(session) => session.stream_encoder(batch)?,
            };
            work(&runs)
        })
    }

    /// Where a session on a GPU has an input, by its number, and whether token ids are values there.
    pub fn input_port(&self, n: usize, input: usize) -> Option<(RowsAt, bool)> {
        match &self.kept[n].session {
            Runs::Stack(session) => Some((session.ids_port()?, false)),
            Runs::Network(session) => Some((session.port(session.plan().network.inputs[input])?, true)),
        }
    }

    /// Where it has an output, by its number: its first column.
    pub fn output_port(&self, n: usize, output: usize) -> Option<RowsAt> {
        match &self.kept[n].session {
            Runs::Stack(session) => session.streamed_port(),
            Runs::Network(session) => {
                let (_, part) = session.plan().network.outputs.get(output)?;
                let port = session.port(part.value)?;
                Some(RowsAt { first: port.first + part.first, ..port })
            }
        }
    }

    fn with_batch<R>(
        &mut self,
        n: usize,
        run: &mut Run<'_, T>,
        work: impl FnOnce(&mut Runs<T>, &mut Batch<'_, T>) -> R,
    ) -> R {
        let Kept { session, moves, .. } = &mut self.kept[n];
        let batch = session.shape().batch;
        self.lengths.clear();
        self.lengths.extend(&mut *run.steps);
        self.lengths.resize(batch, 0);
        let (inputs, frames) = (&self.columns.inputs, run.frames);
        let (lengths, count) = (&self.lengths, run.from.len());
        let mut values = |input: usize, x: &mut [T]| {
            let columns = &inputs[input].1;
            let width = columns.len();
            for b in 0..count {
                for t in 0..lengths[b] {
                    x[(t * batch + b) * width..][..width].copy_from_slice(&frames(b, t)[columns.clone()]);
                }
            }
        };
        let mut ids = |x: &mut [u32]| {
            let those = (0..count).flat_map(|b| (0..lengths[b]).map(move |t| (b, t)));
            those.for_each(|(b, t)| x[t * batch + b] = id_in(frames(b, t)[0]));
        };
        let streams = Streams { states: &mut *run.states, moves, from: run.from, to: run.to };
        work(session, &mut Batch { lengths: &self.lengths, streams, values: &mut values, ids: &mut ids })
    }

    /// What the last run gave, which was one of this session; on a GPU, read back now.
    pub async fn rows(&self, n: usize) -> Result<Given<'_, T>> {
        let session = &self.kept[n].session;
        let values = match session {
            Runs::Stack(stack) => stack.streamed_rows().await?,
            Runs::Network(network) => network.streamed_rows().await?,
        };
        let batch = session.shape().batch;
        let row = |t: usize| match session {
            Runs::Stack(stack) => stack.streamed_row(t),
            Runs::Network(_) => t * batch,
        };
        let steps = self.lengths.iter().copied().max().unwrap_or(0);
        Ok(Given {
            values,
            shown: &self.columns.shown,
            outputs: &self.columns.outputs,
            first: (0..steps).map(row).collect(),
        })
    }
}

/// What a run gave.
pub(crate) struct Given<'a, T: Element> {
    values: Vec<Cow<'a, [T]>>,
    shown: &'a [(usize, usize)],
    outputs: &'a [(String, Range<usize>)],
    /// Per step the row of stream 0.
    first: Vec<usize>,
}

impl<T: Element> Given<'_, T> {
    /// The row of stream 0 at step `t`; those of others follow it.
    #[inline]
    pub fn row_of(&self, t: usize) -> usize {
        self.first[t]
    }

    /// All outputs of a row, side by side.
    #[inline]
    pub fn copy(&self, row: usize, to: &mut [T]) {
        for ((values, (width, first)), (_, columns)) in self.values.iter().zip(self.shown).zip(self.outputs) {
            to[columns.clone()].copy_from_slice(&values[row * width + first..][..columns.len()]);
        }
    }
}

impl<T: Element> Runs<T> {
    fn shape(&self) -> Shape {
        match self {
            Self::Stack(session) => session.plan().shape,
            Self::Network(session) => session.plan().shape,
        }
    }

    fn places(&self) -> crate::exec::states::Places {
        match self {
            Self::Stack(session) => session.places(),
            Self::Network(session) => session.places(),
        }
    }

    fn begin(&mut self) {
        if let Self::Network(session) = self {
            session.begin_streams();
        }
    }

    /// What a session of another shape takes, and its plan.
    fn beside(&self, shape: Shape) -> Result<(u64, Beside)> {
        match self {
            Self::Stack(session) => Ok((session.beside(shape)?.session_bytes(), Beside::Stack(shape))),
            Self::Network(session) => {
                let plan = session.beside(shape)?;
                Ok((plan.session_bytes(), Beside::Network(plan)))
            }
        }
    }

    async fn made(&self, beside: Beside) -> Result<Self> {
        match (self, beside) {
            (Self::Stack(session), Beside::Stack(shape)) => Ok(Self::Stack(session.for_shape_async(shape).await?)),
            (Self::Network(session), Beside::Network(plan)) => Ok(Self::Network(session.sibling_async(plan).await?)),
            _ => unreachable!("a session of its own kind"),
        }
    }
}

/// Another session of the same kind.
enum Beside {
    Stack(Shape),
    Network(NetworkPlan),
}

fn cannot_stream(user: &str, what: &str, name: &str, reason: &str) -> Error {
    let reason = format!(
        "{reason}, so that no step's result can be given before the last step; run whole sequences \
                          (Rnn, Model), or a model that reads time forwards alone"
    );
    Error::Unsupported { what: format!("{user} of {what} with {name}"), reason }
}

/// A token id as a frame of a stack holds it: its bits, in whatever type frames are.
pub(crate) fn id_out<T: Element>(id: u32) -> T {
    let mut frame = T::default();
    bytemuck::bytes_of_mut(&mut frame)[..4].copy_from_slice(&id.to_ne_bytes());
    frame
}

/// The opposite.
fn id_in<T: Element>(frame: T) -> u32 {
    let mut id = [0; 4];
    id.copy_from_slice(&bytemuck::bytes_of(&frame)[..4]);
    u32::from_ne_bytes(id)
}

/// What tells a model from others: FNV-1a over words of 64 bits of what it is made of and all of its parameters.
pub(crate) struct Fingerprint(pub u64);

impl Fingerprint {
    pub fn new(element: &str) -> Self {
        let mut print = Self(0xcbf2_9ce4_8422_2325);
        print.add_text(element);
        print
    }

    pub fn add(&mut self, word: u64) {
        // The high bits come down, or the last words would not reach the low ones.
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 32;
    }

    fn add_text(&mut self, text: &str) {
        self.add(text.len() as u64);
        self.add_bytes(text.as_bytes());
    }

    pub fn add_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn add_values<T: Element>(&mut self, values: &[T]) {
        self.add(values.len() as u64);
        values.iter().for_each(|v| self.add(v.to_f64().to_bits()));
    }

    fn add_config(&mut self, config: &RnnConfig) {
        self.add_text(config.cell.name);
        for p in parameters(config) {
            self.add_text(&p.name);
            p.shape.iter().for_each(|&size| self.add(size as u64));
        }
        for activation in config.activations() {
            self.add_text(&format!("{activation:?}"));
        }
        let (c, z) = (config, config.zoneout);
        let flags = [c.input_forget, c.clip.is_some(), c.cell_clip.is_some()];
        flags.into_iter().for_each(|flag| self.add(u64::from(flag)));
        let numbers = [c.clip.unwrap_or(0.0), c.cell_clip.unwrap_or(0.0), z.hidden, z.cell];
        numbers.into_iter().for_each(|v| self.add(u64::from(v.to_bits())));
        self.add(c.num_layers as u64);
        self.add_text(&c.recurrence.to_string());
        self.add_text(&format!("{:?}", c.input));
    }

    fn add_network(&mut self, network: &Network) {
        for value in &network.values {
            self.add_text(&value.name);
            self.add(value.width as u64);
        }
        for node in &network.nodes {
            self.add_text(&node.name);
            self.add(node.op.state_size().map_or(0, |size| 1 + size as u64));
            match &node.op {
                Op::Layers(layers) => self.add_config(&layers.config),
                Op::Scan(scan) => self.add_text(scan.rule.name),
                // Its sizes, expressions and constants.
                op => self.add_text(&format!("{op:?}")),
            }
        }
        for param in &network.params {
            self.add_text(&param.name);
            param.shape.iter().for_each(|&size| self.add(size as u64));
        }
        for (name, part) in &network.outputs {
            self.add_text(name);
            [part.value, part.first, part.width].into_iter().for_each(|n| self.add(n as u64));
        }
    }
}
