//! Who does not behave is told why, and nobody else notices.

use super::harness::{client, metric, refusal, server, speak, until, voice, whole};
use serve::limits::Limits;
use serve::load::client::begin;
use serve::load::client::{Event, connect, over};
use serve::protocol::Format::{F32, S16};
use serve::protocol::{Request, Response};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use wgpu_rnn_examples::voice_activity::silero::RATE;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_their_connection_alone() {
    let server = server(Limits { message: 4096, ..Limits::default() }).await;
    let address = server.address;
    let speech = voice(0);
    // This one speaks on meanwhile.
    let (mut good, mut heard) = client(address, S16).await;
    speak(&mut good, &speech, 0..20_000, S16, 512).await;

    let start = |format, rate, session: Option<&str>| Request::Start { format, rate, session: session.map(Into::into) };
    let texts = [
        ("not JSON", 4000),
        ("{\"type\":\"start\"}", 4000),
        ("{\"type\":\"end\"}", 4000),
        ("[1, 2]", 4000),
        (&serde_json::to_string(&start(S16, 44_100, None)).unwrap(), 4001),
        (&serde_json::to_string(&start(S16, RATE, Some("0123456789abcdef0123456789abcdef"))).unwrap(), 4004),
        (&serde_json::to_string(&start(S16, RATE, Some("../../etc/passwd"))).unwrap(), 4004),
    ];
    for (text, code) in texts {
        let (mut out, mut from) = connect(address).await.unwrap();
        out.text(text).await.unwrap();
        let (said, end) = from.rest().await;
        assert_eq!(refusal(&said, &end).0, code, "{text}: {said:?}");
    }
    // Sound before it may come.
    let (mut out, mut from) = connect(address).await.unwrap();
    out.sound(vec![0; 64]).await.unwrap();
    let (said, end) = from.rest().await;
    assert_eq!(refusal(&said, &end).0, 4000);

    for (format, bytes, code) in [(S16, 1023, 4002), (F32, 2, 4002), (F32, 4097, 1009), (S16, 100_000, 1009)] {
        let (mut out, mut from) = client(address, format).await;
        // A message too long may not even get through.
        let _ = out.sound(vec![0; bytes]).await;
        let (said, end) = from.rest().await;
        assert_eq!(refusal(&said, &end).0, code, "{format:?}, {bytes} bytes");
    }
    for text in ["garbage", "{\"type\":\"start\",\"format\":\"s16\",\"rate\":16000}"] {
        let (mut out, mut from) = client(address, S16).await;
        out.text(text).await.unwrap();
        let (said, end) = from.rest().await;
        assert_eq!(refusal(&said, &end).0, 4000);
    }

    speak(&mut good, &speech, 20_000..speech.samples.len(), S16, 512).await;
    good.request(&Request::End {}).await.unwrap();
    let (said, end) = heard.rest().await;
    assert_eq!(end, Event::Closed(1000, "end".into()));
    super::harness::check(&said, &speech);
    for (reason, count) in
        [("bad_message", 7), ("wrong_rate", 1), ("unknown_session", 2), ("odd_bytes", 2), ("too_large", 2), ("end", 1)]
    {
        until(address, &format!("serve_closed_total{{reason=\"{reason}\"}}"), f64::from(count)).await;
    }
    assert_eq!(metric(address, "serve_kept_sessions").await, 0.0);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_frame_closes_its_client_alone() {
    let server = server(Limits::default()).await;
    let address = server.address;
    let speech = voice(3000);
    let others: Vec<_> =
        (0..4).map(|n| tokio::spawn(async move { whole(address, &voice(1000 * n), F32, 700).await })).collect();
    for (n, wrong) in [f32::NAN, f32::INFINITY, -1e30].into_iter().enumerate() {
        let (mut out, mut from) = client(address, F32).await;
        speak(&mut out, &speech, 0..10 * 512, F32, 512).await;
        let mut bytes = speech.bytes(5120..5632, F32);
        bytes[4 * 100..][..4].copy_from_slice(&wrong.to_le_bytes());
        out.sound(bytes).await.unwrap();
        let (said, end) = from.rest().await;
        let (code, name, message) = refusal(&said, &end);
        assert_eq!((code, name.as_str()), (4003, "poisoned"));
        assert!(message.contains("sample 5220"), "{message}");
        // What came before it was heard.
        assert_eq!(super::harness::probabilities(&said, 0), speech.probability[..10]);
        until(address, "serve_closed_total{reason=\"poisoned\"}", (n + 1) as f64).await;
    }
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(metric(address, "serve_lost_frames_total").await, 0.0);
    assert_eq!(metric(address, "serve_kept_sessions").await, 0.0, "there is nothing to go on with");
    server.stop().await.unwrap();
}

/// Connections of which nothing comes: before HTTP, before the first message, and in the middle of a sound.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_sockets_are_closed() {
    let server = server(Limits { idle: Duration::from_millis(300), ..Limits::default() }).await;
    let address = server.address;
    let silent = TcpStream::connect(address).await.unwrap();
    let mut halfway = TcpStream::connect(address).await.unwrap();
    halfway.write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgra").await.unwrap();
    let (_out, mut unsaid) = connect(address).await.unwrap();
    let (mut out, mut from) = client(address, S16).await;
    speak(&mut out, &voice(0), 0..512, S16, 512).await;
    for connection in [&mut unsaid, &mut from] {
        let (said, end) = connection.rest().await;
        assert_eq!(refusal(&said, &end).0, 4006);
    }
    until(address, "serve_streams", 0.0).await;
    until(address, "serve_kept_sessions", 1.0).await;
    whole(address, &voice(40_000), S16, 2000).await;
    drop((silent, halfway));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_vanish() {
    const CLIENTS: usize = 200;
    let server = server(Limits { kept: 50, ..Limits::default() }).await;
    let address = server.address;
    let speech = voice(0);
    let (mut good, mut heard) = client(address, S16).await;
    let mut there = Vec::new();
    for n in 0..CLIENTS {
        let stream = TcpStream::connect(address).await.unwrap();
        // Its end is then a reset, not even the end of a file.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        let (mut out, mut from) = over(stream, address).await.unwrap();
        begin(&mut out, &mut from, S16, None).await.unwrap();
        speak(&mut out, &speech, 0..(n % 7) * 300, S16, 300).await;
        there.push((out, from));
    }
    assert_eq!(metric(address, "serve_clients").await, (CLIENTS + 1) as f64);
    speak(&mut good, &speech, 0..30_000, S16, 512).await;
    drop(there);
    speak(&mut good, &speech, 30_000..speech.samples.len(), S16, 512).await;
    good.request(&Request::End {}).await.unwrap();
    super::harness::check(&heard.rest().await.0, &speech);
    until(address, "serve_clients", 0.0).await;
    until(address, "serve_streams", 0.0).await;
    assert_eq!(metric(address, "serve_closed_total{reason=\"gone\"}").await, CLIENTS as f64);
    assert_eq!(metric(address, "serve_kept_sessions").await, 50.0, "no more than the limit");
    assert_eq!(metric(address, "serve_lost_frames_total").await, 0.0);
    whole(address, &speech, S16, 512).await;
    server.stop().await.unwrap();
}

/// A client that sends and never reads: the server stops to read from it, holds no more than its places, and drops it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_dropped() {
    let limits = Limits { write: Duration::from_millis(500), send_buffer: Some(2048), frames: 16, ..Limits::default() };
    let server = server(limits).await;
    let address = server.address;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let (mut out, mut from) = over(socket.connect(address).await.unwrap(), address).await.unwrap();
    begin(&mut out, &mut from, S16, None).await.unwrap();
    let sending = tokio::spawn(async move {
        let second = vec![0; 32_000];
        while out.sound(second.clone()).await.is_ok() {}
    });
    let mut most = 0.0f64;
    while metric(address, "serve_closed_total{reason=\"slow_reader\"}").await == 0.0 {
        let there = ["serve_waiting_frames", "serve_unpulled_results"];
        for name in there {
            most = most.max(metric(address, name).await);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(most <= 16.0, "{most} frames of one client");
    assert!(metric(address, "serve_refused_total{what=\"full\"}").await > 0.0, "the pool has held it up");
    // What is on its way comes, in order; then it is over, with or without a close frame behind it.
    let (said, end) = from.rest().await;
    let heard = super::harness::probabilities(&said, 0);
    assert!(!heard.is_empty());
    assert!(matches!(&end, Event::Gone | Event::Closed(4007, _)), "{end:?}");
    assert!(!said.iter().any(|said| matches!(said, Response::End { .. })));
    sending.await.unwrap();
    until(address, "serve_clients", 0.0).await;
    assert_eq!(metric(address, "serve_lost_frames_total").await, 0.0);
    whole(address, &voice(30_000), S16, 512).await;
    server.stop().await.unwrap();
}
