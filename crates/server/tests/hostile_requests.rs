//! Requests that are well-formed HTTP and mean no good: forged tokens, guessed secrets, paths in disguise, endless bodies.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::stream;
use http::{Method, Request, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use server::api::Settings;
use server::auth::{Keys, wall_clock};
use stage::{ANNA, Answer, BOT, MEEK, OTHER_TENANT, RIVAL, SECRET, STRANGER, Stage, TENANT};
use store::sqlite::{Access, Sqlite};
use store::{Purpose, Store};
use uuid::Uuid;

const CALLS: &str = "/beta/communications/calls";

/// A token request from somewhere.
async fn token(stage: &Stage, from: &str, app: &str, secret: &str) -> Answer {
    let form = format!(
        "client_id={app}&client_secret={secret}&grant_type=client_credentials\
         &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
    );
    let peer: SocketAddr = format!("{from}:40000").parse().unwrap();
    let request = Request::post("/common/oauth2/v2.0/token")
        .header(header::HOST, "login.example.net")
        .extension(ConnectInfo(peer))
        .body(Body::from(form));
    stage.send(request.unwrap()).await
}

#[tokio::test]
async fn guesses_are_counted_and_refused_where_they_come_from() {
    let stage = Arc::new(Stage::new().await);
    let burst = (0..40).map(|number| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { token(&stage, "192.0.2.1", RIVAL, &format!("guess-{number}")).await })
    });
    let mut statuses = Vec::new();
    for answer in burst.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        statuses.push(answer.status.as_u16());
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            // Contract 2.1: what identity libraries read.
            let body = answer.json();
            assert_eq!((&body["error"], &body["error_codes"]), (&json!("temporarily_unavailable"), &json!([50053])));
            assert!(body["error_description"].as_str().unwrap().starts_with("AADSTS50053: "), "{body}");
            for member in ["timestamp", "trace_id", "correlation_id", "error_uri"] {
                assert!(body[member].is_string(), "{member}");
            }
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=120).contains(&wait), "{wait}");
        }
    }
    statuses.sort_unstable();
    // Only the free ones were looked at: the others cost nothing, and kept nobody waiting.
    assert_eq!(statuses, [vec![401; 5], vec![429; 35]].concat());
    // Right or wrong, whoever guessed has to wait.
    assert_eq!(token(&stage, "192.0.2.1", RIVAL, SECRET).await.status, 429);
    // But not the application elsewhere, and not others behind the same address.
    assert_eq!(token(&stage, "192.0.2.2", RIVAL, SECRET).await.status, 200);
    assert_eq!(token(&stage, "192.0.2.1", MEEK, SECRET).await.status, 200);
    assert_eq!(token(&stage, "[2001:db8::1]", RIVAL, SECRET).await.status, 200);
}

#[tokio::test]
async fn whoever_tries_application_after_application_is_refused_too() {
    let stage = Stage::new().await;
    for number in 0..20_u128 {
        let unknown = Uuid::from_u128(number + 1).to_string();
        assert_eq!(token(&stage, "192.0.2.1", &unknown, "x").await.status, 400);
    }
    assert_eq!(token(&stage, "192.0.2.1", STRANGER, "x").await.status, 429);
    assert_eq!(token(&stage, "192.0.2.1", BOT, SECRET).await.status, 429);
    assert_eq!(token(&stage, "192.0.2.2", BOT, SECRET).await.status, 200);
}

