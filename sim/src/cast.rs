//! Who is in the play: a tenant, two bots, people and their phones. The same in every world.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use axum::body::Body;
use control::{AppId, ConferenceId, TenantId, Timestamp, UserId};
use engine::Engine;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use server::admission::Gate;
use server::api::{self, Settings};
use server::auth::{Keys, hash_secret, wall_clock};
use store::{App, Directory, DirectorySet, Meeting, Purpose, SigningKey, SipAccount, Store, Tenant, Trunk, User};
use switch::Binding;
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::chance::Chance;
use crate::disk::Disk;
use crate::process::wall;

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const BOTS: [&str; 2] = ["0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01", "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a02"];
pub(crate) const CALLBACKS: [&str; 2] = ["https://one.example/calls", "https://two.example/calls"];
pub(crate) const MEETINGS: [&str; 2] = ["1000000001", "1000000002"];
const SECRET: &str = "only-for-worlds";
const DOMAIN: &str = "contoso.example";

/// People, and how many devices each has.
pub(crate) const PEOPLE: [(&str, &str, usize); 6] = [
    ("278405a3-f568-4b3e-b684-009193463061", "anna", 1),
    ("278405a3-f568-4b3e-b684-009193463062", "bert", 1),
    ("278405a3-f568-4b3e-b684-009193463063", "carl", 2),
    ("278405a3-f568-4b3e-b684-009193463064", "dora", 1),
    ("278405a3-f568-4b3e-b684-009193463065", "emil", 2),
    ("278405a3-f568-4b3e-b684-009193463066", "faye", 1),
];

/// People outside: they are called by way of the carrier.
pub(crate) const NUMBERS: [&str; 2] = ["+12065550101", "+12065550102"];

/// The carrier's gateways, one of which stands in for the other; both ask who calls.
const GATEWAYS: [(&str, Ipv4Addr); 2] =
    [("first gateway", Ipv4Addr::new(10, 0, 9, 1)), ("second gateway", Ipv4Addr::new(10, 0, 9, 2))];

/// Whether an id is that of somebody with a phone.
pub(crate) fn is_person(id: &str) -> bool {
    PEOPLE.iter().map(|(person, ..)| *person).chain(NUMBERS).any(|person| person == id)
}

/// What is made once for all worlds: it takes long, and nothing in a world depends on it.
pub struct Cast {
    keys: Vec<SigningKey>,
    pub(crate) ring: Arc<Keys>,
    pub(crate) tokens: Vec<String>,
    directory: Directory,
}

impl std::fmt::Debug for Cast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cast").finish_non_exhaustive()
    }
}

