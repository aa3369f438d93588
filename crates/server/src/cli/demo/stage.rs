//! Everything the stories need: a server with an empty data directory on free ports, phones, a carrier, a bot, a webhook.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::bot::{APP, Bot, SECRET, TENANT};
use super::timeline::{Lane, Timeline};
use super::webhook::Webhook;
use crate::auth::fresh_id;
use crate::boot::{self, Server};
use crate::certs::{self, Served};
use crate::config::Config;
use crate::directory;
use crate::hook::{self, Hook, Manners, Verifier};

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
    tasks: Vec<JoinHandle<()>>,
}

impl Stage {
    pub(super) async fn set(data: Option<PathBuf>, timeline: Timeline) -> Result<Self> {
        let temporary = data.is_none();
        let folder = data.unwrap_or_else(|| std::env::temp_dir().join(format!("convoke-demo-{}", fresh_id().simple())));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot use {}", folder.display()))?;

        // The webhook's address goes into the directory, so it comes first.
        let hook_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let hook_port = hook_listener.local_addr()?.port();
        let carrier = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        apply_directory(&folder, hook_port, carrier).await?;
        let server = boot::start_listening_for(&config(&folder), EVERYBODY.map(|person| person.tone).to_vec()).await?;

        let roots = || certs::roots(Some(server.authority.pem()), None);
        let names: Vec<String> = certs::server_names([]).into_iter().collect();
        let tls = Served::new(server.authority.issue(&names)?.loaded()?).server_config()?;
        let verifier = Verifier::new(&server.base_url, Some(APP.parse()?), roots()?)?;
        let webhook = Webhook::new(timeline.clone());
        let hook = Hook::start(hook_listener, Some(tls), Some(verifier), Manners::default())?;
        let mut tasks = vec![tokio::spawn(webhook.clone().follow(hook))];

        let heard = watch::Sender::new(Heard::new());
        let listening = heard.subscribe();
        let dialled = Arc::default();
        tasks.push(tokio::spawn(listen(server.bank.subscribe(), heard, Arc::clone(&dialled))));
        tasks.push(tokio::spawn(watch_signalling(server.switch.happenings(), timeline.clone())));
        wait_for_phones(&server).await?;

        let callback = format!("https://localhost:{hook_port}/api/calls");
        let bot = Bot::new(hook::http_client(roots()?)?, &server.base_url, &callback, timeline.clone()).await?;
        Ok(Self { bot, webhook, timeline, heard: listening, dialled, server, folder, temporary, tasks })
    }

    pub(super) fn introduce(&self) {
        let sip = self.server.sip.udp.first().map(ToString::to_string).unwrap_or_default();
        self.timeline.say(&format!("Graph API   {}/beta   (SIP {sip})", self.server.base_url));
        self.timeline.say(&format!("data        {}", self.folder.display()));
        let phones: Vec<_> =
            EVERYBODY.iter().map(|person| format!("{} says {} Hz", person.line, person.tone)).collect();
        self.timeline.say(&format!("phones      {}", phones.join(", ")));
    }

    /// Waits until `listener` hears exactly these tones of everybody's.
    pub(super) async fn hears(&self, listener: Person, others: &[Person]) -> Option<String> {
        let mut heard = self.heard.clone();
        let right = heard.wait_for(|heard| {
            let Some(tones) = heard.get(listener.line) else { return false };
            EVERYBODY.iter().all(|person| {
                let level =
                    tones.iter().find(|tone| (tone.hz - person.tone).abs() < 1.0).map_or(-127.0, |tone| tone.dbov);
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
        self.timeline.title("The server stays up; Ctrl-C ends it");
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
    let store = crate::cli::open_store(folder)?;
    directory::apply(&*store, &path, false).await?;
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

/// Until every phone has registered: looked up where the server keeps it, for a report may come before anyone listens.
async fn wait_for_phones(server: &Server) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PHONES_WITHIN;
    let phones = EVERYBODY.len() - 1;
    loop {
        let registered = server.store.bindings().await?.len();
        if registered >= phones {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < deadline, "only {registered} of {phones} phones have registered");
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A line is named by its address of record; its user part is short, and here it says enough.
fn name_of(line: &str) -> &str {
    line.split_once('@').map_or(line, |(user, _)| user)
}

async fn listen(mut events: phone::Events, heard: watch::Sender<Heard>, dialled: Arc<Mutex<BTreeMap<String, u32>>>) {
    while let Some(event) = events.next().await {
        match &event.what {
            phone::Happening::Hears { tones, .. } => {
                heard.send_modify(|heard| {
                    heard.insert(name_of(&event.line).to_owned(), tones.clone());
                });
            }
            phone::Happening::Incoming { .. } => {
                if let Ok(mut dialled) = dialled.lock() {
                    *dialled.entry(name_of(&event.line).to_owned()).or_default() += 1;
                }
            }
            phone::Happening::Ended { .. } => heard.send_modify(|heard| {
                heard.remove(name_of(&event.line));
            }),
            _ => {}
        }
    }
}

async fn watch_signalling(mut happenings: tokio::sync::broadcast::Receiver<switch::Happening>, timeline: Timeline) {
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
CALL=$(curl -s -D - -o /dev/null --cacert {ca} {base}/beta/communications/calls -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' \
  -d '{{"callbackUri":"{callback}","mediaConfig":{{}},"targets":[{{"identity":{{"user":{{"id":"{desk}"}}}}}}]}}' | sed -n 's#^[Ll]ocation: .*/calls/\([0-9a-f-]*\).*#\1#p')
until curl -s --cacert {ca} {base}/beta/communications/calls/$CALL -H "Authorization: Bearer $TOKEN" | grep -q '"established"'; do :; done
curl -s --cacert {ca} {base}/beta/communications/calls/$CALL/participants/invite -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' -d '{{"participants":[{{"identity":{{"user":{{"id":"{ada}"}}}}}}],"clientContext":"from curl"}}'
"#
    )
}
