//! A stage for stories: the router in one process, on a real store and engine, with a switch that plays phones.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part of the stage")]

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use control::{
    AppId, Cause, Destination, Effect, LegAction, LegId, LegNews, PhoneNumber, Signal, Snapshot, TenantId, UserId,
};
use engine::Engine;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use server::admission::Gate;
use server::api::{self, Settings};
use server::auth::{Keys, hash_secret, wall_clock};
use store::sqlite::{Access, Sqlite};
use store::{App, Directory, DirectorySet, NoticeId, SipAccount, Store, Tenant, Trunk, User};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use uuid::Uuid;

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const OTHER_TENANT: &str = "11111111-86f1-41af-91ab-2d7cd011db47";
pub(crate) const BOT: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01";
/// Of the same tenant.
pub(crate) const RIVAL: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a02";
/// With every permission but that of inviting, and without a number.
pub(crate) const MEEK: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a03";
pub(crate) const FOREIGN: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a04";
/// Registered nowhere to be called back.
pub(crate) const MUTE: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a05";
pub(crate) const SECRET: &str = "only-for-tests";
pub(crate) const CALLBACK: &str = "https://bot.example/api/calls?webInstanceId=local";

pub(crate) const ANNA: &str = "278405a3-f568-4b3e-b684-009193463064";
pub(crate) const BERT: &str = "7e1b4346-85a6-4bdd-abe3-d11c5d420efe";
pub(crate) const CARL: &str = "1e126418-44a0-4a94-a6f8-0efe1ad71acb";
pub(crate) const DORA: &str = "682b6c37-0729-4fab-ace6-d730d5d9137e";
/// Their phones play what their names say.
pub(crate) const BUSY: &str = "00000000-0000-4000-8000-0000000000b1";
pub(crate) const DECLINING: &str = "00000000-0000-4000-8000-0000000000b2";
pub(crate) const RINGING: &str = "00000000-0000-4000-8000-0000000000b3";
/// Has no phone at all.
pub(crate) const PHONELESS: &str = "00000000-0000-4000-8000-0000000000b4";
pub(crate) const STRANGER: &str = "00000000-0000-4000-8000-00000000ffff";

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    pub(crate) router: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) engine: Engine,
    pub(crate) directory: Arc<ArcSwap<Directory>>,
    pub(crate) gate: Gate,
    token: String,
    _data: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        let error = &body["error"];
        assert!(error["message"].is_string(), "no envelope: {} {body}", self.status);
        for member in ["date", "request-id", "client-request-id"] {
            assert!(error["innerError"][member].is_string(), "{member}");
        }
        (self.status.as_u16(), error["code"].as_str().unwrap().to_owned())
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::told_by(api::to_graph::renderer(), settings).await
    }

    /// With a renderer of the test's.
    pub(crate) async fn told_by(render: engine::Render, settings: Settings) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(data.path(), Access::Serve).unwrap());
        for key in signing_keys().await {
            store.add_key(key.clone()).await.unwrap();
        }
        store.apply(people(), false).await.unwrap();
        let keys = Arc::new(Keys::open(store.as_ref(), wall_clock()).await.unwrap());
        let directory = Arc::new(ArcSwap::from_pointee(store.directory().await.unwrap()));
        let (effects, to_switch) = mpsc::channel(1000);
        let (from_switch, signals) = mpsc::channel(1000);
        let engine = Engine::start(Arc::clone(&store), render, effects, signals).await.unwrap();
        tokio::spawn(play(to_switch, from_switch));
        let gate = Gate::new();
        let router = api::router(api::State {
            engine: engine.clone(),
            store: Arc::clone(&store),
            directory: Arc::clone(&directory),
            keys,
            settings: Arc::new(settings),
            metrics: None,
            gate: gate.clone(),
            ready: Arc::new(AtomicBool::new(true)),
        });
        let mut stage = Self { router, store, engine, directory, gate, token: String::new(), _data: data };
        stage.token = stage.token_of(BOT).await;
        stage
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// As the bot.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_with(&self.token, method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None).await
    }

    pub(crate) async fn ask_with(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = Self::request(token, method, path);
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    pub(crate) fn request(token: &str, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "graph.example.net")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn token_of(&self, app: &str) -> String {
        let form = format!(
            "client_id={app}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&client_secret={SECRET}\
             &grant_type=client_credentials"
        );
        let answer = self.form("/common/oauth2/v2.0/token", &form).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn form(&self, path: &str, form: &str) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "login.example.net:8443")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded;charset=utf-8")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }

    /// The bodies of all notices so far, once `enough` of them are there.
    pub(crate) async fn notices(&self, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut newest = self.engine.notices();
        let told = async {
            loop {
                newest.mark_unchanged();
                let pending = self.store.pending(NoticeId::NONE, 1000).await.unwrap();
                let bodies: Vec<Value> = pending
                    .iter()
                    .map(|pending| {
                        assert_eq!(pending.notice.callback, CALLBACK);
                        serde_json::from_str(&pending.notice.body).unwrap()
                    })
                    .collect();
                if enough(&bodies) {
                    return bodies;
                }
                newest.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the notices come in time")
    }

    /// The first notice whose URL ends so, and that passes.
    pub(crate) async fn notice(&self, url_end: &str, pass: impl Fn(&Value) -> bool) -> Value {
        let wanted = |body: &&Value| {
            let told = &body["value"][0];
            told["resourceUrl"].as_str().unwrap().ends_with(url_end) && pass(told)
        };
        let all = self.notices(|bodies| bodies.iter().any(|body| wanted(&body))).await;
        all.iter().find(wanted).unwrap().clone()
    }

    /// Waits until a call says that its audio flows.
    pub(crate) async fn audio(&self, call: &str) {
        self.notice(call, |told| told["resourceData"]["mediaState"]["audio"] == "active").await;
    }

    /// Waits until an operation is over, and gives its resource data.
    pub(crate) async fn ended(&self, operation: &Value) -> Value {
        let end = format!("/operations/{}", operation.as_str().unwrap());
        self.notice(&end, |told| told["changeType"] == "deleted").await["value"][0]["resourceData"].clone()
    }

    /// A peer-to-peer call that is established, with someone whose phone answers.
    pub(crate) async fn talking_to(&self, user: &str) -> String {
        let id = self.place(&[identity(user)]).await;
        self.audio(&id).await;
        id
    }

    /// A group call that is established.
    pub(crate) async fn group_of(&self, first: &str, second: &str) -> String {
        let id = self.place(&[identity(first), identity(second)]).await;
        self.audio(&id).await;
        for user in [first, second] {
            self.notice(&format!("{id}/participants"), |told| told["resourceData"].to_string().contains(user)).await;
        }
        id
    }

    pub(crate) async fn place(&self, targets: &[Value]) -> String {
        let answer = self.post("/beta/communications/calls", call_to(targets)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// A meeting that the bot has joined: the call's id.
    pub(crate) async fn meeting(&self) -> String {
        let id = self.join(&self.token.clone()).await;
        self.audio(&id).await;
        id
    }

    pub(crate) async fn join(&self, token: &str) -> String {
        let path = format!("/beta/users/{ANNA}/onlineMeetings");
        let made = self.ask_with(token, Method::POST, &path, Some(serde_json::json!({"subject": "S"}))).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
        let answer =
            self.ask_with(token, Method::POST, "/beta/communications/calls", Some(join_of(&made.json()))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn invite(&self, call: &str, participants: Vec<Value>) -> Answer {
        let body =
            serde_json::json!({"participants": participants, "clientContext": "f2fa86af-3c51-4bc2-8fc0-475452d9764f"});
        self.post(&format!("/beta/communications/calls/{call}/participants/invite"), body).await
    }
}

/// Someone to be called, by the id of a user or a number.
pub(crate) fn identity(id: &str) -> Value {
    let who = if id.starts_with('+') {
        serde_json::json!({"phone": {"@odata.type": "#microsoft.graph.identity", "id": id}})
    } else {
        serde_json::json!({"user": {"id": id, "identityProvider": "AAD"}})
    };
    serde_json::json!({"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": who})
}

pub(crate) fn with(mut value: Value, name: &str, member: &str) -> Value {
    value[name] = Value::from(member);
    value
}

pub(crate) fn call_to(targets: &[Value]) -> Value {
    serde_json::json!({
        "@odata.type": "#microsoft.graph.call",
        "callbackUri": CALLBACK,
        "requestedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
        "targets": targets,
    })
}

pub(crate) fn join_of(meeting: &Value) -> Value {
    let mut call = call_to(&[]);
    call["chatInfo"] = meeting["chatInfo"].clone();
    call["tenantId"] = Value::from(TENANT);
    call["meetingInfo"] = serde_json::json!({
        "@odata.type": "#microsoft.graph.organizerMeetingInfo",
        "organizer": meeting["participants"]["organizer"]["identity"],
    });
    call
}

/// Phones: each plays what its user name says, and answers otherwise.
async fn play(
    mut effects: mpsc::Receiver<(control::ConferenceId, Effect)>,
    signals: mpsc::Sender<(control::ConferenceId, Signal)>,
) {
    while let Some((conference, effect)) = effects.recv().await {
        let Effect::Leg(leg, action) = effect else { continue };
        for news in react(leg, &action) {
            let _ = signals.send((conference, Signal::Leg(leg, news))).await;
        }
    }
}

fn react(leg: LegId, action: &LegAction) -> Vec<LegNews> {
    match action {
        LegAction::Dial(target) | LegAction::DialAgain(target) => match &target.destination {
            Destination::Line { username, .. } if username == "busy" => vec![LegNews::HungUp(Cause::Busy)],
            Destination::Line { username, .. } if username == "declining" => {
                vec![LegNews::Ringing, LegNews::HungUp(Cause::Declined)]
            }
            Destination::Line { username, .. } if username == "ringing" => vec![LegNews::Ringing],
            Destination::Line { .. } | Destination::Number(_) => {
                vec![LegNews::Ringing, LegNews::Connected(Snapshot(format!("dialog of {leg}")))]
            }
        },
        LegAction::Confirm => vec![LegNews::MediaUp],
        LegAction::Resume { snapshot, .. } => vec![LegNews::Resumed(snapshot.clone())],
        LegAction::HangUp { cause, .. } => vec![LegNews::HungUp(cause.clone())],
    }
}

fn people() -> DirectorySet {
    let tenant: TenantId = TENANT.parse().unwrap();
    let foreign: TenantId = OTHER_TENANT.parse().unwrap();
    let user = |id: &str, name: &str, phone: bool| User {
        id: id.parse::<Uuid>().map(UserId).unwrap(),
        tenant,
        name: name.to_owned(),
        upn: Some(format!("{}@contoso.example", name.to_lowercase())),
        sip: phone.then(|| SipAccount {
            username: name.to_lowercase(),
            ha1_md5: String::new(),
            ha1_sha256: String::new(),
        }),
        line: None,
    };
    let everything = [
        "Calls.Initiate.All",
        "Calls.InitiateGroupCall.All",
        "Calls.JoinGroupCall.All",
        "Calls.AccessMedia.All",
        "OnlineMeetings.ReadWrite.All",
    ];
    let app = |id: &str, name: &str| App {
        id: id.parse::<Uuid>().map(AppId).unwrap(),
        tenant,
        name: name.to_owned(),
        secret_hash: Some(secret_hash().to_owned()),
        roles: everything.iter().map(|role| (*role).to_owned()).collect(),
        callback: Some(CALLBACK.to_owned()),
        callback_hosts: Vec::new(),
        number: None,
        instance: id.parse::<Uuid>().map(AppId).unwrap(),
        may_remove_participants: true,
    };
    let mut meek = app(MEEK, "Meek bot");
    meek.roles.retain(|role| role != "Calls.InitiateGroupCall.All");
    meek.may_remove_participants = false;
    let mut bot = app(BOT, "Calling Bot");
    bot.number = PhoneNumber::parse("+12065550100");
    DirectorySet {
        tenants: vec![
            Tenant { id: tenant, domain: "contoso.example".to_owned() },
            Tenant { id: foreign, domain: "fabrikam.example".to_owned() },
        ],
        apps: vec![
            bot,
            app(RIVAL, "Rival bot"),
            meek,
            App { tenant: foreign, ..app(FOREIGN, "Foreign bot") },
            App { callback: None, ..app(MUTE, "Mute bot") },
        ],
        users: vec![
            user(ANNA, "Anna", true),
            user(BERT, "Bert", true),
            user(CARL, "Carl", true),
            user(DORA, "Dora", true),
            user(BUSY, "Busy", true),
            user(DECLINING, "Declining", true),
            user(RINGING, "Ringing", true),
            user(PHONELESS, "Phoneless", false),
        ],
        trunks: vec![Trunk {
            name: "carrier".to_owned(),
            uri: "sip:127.0.0.1:15060".to_owned(),
            prefixes: vec!["+1".to_owned()],
            username: None,
            password: None,
            register: false,
            strip: 0,
            prepend: String::new(),
            tenants: Vec::new(),
            line: None,
        }],
    }
}

/// Hashing and making keys takes long enough to be done once for all tests of a binary.
fn secret_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash_secret(SECRET))
}

async fn signing_keys() -> &'static [store::SigningKey] {
    static KEYS: tokio::sync::OnceCell<Vec<store::SigningKey>> = tokio::sync::OnceCell::const_new();
    KEYS.get_or_init(|| async {
        let data = tempfile::tempdir().unwrap();
        let store = Sqlite::open(data.path(), Access::Serve).unwrap();
        Keys::open(&store, wall_clock()).await.unwrap();
        let mut keys = store.keys(store::Purpose::Access).await.unwrap();
        keys.extend(store.keys(store::Purpose::Notification).await.unwrap());
        keys
    })
    .await
}
