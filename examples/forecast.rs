//! Forecasts the CO2 in the air of Mauna Loa: a GRU (32 units, mean squared error) learns from 39 years, week by week, how much it
//! changes until the next, and is measured on the five years after them.
//!
//! ```text
//! $ cargo run --release --example forecast
//! device    CPU executor, 2 threads
//! data      2284 weeks, the last 260 held out
//! loss      0.477 mean squared error after 200 steps, 2.2 s
//!
//! mean absolute error in ppm        next week   five years
//! GRU                                    0.28         1.09
//! as in the week before                  0.40            -
//! as in the last known year              1.66         5.15
//! the same, 1.47 ppm a year higher          -         0.93
//!
//! picture   target/forecast.svg
//! ```
//!
//! A week ahead each week is forecast from all before it; five years ahead the network goes on from its own forecasts, from a
//! state that has seen the past. It beats last week's value and the year before's in the one, and the last known year repeated in
//! the other; there a last year that keeps rising as it did for ten years is a little better still. It reads the change since
//! the week before, less the mean rise of the ten years before, and the season; that and the number of steps were chosen on earlier
//! years (1987 to 1996), not on those it is measured on.
//!
//! `--device cpu|gpu`, `--steps N`, `--picture FILE` (the loss, and both forecasts beside what was measured). How it is trained is
//! in `training/forecast.rs`.

use clap::Parser;
use plotters::prelude::SeriesLabelPosition;
use std::process::ExitCode;
use wgpu_rnn_examples::training::forecast;
use wgpu_rnn_examples::training::plot;
use wgpu_rnn_examples::training::run;

use wgpu_rnn_examples::training::forecast::{HELD_OUT, Model, Series, YEAR};
use wgpu_rnn_examples::training::plot::{COLOURS, Curve, Panel};

const TABLE: &str = include_str!("data/co2.csv");

/// Forecast the CO2 in the air, a week and five years ahead.
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
    let series = Series::new(TABLE)?;
    let device = args.run.device.open()?;
    let mut model = Model::new(&device, &series)?;
    println!("device    {device}");
    println!("data      {} weeks, the last {HELD_OUT} held out", series.ppm.len());

    let steps = args.run.steps(forecast::STEPS);
    let mut progress = run::Progress::new(steps, "mean squared error");
    model.train(steps, |_, loss| progress.step(loss.into()))?;
    println!("loss      {}", progress.finish());

    let (week, years) = (model.one_step()?, model.free_running()?);
    let (before, again) = (series.seasonal_naive(), series.last_year_again(0.0));
    let rising = series.last_year_again(series.rise());
    println!("\nmean absolute error in ppm        next week   five years");
    let row = |name: &str, week: Option<&[f64]>, years: Option<&[f64]>| {
        let [week, years] = [week, years].map(|f| f.map_or("-".into(), |f| format!("{:.2}", series.error(f))));
        println!("{name:32} {week:>10}   {years:>10}");
    };
    row("GRU", Some(&week), Some(&years));
    row("as in the week before", Some(&series.persistence()), None);
    row("as in the last known year", Some(&before), Some(&again));
    row(&format!("the same, {:.2} ppm a year higher", series.rise()), None, Some(&rising));

    let picture = args.run.picture("forecast.svg");
    let ahead = [("GRU", &years), ("the last known year again", &again), ("the same, rising", &rising)];
    let next = [("GRU", &week), ("a year before", &before)];
    let panels = [
        progress.panel(),
        panel(&series, "five years ahead", HELD_OUT, &ahead),
        panel(&series, "a week ahead", YEAR, &next),
    ];
    plot::write(&picture, &panels)?;
    println!("\npicture   {}", picture.display());
    Ok(())
}

/// The first held-out weeks, measured and forecast.
fn panel(series: &Series, title: &str, weeks: usize, forecasts: &[(&str, &Vec<f64>)]) -> Panel {
    let split = series.split();
    let measured = series.ppm[split..].to_vec();
    let curves = [("measured", &measured)].into_iter().chain(forecasts.iter().copied()).zip(COLOURS);
    let curve = |((name, ppm), colour): ((&str, &Vec<f64>), [u8; 3])| {
        let points = series.years[split..].iter().copied().zip(ppm.iter().copied()).take(weeks).collect();
        Curve { name: name.into(), colour, points }
    };
    Panel {
        title: title.into(),
        axes: ["year".into(), "CO2, ppm".into()],
        log: false,
        range: None,
        curves: curves.map(curve).collect(),
        legend: SeriesLabelPosition::UpperLeft,
    }
}
