//! Learns which language goes with which country from sentences, and completes "I grew up in France, so I speak …": an LSTM over
//! words (embedding, 128 units, cross entropy), ragged batches, target weights, Adam with clipping.
//!
//! ```text
//! $ cargo run --release --example country_language
//! device    CPU executor, 2 threads
//! text      251 countries, 24 phrasings, 403 words
//! loss      0.140 nats a word after 1000 steps, 25.8 s
//! right     100.0 % of the countries, in the phrasings it learned from
//!           (30.7 % would be by always saying the commonest language)
//!
//! held out, an opening and a closing that it never saw together:
//!   100.0 %  I grew up in France, where everybody speaks French.
//!   100.0 %  My childhood was in France, so my language is French.
//!   100.0 %  I was born in France, so I speak French.
//!   100.0 %  My family comes from France and my mother tongue is French.
//!   100.0 %  I spent my youth in France, and at home we speak French.
//!   100.0 %  We lived in France, where everybody speaks French.
//!
//! held out, other openings and closings of words that it knows:
//!   100.0 %  I spent my childhood in France, so we speak French.
//!   100.0 %  My mother was born in France and everybody at home speaks French.
//!   100.0 %  My family grew up in France, where my language is French.
//!    99.6 %  My youth was in France, and so at home I speak French.
//!
//! I grew up in France, so I speak French.
//!
//! picture   target/country_language.svg
//! ```
//!
//! The countries are all known; what is new in a held-out sentence is the way of saying it. The network must have learned to
//! carry the country over whatever stands between. `-- "My youth was in Peru, and so at home I speak"` completes other prompts
//! of the same words, `--device cpu|gpu`, `--steps N` and `--picture FILE` (the curve of the loss) are the others of its
//! arguments. How it is trained is in `training/country.rs`.

use clap::Parser;
use std::process::ExitCode;
use wgpu_rnn_examples::training::country;
use wgpu_rnn_examples::training::plot;
use wgpu_rnn_examples::training::run;

use wgpu_rnn_examples::training::country::{Model, Phrasing, Phrasings, Text};

const TABLE: &str = include_str!("data/country_language.csv");

/// Learn which language goes with which country, and complete sentences.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: run::Run,
    /// What to complete, in words of the sentences it learns from.
    #[arg(value_name = "PROMPT", default_values = ["I grew up in France, so I speak"])]
    prompts: Vec<String>,
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
    let (text, phrasings) = (Text::new(TABLE), Phrasings::default());
    for prompt in &args.prompts {
        text.ids(prompt)?; // before the training, not after it
    }
    let device = args.run.device.open()?;
    let mut model = Model::new(&device, &text)?;
    println!("device    {device}");
    println!(
        "text      {} countries, {} phrasings, {} words",
        text.countries.len(),
        phrasings.trained.len(),
        text.vocabulary()
    );

    let steps = args.run.steps(country::STEPS);
    let mut progress = run::Progress::new(steps, "nats a word");
    model.train(steps, |_, loss| progress.step(loss.into()))?;
    println!("loss      {}", progress.finish());

    let trained = model.shares(&phrasings.trained)?;
    let mean = trained.iter().sum::<f64>() / trained.len() as f64;
    println!("right     {:.1} % of the countries, in the phrasings it learned from", mean * 100.0);
    println!("          ({:.1} % would be by always saying the commonest language)", text.commonest() * 100.0);
    print_shares(&mut model, "held out, an opening and a closing that it never saw together", &phrasings.paired)?;
    print_shares(&mut model, "held out, other openings and closings of words that it knows", &phrasings.rephrased)?;

    println!();
    for prompt in &args.prompts {
        println!("{}", model.complete(prompt)?);
    }
    let picture = args.run.picture("country_language.svg");
    plot::write(&picture, &[progress.panel()])?;
    println!("\npicture   {}", picture.display());
    Ok(())
}

fn print_shares(model: &mut Model<'_>, title: &str, phrasings: &[Phrasing]) -> wgpu_rnn::Result<()> {
    println!("\n{title}:");
    for (phrasing, share) in phrasings.iter().zip(model.shares(phrasings)?) {
        println!("{:7.1} %  {}", share * 100.0, model.complete(&phrasing.prompt("France"))?);
    }
    Ok(())
}
