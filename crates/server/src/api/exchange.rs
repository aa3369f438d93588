//! One request and its answer: what every handler may know of it.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use control::{CallId, Principal, ScenarioId, Surface, Timestamp};
use graph::{Form, Wire};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::macros::format_description;

use super::error::ApiError;
use super::service::Service;
use super::{PlainHttp, Settings};
use crate::auth::{Caller, Denial, fresh_id};
use crate::source::Source;

/// Longer ids of clients are replaced by ours: they go into answers and into the log of conferences.
const REQUEST_ID_MAX: usize = 128;

/// Shared by everyone who has to do with a request.
#[derive(Clone, Debug)]
pub(crate) struct Exchange(Arc<Facts>);

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) request_id: String,
    /// The client's, or else `request_id`.
    pub(crate) client_request_id: String,
    /// The client's own (INV-33).
    pub(crate) repeatable_as: Option<String>,
    /// The SDK says that it asks again (INV-33).
    pub(crate) retried: bool,
    pub(crate) scenario: Option<ScenarioId>,
    /// Who sent it.
    pub(crate) source: Source,
    /// Scheme, host and port that the client knows this server by.
    pub(crate) base: String,
    pub(crate) surface: Surface,
    /// What the client wrote after `?`.
    pub(crate) query: String,
}

impl Deref for Exchange {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl Exchange {
    pub(super) fn new(parts: &Parts, surface: Surface, settings: &Settings) -> Self {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = fresh_id().to_string();
        let repeatable_as =
            text("client-request-id").filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_MAX).map(str::to_owned);
        Self(Arc::new(Facts {
            client_request_id: repeatable_as.clone().unwrap_or_else(|| request_id.clone()),
            request_id,
            repeatable_as,
            retried: parts.headers.contains_key("retry-attempt"),
            scenario: text("scenario-id").and_then(|id| id.parse().ok()),
            source: Source::of_request(parts, &settings.proxies),
            base: settings.base_url.clone().unwrap_or_else(|| base(parts)),
            surface,
            query: parts.uri.query().unwrap_or_default().to_owned(),
        }))
    }

    /// Host and port that the client knows this server by.
    pub(crate) fn host(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, host)| host)
    }

    pub(crate) fn is_beta(&self) -> bool {
        self.surface == Surface::Beta
    }

    fn version(&self) -> &'static str {
        match self.surface {
            Surface::V1 => "v1.0",
            Surface::Beta => "beta",
        }
    }

    /// An absolute URL under the version that the client used; `path` begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{}/communications{path}", self.base, self.version())
    }

    /// `@odata.context`: nobody reads it, everybody expects it.
    pub(crate) fn context(&self, fragment: &str) -> String {
        format!("{}/{}/$metadata#{fragment}", self.base, self.version())
    }

    /// The value of a query option.
    pub(crate) fn option(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (given, value) = pair.split_once('=')?;
            let given = super::percent::decode(given)?;
            given.eq_ignore_ascii_case(name).then(|| super::percent::decode(&value.replace('+', " ")))?
        })
    }
}

/// From the request itself. HTTP/2 has no `Host`, HTTP/1.1 no scheme.
fn base(parts: &Parts) -> String {
    let plain = parts.extensions.get::<PlainHttp>().is_some();
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or("localhost");
    // Whatever a client sends here goes into URLs that it reads back: nothing but a host is taken.
    let sound = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    format!("{}://{}", if plain { "http" } else { "https" }, if sound { host } else { "localhost" })
}

/// A request for Graph by a known application.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) exchange: Exchange,
    pub(crate) caller: Caller,
    pub(crate) form: Form,
    content: Result<(), ApiError>,
    received: Received,
}

/// The body as it arrived, inflated; or what was wrong with it. Looked at in its turn: 401, 403 and 404 come first.
#[derive(Clone, Debug)]
pub(crate) struct Received(pub(super) Result<Bytes, ApiError>);

/// The bearer token of a request for Graph, looked at before the body: who shows none gets no room for one.
#[derive(Clone, Debug)]
pub(super) struct Checked(pub(super) Result<Caller, Denial>);

impl Received {
    pub(crate) fn bytes(&self) -> Result<&Bytes, ApiError> {
        self.0.as_ref().map_err(Clone::clone)
    }
}

