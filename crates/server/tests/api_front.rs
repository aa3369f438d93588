//! What every request meets: ids, spelling of paths, bounds, compression, the envelope.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use axum::body::Body;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{Method, header};
use serde_json::json;
use server::admission::{Queue, RETRY_AFTER_MAX, STANDING_FOR};
use stage::{ANNA, BERT, STRANGER, Stage, call_to, identity};

const CALLS: &str = "/v1.0/communications/calls";

#[tokio::test]
async fn every_answer_carries_its_ids() {
    // Contract 1.6.
    let stage = Stage::new().await;
    let scenario = "5f7db483-33fa-2b37-897f-a9b135f46b8c";
    let request = Stage::request(stage.token(), Method::GET, CALLS)
        .header("client-request-id", "from-the-client")
        .header("scenario-id", scenario);
    let answer = stage.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("client-request-id"), "from-the-client");
    assert_eq!(answer.header("scenario-id"), scenario);
    assert_eq!(answer.header("odata-version"), "4.0");
    assert!(answer.header("content-type").starts_with("application/json;odata.metadata=minimal"));
    for name in ["request-id", "strict-transport-security", "x-ms-ags-diagnostic"] {
        assert!(!answer.header(name).is_empty(), "{name}");
    }
    assert_eq!(answer.json()["@odata.context"], "https://graph.example.net/v1.0/$metadata#communications/calls");

    let plain = stage.get(CALLS).await;
    assert_eq!(plain.header("client-request-id"), plain.header("request-id"));
    let failed = stage.get(&format!("{CALLS}/{STRANGER}")).await;
    assert_eq!(failed.error(), (404, "8522".to_owned()));
    assert_eq!(failed.message(), "Call not found.");
    assert_eq!(failed.json()["error"]["innerError"]["request-id"], failed.header("request-id"));
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_anything_is_done_and_nothing_else_is() {
    let stage = Stage::new().await;
    let call = stage.post(CALLS, call_to(&[identity(ANNA)])).await;
    assert_eq!(call.status, 201, "{}", call.json());
    let call = format!("{CALLS}/{}", call.json()["id"].as_str().unwrap());
    let live = stage.engine.live();

    let wait = Duration::from_secs(1);
    for now in [Duration::ZERO, STANDING_FOR] {
        stage.gate.waited(now, Queue::Workers, wait);
    }
    let invite = format!("{call}/microsoft.graph.invite").replace("/microsoft", "/participants/microsoft");
    for (path, token) in
        [(CALLS, stage.token()), ("/beta/app/calls", stage.token()), (invite.as_str(), "not looked at")]
    {
        let refused = stage.ask_with(token, Method::POST, path, Some(call_to(&[identity(BERT)]))).await;
        assert_eq!(refused.error(), (503, "ServiceUnavailable".to_owned()), "{path}");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=RETRY_AFTER_MAX.as_secs()).contains(&seconds), "{seconds}");
        assert!(!refused.header("request-id").is_empty());
    }
    assert_eq!(stage.engine.live(), live);

    // What is there is looked at, kept alive and ended as ever.
    assert_eq!(stage.get(&call).await.status, 200);
    assert_eq!(stage.post(&format!("{call}/keepAlive"), json!({})).await.status, 200);
    assert_eq!(stage.delete(&call).await.status, 204);

    stage.gate.waited(2 * STANDING_FOR, Queue::Workers, Duration::ZERO);
    assert_eq!(stage.post(CALLS, call_to(&[identity(BERT)])).await.status, 201);
}

