//! What can be remembered: minGRU, Mamba and LSTM learn the selective copying task, and are then asked, token by token, what they
//! still know.
//!
//! ```text
//! $ cargo run --release --example copy_memory -- --device cpu
//! device    CPU executor, 2 threads
//! minGRU    0.055 nats a token after 3000 steps, 128.2 s
//! Mamba     0.000 nats a token after 3000 steps, 1086.3 s
//! LSTM      0.005 nats a token after 3000 steps, 26.9 s
//!
//! right, by steps since it was seen      ..7     ..15     ..23     ..31     ..39      all
//! minGRU                               99.4%    96.5%    95.4%    97.2%   100.0%    97.0%
//! Mamba                               100.0%   100.0%   100.0%   100.0%   100.0%   100.0%
//! LSTM                                100.0%   100.0%   100.0%   100.0%   100.0%   100.0%
//! ```
//!
//! (While other things ran. Alone, 700 steps take 7.2, 54.4 and 2.8 s, after which 86, 90 and 46 % are right.)
//!
//! All three have two layers of 64 channels. The noise between the tokens says nothing; a network must notice a token, keep it
//! however long noise follows, and give the tokens in their order. `--device cpu|gpu`, `--steps N`, `--picture FILE` (losses, and
//! what is right by distance). The task and the networks are in `training/copy_memory.rs`.

use clap::Parser;
use plotters::prelude::SeriesLabelPosition;
use std::process::ExitCode;
use wgpu_rnn_examples::training::plot;
use wgpu_rnn_examples::training::run;

use wgpu_rnn_examples::training::copy_memory::{Batch, NAMES, accuracy, learner};
use wgpu_rnn_examples::training::plot::{COLOURS, Curve, Panel};

/// Steps of the whole run.
const STEPS: usize = 3000;
/// Steps of distance that a row of the table is about.
const NEAR: usize = 8;
/// Batches that nothing was learned from.
const HELD_OUT: std::ops::Range<u64> = 1_000_000..1_000_020;

/// Learn to copy what was seen among noise, with three kinds of memory.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: run::Run,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let device = args.run.device.open()?;
    println!("device    {device}");
    let steps = args.run.steps(STEPS);
    let (mut losses, mut shares) = (Vec::new(), Vec::new());
    for (n, name) in NAMES.into_iter().enumerate() {
        let mut learner = learner(n, &device)?;
        let mut progress = run::Progress::new(steps, "nats a token");
        for step in 0..steps {
            progress.step(learner.learn(&Batch::new(step as u64))?);
        }
        println!("{name:9} {}", progress.finish());
        let counts = accuracy(learner.as_mut(), HELD_OUT)?;
        let share = |part: &[(usize, usize)]| {
            let (right, all) = part.iter().fold((0, 0), |a, c| (a.0 + c.0, a.1 + c.1));
            if all == 0 { 0.0 } else { right as f64 / all as f64 }
        };
        shares.push((share(&counts), counts.chunks(NEAR).map(share).collect::<Vec<f64>>()));
        losses.push(progress.panel().curves.remove(0));
    }

    print!("\nright, by steps since it was seen");
    (0..shares[0].1.len()).for_each(|n| print!("{:>9}", format!("..{}", (n + 1) * NEAR - 1)));
    println!("      all");
    for (name, (all, by)) in NAMES.iter().zip(&shares) {
        print!("{name:33}");
        by.iter().for_each(|share| print!("{:>8.1}%", 100.0 * share));
        println!("{:>8.1}%", 100.0 * all);
    }
    let picture = args.run.picture("copy_memory.svg");
    plot::write(&picture, &[panel("training", "nats a token", losses), distances(&shares)])?;
    println!("\npicture   {}", picture.display());
    Ok(())
}

fn panel(title: &str, y: &str, curves: Vec<Curve>) -> Panel {
    let named = curves.into_iter().zip(NAMES).zip(COLOURS).map(|((curve, name), colour)| Curve {
        name: name.into(),
        colour,
        ..curve
    });
    Panel {
        title: title.into(),
        axes: ["steps".into(), y.into()],
        log: false,
        range: None,
        curves: named.collect(),
        legend: SeriesLabelPosition::UpperRight,
    }
}

fn distances(shares: &[(f64, Vec<f64>)]) -> Panel {
    let curve = |(_, by): &(f64, Vec<f64>)| {
        let points = by.iter().enumerate().map(|(n, share)| (((n * NEAR) + NEAR / 2) as f64, 100.0 * share));
        Curve { name: String::new(), colour: COLOURS[0], points: points.collect() }
    };
    let panel = panel("recalled, by distance", "right, %", shares.iter().map(curve).collect());
    let axes = ["steps since it was seen".into(), "right, %".into()];
    Panel { axes, range: Some((0.0, 105.0)), legend: SeriesLabelPosition::LowerLeft, ..panel }
}
