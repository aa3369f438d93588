//! One typed tree of settings: every key, its default and the reason to change it.
//!
//! The documentation comments of this file are the operator's manual: `docs/configuration.md` and the example
//! `convoke.toml` are made from them (`document.rs`), and a test fails when those are stale. A file, the environment
//! and flags are laid over the defaults in that order (`layers.rs`); a key nobody knows is refused.

mod document;
mod layers;
mod values;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sip::digest::Algorithm;

pub use document::{document, example};
pub use layers::{ConfigError, Loaded, Origin, Setting, load};
pub use values::{Network, PortRange, Span};

/// The realm of every SIP password. It is part of the stored hashes, so it can never change.
pub const SIP_REALM: &str = "convoke";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory that holds everything the server keeps: database, certificate authority, keys. Made on first use.
    pub data: PathBuf,
    /// Turns on a developer's conveniences: plain HTTP on `http.plain_listen`, and callbacks to plain-http addresses of
    /// this machine. Leave it off wherever others can reach the server.
    pub dev: bool,
    /// What `SIGTERM` means. On: leave all calls up and exit at once, for the next process, started within seconds, to take
    /// them up; nobody is told. Off: end calls politely, as Ctrl-C always does. Set it where a supervisor restarts the
    /// server, for example to upgrade it.
    pub hand_over: bool,
    pub http: Http,
    pub sip: Sip,
    pub rtp: Rtp,
    pub invite: Invite,
    pub notify: Notify,
    pub meetings: Meetings,
    pub limits: Limits,
    pub retention: Retention,
    pub log: Log,
}

/// The Graph API, tokens, and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where HTTPS is served. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where plain HTTP is served while `dev` is on; only an address of this machine is accepted.
    pub plain_listen: SocketAddr,
    /// How clients reach the server, as in `https://calls.example.net`: the start of every URL it hands out. Default:
    /// what each client names in `Host`. Set it behind a proxy.
    pub base_url: Option<String>,
    /// More names and addresses for the certificate of our own authority, next to `localhost`, `127.0.0.1`, `::1`, this
    /// host's name and the host of `base_url`.
    pub names: Vec<String>,
    /// A certificate chain (PEM) to serve in place of our own authority's. Needs `http.key`. Read at start.
    pub certificate: Option<PathBuf>,
    /// The private key (PEM) of `http.certificate`.
    pub key: Option<PathBuf>,
    /// Spells the status of operations in replies in lower case, as most of Graph's documentation does. Generated clients
    /// for Go, Java and JavaScript only read the default, `Running`.
    pub lower_case_status: bool,
    /// How long a client may take to send the headers of a request or to take its answer, and how long an idle connection
    /// is kept.
    pub header_timeout: Span,
    /// How long a client may take to send the body of a request.
    pub body_timeout: Span,
    /// Proxies in front of this server, as in `10.0.0.7` or `10.0.0.0/24`: what they write into `X-Forwarded-For` is
    /// believed, so that clients are told apart where guesses are counted, and `limits.http_connections_per_source` does
    /// not bound them.
    pub proxies: Vec<Network>,
}

/// Phones and trunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    /// Where SIP is spoken over UDP.
    pub udp_listen: SocketAddr,
    /// Where SIP is spoken over TCP.
    pub tcp_listen: SocketAddr,
    /// The address phones reach this server at, written into Contact, Via and SDP. Default: the local address of the
    /// route to each peer. Set it behind a NAT.
    pub public_address: Option<IpAddr>,
    /// The digest algorithms that phones are asked for their password with, in this order: `MD5`, `SHA-256`. Many phones
    /// give up at a challenge they do not know, even if they know the next one; where all of yours know SHA-256, name it
    /// first.
    pub digests: Vec<String>,
    /// The DNS server that is asked for the services and addresses of trunks. Default: the system's.
    pub resolver: Option<SocketAddr>,
    /// How many wrong passwords of one user one address may send before it has to wait, twice as long each time. 0: it never
    /// has to. Raise it where many people share an address and change their passwords at once.
    pub wrong_passwords: u32,
    /// The longest that an address has to wait after wrong passwords.
    pub wrong_password_wait: Span,
    /// How long a call may go on without a sign of life from its phone or trunk (RFC 4028). Half-way through each call is
    /// refreshed, and one that is not ends. At least `90s`; `0s` asks for nothing and still refreshes for peers that ask.
    pub session_expires: Span,
    /// Prints every SIP message to the log, credentials masked.
    pub trace: bool,
}

/// Audio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtp {
    /// The UDP ports for audio, two per leg. Open them in the firewall.
    pub ports: PortRange,
    /// Codecs that are offered, best first: `opus`, `G722`, `PCMU`, `PCMA`. Leave out what your trunks cannot do.
    pub codecs: Vec<String>,
    /// Threads that mix audio. 0: one per two cores, at least one.
    pub threads: u16,
}

/// What the operator decided about invitations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Invite {
    /// How many invited bots a conference holds: 1, or 0 to refuse every invited bot.
    pub invited_bots_max: u8,
    /// Refuses several invitees in one request where the group call has no `chatInfo`, as Graph documents it.
    pub strict_chat_info: bool,
    /// Whether an invite of which only some joined ends `completed`. Off: it ends `failed`.
    pub partial_is_success: bool,
}

