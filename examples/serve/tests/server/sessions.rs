//! Sessions outlive connections, and servers.

use super::harness::{
    bits, client, metric, probabilities, refusal, server, server_with, speak, stretches, take, until, voice,
};
use serve::limits::Limits;
use serve::load::client::{Event, begin, connect};
use serve::protocol::Format::{F32, S16};
use serve::protocol::{Request, Response};

/// Three clients in the middle of a frame, and of a word; then another server; then the rest of their sounds.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = folder.path().join("sessions");
    // The bound is for clients that are gone, not for those whose server stops.
    let limits = Limits { kept: 1, ..Limits::default() };
    let first = server_with(limits, Some(&sessions)).await;
    let mut before = Vec::new();
    for (from, format, sent) in [(0, S16, 20_003), (5000, F32, 511), (9000, F32, 30_000)] {
        let speech = voice(from);
        let (mut out, mut heard) = connect(first.address).await.unwrap();
        let ready = begin(&mut out, &mut heard, format, None).await.unwrap();
        assert_eq!((ready.samples, ready.frames), (0, 0));
        speak(&mut out, &speech, 0..sent, format, 450).await;
        let mut said = Vec::new();
        take(&mut heard, sent / 512, &mut said).await;
        // A last message that the server may or may not have read when it stops.
        speak(&mut out, &speech, sent..sent + 1000, format, 1000).await;
        before.push((speech, format, ready.session, said, (out, heard)));
    }
    let saving = tokio::spawn(first.stop());
    let mut between = Vec::new();
    for (speech, format, session, mut said, (out, mut heard)) in before {
        let (rest, end) = heard.rest().await;
        drop(out);
        assert_eq!(end, Event::Closed(1012, "shutdown".into()));
        said.extend(rest);
        let Some(Response::Saved { session: saved, samples, frames }) = said.last().cloned() else {
            panic!("{said:?}")
        };
        assert_eq!((saved.as_str(), frames), (session.as_str(), samples / 512), "all that came whole has a result");
        assert_eq!(probabilities(&said, 0).len() as u64, frames);
        between.push((speech, format, session, said, samples));
    }
    let stopped = saving.await.unwrap().unwrap();
    assert_eq!((stopped.saved, stopped.unfinished), (3, 0));

    let second = server_with(limits, Some(&sessions)).await;
    assert_eq!((second.restored, &second.refused[..]), (3, &[][..]));
    for (speech, format, session, mut said, samples) in between {
        let (mut out, mut heard) = connect(second.address).await.unwrap();
        let ready = begin(&mut out, &mut heard, format, Some(session.clone())).await.unwrap();
        assert_eq!((&ready.session, ready.samples, ready.frames), (&session, samples, samples / 512));
        speak(&mut out, &speech, samples as usize..speech.samples.len(), format, 333).await;
        out.request(&Request::End {}).await.unwrap();
        said.extend(heard.rest().await.0);
        assert_eq!(bits(&probabilities(&said, 0)), bits(&speech.probability));
        assert_eq!(stretches(&said), speech.stretches);
    }
    assert_eq!(std::fs::read_dir(&sessions).unwrap().count(), 0, "who has come back has no file");
    assert_eq!(metric(second.address, "serve_lost_frames_total").await, 0.0);
    second.stop().await.unwrap();
}

