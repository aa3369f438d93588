//! Everything the stories need: a server with an empty data directory on free ports, phones, a carrier, a bot, a webhook.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bot::{APP, Bot, SECRET, TENANT};
use super::timeline::{Lane, Timeline};
use super::webhook::Webhook;
use super::Options;
use crate::boot::{self, Server};
use crate::certs::{self, Served};
use crate::config::Config;
use crate::directory;
use crate::serving::{self, Serving};
use store::sqlite::{Access, Sqlite};

/// Someone on the stage: a test line that says a tone of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) id: &'static str,
    /// The phone's name; the carrier's for a number.
    pub(super) line: &'static str,
    /// What it says, in hertz.
    pub(super) tone: f32,
}

pub(super) const DESK: Person = Person { id: "278405a3-f568-4b3e-b684-009193463064", line: "front-desk", tone: 440.0 };
pub(super) const ADA: Person = Person { id: "7e1b4346-85a6-4bdd-abe3-d11c5d420efe", line: "ada", tone: 660.0 };
pub(super) const BEN: Person = Person { id: "1e126418-44a0-4a94-a6f8-0efe1ad71acb", line: "ben", tone: 820.0 };
pub(super) const CLEO: Person = Person { id: "682b6c37-0729-4fab-ace6-d730d5d9137e", line: "cleo", tone: 1020.0 };
pub(super) const DORA: Person = Person { id: "9f2b3c1e-5d6a-4f0e-8a53-0d7a4b1c2d3e", line: "dora", tone: 1260.0 };
pub(super) const NUMBER: Person = Person { id: "+12345678901", line: "carrier", tone: 1560.0 };
pub(super) const EVERYBODY: [Person; 6] = [DESK, ADA, BEN, CLEO, DORA, NUMBER];

/// The loudness of each tone, by the name of the line that hears it. A line in two calls hears the later one here.
type Heard = BTreeMap<String, Vec<phone::ToneLevel>>;

