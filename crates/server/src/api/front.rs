//! What happens to every request before it is matched, and to every answer after: ids, bounds, compression, envelope.

use std::io::{Read as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use control::Surface;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::error::ApiError;
use super::exchange::{Checked, Exchange, Received};
use super::graph_path::GraphPath;
use super::service::Service;
use crate::admission;
use crate::auth::wall_clock;
use crate::limits::{BODY_MAX, DRAINED_MAX, FORM_MAX};

/// Announcing a body is free; room for it grows as it comes.
const RESERVED_MAX: usize = 16 * 1024;

/// Shorter answers are not worth compressing.
const COMPRESSED_FROM: usize = 1024;

#[derive(Clone)]
struct Front {
    graph: Router,
    site: Router,
    service: Service,
}

/// Both routers behind one door.
pub(super) fn router(graph: Router, site: Router, service: Service) -> Router {
    Router::new().fallback(front).with_state(Front { graph, site, service })
}

async fn front(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let path = GraphPath::parse(parts.uri.path());
    let surface = path.as_ref().map_or(Surface::V1, |path| path.surface);
    let exchange = Exchange::new(&parts, surface, &front.service.settings);
    let compressed = accepts_gzip(&parts.headers);

    // Before the body is read, the token checked, or anything else paid for: refusing must be cheap.
    let busy = path.as_ref().filter(|path| is_new_work(&parts.method, &path.path)).and_then(|_| {
        match front.service.gate.admit() {
            admission::Answer::Welcome => None,
            admission::Answer::ComeBackIn(wait) => Some(ApiError::Busy(wait)),
        }
    });
    if let Some(busy) = busy {
        return answered(busy.dress(&exchange), &exchange, path.is_some(), began);
    }
    // Room is given only to those whose body will be read.
    let (router, at, room) = match &path {
        Some(graph) => {
            let token = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
            let caller = front.service.tokens.check(token, wall_clock());
            let room = if caller.is_ok() { BODY_MAX } else { 0 };
            parts.extensions.insert(Checked(caller));
            (front.graph, graph.path.clone(), room)
        }
        None => (front.site, parts.uri.path().to_lowercase(), FORM_MAX),
    };
    let received = receive(&parts.headers, body, room);
    let received = tokio::time::timeout(front.service.settings.body_within, received).await;
    let received = Received(received.unwrap_or(Err(ApiError::TooSlow)));
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let matched = Uri::try_from(format!("{at}{query}"));
    let response = match (ambiguous(&parts.headers), matched) {
        (Some(name), _) => ApiError::Ambiguous(name).dress(&exchange),
        (None, Ok(uri)) => {
            parts.uri = uri;
            parts.extensions.insert(exchange.clone());
            parts.extensions.insert(received);
            let answer = router.oneshot(Request::from_parts(parts, Body::empty()));
            // One request may fail; the connection's others go on.
            AssertUnwindSafe(answer).catch_unwind().await.map_or_else(
                |_| ApiError::Internal.dress(&exchange),
                |answer| answer.unwrap_or_else(|never| match never {}),
            )
        }
        (None, Err(_)) => ApiError::NoRoute.dress(&exchange),
    };
    let response = answered(enveloped(response, &exchange), &exchange, path.is_some(), began);
    if compressed { compress(response).await } else { response }
}

/// A header that is given twice and must not be: which of the two counts, a proxy in front may see differently.
fn ambiguous(headers: &HeaderMap) -> Option<&'static str> {
    const ONCE: [&str; 4] = ["Authorization", "Content-Encoding", "Content-Type", "Host"];
    ONCE.into_iter().find(|name| headers.get_all(*name).iter().nth(1).is_some())
}

/// What rings phones: it is refused while there is too much to do. Whatever ends work, looks at it or keeps it alive is
/// not.
fn is_new_work(method: &Method, path: &str) -> bool {
    *method == Method::POST && (path == "/communications/calls" || path.ends_with("/participants/invite"))
}

/// The last of every answer: its headers, and its place in the figures.
fn answered(mut response: Response, exchange: &Exchange, graph: bool, began: Instant) -> Response {
    stamp(&mut response, exchange, graph);
    let class = if graph { "graph" } else { "site" };
    let status = response.status().as_u16();
    metrics::counter!("convoke_http_requests_total", "class" => class, "status" => status.to_string()).increment(1);
    metrics::histogram!("convoke_http_request_seconds", "class" => class).record(began.elapsed().as_secs_f64());
    tracing::debug!(status, request = exchange.request_id, "answered");
    response
}

