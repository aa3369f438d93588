//! Calls: placed, joined, looked at, kept alive, ended (contract 3.2 to 3.8).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::sync::Arc;

use control::Event;
use engine::Detail;
use http::Method;
use serde_json::{Value, json};
use server::api::{self, Settings};
use stage::{
    ANNA, BERT, BOT, BUSY, CALLBACK, CARL, FOREIGN, MEEK, MUTE, OTHER_TENANT, PHONELESS, RINGING, RIVAL, STRANGER,
    Stage, TENANT, call_to, identity, join_of,
};

const CALLS: &str = "/beta/communications/calls";

#[tokio::test]
async fn a_placed_call_is_answered_whole() {
    let stage = Stage::new().await;
    let scenario = "6be56bb2-ca0c-4930-a39d-064982428363";
    let request = Stage::request(stage.token(), Method::POST, CALLS).header("scenario-id", scenario);
    let answer = stage.send(request.body(call_to(&[identity(ANNA)]).to_string().into()).unwrap()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("scenario-id"), scenario);
    let call = answer.json();
    let id = call["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("https://graph.example.net/beta/communications/calls/{id}"));
    assert_eq!(call["@odata.type"], "#microsoft.graph.call");
    assert_eq!(call["state"], "establishing");
    assert_eq!(call["direction"], "outgoing");
    assert_eq!(call["callbackUri"], CALLBACK);
    assert_eq!(call["tenantId"], TENANT);
    assert_eq!(call["source"]["identity"]["application"]["id"], BOT);
    assert_eq!(call["source"]["identity"]["application"]["displayName"], "Calling Bot");
    assert_eq!(call["targets"][0]["identity"]["user"]["id"], ANNA);
    assert_eq!(call["mediaConfig"]["@odata.type"], "#microsoft.graph.serviceHostedMediaConfig");
    assert_eq!(call["requestedModalities"], json!(["audio"]));
    for empty in ["activeModalities", "callRoutes", "routingPolicies"] {
        assert_eq!(call[empty], json!([]), "{empty}");
    }
    for null in [
        "subject",
        "terminationReason",
        "ringingTimeoutInSeconds",
        "mediaState",
        "resultInfo",
        "answeredBy",
        "chatInfo",
        "meetingInfo",
        "transcription",
        "meetingCapability",
        "toneInfo",
    ] {
        assert_eq!(call.get(null), Some(&Value::Null), "{null}");
    }
    for guid in ["callChainId", "myParticipantId"] {
        assert_eq!(call[guid].as_str().unwrap().len(), 36, "{guid}");
    }
    // ROS-7: states only. CALL-1: what each says. Contract 3.2: audio exactly once, after `established`.
    stage.audio(id).await;
    let told = stage.notices(|bodies| bodies.len() >= 4).await;
    let states: Vec<_> = told.iter().map(state_of).collect();
    assert_eq!(states, ["establishing", "ringing", "established", "established active"]);
    for body in &told {
        let told = &body["value"][0];
        assert_eq!(told["resourceUrl"], format!("/communications/calls/{id}"));
        assert_eq!(told["resource"], format!("/app/calls/{id}"));
        let data = &told["resourceData"];
        assert_eq!(data["@odata.type"], "#microsoft.graph.call");
        assert_eq!(data["id"], id);
        assert_eq!(data["callChainId"], call["callChainId"]);
        assert_eq!(data["tenantId"], TENANT);
        assert!(data.get("toneInfo").is_none() && data.get("resultInfo").is_none());
    }
}

/// `deleted`, or the state and the audio.
fn state_of(body: &Value) -> String {
    let data = &body["value"][0]["resourceData"];
    let audio = data["mediaState"]["audio"].as_str().map(|audio| format!(" {audio}")).unwrap_or_default();
    format!("{}{audio}", data["state"].as_str().unwrap_or("-"))
}

#[tokio::test]
async fn a_leg_of_v1_hears_of_nothing_that_v1_does_not_have() {
    // OQ-23, CALL-8
    let stage = Stage::new().await;
    let answer = stage.post("/v1.0/app/calls", call_to(&[identity(ANNA)])).await;
    let call = answer.json();
    assert!(answer.header("location").starts_with("https://graph.example.net/v1.0/communications/calls/"));
    for beta in ["activeModalities", "terminationReason", "routingPolicies", "meetingCapability"] {
        assert!(call.get(beta).is_none(), "{beta}");
    }
    stage.audio(call["id"].as_str().unwrap()).await;
    let told = stage.notices(|bodies| bodies.len() >= 3).await;
    assert_eq!(told.iter().map(state_of).collect::<Vec<_>>(), ["establishing", "established", "established active"]);
}

#[tokio::test]
async fn a_call_is_read_kept_alive_and_ended() {
    let stage = Stage::new().await;
    let id = stage.talking_to(ANNA).await;
    let path = format!("{CALLS}/{id}");
    let call = stage.get(&path).await.json();
    assert_eq!((call["state"].as_str(), call["mediaState"]["audio"].as_str()), (Some("established"), Some("active")));
    assert_eq!(stage.get(CALLS).await.json()["value"][0]["id"], id.as_str());

    // Both parties, although this is peer-to-peer (contract 3.4).
    let roster = stage.get(&format!("{path}/participants")).await.json();
    let roster = roster["value"].as_array().unwrap();
    assert_eq!(roster.len(), 2);
    assert_eq!(roster[0]["id"], call["myParticipantId"]);
    assert_eq!(roster[1]["info"]["identity"]["user"]["id"], ANNA);
    for null in ["metadata", "recordingInfo", "preferredDisplayName", "removedState"] {
        assert_eq!(roster[1].get(null), Some(&Value::Null), "{null}");
    }
    assert_eq!(roster[1]["info"].get("id"), Some(&Value::Null));
    assert_eq!(roster[1]["mediaStreams"][0].get("label"), Some(&Value::Null));
    let one = stage.get(&format!("{path}/participants/{}", roster[1]["id"].as_str().unwrap())).await;
    assert_eq!(one.json()["info"]["identity"]["user"]["displayName"], "Anna");
    let none = stage.get(&format!("{path}/participants/{STRANGER}")).await;
    assert_eq!((none.error(), none.message()), ((404, "8522".to_owned()), "Participant not found.".to_owned()));
    let some = stage.get(&format!("{path}/participants?$top=1&$select=info&$count=true")).await.json();
    assert_eq!(some["value"].as_array().unwrap().len(), 1);
    assert!(some["value"][0].get("isMuted").is_none() && some["value"][0]["info"].is_object());

    assert_eq!(stage.get(&format!("{path}/operations")).await.json()["value"], json!([]));
    assert_eq!(stage.get(&format!("{path}/audioRoutingGroups")).await.json()["value"], json!([]));
    assert_eq!(stage.get(&format!("{path}/contentSharingSessions")).await.json()["value"], json!([]));
    assert_eq!(stage.get(&format!("{path}/audioRoutingGroups/oneToOne")).await.status, 404);

    let kept = stage.ask(Method::POST, &format!("{path}/keepAlive"), None).await;
    assert_eq!((kept.status.as_u16(), kept.bytes.len()), (200, 0));

    let deleted = stage.delete(&path).await;
    assert_eq!((deleted.status.as_u16(), deleted.bytes.len()), (204, 0));
    let end = stage.notice(&id, |told| told["changeType"] == "deleted").await;
    let data = &end["value"][0]["resourceData"];
    assert_eq!(data["state"], "terminated");
    // Contract 3.7, Q-9: integers.
    assert_eq!((&data["resultInfo"]["code"], &data["resultInfo"]["subcode"]), (&json!(200), &json!(5001)));
    assert!(data["resultInfo"]["message"].as_str().unwrap().ends_with("DiagCode: 200#5001.@"));
    // CALL-2, CALL-7, Q-13
    let told = stage.notices(|_| true).await;
    assert_eq!(told.last(), Some(&end));
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/keepAlive")),
        (Method::GET, format!("{path}/participants")),
        (Method::GET, format!("{path}/operations")),
    ] {
        assert_eq!(stage.ask(method, &path, None).await.error(), (404, "8522".to_owned()), "{path}");
    }
    assert_eq!(stage.get(CALLS).await.json()["value"], json!([]));
}

