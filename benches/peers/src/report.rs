//! Tables in Markdown and pictures as SVG.

use crate::case::Case;
use anyhow::Result;
use plotters::prelude::*;
use std::fmt;
use std::path::Path;
use wgpu_rnn::Device;

/// A peer beside this crate on a case, milliseconds.
pub struct Row {
    case: String,
    peer: &'static str,
    ours: Times,
    theirs: Times,
    /// Median over rounds of theirs / ours.
    ratio: f64,
}

struct Times {
    median: f64,
    min: f64,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

impl Times {
    fn new(times: &[f64]) -> Self {
        Self { median: median(times.iter().copied()), min: times.iter().copied().fold(f64::INFINITY, f64::min) }
    }
}

impl Row {
    /// Of the times of every round.
    pub fn new(case: &Case, peer: &'static str, ours: &[f64], theirs: &[f64]) -> Self {
        let ratio = median(ours.iter().zip(theirs).map(|(a, b)| b / a));
        Self { case: case.to_string(), peer, ours: Times::new(ours), theirs: Times::new(theirs), ratio }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (o, t) = (&self.ours, &self.theirs);
        let (case, peer, ratio) = (&self.case, self.peer, self.ratio);
        let [a, b, c, d] = [o.median, o.min, t.median, t.min];
        write!(f, "| {case} | {a:.3} ({b:.3}) | {peer} | {c:.2} ({d:.2}) | {ratio:.1} |")
    }
}

/// All rows of an executor.
pub struct Table {
    device: String,
    rounds: usize,
    /// In the order of the run.
    pub rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wgpu-rnn on {}; {} rounds in turn, milliseconds, median (minimum)\n", self.device, self.rounds)?;
        writeln!(f, "| case | wgpu-rnn | peer | | peer / wgpu-rnn |\n|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl Table {
    /// Without rows.
    pub fn new(device: &Device, rounds: usize) -> Self {
        Self { device: device.to_string(), rounds, rows: Vec::new() }
    }

    /// `NAME.md` and `NAME.svg` in a folder.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.md")), self.to_string())?;
        self.draw(&folder.join(format!("{name}.svg")))
    }

    /// A bar per row: how many times as long the peer takes, on a logarithmic scale.
    fn draw(&self, path: &Path) -> Result<()> {
        const ROW: i32 = 22;
        const LEFT: i32 = 470;
        const BAR: f64 = 330.0;
        const TOP: i32 = 40;
        let height = TOP + ROW * self.rows.len() as i32 + 10;
        let root = SVGBackend::new(path, (900, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let title = format!("time of the peer / time of wgpu-rnn ({}), logarithmic", self.device);
        root.draw(&Text::new(title, (10, 12), text(14)))?;
        let decades = self.rows.iter().map(|r| r.ratio.max(1.0 / r.ratio)).fold(10.0, f64::max).log10();
        let colours = [RGBColor(30, 80, 200), RGBColor(200, 110, 30), RGBColor(30, 140, 60)];
        let mut peers: Vec<&str> = Vec::new();
        for (n, row) in self.rows.iter().enumerate() {
            let y = TOP + n as i32 * ROW;
            if !peers.contains(&row.peer) {
                peers.push(row.peer);
            }
            let colour = colours[peers.iter().position(|p| *p == row.peer).unwrap_or(0) % colours.len()];
            let end = LEFT + (row.ratio.log10() / decades * BAR) as i32;
            let bar = [(LEFT.min(end), y), (LEFT.max(end).max(LEFT.min(end) + 1), y + ROW - 6)];
            root.draw(&Rectangle::new(bar, colour.filled()))?;
            root.draw(&Text::new(format!("{}, {}", row.case, row.peer), (10, y), text(13)))?;
            root.draw(&Text::new(format!("{:.1}", row.ratio), (LEFT.max(end) + 6, y), text(13)))?;
        }
        root.draw(&PathElement::new([(LEFT, TOP - 6), (LEFT, height - 6)], BLACK))?;
        root.present()?;
        Ok(())
    }
}
