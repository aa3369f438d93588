//! The demo's webhook: takes notifications over HTTPS, verifies their tokens, and lets stories wait for them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use tokio::sync::watch;

use super::bot::APP;
use super::timeline::{Lane, Timeline};

/// One thing that was told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) change: String,
    pub(super) resource: String,
    pub(super) data: Value,
}

/// Everything that was told, in order.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    told: Arc<watch::Sender<Vec<Told>>>,
    keys: Arc<watch::Sender<Option<JwkSet>>>,
    timeline: Timeline,
}

impl Webhook {
    pub(super) fn new(timeline: Timeline) -> Self {
        Self { told: Arc::new(watch::Sender::new(Vec::new())), keys: Arc::new(watch::Sender::new(None)), timeline }
    }

    /// The keys that tokens are signed with, as the server publishes them.
    pub(super) fn trust(&self, keys: JwkSet) {
        self.keys.send_replace(Some(keys));
    }

    pub(super) fn router(&self) -> Router {
        Router::new().route("/api/calls", post(receive)).with_state(self.clone())
    }

    /// How much was told so far.
    pub(super) fn count(&self) -> usize {
        self.told.borrow().len()
    }

    /// The first thing told, from number `since` on, that is what a story waits for; and its number.
    pub(super) async fn wait(&self, since: usize, what: impl Fn(&Told) -> bool) -> Option<(usize, Told)> {
        let mut news = self.told.subscribe();
        let found = async {
            loop {
                let found = {
                    let told = news.borrow_and_update();
                    told.iter().enumerate().skip(since).find(|(_, told)| what(told)).map(|(n, told)| (n, told.clone()))
                };
                if found.is_some() {
                    return found;
                }
                news.changed().await.ok()?;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.ok().flatten()
    }

    /// A token is refused unless the key, the algorithm, the issuer, the audience and the times are right.
    fn is_genuine(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
        let keys = self.keys.borrow();
        let key = jsonwebtoken::decode_header(token)
            .ok()
            .and_then(|header| header.kid)
            .and_then(|kid| keys.as_ref().and_then(|keys| keys.find(&kid)))
            .and_then(|jwk| DecodingKey::from_jwk(jwk).ok());
        let Some(key) = key else { return false };
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[APP]);
        validation.set_issuer(&["https://api.botframework.com"]);
        jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok()
    }
}

/// Longer than anything the demo waits for.
const PATIENCE: Duration = Duration::from_secs(15);

async fn receive(State(hook): State<Webhook>, headers: HeaderMap, body: String) -> StatusCode {
    if !hook.is_genuine(&headers) {
        hook.timeline.happened(Lane::Hook, "refused: the token is not genuine");
        return StatusCode::FORBIDDEN;
    }
    let Ok(document) = serde_json::from_str::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    for notification in document["value"].as_array().into_iter().flatten() {
        let told = Told {
            change: notification["changeType"].as_str().unwrap_or_default().to_owned(),
            resource: notification["resourceUrl"].as_str().unwrap_or_default().to_owned(),
            data: notification["resourceData"].clone(),
        };
        hook.timeline.happened(Lane::Hook, &in_words(&told));
        hook.told.send_modify(|all| all.push(told));
    }
    StatusCode::ACCEPTED
}

fn in_words(told: &Told) -> String {
    let Told { change, resource, data } = told;
    let short = resource.strip_prefix("/communications/calls/").unwrap_or(resource);
    let call = short.get(..8).unwrap_or(short);
    if let Some(people) = data.as_array() {
        let names: Vec<_> = people.iter().map(name_of).collect();
        return format!("call {call}… roster: {}", names.join(", "));
    }
    let result = data["resultInfo"]["message"].as_str().map(|text| format!(" ({text})")).unwrap_or_default();
    if let Some(status) = data["status"].as_str() {
        return format!("call {call}… operation {status}{result}");
    }
    let state = data["state"].as_str().unwrap_or("?");
    let audio = data["mediaState"]["audio"].as_str().map(|audio| format!(", audio {audio}")).unwrap_or_default();
    let chat = if data["chatInfo"].is_object() { ", with a chat" } else { "" };
    format!("call {call}… {change}: {state}{audio}{chat}{result}")
}

fn name_of(participant: &Value) -> String {
    let identity = &participant["info"]["identity"];
    for kind in ["user", "phone", "application", "applicationInstance"] {
        if let Some(id) = identity[kind]["id"].as_str() {
            return identity[kind]["displayName"].as_str().unwrap_or(id).to_owned();
        }
    }
    "?".to_owned()
}
