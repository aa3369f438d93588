//! `participant: invite`: the page's five examples, and everything that can be wrong (contract 3.1).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use http::Method;
use serde_json::{Value, json};
use server::api::Settings;
use stage::{
    ANNA, BERT, BOT, BUSY, CARL, DECLINING, DORA, FOREIGN, PHONELESS, RINGING, RIVAL, STRANGER, Stage, TENANT,
    identity, with,
};

const CALLS: &str = "/beta/communications/calls";
const CONTEXT: &str = "f2fa86af-3c51-4bc2-8fc0-475452d9764f";

/// The identities of an operation's participants.
fn invited(operation: &Value) -> Vec<String> {
    let participants = operation["participants"].as_array().unwrap();
    let ids = participants.iter().map(|participant| {
        let identity = &participant["identity"];
        identity["user"]["id"].as_str().or(identity["phone"]["id"].as_str()).unwrap().to_owned()
    });
    ids.collect()
}

async fn roster_of(stage: &Stage, call: &str) -> Vec<String> {
    let roster = stage.get(&format!("{CALLS}/{call}/participants")).await.json();
    let ids = roster["value"].as_array().unwrap().iter().filter_map(|entry| {
        let identity = &entry["info"]["identity"];
        Some(identity["user"]["id"].as_str().or(identity["phone"]["id"].as_str())?.to_owned())
    });
    ids.collect()
}

/// The order of a call's notices, in words.
fn words(all: &[Value], call: &str) -> Vec<String> {
    let of_call = all
        .iter()
        .map(|body| &body["value"][0])
        .filter(|told| told["resourceUrl"].as_str().unwrap().starts_with(&format!("/communications/calls/{call}")));
    let words = of_call.map(|told| {
        let url = told["resourceUrl"].as_str().unwrap();
        let data = &told["resourceData"];
        if url.ends_with("/participants") {
            format!("roster of {}", data.as_array().unwrap().len())
        } else if url.contains("/operations/") {
            format!("operation {}", data["status"].as_str().unwrap())
        } else if told["changeType"] == "deleted" {
            format!("deleted {}/{}", data["resultInfo"]["code"], data["resultInfo"]["subcode"])
        } else {
            let chat = if data.get("chatInfo").is_some() { " with chat" } else { "" };
            let audio = if data.get("mediaState").is_some() { " with audio" } else { "" };
            format!("{}{chat}{audio}", data["state"].as_str().unwrap())
        }
    });
    words.collect()
}

#[tokio::test]
async fn example_1_one_more_and_the_call_becomes_a_group() {
    // INV-1, INV-8, INV-9, INV-11, INV-24 to INV-27, INV-31, OP-2, ROS-8
    let stage = Stage::new().await;
    let call = stage.talking_to(BERT).await;
    let answer = stage.invite(&call, vec![identity(ANNA)]).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let operation = answer.json();
    let id = operation["id"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        format!("https://graph.example.net/beta/communications/calls/{call}/operations/{id}")
    );
    assert_eq!(operation["@odata.type"], "#microsoft.graph.inviteParticipantsOperation");
    assert_eq!(operation["status"], "Running");
    assert_eq!(operation["clientContext"], CONTEXT);
    assert_eq!(operation.get("resultInfo"), Some(&Value::Null));
    let invitee = &operation["participants"][0];
    for null in ["endpointType", "id", "replacesCallId", "hidden", "removeFromDefaultAudioRoutingGroup"] {
        assert_eq!(invitee.get(null), Some(&Value::Null), "{null}");
    }
    let user = &invitee["identity"]["user"];
    assert_eq!(
        (user["id"].as_str(), user["identityProvider"].as_str(), user["tenantId"].as_str()),
        (Some(ANNA), Some("AAD"), Some(TENANT))
    );
    for null in ["application", "device", "phone", "guest"] {
        assert_eq!(invitee["identity"].get(null), Some(&Value::Null), "{null}");
    }

    let end = stage.notice(&format!("/operations/{id}"), |_| true).await;
    let told = &end["value"][0];
    assert_eq!(told["changeType"], "deleted");
    assert_eq!(told["resource"], format!("/app/calls/{call}/operations/{id}"));
    let data = &told["resourceData"];
    assert_eq!((data["status"].as_str(), data["clientContext"].as_str()), (Some("completed"), Some(CONTEXT)));
    assert!(data.get("resultInfo").is_none());
    assert!(
        data["participants"][0].get("participantId").is_none()
            && data["participants"][0].get("replacesCallId").is_none()
    );

    let roster = stage.notice(&format!("{call}/participants"), |_| true).await;
    let newcomer = roster["value"][0]["resourceData"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["info"]["identity"]["user"]["id"] == ANNA)
        .unwrap()
        .clone();
    // INV-29: the id that was given with the answer is the one on the roster.
    assert_eq!(newcomer["id"], invitee["participantId"]);
    assert_eq!(
        words(&stage.notices(|_| true).await, &call)[4..],
        ["established with chat", "operation completed", "roster of 3"]
    );
    let read = stage.get(&format!("{CALLS}/{call}/operations/{id}")).await.json();
    assert_eq!(
        (read["status"].as_str(), read["@odata.type"].as_str()),
        (Some("Completed"), operation["@odata.type"].as_str())
    );
    assert!(stage.get(&format!("{CALLS}/{call}")).await.json()["chatInfo"]["threadId"].is_string());
}

