//! Servers on free ports, and sounds with their truths.

use serve::limits::Limits;
use serve::load::client::{Event, In, Out, begin, connect};
use serve::load::page;
use serve::load::voice::Voice;
use serve::protocol::{Format, Request, Response};
use serve::server::{Server, Setup, start};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use wgpu_rnn::Device;
use wgpu_rnn_examples::voice_activity::silero::Model;
use wgpu_rnn_examples::voice_activity::speech::read_wav;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/silero_vad")
}

pub fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::open(folder().join("weights.safetensors")).unwrap())
}

fn recording() -> &'static [f32] {
    static SAMPLES: OnceLock<Vec<f32>> = OnceLock::new();
    SAMPLES.get_or_init(|| read_wav(folder().join("speech_16k.wav")).unwrap())
}

/// The recording, from a sample on; it does not end with a whole frame.
pub fn voice(from: usize) -> Voice {
    voice_on(&Device::cpu(), from..recording().len() - 100)
}

/// A part of it, with the truth of a device.
pub fn voice_on(device: &Device, range: Range<usize>) -> Voice {
    let samples = recording()[range].to_vec();
    assert!(!samples.len().is_multiple_of(512));
    Voice::new(model(), device, samples).unwrap()
}

pub async fn server(limits: Limits) -> Server {
    server_with(limits, None).await
}

pub async fn server_with(limits: Limits, sessions: Option<&Path>) -> Server {
    server_on(Device::cpu(), limits, sessions).await
}

pub async fn server_on(device: Device, limits: Limits, sessions: Option<&Path>) -> Server {
    let (listen, sessions) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), sessions.map(Path::to_path_buf));
    start(Setup { listen, device, model: folder(), sessions, limits }).await.unwrap()
}

/// A client that may send sound.
pub async fn client(address: SocketAddr, format: Format) -> (Out, In) {
    let (mut out, mut from) = connect(address).await.unwrap();
    begin(&mut out, &mut from, format, None).await.unwrap();
    (out, from)
}

/// Sends samples in messages of `chunk` of them.
pub async fn speak(out: &mut Out, voice: &Voice, range: Range<usize>, format: Format, chunk: usize) {
    for start in range.clone().step_by(chunk) {
        out.sound(voice.bytes(start..(start + chunk).min(range.end), format)).await.unwrap();
    }
}

/// Sends a whole sound and takes all results: whether they are the library's.
pub async fn whole(address: SocketAddr, voice: &Voice, format: Format, chunk: usize) {
    let (mut out, mut from) = client(address, format).await;
    let sending = async {
        speak(&mut out, voice, 0..voice.samples.len(), format, chunk).await;
        out.request(&Request::End {}).await.unwrap();
    };
    let ((), (said, end)) = tokio::join!(sending, from.rest());
    assert_eq!(end, Event::Closed(1000, "end".into()));
    assert_eq!(said.last(), Some(&Response::End { frames: voice.probability.len() as u64 }));
    check(&said, voice);
}

/// Probabilities and stretches of speech are the library's, the same bits.
pub fn check(said: &[Response], voice: &Voice) {
    let heard = probabilities(said, 0);
    assert_eq!(bits(&heard), bits(&voice.probability));
    assert_eq!(stretches(said), voice.stretches);
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// One after the other, from frame `from` on.
pub fn probabilities(said: &[Response], from: u64) -> Vec<f32> {
    let mut all = Vec::new();
    for response in said {
        if let Response::Frames { first, probability } = response {
            assert_eq!(*first, from + all.len() as u64, "in order");
            all.extend_from_slice(probability);
        }
    }
    all
}

/// The stretches of speech that have ended; each has begun before.
pub fn stretches(said: &[Response]) -> Vec<Range<usize>> {
    let mut begun = Vec::new();
    let mut all = Vec::new();
    for response in said {
        match *response {
            Response::Speech { from, to: None, .. } => begun.push(from),
            Response::Speech { from, to: Some(to), .. } => {
                assert!(begun.contains(&from), "{from} has ended, and had not begun");
                all.push(from..to);
            }
            _ => {}
        }
    }
    all
}

/// Results until there are so many probabilities.
pub async fn take(from: &mut In, frames: usize, said: &mut Vec<Response>) {
    let mut count = 0;
    while count < frames {
        match from.next().await {
            Event::Said(response) => {
                if let Response::Frames { probability, .. } = &response {
                    count += probability.len();
                }
                said.push(response);
            }
            other => panic!("{count} of {frames} frames, then {other:?}"),
        }
    }
    assert_eq!(count, frames);
}

/// How a server says that it closes a connection: `error` with a reason, then a close frame of the same name.
pub fn refusal(said: &[Response], end: &Event) -> (u16, String, String) {
    let Some(Response::Error { reason, message }) = said.last() else { panic!("{said:?}, then {end:?}") };
    let Event::Closed(code, name) = end else { panic!("{said:?}, then {end:?}") };
    assert_eq!((*code, name.as_str()), (reason.code(), reason.name()));
    (*code, name.clone(), message.clone())
}

pub async fn metrics(address: SocketAddr) -> String {
    let (status, text) = page(address, "/metrics").await.unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

pub async fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = metrics(address).await;
    serve::load::metric(&text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// Waits until a metric has a value: what another connection has done shows some time later.
pub async fn until(address: SocketAddr, name: &str, value: f64) {
    for _ in 0..3000 {
        if metric(address, name).await == value {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is {}, not {value}", metric(address, name).await);
}