impl Ask {
    pub(crate) fn by(&self) -> &Principal {
        &self.caller.principal
    }

    /// The body as a Graph type.
    pub(crate) fn json<T: Wire>(&self) -> Result<T, ApiError> {
        let bytes = self.received.bytes()?;
        if !bytes.is_empty() {
            self.content.clone()?;
        }
        let read = graph::parse(bytes).map_err(|bad| ApiError::Unreadable(bad.to_string()))?;
        Ok(read?)
    }
}

impl FromRequestParts<Service> for Ask {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let exchange = parts.extensions.get::<Exchange>().cloned().ok_or(ApiError::Internal)?;
        let received = parts.extensions.get::<Received>().cloned().ok_or(ApiError::Internal)?;
        let Checked(caller) = parts.extensions.get::<Checked>().cloned().ok_or(ApiError::Internal)?;
        let caller = caller?;
        let form = Form { lower_status: service.settings.lower_case_status, ..Form::reply(exchange.is_beta()) };
        // The application may have been deleted, or moved, since it got its token.
        match service.directory().app(caller.principal.app) {
            None => return Err(Denial::NotRegistered.into()),
            Some(app) if app.tenant != caller.principal.tenant => return Err(Denial::OtherTenant.into()),
            Some(_) => {}
        }
        Ok(Self { exchange, caller, form, content: json_content(&parts.headers), received })
    }
}

/// A body without a type is taken for JSON; SDKs name none when there is no body.
fn json_content(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.is_empty() || kind == "application/json" || kind == "text/json" || kind.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::UnsupportedMedia("The request body must be application/json."))
}

/// A call's id in a path: one that is no GUID names no call.
pub(crate) fn call_id(text: &str) -> Result<CallId, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("Call"))
}

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Option<Value>,
    location: Option<String>,
    scenario: Option<ScenarioId>,
}

impl Reply {
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, body: None, location: None, scenario: None }
    }

    /// `context` is the value of `@odata.context`.
    pub(crate) fn entity(status: StatusCode, mut body: Value, context: &str) -> Self {
        if let Some(members) = body.as_object_mut() {
            members.insert("@odata.context".to_owned(), Value::from(context));
        }
        Self { body: Some(body), ..Self::empty(status) }
    }

    /// `value` is an array.
    pub(crate) fn collection(value: Vec<Value>, context: &str) -> Self {
        let body = Map::from_iter([("value".to_owned(), Value::Array(value))]);
        Self::entity(StatusCode::OK, Value::Object(body), context)
    }

    /// Applies `$top` and `$select`, the two query options with an effect (contract 1.6).
    pub(crate) fn selected(mut self, exchange: &Exchange) -> Self {
        let top = exchange.option("$top").and_then(|top| top.trim().parse().ok());
        let wanted = exchange.option("$select");
        let wanted: Vec<_> =
            wanted.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
        let select = |item: &mut Value| {
            if let Some(members) = item.as_object_mut()
                && !wanted.is_empty()
            {
                let kept = |name: &str| name == "id" || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
                members.retain(|name, _| name.starts_with('@') || kept(name));
            }
        };
        let Some(body) = &mut self.body else { return self };
        match body.get_mut("value").and_then(Value::as_array_mut) {
            Some(items) => {
                items.truncate(top.unwrap_or(usize::MAX));
                items.iter_mut().for_each(select);
            }
            None => select(body),
        }
        self
    }

    pub(crate) fn at(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }

    pub(crate) fn scenario(self, scenario: ScenarioId) -> Self {
        Self { scenario: Some(scenario), ..self }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match &self.body {
            Some(body) => json(self.status, body),
            None => self.status.into_response(),
        };
        let headers = response.headers_mut();
        if let Some(location) = self.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if let Some(scenario) = self.scenario.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
            headers.insert(HeaderName::from_static("scenario-id"), scenario);
        }
        response
    }
}

/// JSON as OData labels it.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    const KIND: &str =
        "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";
    (status, [(header::CONTENT_TYPE, KIND)], body.to_string()).into_response()
}

/// `2025-01-01T00:00:00`: to the second, without a zone.
pub(crate) fn utc(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]")).ok())
        .unwrap_or_default()
}
