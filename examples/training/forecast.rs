//! CO2 in the air of Mauna Loa, week by week: a GRU learns how much it changes until the next week, and forecasts years that it
//! has not seen; and the forecasts without a network that it is held against.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::f64::consts::TAU;
use wgpu_rnn::{
    Device, Error, Head, Initial, Input, Loss, Optimiser, Options, Plan, Result, RnnConfig, Session, Shape, Targets,
    View, Weights, cells,
};

/// Steps of the whole run.
pub const STEPS: usize = 200;
/// Weeks of a year.
pub const YEAR: usize = 52;
/// The last weeks, which nothing is learned from.
pub const HELD_OUT: usize = 5 * YEAR;
/// Weeks that the trend is taken from.
const PAST: usize = 10 * YEAR;
const BATCH: usize = 32;
/// Weeks of a training sequence, and how many of them only warm the state up.
const WINDOW: usize = 3 * YEAR;
const WARM_UP: usize = YEAR;
const FEATURES: usize = 3;
const HIDDEN: usize = 32;
const RATE: f64 = 5e-3;
/// ppm: what the weekly change is measured in.
const CHANGE: f64 = 0.5;

/// A weekly series.
#[derive(Clone)]
pub struct Series {
    /// Years and their fractions, one a week.
    pub years: Vec<f64>,
    /// CO2 in ppm.
    pub ppm: Vec<f64>,
}

impl Series {
    /// From a table of dates (YYYYMMDD) and values, a line each, with a header. Missing values are filled linearly.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a line that is not such.
    pub fn new(table: &str) -> Result<Self> {
        let mut series = Self { years: Vec::new(), ppm: Vec::new() };
        let mut known: Option<usize> = None;
        for line in table.lines().skip(1) {
            let (year, value) = parse(line).ok_or_else(|| Error::Mismatch {
                what: "line".into(),
                expected: "YYYYMMDD,ppm".into(),
                got: line.into(),
            })?;
            let n = series.ppm.len();
            series.years.push(year);
            series.ppm.push(value.unwrap_or(f64::NAN));
            let Some(value) = value else { continue };
            let first = known.map_or(0, |k| k + 1);
            let before = known.map_or(value, |k| series.ppm[k]);
            for gap in first..n {
                let share = (gap + 1 - first) as f64 / (n + 1 - first) as f64;
                series.ppm[gap] = before + share * (value - before);
            }
            known = Some(n);
        }
        series.ppm.truncate(known.map_or(0, |k| k + 1));
        series.years.truncate(series.ppm.len());
        Ok(series)
    }

    /// The first week that is held out.
    pub fn split(&self) -> usize {
        self.ppm.len() - HELD_OUT
    }

    /// What the network reads in week `t`, `PAST` or more after the first: the change since the week before, beyond the trend,
    /// and the season.
    fn features(&self, t: usize) -> [f32; FEATURES] {
        let season = self.years[t] * TAU;
        [self.change(t, t), season.sin(), season.cos()].map(|v| v as f32)
    }

    /// The week after `t`, if the network says `change`.
    fn next(&self, t: usize, change: f32) -> f64 {
        self.ppm[t] + self.trend(t) + CHANGE * f64::from(change)
    }

    /// How much more there is in week `t` than the week before, beyond the trend as week `at` knows it; about 1 wide.
    fn change(&self, t: usize, at: usize) -> f64 {
        (self.ppm[t] - self.ppm[t - 1] - self.trend(at)) / CHANGE
    }

    /// The mean rise a week of the ten years up to week `t`, in ppm.
    fn trend(&self, t: usize) -> f64 {
        (self.ppm[t] - self.ppm[t - PAST]) / PAST as f64
    }
}

/// Date as a year with its fraction, and value, if there is one.
fn parse(line: &str) -> Option<(f64, Option<f64>)> {
    let (date, value) = line.split_once(',')?;
    let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<f64>().ok();
    let year = number(0..4)? + (number(4..6)? - 1.0) / 12.0 + (number(6..8)? - 1.0) / 365.25;
    let value = if value.is_empty() { None } else { Some(value.parse().ok()?) };
    Some((year, value))
}

/// Forecasts of the held-out weeks without a network.
impl Series {
    /// From all weeks before each: no change since the last week.
    pub fn persistence(&self) -> Vec<f64> {
        (self.split()..self.ppm.len()).map(|t| self.ppm[t - 1]).collect()
    }

    /// From all weeks before each: the same week of the year before.
    pub fn seasonal_naive(&self) -> Vec<f64> {
        (self.split()..self.ppm.len()).map(|t| self.ppm[t - YEAR]).collect()
    }

