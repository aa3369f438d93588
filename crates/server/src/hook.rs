//! A webhook to develop and test with: it receives notifications, checks their tokens as a bot does, and fails on
//! demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use control::AppId;
use http::{HeaderMap, StatusCode, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::certs;
use crate::serving::{self, Places, Serving};

/// What bots accept as the issuer of our tokens (contract 2.6).
const ISSUERS: [&str; 2] = ["https://api.botframework.com", "https://graph.microsoft.com"];

/// Clocks may differ by so many seconds.
const LEEWAY_S: u64 = 300;

/// A key set is fetched again for an unknown key at most that often.
const FETCH_AGAIN_AFTER: Duration = Duration::from_secs(5);

const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// A group's roster is large, but not that large.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// The server under development has one or a few dozen.
const CONNECTIONS_MAX: usize = 256;

/// Received and not taken yet; beyond, the sender waits, as with any slow bot.
const WAITING_MAX: usize = 1024;

/// How a hook behaves.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// The status of a good answer; 202 if it is not set.
    pub status: Option<u16>,
    /// How long each answer takes.
    pub delay: Duration,
    /// So many notifications are answered 503 before the first good answer.
    pub fail: u32,
}

/// One notification request, and what was made of it.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// Since the hook was started.
    pub at_ms: u64,
    /// What the token says, or why it is none of ours; neither when tokens are not checked.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "token_said")]
    pub token: Option<Result<Claims, String>>,
    pub answered: u16,
    /// Path and query.
    pub uri: String,
    pub scenario: Option<String>,
    pub chain: Option<String>,
    pub message: Option<String>,
    /// The same over all redeliveries.
    pub original: Option<String>,
    pub body: Value,
}

/// The claims that bots look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: String,
    pub iss: String,
    pub tid: String,
    pub exp: i64,
}

/// `{"verified": {…}}` or `{"refused": "why"}`.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn token_said<S: Serializer>(token: &Option<Result<Claims, String>>, serializer: S) -> Result<S::Ok, S::Error> {
    match token {
        None => serializer.serialize_none(),
        Some(Ok(claims)) => serializer.collect_map([("verified", claims)]),
        Some(Err(why)) => serializer.collect_map([("refused", why)]),
    }
}

/// A running hook.
#[derive(Debug)]
pub struct Hook {
    pub address: SocketAddr,
    received: mpsc::Receiver<Received>,
    stop: CancellationToken,
}

impl Hook {
    /// Serves on `listener`, over TLS if there is `tls`. Without a verifier every token is taken unseen.
    pub fn start(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        verifier: Option<Verifier>,
        manners: Manners,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (receive, received) = mpsc::channel(WAITING_MAX);
        let desk = Arc::new(Desk {
            verifier,
            failures: AtomicU32::new(manners.fail),
            manners,
            receive,
            began: Instant::now(),
        });
        let router = Router::new().fallback(take).layer(DefaultBodyLimit::max(BODY_MAX)).with_state(desk);
        let stop = CancellationToken::new();
        let places = Places::new(CONNECTIONS_MAX, u32::MAX, Vec::new());
        let serving = Serving { router, tls, patience: Duration::from_secs(30), places };
        tokio::spawn(serving::serve(listener, serving, stop.clone()));
        Ok(Self { address, received, stop })
    }

