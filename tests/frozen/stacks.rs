//! Stacks of layers: a configuration, what it is run on, and the options it is run with.

use super::harness::{Case, forced, values};
use std::time::Duration;
use wgpu_rnn::*;

/// Where the bits of an entry are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Only its plans are: it is large.
    Nowhere,
    /// On the CPU executor.
    Cpu,
    /// There and on the GPU. Compiling a kernel takes a software rasteriser longer than all else: few entries, of equal
    /// sizes.
    Everywhere,
}

pub struct Stack {
    pub name: &'static str,
    pub case: Case,
    pub options: Options,
    pub runs: Runs,
}

impl Stack {
    /// With other options.
    fn with(self, change: impl FnOnce(Options) -> Options) -> Self {
        Self { options: change(self.options), ..self }
    }

    /// Training with an optimiser.
    fn training(self, optimiser: Optimiser) -> Self {
        self.with(|o| Options { train: true, optimiser: Some(optimiser), ..o })
    }

    /// With sequences of all lengths from 1 to T.
    fn ragged(self) -> Self {
        let Shape { time, batch } = self.case.shape;
        let lengths: Vec<usize> = (0..batch).map(|b| 1 + (b * 7 + time / 2) % time).collect();
        Self { case: self.case.with_lengths(&lengths), ..self }
    }

    /// With episodes that begin inside the run.
    fn resets(self, reset: Reset) -> Self {
        let case = self.case.with_resets(reset, &[(0, 1), (2, 0), (3, 0), (1, 2), (4, 3)]);
        let options = Options { resets: Some(reset), ..self.options };
        Self { case, options, ..self }
    }

    fn everywhere(self) -> Self {
        Self { runs: Runs::Everywhere, ..self }
    }

    /// Token ids, one per step and sequence.
    pub fn ids(&self) -> Option<Vec<u32>> {
        self.case.config.vocabulary.map(|count| self.below(count, 21))
    }

    /// Classes for the head, the same.
    pub fn classes(&self) -> Vec<u32> {
        self.below(self.case.config.head.map_or(1, |head| head.size), 22)
    }

    fn below(&self, count: usize, seed: u64) -> Vec<u32> {
        let Shape { time, batch } = self.case.shape;
        let place = |v: f32| ((v.abs() * count as f32) as usize).min(count - 1) as u32;
        values(seed, time * batch, 1.0).into_iter().map(place).collect()
    }
}

/// Small sizes that fit no tile; two layers, both directions.
fn base(cell: &'static Cell) -> RnnConfig {
    let direction = Direction::Bidirectional;
    RnnConfig { cell, input_size: 5, hidden_size: 9, num_layers: 2, direction, ..Default::default() }
}

/// An LSTM with a projection: more of what kernels tell apart than any other cell has.
fn projected() -> RnnConfig {
    RnnConfig { proj_size: 6, ..base(&cells::LSTM) }
}

fn sized(name: &'static str, config: RnnConfig, strategy: Strategy, [time, batch]: [usize; 2]) -> Stack {
    let case = Case::new(config, time, batch, 71);
    Stack { name, case, options: forced(strategy), runs: Runs::Cpu }
}

fn small(name: &'static str, config: RnnConfig, strategy: Strategy) -> Stack {
    sized(name, config, strategy, [5, 4])
}

/// A plan that would take too long to run here; the planner's own choices.
fn large(name: &'static str, config: RnnConfig, shape: [usize; 2], options: Options) -> Stack {
    // The numbers to run on are not needed.
    let case = Case::new(base(config.cell), 1, 1, 71);
    let [time, batch] = shape;
    let case = Case { config, shape: Shape { time, batch }, ..case };
    Stack { name, case, options, runs: Runs::Nowhere }
}

/// Every entry.
pub fn all() -> Vec<Stack> {
    [every_cell(), memory(), episodes_and_masks(), ends(), formats(), schedules(), variants(), larger()]
        .into_iter()
        .flatten()
        .collect()
}

