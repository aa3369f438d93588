//! Online meetings, as far as they are needed to be joined (contract 3.19).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use http::Method;
use serde_json::{Value, json};
use stage::{ANNA, BERT, RIVAL, STRANGER, Stage, TENANT};

#[tokio::test]
async fn a_meeting_has_what_a_joiner_needs() {
    let stage = Stage::new().await;
    let body = json!({"@odata.type": "#microsoft.graph.onlineMeeting", "subject": "S",
        "startDateTime": "2026-11-23T13:00:00+00:00", "endDateTime": "2026-11-23T15:30:00.0000000+01:00",
        "joinMeetingIdSettings": {"isPasscodeRequired": true}});
    let made = stage.post(&format!("/v1.0/users/{ANNA}/onlineMeetings"), body).await;
    assert_eq!(made.status, 201);
    let meeting = made.json();
    assert_eq!(meeting["startDateTime"], "2026-11-23T13:00:00Z");
    assert_eq!(meeting["endDateTime"], "2026-11-23T14:30:00Z");
    let thread = meeting["chatInfo"]["threadId"].as_str().unwrap();
    assert!(thread.starts_with("19:meeting_") && thread.ends_with("@thread.v2"), "{thread}");
    assert_eq!(meeting["chatInfo"]["messageId"], "0");
    assert_eq!(meeting["chatInfo"]["replyChainMessageId"], Value::Null);
    let organizer = &meeting["participants"]["organizer"]["identity"]["user"];
    assert_eq!((organizer["id"].as_str(), organizer["tenantId"].as_str()), (Some(ANNA), Some(TENANT)));
    assert_eq!(organizer["displayName"], "Anna");
    assert_eq!(meeting["joinMeetingIdSettings"]["isPasscodeRequired"], true);
    assert_eq!(meeting["joinMeetingIdSettings"]["passcode"].as_str().unwrap().len(), 6);
    assert_eq!(meeting["joinMeetingIdSettings"]["joinMeetingId"].as_str().unwrap().len(), 12);
    let url = meeting["joinWebUrl"].as_str().unwrap();
    assert!(url.starts_with("https://graph.example.net/l/meetup-join/19%3Ameeting_"), "{url}");
    assert!(url.contains("?context=%7B%22Oid%22") || url.contains("?context=%7B%22Tid%22"), "{url}");
    for null in ["audioConferencing", "externalId"] {
        assert_eq!(meeting[null], Value::Null, "{null}");
    }

    // By id and by VTC id; under the user, under communications and under app; by every filter.
    let id = meeting["id"].as_str().unwrap();
    let vtc = meeting["videoTeleconferenceId"].as_str().unwrap();
    for path in [
        format!("/v1.0/users/{ANNA}/onlineMeetings/{id}"),
        format!("/v1.0/users/anna@contoso.example/onlineMeetings/{id}"),
        format!("/v1.0/communications/onlineMeetings/{id}"),
        format!("/v1.0/app/onlineMeetings/{vtc}"),
        format!("/v1.0/communications/onlineMeetings('{id}')"),
    ] {
        assert_eq!(stage.get(&path).await.json()["id"], id, "{path}");
    }
    let join_id = meeting["joinMeetingIdSettings"]["joinMeetingId"].as_str().unwrap();
    let encoded = url.replace('%', "%25").replace('&', "%26");
    for filter in [
        format!("JoinWebUrl%20eq%20'{encoded}'"),
        format!("VideoTeleconferenceId+eq+'{vtc}'"),
        format!("joinMeetingIdSettings/joinMeetingId%20eq%20%27{join_id}%27"),
    ] {
        let path = format!("/v1.0/users/{ANNA}/onlineMeetings?$filter={filter}");
        let found = stage.get(&path).await.json();
        assert_eq!(found["value"][0]["id"], id, "{path}: {found}");
    }
    assert_eq!(stage.get(&format!("/v1.0/users/{BERT}/onlineMeetings/{id}")).await.error(), (404, "8522".to_owned()));

    // CALL-8: another application's meeting is unknown.
    let rival = stage.token_of(RIVAL).await;
    let path = format!("/v1.0/communications/onlineMeetings/{id}");
    assert_eq!(stage.ask_with(&rival, Method::GET, &path, None).await.status, 404);
    assert_eq!(stage.ask_with(&rival, Method::DELETE, &path, None).await.status, 404);

    let deleted = stage.delete(&path).await;
    assert_eq!((deleted.status.as_u16(), deleted.bytes.len()), (204, 0));
    assert_eq!(stage.get(&path).await.status, 404);
}

