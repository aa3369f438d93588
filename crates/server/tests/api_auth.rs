//! Tokens: how they are got, what is published about them, and what is answered without a good one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, Request, header};
use serde_json::{Value, json};
use server::auth::{Keys, wall_clock};
use stage::{BOT, FOREIGN, MEEK, OTHER_TENANT, SECRET, STRANGER, Stage, TENANT};
use store::Purpose;

const SCOPE: &str = "scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_got_by_every_style_of_client() {
    let stage = Stage::new().await;
    let full = format!(
        "client_id={BOT}&grant_type=client_credentials&client_info=1&client_secret={SECRET}&claims=%7B%7D\
         &x-client-SKU=MSAL.Python&{SCOPE}"
    );
    for tenant in [TENANT, "contoso.example", "Contoso.Example", "common", "organizations"] {
        let answer = stage.form(&format!("/{tenant}/oauth2/v2.0/token?client-request-id=x"), &full).await;
        assert_eq!(answer.status, 200, "{tenant}: {}", answer.json());
        let body = answer.json();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], json!(3599));
        assert_eq!(body["ext_expires_in"], json!(3599));
        let claims = claims(body["access_token"].as_str().unwrap());
        assert_eq!(claims["aud"], "https://graph.microsoft.com");
        assert_eq!(claims["tid"], TENANT);
        assert_eq!(claims["appid"], BOT);
        assert_eq!(claims["idtyp"], "app");
        assert!(claims["roles"].as_array().unwrap().contains(&json!("Calls.InitiateGroupCall.All")));
        assert!(claims.get("scp").is_none());
    }
    // What SDKs derive when they are given no scope: their own name for this server, with a port or without.
    for scope in [
        "https://login.example.net/.default",
        "https://login.example.net:8443/.default",
        "http://localhost/.default",
        "00000003-0000-0000-c000-000000000000/.default",
    ] {
        let form = format!("client_id={BOT}&grant_type=client_credentials&client_secret={SECRET}&scope={scope}");
        assert_eq!(stage.form("/common/oauth2/v2.0/token", &form).await.status, 200, "{scope}");
    }
    // HTTP Basic.
    let request = Request::post("/common/oauth2/v2.0/token")
        .header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{BOT}:{SECRET}"))))
        .body(Body::from(format!("grant_type=client_credentials&{SCOPE}")))
        .unwrap();
    assert_eq!(stage.send(request).await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_request_has_its_number() {
    let stage = Stage::new().await;
    let grant = "grant_type=client_credentials";
    let table = [
        (TENANT, format!("{grant}&client_id={BOT}&client_secret=wrong&{SCOPE}"), 401, "invalid_client", 7000215),
        (TENANT, format!("{grant}&client_id={STRANGER}&client_secret=x&{SCOPE}"), 400, "unauthorized_client", 700016),
        // An application of another tenant.
        (
            TENANT,
            format!("{grant}&client_id={FOREIGN}&client_secret={SECRET}&{SCOPE}"),
            400,
            "unauthorized_client",
            700016,
        ),
        (STRANGER, format!("{grant}&client_id={BOT}&client_secret={SECRET}&{SCOPE}"), 400, "invalid_request", 90002),
        (
            TENANT,
            format!(
                "{grant}&client_id={BOT}&client_secret={SECRET}&scope=https%3A%2F%2Fgraph.microsoft.com%2FUser.Read"
            ),
            400,
            "invalid_scope",
            1002012,
        ),
        (TENANT, format!("{grant}&client_id={BOT}&client_secret={SECRET}&scope=a+b"), 400, "invalid_scope", 70011),
        (
            TENANT,
            format!("{grant}&client_id={BOT}&client_secret={SECRET}&scope=https%3A%2F%2Felsewhere.example%2F.default"),
            400,
            "invalid_resource",
            500011,
        ),
        (TENANT, format!("{grant}&client_id={BOT}&{SCOPE}"), 401, "invalid_client", 7000218),
        (TENANT, format!("{grant}&client_secret=x&{SCOPE}"), 400, "invalid_request", 900144),
        (TENANT, format!("grant_type=password&client_id={BOT}&{SCOPE}"), 400, "unsupported_grant_type", 70003),
        (
            TENANT,
            format!("{grant}&client_id={BOT}&client_assertion=e30&client_assertion_type=x&{SCOPE}"),
            401,
            "invalid_client",
            700027,
        ),
    ];
    for (tenant, form, status, word, number) in table {
        let answer = stage.form(&format!("/{tenant}/oauth2/v2.0/token"), &form).await;
        let body = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &body["error"], &body["error_codes"]),
            (status, &json!(word), &json!([number]))
        );
        let description = body["error_description"].as_str().unwrap();
        assert!(description.starts_with(&format!("AADSTS{number}: ")), "{description}");
        for part in ["Trace ID: ", "Correlation ID: ", "Timestamp: "] {
            assert!(description.contains(part), "{description}");
        }
        assert!(!description.contains(SECRET), "{description}");
        for member in ["timestamp", "trace_id", "correlation_id", "error_uri"] {
            assert!(body[member].is_string(), "{member}");
        }
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn documents_say_where_everything_is() {
    let stage = Stage::new().await;
    for path in [
        format!("/{TENANT}/v2.0/.well-known/openid-configuration"),
        format!("/{TENANT}/.well-known/openid-configuration"),
        "/contoso.example/v2.0/.well-known/openid-configuration".to_owned(),
        "/common/v2.0/.well-known/openid-configuration".to_owned(),
    ] {
        let body = stage.get(&path).await.json();
        for member in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
            let url = body[member].as_str().unwrap();
            assert!(url.starts_with("https://graph.example.net/"), "{path}: {member}: {url}");
        }
        let keys = body["jwks_uri"].as_str().unwrap().strip_prefix("https://graph.example.net").unwrap();
        let keys = stage.get(keys).await.json();
        for member in ["kty", "use", "kid", "x5t", "n", "e", "x5c"] {
            assert!(!keys["keys"][0][member].is_null(), "{member}");
        }
    }
    assert_eq!(stage.get(&format!("/{STRANGER}/v2.0/.well-known/openid-configuration")).await.status, 400);
    let asked = format!(
        "/common/discovery/instance?api-version=1.0&authorization_endpoint=https%3A%2F%2Fgraph.example.net%2F{TENANT}\
         %2Foauth2%2Fv2.0%2Fauthorize"
    );
    let body = stage.get(&asked).await.json();
    let discovery = format!("https://graph.example.net/{TENANT}/v2.0/.well-known/openid-configuration");
    assert_eq!(body["tenant_discovery_endpoint"], discovery);
    assert_eq!(body["metadata"][0]["preferred_network"], "graph.example.net");
}