/// Every cell: two layers in both directions that train step by step, and one layer that infers with the loop inside
/// the kernel.
fn every_cell() -> Vec<Stack> {
    let names = [
        ["rnn-tanh", "rnn-tanh-inference"],
        ["rnn-relu", "rnn-relu-inference"],
        ["lstm", "lstm-inference"],
        ["lstm-peephole", "lstm-peephole-inference"],
        ["lstm-layer-norm", "lstm-layer-norm-inference"],
        ["gru", "gru-inference"],
        ["gru-reset-before", "gru-reset-before-inference"],
        ["gru-layer-norm", "gru-layer-norm-inference"],
        ["slstm", "slstm-inference"],
    ];
    let directions = [Direction::Forward, Direction::Reverse];
    let both = cells::ALL.into_iter().zip(names).enumerate().map(|(n, (cell, [training, inference]))| {
        let one = RnnConfig { num_layers: 1, direction: directions[n % 2], ..base(cell) };
        [
            small(training, base(cell), Strategy::Step).training(Optimiser::adam()).ragged(),
            small(inference, one, Strategy::Sequence),
        ]
    });
    let slstm = RnnConfig { proj_size: 6, num_layers: 1, ..base(&cells::SLSTM) };
    both.flatten()
        .chain([
            small("gru-layer-norm-sequence", base(&cells::GRU_LAYER_NORM), Strategy::Sequence)
                .training(Optimiser::adam()),
            small("slstm-projection", slstm, Strategy::Sequence).training(Optimiser::sgd(0.0)).ragged(),
        ])
        .collect()
}

/// What training keeps, and what it does with gradients.
fn memory() -> Vec<Stack> {
    let clipped =
        |stack: Stack| stack.training(Optimiser::adamw(0.1)).ragged().with(|o| Options { clip_norm: Some(0.5), ..o });
    let keep = |memory| move |o| Options { memory, ..o };
    let one = RnnConfig { num_layers: 1, ..base(&cells::GRU_LAYER_NORM) };
    vec![
        clipped(small("projection-step", projected(), Strategy::Step)).everywhere(),
        clipped(small("projection-sequence", projected(), Strategy::Sequence)).everywhere(),
        clipped(small("projection-recompute", projected(), Strategy::Step)).with(keep(Memory::Recompute)).everywhere(),
        clipped(sized("projection-checkpoint", projected(), Strategy::Step, [70, 4]))
            .with(keep(Memory::Checkpoint(64)))
            .everywhere(),
        clipped(sized("recompute-long", projected(), Strategy::Sequence, [150, 3])).with(keep(Memory::Recompute)),
        clipped(sized("recompute-normalised", one, Strategy::Step, [70, 3])).with(keep(Memory::Recompute)),
        clipped(sized("checkpoint-long", projected(), Strategy::Step, [150, 3])).with(keep(Memory::Checkpoint(64))),
        clipped(sized("memory-auto", projected(), Strategy::Step, [150, 3])).with(keep(Memory::Auto(430_000))),
        small("accumulate", base(&cells::GRU), Strategy::Step)
            .training(Optimiser::sgd(0.9))
            .with(|o| Options { accumulate: true, ..o }),
    ]
}

/// Resets, dropout and zoneout.
fn episodes_and_masks() -> Vec<Stack> {
    let dropout = Dropout { layers: 0.3, input: 0.2, recurrent: 0.25 };
    let zoneout = Zoneout { hidden: 0.3, cell: 0.4 };
    let reverse = RnnConfig { direction: Direction::Reverse, ..base(&cells::GRU_RESET_BEFORE) };
    let of_h = Zoneout { hidden: 0.3, cell: 0.0 };
    let masked = RnnConfig { dropout, zoneout, ..projected() };
    vec![
        small("resets-zero", base(&cells::LSTM), Strategy::Step).training(Optimiser::adam()).resets(Reset::Zero),
        small("resets-initial", reverse, Strategy::Sequence)
            .training(Optimiser::adam())
            .ragged()
            .resets(Reset::Initial),
        small("resets-inference", projected(), Strategy::Step).resets(Reset::Initial).everywhere(),
        sized("resets-checkpoint", base(&cells::GRU), Strategy::Step, [70, 4])
            .training(Optimiser::adam())
            .resets(Reset::Zero)
            .with(|o| Options { memory: Memory::Checkpoint(1), ..o }),
        small("dropout", RnnConfig { dropout, ..base(&cells::LSTM) }, Strategy::Sequence)
            .training(Optimiser::sgd(0.9))
            .ragged(),
        small("zoneout", RnnConfig { zoneout: of_h, ..base(&cells::GRU) }, Strategy::Step).training(Optimiser::adam()),
        small("dropout-and-zoneout", masked.clone(), Strategy::Step)
            .training(Optimiser::adamw(0.1))
            .ragged()
            .resets(Reset::Zero)
            .everywhere(),
        small("zoneout-inference", masked, Strategy::Sequence).ragged(),
    ]
}

