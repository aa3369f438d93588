//! `POST /{tenant}/oauth2/v2.0/token`: access tokens by client credentials (contract 2.1).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{AppId, TenantId, Timestamp};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use store::{App, Directory, Purpose};
use thiserror::Error;

use super::keys::Keys;
use super::permissions::Roles;
use super::principal::{AUDIENCES, issuer};
use super::secret::Overloaded;
use super::throttle::Wait;
use super::{fresh_id, jwt, wall_clock};
use crate::api::exchange::{Exchange, Received};
use crate::api::percent;
use crate::api::service::Service;
use crate::source::Source;

/// Seconds that a token is good for.
const VALID_FOR_S: i64 = 3599;

/// Why there is no token, by the numbers that identity libraries know.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error("AADSTS90002: Tenant '{0}' not found. Name a tenant of this server by its id or domain.")]
    UnknownTenant(String),
    #[error(
        "AADSTS700016: Application with identifier '{app}' was not found in the directory '{tenant}'. \
         Register it there, or ask another tenant."
    )]
    UnknownApp { app: String, tenant: String },
    #[error(
        "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client \
         secret value, for a secret added to app '{0}'."
    )]
    WrongSecret(AppId),
    #[error("AADSTS7000218: The request body must contain the following parameter: 'client_secret'.")]
    NoSecret,
    #[error("AADSTS700027: Client assertions are not accepted by this server. Use the client secret of app '{0}'.")]
    Assertion(AppId),
    #[error("AADSTS900144: The request body must contain the following parameter: '{0}'.")]
    Missing(&'static str),
    #[error("AADSTS70003: The app requested an unsupported grant type '{0}'. Use 'client_credentials'.")]
    Grant(String),
    #[error(
        "AADSTS1002012: The provided value for scope {0} is not valid. Client credential flows must have a scope value \
         with /.default suffixed to the resource identifier (application ID URI)."
    )]
    NotDefault(String),
    #[error("AADSTS70011: The provided value for the input parameter 'scope' is not valid. One scope is taken: {0}")]
    Scope(String),
    #[error("AADSTS500011: The resource principal named {0} was not found. Use https://graph.microsoft.com/.default")]
    Resource(String),
    #[error("AADSTS90014: The request body could not be read: it must be application/x-www-form-urlencoded.")]
    Unreadable,
    #[error("AADSTS90033: A transient error has occurred. Please try again.")]
    Overloaded,
    #[error(
        "AADSTS50053: Too many wrong client secrets or unknown applications came from this address or for application \
         '{app}'. Try again in {} s, with the right secret.",
        .wait.seconds()
    )]
    Guessing { app: String, wait: Wait },
}

impl TokenError {
    /// OAuth's word, Entra's number, and the HTTP status.
    fn code(&self) -> (&'static str, u32, StatusCode) {
        match self {
            Self::UnknownTenant(_) => ("invalid_request", 90002, StatusCode::BAD_REQUEST),
            Self::UnknownApp { .. } => ("unauthorized_client", 700016, StatusCode::BAD_REQUEST),
            Self::WrongSecret(_) => ("invalid_client", 7000215, StatusCode::UNAUTHORIZED),
            Self::NoSecret => ("invalid_client", 7000218, StatusCode::UNAUTHORIZED),
            Self::Assertion(_) => ("invalid_client", 700027, StatusCode::UNAUTHORIZED),
            Self::Missing(_) => ("invalid_request", 900144, StatusCode::BAD_REQUEST),
            Self::Grant(_) => ("unsupported_grant_type", 70003, StatusCode::BAD_REQUEST),
            Self::NotDefault(_) => ("invalid_scope", 1002012, StatusCode::BAD_REQUEST),
            Self::Scope(_) => ("invalid_scope", 70011, StatusCode::BAD_REQUEST),
            Self::Resource(_) => ("invalid_resource", 500011, StatusCode::BAD_REQUEST),
            Self::Unreadable => ("invalid_request", 90014, StatusCode::BAD_REQUEST),
            Self::Overloaded => ("temporarily_unavailable", 90033, StatusCode::SERVICE_UNAVAILABLE),
            Self::Guessing { .. } => ("temporarily_unavailable", 50053, StatusCode::TOO_MANY_REQUESTS),
        }
    }

    /// Seconds after which it is worth asking again.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Overloaded => Some(1),
            Self::Guessing { wait, .. } => Some(wait.seconds()),
            Self::UnknownTenant(_)
            | Self::UnknownApp { .. }
            | Self::WrongSecret(_)
            | Self::NoSecret
            | Self::Assertion(_)
            | Self::Missing(_)
            | Self::Grant(_)
            | Self::NotDefault(_)
            | Self::Scope(_)
            | Self::Resource(_)
            | Self::Unreadable => None,
        }
    }
}

