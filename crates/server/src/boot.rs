//! Builds the server, in order, and takes it down again. Reads like a parts list.
//!
//! What is bound is bound before anything runs, so that a taken port is one clear line and not half a server.

mod bindings;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use axum::{Extension, Router};
use control::InvitePolicy;
use engine::Engine;
use store::sqlite::{Access, Sqlite};
use store::{Store, StoreError};
use switch::Switch;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Gate, Queue};
use crate::api::{self, PlainHttp};
use crate::auth::{KeyError, Keys, NotificationSigner, wall_clock};
use crate::certs::{self, Authority, CertError, Served};
use crate::config::{Config, SIP_REALM};
use crate::directory::{Pictures, TestLines};
use crate::notify::deliver::{self, Delivery};
use crate::retention;
use crate::serving::{self, Places, Serving};
use crate::telemetry::{self, TelemetryError};

/// Why the server does not start: one line that says what to change.
#[derive(Debug, Error)]
pub enum BootError {
    #[error("cannot use the data directory {}: {error}", path.display())]
    Data { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot listen for {what} on {address}: {error}{}", advice(error))]
    Listen { what: &'static str, address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Certificate(#[from] CertError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Switch(#[from] switch::StartError),
    #[error("the test lines cannot start: {0}")]
    Lines(#[from] phone::StartError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// The running server.
pub struct Server {
    /// Where HTTPS is served.
    pub https: SocketAddr,
    /// Where plain HTTP is served, while `dev` is on.
    pub http: Option<SocketAddr>,
    pub sip: switch::Addresses,
    /// Where clients on this machine reach it.
    pub base_url: String,
    pub authority: Arc<Authority>,
    pub store: Arc<dyn Store>,
    pub engine: Engine,
    pub switch: Switch,
    /// The test lines' phones.
    pub bank: phone::PhoneBank,
    /// Cancelled when a part has died that the server cannot go on without.
    pub died: CancellationToken,
    delivery: Delivery,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
    keepers: Vec<JoinHandle<()>>,
    drain_within: Duration,
}

/// Effects and signals under way between engine and switch. A full channel slows the engine down, which is right.
const SEAM: usize = 4096;

/// Keys are looked after, and the certificate is renewed in good time.
const TEND_EVERY: Duration = Duration::from_hours(1);

/// Reading the logs of a full server takes a second; phones are not kept waiting for an answer for much longer, as they
/// give up after 32.
const TAKE_UP_WITHIN: Duration = Duration::from_secs(10);

/// Farewells of phones and lines.
const FAREWELL: Duration = Duration::from_secs(3);

/// Starts everything. `config` has been checked.
pub async fn start(config: &Config) -> Result<Server, BootError> {
    start_listening_for(config, Vec::new()).await
}

/// The same, with test lines that tell how loud each of these frequencies (hertz) is in what they hear.
pub async fn start_listening_for(config: &Config, tones: Vec<f32>) -> Result<Server, BootError> {
    raise_descriptors();
    refuse_huge_pages();
    let metrics = telemetry::metrics()?;
    telemetry::count_panics();

    // The data directory.
    fs::create_dir_all(&config.data).map_err(|error| BootError::Data { path: config.data.clone(), error })?;
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&config.data, Access::Serve)?);
    let authority = Arc::new(Authority::open(&config.data)?);

    // The listeners.
    let https = listen("HTTPS", config.http.listen).await?;
    let http = if config.dev { Some(listen("plain HTTP", config.http.plain_listen).await?) } else { None };
    let https_address = local(&https, config.http.listen);
    let http_address = http.as_ref().map(|listener| local(listener, config.http.plain_listen));
    let served = Served::new(certificate(config, &authority)?);

    // Keys, and what the operator set up.
    let keys = Arc::new(Keys::open(&*store, wall_clock()).await?);
    let signer = Arc::new(NotificationSigner::new(Arc::clone(&keys), config.notify.issuer.clone()));
    let pictures = Pictures::take(&*store).await?;

    // Switch and engine, joined by channels of control's types.
    let (effects, performed) = mpsc::channel(SEAM);
    let (signals, heard) = mpsc::channel(SEAM);
    let (reports, reported) = mpsc::channel(SEAM);
    let node_secret = store.secret("sip").await?;
    let process = store.next_process(wall_clock()).await?;
    let bound = bindings::load(&*store, wall_clock()).await?;
    let switch = Switch::start(
        switch_config(config, node_secret, process),
        Arc::clone(&pictures.switch),
        bound,
        performed,
        signals,
        reports,
    )?;
    let engine = Engine::start(Arc::clone(&store), api::to_graph::renderer(), effects, heard).await?;
    // Whatever an earlier process left goes on from here.
    if tokio::time::timeout(TAKE_UP_WITHIN, engine.taken_up()).await.is_err() {
        tracing::warn!("some conferences are not taken up yet; their phones may find out");
    }
    switch.taken_up().await;

    // Notifications.
    let clock = engine.clone();
    let delivery = deliver::start(deliver::Parts {
        store: Arc::clone(&store),
        signer,
        news: engine.notices(),
        clock: Arc::new(move || clock.now()),
        roots: certs::roots(Some(authority.pem()), config.notify.trust.as_deref())?,
        settings: config.notify.clone(),
        dev: config.dev,
    })?;

    // Test lines, beside the server like any other phone.
    let sip = switch.addresses().clone();
    let bank = phone::PhoneBank::start(phone::BankConfig {
        tell_levels: !tones.is_empty(),
        hear: tones,
        ..phone::BankConfig::default()
    })
    .await?;
    let lines = sip.udp.first().map(|address| TestLines { bank: bank.clone(), registrar: on_this_machine(*address) });
    if let Some(lines) = &lines {
        lines.set(&pictures.directory.load()).await;
    }

    // Whoever keeps things current.
    let (stop, died) = (CancellationToken::new(), CancellationToken::new());
    let mut keepers = vec![
        tokio::spawn(pictures.clone().keep(Arc::clone(&store), lines, stop.clone())),
        tokio::spawn(bindings::keep(Arc::clone(&store), reported, died.clone())),
        tokio::spawn(telemetry::add_up(metrics.clone(), stop.clone())),
        tokio::spawn(retention::sweep(Arc::clone(&store), config.retention.keep(), stop.clone())),
        tokio::spawn(tend(
            config.clone(),
            Arc::clone(&store),
            Arc::clone(&keys),
            Arc::clone(&authority),
            served.clone(),
            stop.clone(),
        )),
    ];

    // The gate, and who looks at what waits behind it.
    let gate = Gate::new();
    let (written, operated) = (Arc::clone(&store), switch.backlog());
    let queues: Vec<(Queue, admission::Waiting)> =
        vec![(Queue::Store, Box::new(move || written.behind())), (Queue::Switch, Box::new(move || operated.behind()))];
    keepers.push(tokio::spawn(admission::watch(gate.clone(), queues, stop.clone())));

    // HTTP, last: whoever gets an answer gets a whole server.
    let ready = Arc::new(AtomicBool::new(true));
    let router = api::router(api::State {
        engine: engine.clone(),
        store: Arc::clone(&store),
        directory: pictures.directory,
        keys,
        settings: Arc::new(settings(config)),
        metrics: Some(metrics),
        gate,
        ready: Arc::clone(&ready),
    });
    let places = Places::new(
        config.limits.http_connections as usize,
        config.limits.http_connections_per_source,
        config.http.proxies.clone(),
    );
    let serving =
        |router: Router, tls| Serving { router, tls, patience: config.http.header_timeout.0, places: places.clone() };
    let mut listeners =
        vec![tokio::spawn(serving::serve(https, serving(router.clone(), Some(served.server_config()?)), stop.clone()))];
    if let Some(http) = http {
        let plain = serving(router.layer(Extension(PlainHttp)), None);
        listeners.push(tokio::spawn(serving::serve(http, plain, stop.clone())));
    }

    Ok(Server {
        base_url: config.base_url(https_address),
        https: https_address,
        http: http_address,
        sip,
        authority,
        store,
        engine,
        switch,
        bank,
        died,
        delivery,
        ready,
        stop,
        listeners,
        keepers,
        drain_within: config.limits.drain.0,
    })
}

impl Server {
    /// Refuses new work, ends calls politely, delivers what is owed, stops: at most twice `limits.drain` and some
    /// farewells.
    pub async fn drain(mut self) {
        tracing::info!(calls = self.engine.live(), "draining");
        self.ready.store(false, Ordering::Release);
        self.engine.refuse_new();
        self.switch.drain().await;
        self.engine.end_all();
        if !self.engine.drain(self.drain_within).await {
            tracing::warn!(left = self.engine.live(), "some calls did not end in time; they go on at the next start");
        }
        let newest = *self.engine.notices().borrow();
        if !self.delivery.flush(newest, self.drain_within).await {
            let owed = self.delivery.progress().owed;
            tracing::warn!(owed, "some notifications are not delivered yet; they go out after the next start");
        }
        // The lines go first: they take their contacts back while there is a registrar to take them.
        self.bank.shut_down(FAREWELL).await;
        self.stop.cancel();
        self.engine.stop().await;
        self.switch.shutdown().await;
        self.delivery.stop().await;
        for task in self.listeners.into_iter().chain(self.keepers) {
            let _ = tokio::time::timeout(FAREWELL, task).await;
        }
        tracing::info!("stopped");
    }

    /// Leaves everything as it is for the next process, which is to start at once: no farewells, no phone is told. Turns
    /// under way are finished, so the log has all that anybody was promised.
    pub async fn hand_over(self) {
        tracing::info!(calls = self.engine.live(), "handing over");
        self.ready.store(false, Ordering::Release);
        self.stop.cancel();
        self.engine.stop().await;
        // Without a word: phones hold on, and the test lines, which are of this process, end with it.
        drop(self.switch);
        self.delivery.stop().await;
        tracing::info!("handed over");
    }
}

/// The certificate to serve: the operator's, or one of our own authority.
pub fn certificate(config: &Config, authority: &Authority) -> Result<rustls::sign::CertifiedKey, CertError> {
    match (&config.http.certificate, &config.http.key) {
        (Some(certificate), Some(key)) => certs::load(certificate, key),
        _ => authority.server_certificate(&certificate_names(config)),
    }
}

/// The names our own certificate carries.
pub fn certificate_names(config: &Config) -> std::collections::BTreeSet<String> {
    let base = config.http.base_url.as_ref().and_then(|url| url.parse::<http::Uri>().ok());
    let base = base.and_then(|uri| uri.host().map(str::to_owned));
    certs::server_names(config.http.names.iter().cloned().chain(base))
}

fn settings(config: &Config) -> api::Settings {
    api::Settings {
        base_url: config.http.base_url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
        dev: config.dev,
        invite: InvitePolicy {
            invited_bots_max: config.invite.invited_bots_max,
            strict_chat_info: config.invite.strict_chat_info,
            partial_is_success: config.invite.partial_is_success,
        },
        join_web_url: config.meetings.join_url.clone(),
        notification_issuer: config.notify.issuer.clone(),
        body_within: config.http.body_timeout.0,
        proxies: config.http.proxies.clone(),
        lower_case_status: config.http.lower_case_status,
    }
}

fn switch_config(config: &Config, node_secret: [u8; 32], process: u32) -> switch::SwitchConfig {
    let mut switch = switch::SwitchConfig::new(node_secret);
    switch.process = process;
    switch.sip.udp = vec![config.sip.udp_listen];
    switch.sip.tcp = vec![config.sip.tcp_listen];
    switch.sip.public_address = config.sip.public_address;
    SIP_REALM.clone_into(&mut switch.sip.realm);
    switch.sip.digests = config.sip.digest_algorithms();
    switch.sip.trace = config.sip.trace;
    switch.sip.resolver = config.sip.resolver;
    switch.sip.guesses.wrong_max = config.sip.wrong_passwords;
    switch.sip.guesses.wait_max = config.sip.wrong_password_wait.0;
    switch.sip.streams_max = config.limits.sip_connections.try_into().unwrap_or(usize::MAX);
    switch.sip.streams_per_address_max = config.limits.sip_connections_per_address.try_into().unwrap_or(usize::MAX);
    switch.sip.session_expires = config.sip.session_expires.0;
    switch.media.ports = config.rtp.ports.first..=config.rtp.ports.last;
    switch.media.threads = config.media_threads();
    switch.media.codecs.clone_from(&config.rtp.codecs);
    // Who keeps SIP to this machine keeps audio there too.
    switch.media.bind = Some(config.sip.udp_listen.ip()).filter(IpAddr::is_loopback);
    switch.legs_max = config.limits.legs as usize;
    switch.take_up_within = Some(TAKE_UP_WITHIN);
    switch
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address).await.map_err(|error| BootError::Listen { what, address, error })
}

fn local(listener: &TcpListener, wished: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wished)
}

/// How a process beside us reaches a socket of ours.
fn on_this_machine(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// Looks after keys and certificate until `stop`.
async fn tend(
    config: Config,
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    authority: Arc<Authority>,
    served: Served,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TEND_EVERY) => {}
        }
        if let Err(error) = keys.tend(&*store, wall_clock()).await {
            tracing::error!(%error, "signing keys could not be looked after");
        }
        match certificate(&config, &authority) {
            Ok(certificate) => served.exchange(certificate),
            Err(error) => tracing::error!(%error, "the certificate could not be renewed"),
        }
    }
}

/// A call takes four sockets or so; the soft limit of 1024 is no limit for a server.
fn raise_descriptors() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors could not be raised"),
    }
}

/// Memory that was given back stays away. The allocator asks for huge pages, and the kernel makes one of 2 MiB wherever a
/// single small page of it is in use: a long day's calls would come to hold more and more, all of it empty.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages could not be refused");
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop who uses it, or choose another port in the configuration",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("https", &self.https)
            .field("http", &self.http)
            .field("sip", &self.sip)
            .finish_non_exhaustive()
    }
}