    /// From the weeks before the first alone: the last year again, every year higher by `rise`.
    pub fn last_year_again(&self, rise: f64) -> Vec<f64> {
        let last = &self.ppm[self.split() - YEAR..self.split()];
        (0..HELD_OUT).map(|n| last[n % YEAR] + rise * (n / YEAR + 1) as f64).collect()
    }

    /// The rise per year, in ppm, of the last ten years before the held-out ones.
    pub fn rise(&self) -> f64 {
        let last = self.split() - 1;
        (self.ppm[last] - self.ppm[last - 10 * YEAR]) / 10.0
    }

    /// Mean absolute error of a forecast of the held-out weeks, in ppm.
    pub fn error(&self, forecast: &[f64]) -> f64 {
        let truth = &self.ppm[self.split()..];
        truth.iter().zip(forecast).map(|(t, f)| (t - f).abs()).sum::<f64>() / truth.len() as f64
    }
}

/// A model in training.
pub struct Model<'a> {
    series: &'a Series,
    /// The session that trains.
    pub session: Session,
}

impl<'a> Model<'a> {
    /// Untrained.
    pub fn new(device: &Device, series: &'a Series) -> Result<Self> {
        let config = RnnConfig {
            cell: &cells::GRU,
            input_size: FEATURES,
            hidden_size: HIDDEN,
            head: Some(Head { size: 1, loss: Some(Loss::MeanSquared) }),
            ..Default::default()
        };
        let options =
            Options { train: true, optimiser: Some(Optimiser::adam()), clip_norm: Some(1.0), ..Default::default() };
        let plan = Plan::new(&config, Shape { time: WINDOW, batch: BATCH }, &device.caps(), &options)?;
        let session = Session::from_plan(device, plan, &Weights::random(&config, 1)?)?;
        Ok(Self { series, session })
    }

    /// Trains on random stretches of the years that are not held out. `report` gets the number of each step and its loss, in
    /// squares of `CHANGE`.
    pub fn train(&mut self, steps: usize, mut report: impl FnMut(usize, f32)) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(2);
        let counts: Vec<f32> = (0..WINDOW * BATCH).map(|n| if n / BATCH < WARM_UP { 0.0 } else { 1.0 }).collect();
        for step in 0..steps {
            let starts: Vec<usize> = (0..BATCH).map(|_| rng.random_range(PAST..self.series.split() - WINDOW)).collect();
            let weeks = || (0..WINDOW).flat_map(|t| starts.iter().map(move |s| s + t));
            let x: Vec<f32> = weeks().flat_map(|t| self.series.features(t)).collect();
            let next: Vec<f32> = weeks().map(|t| self.series.change(t + 1, t) as f32).collect();
            self.session.write(&Input::new(View::new(&x, &[WINDOW, BATCH, FEATURES])))?;
            let (shape, targets) = ([WINDOW, BATCH], [WINDOW, BATCH, 1]);
            let targets = Targets::values(View::new(&next, &targets));
            self.session.write_targets(&Targets { weights: Some(View::new(&counts, &shape)), ..targets })?;
            let done = step as f64 / steps as f64;
            self.session.train_step(RATE * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * done).cos())))?;
            report(step, self.session.loss()?);
        }
        Ok(())
    }

    /// Every held-out week, forecast from all weeks before it.
    pub fn one_step(&mut self) -> Result<Vec<f64>> {
        let (series, end) = (self.series, self.series.ppm.len());
        let time = end - 1 - PAST;
        let mut session = self.session.sibling(Shape { time, batch: 1 }, &Options::default())?;
        let x: Vec<f32> = (PAST..end - 1).flat_map(|t| series.features(t)).collect();
        session.write(&Input::new(View::new(&x, &[time, 1, FEATURES])))?;
        session.run()?;
        let changes = session.predictions()?.data;
        Ok((series.split()..end).map(|t| series.next(t - 1, changes[t - 1 - PAST])).collect())
    }

    /// Every held-out week, forecast from those before the first of them alone: the network goes on from its own forecasts.
    pub fn free_running(&mut self) -> Result<Vec<f64>> {
        let mut series = self.series.clone();
        let split = series.split();
        series.ppm[split..].fill(f64::NAN);
        let mut session = self.session.sibling(Shape { time: 1, batch: 1 }, &Options::default())?;
        let mut initial = Initial::Zero;
        for t in PAST..series.ppm.len() - 1 {
            let x = series.features(t);
            session.write(&Input { initial, ..Input::new(View::new(&x, &[1, 1, FEATURES])) })?;
            session.run()?;
            initial = Initial::Carry;
            if t + 1 >= split {
                series.ppm[t + 1] = series.next(t, session.predictions()?.data[0]);
            }
        }
        Ok(series.ppm.split_off(split))
    }
}