#[tokio::test]
async fn create_or_get_makes_one() {
    let stage = Stage::new().await;
    let path = format!("/beta/users/{ANNA}/onlineMeetings/createOrGet");
    let body = json!({"externalId": "e1", "subject": "S"});
    let first = stage.post(&path, body.clone()).await;
    let second = stage.post(&path, body.clone()).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 200));
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(second.json()["externalId"], "e1");
    let organizer = json!({"organizer": {"identity": {"user": {"id": BERT}}}});
    let third = stage
        .post(
            "/beta/app/onlineMeetings/microsoft.graph.createOrGet",
            json!({"externalId": "e1", "participants": organizer}),
        )
        .await;
    assert_eq!(third.status, 201, "{}", third.json());
    assert_eq!(third.json()["participants"]["organizer"]["identity"]["user"]["id"], BERT);
    assert_eq!(stage.post(&path, json!({})).await.error(), (400, "8523".to_owned()));
    let late = json!({"externalId": "e2", "endDateTime": "2026-11-23T13:00:00Z"});
    assert_eq!(stage.post(&path, late).await.error(), (400, "8523".to_owned()));
    let nobody = format!("/beta/users/{STRANGER}/onlineMeetings");
    assert_eq!(stage.post(&nobody, json!({})).await.error(), (404, "8522".to_owned()));
}

#[tokio::test]
async fn a_meeting_is_changed_where_something_is_said() {
    // Contract 3.19, Q-20: what is null stays, like what is left out.
    let stage = Stage::new().await;
    let body = json!({"subject": "S", "startDateTime": "2026-11-23T13:00:00Z", "endDateTime": "2026-11-23T14:00:00Z",
        "allowedPresenters": "organizer", "isEntryExitAnnounced": true});
    let made = stage.post(&format!("/v1.0/users/{ANNA}/onlineMeetings"), body).await.json();
    let id = made["id"].as_str().unwrap();
    let change = async |path: &str, body: Value| stage.ask(Method::PATCH, path, Some(body)).await;
    let path = format!("/v1.0/communications/onlineMeetings/{id}");

    let nothing = change(&path, json!({"subject": null})).await;
    assert_eq!((nothing.status.as_u16(), nothing.json()), (200, stage.get(&path).await.json()));
    let said = json!({"subject": "T", "endDateTime": "2026-11-23T15:00:00Z", "allowedPresenters": "everyone",
        "joinMeetingIdSettings": {"isPasscodeRequired": true}});
    let changed = change(&format!("/v1.0/users/{ANNA}/onlineMeetings/{id}"), said).await;
    assert_eq!(changed.status, 200);
    let meeting = changed.json();
    assert_eq!(meeting, stage.get(&path).await.json(), "it is kept");
    assert_eq!((&meeting["subject"], &meeting["allowedPresenters"]), (&json!("T"), &json!("everyone")));
    assert_eq!(
        (&meeting["startDateTime"], &meeting["endDateTime"]),
        (&made["startDateTime"], &json!("2026-11-23T15:00:00Z"))
    );
    assert_eq!(meeting["isEntryExitAnnounced"], true);
    let passcode = &meeting["joinMeetingIdSettings"]["passcode"];
    assert_eq!(passcode.as_str().unwrap().len(), 6);
    // Asked for again, the passcode is the one that was given out.
    let again = change(&path, json!({"joinMeetingIdSettings": {"isPasscodeRequired": true}})).await.json();
    assert_eq!(&again["joinMeetingIdSettings"]["passcode"], passcode);
    let open = change(&path, json!({"joinMeetingIdSettings": {"isPasscodeRequired": false}})).await.json();
    assert_eq!(open["joinMeetingIdSettings"]["passcode"], Value::Null);
    for name in ["id", "joinWebUrl", "videoTeleconferenceId", "chatInfo"] {
        assert_eq!(meeting[name], made[name], "{name}");
    }

    let early = change(&path, json!({"endDateTime": "2026-11-23T12:00:00Z"})).await;
    assert_eq!(
        (early.error(), early.json()["error"]["target"].as_str()),
        ((400, "8523".to_owned()), Some("endDateTime"))
    );
    let wrong = change(&path, json!({"allowedPresenters": "nobody"})).await;
    assert_eq!(wrong.json()["error"]["target"], "allowedPresenters");
    assert_eq!(change(&path, json!({"subject": "x".repeat(1025)})).await.error(), (400, "8523".to_owned()));
    assert_eq!(stage.get(&path).await.json()["subject"], "T", "a refusal changes nothing");
    let nobodys = format!("/v1.0/communications/onlineMeetings/{STRANGER}");
    assert_eq!(change(&nobodys, json!({})).await.error(), (404, "8522".to_owned()));
    assert_eq!(
        change(&format!("/v1.0/users/{BERT}/onlineMeetings/{id}"), json!({})).await.error(),
        (404, "8522".to_owned())
    );
}