/// Files that are damaged, of another model or of nobody are refused by name, and stay for whoever looks after them.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_sessions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = server_with(Limits::default(), Some(folder.path())).await;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let (mut out, mut heard) = connect(first.address).await.unwrap();
        tokens.push(begin(&mut out, &mut heard, S16, None).await.unwrap().session);
        speak(&mut out, &voice(0), 0..2000, S16, 500).await;
        take(&mut heard, 3, &mut Vec::new()).await;
    }
    until(first.address, "serve_kept_sessions", 5.0).await;
    assert_eq!(first.stop().await.unwrap().saved, 5);

    let file = |n: usize, end: &str| folder.path().join(format!("{}.{end}", tokens[n]));
    let mut bytes = std::fs::read(file(0, "stream")).unwrap();
    bytes[60] ^= 1;
    std::fs::write(file(0, "stream"), &bytes).unwrap();
    std::fs::write(file(1, "json"), "{}").unwrap();
    std::fs::remove_file(file(2, "stream")).unwrap();
    let around = std::fs::read_to_string(file(3, "json")).unwrap();
    std::fs::write(file(3, "json"), around.replace("\"frames\":3", "\"frames\":4")).unwrap();
    std::fs::write(folder.path().join("README"), "not ours").unwrap();

    let second = server_with(Limits::default(), Some(folder.path())).await;
    assert_eq!((second.restored, second.refused.len()), (1, 4), "{:?}", second.refused);
    let told = |n: usize, what: &str| second.refused.iter().any(|r| r.contains(&tokens[n]) && r.contains(what));
    assert!(
        told(0, "check") && told(1, "version") && told(2, "No such file") && told(3, "4 frames"),
        "{:?}",
        second.refused
    );
    assert_eq!(metric(second.address, "serve_refused_total{what=\"saved\"}").await, 4.0);
    let (mut out, mut heard) = connect(second.address).await.unwrap();
    let ready = begin(&mut out, &mut heard, S16, Some(tokens[4].clone())).await.unwrap();
    assert_eq!((ready.samples, ready.frames), (2000, 3));
    assert!(file(0, "json").exists() && !file(4, "json").exists());
    second.stop().await.unwrap();
}

/// A connection breaks, and another goes on; a session that a connection still has is taken over from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_elsewhere() {
    let server = server(Limits::default()).await;
    let speech = voice(0);
    let (mut out, mut heard) = connect(server.address).await.unwrap();
    let session = begin(&mut out, &mut heard, S16, None).await.unwrap().session;
    speak(&mut out, &speech, 0..10_000, S16, 512).await;
    let mut said = Vec::new();
    take(&mut heard, 10_000 / 512, &mut said).await;
    drop((out, heard));

    until(server.address, "serve_kept_sessions", 1.0).await;
    let (mut out, mut heard) = connect(server.address).await.unwrap();
    let ready = begin(&mut out, &mut heard, S16, Some(session.clone())).await.unwrap();
    assert_eq!(ready.samples, 10_000);
    // The other format, from here on.
    let (mut other, mut other_heard) = connect(server.address).await.unwrap();
    let ready = begin(&mut other, &mut other_heard, F32, Some(session.clone())).await.unwrap();
    assert_eq!(ready.samples, 10_000);
    let (replaced, end) = heard.rest().await;
    assert_eq!(refusal(&replaced, &end).0, 4005);

    speak(&mut other, &speech, 10_000..speech.samples.len(), F32, 512).await;
    other.request(&Request::End {}).await.unwrap();
    said.extend(other_heard.rest().await.0);
    super::harness::check(&said, &speech);

    // It has ended: nobody goes on with it.
    let (mut out, mut heard) = connect(server.address).await.unwrap();
    out.request(&Request::Start { format: S16, rate: 16_000, session: Some(session) }).await.unwrap();
    let (said, end) = heard.rest().await;
    assert_eq!(refusal(&said, &end).0, 4004);
    server.stop().await.unwrap();
}

/// Who closes properly, without `end`, may come back, too.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_kept_for_a_while() {
    let limits = Limits { keep: std::time::Duration::from_millis(200), ..Limits::default() };
    let server = server(limits).await;
    let (mut out, _heard) = client(server.address, S16).await;
    out.close().await.unwrap();
    until(server.address, "serve_closed_total{reason=\"gone\"}", 1.0).await;
    until(server.address, "serve_kept_sessions", 0.0).await;
    assert_eq!(server.stop().await.unwrap().saved, 0);
}