#[tokio::test]
async fn example_2_several_into_a_group() {
    // OQ-1: a `replacesCallId` that resolves to nothing is dropped when several are invited.
    let stage = Stage::new().await;
    let call = stage.group_of(DORA, CARL).await;
    let body = [ANNA, BERT].map(|user| with(identity(user), "replacesCallId", "a7ebfb2d-871e-419c-87af-27290b22e8db"));
    let operation = stage.invite(&call, body.to_vec()).await.json();
    assert_eq!(invited(&operation), [ANNA, BERT]);
    for index in [0, 1] {
        assert_eq!(operation["participants"][index]["replacesCallId"], Value::Null);
    }
    let ended = stage.ended(&operation["id"]).await;
    assert_eq!(ended["status"], "completed");
    let mut roster = roster_of(&stage, &call).await;
    roster.sort();
    let mut expected = [ANNA, BERT, CARL, DORA];
    expected.sort_unstable();
    assert_eq!(roster, expected);
}

#[tokio::test]
async fn example_3_replacing_a_peer_to_peer_call() {
    // INV-13 to INV-17, OQ-3
    let stage = Stage::new().await;
    let old = stage.talking_to(BERT).await;
    let call = stage.group_of(CARL, DORA).await;
    let body =
        vec![with(identity(BERT), "replacesCallId", &old.to_uppercase()), with(identity(ANNA), "replacesCallId", &old)];
    let operation = stage.invite(&call, body).await.json();
    // INV-14: only the first is read; the answer lists only them, as sent.
    assert_eq!(invited(&operation), [BERT]);
    assert_eq!(operation["participants"][0]["replacesCallId"], old.to_uppercase());
    assert_eq!(operation["participants"][0]["identity"]["user"]["displayName"], "Bert");
    assert_eq!(stage.ended(&operation["id"]).await["status"], "completed");
    let gone = stage.notice(&old, |told| told["changeType"] == "deleted").await;
    let result = &gone["value"][0]["resourceData"]["resultInfo"];
    assert_eq!((&result["code"], &result["subcode"]), (&json!(200), &json!(7015)));
    assert_eq!(result["message"], "Call ended as the transfer completed. DiagCode: 200#7015.@");
    assert!(roster_of(&stage, &call).await.contains(&BERT.to_owned()));
    assert!(!roster_of(&stage, &call).await.contains(&ANNA.to_owned()));
    // the bot may delete it too.
    assert_eq!(stage.delete(&format!("{CALLS}/{old}")).await.error(), (404, "8522".to_owned()));
    // INV-16, CALL-3: the old call's end waits until the operation was told.
    let pending = stage.store.pending(store::NoticeId::NONE, 1000).await.unwrap();
    let end = pending.iter().find(|pending| pending.notice.ends_call).unwrap();
    assert_eq!(end.notice.after.map(|id| id.to_string()).as_deref(), operation["id"].as_str());
    let told = pending.iter().find(|pending| pending.notice.settles == end.notice.after).unwrap();
    assert_eq!(told.notice.call.to_string(), call);
}

#[tokio::test]
async fn example_4_a_phone() {
    // INV-22, INV-24
    let stage = Stage::new().await;
    let call = stage.talking_to(ANNA).await;
    let operation = stage.invite(&call, vec![identity("+12345678901")]).await.json();
    let identity = &operation["participants"][0]["identity"];
    for null in ["user", "guest", "encrypted", "onPremises", "applicationInstance", "application", "device"] {
        assert_eq!(identity.get(null), Some(&Value::Null), "{null}");
    }
    assert_eq!(identity["phone"], json!({"@odata.type": "#microsoft.graph.identity", "id": "+12345678901"}));
    assert_eq!(stage.ended(&operation["id"]).await["status"], "completed");
    assert!(roster_of(&stage, &call).await.contains(&"+12345678901".to_owned()));
}

