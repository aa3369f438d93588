//! The whole server in one process, on free ports of loopback, and webhooks that behave as badly as they are told.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part of the world")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::{AppId, CallId, ChainId, ConferenceId, Event, Kind, ScenarioId, TenantId, Timestamp};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use server::auth::{fresh_id, wall_clock};
use server::boot::{self, Server};
use server::certs::{self, Authority, Served};
use server::config::{Config, Span};
use server::directory;
use server::hook::{Hook, Manners, Received, Verifier};
use store::sqlite::{Access, Sqlite};
use store::{Commit, DeadLetter, OutgoingNotice, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Anything that should come does so long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const APP: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01";
pub(crate) const SECRET: &str = "only-for-tests";
/// Has a test line that answers.
pub(crate) const ADA: &str = "278405a3-f568-4b3e-b684-009193463064";

/// Everything on free ports of loopback.
pub(crate) fn free_ports(data: &Path) -> Config {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config { data: data.to_owned(), dev: true, ..Config::default() };
    config.http.listen = here;
    config.http.plain_listen = here;
    config.sip.udp_listen = here;
    config.sip.tcp_listen = here;
    config
}

/// To an application that nobody else knows.
pub(crate) fn notice(call: CallId, callback: &str, number: u32) -> OutgoingNotice {
    OutgoingNotice {
        call,
        app: AppId(fresh_id()),
        tenant: TenantId(fresh_id()),
        callback: callback.to_owned(),
        scenario: ScenarioId(fresh_id()),
        chain: ChainId(fresh_id()),
        body: format!(r#"{{"number":{number}}}"#),
        after: None,
        settles: None,
        full_roster: false,
        ends_call: false,
    }
}

/// A turn of a conference that begins and ends with it.
pub(crate) fn turn(at: Timestamp, notices: Vec<OutgoingNotice>) -> Commit {
    let opened =
        Event::Opened { at, tenant: TenantId(fresh_id()), kind: Kind::PeerToPeer, created_by: AppId(fresh_id()) };
    let conference = ConferenceId(fresh_id());
    Commit { conference, position: 0, at, events: vec![opened, Event::Closed], notices, snapshot: None }
}

/// A server, and what its owner knows.
pub(crate) struct World {
    pub(crate) server: Server,
    /// As a command of the operator has it open.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) app: AppId,
    pub(crate) tenant: TenantId,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: Config,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = free_ports(folder.path());
        config.notify.retry_for = Span(Duration::from_mins(1));
        change(&mut config);
        Self::on(folder, config).await
    }

    async fn on(folder: tempfile::TempDir, config: Config) -> Self {
        let server = boot::start(&config).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path(), Access::Command).unwrap());
        Self { server, store, app: APP.parse().unwrap(), tenant: TENANT.parse().unwrap(), folder, config }
    }

    /// As after Ctrl-C, and a start in the same data directory.
    pub(crate) async fn restart(self) -> Self {
        let Self { server, store, folder, config, .. } = self;
        drop(store);
        server.drain().await;
        Self::on(folder, config).await
    }

    pub(crate) async fn hook(&self, tls: bool, audience: AppId, manners: Manners) -> Hook {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let authority = Authority::open(self.folder.path()).unwrap();
        let issued = authority.issue(&["localhost".to_owned()]).unwrap();
        let tls = tls.then(|| Served::new(issued.loaded().unwrap()).server_config().unwrap());
        let roots = certs::roots(Some(authority.pem()), None).unwrap();
        let verifier = Verifier::new(&self.server.base_url, Some(audience), roots).unwrap();
        Hook::start(listener, tls, Some(verifier), manners).unwrap()
    }

    pub(crate) fn notice(&self, call: CallId, callback: &str, number: u32) -> OutgoingNotice {
        OutgoingNotice { app: self.app, tenant: self.tenant, ..notice(call, callback, number) }
    }

    /// One notice of a call of its own.
    pub(crate) async fn owe_one(&self, callback: &str, number: u32) {
        self.owe(vec![self.notice(CallId(fresh_id()), callback, number)]).await;
    }

    /// Writes notices into the outbox as a turn of some conference does.
    pub(crate) async fn owe(&self, notices: Vec<OutgoingNotice>) {
        self.store.commit(turn(wall_clock(), notices)).await.unwrap();
    }

    pub(crate) async fn dead_letter(&self) -> DeadLetter {
        self.dead_letters(1).await.remove(0)
    }

    /// All that were given up, once there are so many; newest first.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        let found = async {
            loop {
                let letters = self.store.dead_letters(None, 100).await.unwrap();
                if letters.len() >= count {
                    return letters;
                }
                tokio::task::yield_now().await;
            }
        };
        in_time("it is given up", found).await
    }

    /// A tenant, a bot whose notifications go to `callback`, and Ada with a line that answers, registered.
    pub(crate) async fn settle(&self, callback: &str) {
        let mut phones = self.server.bank.subscribe();
        let path = self.folder.path().join("directory.toml");
        let text = format!(
            "[[tenant]]\nid = '{TENANT}'\ndomain = 'contoso.example'\n\
             [[app]]\nid = '{APP}'\ntenant = '{TENANT}'\nname = 'Bot'\nsecret = '{SECRET}'\ncallback = '{callback}'\n\
             roles = ['Calls.Initiate.All', 'Calls.InitiateGroupCall.All', 'Calls.JoinGroupCall.All']\n\
             [[user]]\nid = '{ADA}'\ntenant = '{TENANT}'\nname = 'Ada'\n\
             sip = {{ username = 'ada', password = 'only-for-tests' }}\nline = {{ answer_after = '10ms' }}\n"
        );
        std::fs::write(&path, text).unwrap();
        directory::apply(self.store.as_ref(), &path, false).await.unwrap();
        let registered = |event: &phone::PhoneEvent| matches!(event.what, phone::Happening::Registered { .. });
        phones.wait_for(PATIENCE, registered).await.expect("the line registers");
    }

    pub(crate) async fn token(&self) -> String {
        let client = self.client();
        let form = format!(
            "client_id={APP}&client_secret={SECRET}&grant_type=client_credentials\
             &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
        );
        let url = format!("{}/common/oauth2/v2.0/token", self.server.base_url);
        let answer: Value = client.post(url).body(form).send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Trusts the server's authority, and is more patient than those of our own tools.
    pub(crate) fn client(&self) -> reqwest::Client {
        let client = reqwest::Client::builder().tls_backend_preconfigured(self.tls(&[b"h2", b"http/1.1"]));
        client.timeout(PATIENCE).no_proxy().build().unwrap()
    }

    pub(crate) fn tls(&self, protocols: &[&[u8]]) -> rustls::ClientConfig {
        let roots = certs::roots(Some(self.server.authority.pem()), None).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(certs::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        tls
    }

    pub(crate) async fn ask(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, http::HeaderMap, Value) {
        let url = format!("{}/v1.0/communications{path}", self.server.base_url);
        let request = self.client().request(method, url).bearer_auth(token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        (status, headers, answer.json().await.unwrap_or(Value::Null))
    }

    /// A call to Ada: its id.
    pub(crate) async fn call_ada(&self, token: &str, callback: &str) -> String {
        let body =
            json!({"callbackUri": callback, "mediaConfig": {}, "targets": [{"identity": {"user": {"id": ADA}}}]});
        let (status, _, call) = self.ask(token, Method::POST, "/calls", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{call}");
        call["id"].as_str().unwrap().to_owned()
    }

    /// A connection to the plain listener.
    pub(crate) async fn plain(&self) -> Raw {
        Raw(TcpStream::connect(self.server.http.unwrap()).await.unwrap())
    }
}

/// A client that writes whatever it likes.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn write(&mut self, text: &str) {
        // The server may have hung up on us already, which is for the reading to find out.
        let _ = self.0.write_all(text.as_bytes()).await;
    }

    /// Everything until the server hangs up.
    pub(crate) async fn rest(mut self) -> String {
        let mut all = Vec::new();
        // A reset is an end too.
        let _ = in_time("the server hangs up", self.0.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    }

    /// What is sent is answered, and the connection is closed.
    pub(crate) async fn ends_with(mut self, text: &str) -> String {
        self.write(text).await;
        self.rest().await
    }
}

/// Fails a test rather than letting it hang.
pub(crate) async fn in_time<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub(crate) async fn next(hook: &mut Hook) -> Received {
    in_time("a notification comes", hook.next()).await.expect("the hook runs")
}

/// What a webhook does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Status and a `Location`, if it is not empty.
    Answer(u16, String),
    /// Hangs up after having read it all.
    Drop,
    /// Keeps the connection open and says nothing.
    Silence,
}

/// Does one deed per request, the last one again and again, and tells of every path and number it was sent.
pub(crate) async fn scripted(deeds: Vec<Deed>) -> (SocketAddr, mpsc::UnboundedReceiver<(String, u64)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    let deeds = Arc::new(std::sync::Mutex::new(deeds));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (tell, deeds) = (tell.clone(), Arc::clone(&deeds));
            tokio::spawn(async move {
                while let Some((path, number)) = request(&mut stream).await {
                    let deed = {
                        let mut deeds = deeds.lock().unwrap();
                        if deeds.len() > 1 { deeds.remove(0) } else { deeds[0].clone() }
                    };
                    let _ = tell.send((path, number));
                    match deed {
                        Deed::Answer(status, location) => {
                            let location =
                                if location.is_empty() { location } else { format!("Location: {location}\r\n") };
                            let answer = format!("HTTP/1.1 {status} x\r\n{location}Content-Length: 0\r\n\r\n");
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                        Deed::Drop => return,
                        Deed::Silence => std::future::pending().await,
                    }
                }
            });
        }
    });
    (address, told)
}

/// Path and number of one notification; `None` when the sender hangs up.
async fn request(stream: &mut TcpStream) -> Option<(String, u64)> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let body: Value = serde_json::from_str(body).unwrap_or_default();
                return Some((path, body["number"].as_u64().unwrap_or_default()));
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&more[..count]),
        }
    }
}
