//! What the demo plays on: a server, its directory, test lines and a webhook.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::net::{TcpListener, UdpSocket};

use crate::auth::fresh_id;
use crate::boot::{self, Server};
use crate::certs::{self, Authority, Served};
use crate::config::Config;
use crate::directory::DirectoryFile;
use crate::hook::{Hook, Manners, Verifier};

pub(super) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(super) const CLIENT_ID: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01";
pub(super) const SECRET: &str = "only-for-the-demo";
/// The bot's own number.
pub(super) const NUMBER: &str = "+12065550100";

/// Everything the demo needs, up and running.
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) hook: Hook,
    data: PathBuf,
    /// The directory is ours to throw away.
    temporary: bool,
}

impl Stage {
    /// Sets it up: the webhook's address goes into the directory, so it comes first.
    pub(super) async fn set(data: Option<PathBuf>) -> anyhow::Result<Self> {
        let temporary = data.is_none();
        let data = data.unwrap_or_else(|| std::env::temp_dir().join(format!("convoke-demo-{}", fresh_id().simple())));
        std::fs::create_dir_all(&data).with_context(|| format!("cannot use {}", data.display()))?;
        let authority = Authority::open(&data)?;
        let webhook = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let callback = format!("https://localhost:{}/api/calls", webhook.local_addr()?.port());
        let carrier = free_port().await?;

        let store = super::super::open_store(&data)?;
        let file = DirectoryFile::parse(&directory(&callback, carrier)).map_err(anyhow::Error::msg)?;
        let set = file.resolve(&store.directory().await?, &data)?;
        store.apply(set, false).await?;
        drop(store);

        let server = boot::start(&config(&data)).await?;
        let roots = certs::roots(Some(authority.pem()), None)?;
        let verifier = Verifier::new(&server.base_url, Some(CLIENT_ID.parse()?), roots)?;
        let names: Vec<String> = certs::server_names([]).into_iter().collect();
        let tls = Served::new(authority.issue(&names)?.loaded()?).server_config()?;
        let hook = Hook::start(webhook, Some(tls), Some(verifier), Manners::default())?;
        Ok(Self { server, hook, data, temporary })
    }

    /// Says how to reach everything.
    pub(super) fn introduce(&self) {
        let ca = self.server.authority.path();
        let ca = std::path::absolute(&ca).unwrap_or(ca);
        let (base, ca) = (&self.server.base_url, ca.display());
        println!("base URL       {base}/v1.0  and  {base}/beta");
        println!("tenant         {TENANT}  (contoso.example)");
        println!("client id      {CLIENT_ID}");
        println!("client secret  {SECRET}");
        if let Some(http) = self.server.http {
            println!("plain HTTP     http://{http}");
        }
        if let Some(sip) = self.server.sip.udp.first() {
            println!("SIP            {sip}");
        }
        println!("webhook        https://localhost:{}/api/calls", self.hook.address.port());
        println!();
        println!("export SSL_CERT_FILE={ca}");
        println!("export REQUESTS_CA_BUNDLE={ca}");
        println!("export NODE_EXTRA_CA_CERTS={ca}");
        println!();
        println!("Ctrl-C ends it.");
        println!();
    }

    /// Takes everything down again.
    pub(super) async fn strike(self) {
        self.server.drain().await;
        self.hook.stop();
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

/// Loopback and free ports only.
fn config(data: &std::path::Path) -> Config {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config { data: data.to_owned(), dev: true, ..Config::default() };
    config.http.listen = here;
    config.http.plain_listen = here;
    config.sip.udp_listen = here;
    config.sip.tcp_listen = here;
    config
}

/// A UDP port that nobody has; somebody may take it before it is bound, and then the demo says so.
async fn free_port() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port())
}

/// A bot with a number, four people with phones of their own sound, and a public network.
fn directory(callback: &str, carrier: u16) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        r#"
        [[tenant]]
        id = "{TENANT}"
        domain = "contoso.example"

        [[app]]
        id = "{CLIENT_ID}"
        tenant = "{TENANT}"
        name = "Incident bot"
        secret = "{SECRET}"
        roles = [
            "Calls.Initiate.All", "Calls.InitiateGroupCall.All", "Calls.JoinGroupCall.All",
            "OnlineMeetings.ReadWrite.All",
        ]
        callback = "{callback}"
        number = "{NUMBER}"
        may_remove_participants = true

        [[trunk]]
        name = "carrier"
        uri = "sip:127.0.0.1:{carrier}"
        prefixes = ["+"]
        line = {{ answer_after = "500ms", say = "tone:1000" }}
        "#
    );
    for Person { id, name, username, tone } in PEOPLE {
        let _ = write!(
            text,
            r#"
            [[user]]
            id = "{id}"
            tenant = "{TENANT}"
            name = "{name}"
            upn = "{username}@contoso.example"
            sip = {{ username = "{username}", password = "only-for-the-demo" }}
            line = {{ answer_after = "300ms", say = "tone:{tone}" }}
            "#
        );
    }
    text
}

/// Somebody with a test line.
pub(super) struct Person {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) username: &'static str,
    /// What the line says, in hertz: each can be told from the others in a mix.
    pub(super) tone: u16,
}

/// Those of the documentation's examples.
pub(super) const PEOPLE: [Person; 4] = [
    Person { id: "278405a3-f568-4b3e-b684-009193463064", name: "Front desk", username: "front-desk", tone: 440 },
    Person { id: "7e1b4346-85a6-4bdd-abe3-d11c5d420efe", name: "On-call engineer", username: "engineer", tone: 550 },
    Person { id: "1e126418-44a0-4d94-a6f8-0efe1ad71acb", name: "Duty manager", username: "manager", tone: 660 },
    Person { id: "682b6c37-0729-4fab-ace6-d730d5d9137e", name: "Night shift", username: "night-shift", tone: 880 },
];