/// Embeddings, heads and losses.
fn ends() -> Vec<Stack> {
    let classes = Some(Head { size: 7, loss: Some(Loss::CrossEntropy) });
    let numbers = Some(Head { size: 3, loss: Some(Loss::MeanSquared) });
    let batch_first = Layout::BatchFirst;
    let words = RnnConfig { vocabulary: Some(11), head: classes, ..base(&cells::LSTM) };
    let series = RnnConfig { head: numbers, layout: batch_first, ..base(&cells::GRU) };
    let one_way = RnnConfig { direction: Direction::Forward, num_layers: 1, ..words.clone() };
    vec![
        small("cross-entropy", words.clone(), Strategy::Step).training(Optimiser::adam()).ragged(),
        small("mean-squared", series.clone(), Strategy::Sequence).training(Optimiser::sgd(0.9)).ragged(),
        small("no-y", series, Strategy::Step).training(Optimiser::adam()).with(|o| Options { keep_y: false, ..o }),
        small("cross-entropy-one-way", one_way, Strategy::Sequence).training(Optimiser::sgd(0.0)).everywhere(),
        small("words-inference", RnnConfig { layout: batch_first, ..words }, Strategy::Sequence).ragged(),
    ]
}

/// Weights and activations in fewer bits.
fn formats() -> Vec<Stack> {
    let weights = |weights| move |o| Options { weights, ..o };
    let halves = |o| Options { activations: ActivationFormat::F16, ..o };
    let gru = RnnConfig { direction: Direction::Reverse, ..base(&cells::GRU) };
    vec![
        small("f16-training", base(&cells::LSTM), Strategy::Step)
            .training(Optimiser::adam())
            .with(weights(WeightFormat::F16)),
        small("bf16-training", gru, Strategy::Sequence).training(Optimiser::sgd(0.9)).with(weights(WeightFormat::Bf16)),
        small("f16", projected(), Strategy::Sequence).with(weights(WeightFormat::F16)).everywhere(),
        small("bf16", projected(), Strategy::Sequence).ragged().with(weights(WeightFormat::Bf16)),
        small("int8", projected(), Strategy::Sequence).ragged().with(weights(WeightFormat::Int8)).everywhere(),
        small("activations-f16", projected(), Strategy::Sequence).ragged().with(halves).everywhere(),
        small("activations-f16-step", base(&cells::GRU), Strategy::Step).with(halves),
    ]
}

/// In which order and how much at once.
fn schedules() -> Vec<Stack> {
    let wave = |chunk| move |o| Options { wavefront: Wavefront::Chunk(chunk), ..o };
    let one_way = |cell, direction, num_layers| RnnConfig { direction, num_layers, ..base(cell) };
    let layers = one_way(&cells::LSTM, Direction::Forward, 2);
    let kernels = |class| move |o| Options { kernels: Some(class), ..o };
    let quick = Duration::from_nanos(1);
    vec![
        small("wave-step", layers.clone(), Strategy::Step).training(Optimiser::adam()).ragged().with(wave(2)),
        small("wave-sequence", one_way(&cells::GRU, Direction::Reverse, 3), Strategy::Sequence).ragged().with(wave(3)),
        small("wave-inference", layers, Strategy::Step).with(wave(2)).everywhere(),
        small("kernels-of-a-gpu", projected(), Strategy::Sequence)
            .ragged()
            .with(kernels(DeviceClass::Gpu))
            .everywhere(),
        small("kernels-of-a-rasteriser", projected(), Strategy::Sequence)
            .ragged()
            .with(kernels(DeviceClass::SoftwareGpu))
            .everywhere(),
        small("blocks-of-two-steps", base(&cells::LSTM), Strategy::Sequence)
            .training(Optimiser::adam())
            .with(|o| Options { max_block: Some(2), ..o }),
        sized("many-submits", base(&cells::GRU), Strategy::Step, [40, 4])
            .training(Optimiser::adam())
            .with(|o| Options { submit_budget: quick, ..o }),
    ]
}

