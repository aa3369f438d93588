//! Bots: what they ask for, what they are told, and what they make of it.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cast::{CALLBACKS, TENANT};

/// One application.
pub(crate) struct Bot {
    pub(crate) index: usize,
    token: String,
    pub(crate) calls: BTreeMap<String, BotCall>,
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Notifications that were taken, by their original id.
    pub(crate) taken: BTreeSet<Uuid>,
    /// Fallen over, and not listening.
    pub(crate) down_until: u64,
}

/// A call, as its bot knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct BotCall {
    pub(crate) established: bool,
    pub(crate) ended: bool,
    pub(crate) people: Vec<String>,
    pub(crate) is_group: bool,
    pub(crate) delta: bool,
    /// Participant ids, and who they are.
    pub(crate) roster: BTreeMap<String, String>,
    pub(crate) roster_told: bool,
    pub(crate) sequence: i64,
    pub(crate) deltas: i64,
    /// The newest notice that was taken.
    pub(crate) newest: i64,
}

/// A request, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) what: What,
    pub(crate) tries: u32,
    /// Tries that were not answered yet.
    pub(crate) waiting: u32,
    /// Some try was never answered: whether it was carried out, nobody knows.
    pub(crate) in_doubt: bool,
    pub(crate) answered: Vec<u16>,
    /// The operation that it began.
    pub(crate) operation: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Place { people: Vec<String>, delta: bool },
    Join { meeting: usize, delta: bool },
    Invite { call: String, people: Vec<String>, fetch: Option<Fetch>, context: String },
    Remove { call: String, participant: String },
    Delete { call: String },
    KeepAlive { call: String },
    Look { call: String },
}

/// Someone comes from another call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) from: String,
    /// Out of a group; else a peer-to-peer call is replaced.
    pub(crate) participant: Option<String>,
}

impl Bot {
    pub(crate) fn new(index: usize, token: String) -> Self {
        Self { index, token, calls: BTreeMap::new(), asked: BTreeMap::new(), taken: BTreeSet::new(), down_until: 0 }
    }

    pub(crate) fn live(&self, fits: impl Fn(&BotCall) -> bool) -> Vec<String> {
        self.calls.iter().filter(|(_, call)| !call.ended && fits(call)).map(|(id, _)| id.clone()).collect()
    }

    /// The request as it goes over the wire. A request that is made again has the same id.
    pub(crate) fn request(&self, number: u64) -> Option<Request<Body>> {
        let asked = self.asked.get(&number)?;
        let (method, path, body) = match &asked.what {
            What::Place { people, delta } => (Method::POST, "/v1.0/communications/calls".to_owned(), {
                let mut body = self.call();
                body["targets"] = people.iter().map(|user| who(user, None)).collect();
                body["callOptions"] = options(*delta);
                body
            }),
            What::Join { meeting, delta } => (Method::POST, "/v1.0/communications/calls".to_owned(), {
                let mut body = self.call();
                body["meetingInfo"] = json!({
                    "@odata.type": "#microsoft.graph.joinMeetingIdMeetingInfo",
                    "joinMeetingId": crate::cast::MEETINGS[*meeting],
                });
                body["callOptions"] = options(*delta);
                body
            }),
            What::Invite { call, people, fetch, context } => {
                let participants: Vec<Value> = people.iter().map(|user| who(user, fetch.as_ref())).collect();
                let path = format!("/v1.0/communications/calls/{call}/participants/invite");
                (Method::POST, path, json!({"participants": participants, "clientContext": context}))
            }
            What::Remove { call, participant } => {
                let path = format!("/v1.0/communications/calls/{call}/participants/{participant}");
                (Method::DELETE, path, Value::Null)
            }
            What::Delete { call } => (Method::DELETE, format!("/v1.0/communications/calls/{call}"), Value::Null),
            What::KeepAlive { call } => {
                (Method::POST, format!("/v1.0/communications/calls/{call}/keepAlive"), Value::Null)
            }
            What::Look { call } => {
                (Method::GET, format!("/v1.0/communications/calls/{call}/participants"), Value::Null)
            }
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "graph.example")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header("client-request-id", format!("request-{number}"));
        let request = if body.is_null() {
            request.body(Body::empty())
        } else {
            request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string()))
        };
        Some(request.expect("a request of plain text"))
    }

    fn call(&self) -> Value {
        json!({
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": CALLBACKS[self.index],
            "requestedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "tenantId": TENANT,
        })
    }
}

fn options(delta: bool) -> Value {
    json!({"@odata.type": "#microsoft.graph.outgoingCallOptions", "isDeltaRosterEnabled": delta})
}

fn who(user: &str, fetch: Option<&Fetch>) -> Value {
    let kind = if user.starts_with('+') { "phone" } else { "user" };
    let mut info = json!({
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": {"@odata.type": "#microsoft.graph.identitySet", kind: {"id": user}},
    });
    if let Some(fetch) = fetch {
        info["replacesCallId"] = Value::from(fetch.from.clone());
        if let Some(participant) = &fetch.participant {
            info["participantId"] = Value::from(participant.clone());
        }
    }
    info
}
