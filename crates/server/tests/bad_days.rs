//! Days on which the server is stopped, its disk is full, or it cannot start at all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::process::Command;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use server::config::Span;
use server::hook::Manners;
use world::{ADA, PATIENCE, World, in_time, next};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_webhook_has_not_taken_when_the_server_stops_it_gets_after_the_next_start_in_order() {
    // CALL-2, CALL-3
    let mut world = World::with(|config| config.limits.drain = Span(Duration::from_millis(300))).await;
    let delay = Duration::from_millis(700);
    let mut hook = world.hook(true, world.app, Manners { delay, ..Manners::default() }).await;
    let callback = format!("https://localhost:{}/calls", hook.address.port());
    world.settle(&callback).await;
    let token = world.token().await;
    let calls = [world.call_ada(&token, &callback).await, world.call_ada(&token, &callback).await];
    for _ in &calls {
        next(&mut hook).await;
    }
    // With calls up and most of it untold: the drain does not wait for the webhook.
    world = in_time("the server stops and starts", world.restart()).await;
    let mut told = Vec::new();
    while told.iter().filter(|(_, _, change)| change == "deleted").count() < calls.len() {
        let received = next(&mut hook).await;
        let notice = &received.body["value"][0];
        let state = notice["resourceData"]["state"].as_str().unwrap_or_default().to_owned();
        let call = notice["resourceData"]["id"].as_str().unwrap_or_default().to_owned();
        told.push((call, state, notice["changeType"].as_str().unwrap_or_default().to_owned()));
    }
    for call in &calls {
        // A notification that was under way when the process ended may come twice, but never out of its turn.
        let mut states: Vec<_> =
            told.iter().filter(|(of, ..)| of == call).map(|(_, state, _)| state.as_str()).collect();
        states.dedup();
        let mut wanted = vec!["establishing", "established", "terminating", "terminated"];
        wanted.retain(|state| states.contains(state));
        assert_eq!(states, wanted);
        assert_eq!(states.last(), Some(&"terminated"), "{told:?}");
    }
    assert!(told.iter().any(|(_, state, _)| state == "established"), "something was owed: {told:?}");
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_503_and_nobody_rings() {
    let world = World::start().await;
    let mut hook = world.hook(true, world.app, Manners::default()).await;
    let callback = format!("https://localhost:{}/calls", hook.address.port());
    world.settle(&callback).await;
    let token = world.token().await;
    let mut phones = world.server.bank.subscribe();
    let body = json!({"callbackUri": callback, "mediaConfig": {}, "targets": [{"identity": {"user": {"id": ADA}}}]});
    let refused = {
        // Another process that will not let go of the database: to the server, what a full disk is.
        let other = rusqlite::Connection::open(world.folder.path().join("convoke.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        world.ask(&token, Method::POST, "/calls", Some(body.clone())).await
    };
    let (status, headers, answer) = refused;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(answer["error"]["code"], "ServiceUnavailable");
    assert!(headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    // No trace of it: no call, no notification, no ringing.
    let (_, _, calls) = world.ask(&token, Method::GET, "/calls", None).await;
    assert_eq!(calls["value"], json!([]));
    let call = world.call_ada(&token, &callback).await;
    let first = next(&mut hook).await;
    assert_eq!(first.body["value"][0]["resourceData"]["id"], call.as_str());
    let rung = |event: &phone::PhoneEvent| matches!(event.what, phone::Happening::Incoming { .. });
    assert!(phones.wait_for(PATIENCE, rung).await.is_some());
    world.server.drain().await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("http.listen=127.0.0.1:{}", taken.local_addr().unwrap().port());
    let quiet = ["--set", "sip.udp_listen=127.0.0.1:0", "--set", "sip.tcp_listen=127.0.0.1:0"];
    let data = folder.path().join("data").display().to_string();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let inside = file.join("data").display().to_string();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[http]\nlisten_on = 'x'\n").unwrap();
    let table = [
        (vec!["--data", &data, "--set", &port], "cannot listen for HTTPS on 127.0.0.1"),
        (vec!["--data", &inside, "--set", "http.listen=127.0.0.1:0"], "cannot use the data directory"),
        (vec!["--config", bad.to_str().unwrap()], "there is no setting `http.listen_on`"),
        (vec!["--set", "notify.networks=10.0.0.0/99"], "is no network"),
        (vec!["--config", "/nowhere/convoke.toml"], "/nowhere/convoke.toml"),
    ];
    for (arguments, line) in table {
        let run =
            Command::new(env!("CARGO_BIN_EXE_convoke")).arg("serve").args(&arguments).args(quiet).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_ne!(run.status.code(), Some(0), "{arguments:?}");
        let errors: Vec<_> = said.lines().filter(|said| said.contains(line)).collect();
        assert_eq!(errors.len(), 1, "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && said.lines().count() <= 2, "{said}");
    }
}
