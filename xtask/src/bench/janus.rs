//! The peer that does the same: Janus' AudioBridge with plain RTP participants, so without SIP and without WebRTC.
//!
//! It runs as Debian packages it, in a directory of its own, on the core on which our server is measured otherwise.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use media::Codec;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::crowd::{End, Entrance, Joining, socket};
use super::machine::{self, SERVER_CORE};
use super::server::free_port;

/// A running Janus; it ends with this value.
#[derive(Debug)]
pub(super) struct Janus {
    child: Child,
    _folder: tempfile::TempDir,
    api: Api,
    hearing: JoinHandle<()>,
}

const READY_WITHIN: Duration = Duration::from_secs(10);
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// Where Debian puts what Janus loads.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu/janus";

/// As phones send it.
const OPUS_PAYLOAD_TYPE: u8 = 111;

/// Which Janus is installed, if any.
pub(super) fn version() -> Option<String> {
    let done = Command::new("janus").arg("--version").output().ok()?;
    // Each version says so in another way; `--version` of some is an error that begins with the same line.
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let found = text.split(['(', ')', ' ', '\n']).find(|word| word.contains('.') && word.starts_with(char::is_numeric));
    Some(found.unwrap_or("of an unknown version").to_owned())
}

impl Janus {
    pub(super) async fn start(urgent: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("convoke-bench-janus-").tempdir()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        configure(folder.path(), address.port())?;
        let log = File::create(folder.path().join("janus.log"))?;
        let mut child = Command::new("setsid")
            .args(["taskset", "-c", &SERVER_CORE.to_string(), "janus", "--disable-colors", "--configs-folder"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run setsid and taskset (Debian: util-linux)")?;
        if urgent && !machine::raise(child.id()) {
            eprintln!("Janus cannot be raised above other work: not root");
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut api = Api { client, address, session: 0, transactions: Arc::default(), joining: Arc::default() };
        let began = Instant::now();
        api.session = loop {
            if let Ok(session) = api.ask("", json!({"janus": "create"})).await {
                break session["data"]["id"].as_u64().context("no session")?;
            }
            ensure!(child.try_wait()?.is_none() && began.elapsed() < READY_WITHIN, "Janus does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let hearing = tokio::spawn(api.clone().hear());
        Ok(Self { child, _folder: folder, api, hearing })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a room that mixes at the rate of its only codec: its number.
    pub(super) async fn open_room(&self, number: u64, codec: Codec) -> Result<()> {
        let handle = self.api.attach().await?;
        let rate = if codec == Codec::Opus { 16_000 } else { 8_000 };
        let body = json!({
            "request": "create", "room": number, "sampling_rate": rate,
            "allow_rtp_participants": true, "audiolevel_ext": false,
        });
        let answer = self.api.tell(handle, body).await?;
        let done = &answer["plugindata"]["data"]["audiobridge"];
        ensure!(*done == "created", "Janus makes no room: {answer}");
        Ok(())
    }

    /// One more participant, who is let into the crowd.
    pub(super) async fn join(&self, room: u64, codec: Codec, entrance: &Entrance) -> Result<()> {
        let handle = self.api.attach().await?;
        let socket = socket()?;
        let (name, payload_type) = match codec {
            Codec::Opus => ("opus", OPUS_PAYLOAD_TYPE),
            Codec::Pcmu => ("pcmu", 0),
            Codec::Pcma | Codec::G722 => bail!("{} is not measured against Janus", codec.name()),
        };
        let (reply, joined) = oneshot::channel();
        self.api.joining.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, reply);
        let ours = socket.local_addr()?;
        self.api
            .tell(
                handle,
                json!({
                    "request": "join", "room": room, "codec": name,
                    "rtp": {"ip": ours.ip().to_string(), "port": ours.port(), "payload_type": payload_type},
                }),
            )
            .await?;
        let theirs = tokio::time::timeout(JOIN_WITHIN, joined).await.context("Janus lets nobody in")??;
        entrance.join(Joining { end: End(handle.to_string()), socket, peer: theirs, payload_type });
        Ok(())
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        self.hearing.abort();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One codec bridge and one way to talk to it; everything else stays as Debian has it.
fn configure(folder: &Path, port: u16) -> Result<()> {
    let only = |kind: &str, kept: &str| -> Result<String> {
        let mut others = Vec::new();
        let path = format!("{LIBRARIES}/{kind}");
        for entry in fs::read_dir(&path).with_context(|| format!("{path} (Debian: janus)"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if Path::new(&name).extension() == Some(OsStr::new("so")) && !name.contains(kept) {
                others.push(name);
            }
        }
        Ok(others.join(","))
    };
    let (plugins, transports) = (only("plugins", "audiobridge")?, only("transports", "http")?);
    fs::write(
        folder.join("janus.jcfg"),
        format!(
            "general: {{\n  plugins_folder = \"{LIBRARIES}/plugins\"\n  transports_folder = \"{LIBRARIES}/transports\"\n  \
             debug_level = 2\n}}\nplugins: {{ disable = \"{plugins}\" }}\ntransports: {{ disable = \"{transports}\" }}\n"
        ),
    )?;
    fs::write(
        folder.join("janus.transport.http.jcfg"),
        format!(
            "general: {{\n  json = \"compact\"\n  base_path = \"/janus\"\n  http = true\n  ip = \"127.0.0.1\"\n  \
             port = {port}\n  https = false\n}}\n"
        ),
    )?;
    // The same range that our server is given.
    fs::write(
        folder.join("janus.plugin.audiobridge.jcfg"),
        "general: {\n  local_ip = \"127.0.0.1\"\n  rtp_port_range = \"10000-19999\"\n}\n",
    )?;
    Ok(())
}

/// Its JSON over HTTP: a request each, and the answers that come later by a poll that waits.
#[derive(Clone, Debug)]
struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    session: u64,
    transactions: Arc<AtomicU64>,
    /// By handle: who waits to be let in, for the address to send to.
    joining: Arc<Mutex<HashMap<u64, oneshot::Sender<SocketAddr>>>>,
}

impl Api {
    async fn attach(&self) -> Result<u64> {
        let path = format!("/{}", self.session);
        let answer = self.ask(&path, json!({"janus": "attach", "plugin": "janus.plugin.audiobridge"})).await?;
        answer["data"]["id"].as_u64().with_context(|| format!("no handle: {answer}"))
    }

    async fn tell(&self, handle: u64, body: Value) -> Result<Value> {
        self.ask(&format!("/{}/{handle}", self.session), json!({"janus": "message", "body": body})).await
    }

    async fn ask(&self, path: &str, mut message: Value) -> Result<Value> {
        message["transaction"] = self.transactions.fetch_add(1, Ordering::Relaxed).to_string().into();
        let request = Request::post(format!("http://{}/janus{path}", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(message.to_string()))?;
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Value> {
        let response = self.client.request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }

    /// Takes what Janus has to say; each poll also keeps the session alive.
    async fn hear(self) {
        loop {
            let uri = format!("http://{}/janus/{}?maxev=50", self.address, self.session);
            let Ok(request) = Request::get(uri).body(Full::default()) else { return };
            match self.send(request).await {
                Ok(Value::Array(events)) => events.iter().for_each(|event| self.take(event)),
                Ok(event) => self.take(&event),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn take(&self, event: &Value) {
        let data = &event["plugindata"]["data"];
        let (Some(handle), true) = (event["sender"].as_u64(), data["audiobridge"] == "joined") else { return };
        let (Some(ip), Some(port)) = (data["rtp"]["ip"].as_str(), data["rtp"]["port"].as_u64()) else { return };
        let (Ok(ip), Ok(port)) = (ip.parse::<IpAddr>(), u16::try_from(port)) else { return };
        if let Some(reply) = self.joining.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle) {
            let _ = reply.send(SocketAddr::new(ip, port));
        }
    }
}