#[tokio::test]
async fn a_foreign_call_is_unknown() {
    // CALL-8
    let stage = Stage::new().await;
    let id = stage.talking_to(ANNA).await;
    for stranger in [RIVAL, FOREIGN] {
        let token = stage.token_of(stranger).await;
        for (method, rest) in [
            (Method::GET, ""),
            (Method::DELETE, ""),
            (Method::GET, "/participants"),
            (Method::POST, "/keepAlive"),
            (Method::POST, "/participants/invite"),
        ] {
            let answer = stage.ask_with(&token, method.clone(), &format!("{CALLS}/{id}{rest}"), Some(json!({}))).await;
            assert_eq!(answer.error(), (404, "8522".to_owned()), "{method} {rest}");
        }
        assert_eq!(stage.ask_with(&token, Method::GET, CALLS, None).await.json()["value"], json!([]));
    }
}

#[tokio::test]
async fn what_cannot_be_placed_says_why() {
    let stage = Stage::new().await;
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut call = call_to(&[identity(ANNA)]);
        edit(&mut call);
        call
    };
    let without = |name: &'static str| edited(&|call| drop(call.as_object_mut().unwrap().remove(name)));
    let with = |name: &'static str, value: Value| edited(&|call| call[name] = value.clone());
    let table = [
        (without("callbackUri"), 400, "8523", "callbackUri"),
        (with("callbackUri", json!("http://bot.example/")), 400, "8523", "callbackUri"),
        (with("callbackUri", json!("https://evil.example/")), 400, "8523", "callbackUri"),
        (without("mediaConfig"), 400, "8523", "mediaConfig"),
        (with("direction", json!("incoming")), 400, "8523", "direction"),
        (with("direction", json!("sideways")), 400, "8523", "direction"),
        (with("ringingTimeoutInSeconds", json!(116)), 400, "8523", "ringingTimeoutInSeconds"),
        (with("requestedModalities", json!(["smell"])), 400, "8523", "requestedModalities[0]"),
        (without("targets"), 400, "8523", "targets"),
        (with("targets", json!([{}])), 400, "8523", "targets[0].identity"),
        (with("targets", json!([{"identity": {"user": {"id": ""}}}])), 400, "8523", "targets[0].identity"),
        (
            with("targets", json!([{"identity": {"user": {"id": ANNA}, "phone": {"id": "+12345678901"}}}])),
            400,
            "8523",
            "targets[0].identity",
        ),
        (with("targets", json!([{"identity": {"phone": {"id": "555"}}}])), 400, "8523", "targets[0].identity.phone.id"),
        (with("targets", Value::Array(vec![identity(ANNA); 6])), 400, "8523", "targets"),
        (with("tenantId", json!(OTHER_TENANT)), 403, "7505", ""),
        (with("source", json!({"identity": {"application": {"id": RIVAL}}})), 403, "7507", ""),
        (with("meetingInfo", json!({"token": "x"})), 400, "8523", "targets"),
    ];
    for (body, status, code, target) in table {
        let answer = stage.post(CALLS, body.clone()).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{body}");
        assert_eq!(answer.json()["error"]["target"].as_str().unwrap_or_default(), target, "{body}");
        assert!(answer.message().starts_with(target), "{}", answer.message());
    }
    let mute = stage.token_of(MUTE).await;
    let answer = stage.ask_with(&mute, Method::POST, CALLS, Some(call_to(&[identity(ANNA)]))).await;
    assert_eq!(answer.error(), (403, "7503".to_owned()));
    let meek = stage.token_of(MEEK).await;
    let group = call_to(&[identity(ANNA), identity(BERT)]);
    assert_eq!(stage.ask_with(&meek, Method::POST, CALLS, Some(group)).await.error(), (403, "7504".to_owned()));
    // Nothing came of any of it.
    assert!(stage.notices(|_| true).await.is_empty());
}

