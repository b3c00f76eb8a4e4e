//! Loads a server with clients in real time, checks every probability bit for bit against the library over the whole sound alone, and
//! prints how long frames take.
//!
//! `cargo build --release -p serve && target/release/serve-load --clients 20 --seconds 60`

use clap::{Parser, ValueEnum};
use serve::load::client::{Event, Failure, begin, connect};
use serve::load::drive::{Manner, Outcome, drive};
use serve::load::voice::Voice;
use serve::load::{metric, page};
use serve::protocol::{Format, Request, Response};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use wgpu_rnn::Device;
use wgpu_rnn_examples::voice_activity::silero::{FRAME, Model, RATE};
use wgpu_rnn_examples::voice_activity::speech::read_wav;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/silero_vad");
/// Sounds that differ; clients beyond them say what others say.
const VOICES: usize = 8;
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Drive clients in real time against a server, and check what it says.
#[derive(Parser)]
struct Args {
    /// The server's address; without, one is started on the CPU executor for as long as this runs.
    #[arg(long)]
    server: Option<SocketAddr>,
    #[arg(long, default_value_t = 20)]
    clients: usize,
    /// Seconds of sound; with --find-limit, of each try.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Samples of a message.
    #[arg(long, default_value_t = FRAME)]
    chunk: usize,
    #[arg(long, value_enum, default_value = "s16")]
    format: Samples,
    /// Raises the number of clients until the 99th percentile is not below --below any more.
    #[arg(long)]
    find_limit: bool,
    /// Milliseconds, for --find-limit.
    #[arg(long, default_value_t = 30.0)]
    below: f64,
    /// Sends this recording as fast as the server takes it, and prints its probabilities, one a line.
    #[arg(long)]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Samples {
    S16,
    F32,
}

/// A server that was started here.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        // Its sessions are in a folder that goes, too.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<bool, Failure> {
    let format = match args.format {
        Samples::S16 => Format::S16,
        Samples::F32 => Format::F32,
    };
    if args.chunk == 0 || args.clients == 0 {
        return Err("expected at least 1 sample of a message and 1 client, got 0".into());
    }
    let (_own, address) = match args.server {
        Some(address) => (None, address),
        None => {
            let (own, address) = spawn()?;
            (Some(own), address)
        }
    };
    let (model, device) = (Model::open(format!("{MODEL}/weights.safetensors"))?, Device::cpu());
    if let Some(file) = &args.file {
        return tell(address, &Voice::new(&model, &device, read_wav(file)?)?, format).await;
    }
    let wav = Path::new(MODEL).join("speech_16k.wav");
    let count = if args.find_limit { VOICES } else { args.clients.min(VOICES) };
    let voices: Vec<_> =
        Voice::several(&model, &device, &wav, args.seconds, count)?.into_iter().map(Arc::new).collect();
    println!(
        "server    {address}; {} s of speech in messages of {} samples ({:.0} ms), {} voices",
        args.seconds,
        args.chunk,
        args.chunk as f64 * 1e3 / f64::from(RATE),
        voices.len()
    );
    let load = Load { address, voices, format, chunk: args.chunk };
    if args.find_limit { load.find_limit(args.clients, args.below).await } else { load.once(args.clients).await }
}

/// The server beside this program, on a free port.
fn spawn() -> Result<(Own, SocketAddr), Failure> {
    let program = std::env::current_exe()?.with_file_name(format!("serve{}", std::env::consts::EXE_SUFFIX));
    let wrong = |error: std::io::Error| format!("{}: {error} (cargo build --release -p serve)", program.display());
    let mut child = Command::new(&program)
        .args(["--listen", "127.0.0.1:0", "--device", "cpu", "--clients", "100000", "--kept", "0", "--sessions"])
        .arg(std::env::temp_dir().join("serve-load-keeps-none"))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(wrong)?;
    let out = child.stdout.take().ok_or("a server without output")?;
    let own = Own(child);
    for line in BufReader::new(out).lines() {
        if let Some(address) = line?.strip_prefix("listening http://") {
            return Ok((own, address.parse()?));
        }
    }
    Err("the server has ended before it listened".into())
}