/// Notifications to applications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// The issuer of the tokens that notifications carry. Existing bots accept `https://api.botframework.com` and
    /// `https://graph.microsoft.com`.
    pub issuer: String,
    /// How long a webhook may take to answer.
    pub timeout: Span,
    /// How long a notification is tried again, counted from its creation. After that it becomes a dead letter.
    pub retry_for: Span,
    /// The longest pause between two tries. Pauses grow 1 s, 2 s, 4 s … up to this, each varied at random.
    pub backoff_max: Span,
    /// A file of certificates (PEM) to trust for webhooks, next to the system's and our own authority.
    pub trust: Option<PathBuf>,
    /// How many notifications are under way at once to one host and port. A slow bot holds up itself, not others.
    pub concurrency: u16,
    /// Networks of your own that webhooks may be in, as in `10.0.0.0/8`. A host name that resolves to a private address
    /// is not sent to unless the address is in one of them. `localhost` and addresses written out in a callback need no
    /// entry: standing in the directory allows them.
    pub networks: Vec<Network>,
}

/// Online meetings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Meetings {
    /// The join URL of a meeting; `{base}`, `{thread}`, `{message}` and `{context}` are filled in, percent-encoded. Some
    /// bots insist on the host `teams.microsoft.com`: `https://teams.microsoft.com/l/meetup-join/{thread}/{message}?…`.
    pub join_url: String,
}

/// Bounds that keep a busy server answering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// HTTP connections at once; further ones wait to be accepted.
    pub http_connections: u32,
    /// SIP connections over TCP at once. A further one takes the place of the one that has done nothing for longest; those
    /// that a call or a registration uses stay.
    pub sip_connections: u32,
    /// SIP connections over TCP at once from one address. Raise it where more phones than this are behind one router.
    pub sip_connections_per_address: u32,
    /// HTTP connections at once from one address, or one /64 of IPv6; further ones are closed.
    pub http_connections_per_source: u32,
    /// Connections to phones and trunks at once; further invitations fail. Each takes two ports of `rtp.ports`.
    pub legs: u32,
    /// How long a stopping server waits for calls to end and notifications to be delivered.
    pub drain: Span,
}

/// How long is kept what no call needs any more. A call that has ended and a notification that was delivered leave nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How long a notification that was given up can be listed and replayed with `convoke deadletter`.
    pub dead_letters: Span,
    /// How many of them are kept, the newest. Each takes a few KiB.
    pub dead_letters_max: u32,
    /// How long a meeting can be joined after its end, or after it was last held if that is later. Its link is dead after
    /// that. `3650d` keeps it for good.
    pub meetings: Span,
}

/// What the server says about itself on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or per module as in `info,switch=debug`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Where clients on this machine reach the server, without a trailing slash; `https` is where HTTPS is bound.
    pub fn base_url(&self, https: SocketAddr) -> String {
        match &self.http.base_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://localhost:{}", https.port()),
        }
    }

    /// How many threads mix audio.
    pub fn media_threads(&self) -> usize {
        match self.rtp.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            threads => threads.into(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./convoke-data"),
            dev: false,
            hand_over: false,
            http: Http::default(),
            sip: Sip::default(),
            rtp: Rtp::default(),
            invite: Invite::default(),
            notify: Notify::default(),
            meetings: Meetings::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            log: Log::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: everywhere(8443),
            plain_listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            base_url: None,
            names: Vec::new(),
            certificate: None,
            key: None,
            lower_case_status: false,
            header_timeout: Span(Duration::from_secs(30)),
            body_timeout: Span(Duration::from_secs(30)),
            proxies: Vec::new(),
        }
    }
}

impl Sip {
    /// `digests` as `sip` knows them; a name it does not know is left out.
    pub fn digest_algorithms(&self) -> Vec<Algorithm> {
        let known = |name: &String| {
            [Algorithm::Md5, Algorithm::Sha256].into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))
        };
        self.digests.iter().filter_map(known).collect()
    }
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            udp_listen: everywhere(5060),
            tcp_listen: everywhere(5060),
            public_address: None,
            digests: vec!["MD5".to_owned()],
            resolver: None,
            wrong_passwords: 5,
            wrong_password_wait: Span(Duration::from_mins(5)),
            session_expires: Span(Duration::from_mins(30)),
            trace: false,
        }
    }
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            ports: PortRange { first: 20_000, last: 29_999 },
            codecs: ["opus", "G722", "PCMU", "PCMA"].map(str::to_owned).to_vec(),
            threads: 0,
        }
    }
}

impl Default for Invite {
    fn default() -> Self {
        Self { invited_bots_max: 1, strict_chat_info: false, partial_is_success: true }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            issuer: "https://api.botframework.com".to_owned(),
            timeout: Span(Duration::from_secs(10)),
            retry_for: Span(Duration::from_mins(10)),
            backoff_max: Span(Duration::from_secs(30)),
            trust: None,
            concurrency: 32,
            networks: Vec::new(),
        }
    }
}

impl Default for Meetings {
    fn default() -> Self {
        Self { join_url: "{base}/l/meetup-join/{thread}/{message}?context={context}".to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http_connections: 4096,
            sip_connections: 10_000,
            sip_connections_per_address: 1_000,
            http_connections_per_source: 1024,
            legs: 4000,
            drain: Span(Duration::from_secs(10)),
        }
    }
}

impl Retention {
    /// The same as the store knows it.
    pub fn keep(&self) -> store::Keep {
        store::Keep {
            dead_letters: self.dead_letters.0,
            dead_letters_max: self.dead_letters_max.into(),
            meetings: self.meetings.0,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        let keep = store::Keep::default();
        Self {
            dead_letters: Span(keep.dead_letters),
            dead_letters_max: u32::try_from(keep.dead_letters_max).unwrap_or(u32::MAX),
            meetings: Span(keep.meetings),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

fn everywhere(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}