#[tokio::test]
async fn bots_find_the_keys_of_our_notifications() {
    let stage = Stage::new().await;
    // Contract 2.6: in any case.
    for path in ["/v1/.well-known/OpenIdConfiguration", "/v1/.well-known/openidconfiguration"] {
        let body = stage.get(path).await.json();
        assert_eq!(body["issuer"], "https://api.botframework.com");
        assert_eq!(body["jwks_uri"], "https://graph.example.net/v1/keys");
    }
    let ours = stage.get("/v1/keys").await.json();
    let access = stage.get(&format!("/{TENANT}/discovery/v2.0/keys")).await.json();
    // Never the key of access tokens; and no endorsements, which would have to name a channel.
    assert_ne!(ours["keys"][0]["kid"], access["keys"][0]["kid"]);
    assert!(ours["keys"][0].get("endorsements").is_none());
}

#[tokio::test]
async fn without_a_good_token_the_answer_is_401() {
    let stage = Stage::new().await;
    let path = "/beta/communications/calls";
    let none = stage.send(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(none.error(), (401, "InvalidAuthenticationToken".to_owned()));
    assert_eq!(none.message(), "Access token is empty.");
    // Contract 2.2: an SDK that was told of no host sends none; the newcomer is told so.
    assert!(none.json()["error"]["details"][0]["message"].as_str().unwrap().contains("allowed_hosts"));
    let challenge = none.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"\", authorization_uri="), "{challenge}");
    assert!(!challenge.contains("claims"), "{challenge}");

    let good = stage.token().to_owned();
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let none_alg = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    let hs256 = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": header["kid"]}).to_string());
    let other_kid = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": "x"}).to_string());
    let mut claims = claims(&good);
    claims["tid"] = json!(OTHER_TENANT);
    let forged = URL_SAFE_NO_PAD.encode(claims.to_string());
    for bad in [
        "nonsense".to_owned(),
        format!("{none_alg}.{body}."),
        format!("{hs256}.{body}.{signature}"),
        format!("{other_kid}.{body}.{signature}"),
        format!("{head}.{forged}.{signature}"),
        format!("{head}.{body}.{}", signature.chars().rev().collect::<String>()),
    ] {
        let answer = stage.ask_with(&bad, Method::GET, path, None).await;
        assert_eq!(answer.error(), (401, "InvalidAuthenticationToken".to_owned()), "{bad}");
        assert!(!answer.header("www-authenticate").is_empty());
    }
    assert_eq!(stage.get(path).await.status, 200);
}

