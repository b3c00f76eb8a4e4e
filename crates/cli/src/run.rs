//! `wgpu-rnn run`: a trained layer stack from a safetensors file, or a node of an ONNX model, over an `.npy` input.

use super::layer::{Layer, LayerArgs, given};
use super::model::PlaceArgs;
use std::path::PathBuf;
use std::process::ExitCode;
use wgpu_rnn::{Error, Initial, Input, Layout, Output, Result, RnnConfig, Session, Shape, Tensor};
use wgpu_rnn_formats::npy;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    layer: LayerArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// x and y are `[B, T, .]`, not `[T, B, .]`; a node of an ONNX model says so itself.
    #[arg(long, conflicts_with = "onnx")]
    batch_first: bool,
    /// Each sequence's own length, in 0..=T; all T without it.
    #[arg(long, value_name = "N,N,..", value_delimiter = ',')]
    lengths: Option<Vec<usize>>,
    /// h0 `[L*D, B, P or H]`, .npy; zeros without it.
    #[arg(long, value_name = "FILE")]
    h0: Option<PathBuf>,
    /// c0 `[L*D, B, H]` (sLSTM: `[L*D, B, 3*H]`), .npy; zeros without it.
    #[arg(long, value_name = "FILE")]
    c0: Option<PathBuf>,
    /// x `[T, B, I]` or, for a single sequence, `[T, I]`: .npy, f32 or f64, little-endian, C order.
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Where y `[T, B, D*(P or H)]` goes, .npy, f32; 0 past a sequence's end.
    #[arg(long, value_name = "Y.npy")]
    output: PathBuf,
    /// Where hn `[L*D, B, P or H]` goes, .npy, f32.
    #[arg(long, value_name = "FILE")]
    hn: Option<PathBuf>,
    /// Where cn `[L*D, B, H]` (sLSTM: `[L*D, B, 3*H]`) goes, .npy, f32.
    #[arg(long, value_name = "FILE")]
    cn: Option<PathBuf>,
}

pub fn run(args: &Args) -> std::result::Result<ExitCode, Box<dyn std::error::Error>> {
    let Layer { config, weights, h0, c0, lengths } = args.layer.read(args.batch_first)?;
    let cell = config.cell;
    if let (false, Some(path)) = (cell.has_cell_state(), &args.cn) {
        let expected = format!("none ({} has no cell state)", cell.name);
        return Err(mismatch("--cn", expected, path.display()).into());
    }
    let x = npy::read::<f32>(&args.input)?;
    let shape = input_shape(&config, &x.shape)?;
    let read = |path: &Option<PathBuf>| path.as_ref().map(npy::read::<f32>).transpose();
    let (h0, c0) = (given("--h0", read(&args.h0)?, h0)?, given("--c0", read(&args.c0)?, c0)?);
    let lengths = given("--lengths", args.lengths.clone(), lengths)?;

    let device = args.place.device()?;
    let plan = args.place.plan(&config, shape, &device)?;
    eprintln!("device: {device}; strategy: {} ({})", plan.strategy, plan.reason);
    let mut session = Session::from_plan(&device, plan, &weights)?;
    let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
    let output = session.forward(&Input { lengths: lengths.as_deref(), initial, ..Input::new(x.view()) })?;
    write(args, &output)?;
    Ok(ExitCode::SUCCESS)
}

/// T and B of an x that fits the configuration. Checked before anything of that size is made.
fn input_shape(config: &RnnConfig, x: &[usize]) -> Result<Shape> {
    let i = config.input_size;
    let (names, expected, shape) = match (x, config.layout) {
        (&[time, _], _) => ("[T, I]", vec![time, i], Shape { time, batch: 1 }),
        (&[time, batch, _], Layout::TimeMajor) => ("[T, B, I]", vec![time, batch, i], Shape { time, batch }),
        (&[batch, time, _], Layout::BatchFirst) => ("[B, T, I]", vec![batch, time, i], Shape { time, batch }),
        (_, Layout::TimeMajor) => return Err(mismatch("x", format!("[T, B, {i}] or [T, {i}]"), format!("{x:?}"))),
        (_, Layout::BatchFirst) => return Err(mismatch("x", format!("[B, T, {i}] or [T, {i}]"), format!("{x:?}"))),
    };
    if x != expected {
        return Err(mismatch("x", format!("{names} = {expected:?}"), format!("{x:?}")));
    }
    shape.validate()?;
    Ok(shape)
}

fn write(args: &Args, output: &Output<f32>) -> Result<()> {
    npy::write(&args.output, output.y.view())?;
    if let Some(path) = &args.hn {
        npy::write(path, output.hn.view())?;
    }
    if let (Some(path), Some(cn)) = (&args.cn, &output.cn) {
        npy::write(path, cn.view())?;
    }
    Ok(())
}

fn mismatch(what: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::Mismatch { what: what.into(), expected: expected.to_string(), got: got.to_string() }
}
