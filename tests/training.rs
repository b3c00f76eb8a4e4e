//! The code of the training examples, run with fewer steps: what it must have reached by then. `-- --ignored` runs them in full.

use wgpu_rnn::Device;
use wgpu_rnn_examples::training::char_model;
use wgpu_rnn_examples::training::copy_memory;
use wgpu_rnn_examples::training::country;
use wgpu_rnn_examples::training::forecast;
use wgpu_rnn_examples::training::plot::{self, SeriesLabelPosition};
use wgpu_rnn_examples::training::vanishing;
use wgpu_rnn_examples::training::vanishing::{STEPS, Start};

const COUNTRIES: &str = include_str!("../examples/data/country_language.csv");
const CO2: &str = include_str!("../examples/data/co2.csv");
const BOOK: &str = include_str!("../examples/data/devils_dictionary.txt");

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The start of that name, measured.
fn norms(starts: &[Start], name: &str) -> Vec<f64> {
    let start = starts.iter().find(|s| s.name == name).unwrap();
    let norms = vanishing::measure(start).unwrap();
    assert_eq!(norms.len(), STEPS);
    assert!(norms.iter().all(|n| *n > 0.0 && n.is_finite()), "{name}");
    norms
}

#[test]
fn a_gradient_vanishes_in_every_cell_as_pytorch_starts_it() {
    for name in ["RNN", "GRU", "LSTM"] {
        let norms = norms(&vanishing::usual(), name);
        assert!(norms[STEPS - 1] < 1e-30 * norms[0], "{name}: {:e}", norms[STEPS - 1]);
        assert!((20..50).contains(&vanishing::millionth(&norms).unwrap()), "{name}");
    }
}

#[test]
fn a_forget_bias_of_1_helps_but_not_over_200_steps() {
    let [plain, biased] = ["LSTM", "LSTM, forget bias 1"].map(|name| norms(&vanishing::usual(), name));
    assert!(biased[STEPS - 1] > 1e15 * plain[STEPS - 1]);
    assert!(biased[STEPS - 1] < 1e-10 * biased[0]);
}

#[test]
fn an_open_gate_carries_a_gradient_over_200_steps() {
    let starts = vanishing::prepared();
    let rnn = norms(&starts, "RNN, orthogonal R");
    for name in ["GRU, open update gate", "LSTM, open forget gate"] {
        let norms = norms(&starts, name);
        assert_eq!(vanishing::millionth(&norms), None, "{name}");
        assert!(norms[STEPS - 1] > 1e-2 * norms[0], "{name}: {:e} of {:e}", norms[STEPS - 1], norms[0]);
        assert!(rnn[STEPS - 1] < 1e-4 * norms[STEPS - 1], "{name} and the RNN");
    }
}

#[test]
fn a_picture_has_its_curves_axes_and_legend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/picture.svg");
    let curve = plot::Curve { name: "falling".into(), colour: plot::COLOURS[0], points: vec![(0.0, 1.0), (5.0, 1e-9)] };
    let panel = plot::Panel {
        title: "a title".into(),
        axes: ["steps".into(), "norm".into()],
        log: true,
        range: None,
        curves: vec![curve],
        legend: SeriesLabelPosition::LowerLeft,
    };
    plot::write(&path, &[panel]).unwrap();
    let svg = std::fs::read_to_string(path).unwrap();
    for text in ["falling", "a title", "steps", "norm", "1e-8", "polyline"] {
        assert!(svg.contains(text), "{text}");
    }
    let unwritable = folder.path().join("new/folder");
    assert!(plot::write(&unwritable, &[]).is_err());
}

