//! JSON from the documentation's examples and from the official SDKs, there and back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use graph::{
    Bad, Call, Form, InviteParticipantsOperation, InviteRequest, Participant, Wire, notification::notifications, parse,
};
use serde_json::{Value, json};

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn request(name: &str) -> InviteRequest {
    parse(fixture(name).to_string().as_bytes()).unwrap().unwrap()
}

/// Everything that `wanted` has, `got` has too.
fn covers(got: &Value, wanted: &Value, path: &str) {
    match (got, wanted) {
        (Value::Object(got), Value::Object(wanted)) => {
            for (name, value) in wanted {
                let path = format!("{path}.{name}");
                covers(got.get(name).unwrap_or_else(|| panic!("{path} is missing")), value, &path);
            }
        }
        (Value::Array(got), Value::Array(wanted)) => {
            assert_eq!(got.len(), wanted.len(), "{path}");
            for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                covers(got, wanted, &format!("{path}[{index}]"));
            }
        }
        (got, wanted) => assert_eq!(got, wanted, "{path}"),
    }
}

const EXAMPLES: [&str; 5] = ["one", "several", "replace", "phone", "move"];

#[test]
fn requests_are_read_and_repeated() {
    for example in EXAMPLES {
        let wanted = fixture(&format!("{example}_request"));
        let got = request(&format!("{example}_request")).write(Form { nulls: false, beta: true, lower_status: false });
        covers(&got, &wanted, example);
    }
}

#[test]
fn what_the_python_sdk_writes_means_the_same() {
    // Q-1: `identity_provider` and `@odata_type` reach the server as they stand.
    for example in EXAMPLES {
        let (sdk, documented) = (request(&format!("sdk_{example}")), request(&format!("{example}_request")));
        assert_eq!(sdk, documented, "{example}");
    }
}

#[test]
fn responses_carry_everything_the_examples_show() {
    // INV-9: and every unset property as an explicit null.
    for example in EXAMPLES {
        let wanted = fixture(&format!("{example}_response"));
        let operation = InviteParticipantsOperation::read(&wanted).unwrap();
        let mut got = operation.write(Form::reply(true));
        got["@odata.context"] = wanted.get("@odata.context").cloned().unwrap_or_default();
        covers(&got, &wanted, example);
        for name in ["endpointType", "id", "replacesCallId", "participantId", "hidden"] {
            assert!(got["participants"][0].get(name).is_some(), "{example}: {name}");
        }
        assert_eq!(got["resultInfo"], Value::Null);
        assert_eq!(got["status"], "Running");
    }
}

#[test]
fn notifications_are_exactly_those_of_the_examples() {
    // CALL-4: one in each envelope.
    let names = [
        "one_notice_1",
        "one_notice_2",
        "several_notice_1",
        "several_notice_2",
        "replace_notice_1",
        "replace_notice_2",
        "replace_notice_3",
        "phone_notice_1",
        "phone_notice_2",
        "move_notice_1",
        "move_notice_2",
        "move_notice_3",
        "failed_notice_1",
    ];
    for name in names {
        let wanted = fixture(name);
        let told = &wanted["value"][0];
        let data = &told["resourceData"];
        let form = Form::notice(true);
        let written = match data["@odata.type"].as_str() {
            None => {
                data.as_array().unwrap().iter().map(|entry| Participant::read(entry).unwrap().write(form)).collect()
            }
            Some("#microsoft.graph.call") => Call::read(data).unwrap().write(form),
            Some(_) => InviteParticipantsOperation::read(data).unwrap().write(form),
        };
        let change = graph::ChangeType::read(&told["changeType"]).unwrap();
        let path = told["resource"].as_str().unwrap().strip_prefix("/app").unwrap();
        assert_eq!(notifications(change, path, written), wanted, "{name}");
    }
}

#[test]
fn nulls_strangers_and_missing_types_are_accepted() {
    // INV-32, Q-9, Q-18, Q-20, Q-22
    let call: Call = parse(
        br##"{"callbackUri":"https://bot.example/","mediaConfig":{"preFetchMedia":null},"targets":[
            {"@odata.type":"#microsoft.graph.participantInfo","identity":{"user":{"id":"x"},"guest":null},"hidden":null}],
            "requestedModalities":["Audio","video_"],"ringingTimeoutInSeconds":"30","stranger":{"deep":[1]},
            "subject":null,"meetingInfo":null}"##,
    )
    .unwrap()
    .unwrap();
    assert_eq!(call.ringing_timeout_in_seconds, Some(30));
    assert_eq!(call.subject, None);
    assert_eq!(call.targets.unwrap()[0].identity.as_ref().unwrap().members.len(), 1);
}

#[test]
fn what_does_not_fit_is_named() {
    let wrong = |body: Value| parse::<InviteRequest>(body.to_string().as_bytes()).unwrap().unwrap_err();
    let table = [
        (json!([]), "must be an object, not a collection"),
        (json!({"participants": {}}), "participants: must be a collection, not an object"),
        (json!({"participants": [1]}), "participants[0]: must be an object, not a number"),
        (
            json!({"participants": [{"identity": {"user": {"id": 7}}}]}),
            "participants[0].identity.user.id: must be a string, not a number",
        ),
        (
            json!({"participants": [{}, {"endpointType": "fax"}]}),
            "participants[1].endpointType: 'fax' is not one of: default, voicemail, skypeForBusiness, \
             skypeForBusinessVoipPhone, unknownFutureValue",
        ),
        (json!({"clientContext": true}), "clientContext: must be a string, not a boolean"),
    ];
    for (body, message) in table {
        assert_eq!(wrong(body).to_string(), message);
    }
    assert!(matches!(parse::<InviteRequest>(b"{"), Err(Bad { .. })));
}

#[test]
fn an_empty_body_is_an_empty_object() {
    // Q-23
    assert_eq!(parse::<InviteRequest>(b" \r\n").unwrap().unwrap(), InviteRequest::default());
}

#[test]
fn members_of_beta_stay_on_beta() {
    // CALL-8, INV-9: `endpointType` is shown on beta, as a null too, and on v1.0 not at all.
    let operation = InviteParticipantsOperation::read(&fixture("one_response")).unwrap();
    assert!(operation.write(Form::reply(true))["participants"][0].get("endpointType").is_some());
    assert!(operation.write(Form::reply(false))["participants"][0].get("endpointType").is_none());
    let call = Call::default();
    for name in ["ringingTimeoutInSeconds", "terminationReason", "answeredBy", "meetingCapability"] {
        assert!(call.write(Form::reply(true)).get(name).is_some(), "{name}");
        assert!(call.write(Form::reply(false)).get(name).is_none(), "{name}");
    }
}
