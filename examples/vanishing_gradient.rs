//! Why LSTM and GRU exist: how much of a gradient arrives at an input 1, 50, 199 steps before the loss.
//!
//! The loss is a random linear function of the last state; the norm of dL/dx[t] is a root mean square over 16 sequences of
//! random inputs (I = 8, H = 64). f64 on the CPU executor, for f32 ends at 1e-45. `cargo run --release --example
//! vanishing_gradient` draws all curves to `target/vanishing_gradient.svg` (or `-- --picture FILE`) and prints
//!
//! ```text
//! |dL/dx| at distance            1        50       199    falls under 1e-6 of that at 0
//! RNN                       4.0e-1   2.2e-11   3.3e-42    at distance 28
//! GRU                       1.3e-1   9.7e-12   1.8e-40    at distance 29
//! LSTM                      6.6e-2   1.4e-11   8.4e-42    at distance 32
//! LSTM, forget bias 1       8.2e-2    4.1e-5   5.3e-16    at distance 84
//! RNN, orthogonal R         6.5e-1    5.8e-3    2.3e-9    at distance 139
//! GRU, open update gate     2.6e-2    3.0e-3    9.2e-4    never
//! LSTM, open forget gate    1.2e-2    1.4e-3    3.6e-4    never
//! ```
//!
//! The cell alone is not it: as PyTorch initialises them (every parameter uniform in ±1/√H, the first three rows) all three
//! lose the gradient alike, for a gate at 1/2 halves it at every step. What LSTM and GRU have is a path along which only a gate
//! shrinks it, and a gate can be open, from the start (the last two rows) or because it learned to be. The nearest thing that
//! a tanh RNN has is a matrix that keeps every norm; its tanh still shrinks the gradient at every step.

use clap::Parser;
use plotters::prelude::SeriesLabelPosition;
use std::path::PathBuf;
use wgpu_rnn_examples::training::plot;
use wgpu_rnn_examples::training::vanishing;

use wgpu_rnn_examples::training::plot::{COLOURS, Curve, Panel};
use wgpu_rnn_examples::training::vanishing::{STEPS, Start};

/// Measure how much of a gradient arrives 1, 2, ... 199 steps before the loss.
#[derive(Parser)]
struct Args {
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/vanishing_gradient.svg"))]
    picture: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    println!("|dL/dx| at distance     {:>8}  {:>8}  {:>8}    falls under 1e-6 of that at 0", 1, 50, STEPS - 1);
    let panels = [
        panel("as PyTorch initialises them", &vanishing::usual())?,
        panel("prepared for 200 steps", &vanishing::prepared())?,
    ];
    plot::write(&args.picture, &panels)?;
    println!("picture   {}", args.picture.display());
    Ok(())
}

fn panel(title: &str, starts: &[Start]) -> Result<Panel, Box<dyn std::error::Error>> {
    let mut curves = Vec::new();
    for (start, colour) in starts.iter().zip(COLOURS) {
        let norms = vanishing::measure(start)?;
        let falls = vanishing::millionth(&norms).map_or("never".into(), |d| format!("at distance {d}"));
        println!("{:22}  {:8.1e}  {:8.1e}  {:8.1e}    {falls}", start.name, norms[1], norms[50], norms[STEPS - 1]);
        let points = norms.iter().enumerate().map(|(d, &n)| (d as f64, n)).collect();
        curves.push(Curve { name: start.name.into(), colour, points });
    }
    Ok(Panel {
        title: title.into(),
        axes: ["steps from the loss".into(), "norm of dL/dx[t]".into()],
        log: true,
        range: Some((1e-45, 10.0)),
        curves,
        legend: SeriesLabelPosition::LowerLeft,
    })
}