pub(super) struct Stage {
    pub(super) bot: Bot,
    pub(super) webhook: Webhook,
    pub(super) timeline: Timeline,
    heard: watch::Receiver<Heard>,
    dialled: Arc<Mutex<BTreeMap<String, u32>>>,
    server: Server,
    folder: PathBuf,
    temporary: bool,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Stage {
    pub(super) async fn set(options: &Options, timeline: Timeline) -> Result<Self> {
        let temporary = options.data.is_none();
        let folder = options.data.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("convoke-demo-{}", std::process::id()))
        });
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

        let hook_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let hook_port = hook_listener.local_addr()?.port();
        let carrier = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        apply_directory(&folder, hook_port, carrier).await?;

        let server = boot::start_listening(&config(&folder), &EVERYBODY.map(|person| person.tone)).await?;
        let stop = CancellationToken::new();
        let webhook = Webhook::new(timeline.clone());
        let served = Served::new(server.authority.server_certificate(&certs::server_names([]))?);
        let hook = Serving {
            router: webhook.router(),
            tls: Some(served.server_config()?),
            patience: Duration::from_secs(30),
            connections: Arc::new(Semaphore::new(256)),
        };
        let mut tasks = vec![tokio::spawn(serving::serve(hook_listener, hook, stop.clone()))];

        let http = client(server.authority.pem())?;
        let metadata: serde_json::Value =
            http.get(format!("{}/v1/.well-known/OpenIdConfiguration", server.base_url)).send().await?.json().await?;
        let keys = metadata["jwks_uri"].as_str().context("the metadata names no keys")?;
        webhook.trust(http.get(keys).send().await?.json().await?);

        let heard = watch::Sender::new(Heard::new());
        let listening = heard.subscribe();
        let dialled = Arc::default();
        tasks.push(tokio::spawn(listen(server.bank.subscribe(), heard, Arc::clone(&dialled))));
        tasks.push(tokio::spawn(watch_signalling(server.switch.happenings(), timeline.clone())));
        wait_for_phones(&server).await?;

        let callback = format!("https://localhost:{hook_port}/api/calls");
        let bot = Bot::new(http, &server.base_url, &callback, timeline.clone()).await?;
        Ok(Self { bot, webhook, timeline, heard: listening, dialled, server, folder, temporary, stop, tasks })
    }

    pub(super) fn introduce(&self) {
        let sip = self.server.sip.udp.first().map(ToString::to_string).unwrap_or_default();
        self.timeline.say(&format!("Graph API   {}/beta   (SIP {sip})", self.server.base_url));
        self.timeline.say(&format!("data        {}", self.folder.display()));
        let phones: Vec<_> = EVERYBODY.iter().map(|person| format!("{} says {} Hz", person.line, person.tone)).collect();
        self.timeline.say(&format!("phones      {}", phones.join(", ")));
    }

    /// Waits until `listener` hears exactly these tones of everybody's.
    pub(super) async fn hears(&self, listener: Person, others: &[Person]) -> Option<String> {
        let mut heard = self.heard.clone();
        let right = heard.wait_for(|heard| {
            let Some(tones) = heard.get(listener.line) else { return false };
            EVERYBODY.iter().all(|person| {
                let level = tones.iter().find(|tone| (tone.hz - person.tone).abs() < 1.0).map_or(-127.0, |tone| tone.dbov);
                if others.iter().any(|other| other.line == person.line) { level > LOUD } else { level < QUIET }
            })
        });
        let found = match tokio::time::timeout(HEARD_WITHIN, right).await {
            Ok(Ok(heard)) => heard.get(listener.line).cloned(),
            Ok(Err(_)) | Err(_) => None,
        }?;
        let levels: Vec<_> = others
            .iter()
            .filter_map(|other| {
                let tone = found.iter().find(|tone| (tone.hz - other.tone).abs() < 1.0)?;
                Some(format!("{} {:.0} dB", other.line, tone.dbov))
            })
            .collect();
        let text = format!("{} hears {}", listener.line, levels.join(", "));
        self.timeline.happened(Lane::Audio, &text);
        Some(text)
    }

    /// How often a phone was called so far.
    pub(super) fn rings(&self, person: Person) -> u32 {
        self.dialled.lock().map_or(0, |dialled| dialled.get(person.line).copied().unwrap_or(0))
    }

    pub(super) fn invite_the_reader(&self) {
        let (base, ca) = (&self.server.base_url, self.server.authority.path());
        let ca = ca.display();
        self.timeline.title("The server stays up; Ctrl-C stops it");
        for line in [
            format!("base URL       {base}/beta"),
            format!("tenant         {TENANT}"),
            format!("client id      {APP}"),
            format!("client secret  {SECRET}"),
            String::new(),
            "for the official SDKs:".to_owned(),
            format!("export SSL_CERT_FILE={ca} REQUESTS_CA_BUNDLE={ca} NODE_EXTRA_CA_CERTS={ca}"),
            String::new(),
            "call someone, then invite someone else:".to_owned(),
        ] {
            self.timeline.say(&line);
        }
        // Copied as one piece, so without the timeline's margin.
        println!("{}", curl_lines(base, &ca.to_string(), self.bot.callback()));
    }

    pub(super) async fn strike(self) {
        self.server.drain().await;
        self.stop.cancel();
        for task in self.tasks {
            task.abort();
        }
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A tone that is in the mix, dBov.
const LOUD: f32 = -40.0;
/// A tone that is not.
const QUIET: f32 = -50.0;
const HEARD_WITHIN: Duration = Duration::from_secs(8);
const PHONES_WITHIN: Duration = Duration::from_secs(10);

fn config(folder: &std::path::Path) -> Config {
    let mut config = Config { data: folder.to_owned(), dev: true, ..Config::default() };
    let anywhere: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    config.http.listen = anywhere;
    config.http.plain_listen = anywhere;
    config.sip.udp_listen = anywhere;
    config.sip.tcp_listen = anywhere;
    config
}

async fn apply_directory(folder: &std::path::Path, hook: u16, carrier: SocketAddr) -> Result<()> {
    let path = folder.join("directory.toml");
    std::fs::write(&path, directory_file(hook, carrier))?;
    let store = Sqlite::open(folder, Access::Command)?;
    directory::apply(&store, &path, false).await?;
    Ok(())
}

/// The demo's directory, as an operator would write it.
fn directory_file(hook: u16, carrier: SocketAddr) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        r#"[[tenant]]
id = "{TENANT}"
domain = "contoso.example"

[[app]]
id = "{APP}"
tenant = "{TENANT}"
name = "Incident bot"
secret = "{SECRET}"
roles = ["Calls.Initiate.All", "Calls.InitiateGroupCall.All", "Calls.JoinGroupCall.All", "OnlineMeetings.ReadWrite.All"]
callback = "https://localhost:{hook}/api/calls"
number = "+12065550100"
may_remove_participants = true

[[trunk]]
name = "{}"
uri = "sip:{carrier}"
prefixes = ["+"]
line = {{ answer_after = "300ms", say = "tone:{}" }}
"#,
        NUMBER.line, NUMBER.tone
    );
    for person in [DESK, ADA, BEN, CLEO, DORA] {
        let Person { id, line, tone } = person;
        write!(
            text,
            r#"
[[user]]
id = "{id}"
tenant = "{TENANT}"
name = "{line}"
upn = "{line}@contoso.example"
sip = {{ username = "{line}", password = "only-for-the-demo" }}
line = {{ answer_after = "300ms", say = "tone:{tone}" }}
"#
        )
        .expect("a string takes everything");
    }
    text
}