/// Shares of the languages that are right after a run: in phrasings trained on, held-out pairs, held-out other words.
fn languages(steps: usize) -> [f64; 3] {
    let (text, phrasings) = (country::Text::new(COUNTRIES), country::Phrasings::default());
    let mut model = country::Model::new(&Device::cpu(), &text).unwrap();
    model.train(steps, |_, loss| assert!(loss.is_finite())).unwrap();
    let shares = [&phrasings.trained, &phrasings.paired, &phrasings.rephrased].map(|p| mean(&model.shares(p).unwrap()));
    println!("{steps} steps: {shares:.3?}");
    let sentence = model.complete("I grew up in Spain, so I speak").unwrap();
    assert!(sentence.starts_with("I grew up in Spain, so I speak ") && sentence.ends_with('.'), "{sentence}");
    shares
}

#[test]
fn languages_are_learned_in_phrasings_never_seen_too() {
    let commonest = country::Text::new(COUNTRIES).commonest();
    let [trained, paired, rephrased] = languages(300);
    assert!(trained > 1.5 * commonest && paired > 1.5 * commonest, "{trained} {paired}");
    assert!(rephrased > commonest, "{rephrased}");
}

#[test]
#[ignore = "the whole run of the example"]
fn every_language_is_learned() {
    let [trained, paired, rephrased] = languages(country::STEPS);
    assert!(trained > 0.99 && paired > 0.99, "{trained} {paired}");
    assert!(rephrased > 0.95, "{rephrased}");
}

#[test]
fn held_out_phrasings_are_new_but_their_words_are_not() {
    let (text, phrasings) = (country::Text::new(COUNTRIES), country::Phrasings::default());
    assert_eq!((text.countries.len(), phrasings.trained.len(), phrasings.paired.len()), (251, 24, 6));
    assert!(phrasings.trained.iter().any(|p| p.prompt("France") == "I grew up in France, so I speak"));
    assert!(phrasings.paired.iter().any(|p| p.prompt("France") == "My childhood was in France, so my language is"));
    for phrasing in phrasings.paired.iter().chain(&phrasings.rephrased) {
        assert!(!phrasings.trained.contains(phrasing), "{phrasing:?}");
        text.ids(&phrasing.prompt("Guinea-Bissau")).unwrap();
    }
    let ids = text.ids("We lived in France, so I speak French .").unwrap();
    assert_eq!(text.text(&ids), "We lived in France, so I speak French.");
    let error = text.ids("I grew up in Atlantis").unwrap_err().to_string();
    assert!(error.contains("Atlantis"), "{error}");
}

#[test]
fn the_forecast_beats_the_season_and_the_last_week() {
    let series = forecast::Series::new(CO2).unwrap();
    let mut model = forecast::Model::new(&Device::cpu(), &series).unwrap();
    model.train(forecast::STEPS, |_, loss| assert!(loss.is_finite())).unwrap();
    let (week, years) = (model.one_step().unwrap(), model.free_running().unwrap());
    let [week, years] = [&week, &years].map(|f| series.error(f));
    println!("{week:.3} ppm a week ahead, {years:.3} ppm over five years");
    assert!(week < 0.8 * series.error(&series.persistence()), "{week}");
    assert!(week < 0.25 * series.error(&series.seasonal_naive()), "{week}");
    assert!(years < 0.5 * series.error(&series.last_year_again(0.0)), "{years}");
    // A last year that rises on as before is the better forecast over five years; the example says so.
    assert!(series.error(&series.last_year_again(series.rise())) < years, "{years}");
}

#[test]
fn a_forecast_knows_nothing_of_what_it_forecasts() {
    let series = forecast::Series::new(CO2).unwrap();
    let (mut other, split) = (series.clone(), series.split());
    other.ppm[split..].iter_mut().for_each(|v| *v += 100.0);
    let forecasts = [&series, &other].map(|series| {
        let mut model = forecast::Model::new(&Device::cpu(), series).unwrap();
        model.train(2, |_, _| {}).unwrap();
        (model.one_step().unwrap()[0], model.free_running().unwrap())
    });
    assert_eq!(forecasts[0], forecasts[1], "trained on, or forecast from, what is held out");
}

#[test]
fn a_network_trains_on_a_gpu() {
    let device = Device::gpu().expect("a GPU adapter (lavapipe will do)");
    let series = forecast::Series::new(CO2).unwrap();
    let mut model = forecast::Model::new(&device, &series).unwrap();
    let mut losses = Vec::new();
    model.train(20, |_, loss| losses.push(loss)).unwrap();
    assert!(losses[19] < 0.8 * losses[0], "{losses:?}");
}

