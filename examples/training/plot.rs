//! Line plots as SVG. Text is left to whatever shows the picture, so no fonts are needed to write one.

pub use plotters::prelude::SeriesLabelPosition;
use plotters::prelude::*;
use std::path::Path;

/// One line of a plot.
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Red, green, blue, 0..=255.
    pub colour: [u8; 3],
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// One plot of a picture.
pub struct Panel {
    /// Above it.
    pub title: String,
    /// What x and y are, with units.
    pub axes: [String; 2],
    /// Whether y is drawn on a logarithmic scale.
    pub log: bool,
    /// The lowest and highest y; `None`: those of the curves.
    pub range: Option<(f64, f64)>,
    /// The lines.
    pub curves: Vec<Curve>,
    /// Where the legend goes.
    pub legend: SeriesLabelPosition,
}

const WIDTH: u32 = 720;
const HEIGHT: u32 = 480;

/// Red, green, blue, light blue.
pub const COLOURS: [[u8; 3]; 4] = [[200, 30, 30], [30, 140, 60], [30, 80, 200], [90, 170, 240]];

/// Writes the panels side by side, and the folders on the way to the file.
pub fn write(path: &Path, panels: &[Panel]) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let root = SVGBackend::new(path, (WIDTH * panels.len() as u32, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        draw(area, panel)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, panel: &Panel) -> Result<(), Box<dyn std::error::Error>> {
    // A logarithmic axis is a linear one of exponents.
    let scale = |y: f64| if panel.log { y.log10() } else { y };
    let points = || panel.curves.iter().flat_map(|c| &c.points);
    let (x0, x1) = bounds(points().map(|p| p.0));
    let (low, high) = bounds(points().map(|p| scale(p.1)));
    let air = 0.04 * (high - low);
    let (y0, y1) = panel.range.map_or((low - air, high + air), |(a, b)| (scale(a), scale(b)));

    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x0..x1, y0..y1)?;
    let label = |y: &f64| if panel.log { format!("1e{y:.0}") } else { short(*y) };
    chart
        .configure_mesh()
        .x_desc(&panel.axes[0])
        .y_desc(&panel.axes[1])
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&label)
        .label_style(("sans-serif", 14))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for curve in &panel.curves {
        let [r, g, b] = curve.colour;
        let style = RGBColor(r, g, b).stroke_width(2);
        let points = curve.points.iter().map(|p| (p.0, scale(p.1)));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(panel.legend.clone())
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// At most three decimals.
fn short(value: f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_string()
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if low < high { (low, high) } else { (low - 1.0, low + 1.0) }
}
