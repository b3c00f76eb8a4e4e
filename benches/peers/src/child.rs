//! A contender in a process of its own, stopped whenever it is not its turn: threads that go on in the background after a run
//! (burn's server has some) would take time from whoever runs next. The same program, started with a hidden subcommand, is the child;
//! lines over pipes: the child says `ready`, then answers every `run` with the run's seconds.

use crate::SAME;
use crate::case::{self, Case, Data};
use crate::contenders::{self, Contender};
use anyhow::{Context, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};
use std::io::{BufRead, BufReader, Lines, Write, stdin, stdout};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use wgpu_rnn::Device;

/// Who runs a case.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Who {
    OursGpu,
    OursCpu,
    BurnWgpu,
    BurnFlex,
    Candle,
}

impl Who {
    /// As the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OursGpu | Self::OursCpu => "wgpu-rnn",
            Self::BurnWgpu => "burn-wgpu 0.22.1",
            Self::BurnFlex => "burn-flex 0.22.1",
            Self::Candle => "candle 0.9",
        }
    }

    fn prepare(self, case: &Case, data: &Data) -> Result<Contender> {
        match self {
            Self::OursGpu => contenders::ours(&Device::gpu()?, case, data),
            Self::OursCpu => contenders::ours(&Device::cpu(), case, data),
            Self::BurnWgpu => contenders::burn(true, case, data),
            Self::BurnFlex => contenders::burn(false, case, data),
            Self::Candle => contenders::candle(case, data),
        }
    }
}

/// What the program does as a child.
#[derive(Subcommand)]
pub enum ChildCommand {
    /// Runs one case of one contender whenever it is told to
    #[command(hide = true)]
    Contend {
        /// Which of [`case::all`]
        case: usize,
        who: Who,
    },
}

impl ChildCommand {
    /// The child: warms up (burn tunes its kernels per shape at first), checks the result, then runs whenever it is told to.
    pub fn serve(&self) -> Result<()> {
        let Self::Contend { case, who } = self;
        let case = case::all()[*case];
        let data = Data::new(&case)?;
        let mut contender = who.prepare(&case, &data)?;
        let mut outcome = contender.run()?;
        for _ in 0..2 {
            outcome = contender.run()?;
        }
        let error = data.error(&case, &outcome, contender.batch_first);
        ensure!(error <= SAME, "{case}: {} is off by {error:.1e} of the largest value", who.name());
        say("ready")?;
        for line in stdin().lines() {
            ensure!(line? == "run", "the parent says `run`");
            let start = Instant::now();
            contender.run()?;
            say(&format!("{:e}", start.elapsed().as_secs_f64()))?;
        }
        Ok(())
    }
}

/// Tells the parent; whatever a peer prints by itself has no such beginning.
const SAYS: &str = "contender: ";

fn say(what: &str) -> Result<()> {
    println!("{SAYS}{what}");
    Ok(stdout().flush()?)
}

/// The parent's end. Between runs the child is stopped.
pub struct Contestant {
    /// Which it is.
    pub who: Who,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Contestant {
    /// Starts it and waits until it is warm.
    pub fn start(who: Who, case: usize) -> Result<Self> {
        let name = who.to_possible_value().expect("no variant is skipped");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["contend", &case.to_string(), name.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("the child's input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("the child's output is a pipe")?).lines();
        let mut contestant = Self { who, child, orders, answers };
        contestant.answer()?;
        contestant.signal(libc::SIGSTOP)?;
        Ok(contestant)
    }

    /// One run, in seconds by the child's clock: from the order to the result in its memory.
    pub fn run(&mut self) -> Result<f64> {
        self.signal(libc::SIGCONT)?;
        writeln!(self.orders, "run")?;
        let seconds = self.answer()?.parse()?;
        self.signal(libc::SIGSTOP)?;
        Ok(seconds)
    }

    fn answer(&mut self) -> Result<String> {
        for line in self.answers.by_ref() {
            let line = line?;
            match line.strip_prefix(SAYS) {
                Some(said) => return Ok(said.into()),
                None => eprintln!("{}: {line}", self.who.name()),
            }
        }
        bail!("{} ended", self.who.name())
    }

    fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: no memory is involved; the child has not been waited for, so the id is still its own.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        ensure!(sent == 0, "{}: {}", self.who.name(), std::io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // One that has ended by itself is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