#[tokio::test]
async fn a_call_that_nobody_takes_ends_with_the_reason() {
    // Contract 3.2: failure after 201. 6.3: the numbers.
    let stage = Stage::new().await;
    for (target, code, subcode) in [
        (BUSY, 486, 8539),
        (stage::DECLINING, 603, 0),
        (PHONELESS, 480, 10037),
        (STRANGER, 480, 10037),
        ("+4930123456", 480, 10134),
    ] {
        let answer = stage.post(CALLS, call_to(&[identity(target)])).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json()["state"], "establishing");
        assert_eq!(answer.json()["resultInfo"], Value::Null);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let end = stage.notice(&id, |told| told["changeType"] == "deleted").await;
        let result = &end["value"][0]["resourceData"]["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(code), &json!(subcode)), "{target}");
    }
    // An application without a number cannot call the public network.
    let rival = stage.token_of(RIVAL).await;
    let answer = stage.ask_with(&rival, Method::POST, CALLS, Some(call_to(&[identity("+12345678901")]))).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let end = stage.notice(&id, |told| told["changeType"] == "deleted").await;
    let result = &end["value"][0]["resourceData"]["resultInfo"];
    assert_eq!((&result["code"], &result["subcode"]), (&json!(412), &json!(9999)));
}

#[tokio::test]
async fn a_group_has_a_roster_and_shows_no_chat() {
    let stage = Stage::new().await;
    let id = stage.group_of(ANNA, BERT).await;
    let call = stage.get(&format!("{CALLS}/{id}")).await.json();
    // OQ-7
    assert_eq!(call["chatInfo"], Value::Null);
    assert_eq!(call["transcription"]["state"], "notStarted");
    // ROS-1, ROS-2, ROS-4, ROS-5: whole, the bot included, each with a stream of its own.
    let all = stage
        .notice(&format!("{id}/participants"), |told| told["resourceData"].as_array().is_some_and(|all| all.len() == 3))
        .await;
    let roster = all["value"][0]["resourceData"].as_array().unwrap().clone();
    let sources: std::collections::BTreeSet<_> =
        roster.iter().map(|entry| entry["mediaStreams"][0]["sourceId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sources.len(), 3);
    assert_eq!(roster[0]["id"], call["myParticipantId"]);
    assert!(roster.iter().all(|entry| entry["isInLobby"] == false && entry["rosterSequenceNumber"].is_i64()));
}

#[tokio::test]
async fn delta_rosters_carry_what_changed() {
    // ROS-3
    let stage = Stage::new().await;
    let mut body = call_to(&[identity(ANNA), identity(BERT)]);
    body["callOptions"] = json!({"@odata.type": "#microsoft.graph.outgoingCallOptions", "isDeltaRosterEnabled": true});
    let id = stage.post(CALLS, body).await.json()["id"].as_str().unwrap().to_owned();
    let delta = stage.notice(&format!("{id}/participants"), |_| true).await["value"][0]["resourceData"][0].clone();
    assert_eq!(delta["@odata.type"], "#microsoft.graph.deltaParticipants");
    assert_eq!(delta["sequenceNumber"], 1);
    assert!(delta["participants"].as_array().unwrap().len() >= 2);
}

#[tokio::test]
async fn meetings_are_joined_by_organizer_and_by_id() {
    let stage = Stage::new().await;
    let body = json!({"joinMeetingIdSettings": {"isPasscodeRequired": true}});
    let meeting = stage.post(&format!("/beta/users/{ANNA}/onlineMeetings"), body).await.json();
    let joined = stage.post(CALLS, join_of(&meeting)).await;
    assert_eq!(joined.status, 201, "{}", joined.json());
    assert_eq!(joined.json()["targets"], json!([]));
    assert_eq!(joined.json()["chatInfo"], with_type(&meeting["chatInfo"]));
    assert_eq!(joined.json()["meetingInfo"]["@odata.type"], "#microsoft.graph.organizerMeetingInfo");
    assert_eq!(joined.json()["meetingInfo"]["organizer"]["user"]["id"], ANNA);
    let id = joined.json()["id"].as_str().unwrap().to_owned();
    stage.audio(&id).await;
    // CALL-1: on meetings the chat and the meeting come along; then the roster, with the bot alone.
    let told = stage.notices(|bodies| bodies.len() >= 4).await;
    for body in &told {
        let data = &body["value"][0]["resourceData"];
        if data.is_object() {
            assert_eq!(data["chatInfo"]["threadId"], meeting["chatInfo"]["threadId"]);
            assert!(data["meetingInfo"].is_object() && data["meetingCapability"].is_object());
        }
    }
    let roster = stage.notice(&format!("{id}/participants"), |_| true).await;
    assert_eq!(roster["value"][0]["resourceData"].as_array().unwrap().len(), 1);
    // Also at the very end, when the conference has closed.
    assert_eq!(stage.delete(&format!("{CALLS}/{id}")).await.status, 204);
    let end = stage.notice(&id, |told| told["changeType"] == "deleted").await;
    assert_eq!(end["value"][0]["resourceData"]["chatInfo"]["threadId"], meeting["chatInfo"]["threadId"]);

    let by_id = |id: &Value, passcode: &Value| {
        let mut call = call_to(&[]);
        call["meetingInfo"] = json!({"@odata.type": "#microsoft.graph.joinMeetingIdMeetingInfo",
            "joinMeetingId": id, "passcode": passcode});
        call
    };
    let settings = &meeting["joinMeetingIdSettings"];
    let again = stage.post(CALLS, by_id(&settings["joinMeetingId"], &settings["passcode"])).await;
    assert_eq!(again.status, 201, "{}", again.json());
    assert_eq!(again.json()["chatInfo"]["threadId"], meeting["chatInfo"]["threadId"]);
    let wrong = stage.post(CALLS, by_id(&settings["joinMeetingId"], &json!("wrong"))).await;
    assert_eq!(wrong.error(), (400, "8561".to_owned()));
    assert_eq!(stage.post(CALLS, by_id(&json!("123"), &Value::Null)).await.error(), (400, "8561".to_owned()));

    let mut unknown = join_of(&meeting);
    unknown["chatInfo"]["threadId"] = json!("19:meeting_none@thread.v2");
    assert_eq!(stage.post(CALLS, unknown).await.error(), (400, "8527".to_owned()));
    let mut organizer = join_of(&meeting);
    organizer["meetingInfo"]["organizer"]["user"]["id"] = json!(CARL);
    assert_eq!(stage.post(CALLS, organizer).await.error(), (400, "8527".to_owned()));
    let mut token = call_to(&[]);
    token["meetingInfo"] = json!({"@odata.type": "#microsoft.graph.tokenMeetingInfo", "token": "x"});
    assert_eq!(stage.post(CALLS, token).await.error(), (400, "8526".to_owned()));
    // Another tenant's meeting is as unknown as one there is not; naming that tenant is an error of its own.
    let foreign = stage.token_of(FOREIGN).await;
    let mut body = join_of(&meeting);
    assert_eq!(
        stage.ask_with(&foreign, Method::POST, CALLS, Some(body.clone())).await.error(),
        (403, "7505".to_owned())
    );
    body["tenantId"] = Value::Null;
    body["meetingInfo"]["organizer"]["user"]["tenantId"] = Value::Null;
    assert_eq!(stage.ask_with(&foreign, Method::POST, CALLS, Some(body)).await.error(), (400, "8527".to_owned()));
}

fn with_type(chat: &Value) -> Value {
    let mut chat = chat.clone();
    chat["@odata.type"] = json!("#microsoft.graph.chatInfo");
    chat
}

#[tokio::test]
async fn a_guest_needs_a_permission_of_its_own() {
    let stage = Stage::new().await;
    let meeting = stage.post(&format!("/beta/users/{ANNA}/onlineMeetings"), json!({})).await.json();
    let mut body = join_of(&meeting);
    body["source"] = json!({"identity": {"guest": {"id": "g", "displayName": "Guest"}}});
    assert_eq!(stage.post(CALLS, body).await.error(), (403, "7504".to_owned()));
}

#[tokio::test]
async fn removing_needs_the_operators_consent() {
    // Contract 3.4
    let stage = Stage::new().await;
    let meek = stage.token_of(MEEK).await;
    let path = format!("{CALLS}/{STRANGER}/participants/{STRANGER}");
    assert_eq!(stage.ask_with(&meek, Method::DELETE, &path, None).await.error(), (403, "Forbidden".to_owned()));

    let id = stage.group_of(ANNA, BERT).await;
    let roster = stage.get(&format!("{CALLS}/{id}/participants")).await.json();
    let entry = |index: usize| roster["value"][index]["id"].as_str().unwrap().to_owned();
    let remove = async |who: &str| stage.delete(&format!("{CALLS}/{id}/participants/{who}")).await;
    assert_eq!(remove(&entry(0)).await.error(), (400, "8523".to_owned()));
    assert_eq!(remove("nobody").await.error(), (404, "8522".to_owned()));
    assert_eq!(remove(STRANGER).await.message(), "Participant not found.");
    let gone = remove(&entry(2)).await;
    assert_eq!((gone.status.as_u16(), gone.bytes.len()), (204, 0));
    assert_eq!(stage.get(&format!("{CALLS}/{id}/participants")).await.json()["value"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_ringing_call_shows_it_on_beta_only() {
    let stage = Stage::new().await;
    let id = stage.place(&[identity(RINGING)]).await;
    stage.notice(&id, |told| told["resourceData"]["state"] == "ringing").await;
    assert_eq!(stage.get(&format!("{CALLS}/{id}")).await.json()["state"], "ringing");
    assert_eq!(stage.get(&format!("/v1.0/app/calls/{id}")).await.json()["state"], "establishing");
}

#[tokio::test]
async fn a_call_whose_application_brings_its_own_media_is_taken_and_fails() {
    // OQ-8
    let stage = Stage::new().await;
    let meeting = stage.post(&format!("/beta/users/{ANNA}/onlineMeetings"), json!({})).await.json();
    for mut body in [call_to(&[identity(ANNA)]), call_to(&[identity(ANNA), identity(BERT)]), join_of(&meeting)] {
        let media = json!({"@odata.type": "#microsoft.graph.appHostedMediaConfig", "blob": "<their own>",
            "removeFromDefaultAudioGroup": false});
        body["mediaConfig"] = media.clone();
        let answer = stage.post(CALLS, body.clone()).await;
        assert_eq!(answer.status, 201, "{}", answer.json());
        let call = answer.json();
        assert_eq!((&call["state"], &call["mediaConfig"]), (&json!("establishing"), &media));
        assert_eq!(call["targets"].as_array().unwrap().len(), body["targets"].as_array().unwrap().len());
        let id = call["id"].as_str().unwrap();
        let end = stage.notice(id, |told| told["changeType"] == "deleted").await;
        let result = &end["value"][0]["resourceData"]["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(500), &json!(1_203_002)), "{result}");
        assert!(result["message"].as_str().unwrap().contains("serviceHostedMediaConfig"), "{result}");
        assert_eq!(stage.get(&format!("{CALLS}/{id}")).await.status, 404);
        // Nobody rang: establishing and the end are all there is.
        let told = stage.notices(|_| true).await;
        let told: Vec<_> =
            told.iter().filter(|body| body["value"][0]["resourceData"]["id"] == id).map(state_of).collect();
        assert_eq!(told, ["establishing", "terminated"]);
    }
    // And the meeting has nobody in it: the first to join is alone.
    let id = stage.post(CALLS, join_of(&meeting)).await.json()["id"].as_str().unwrap().to_owned();
    stage.audio(&id).await;
    let roster = stage.get(&format!("{CALLS}/{id}/participants")).await.json();
    assert_eq!(roster["value"].as_array().unwrap().len(), 1);
}

/// What may not be told any more for a fault of ours is told by the bare ends, after which there is nothing.
#[tokio::test]
async fn a_call_that_our_fault_ends_is_told_by_as_little_as_possible() {
    let render: engine::Render = Arc::new(|conference, events, detail| {
        let is_cursed =
            |event: &Event| matches!(event, Event::OperationCompleted { .. } | Event::CallTerminated { .. });
        assert!(detail == Detail::Ends || !events.iter().any(is_cursed), "told to fall");
        api::to_graph::render(conference, events, detail)
    });
    let stage = Stage::told_by(render, Settings::default()).await;
    let call = stage.talking_to(ANNA).await;
    let operation = stage.invite(&call, vec![identity(BERT)]).await.json();

    // INV-26
    let ended = stage.ended(&operation["id"]).await;
    assert_eq!((&ended["status"], &ended["clientContext"]), (&json!("failed"), &operation["clientContext"]), "{ended}");
    assert_eq!(ended["resultInfo"]["code"], 500, "{ended}");
    // CALL-2
    let ended = stage.notice(&call, |told| told["resourceData"]["state"] == "terminated").await;
    let told = &ended["value"][0];
    assert_eq!(told["changeType"], "deleted", "{ended}");
    assert_eq!(
        (&told["resourceData"]["id"], &told["resourceData"]["resultInfo"]["code"]),
        (&json!(call), &json!(500)),
        "{ended}"
    );
    assert_eq!(stage.get(&format!("{CALLS}/{call}")).await.status, 404);
}