/// The endpoint.
pub(crate) async fn token(
    State(service): State<Service>,
    Path(tenant): Path<String>,
    Extension(exchange): Extension<Exchange>,
    headers: HeaderMap,
    Extension(received): Extension<Received>,
) -> Response {
    let now = wall_clock();
    let Ok(body) = received.bytes() else { return refuse(&exchange, &TokenError::Unreadable, now) };
    match grant(&service, &exchange, &tenant, &headers, body, now).await {
        Ok(answer) => (never_stored(), Json(answer)).into_response(),
        Err(error) => refuse(&exchange, &error, now),
    }
}

async fn grant(
    service: &Service,
    exchange: &Exchange,
    tenant: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Value, TokenError> {
    let form = form(body).ok_or(TokenError::Unreadable)?;
    let field = |name: &'static str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let basic = basic(headers);

    let grant = field("grant_type").ok_or(TokenError::Missing("grant_type"))?;
    if grant != "client_credentials" {
        return Err(TokenError::Grant(shortened(grant)));
    }
    let client_id = basic.as_ref().map(|(id, _)| id.as_str()).or(field("client_id"));
    let client_id = client_id.ok_or(TokenError::Missing("client_id"))?;
    let scope = field("scope").ok_or(TokenError::Missing("scope"))?;

    let directory = service.directory();
    let source = exchange.source;
    let guessing = |wait| TokenError::Guessing { app: shortened(client_id), wait };
    let app = match app_of(&directory, tenant, client_id) {
        Ok(app) => app,
        Err(unknown) => {
            service.throttle.admit(source, None).map_err(guessing)?;
            service.throttle.wrong(source, None);
            return Err(unknown);
        }
    };
    let audience = audience(service, exchange, scope)?;
    if field("client_assertion").is_some() {
        return Err(TokenError::Assertion(app.id));
    }
    let secret = basic.as_ref().map(|(_, secret)| secret.as_str()).or(field("client_secret"));
    let secret = secret.ok_or(TokenError::NoSecret)?;
    prove(service, app, secret, exchange.source).await.map_err(|unproven| match unproven {
        Unproven::Wrong => TokenError::WrongSecret(app.id),
        Unproven::Overloaded => TokenError::Overloaded,
        Unproven::Guessing(wait) => guessing(wait),
    })?;
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": VALID_FOR_S,
        "ext_expires_in": VALID_FOR_S,
        "access_token": access_token(&service.keys, app, audience, now),
    }))
}

/// Why a secret is not taken.
enum Unproven {
    Wrong,
    Overloaded,
    Guessing(Wait),
}

impl From<Wait> for Unproven {
    fn from(wait: Wait) -> Self {
        Self::Guessing(wait)
    }
}

/// Looks at a secret, when it is the turn of whoever sent it.
async fn prove(service: &Service, app: &App, secret: &str, source: Source) -> Result<(), Unproven> {
    let throttle = &service.throttle;
    throttle.admit(source, Some(app.id))?;
    let right = match app.secret_hash.as_deref() {
        Some(hash) if service.secrets.remembers(secret, hash) => true,
        Some(hash) => {
            let place = throttle.queue(source).ok_or(Unproven::Overloaded)?;
            let _turn = place.turn().await;
            // Those before may have used up what is free.
            throttle.admit(source, Some(app.id))?;
            service.secrets.verify(secret, hash).await.map_err(|Overloaded| Unproven::Overloaded)?
        }
        None => false,
    };
    if right {
        throttle.right(source, app.id);
        return Ok(());
    }
    throttle.wrong(source, Some(app.id));
    Err(Unproven::Wrong)
}

/// An access token of an application. The operator's `token` command signs with it too.
pub fn access_token(keys: &Keys, app: &App, audience: &str, now: Timestamp) -> String {
    let seconds = now.0.div_euclid(1000);
    let issuer = issuer(app.tenant);
    let roles: Vec<_> = Roles::of(app.roles.iter().map(String::as_str)).names().collect();
    let claims = json!({
        "aud": audience,
        "iss": issuer,
        "idp": issuer,
        "iat": seconds,
        "nbf": seconds,
        "exp": seconds + VALID_FOR_S,
        "app_displayname": app.name,
        "appid": app.id.to_string(),
        "appidacr": "1",
        "idtyp": "app",
        "oid": app.id.to_string(),
        "sub": app.id.to_string(),
        "roles": roles,
        "tid": app.tenant.to_string(),
        "uti": fresh_id().simple().to_string(),
        "ver": "1.0",
    });
    jwt::sign(&keys.signing(Purpose::Access, now), &claims)
}

