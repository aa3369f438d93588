//! What the demo's webhook was told: printed as it comes, and kept for the stories to wait for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::timeline::{Lane, Timeline};
use crate::hook::{Hook, Received};

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
    timeline: Timeline,
}

impl Webhook {
    pub(super) fn new(timeline: Timeline) -> Self {
        Self { told: Arc::new(watch::Sender::new(Vec::new())), timeline }
    }

    /// Takes down what the hook receives, until it stops.
    pub(super) async fn follow(self, mut hook: Hook) {
        while let Some(received) = hook.next().await {
            self.take(&received);
        }
    }

    /// Only what carries a genuine token counts.
    fn take(&self, received: &Received) {
        if let Some(Err(why)) = &received.token {
            self.timeline.happened(Lane::Hook, &format!("refused: {why}"));
            return;
        }
        for notification in received.body["value"].as_array().into_iter().flatten() {
            let told = Told {
                change: notification["changeType"].as_str().unwrap_or_default().to_owned(),
                resource: notification["resourceUrl"].as_str().unwrap_or_default().to_owned(),
                data: notification["resourceData"].clone(),
            };
            self.timeline.happened(Lane::Hook, &in_words(&told));
            self.told.send_modify(|all| all.push(told));
        }
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
}

/// Longer than anything the demo waits for.
const PATIENCE: Duration = Duration::from_secs(15);

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