/// A recording's probabilities, one a line; whether they are the library's.
async fn tell(address: SocketAddr, voice: &Voice, format: Format) -> Result<bool, Failure> {
    let (mut out, mut from) = connect(address).await?;
    begin(&mut out, &mut from, format, None).await?;
    let speak = async {
        for start in (0..voice.samples.len()).step_by(FRAME) {
            out.sound(voice.bytes(start..(start + FRAME).min(voice.samples.len()), format)).await?;
        }
        out.request(&Request::End {}).await
    };
    let (spoken, (said, end)) = tokio::join!(speak, from.rest());
    spoken?;
    if !matches!(end, Event::Closed(1000, _)) {
        return Err(format!("expected close code 1000, got {end:?}").into());
    }
    let mut all = Vec::new();
    for response in said {
        match response {
            Response::Frames { probability, .. } => all.extend(probability),
            Response::Speech { start, end: Some(end), .. } => eprintln!("speech    {start:.2} s to {end:.2} s"),
            _ => {}
        }
    }
    let mut stdout = std::io::stdout().lock();
    all.iter().try_for_each(|p| writeln!(stdout, "{p}"))?;
    let same = all.len() == voice.probability.len()
        && all.iter().zip(&voice.probability).all(|(a, b)| a.to_bits() == b.to_bits());
    eprintln!("{} probabilities, {}", all.len(), if same { "as the library's" } else { "OTHERS than the library's" });
    Ok(same)
}

struct Load {
    address: SocketAddr,
    voices: Vec<Arc<Voice>>,
    format: Format,
    chunk: usize,
}

impl Load {
    async fn run(&self, clients: usize) -> Outcome {
        let ready = Arc::new(Barrier::new(clients));
        let manner = Manner { clients, format: self.format, chunk: self.chunk };
        drive(self.address, &self.voices, manner, ready).await
    }

    async fn server(&self, name: &str) -> Result<f64, Failure> {
        let (status, text) = page(self.address, "/metrics").await?;
        metric(&text, name).ok_or_else(|| format!("expected {name} in /metrics, got status {status}").into())
    }

    /// One number of clients, with all that can be said of it.
    async fn once(&self, clients: usize) -> Result<bool, Failure> {
        const MEMORY: &str = "process_resident_memory_bytes";
        let lost = self.server("serve_lost_frames_total").await?;
        let idle = self.server(MEMORY).await?;
        let mut seen = Vec::new();
        let outcome = {
            let mut run = std::pin::pin!(self.run(clients));
            loop {
                tokio::select! {
                    outcome = &mut run => break outcome,
                    () = tokio::time::sleep(LOOK) => seen.push(self.server(MEMORY).await?),
                }
            }
        };
        print(clients, &outcome);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        if let ([first, ..], Some(last)) = (&seen[..], seen.last()) {
            let most = seen.iter().copied().fold(0.0, f64::max);
            println!(
                "memory    of the server: {:.1} MiB before, {:.1} after {} s, {:.1} after half of the time, {:.1} at the end, at most {:.1}",
                mib(idle),
                mib(*first),
                LOOK.as_secs(),
                mib(seen[seen.len() / 2]),
                mib(*last),
                mib(most)
            );
        }
        println!("server    {} lost frames by its own count", self.server("serve_lost_frames_total").await? - lost);
        Ok(outcome.is_right())
    }

    /// More and more clients, then between the last two numbers.
    async fn find_limit(&self, from: usize, below: f64) -> Result<bool, Failure> {
        let holds = async |clients: usize| {
            let outcome = self.run(clients).await;
            print(clients, &outcome);
            outcome.is_right() && outcome.ms(0.99) < below
        };
        let (mut good, mut bad) = (0, from);
        while holds(bad).await {
            (good, bad) = (bad, 2 * bad);
        }
        while bad - good > (good / 20).max(1) {
            let middle = (good + bad) / 2;
            if holds(middle).await { good = middle } else { bad = middle }
        }
        println!("limit     {good} clients: the most with p99 below {below} ms and no frame lost ({bad} are too many)");
        Ok(good > 0)
    }
}

fn print(clients: usize, outcome: &Outcome) {
    let late = outcome.late.value_at_quantile(0.99) as f64 / 1e3;
    println!(
        "clients   {clients}: {} frames, {} dropped, {} wrong; frame to result p50 {:.1} ms, p95 {:.1}, p99 {:.1}, at most {:.1}; \
         sent late by p99 {late:.1} ms",
        outcome.frames,
        outcome.missing,
        outcome.wrong,
        outcome.ms(0.5),
        outcome.ms(0.95),
        outcome.ms(0.99),
        outcome.latency.max() as f64 / 1e3
    );
    outcome.failures.iter().take(3).for_each(|failure| println!("failure   {failure}"));
}