#[tokio::test]
async fn wrong_paths_methods_and_features_are_told_apart() {
    let stage = Stage::new().await;
    let call = format!("/beta/app/calls/{STRANGER}");
    let table = [
        (Method::GET, "/beta/communications/nonsense".to_owned(), 404, "ResourceNotFound"),
        (Method::GET, "/nonsense".to_owned(), 404, "ResourceNotFound"),
        (Method::GET, "/communications/calls".to_owned(), 404, "ResourceNotFound"),
        (Method::PATCH, call.clone(), 405, "MethodNotAllowed"),
        (Method::PUT, "/beta/communications/calls".to_owned(), 405, "MethodNotAllowed"),
        (Method::GET, format!("{call}/keepAlive"), 405, "MethodNotAllowed"),
        // Known to Graph, not built.
        (Method::POST, format!("{call}/answer"), 405, "8520"),
        (Method::POST, format!("{call}/microsoft.graph.sendDtmfTones"), 405, "8520"),
        (Method::POST, format!("{call}/participants/{STRANGER}/mute"), 405, "8520"),
        (Method::POST, format!("{call}/participants/muteAll"), 405, "8520"),
        (Method::POST, format!("{call}/audioRoutingGroups"), 405, "8520"),
        // Known to SDKs only.
        (Method::POST, format!("{call}/startRecording"), 501, "NotImplemented"),
        (Method::POST, format!("{call}/nonsense"), 404, "ResourceNotFound"),
        (Method::GET, format!("{call}/nonsense"), 404, "ResourceNotFound"),
        (Method::GET, format!("{call}/answer"), 405, "MethodNotAllowed"),
        (Method::GET, "/v1.0/me/onlineMeetings".to_owned(), 400, "BadRequest"),
        (Method::GET, "/metrics".to_owned(), 404, "ResourceNotFound"),
    ];
    for (method, path, status, code) in table {
        let answer = stage.ask(method.clone(), &path, None).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{method} {path}");
    }
    assert_eq!(stage.ask(Method::PATCH, &call, None).await.header("allow"), "GET,HEAD,DELETE");
    assert_eq!(stage.get("/health/live").await.status, 200);
    assert_eq!(stage.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let stage = Stage::new().await;
    let send = async |kind: &str, coding: Option<&str>, body: Vec<u8>| {
        let mut request = Stage::request(stage.token(), Method::POST, CALLS).header(header::CONTENT_TYPE, kind);
        if let Some(coding) = coding {
            request = request.header(header::CONTENT_ENCODING, coding);
        }
        stage.send(request.body(Body::from(body)).unwrap()).await
    };
    let json = "application/json; charset=utf-8";
    let large = vec![b' '; 1024 * 1024 + 1];
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    assert_eq!(send(json, None, large).await.error(), (413, "RequestEntityTooLarge".to_owned()));
    assert_eq!(send(json, Some("gzip"), bomb).await.error(), (413, "RequestEntityTooLarge".to_owned()));
    assert_eq!(send(json, None, deep).await.error(), (400, "BadRequest".to_owned()));
    let cut = send(json, None, b"{\"targets\":".to_vec()).await;
    assert_eq!(cut.error(), (400, "BadRequest".to_owned()));
    // The Kiota handler resends a compressed body plainly when it reads this.
    assert!(cut.message().starts_with("Unable to read JSON request payload"), "{}", cut.message());
    assert_eq!(send(json, Some("gzip"), b"{}".to_vec()).await.error(), (400, "BadRequest".to_owned()));
    assert_eq!(send(json, Some("br"), b"{}".to_vec()).await.error(), (415, "UnsupportedMediaType".to_owned()));
    assert_eq!(send("text/plain", None, b"{}".to_vec()).await.error(), (415, "UnsupportedMediaType".to_owned()));
    assert_eq!(send(json, None, b"[]".to_vec()).await.error(), (400, "8523".to_owned()));
}

#[tokio::test]
async fn bodies_may_be_compressed_both_ways() {
    // Contract 1.6: the Go client compresses every body.
    let stage = Stage::new().await;
    let body = gzip(call_to(&[identity(ANNA)]).to_string().as_bytes());
    let request = Stage::request(stage.token(), Method::POST, CALLS)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip")
        .header(header::ACCEPT_ENCODING, "gzip, deflate");
    let answer = stage.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    GzDecoder::new(answer.bytes.as_slice()).read_to_string(&mut text).unwrap();
    let call: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(call["state"], "establishing");
}

#[tokio::test]
async fn plain_http_is_said_in_urls() {
    let mut stage = Stage::new().await;
    stage.router = stage.router.layer(axum::Extension(server::api::PlainHttp));
    let made = stage.post("/beta/communications/onlineMeetings", json!({})).await;
    assert!(made.header("location").starts_with("http://graph.example.net/beta/communications/onlineMeetings/"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
