//! The gains of all bands over time, dark where much is kept, with the voice probability above.

use super::rnnoise::{BANDS, Heard};
use plotters::prelude::*;
use std::fmt::Display;

/// Frames in a second.
pub const FRAMES_PER_SECOND: usize = 100;
/// Shades of the picture: neighbouring frames of one shade are one rectangle.
const SHADES: f32 = 12.0;

/// An SVG.
pub fn gains(heard: &Heard) -> Result<String, String> {
    let mut svg = String::new();
    draw(heard, &mut svg)?;
    Ok(svg)
}

fn draw(heard: &Heard, svg: &mut String) -> Result<(), String> {
    let root = SVGBackend::with_string(svg, (960, 480)).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let (top, bottom) = root.split_vertically(130);
    let seconds = heard.voice.len() as f64 / FRAMES_PER_SECOND as f64;
    let second = |frame: usize| frame as f64 / FRAMES_PER_SECOND as f64;

    let mut voice = ChartBuilder::on(&top);
    voice.margin(8).caption("voice probability", ("sans-serif", 14)).y_label_area_size(60).x_label_area_size(4);
    let mut voice = voice.build_cartesian_2d(0.0..seconds, 0.0..1.0).map_err(text)?;
    voice.configure_mesh().disable_mesh().y_labels(3).x_labels(0).draw().map_err(text)?;
    let line = heard.voice.iter().enumerate().map(|(frame, v)| (second(frame), f64::from(*v)));
    voice.draw_series(LineSeries::new(line, &BLUE)).map_err(text)?;

    let mut bands = ChartBuilder::on(&bottom);
    bands.margin(8).caption("gain: dark is kept", ("sans-serif", 14)).y_label_area_size(60).x_label_area_size(36);
    let mut bands = bands.build_cartesian_2d(0.0..seconds, 0.0..BANDS.len() as f64).map_err(text)?;
    let hz = |band: &f64| BANDS.get(*band as usize).map_or(String::new(), |hz| format!("{hz} Hz"));
    let mut mesh = bands.configure_mesh();
    mesh.disable_mesh().x_desc("seconds").y_labels(8).y_label_formatter(&hz).draw().map_err(text)?;
    bands.draw_series(tiles(heard)).map_err(text)?;
    root.present().map_err(text)
}

/// A rectangle per band and stretch of frames of one shade.
fn tiles(heard: &Heard) -> Vec<Rectangle<(f64, f64)>> {
    let second = |frame: usize| frame as f64 / FRAMES_PER_SECOND as f64;
    let mut tiles = Vec::new();
    for band in 0..BANDS.len() {
        let gains = heard.gains.iter().skip(band).step_by(BANDS.len());
        let shades: Vec<u8> = gains.map(|g| (g * SHADES).round() as u8).collect();
        let mut start = 0;
        for stretch in shades.chunk_by(|a, b| a == b) {
            let grey = 255 - (f32::from(stretch[0]) / SHADES * 255.0) as u8;
            let (from, to) = (second(start), second(start + stretch.len()));
            let corners = [(from, band as f64), (to, band as f64 + 1.0)];
            tiles.push(Rectangle::new(corners, RGBColor(grey, grey, grey).filled()));
            start += stretch.len();
        }
    }
    tiles
}

fn text(e: impl Display) -> String {
    e.to_string()
}