#[tokio::test]
async fn a_burst_of_right_secrets_is_no_guessing() {
    let stage = Arc::new(Stage::new().await);
    let burst = (0..40).map(|_| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { token(&stage, "192.0.2.1", RIVAL, SECRET).await.status })
    });
    for status in burst.collect::<Vec<_>>() {
        assert_eq!(status.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn only_what_our_own_key_signed_in_our_own_way_is_a_token() {
    // Contract 2.3.
    let stage = Stage::new().await;
    let good = stage.token().to_owned();
    let part = |index: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(good.split('.').nth(index).unwrap()).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    let kid = header["kid"].as_str().unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature = good.rsplit('.').next().unwrap();
    let mut forged = Vec::new();

    // No signature, in every spelling.
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for tail in ["", signature] {
            let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
            forged.push(format!("{}.{}.{tail}", encode(&header), encode(&claims)));
        }
    }
    forged.push(format!("{}.{}", encode(&header), encode(&claims)));
    forged.push(format!("{}.{}.", encode(&header), encode(&claims)));

    // The public key, taken for the secret of an HMAC, in every form it is published or derived in.
    let published = stage.get(&format!("/{TENANT}/discovery/v2.0/keys")).await.json();
    let published = published["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap().clone();
    let text = |name: &str| published[name].as_str().unwrap().to_owned();
    let x5c = published["x5c"][0].as_str().unwrap().to_owned();
    let secrets = [
        URL_SAFE_NO_PAD.decode(text("n")).unwrap(),
        text("n").into_bytes(),
        STANDARD.decode(&x5c).unwrap(),
        x5c.clone().into_bytes(),
        format!("-----BEGIN CERTIFICATE-----\n{x5c}\n-----END CERTIFICATE-----\n").into_bytes(),
        published.to_string().into_bytes(),
        Vec::new(),
    ];
    for secret in secrets {
        for algorithm in [Algorithm::HS256, Algorithm::HS512] {
            let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
            forged.push(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap());
        }
    }

    // Somebody else's key, under our name or with directions to itself.
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = Sqlite::open(elsewhere.path(), Access::Serve).unwrap();
    Keys::open(&elsewhere, wall_clock()).await.unwrap();
    let foreign = signing_key(&elsewhere, None).await;
    for kid in [kid, "", "../../../../dev/null", "' OR 1=1 --", "\0", "http://evil.example/keys"] {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
        forged.push(jsonwebtoken::encode(&header, &claims, &foreign).unwrap());
        let header =
            Header { jku: Some("https://evil.example/keys".to_owned()), x5c: Some(vec![x5c.clone()]), ..header };
        forged.push(jsonwebtoken::encode(&header, &claims, &foreign).unwrap());
    }
    // Our key, with another algorithm's padding; and no kid.
    let ours = signing_key(stage.store.as_ref(), Some(kid)).await;
    for algorithm in [Algorithm::PS256, Algorithm::RS384, Algorithm::RS512] {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
        forged.push(jsonwebtoken::encode(&header, &claims, &ours).unwrap());
    }
    forged.push(jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &ours).unwrap());
    forged.push(format!("{good}A"));
    forged.push(format!("{good}.{signature}"));
    forged.push(encode(&json!({"a": "[".repeat(4000)})));
    forged.push("a".repeat(20_000));

    for forged in forged {
        let answer = stage.ask_with(&forged, Method::GET, CALLS, None).await;
        assert_eq!(answer.error(), (401, "InvalidAuthenticationToken".to_owned()), "{forged}");
    }

    // Signed by us, and not meant for this, or not now.
    let sign = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &ours).unwrap()
    };
    let now = wall_clock().0 / 1000;
    let table: [(String, u16, &str); 8] = [
        (sign(&|_| {}), 200, ""),
        (sign(&|claims| claims["aud"] = json!("https://elsewhere.example")), 401, "Invalid audience"),
        (sign(&|claims| claims["iss"] = json!("https://evil.example/")), 401, "Invalid issuer"),
        (sign(&|claims| claims["tid"] = json!(OTHER_TENANT)), 401, "Invalid issuer"),
        (
            sign(&|claims| {
                claims["tid"] = json!(OTHER_TENANT);
                claims["iss"] = json!(format!("https://sts.windows.net/{OTHER_TENANT}/"));
            }),
            403,
            "tenant mismatch",
        ),
        (sign(&|claims| claims["exp"] = json!(now - 301)), 401, "expired"),
        (sign(&|claims| claims["nbf"] = json!(now + 400)), 401, "not yet valid"),
        (sign(&|claims| claims["scp"] = json!("Calls.Initiate.All")), 403, "Insufficient"),
    ];
    for (token, status, words) in table {
        let answer = stage.ask_with(&token, Method::GET, CALLS, None).await;
        assert_eq!(answer.status, status, "{}", answer.json());
        assert!(answer.message().contains(words), "{}", answer.message());
    }
}

/// A private key that a server signs with: only whoever has its database has it.
async fn signing_key(store: &dyn Store, kid: Option<&str>) -> EncodingKey {
    let keys = store.keys(Purpose::Access).await.unwrap();
    let key = keys.iter().find(|key| kid.is_none_or(|kid| key.kid == kid)).unwrap();
    EncodingKey::from_rsa_pem(&key.private).unwrap()
}

