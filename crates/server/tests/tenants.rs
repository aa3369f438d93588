//! What a stranger gets to see: every route, asked by another application of the tenant and by one of another tenant.
//!
//! The rows are held against the router's own list: a route without a row fails, and so does a row without a route. At
//! each, somebody else's resource must look exactly like one that there is not (CALL-8), nothing of it may leak, and it
//! must be as it was afterwards.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use stage::{ANNA, Answer, BERT, FOREIGN, RIVAL, STRANGER, Stage, call_to, identity};

/// A route, and the status that its owner, another application of the tenant, and another tenant get.
struct Row {
    method: &'static str,
    path: &'static str,
    body: Value,
    owner: u16,
    rival: u16,
    foreign: u16,
}

const fn row(method: &'static str, path: &'static str, owner: u16, rival: u16, foreign: u16) -> Row {
    Row { method, path, body: Value::Null, owner, rival, foreign }
}

impl Row {
    fn with(self, body: Value) -> Self {
        Self { body, ..self }
    }
}

fn rows() -> Vec<Row> {
    let join = json!({
        "callbackUri": stage::CALLBACK, "mediaConfig": {}, "chatInfo": {"threadId": "{thread}"},
        "meetingInfo": {"@odata.type": "#microsoft.graph.organizerMeetingInfo"},
    });
    let organized = json!({"participants": {"organizer": {"identity": {"user": {"id": "{user}"}}}}});
    let mut external = organized.clone();
    external["externalId"] = json!("external");
    let invite = json!({"participants": [identity(BERT)]});
    vec![
        row("GET", "/communications/calls", 200, 200, 200),
        // Who knows a meeting of the tenant may join it.
        row("POST", "/communications/calls", 201, 201, 400).with(join),
        row("POST", "/communications/calls/logteleconferencedevicequality", 405, 405, 405),
        row("GET", "/communications/calls/{call}", 200, 404, 404),
        row("DELETE", "/communications/calls/{call}", 204, 404, 404),
        row("POST", "/communications/calls/{call}/keepalive", 200, 404, 404),
        row("GET", "/communications/calls/{call}/participants", 200, 404, 404),
        row("POST", "/communications/calls/{call}/participants/invite", 200, 404, 404).with(invite),
        row("POST", "/communications/calls/{call}/participants/muteall", 405, 405, 405),
        row("POST", "/communications/calls/{call}/participants/configuremixer", 405, 405, 405),
        row("GET", "/communications/calls/{call}/participants/{participant}", 200, 404, 404),
        row("DELETE", "/communications/calls/{call}/participants/{participant}", 204, 404, 404),
        row("GET", "/communications/calls/{call}/operations", 200, 404, 404),
        row("GET", "/communications/calls/{call}/operations/{operation}", 200, 404, 404),
        row("GET", "/communications/calls/{call}/audioroutinggroups", 200, 404, 404),
        row("POST", "/communications/calls/{call}/audioroutinggroups", 405, 405, 405),
        row("GET", "/communications/calls/{call}/audioroutinggroups/{group}", 404, 404, 404),
        row("PATCH", "/communications/calls/{call}/audioroutinggroups/{group}", 405, 405, 405),
        row("DELETE", "/communications/calls/{call}/audioroutinggroups/{group}", 405, 405, 405),
        row("GET", "/communications/calls/{call}/contentsharingsessions", 200, 404, 404),
        row("*", "/communications/calls/{call}/{action}", 405, 405, 405),
        row("*", "/communications/calls/{call}/participants/{participant}/{action}", 405, 405, 405),
        row("GET", "/communications/onlinemeetings", 200, 200, 200),
        row("POST", "/communications/onlinemeetings", 201, 201, 404).with(organized),
        row("POST", "/communications/onlinemeetings/createorget", 200, 201, 404).with(external),
        row("GET", "/communications/onlinemeetings/{meeting}", 200, 404, 404),
        row("PATCH", "/communications/onlinemeetings/{meeting}", 200, 404, 404).with(json!({"subject": "mine"})),
        row("DELETE", "/communications/onlinemeetings/{meeting}", 204, 404, 404),
        row("GET", "/users/{user}/onlinemeetings", 200, 200, 404),
        row("POST", "/users/{user}/onlinemeetings", 201, 201, 404),
        // The rival has made a meeting of that name and organizer already: that one it gets.
        row("POST", "/users/{user}/onlinemeetings/createorget", 200, 200, 404).with(json!({"externalId": "external"})),
        row("GET", "/users/{user}/onlinemeetings/{meeting}", 200, 404, 404),
        row("PATCH", "/users/{user}/onlinemeetings/{meeting}", 200, 404, 404).with(json!({"subject": "mine"})),
        row("DELETE", "/users/{user}/onlinemeetings/{meeting}", 204, 404, 404),
        row("*", "/me/onlinemeetings", 400, 400, 400),
        row("*", "/me/onlinemeetings/{*rest}", 400, 400, 400),
    ]
}

