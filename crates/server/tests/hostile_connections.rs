//! What people write to an HTTP port who mean no good: slowly, without end, or ambiguously.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::time::{Duration, Instant};

use server::config::Span;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use world::{Raw, World, in_time};

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n";

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default()
}

/// How many answers there are in what came.
fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_dawdle_are_hung_up_on() {
    let world = World::with(|config| config.http.header_timeout = Span(Duration::from_millis(500))).await;
    let began = Instant::now();
    // Nothing, the beginning of HTTP/2, half a line, half the headers, and nothing after an answer.
    for text in ["", "PRI * HT", "GET /hea", LIVE, &format!("{LIVE}\r\n")] {
        let rest = world.plain().await.ends_with(text).await;
        let whole = text.ends_with("\r\n\r\n");
        assert!(!rest.contains("200 OK") || whole, "{text}: {rest}");
    }
    // And on the TLS listener: nothing at all, or what is no TLS.
    let tls = Raw(TcpStream::connect(world.server.https).await.unwrap());
    assert_eq!(tls.rest().await, "");
    let tls = Raw(TcpStream::connect(world.server.https).await.unwrap());
    tls.ends_with("\u{16}\u{3}").await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_a_tls_handshake_is_hung_up_on_too() {
    let world = World::with(|config| config.http.header_timeout = Span(Duration::from_millis(500))).await;
    for protocols in [&[][..], &[b"http/1.1".as_slice()], &[b"h2".as_slice()]] {
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(world.tls(protocols)));
        let stream = TcpStream::connect(world.server.https).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let mut all = Vec::new();
        let _ = in_time("the server hangs up", stream.read_to_end(&mut all)).await;
    }
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded_in_size_and_number() {
    let world = World::start().await;
    let long = format!("{LIVE}X-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let endless = format!("{LIVE}X-Endless: {}", "x".repeat(1024 * 1024));
    let many = format!("{LIVE}{}\r\n", "X-Many: x\r\n".repeat(200));
    for text in [&long, &endless, &many] {
        let answer = world.plain().await.ends_with(text).await;
        assert!(matches!(status(&answer), 431 | 0), "{answer}");
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "a".repeat(20_000));
    assert_eq!(status(&world.plain().await.ends_with(&path).await), 404);
    // A token as long as any that is looked at still fits.
    let token = format!(
        "GET /v1.0/communications/calls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        "a".repeat(16 * 1024)
    );
    assert_eq!(status(&world.plain().await.ends_with(&token).await), 401);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_has_a_share_of_the_connections() {
    let world = World::with(|config| config.limits.http_connections_per_source = 3).await;
    let ask = async |raw: &mut Raw| {
        raw.write(&format!("{LIVE}\r\n")).await;
        let mut answer = [0; 12];
        in_time("an answer", raw.0.read_exact(&mut answer)).await.is_ok_and(|_| answer.ends_with(b"200"))
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = world.plain().await;
        assert!(ask(&mut raw).await);
        held.push(raw);
    }
    assert!(!ask(&mut world.plain().await).await, "one too many");
    // On the other listener too.
    let tls = Raw(TcpStream::connect(world.server.https).await.unwrap());
    assert_eq!(tls.rest().await, "");
    // Whoever leaves makes room; the server learns of it in its own time.
    drop(held.pop());
    in_time("there is room again", async { while !ask(&mut world.plain().await).await {} }).await;
    drop(held);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_not_bounded_like_one_client() {
    let world = World::with(|config| {
        config.limits.http_connections_per_source = 1;
        config.http.proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut raw = world.plain().await;
        raw.write(&format!("{LIVE}\r\n")).await;
        let mut answer = [0; 12];
        in_time("an answer", raw.0.read_exact(&mut answer)).await.unwrap();
        held.push(raw);
    }
    drop(held);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_request_ends_is_never_ambiguous() {
    // RFC 9112 §6.1, §6.3, §11.2: a proxy that sees it differently would take a stranger's request for ours.
    let world = World::start().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let refused = [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: +3",
        "Content-Length: -1",
        "Content-Length: 0x3",
        "Content-Length: 99999999999999999999",
        "Content-Length : 3",
        " Content-Length: 3",
        "X: y\r\n folded",
        "X: a\rb",
        "X: a\0b",
    ];
    for header in refused {
        let text = format!("POST /a/oauth2/v2.0/token HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\nabc{hidden}");
        let answer = world.plain().await.ends_with(&text).await;
        assert_eq!((status(&answer), answers(&answer)), (400, 1), "{header}: {answer}");
    }
    // Both: chunks count, and nothing on that connection is believed any more.
    let length = hidden.len() + 5;
    for both in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
    ] {
        let text = format!("POST /a/oauth2/v2.0/token HTTP/1.1\r\nHost: localhost\r\n{both}\r\n\r\n0\r\n\r\n{hidden}");
        let answer = world.plain().await.ends_with(&text).await;
        assert_eq!((status(&answer), answers(&answer)), (400, 1), "{both}: {answer}");
    }
    let old = format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    assert_eq!(answers(&world.plain().await.ends_with(&old).await), 1);
    // Chunks without a size, or with one that no number holds.
    for chunk in ["x\r\n", "-1\r\n", "fffffffffffffffff\r\n", "3\r\nabcd\r\n0\r\n\r\n"] {
        let head = "POST /a/oauth2/v2.0/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = world.plain().await.ends_with(&format!("{head}{chunk}{hidden}")).await;
        assert!(answers(&answer) <= 1 && !answer.contains("200 OK"), "{chunk}: {answer}");
    }
    // And the server is as it was.
    let live = format!("{LIVE}Connection: close\r\n\r\n");
    assert_eq!(status(&world.plain().await.ends_with(&live).await), 200);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_targets_and_methods_are_answered_in_the_envelope() {
    let world = World::with(|config| config.http.header_timeout = Span(Duration::from_secs(1))).await;
    let table = [
        ("OPTIONS * HTTP/1.1", 404),
        ("CONNECT evil.example:443 HTTP/1.1", 404),
        ("TRACE /v1.0/communications/calls HTTP/1.1", 405),
        ("get /health/live HTTP/1.1", 405),
        ("GET http://evil.example/v1.0/communications/calls HTTP/1.1", 401),
        ("GET /v1.0/communications/calls/%00 HTTP/1.1", 401),
        ("GET //health/live HTTP/1.1", 404),
        ("GET /health/./live HTTP/1.1", 404),
        ("GET /v1.0/../health/live HTTP/1.1", 404),
        ("GET /v1.0/%2e%2e/health/live HTTP/1.1", 404),
    ];
    for (line, wanted) in table {
        let text = format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = world.plain().await.ends_with(&text).await;
        assert_eq!(status(&answer), wanted, "{line}: {answer}");
        assert!(answer.contains(r#""innerError""#), "{line}: {answer}");
    }
    for twice in ["Host: other.example", "Authorization: Bearer a\r\nAuthorization: Bearer b"] {
        let text = format!("{LIVE}{twice}\r\nConnection: close\r\n\r\n");
        let answer = world.plain().await.ends_with(&text).await;
        assert_eq!(status(&answer), 400, "{answer}");
        assert!(answer.contains("more than once"), "{answer}");
    }
    // No bytes of a request are needed for it to be wrong.
    for nonsense in ["\r\n\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "{}\r\n\r\n"] {
        let answer = world.plain().await.ends_with(nonsense).await;
        assert!(matches!(status(&answer), 400 | 0), "{nonsense:?}: {answer}");
    }
    world.server.drain().await;
}
