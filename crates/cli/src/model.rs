//! The flags that `plan` and `bench` share: the layers, the shape, and where and how they run.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::rule::Rule;
use wgpu_rnn::{
    ActivationFormat, Bias, Cell, Device, Direction, Error, InputMode, Memory, Options, Plan, Recurrence, Result,
    RnnConfig, Shape, Strategy, Tuning, Wavefront, WeightFormat, cells, rules,
};

/// A stack of recurrent layers over T steps of B sequences.
#[derive(Args)]
pub struct ModelArgs {
    /// The cell; or a linear recurrence (`linear`, `gla`, `mamba`, `rwkv7`, …), whose sizes are --heads, --head-dim and --state.
    #[arg(long, value_name = "NAME", value_parser = recurrent_parser())]
    pub cell: Recurrent,
    /// T: time steps.
    #[arg(long, value_name = "T", required = true)]
    time: Option<usize>,
    /// B: sequences.
    #[arg(long, value_name = "B", required = true)]
    batch: Option<usize>,
    /// I: features of x.
    #[arg(long, value_name = "I", required_if_eq_any = cells::ALL.map(|c| ("cell", c.name)))]
    input: Option<usize>,
    /// What the first layer does with x: W x + b, or x + b (I = H).
    #[arg(long, value_enum, default_value_t = InputModeArg::Linear)]
    input_mode: InputModeArg,
    /// H: hidden units.
    #[arg(long, value_name = "H", required_if_eq_any = cells::ALL.map(|c| ("cell", c.name)))]
    hidden: Option<usize>,
    /// L: stacked layers.
    #[arg(long, value_name = "L", default_value_t = 1)]
    layers: usize,
    /// Read time both ways; the outputs are concatenated.
    #[arg(long)]
    bidirectional: bool,
    /// Read time backwards only.
    #[arg(long, conflicts_with = "bidirectional")]
    pub reverse: bool,
    /// P: project h to so many values (LSTM only); 0 for none.
    #[arg(long, value_name = "P", default_value_t = 0)]
    proj: usize,
    /// What the recurrent gates of a unit see of h: dense (all of it), heads:N (the part of its head of N), or diagonal (one
    /// value; with an RNN cell IndRNN).
    #[arg(long, value_name = "KIND", default_value_t = Recurrence::Dense)]
    recurrence: Recurrence,
    /// Bias vectors per gate.
    #[arg(long, value_enum, default_value_t = BiasArg::Two)]
    bias: BiasArg,
    /// Forward and backward.
    #[arg(long)]
    pub train: bool,
    /// What training keeps: save, recompute, checkpoint=STEPS, or auto=BYTES (the fastest of them that fits).
    #[arg(long, value_name = "POLICY", default_value = "save", value_parser = memory, requires = "train")]
    pub memory: Memory,
    /// Whether layers of a stack run side by side: auto, off, or so many steps apart.
    #[arg(long, value_name = "STEPS", default_value = "auto", value_parser = wavefront)]
    wavefront: Wavefront,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What `--cell` names: something with hidden units, or something with heads.
#[derive(Clone, Copy)]
pub enum Recurrent {
    Cell(&'static Cell),
    Rule(&'static Rule),
}

/// Where and how it runs.
#[derive(Args)]
pub struct PlaceArgs {
    /// Where it runs; `auto`: a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value_t = DeviceArg::Auto)]
    device: DeviceArg,
    /// Forces how the time loop runs: a dispatch per step, or the loop inside the kernel.
    #[arg(long, value_enum)]
    strategy: Option<StrategyArg>,
    /// How matrices lie in device memory: f32, f16, bf16, or int8 (inference only).
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = weight_format_parser())]
    weight_format: WeightFormat,
    /// How x, the x parts of the gates and y lie in device memory: f32, or f16 (inference only).
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = activation_format_parser())]
    activations: ActivationFormat,
    /// What `tune` measured on this device; else its default file, where there is one.
    #[arg(long, value_name = "FILE", conflicts_with = "no_tuning")]
    tuning: Option<PathBuf>,
    /// Looks for no such file.
    #[arg(long)]
    no_tuning: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum BiasArg {
    None,
    One,
    Recurrent,
    Two,
}