#[tokio::test]
async fn without_the_role_the_answer_is_403() {
    let stage = Stage::new().await;
    let meek = stage.token_of(MEEK).await;
    // INV-3: no other permission will do, and it is asked for before anything else is looked at.
    let path = format!("/beta/communications/calls/{STRANGER}/participants/invite");
    let answer = stage.ask_with(&meek, Method::POST, &path, Some(json!({}))).await;
    assert_eq!(answer.error(), (403, "7504".to_owned()));
    assert_eq!(answer.message(), "Insufficient enterprise tenant permissions, cannot access this API.");
}

#[tokio::test]
async fn an_application_that_is_gone_is_not_registered() {
    let stage = Stage::new().await;
    let mut set = store::DirectorySet::default();
    set.tenants.extend(stage.directory.load().tenants().cloned());
    stage.directory.store(std::sync::Arc::new(store::Directory::new(99, set)));
    let answer = stage.get("/beta/communications/calls").await;
    assert_eq!(answer.error(), (403, "7503".to_owned()));
    assert_eq!(answer.message(), "Application is not registered in our store.");
}

#[tokio::test]
async fn clients_come_in_bursts() {
    let stage = std::sync::Arc::new(Stage::new().await);
    let burst = (0..40).map(|_| {
        let stage = std::sync::Arc::clone(&stage);
        tokio::spawn(async move { stage.token_of(MEEK).await })
    });
    for client in burst.collect::<Vec<_>>() {
        assert!(!client.await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn keys_are_replaced_with_an_overlap() {
    let stage = Stage::new().await;
    let store = stage.store.as_ref();
    let began = wall_clock();
    let keys = Keys::open(store, began).await.unwrap();
    let published = |keys: &Keys| {
        let set = keys.published(Purpose::Access);
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let old = published(&keys);
    assert_eq!(old.len(), 1);
    let hours = Duration::from_hours;
    keys.tend(store, began + hours(89 * 24)).await.unwrap();
    assert_eq!(published(&keys), old);
    let replaced = began + hours(91 * 24);
    keys.tend(store, replaced).await.unwrap();
    let both = published(&keys);
    assert_eq!((both.len(), &both[0]), (2, &old[0]));
    // A token of the old key is good until the last of them has expired; then the key is withdrawn.
    keys.tend(store, replaced + hours(27)).await.unwrap();
    assert_eq!(published(&keys), both);
    keys.tend(store, replaced + hours(29)).await.unwrap();
    assert_eq!(published(&keys), both[1..]);
    // Another process finds the same.
    let again = Keys::open(store, replaced + hours(29)).await.unwrap();
    assert_eq!(published(&again), both[1..]);
}