/// What stands for the names in a path or a body.
#[derive(Clone)]
struct Names {
    call: String,
    participant: String,
    operation: String,
    meeting: String,
    thread: String,
    user: String,
}

impl Names {
    /// Well-formed, and of nothing there is.
    fn nobodys() -> Self {
        let id = STRANGER.to_owned();
        Self {
            call: id.clone(),
            participant: id.clone(),
            operation: id.clone(),
            meeting: id.clone(),
            thread: "19:meeting_none@thread.v2".to_owned(),
            user: id,
        }
    }

    fn all(&self) -> [(&'static str, &str); 6] {
        [
            ("{call}", &self.call),
            ("{participant}", &self.participant),
            ("{operation}", &self.operation),
            ("{meeting}", &self.meeting),
            ("{thread}", &self.thread),
            ("{user}", &self.user),
        ]
    }

    fn filled(&self, text: &str) -> String {
        let fixed = [("{group}", "oneToOne"), ("{action}", "mute"), ("{*rest}", "x")];
        self.all().into_iter().chain(fixed).fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// An answer without what differs from one request to the next by design.
fn essence(answer: &Answer, names: &Names) -> (u16, BTreeSet<String>, String) {
    let mut body = answer.json();
    if let Some(inner) = body.pointer_mut("/error/innerError") {
        *inner = Value::Null;
    }
    let headers = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    let text = names.all().iter().fold(body.to_string(), |text, (name, value)| text.replace(value, name));
    (answer.status.as_u16(), headers, text)
}

async fn ask(stage: &Stage, token: &str, row: &Row, names: &Names) -> Answer {
    let method = if row.method == "*" { Method::POST } else { row.method.parse().unwrap() };
    let body: Value = serde_json::from_str(&names.filled(&row.body.to_string())).unwrap();
    let path = format!("/beta{}", names.filled(row.path));
    stage.ask_with(token, method, &path, (!body.is_null()).then_some(body)).await
}

/// A group call with people in it and a running operation, and a meeting.
async fn belongings(stage: &Stage) -> Names {
    let call = stage.group_of(ANNA, BERT).await;
    let operation = stage.invite(&call, vec![identity(stage::RINGING)]).await.json();
    let roster = stage.get(&format!("/beta/communications/calls/{call}/participants")).await.json();
    let meeting = json!({"subject": "Confidential", "externalId": "external"});
    let meeting = stage.post(&format!("/beta/users/{ANNA}/onlineMeetings/createOrGet"), meeting).await.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Names {
        call,
        participant: text(&roster["value"][2]["id"]),
        operation: text(&operation["id"]),
        meeting: text(&meeting["id"]),
        thread: text(&meeting["chatInfo"]["threadId"]),
        user: ANNA.to_owned(),
    }
}

/// A call of a stranger's own.
async fn own_call(stage: &Stage, token: &str) -> String {
    let made = stage.ask_with(token, Method::POST, "/beta/communications/onlineMeetings", Some(json!({}))).await.json();
    let mut join = call_to(&[]);
    join["chatInfo"] = made["chatInfo"].clone();
    join["meetingInfo"] = json!({"@odata.type": "#microsoft.graph.organizerMeetingInfo"});
    let call = stage.ask_with(token, Method::POST, "/beta/communications/calls", Some(join)).await.json();
    call["id"].as_str().unwrap_or_else(|| panic!("{call}")).to_owned()
}

/// What the owner sees of its own.
async fn seen(stage: &Stage, theirs: &Names) -> Vec<String> {
    let mut all = Vec::new();
    for path in ["{call}", "{call}/participants", "{call}/operations"] {
        all.push(stage.get(&theirs.filled(&format!("/beta/communications/calls/{path}"))).await.json().to_string());
    }
    all.push(stage.get(&theirs.filled("/beta/communications/onlineMeetings/{meeting}")).await.json().to_string());
    all
}

#[tokio::test]
async fn somebody_elses_is_like_nobodys_at_every_route() {
    // CALL-8
    let rows = rows();
    let listed: BTreeSet<_> = server::api::routes().into_iter().collect();
    let covered: BTreeSet<_> = rows.iter().map(|row| (row.method, row.path)).collect();
    assert_eq!(covered, listed, "every route has a row, and every row a route");

    let stage = Stage::new().await;
    let strangers = [(RIVAL, stage.token_of(RIVAL).await), (FOREIGN, stage.token_of(FOREIGN).await)];
    let mut own = Vec::new();
    for (_, token) in &strangers {
        own.push(own_call(&stage, token).await);
    }
    for row in &rows {
        let what = format!("{} {}", row.method, row.path);
        let theirs = belongings(&stage).await;
        let before = seen(&stage, &theirs).await;
        for ((stranger, token), own) in strangers.iter().zip(&own) {
            let wanted = if *stranger == RIVAL { row.rival } else { row.foreign };
            let answer = ask(&stage, token, row, &theirs).await;
            assert_eq!(answer.status, wanted, "{what} by {stranger}: {}", answer.json());
            let told = answer.json().to_string();
            assert!(!told.contains("Confidential"), "{what} by {stranger}: {told}");
            if answer.status.is_success() {
                // Theirs may be what was asked for, as the user or the thread, but nothing else of it is there.
                for id in [&theirs.call, &theirs.participant, &theirs.operation, &theirs.meeting] {
                    assert!(!told.contains(id.as_str()), "{what} by {stranger}: {told}");
                }
                continue;
            }
            // The people of its own tenant an application may know.
            let user = if *stranger == RIVAL { theirs.user.clone() } else { STRANGER.to_owned() };
            let nobodys = Names { user, ..Names::nobodys() };
            let nothing = ask(&stage, token, row, &nobodys).await;
            assert_eq!(essence(&answer, &theirs), essence(&nothing, &nobodys), "{what} by {stranger}");
            // Nor is it reached through a call of one's own.
            if row.path.contains("{call}/") {
                let through = Names { call: own.clone(), ..theirs.clone() };
                let nothing = Names { call: own.clone(), ..nobodys };
                let (answer, other) =
                    (ask(&stage, token, row, &through).await, ask(&stage, token, row, &nothing).await);
                if row.path.contains("{participant}") || row.path.contains("{operation}") {
                    assert!(!answer.status.is_success(), "{what} by {stranger}: {}", answer.json());
                    assert_eq!(essence(&answer, &through), essence(&other, &nothing), "{what} by {stranger}");
                }
            }
        }
        assert_eq!(seen(&stage, &theirs).await, before, "{what} changed something");
        // The resource was there all the time.
        let answer = ask(&stage, stage.token(), row, &theirs).await;
        assert_eq!(answer.status, row.owner, "{what} by its owner: {}", answer.json());
        stage.delete(&theirs.filled("/beta/communications/calls/{call}")).await;
    }
}

#[tokio::test]
async fn nothing_is_found_by_what_it_is_called() {
    // CALL-8: by no filter, and by no second name.
    let stage = Stage::new().await;
    let made =
        stage.post(&format!("/beta/users/{ANNA}/onlineMeetings"), json!({"subject": "Confidential"})).await.json();
    let vtc = made["videoTeleconferenceId"].as_str().unwrap();
    let join_id = made["joinMeetingIdSettings"]["joinMeetingId"].as_str().unwrap();
    let url = made["joinWebUrl"].as_str().unwrap().replace('%', "%25").replace('&', "%26");
    for stranger in [RIVAL, FOREIGN] {
        let token = stage.token_of(stranger).await;
        for filter in [
            format!("JoinWebUrl%20eq%20'{url}'"),
            format!("VideoTeleconferenceId%20eq%20'{vtc}'"),
            format!("joinMeetingIdSettings/joinMeetingId%20eq%20'{join_id}'"),
        ] {
            let path = format!("/beta/communications/onlineMeetings?$filter={filter}");
            let found = stage.ask_with(&token, Method::GET, &path, None).await.json();
            assert_eq!(found["value"], json!([]), "{stranger}: {filter}");
        }
        let path = format!("/beta/communications/onlineMeetings/{vtc}");
        assert_eq!(stage.ask_with(&token, Method::GET, &path, None).await.status, 404);
    }
}

#[tokio::test]
async fn another_tenants_people_cannot_be_rung_or_told_from_nobody() {
    // CALL-8
    let stage = Stage::new().await;
    let token = stage.token_of(FOREIGN).await;
    let mut ends = Vec::new();
    for user in [ANNA, STRANGER] {
        let path = "/beta/communications/calls";
        let call = stage.ask_with(&token, Method::POST, path, Some(call_to(&[identity(user)]))).await;
        assert_eq!(call.status, 201, "{}", call.json());
        let id = call.json()["id"].as_str().unwrap().to_owned();
        let end = stage.notice(&id, |told| told["changeType"] == "deleted").await;
        ends.push(end["value"][0]["resourceData"]["resultInfo"].to_string().replace(user, "{user}"));
    }
    assert_eq!(ends[0], ends[1]);
    // By name neither.
    for user in ["anna@contoso.example", "nobody@contoso.example"] {
        let path = format!("/beta/users/{user}/onlineMeetings");
        let answer = stage.ask_with(&token, Method::GET, &path, None).await;
        assert_eq!((answer.error(), answer.message()), ((404, "8522".to_owned()), "User not found.".to_owned()));
    }
}

#[tokio::test]
async fn another_applications_call_cannot_be_replaced() {
    // OQ-1, INV-17: it is as unresolvable as one that there is not.
    let stage = Stage::new().await;
    let theirs = stage.talking_to(ANNA).await;
    for stranger in [RIVAL, FOREIGN] {
        let token = stage.token_of(stranger).await;
        let own = own_call(&stage, &token).await;
        let mut ends = Vec::new();
        for replaced in [theirs.as_str(), STRANGER] {
            let body = json!({"participants": [stage::with(identity(ANNA), "replacesCallId", replaced)]});
            let path = format!("/beta/communications/calls/{own}/participants/invite");
            let answer = stage.ask_with(&token, Method::POST, &path, Some(body)).await;
            assert_eq!(answer.status, 200, "{}", answer.json());
            let end = stage.ended(&answer.json()["id"]).await;
            assert_eq!(end["status"], "failed");
            ends.push(end["resultInfo"].to_string().replace(replaced, "{call}"));
        }
        assert_eq!(ends[0], ends[1], "{stranger}");
    }
    assert_eq!(stage.get(&format!("/beta/communications/calls/{theirs}")).await.json()["state"], "established");
}