#[derive(Clone, Copy, ValueEnum)]
enum InputModeArg {
    Linear,
    Skip,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceArg {
    Cpu,
    Gpu,
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum StrategyArg {
    Step,
    Sequence,
}

/// Takes the names of the registry, and lists them where the name is another.
pub fn cell_parser() -> impl TypedValueParser<Value = &'static Cell> {
    PossibleValuesParser::new(cells::ALL.iter().map(|c| c.name))
        .try_map(|name| cells::by_name(&name).ok_or("not a cell of the registry"))
}

/// Takes the names of both registries.
fn recurrent_parser() -> impl TypedValueParser<Value = Recurrent> {
    let names = cells::ALL.iter().map(|c| c.name).chain(rules::ALL.iter().map(|r| r.name));
    PossibleValuesParser::new(names).try_map(|name| {
        let cell = cells::by_name(&name).map(Recurrent::Cell);
        cell.or_else(|| rules::by_name(&name).map(Recurrent::Rule)).ok_or("not of a registry")
    })
}

/// Takes the names of the formats.
fn weight_format_parser() -> impl TypedValueParser<Value = WeightFormat> {
    PossibleValuesParser::new(WeightFormat::ALL.map(WeightFormat::name)).try_map(|name| name.parse::<WeightFormat>())
}

/// The same of activations.
fn activation_format_parser() -> impl TypedValueParser<Value = ActivationFormat> {
    let names = ActivationFormat::ALL.map(ActivationFormat::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<ActivationFormat>())
}

/// `auto`, `off`, or a number of steps.
fn wavefront(text: &str) -> std::result::Result<Wavefront, String> {
    match text {
        "auto" => Ok(Wavefront::Auto),
        "off" => Ok(Wavefront::Off),
        steps => match steps.parse() {
            Ok(steps) if steps > 0 => Ok(Wavefront::Chunk(steps)),
            _ => Err("expected auto, off or a number of steps".into()),
        },
    }
}

/// `save`, `recompute`, `checkpoint=STEPS`, `auto=BYTES`.
fn memory(text: &str) -> std::result::Result<Memory, String> {
    let (name, number) = text.split_once('=').map_or((text, None), |(name, number)| (name, Some(number)));
    let number = number.map(|n| n.parse::<u64>().map_err(|e| format!("{n}: {e}"))).transpose()?;
    match (name, number) {
        ("save", None) => Ok(Memory::Save),
        ("recompute", None) => Ok(Memory::Recompute),
        ("checkpoint", Some(steps)) if steps > 0 => {
            usize::try_from(steps).map(Memory::Checkpoint).map_err(|e| e.to_string())
        }
        ("auto", Some(bytes)) => Ok(Memory::Auto(bytes)),
        _ => Err("expected save, recompute, checkpoint=STEPS or auto=BYTES".into()),
    }
}

impl ModelArgs {
    /// The configuration.
    pub fn config(&self) -> Result<RnnConfig> {
        let cell = match self.cell {
            Recurrent::Cell(cell) => cell,
            Recurrent::Rule(rule) => return Err(Error::mismatch("--cell", "a cell with hidden units", rule.name)),
        };
        let (Some(input_size), Some(hidden_size)) = (self.input, self.hidden) else {
            return Err(Error::mismatch("--input and --hidden", "sizes", "none"));
        };
        let direction = match (self.bidirectional, self.reverse) {
            (true, _) => Direction::Bidirectional,
            (_, true) => Direction::Reverse,
            _ => Direction::Forward,
        };
        let bias = match self.bias {
            BiasArg::None => Bias::None,
            BiasArg::One => Bias::One,
            BiasArg::Recurrent => Bias::Recurrent,
            BiasArg::Two => Bias::Two,
        };
        let input = match self.input_mode {
            InputModeArg::Linear => InputMode::Linear,
            InputModeArg::Skip => InputMode::Skip,
        };
        let config = RnnConfig {
            cell,
            input_size,
            hidden_size,
            num_layers: self.layers,
            direction,
            bias,
            proj_size: self.proj,
            recurrence: self.recurrence,
            input,
            ..Default::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// T and B.
    pub fn shape(&self) -> Shape {
        // Where neither is asked for, as of streams, one will do.
        Shape { time: self.time.unwrap_or(1), batch: self.batch.unwrap_or(1) }
    }

    /// The plan and the device it is for.
    pub fn plan(&self) -> Result<(Device, Plan)> {
        let config = self.config()?;
        let device = self.place.device()?;
        let options = self.options(self.memory, self.place.tuning(&device)?);
        let plan = Plan::new(&config, self.shape(), &device.caps(), &options)?;
        Ok((device, plan))
    }

    /// The options, with a memory policy.
    pub fn options(&self, memory: Memory, tuning: Option<Arc<Tuning>>) -> Options {
        Options { train: self.train, memory, wavefront: self.wavefront, tuning, ..self.place.options() }
    }
}

impl PlaceArgs {
    /// The device; an error where a GPU is asked for and there is none.
    pub fn device(&self) -> Result<Device> {
        match self.device {
            DeviceArg::Cpu => Ok(Device::cpu()),
            DeviceArg::Gpu => Device::gpu(),
            DeviceArg::Auto => Ok(Device::auto()),
        }
    }

    /// The plan of `config` on `device`.
    pub fn plan(&self, config: &RnnConfig, shape: Shape, device: &Device) -> Result<Plan> {
        let tuning = self.tuning(device)?;
        Plan::new(config, shape, &device.caps(), &Options { tuning, ..self.options() })
    }

    /// The options of a network.
    pub fn network_options(&self, device: &Device) -> Result<NetworkOptions> {
        if self.strategy.is_some() {
            let expected = "none: stacks in a whole model choose for themselves, or name one (--layer)";
            return Err(Error::mismatch("--strategy", expected, "one"));
        }
        let (weights, activations, tuning) = (self.weight_format, self.activations, self.tuning(device)?);
        Ok(NetworkOptions { weights, activations, tuning, ..Default::default() })
    }

    /// What was measured on the device, by the file that is named or the default one; says on stderr which it is. A file that is
    /// named must be right; the default one is left aside where it is not.
    pub fn tuning(&self, device: &Device) -> Result<Option<Arc<Tuning>>> {
        let path = match &self.tuning {
            _ if self.no_tuning => return Ok(None),
            Some(path) => path.clone(),
            None => match Tuning::default_path().filter(|path| path.exists()) {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        let tuning = match Tuning::load(&path, device) {
            Ok(tuning) => tuning,
            Err(e) if self.tuning.is_some() => return Err(e),
            Err(e) => {
                eprintln!("tuning: {e}; left aside");
                return Ok(None);
            }
        };
        let (own, others) = tuning.counts();
        eprintln!("tuning: {}: {own} record(s) for this device and version, {others} for others", path.display());
        Ok(Some(Arc::new(tuning)))
    }

    fn options(&self) -> Options {
        let strategy = self.strategy.map(|s| match s {
            StrategyArg::Step => Strategy::Step,
            StrategyArg::Sequence => Strategy::Sequence,
        });
        let (weights, activations) = (self.weight_format, self.activations);
        Options { strategy, weights, activations, ..Default::default() }
    }
}