#[tokio::test]
async fn example_5_moving_between_meetings() {
    // INV-18 to INV-21
    let stage = Stage::new().await;
    let (source, target) = (stage.meeting().await, stage.meeting().await);
    let invite = stage.invite(&source, vec![identity(DORA)]).await.json();
    assert_eq!(stage.ended(&invite["id"]).await["status"], "completed");
    let there = invite["participants"][0]["participantId"].as_str().unwrap();
    let moved = with(with(identity(DORA), "replacesCallId", &source), "participantId", there);
    // INV-19: the second is ignored.
    let operation = stage.invite(&target, vec![moved, identity(ANNA)]).await.json();
    assert_eq!(invited(&operation), [DORA]);
    assert_eq!(operation["participants"][0]["participantId"], there);
    assert_eq!(operation["participants"][0]["replacesCallId"], source.as_str());
    assert_eq!(stage.ended(&operation["id"]).await["status"], "completed");
    stage
        .notice(&format!("{source}/participants"), |told| {
            told["resourceData"].as_array().is_some_and(|all| all.len() == 1)
                && told["resourceData"][0]["rosterSequenceNumber"].is_i64()
        })
        .await;
    assert_eq!(roster_of(&stage, &target).await, [DORA]);
    assert_eq!(stage.get(&format!("{CALLS}/{source}")).await.json()["state"], "established");
}

#[tokio::test]
async fn the_error_matrix() {
    // Contract 3.1.8
    let stage = Stage::new().await;
    let call = stage.group_of(ANNA, BERT).await;
    let path = format!("{CALLS}/{call}/participants/invite");
    let long: String = "ü".repeat(257);
    let table = [
        (json!({}), 400, "8523", "participants"),
        (json!({"participants": null}), 400, "8523", "participants"),
        (json!({"participants": []}), 400, "8523", "participants"),
        (json!({"participants": [{}]}), 400, "8523", "participants[0].identity"),
        (json!({"participants": [{"identity": {}}]}), 400, "8523", "participants[0].identity"),
        (
            json!({"participants": [{"identity": {"user": {"id": "anna"}}}]}),
            400,
            "8523",
            "participants[0].identity.user.id",
        ),
        (
            json!({"participants": [{"identity": {"phone": {"id": "+0123"}}}]}),
            400,
            "8523",
            "participants[0].identity.phone.id",
        ),
        // INV-12, INV-7
        (json!({"participants": vec![identity(CARL); 6]}), 400, "8523", "participants"),
        (json!({"participants": [identity(CARL)], "clientContext": long}), 400, "8523", "clientContext"),
        (
            json!({"participants": [with(identity(CARL), "replacesCallId", &call)]}),
            400,
            "8523",
            "participants[0].replacesCallId",
        ),
        (
            json!({"participants": [with(identity(CARL), "participantId", STRANGER)]}),
            400,
            "8523",
            "participants[0].replacesCallId",
        ),
        (
            json!({"participants": [{"identity": {"user": {"id": CARL}}, "hidden": "yes"}]}),
            400,
            "8523",
            "participants[0].hidden",
        ),
    ];
    for (body, status, code, target) in table {
        let answer = stage.post(&path, body.clone()).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{body}");
        assert_eq!(answer.json()["error"]["target"], target, "{body}");
    }
    // INV-6, OQ-5: two bots at once.
    let bots = [RIVAL, BOT].map(|app| json!({"identity": {"application": {"id": app}}}));
    assert_eq!(stage.invite(&call, bots.to_vec()).await.error(), (403, "Forbidden".to_owned()));
    // Nothing changed, and an exact 256 is fine.
    assert_eq!(stage.get(&format!("{CALLS}/{call}/operations")).await.json()["value"], json!([]));
    let fits = json!({"participants": [identity(CARL)], "clientContext": "ü".repeat(256)});
    let answer = stage.post(&path, fits).await;
    assert_eq!(answer.json()["clientContext"], "ü".repeat(256));
    // the qualified name.
    let qualified = format!("/v1.0/app/calls('{call}')/participants/microsoft.graph.invite");
    assert_eq!(stage.post(&qualified, json!({"participants": [identity(DORA)]})).await.status, 200);
}