/// What else a configuration may have.
fn variants() -> Vec<Stack> {
    let activations = vec![
        Activation::HARD_SIGMOID,
        Activation::Softsign,
        Activation::ScaledTanh { alpha: 1.7, beta: 0.7 },
        Activation::Sigmoid,
        Activation::ELU,
        Activation::Affine { alpha: -0.5, beta: 0.1 },
    ];
    let clipped = RnnConfig { activations, clip: Some(1.5), cell_clip: Some(0.4), ..base(&cells::LSTM) };
    let skip = RnnConfig { input: InputMode::Skip, input_size: 9, ..base(&cells::GRU) };
    let batch_first = RnnConfig { layout: Layout::BatchFirst, ..base(&cells::LSTM_PEEPHOLE) };
    let diagonal = RnnConfig { recurrence: Recurrence::Diagonal, ..base(&cells::RNN_RELU) };
    let heads = RnnConfig { recurrence: Recurrence::Heads(3), ..base(&cells::SLSTM) };
    let bias = |cell, bias| RnnConfig { bias, num_layers: 1, ..base(cell) };
    let fours = RnnConfig { input_size: 8, hidden_size: 16, ..base(&cells::LSTM) };
    let wide = RnnConfig { input_size: 17, hidden_size: 65, num_layers: 1, ..base(&cells::GRU) };
    let train = |name, config, strategy| small(name, config, strategy).training(Optimiser::adam()).ragged();
    vec![
        train("activations-and-clips", clipped, Strategy::Step),
        train("coupled", RnnConfig { input_forget: true, ..base(&cells::LSTM) }, Strategy::Sequence),
        train("skip", skip, Strategy::Step),
        train("batch-first", batch_first, Strategy::Sequence),
        train("diagonal", diagonal, Strategy::Step),
        train("heads", heads, Strategy::Sequence),
        train("bias-none", bias(&cells::LSTM, Bias::None), Strategy::Step),
        train("bias-one", bias(&cells::LSTM, Bias::One), Strategy::Sequence),
        train("bias-recurrent", bias(&cells::GRU, Bias::Recurrent), Strategy::Step),
        train("fours", fours, Strategy::Step),
        sized("wide", wide, Strategy::Step, [6, 9]).training(Optimiser::adam()).ragged(),
    ]
}

/// Plans of the sizes that people have, where the planner chooses.
fn larger() -> Vec<Stack> {
    let auto = Options::default;
    let train = || Options { train: true, optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..auto() };
    let sizes = |cell, input_size, hidden_size, num_layers, direction| RnnConfig {
        cell,
        input_size,
        hidden_size,
        num_layers,
        direction,
        ..Default::default()
    };
    let (forward, both) = (Direction::Forward, Direction::Bidirectional);
    let lstm = |num_layers| sizes(&cells::LSTM, 64, 256, num_layers, forward);
    let speech = sizes(&cells::GRU, 80, 512, 3, both);
    let head = Some(Head { size: 5000, loss: Some(Loss::CrossEntropy) });
    let words = RnnConfig { vocabulary: Some(5000), head, ..sizes(&cells::LSTM, 128, 512, 2, forward) };
    let budget = Memory::Auto(560 << 20);
    vec![
        large("large-wave", lstm(4), [100, 16], auto()),
        large("large-wave-training", lstm(4), [100, 16], train()),
        large("large-stream", lstm(1), [1, 1], auto()),
        large("large-batch", sizes(&cells::LSTM, 40, 128, 1, both), [20, 1000], train()),
        large("large-speech", speech.clone(), [300, 8], Options { memory: budget, ..train() }),
        large("too-large", speech, [300, 64], train()),
        large("large-words", words, [64, 32], train()),
        large("large-long", sizes(&cells::GRU_LAYER_NORM, 96, 96, 2, forward), [5000, 8], auto()),
        large("large-int8", lstm(2), [100, 4], Options { weights: WeightFormat::Int8, ..auto() }),
    ]
}