#[tokio::test]
async fn a_path_in_disguise_leads_nowhere_else() {
    let stage = Stage::new().await;
    let call = stage.talking_to(ANNA).await;
    let long = "a".repeat(30_000);
    // Each is unknown, as a route or as a call; none is anybody's resource, and none is an error of ours.
    for path in [
        format!("{CALLS}/{call}%2fparticipants"),
        format!("{CALLS}/{call}%2Foperations%2F"),
        format!("{CALLS}/..%2f..%2f..%2fhealth%2flive"),
        format!("{CALLS}/../calls/{call}"),
        format!("{CALLS}/./{call}"),
        format!("{CALLS}/%2e%2e/calls/{call}"),
        format!("{CALLS}/{call}%00"),
        format!("{CALLS}/%00"),
        format!("{CALLS}/{call}%20"),
        format!("{CALLS}/{call}%252f"),
        format!("{CALLS}/{}", call.replace('-', "%252d")),
        format!("{CALLS}('{call}"),
        format!("{CALLS}({call})"),
        format!("{CALLS}('{call}')('{call}')"),
        format!("{CALLS}('')/participants"),
        format!("{CALLS}('%27{call}%27')"),
        format!("{CALLS}/{call};v=1"),
        format!("{CALLS}/{call}/participants('..')"),
        format!("{CALLS}/%ff%fe"),
        format!("{CALLS}/%"),
        format!("{CALLS}/{long}"),
        format!("{CALLS}/{}", "%41".repeat(10_000)),
        format!("/beta/communications/calls/{call}/participants/%2e%2e"),
        format!("/beta/communications/calls\\{call}").replace('\\', "%5c"),
        format!("/beta%2fcommunications%2fcalls%2f{call}"),
        "/beta/communications/onlineMeetings/'%20OR%20'1'='1".to_owned(),
        "/beta/communications/onlineMeetings?$filter=VideoTeleconferenceId%20eq%20'%27%27%20OR%201=1'".to_owned(),
        format!("/beta/users/%00{ANNA}/onlineMeetings"),
        format!("/beta/users/{ANNA}%2fonlineMeetings"),
    ] {
        let answer = stage.get(&path).await;
        let shown: String = path.chars().take(90).collect();
        if path.contains("$filter") {
            assert_eq!(answer.json()["value"], json!([]), "{shown}");
            continue;
        }
        assert_eq!(answer.status, 404, "{shown}: {}", answer.json());
        answer.error();
        assert!(!answer.json().to_string().contains("participants"), "{shown}");
    }
    // The same resource in its lawful spellings.
    for path in [
        format!("/BETA/app/Calls('{}')", call.to_uppercase()),
        format!("{CALLS}/{}", call.replace('-', "")),
        format!("{CALLS}/{}/", call.replace('-', "%2d")),
    ] {
        assert_eq!(stage.get(&path).await.json()["id"], call.as_str(), "{path}");
    }
    // No header makes one method another, or one path another.
    for name in ["x-http-method-override", "x-http-method", "x-original-url", "x-rewrite-url"] {
        let request = Stage::request(stage.token(), Method::GET, &format!("{CALLS}/{call}")).header(name, "DELETE");
        assert_eq!(stage.send(request.body(Body::empty()).unwrap()).await.status, 200, "{name}");
    }
    for method in ["TRACE", "CONNECT", "PROPFIND", "delete", "GETX"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(stage.ask(method.clone(), &format!("{CALLS}/{call}"), None).await.error().0, 405, "{method}");
    }
    assert_eq!(stage.get(&format!("{CALLS}/{call}")).await.json()["state"], "established");
}

#[tokio::test]
async fn what_is_said_twice_is_not_believed_once() {
    let stage = Stage::new().await;
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::HOST] {
        let request = Stage::request(stage.token(), Method::POST, CALLS)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_ENCODING, "identity")
            .header(name.clone(), "Bearer x");
        let answer = stage.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(answer.error(), (400, "BadRequest".to_owned()), "{name}");
        assert!(answer.message().to_lowercase().contains(name.as_str()), "{}", answer.message());
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let within = Duration::from_millis(100);
    let stage = Stage::with(Settings { body_within: within, ..Settings::default() }).await;
    let never = || Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Stage::request(stage.token(), Method::POST, CALLS).body(never()).unwrap();
    assert_eq!(stage.send(request).await.error(), (408, "RequestTimeout".to_owned()));
    // One that comes drop by drop, for ever.
    let drops = stream::unfold((), |()| async {
        tokio::task::yield_now().await;
        Some((Ok::<_, std::io::Error>(" "), ()))
    });
    let request = Stage::request(stage.token(), Method::POST, CALLS).body(Body::from_stream(drops)).unwrap();
    let status = stage.send(request).await.error().0;
    assert!(status == 408 || status == 413, "{status}");
    let request = Request::post("/common/oauth2/v2.0/token").body(never()).unwrap();
    assert_eq!(stage.send(request).await.status, 400);
}

#[tokio::test]
async fn who_shows_no_token_gets_no_room_for_a_body() {
    let stage = Stage::new().await;
    // 401 comes first, whatever the body is.
    for body in [vec![b' '; 2 * 1024 * 1024], b"not json".to_vec()] {
        let request = Request::post(CALLS).header(header::CONTENT_TYPE, "application/json").body(Body::from(body));
        assert_eq!(stage.send(request.unwrap()).await.error().0, 401);
    }
    let form = format!("client_id={BOT}&padding={}", "x".repeat(70_000));
    let answer = stage.form("/common/oauth2/v2.0/token", &form).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error_codes"]), (400, &json!([90014])));
}

#[tokio::test]
async fn names_of_any_length_and_kind_are_only_names() {
    let stage = Stage::new().await;
    let odd = [
        "\u{0}".to_owned(),
        "\u{202e}gnp.exe".to_owned(),
        "x".repeat(100_000),
        "'; DROP TABLE meetings; --".to_owned(),
    ];
    for odd in &odd {
        let body = json!({"externalId": odd, "subject": odd});
        let answer = stage.post("/beta/communications/onlineMeetings/createOrGet", body).await;
        if odd.chars().count() > 1024 {
            assert_eq!(answer.error(), (400, "8523".to_owned()));
        } else {
            assert_eq!((answer.status.as_u16(), &answer.json()["subject"]), (201, &json!(odd)));
        }
        let mut call = stage::call_to(&[stage::identity(ANNA)]);
        call["targets"][0]["identity"]["user"]["id"] = json!(odd);
        let answer = stage.post(CALLS, call).await;
        assert!(matches!(answer.status.as_u16(), 201 | 400), "{}", answer.json());
    }
}