#[tokio::test]
async fn states_in_which_nobody_can_be_invited() {
    let stage = Stage::new().await;
    // OQ-4, INV-4
    let ringing = stage.place(&[identity(RINGING)]).await;
    assert_eq!(stage.invite(&ringing, vec![identity(ANNA)]).await.error(), (400, "8501".to_owned()));
    // INV-5
    let pair = stage.talking_to(ANNA).await;
    assert_eq!(stage.invite(&pair, vec![identity(BERT), identity(CARL)]).await.error(), (400, "8548".to_owned()));
    assert_eq!(stage.invite(STRANGER, vec![identity(BERT)]).await.error(), (404, "8522".to_owned()));
}

#[tokio::test]
async fn who_does_not_come_is_told_with_the_reason() {
    // Contract 3.1.8, 6.3, INV-23, OP-3
    let stage = Stage::new().await;
    let call = stage.group_of(ANNA, BERT).await;
    let unresolved = with(identity(CARL), "replacesCallId", "a7ebfb2d-871e-419c-87af-27290b22e8db");
    let table = [
        (identity(BUSY), 486, 8539, "8:orgid:"),
        (identity(DECLINING), 603, 8538, "8:orgid:"),
        (identity(PHONELESS), 480, 10037, "No callee endpoints are registered"),
        (identity(STRANGER), 480, 10037, "is unknown in tenant 72f988bf"),
        (identity(ANNA), 409, 8519, "already"),
        (identity("+4930123456"), 480, 10134, "participant 4:+4930123456"),
        (json!({"identity": {"application": {"id": RIVAL}}}), 480, 10076, "participant 28:"),
        // OQ-1: one alone is never rung.
        (unresolved, 404, 9999, "replacesCallId a7ebfb2d-871e-419c-87af-27290b22e8db is not a live call"),
    ];
    for (invitee, code, subcode, part) in table {
        let answer = stage.invite(&call, vec![invitee.clone()]).await;
        assert_eq!(answer.status, 200, "{invitee}: {}", answer.json());
        assert_eq!(answer.json()["status"], "Running", "{invitee}");
        let ended = stage.ended(&answer.json()["id"]).await;
        assert_eq!(ended["status"], "failed");
        let result = &ended["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(code), &json!(subcode)), "{invitee}: {result}");
        let message = result["message"].as_str().unwrap();
        assert!(message.starts_with("addParticipants failed for participant "), "{message}");
        assert!(message.contains(part), "{message}");
        assert!(message.ends_with(".@"), "{message}");
    }
    // OQ-6: one came, one did not.
    let answer = stage.invite(&call, vec![identity(BUSY), identity(CARL)]).await;
    let ended = stage.ended(&answer.json()["id"]).await;
    assert_eq!((ended["status"].as_str(), &ended["resultInfo"]["code"]), (Some("completed"), &json!(200)));
    assert!(ended["resultInfo"]["message"].as_str().unwrap().contains("DiagCode: 486#8539.@"));
}

#[tokio::test]
async fn a_ringing_invitee_can_be_called_off() {
    // INV-29
    let stage = Stage::new().await;
    let call = stage.group_of(ANNA, BERT).await;
    let operation = stage.invite(&call, vec![identity(RINGING)]).await.json();
    let participant = operation["participants"][0]["participantId"].as_str().unwrap();
    assert_eq!(stage.get(&format!("{CALLS}/{call}/participants/{participant}")).await.status, 404);
    assert_eq!(stage.delete(&format!("{CALLS}/{call}/participants/{participant}")).await.status, 204);
    let ended = stage.ended(&operation["id"]).await;
    assert_eq!(ended["status"], "failed");
    assert_eq!((&ended["resultInfo"]["code"], &ended["resultInfo"]["subcode"]), (&json!(487), &json!(8542)));
}

#[tokio::test]
async fn people_of_others_are_not_fetched() {
    let stage = Stage::new().await;
    let call = stage.meeting().await;
    for (owner, status) in [(RIVAL, 403), (FOREIGN, 200)] {
        let token = stage.token_of(owner).await;
        if owner == FOREIGN {
            // Another tenant's call: nothing is revealed, the operation fails as if there were none.
            let moved = with(with(identity(DORA), "replacesCallId", STRANGER), "participantId", STRANGER);
            let answer = stage.invite(&call, vec![moved]).await;
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(stage.ended(&answer.json()["id"]).await["resultInfo"]["code"], 404);
            continue;
        }
        // INV-18: moved out of a meeting of another application of the tenant.
        let theirs = stage.join(&token).await;
        let moved = with(with(identity(DORA), "replacesCallId", &theirs), "participantId", STRANGER);
        let answer = stage.invite(&call, vec![moved]).await;
        assert_eq!(answer.error(), (status, "Forbidden".to_owned()));
        // Replaced without a participant id, it is as unknown as any (INV-17).
        let answer = stage.invite(&call, vec![with(identity(DORA), "replacesCallId", &theirs)]).await;
        assert_eq!(stage.ended(&answer.json()["id"]).await["resultInfo"]["subcode"], 9999);
    }
    // Not on the roster of the source.
    let source = stage.meeting().await;
    let moved = with(with(identity(DORA), "replacesCallId", &source), "participantId", STRANGER);
    let answer = stage.invite(&call, vec![moved]).await;
    let ended = stage.ended(&answer.json()["id"]).await;
    assert_eq!((&ended["resultInfo"]["code"], &ended["resultInfo"]["subcode"]), (&json!(404), &json!(8558)));
    // INV-17: a peer-to-peer call with someone else.
    let pair = stage.talking_to(ANNA).await;
    let answer = stage.invite(&call, vec![with(identity(BERT), "replacesCallId", &pair)]).await;
    assert_eq!(stage.ended(&answer.json()["id"]).await["resultInfo"]["subcode"], 9999);
    assert_eq!(stage.get(&format!("{CALLS}/{pair}")).await.json()["state"], "established");
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_operation() {
    // INV-33
    let stage = Stage::new().await;
    let call = stage.group_of(ANNA, BERT).await;
    let path = format!("{CALLS}/{call}/participants/invite");
    let body = json!({"participants": [identity(RINGING)], "clientContext": CONTEXT});
    let first = stage.post(&path, body.clone()).await.json();
    // The same in another spelling.
    let spelled = json!({"clientContext": CONTEXT, "participants": [{"identity": {
        "@odata.type": "graph.identitySet", "phone": null,
        "user": {"identity_provider": "AAD", "id": RINGING}}}]});
    assert_eq!(stage.post(&path, spelled).await.json()["id"], first["id"]);
    let other = json!({"participants": [identity(CARL)], "clientContext": CONTEXT});
    assert_ne!(stage.post(&path, other).await.json()["id"], first["id"]);

    let again = async |name: &'static str, value: &'static str, who: &str| {
        let body = json!({"participants": [identity(who)], "clientContext": "x"});
        let request = Stage::request(stage.token(), Method::POST, &path).header(name, value);
        stage.send(request.body(body.to_string().into()).unwrap()).await.json()
    };
    let once = again("client-request-id", "one", DORA).await;
    assert_eq!(stage.ended(&once["id"]).await["status"], "completed");
    // After its end it is recognised by the client's own id; and shown as it stands.
    let repeated = again("client-request-id", "one", DORA).await;
    assert_eq!((&repeated["id"], repeated["status"].as_str()), (&once["id"], Some("Completed")));
    assert_ne!(again("client-request-id", "two", DORA).await["id"], once["id"]);

    // An SDK that says it asks again, and has no id to say it with.
    let first = again("user-agent", "kiota", "+12345678901").await;
    stage.ended(&first["id"]).await;
    assert_eq!(again("retry-attempt", "1", "+12345678901").await["id"], first["id"]);
    assert_ne!(again("user-agent", "kiota", "+12345678901").await["id"], first["id"]);
}

#[tokio::test]
async fn chat_can_be_demanded() {
    // OQ-7
    let invite = control::InvitePolicy { strict_chat_info: true, ..control::InvitePolicy::default() };
    let stage = Stage::with(Settings { invite, ..Settings::default() }).await;
    let call = stage.group_of(ANNA, BERT).await;
    assert_eq!(stage.invite(&call, vec![identity(CARL), identity(DORA)]).await.error(), (400, "8523".to_owned()));
    assert_eq!(stage.invite(&call, vec![identity(CARL)]).await.status, 200);
}

#[tokio::test]
async fn hidden_people_are_seen_by_nobody_else() {
    // ROS-6
    let stage = Stage::new().await;
    let call = stage.group_of(ANNA, BERT).await;
    let mut hidden = identity(CARL);
    hidden["hidden"] = json!(true);
    let operation = stage.invite(&call, vec![hidden]).await.json();
    assert_eq!(operation["participants"][0]["hidden"], true);
    assert_eq!(stage.ended(&operation["id"]).await["status"], "completed");
    assert!(!roster_of(&stage, &call).await.contains(&CARL.to_owned()));
}

#[tokio::test]
async fn status_words_can_be_those_of_the_documentation() {
    // OQ-2
    let stage = Stage::with(Settings { lower_case_status: true, ..Settings::default() }).await;
    let call = stage.group_of(ANNA, BERT).await;
    assert_eq!(stage.invite(&call, vec![identity(CARL)]).await.json()["status"], "running");
}