/// `common` and `organizations` mean the application's own tenant.
fn app_of<'a>(directory: &'a Directory, tenant: &str, client_id: &str) -> Result<&'a App, TokenError> {
    let anywhere = ["common", "organizations"].iter().any(|word| tenant.eq_ignore_ascii_case(word));
    let wanted = if anywhere {
        None
    } else {
        let by_id = tenant.parse::<TenantId>().ok().and_then(|id| directory.tenant(id));
        let found = by_id.or_else(|| directory.tenant_by_domain(tenant));
        Some(found.ok_or_else(|| TokenError::UnknownTenant(shortened(tenant)))?.id)
    };
    let app = client_id.trim().parse::<AppId>().ok().and_then(|id| directory.app(id));
    app.filter(|app| wanted.is_none_or(|tenant| app.tenant == tenant))
        .ok_or_else(|| TokenError::UnknownApp { app: shortened(client_id), tenant: shortened(tenant) })
}

/// The audience of a scope. Whatever name a client has for this server, the token is for Microsoft Graph.
fn audience(service: &Service, exchange: &Exchange, scope: &str) -> Result<&'static str, TokenError> {
    let mut scopes = scope.split_whitespace();
    let (Some(scope), None) = (scopes.next(), scopes.next()) else {
        return Err(TokenError::Scope(shortened(scope)));
    };
    let resource =
        scope.strip_suffix("/.default").ok_or_else(|| TokenError::NotDefault(shortened(scope)))?.trim_end_matches('/');
    if resource == AUDIENCES[1] {
        return Ok(AUDIENCES[1]);
    }
    let Some(host) = resource.split_once("://").map(|(_, rest)| host_of(rest)) else {
        return Err(TokenError::Resource(shortened(resource)));
    };
    let ours = [Some(exchange.base.as_str()), service.settings.base_url.as_deref()];
    let ours = ours.into_iter().flatten().filter_map(|base| base.split_once("://")).map(|(_, rest)| host_of(rest));
    let known = ["graph.microsoft.com", "localhost", "127.0.0.1", "[::1]"];
    if known.into_iter().chain(ours).any(|known| known.eq_ignore_ascii_case(host)) {
        return Ok(AUDIENCES[0]);
    }
    Err(TokenError::Resource(shortened(resource)))
}

/// The host of what follows `://`, without its port: SDKs derive scopes with it or without.
fn host_of(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The fields of a form; of a field that comes twice, the first. `None` when it is none.
fn form(body: &[u8]) -> Option<BTreeMap<String, String>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut fields = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent::decode(&text.replace('+', " "));
        fields.entry(decode(name)?).or_insert(decode(value)?);
    }
    Some(fields)
}

/// Client id and secret of HTTP Basic, both percent-encoded (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((percent::decode(&id.replace('+', " "))?, percent::decode(&secret.replace('+', " "))?))
}

fn refuse(exchange: &Exchange, error: &TokenError, now: Timestamp) -> Response {
    let (word, number, status) = error.code();
    let at = crate::api::exchange::utc(now);
    let at = format!("{}Z", at.replace('T', " "));
    tracing::info!(error = number, "token refused");
    let (trace, correlation) = (&exchange.request_id, &exchange.client_request_id);
    let body = json!({
        "error": word,
        "error_description":
            format!("{error} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"),
        "error_codes": [number],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("{}/error?code={number}", exchange.base),
    });
    let mut response = (status, never_stored(), Json(body)).into_response();
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn never_stored() -> [(header::HeaderName, &'static str); 2] {
    [(header::CACHE_CONTROL, "no-store, no-cache"), (header::PRAGMA, "no-cache")]
}

/// What a client sent is repeated in messages, but not at any length.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_with_plus_and_percent() {
        let fields = form(b"scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&a=b+c&a=d&empty=").unwrap();
        assert_eq!(fields["scope"], "https://graph.microsoft.com/.default");
        assert_eq!(fields["a"], "b c");
        assert_eq!(fields["empty"], "");
        assert!(form(b"a=%FF").is_none());
    }

    #[test]
    fn hosts_lose_their_ports() {
        assert_eq!(host_of("localhost:8443/x"), "localhost");
        assert_eq!(host_of("[::1]:8443"), "[::1]");
        assert_eq!(host_of("graph.example.net"), "graph.example.net");
    }
}
