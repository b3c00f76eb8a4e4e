//! Who behaves gets what the library says.

use super::harness::{metric, metrics, server, server_on, until, voice, voice_on, whole};
use serve::limits::Limits;
use serve::load::drive::{Manner, drive};
use serve::load::page;
use serve::load::voice::Voice;
use serve::protocol::Format::{F32, S16};
use std::sync::Arc;
use tokio::sync::Barrier;

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_the_librarys_probabilities() {
    let server = server(Limits::default()).await;
    let address = server.address;
    // Messages of less than a frame, of one, of many, and of a single sample; both formats, different places of the recording.
    let manners =
        [(0, S16, 512), (1000, F32, 160), (0, S16, 333), (7777, S16, 6000), (20_000, F32, 5000), (58_000, F32, 1)];
    let clients = manners
        .map(|(from, format, chunk)| tokio::spawn(async move { whole(address, &voice(from), format, chunk).await }));
    for client in clients {
        client.await.unwrap();
    }
    let frames: usize = manners.iter().map(|(from, ..)| voice(*from).probability.len()).sum();
    assert_eq!(metric(address, "serve_frames_total").await, frames as f64);
    assert_eq!(metric(address, "serve_lost_frames_total").await, 0.0);
    until(address, "serve_clients", 0.0).await;
    until(address, "serve_closed_total{reason=\"end\"}", manners.len() as f64).await;
    assert_eq!(metric(address, "serve_kept_sessions").await, 0.0, "ended sessions are not kept");
    server.stop().await.unwrap();
}

/// On whatever adapter there is (lavapipe will do), as the library alone there.
#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_gives_its_own_bits() {
    let gpu = wgpu_rnn::Device::gpu().expect("a GPU adapter (lavapipe will do)");
    let server = server_on(gpu.clone(), Limits::default(), None).await;
    let clients: Vec<_> = [(10_000, 512), (12_000, 2000), (14_000, 333)]
        .into_iter()
        .map(|(from, chunk)| {
            let (gpu, address) = (gpu.clone(), server.address);
            tokio::spawn(async move { whole(address, &voice_on(&gpu, from..from + 10_100), F32, chunk).await })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_nothing() {
    let server = server(Limits::default()).await;
    for samples in [0, 1, 511, 512, 513, 3 * 512] {
        let silence = Voice::new(super::harness::model(), &wgpu_rnn::Device::cpu(), vec![0.0; samples]).unwrap();
        assert_eq!(silence.probability.len(), samples.div_ceil(512));
        whole(server.address, &silence, F32, 100).await;
    }
    server.stop().await.unwrap();
}

/// What `serve-load` does, with a second of sound.
#[tokio::test(flavor = "multi_thread")]
async fn the_load_counts_right() {
    let server = server(Limits { clients: 5, ..Limits::default() }).await;
    let wav = super::harness::folder().join("speech_16k.wav");
    let voices = Voice::several(super::harness::model(), &wgpu_rnn::Device::cpu(), &wav, 1.0, 2).unwrap();
    let mut voices: Vec<_> = voices.into_iter().map(Arc::new).collect();
    let manner = Manner { clients: 5, format: S16, chunk: 320 };
    let outcome = drive(server.address, &voices, manner, Arc::new(Barrier::new(5))).await;
    assert!(outcome.is_right(), "{:?}", outcome.failures);
    assert_eq!((outcome.frames, outcome.latency.len()), (5 * 31, 5 * 31));

    // A wrong truth is told from the right one, and a client too many is a failure.
    let mut wrong = Voice::several(super::harness::model(), &wgpu_rnn::Device::cpu(), &wav, 1.0, 1).unwrap().remove(0);
    wrong.probability[7] = f32::from_bits(wrong.probability[7].to_bits() ^ 1);
    voices[1] = Arc::new(wrong);
    let manner = Manner { clients: 6, ..manner };
    until(server.address, "serve_clients", 0.0).await;
    let outcome = drive(server.address, &voices, manner, Arc::new(Barrier::new(6))).await;
    assert!(outcome.wrong >= 2 && outcome.missing == 0 && !outcome.is_right());
    assert!(outcome.failures.len() == 1 && outcome.failures[0].contains("503"), "{:?}", outcome.failures);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_there() {
    let server = server(Limits::default()).await;
    assert_eq!(page(server.address, "/healthz").await.unwrap(), (200, "ok\n".into()));
    for (path, holds) in
        [("/", "<canvas"), ("/page.js", "WebSocket"), ("/page.css", "body"), ("/microphone.js", "process(")]
    {
        let (status, text) = page(server.address, path).await.unwrap();
        assert!(status == 200 && text.contains(holds), "{path}");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path} needs nobody else");
    }
    assert_eq!(page(server.address, "/nothing").await.unwrap().0, 404);
    // Without an upgrade it is no stream.
    assert_eq!(page(server.address, "/stream").await.unwrap().0, 400);
    server.stop().await.unwrap();
}

/// Every line of /metrics is a comment, or a name, maybe labels, and a number; every sample belongs to a type.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text() {
    let server = server(Limits::default()).await;
    whole(server.address, &voice(50_000), S16, 512).await;
    let text = metrics(server.address).await;
    let (mut types, mut samples) = (Vec::new(), 0);
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let (kind, rest) = comment.split_once(' ').unwrap();
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            let (name, value) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !value.is_empty(), "{line}");
            if kind == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&value), "{line}");
                types.push(name.to_string());
            }
            continue;
        }
        samples += 1;
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = name.split_once('{').map_or((name, None), |(name, rest)| (name, rest.strip_suffix('}')));
        assert!(is_name(name) && types.iter().any(|of| name.starts_with(of.as_str())), "{line}");
        for label in labels.into_iter().flat_map(|labels| labels.split(',')) {
            let (key, value) = label.split_once('=').unwrap();
            assert!(is_name(key) && value.starts_with('"') && value.ends_with('"'), "{line}");
        }
    }
    assert!(text.ends_with("# EOF\n") && samples > 60, "{text}");
    for name in [
        "serve_streams",
        "serve_waiting_frames",
        "serve_batch_streams_count",
        "serve_frame_to_result_seconds_count",
        "serve_frame_to_result_recent_seconds{part=\"0.5\"}",
        "serve_frame_to_result_recent_seconds{part=\"0.99\"}",
        "serve_refused_total{what=\"full\"}",
    ] {
        assert!(serve::load::metric(&text, name).is_some(), "no {name} in\n{text}");
    }
    let count = serve::load::metric(&text, "serve_frame_to_result_seconds_count");
    assert_eq!(count, serve::load::metric(&text, "serve_frames_total"));
    server.stop().await.unwrap();
}