impl Default for Cast {
    fn default() -> Self {
        let directory = Directory::new(1, people());
        let disk = Disk::new(Chance::new(0), directory.clone(), Vec::new(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (ring, tokens) = runtime.block_on(async {
            let store: Arc<dyn Store> = Arc::new(disk.clone());
            let ring = Arc::new(Keys::open(&*store, wall_clock()).await.expect("keys can be made"));
            let (effects, _to_switch) = mpsc::channel(1);
            let (_from_switch, signals) = mpsc::channel(1);
            let render = api::to_graph::renderer();
            let engine = Engine::start(Arc::clone(&store), render, effects, signals).await.expect("an empty store");
            let router = api::router(api::State {
                engine,
                store,
                directory: Arc::new(ArcSwap::from_pointee(directory.clone())),
                keys: Arc::clone(&ring),
                settings: Arc::new(Settings::default()),
                metrics: None,
                ready: Arc::new(AtomicBool::new(true)),
                gate: Gate::new(),
            });
            let mut tokens = Vec::new();
            for bot in BOTS {
                let form = format!(
                    "client_id={bot}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&client_secret={SECRET}\
                     &grant_type=client_credentials"
                );
                let request = Request::builder()
                    .method(Method::POST)
                    .uri("/common/oauth2/v2.0/token")
                    .header(header::HOST, "login.example")
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(Body::from(form))
                    .expect("a request of plain text");
                let Ok(answer) = router.clone().oneshot(request).await;
                let bytes = answer.into_body().collect().await.expect("a body in memory").to_bytes();
                let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
                tokens.push(answer["access_token"].as_str().expect("a token").to_owned());
            }
            (ring, tokens)
        });
        let mut keys = Vec::new();
        for purpose in [Purpose::Access, Purpose::Notification] {
            keys.extend(runtime.block_on(disk.keys(purpose)).expect("keys"));
        }
        Self { keys, ring, tokens, directory }
    }
}

impl Cast {
    pub(crate) fn disk(&self, chance: Chance) -> Disk {
        Disk::new(chance, self.directory.clone(), self.keys.clone(), meetings())
    }
}

/// What the switch knows of people and of the carrier.
pub(crate) fn switch_directory() -> switch::Directory {
    let user = |(_, name, _): &(&str, &str, usize)| switch::User {
        tenant: tenant(),
        domain: DOMAIN.to_owned(),
        username: (*name).to_owned(),
        ha1_md5: String::new(),
        ha1_sha256: String::new(),
    };
    let trunks = GATEWAYS.map(|(name, address)| switch::Trunk {
        name: name.to_owned(),
        uri: format!("sip:{address}"),
        prefixes: vec!["+".to_owned()],
        strip: 0,
        prepend: String::new(),
        credentials: Some(switch::TrunkCredentials { username: "convoke".to_owned(), password: SECRET.to_owned() }),
        register: false,
        tenants: None,
    });
    switch::Directory::new(PEOPLE.iter().map(user), trunks.to_vec())
}

/// Each device: its address, and whether it is a gateway.
pub(crate) fn devices() -> Vec<(SocketAddr, bool)> {
    let handsets = handsets().into_iter().map(|(_, address)| (address, false));
    let gateways = GATEWAYS.map(|(_, ip)| (SocketAddr::new(ip.into(), 5060), true));
    handsets.chain(gateways).collect()
}

/// Which of the devices somebody is talked to by: their own, or the gateways.
pub(crate) fn devices_of(id: &str) -> Range<usize> {
    let mut first = 0;
    for (person, _, count) in PEOPLE {
        if person == id {
            return first..first + count;
        }
        first += count;
    }
    first..first + GATEWAYS.len()
}

fn handsets() -> Vec<(&'static str, SocketAddr)> {
    let all = PEOPLE.iter().enumerate().flat_map(|(person, (_, name, devices))| {
        (0..*devices).map(move |device| {
            let ip = Ipv4Addr::new(10, 0, 1 + person as u8, 1 + device as u8);
            (*name, SocketAddr::new(IpAddr::V4(ip), 5060))
        })
    });
    all.collect()
}

/// Every handset is registered, and stays so.
pub(crate) fn bindings() -> Vec<Binding> {
    let bound = |(name, address): (&str, SocketAddr)| Binding {
        aor: switch::aor(name, DOMAIN),
        aor_uri: format!("sip:{name}@{DOMAIN}"),
        contact: format!("sip:phone@{address}"),
        path: Vec::new(),
        source: address,
        transport: "udp".to_owned(),
        call_id: format!("registration-of-{address}"),
        cseq: 1,
        q_thousandths: 1000,
        user_agent: None,
        instance: None,
        expires_at: wall(24 * 3600 * 1000),
    };
    handsets().into_iter().map(bound).collect()
}

fn carrier(name: &str, address: Ipv4Addr) -> Trunk {
    Trunk {
        name: name.to_owned(),
        uri: format!("sip:{address}"),
        prefixes: vec!["+".to_owned()],
        username: Some("convoke".to_owned()),
        password: Some(SECRET.to_owned()),
        register: false,
        strip: 0,
        prepend: String::new(),
        tenants: Vec::new(),
        line: None,
    }
}

fn tenant() -> TenantId {
    TENANT.parse().expect("a GUID")
}

fn people() -> DirectorySet {
    let hash = hash_secret(SECRET);
    let roles =
        ["Calls.Initiate.All", "Calls.InitiateGroupCall.All", "Calls.JoinGroupCall.All", "Calls.AccessMedia.All"];
    let bots = BOTS.iter().zip(CALLBACKS).map(|(id, callback)| App {
        id: id.parse::<Uuid>().map(AppId).expect("a GUID"),
        tenant: tenant(),
        name: format!("Bot of {callback}"),
        secret_hash: Some(hash.clone()),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        callback: Some(callback.to_owned()),
        callback_hosts: Vec::new(),
        number: control::PhoneNumber::parse("+12065550100"),
        instance: id.parse::<Uuid>().map(AppId).expect("a GUID"),
        may_remove_participants: true,
    });
    let users = PEOPLE.iter().map(|(id, name, _)| User {
        id: id.parse::<Uuid>().map(UserId).expect("a GUID"),
        tenant: tenant(),
        name: (*name).to_owned(),
        upn: None,
        sip: Some(SipAccount { username: (*name).to_owned(), ha1_md5: String::new(), ha1_sha256: String::new() }),
        line: None,
    });
    DirectorySet {
        tenants: vec![Tenant { id: tenant(), domain: DOMAIN.to_owned() }],
        apps: bots.collect(),
        users: users.collect(),
        trunks: GATEWAYS.map(|(name, address)| carrier(name, address)).to_vec(),
    }
}

/// Both are the first bot's own; both may join.
fn meetings() -> Vec<Meeting> {
    let meeting = |(number, join_meeting_id): (usize, &&str)| Meeting {
        id: ConferenceId(Uuid::from_u128(0x5e00 + number as u128)),
        tenant: tenant(),
        organizer: None,
        created_by: BOTS[0].parse().expect("a GUID"),
        created: Timestamp(0),
        subject: None,
        start: Timestamp(0),
        end: wall(24 * 3600 * 1000),
        thread: format!("19:meeting_{number}@thread.v2"),
        join_meeting_id: (*join_meeting_id).to_owned(),
        passcode: None,
        external_id: None,
        vtc_id: None,
        body: Value::Null,
    };
    MEETINGS.iter().enumerate().map(meeting).collect()
}
