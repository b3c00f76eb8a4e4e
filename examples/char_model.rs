//! A character model of "The Devil's Dictionary": an LSTM over characters (embedding, cross entropy, Adam with clipping), trained by
//! truncated backpropagation: the state goes on from window to window, the gradient does not. It says how many bits a character
//! of text that it has not seen takes, and writes a sample.
//!
//! ```text
//! $ cargo run --release --example char_model
//! device    CPU executor, 2 threads
//! text      383656 characters, the last 38365 held out
//! loss      1.998 bits a character after 6000 steps, 1195.1 s (a busy machine: 6 minutes of CPU time)
//! held out  2.332 bits a character
//!           (4.469 by the frequencies of the characters alone)
//!
//! LOVE, n.  Rebidity as a charries of an instruction of the absolitic landmins.  The enries in more may proved and son, and many been still and the mulls of a palicial handing observen the disistance of the fashion to the but
//! and original confending that we never signify who being is a put of times which a pretained his fact infliet of human earth between
//! the serviced and the says in the tood to despective it
//!
//! picture   target/char_model.svg
//! ```
//!
//! `--device cpu|gpu`, `--steps N`, `--picture FILE` (the curve of the loss), `--prompt TEXT`, `--length N`, `--temperature X` and
//! `--seed N` are its arguments. How it is trained is in `training/char_model.rs`.

use clap::Parser;
use std::process::ExitCode;
use wgpu_rnn_examples::training::char_model;
use wgpu_rnn_examples::training::plot;
use wgpu_rnn_examples::training::run;

use wgpu_rnn_examples::training::char_model::{HIDDEN, Model, Text};

const BOOK: &str = include_str!("data/devils_dictionary.txt");

/// Learn to write "The Devil's Dictionary", character by character.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: run::Run,
    /// What the sample starts with.
    #[arg(long, default_value = "\nLOVE, n.  ")]
    prompt: String,
    /// Characters of the sample.
    #[arg(long, value_name = "N", default_value_t = 400)]
    length: usize,
    /// Below 1 the likely becomes likelier.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Another number, another sample.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
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
    let text = Text::new(BOOK);
    text.ids(&args.prompt)?; // before the training, not after it
    let device = args.run.device.open()?;
    let mut model = Model::new(&device, &text, HIDDEN)?;
    let (training, held_out) = text.split();
    println!("device    {device}");
    println!("text      {} characters, the last {} held out", training.len() + held_out.len(), held_out.len());

    let steps = args.run.steps(char_model::STEPS);
    let mut progress = run::Progress::new(steps, "bits a character");
    model.train(steps, |_, loss| progress.step(loss))?;
    println!("loss      {}", progress.finish());
    println!("held out  {:.3} bits a character", model.held_out_bits()?);
    println!("          ({:.3} by the frequencies of the characters alone)", text.bits_of_frequencies());

    println!("\n{}", model.sample(&args.prompt, args.length, args.temperature, args.seed)?);
    let picture = args.run.picture("char_model.svg");
    plot::write(&picture, &[progress.panel()])?;
    println!("\npicture   {}", picture.display());
    Ok(())
}
