//! What the training examples share on the command line: arguments, the progress bar, the curve of the loss.

use super::plot::{COLOURS, Curve, Panel};
use crate::device::DeviceArg;
use indicatif::{ProgressBar, ProgressStyle};
use plotters::prelude::SeriesLabelPosition;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Steps that a point of the curve is the mean of.
const POINT: usize = 10;

#[derive(clap::Args)]
pub struct Run {
    /// `auto` takes a real GPU if there is one, else the CPU executor.
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceArg,
    /// Training steps, if not as many as the figures in the example's documentation were taken with.
    #[arg(long, value_name = "N")]
    steps: Option<NonZeroUsize>,
    /// Where the picture (SVG) goes; without, into `target`.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

impl Run {
    pub fn steps(&self, default: usize) -> usize {
        self.steps.map_or(default, NonZeroUsize::get)
    }

    pub fn picture(&self, name: &str) -> PathBuf {
        let target = || [env!("CARGO_MANIFEST_DIR"), "..", "target", name].iter().collect();
        self.picture.clone().unwrap_or_else(target)
    }
}

/// A training run under way: a bar on the terminal, and the loss so far.
pub struct Progress {
    bar: ProgressBar,
    unit: &'static str,
    losses: Vec<f64>,
}

impl Progress {
    /// `unit`: what the loss is measured in.
    pub fn new(steps: usize, unit: &'static str) -> Self {
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} left, {msg}") {
            bar.set_style(style);
        }
        Self { bar, unit, losses: Vec::new() }
    }

    /// After every step.
    pub fn step(&mut self, loss: f64) {
        self.losses.push(loss);
        self.bar.inc(1);
        if self.losses.len().is_multiple_of(POINT) {
            self.bar.set_message(format!("loss {:.3} {}", self.last(), self.unit));
        }
    }

    /// Clears the bar; the loss at the end, with the steps and the time that it took.
    pub fn finish(&self) -> String {
        self.bar.finish_and_clear();
        let (steps, seconds) = (self.losses.len(), self.bar.elapsed().as_secs_f64());
        format!("{:.3} {} after {steps} steps, {seconds:.1} s", self.last(), self.unit)
    }

    /// The curve of the loss.
    pub fn panel(&self) -> Panel {
        let mean = |(n, losses): (usize, &[f64])| ((n * POINT + losses.len()) as f64, mean(losses));
        let points = self.losses.chunks(POINT).enumerate().map(mean).collect();
        Panel {
            title: "training".into(),
            axes: ["steps".into(), self.unit.into()],
            log: false,
            range: None,
            curves: vec![Curve { name: format!("loss, mean of {POINT} steps"), colour: COLOURS[2], points }],
            legend: SeriesLabelPosition::UpperRight,
        }
    }

    /// Mean of the last steps.
    fn last(&self) -> f64 {
        mean(&self.losses[self.losses.len().saturating_sub(POINT)..])
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