#[test]
fn gaps_are_filled_linearly_and_wrong_lines_refused() {
    let series =
        forecast::Series::new("date,co2\n19580101,\n19580108,10\n19580115,\n19580122,\n19580129,13\n19580205,\n");
    assert_eq!(series.unwrap().ppm, [10.0, 10.0, 11.0, 12.0, 13.0]);
    for line in ["1958", "19580101,ten", "1958xx01,10"] {
        let error = forecast::Series::new(&format!("date,co2\n{line}\n")).err().unwrap().to_string();
        assert!(error.contains(line), "{error}");
    }
}

#[test]
fn a_character_model_learns_more_than_frequencies() {
    let text = char_model::Text::new(BOOK);
    let mut model = char_model::Model::new(&Device::cpu(), &text, 64).unwrap();
    model.train(300, |_, loss| assert!(loss.is_finite())).unwrap();
    let bits = model.held_out_bits().unwrap();
    println!("{bits:.3} bits a character");
    assert!(bits < 0.85 * text.bits_of_frequencies(), "{bits}");

    let sample = |model: &mut char_model::Model<'_>, seed| model.sample("LOVE", 50, 0.7, seed).unwrap();
    let first = sample(&mut model, 1);
    assert!(first.starts_with("LOVE") && first.chars().count() == 54, "{first:?}");
    assert_eq!(first, sample(&mut model, 1));
    assert_ne!(first, sample(&mut model, 2));
    for (prompt, temperature) in [("", 1.0), ("\u{e9}", 1.0), ("A", 0.0), ("A", f32::NAN)] {
        assert!(model.sample(prompt, 1, temperature, 1).is_err(), "{prompt:?} {temperature}");
    }
}

#[test]
#[ignore = "the whole run of the example, minutes"]
fn a_character_model_learns_words() {
    let text = char_model::Text::new(BOOK);
    let mut model = char_model::Model::new(&Device::cpu(), &text, char_model::HIDDEN).unwrap();
    model.train(char_model::STEPS, |_, loss| assert!(loss.is_finite())).unwrap();
    let bits = model.held_out_bits().unwrap();
    println!("{bits:.3} bits a character");
    assert!(bits < 0.6 * text.bits_of_frequencies(), "{bits}");
}

#[test]
fn a_min_gru_learns_to_copy_what_it_saw_among_noise() {
    let mut learner = copy_memory::learner(0, &Device::cpu()).unwrap();
    let losses: Vec<f64> = (0..700).map(|n| learner.learn(&copy_memory::Batch::new(n)).unwrap()).collect();
    // By chance ln 8 = 2.08 nats and one of 8.
    assert!(mean(&losses[..20]) > 2.0 && mean(&losses[680..]) < 0.8, "{} nats", mean(&losses[680..]));
    let counts = copy_memory::accuracy(learner.as_mut(), 1_000_000..1_000_004).unwrap();
    let (right, all) = counts.iter().fold((0, 0), |a, c| (a.0 + c.0, a.1 + c.1));
    assert_eq!(all, 4 * 4 * 16);
    assert!(10 * right > 7 * all, "{right} of {all}");
}

#[test]
fn the_other_copiers_learn_from_the_first_steps() {
    for n in [1, 2] {
        let mut learner = copy_memory::learner(n, &Device::cpu()).unwrap();
        // The same batch again and again.
        let losses: Vec<f64> = (0..60).map(|_| learner.learn(&copy_memory::Batch::new(5)).unwrap()).collect();
        println!("{}: {} to {} nats", copy_memory::NAMES[n], losses[0], losses[59]);
        assert!(
            losses[59] < 0.75 * losses[0] && losses.iter().all(|l| l.is_finite()),
            "{}: {losses:?}",
            copy_memory::NAMES[n]
        );
    }
}