fn client(authority: &str) -> Result<Client> {
    let tls = rustls::ClientConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(certs::roots(Some(authority), None)?)
        .with_no_client_auth();
    Ok(Client::builder().tls_backend_preconfigured(tls).timeout(Duration::from_secs(30)).build()?)
}

/// Until every phone has registered.
async fn wait_for_phones(server: &Server) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PHONES_WITHIN;
    let mut registered = std::collections::BTreeSet::new();
    let mut events = server.bank.subscribe();
    for binding in server.store.bindings().await? {
        registered.insert(binding.aor);
    }
    while registered.len() < EVERYBODY.len() - 1 {
        let event = tokio::time::timeout_at(deadline, events.next()).await.context("the phones did not register")?;
        let event = event.context("the phones are gone")?;
        if matches!(event.what, phone::Happening::Registered { .. }) {
            registered.insert(event.line.to_string());
        }
    }
    Ok(())
}

async fn listen(mut events: phone::Events, heard: watch::Sender<Heard>, dialled: Arc<Mutex<BTreeMap<String, u32>>>) {
    while let Some(event) = events.next().await {
        match &event.what {
            phone::Happening::Hears { tones, .. } => {
                heard.send_modify(|heard| {
                    heard.insert(event.line.to_string(), tones.clone());
                });
            }
            phone::Happening::Incoming { .. } => {
                if let Ok(mut dialled) = dialled.lock() {
                    *dialled.entry(event.line.to_string()).or_default() += 1;
                }
            }
            phone::Happening::Ended { .. } => heard.send_modify(|heard| {
                heard.remove(&*event.line);
            }),
            _ => {}
        }
    }
}

async fn watch_signalling(
    mut happenings: tokio::sync::broadcast::Receiver<switch::Happening>,
    timeline: Timeline,
) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match happenings.recv().await {
            Ok(happening) => match happening.what {
                switch::What::Levels { .. } => {}
                switch::What::MediaUp | switch::What::Attached | switch::What::Reattached { .. } => {
                    timeline.happened(Lane::Audio, &happening.to_string());
                }
                _ => timeline.happened(Lane::Sip, &happening.to_string()),
            },
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn curl_lines(base: &str, ca: &str, callback: &str) -> String {
    let (desk, ada) = (DESK.id, ADA.id);
    format!(
        r#"
TOKEN=$(curl -s --cacert {ca} {base}/{TENANT}/oauth2/v2.0/token -d client_id={APP} -d client_secret={SECRET} \
  -d grant_type=client_credentials -d scope=https://graph.microsoft.com/.default | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
CALL=$(curl -s --cacert {ca} {base}/beta/communications/calls -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{{"callbackUri":"{callback}","mediaConfig":{{}},"targets":[{{"identity":{{"user":{{"id":"{desk}"}}}}}}]}}' | sed 's/.*"id":"\([^"]*\)","myPart.*/\1/; s/.*"id":"\([0-9a-f-]*\)".*/\1/')
curl -s --cacert {ca} {base}/beta/communications/calls/$CALL/participants/invite -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' -d '{{"participants":[{{"identity":{{"user":{{"id":"{ada}"}}}}}}],"clientContext":"from curl"}}'
"#
    )
}
