//! The sound, and above it how likely each frame of it is speech.

use super::silero::RATE;
use super::speech::seconds;
use plotters::prelude::*;
use std::fmt::Display;
use std::ops::Range;

/// Columns of the waveform: each is drawn from its lowest sample to its highest.
const COLUMNS: usize = 900;

/// An SVG.
pub fn speech(samples: &[f32], probability: &[f32], stretches: &[Range<usize>]) -> Result<String, String> {
    let mut svg = String::new();
    draw(samples, probability, stretches, &mut svg)?;
    Ok(svg)
}

fn draw(samples: &[f32], probability: &[f32], stretches: &[Range<usize>], svg: &mut String) -> Result<(), String> {
    let root = SVGBackend::with_string(svg, (960, 400)).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let (top, bottom) = root.split_vertically(180);
    let end = seconds(probability.len());
    let shade = |low: f64| {
        let rectangle =
            move |s: &Range<usize>| Rectangle::new([(seconds(s.start), low), (seconds(s.end), 1.0)], LIGHT.filled());
        stretches.iter().map(rectangle)
    };

    let mut upper = ChartBuilder::on(&top);
    upper.margin(8).caption("probability of speech", ("sans-serif", 14)).y_label_area_size(40).x_label_area_size(4);
    let mut upper = upper.build_cartesian_2d(0.0..end, 0.0..1.0).map_err(text)?;
    upper.configure_mesh().disable_x_mesh().light_line_style(WHITE).y_labels(5).x_labels(0).draw().map_err(text)?;
    upper.draw_series(shade(0.0)).map_err(text)?;
    // A step per frame.
    let line = probability.iter().enumerate().flat_map(|(n, p)| [n, n + 1].map(|n| (seconds(n), f64::from(*p))));
    upper.draw_series(LineSeries::new(line, BLUE.stroke_width(2))).map_err(text)?;

    let loudest = samples.iter().fold(f32::EPSILON, |m, s| m.max(s.abs()));
    let mut lower = ChartBuilder::on(&bottom);
    lower.margin(8).caption("sound", ("sans-serif", 14)).y_label_area_size(40).x_label_area_size(36);
    let mut lower = lower.build_cartesian_2d(0.0..end, -1.0..1.0).map_err(text)?;
    lower.configure_mesh().disable_mesh().x_desc("seconds").y_labels(0).draw().map_err(text)?;
    lower.draw_series(shade(-1.0)).map_err(text)?;
    let width = samples.len().div_ceil(COLUMNS).max(1);
    let column = |(n, chunk): (usize, &[f32])| {
        let time = (n * width) as f64 / f64::from(RATE);
        let (low, high) = chunk.iter().fold((f32::MAX, f32::MIN), |(low, high), s| (low.min(*s), high.max(*s)));
        [low, high].map(|v| (time, f64::from(v / loudest)))
    };
    let outline: Vec<_> = samples.chunks(width).enumerate().flat_map(column).collect();
    lower.draw_series(LineSeries::new(outline, &BLACK)).map_err(text)?;
    root.present().map_err(text)
}

const LIGHT: RGBColor = RGBColor(214, 236, 214);

fn text(e: impl Display) -> String {
    e.to_string()
}
