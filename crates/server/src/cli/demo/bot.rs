//! The demo's bot: a Graph client with a token of the token endpoint.

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::timeline::{Lane, Timeline};

pub(super) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(super) const APP: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01";
pub(super) const SECRET: &str = "only-for-the-demo";

#[derive(Debug)]
pub(super) struct Bot {
    http: Client,
    base: String,
    token: String,
    callback: String,
    timeline: Timeline,
}

impl Bot {
    /// Gets a token first, as every SDK does.
    pub(super) async fn new(http: Client, base: &str, callback: &str, timeline: Timeline) -> Result<Self> {
        let form = [
            ("client_id", APP),
            ("client_secret", SECRET),
            ("grant_type", "client_credentials"),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let body =
            form.map(|(name, value)| format!("{name}={}", value.replace(':', "%3A").replace('/', "%2F"))).join("&");
        let answer = http
            .post(format!("{base}/{TENANT}/oauth2/v2.0/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        let token = answer["access_token"].as_str().with_context(|| format!("no token: {status} {answer}"))?.to_owned();
        Ok(Self { http, base: base.to_owned(), token, callback: callback.to_owned(), timeline })
    }

    pub(super) fn callback(&self) -> &str {
        &self.callback
    }

    /// Calls these people; more than one makes it a group call.
    pub(super) async fn call(&self, whom: &[Value]) -> Result<String> {
        let targets: Vec<_> = whom
            .iter()
            .map(
                |identity| json!({ "@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": identity }),
            )
            .collect();
        self.place(json!({ "targets": targets })).await
    }

    /// Joins a meeting that the bot created.
    pub(super) async fn join(&self, meeting: &Value) -> Result<String> {
        self.place(json!({
            "chatInfo": meeting["chatInfo"],
            "meetingInfo": {
                "@odata.type": "#microsoft.graph.organizerMeetingInfo",
                "organizer": meeting["participants"]["organizer"]["identity"],
            },
        }))
        .await
    }

    async fn place(&self, more: Value) -> Result<String> {
        let mut body = json!({
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": self.callback,
            "requestedModalities": ["audio"],
            "mediaConfig": { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" },
            "tenantId": TENANT,
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let call = self.ask(Method::POST, "/communications/calls", Some(body)).await?;
        Ok(call["id"].as_str().context("the call has no id")?.to_owned())
    }

    pub(super) async fn meeting(&self, organizer: &str, subject: &str) -> Result<Value> {
        let path = format!("/users/{organizer}/onlineMeetings");
        self.ask(Method::POST, &path, Some(json!({ "subject": subject }))).await
    }

    /// Invites; answers the operation.
    pub(super) async fn invite(&self, call: &str, participants: Vec<Value>, context: &str) -> Result<Value> {
        let path = format!("/communications/calls/{call}/participants/invite");
        let body = json!({ "participants": participants, "clientContext": context });
        let operation = self.ask(Method::POST, &path, Some(body)).await?;
        if operation["status"] != "Running" {
            bail!("the invite was answered with {operation}");
        }
        Ok(operation)
    }

    pub(super) async fn roster(&self, call: &str) -> Result<Vec<Value>> {
        let roster = self.ask(Method::GET, &format!("/communications/calls/{call}/participants"), None).await?;
        Ok(roster["value"].as_array().cloned().unwrap_or_default())
    }

    pub(super) async fn remove(&self, call: &str, participant: &Value) -> Result<()> {
        let participant = participant.as_str().unwrap_or_default();
        self.ask(Method::DELETE, &format!("/communications/calls/{call}/participants/{participant}"), None)
            .await
            .map(drop)
    }

    pub(super) async fn hang_up(&self, call: &str) -> Result<()> {
        self.ask(Method::DELETE, &format!("/communications/calls/{call}"), None).await.map(drop)
    }

    pub(super) async fn state(&self, call: &str) -> Result<Value> {
        self.ask(Method::GET, &format!("/communications/calls/{call}"), None).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let mut request =
            self.http.request(method.clone(), format!("{}/beta{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        self.timeline.happened(Lane::Http, &format!("{method} /beta{path} → {status}"));
        if !status.is_success() {
            bail!("{method} {path}: {status} {text}");
        }
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}

/// An identity set of one user.
pub(super) fn user(id: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.identitySet",
        "user": { "@odata.type": "#microsoft.graph.identity", "id": id, "identityProvider": "AAD" },
    })
}

/// An identity set of one phone number.
pub(super) fn phone(number: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.identitySet",
        "phone": { "@odata.type": "#microsoft.graph.identity", "id": number },
    })
}

/// Someone to invite, with whatever more the example says.
pub(super) fn invitee(mut identity: Value, more: Value) -> Value {
    let mut invitee = json!({ "@odata.type": "#microsoft.graph.invitationParticipantInfo" });
    invitee["identity"] = identity.take();
    if let (Some(invitee), Value::Object(more)) = (invitee.as_object_mut(), more) {
        invitee.extend(more);
    }
    invitee
}