    /// The next notification; `None` once the hook has stopped.
    pub async fn next(&mut self) -> Option<Received> {
        self.received.recv().await
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Desk {
    verifier: Option<Verifier>,
    manners: Manners,
    failures: AtomicU32,
    receive: mpsc::Sender<Received>,
    began: Instant,
}

async fn take(State(desk): State<Arc<Desk>>, uri: http::Uri, headers: HeaderMap, body: Bytes) -> Response {
    let at_ms = u64::try_from(desk.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let token = match &desk.verifier {
        None => None,
        Some(verifier) => Some(verifier.verify(&headers).await.map_err(|error| error.to_string())),
    };
    tokio::time::sleep(desk.manners.delay).await;
    let fails = desk.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
    let status = match &token {
        // As bots built on the official samples answer.
        Some(Err(_)) => StatusCode::FORBIDDEN,
        _ if fails => StatusCode::SERVICE_UNAVAILABLE,
        _ => desk.manners.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::ACCEPTED),
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let received = Received {
        at_ms,
        token,
        answered: status.as_u16(),
        uri: uri.path_and_query().map_or_else(String::new, |uri| uri.as_str().to_owned()),
        scenario: text("scenario-id"),
        chain: text("x-microsoft-skype-chain-id"),
        message: text("x-microsoft-skype-message-id"),
        original: text("x-microsoft-skype-original-message-id"),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    // Nobody takes them any more: the hook is about to stop.
    let _ = desk.receive.send(received).await;
    status.into_response()
}

/// Why a token is refused.
#[derive(Debug, Error)]
pub enum TokenRefused {
    #[error("there is no bearer token")]
    Missing,
    #[error("the key set cannot be fetched: {0}")]
    Keys(#[from] reqwest::Error),
    #[error("the key {0} is not in the key set")]
    UnknownKey(String),
    #[error("{0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    #[error("the token names no tenant")]
    NoTenant,
}

/// Checks tokens as the official samples do: by the metadata document, its key set, issuer, audience and lifetime.
pub struct Verifier {
    client: reqwest::Client,
    metadata: String,
    audience: Option<AppId>,
    keys: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    keys: BTreeMap<String, DecodingKey>,
    fetched: Option<Instant>,
}

#[derive(Deserialize)]
struct Metadata {
    jwks_uri: String,
}

impl Verifier {
    /// For the server at `base`, as in `https://localhost:8443`. Without an audience every application's tokens do.
    pub fn new(base: &str, audience: Option<AppId>, roots: RootCertStore) -> Result<Self, reqwest::Error> {
        let metadata = format!("{}/v1/.well-known/OpenIdConfiguration", base.trim_end_matches('/'));
        Ok(Self { client: http_client(roots)?, metadata, audience, keys: Mutex::default() })
    }

    pub async fn verify(&self, headers: &HeaderMap) -> Result<Claims, TokenRefused> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or(TokenRefused::Missing)?;
        let kid = jsonwebtoken::decode_header(token)?.kid.unwrap_or_default();
        let key = self.key(&kid).await?;
        let mut wanted = Validation::new(Algorithm::RS256);
        wanted.leeway = LEEWAY_S;
        wanted.validate_nbf = true;
        wanted.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
        wanted.set_issuer(&ISSUERS);
        match self.audience {
            Some(app) => wanted.set_audience(&[app.to_string()]),
            None => wanted.validate_aud = false,
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &wanted)?.claims;
        if claims.tid.is_empty() { Err(TokenRefused::NoTenant) } else { Ok(claims) }
    }

    async fn key(&self, kid: &str) -> Result<DecodingKey, TokenRefused> {
        let mut cached = self.keys.lock().await;
        if !cached.keys.contains_key(kid) && cached.fetched.is_none_or(|at| at.elapsed() > FETCH_AGAIN_AFTER) {
            let metadata: Metadata = self.client.get(&self.metadata).send().await?.error_for_status()?.json().await?;
            let set: jsonwebtoken::jwk::JwkSet =
                self.client.get(&metadata.jwks_uri).send().await?.error_for_status()?.json().await?;
            cached.keys = set
                .keys
                .iter()
                .filter_map(|jwk| Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(jwk).ok()?)))
                .collect();
            cached.fetched = Some(Instant::now());
        }
        cached.keys.get(kid).cloned().ok_or_else(|| TokenRefused::UnknownKey(kid.to_owned()))
    }
}

/// A client for our own tools: it trusts `roots` and goes through no proxy.
pub fn http_client(roots: RootCertStore) -> Result<reqwest::Client, reqwest::Error> {
    let tls = ClientConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(FETCH_WITHIN).no_proxy().build()
}

impl Received {
    /// What a person wants to see of it: one line per notification, and what is wrong with its token.
    pub fn lines(&self) -> Vec<String> {
        let seconds = self.at_ms as f64 / 1000.0;
        let mark = match &self.token {
            Some(Err(_)) => "✗",
            _ if (200..300).contains(&self.answered) => "✓",
            _ => "!",
        };
        let notices = self.body.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut lines: Vec<String> =
            notices.iter().map(|notice| format!("{seconds:9.3} {mark} {}", summary(notice))).collect();
        if lines.is_empty() {
            lines.push(format!("{seconds:9.3} {mark} {} without notifications", self.uri));
        }
        match &self.token {
            Some(Err(why)) => lines.push(format!("{:9}   the token is refused: {why}", "")),
            _ if !(200..300).contains(&self.answered) => lines.push(format!("{:9}   answered {}", "", self.answered)),
            _ => {}
        }
        lines
    }
}

fn summary(notice: &Value) -> String {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (change, url) = (text(notice, "changeType"), text(notice, "resourceUrl"));
    let data = notice.get("resourceData").unwrap_or(&Value::Null);
    let about = match data {
        Value::Array(people) => {
            let names: Vec<String> = people.iter().map(participant).collect();
            format!("{} on the roster: {}", names.len(), names.join(", "))
        }
        data => {
            let state = ["state", "status"].map(|name| text(data, name)).concat();
            let result = data.get("resultInfo").filter(|info| !info.is_null()).map(|info| {
                let number = |name: &str| info.get(name).and_then(Value::as_i64).unwrap_or_default();
                format!(" {}/{} {}", number("code"), number("subcode"), text(info, "message"))
            });
            format!("{state}{}", result.unwrap_or_default())
        }
    };
    format!("{change:8} {url}  {about}")
}

fn participant(entry: &Value) -> String {
    let identity = entry.pointer("/info/identity").and_then(Value::as_object);
    let known = identity.and_then(|set| set.values().find(|member| member.is_object()));
    let named =
        known.and_then(|one| one.get("displayName").and_then(Value::as_str).or_else(|| one.get("id")?.as_str()));
    named.unwrap_or("somebody").to_owned()
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}