/// Reads a body to its end, inflated, within bounds. Of one that there is no room for, nothing is kept.
async fn receive(headers: &HeaderMap, body: Body, room: usize) -> Result<Bytes, ApiError> {
    let bytes = read(headers, body, room).await?;
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    match encoding {
        None | Some("") => Ok(bytes),
        Some(name) if name.eq_ignore_ascii_case("identity") => Ok(bytes),
        Some(name) if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => inflate(&bytes, room),
        Some(_) => Err(ApiError::UnsupportedMedia("The Content-Encoding is not supported: use gzip or none.")),
    }
}

async fn read(headers: &HeaderMap, mut body: Body, room: usize) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > DRAINED_MAX) {
        return Err(ApiError::TooLarge);
    }
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or_default().min(room).min(RESERVED_MAX));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::Unreadable("Unable to read the request body.".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= room {
            bytes.extend_from_slice(&data);
        } else if length > DRAINED_MAX {
            break;
        }
    }
    if length > room { Err(ApiError::TooLarge) } else { Ok(bytes.freeze()) }
}

fn inflate(bytes: &[u8], room: usize) -> Result<Bytes, ApiError> {
    let mut inflated = Vec::new();
    let mut reader = GzDecoder::new(bytes).take(room as u64 + 1);
    reader
        .read_to_end(&mut inflated)
        .map_err(|_| ApiError::Unreadable("The request body is not the gzip it claims to be.".to_owned()))?;
    if inflated.len() > room { Err(ApiError::TooLarge) } else { Ok(inflated.into()) }
}

/// Whatever goes wrong, in our own handlers or in the framework, is told in the envelope.
fn enveloped(mut response: Response, exchange: &Exchange) -> Response {
    let allow = response.headers_mut().remove(header::ALLOW);
    let error = response.extensions_mut().remove::<ApiError>().or_else(|| unlabelled(&response));
    let mut response = error.map_or(response, |error| error.dress(exchange));
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// An error of the framework's: a status with a plain text.
fn unlabelled(response: &Response) -> Option<ApiError> {
    let status = response.status();
    let told = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if told || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => ApiError::NoRoute,
        StatusCode::METHOD_NOT_ALLOWED => ApiError::WrongMethod,
        StatusCode::SERVICE_UNAVAILABLE => ApiError::Unavailable,
        status if status.is_client_error() => ApiError::Unreadable("The request could not be understood.".to_owned()),
        _ => ApiError::Internal,
    })
}

/// The headers of contract 1.6.
fn stamp(response: &mut Response, exchange: &Exchange, graph: bool) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().entry(HeaderName::from_static(name)).or_insert(value);
        }
    };
    put("request-id", &exchange.request_id);
    put("client-request-id", &exchange.client_request_id);
    put("strict-transport-security", "max-age=31536000");
    if let Some(scenario) = exchange.scenario {
        put("scenario-id", &scenario.to_string());
    }
    if graph {
        put("odata-version", "4.0");
        put("x-ms-ags-diagnostic", DIAGNOSTIC);
    }
}

/// Real Graph names its data centre here; some clients log it.
const DIAGNOSTIC: &str =
    r#"{"ServerInfo":{"DataCenter":"convoke","Slice":"E","Ring":"0","ScaleUnit":"000","RoleInstance":"convoke"}}"#;

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0_f32));
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
    })
}

async fn compress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    // Every body of ours is in memory already.
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return Response::from_parts(parts, Body::empty());
    };
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if bytes.len() < COMPRESSED_FROM {
        return Response::from_parts(parts, Body::from(bytes));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    let Ok(compressed) = compressed else { return Response::from_parts(parts, Body::from(bytes)) };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(parts, Body::from(compressed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn inflation_is_bounded() {
        assert_eq!(inflate(&gzip(b"{}"), BODY_MAX).unwrap(), "{}");
        assert!(matches!(inflate(&gzip(&vec![b' '; 64 * 1024 * 1024]), BODY_MAX), Err(ApiError::TooLarge)));
        assert!(matches!(inflate(b"{}", BODY_MAX), Err(ApiError::Unreadable(_))));
    }

    #[test]
    fn gzip_is_sent_to_those_who_accept_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip, deflate"));
        assert!(accepts("br, GZIP;q=0.5"));
        assert!(!accepts("br"));
        assert!(!accepts("gzip;q=0, deflate"));
    }
}
