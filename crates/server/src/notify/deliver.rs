//! Carries out what the courier decides: posts notifications, and writes down what became of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::{CallId, Timestamp};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use rustls::RootCertStore;
use store::{NoticeId, PendingNotice, Settled, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::courier::{Attempt, Courier, Input, Output, Patience};
use super::wire::{self, ConnectError, HttpClient};
use crate::auth::{self, NotificationSigner};
use crate::config::Notify;
use crate::directory::file::is_this_machine;
use crate::limits::REDIRECTS_MAX;

/// What delivery stands on.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub signer: Arc<NotificationSigner>,
    /// Wakes us when the engine has written notices down.
    pub news: watch::Receiver<NoticeId>,
    /// The engine's clock: the ages of notices count by it.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub roots: RootCertStore,
    pub settings: Notify,
    /// Whether plain http to this machine is allowed.
    pub dev: bool,
}

/// The running delivery.
#[derive(Debug)]
pub struct Delivery {
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How far delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Notices that are known and not settled.
    pub owed: usize,
    /// The newest notice that is known.
    pub seen: NoticeId,
}

/// Notices read from the outbox at once.
const PAGE: usize = 1000;

/// Bots may answer with a body; nobody reads it, and no more of it is fetched than this.
const ANSWER_MAX: usize = 64 * 1024;

/// Commands of the operator put dead letters back without being able to wake us: the outbox is looked at that often, so
/// that they are taken up well within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After the store refused.
const STORE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Starts delivering: first what an earlier process left behind.
pub fn start(parts: Parts) -> Result<Delivery, rustls::Error> {
    let settings = parts.settings.clone();
    let patience = Patience {
        retry_for: settings.retry_for.0,
        backoff_max: settings.backoff_max.0,
        origin_max: settings.concurrency.into(),
    };
    let sender = Arc::new(Sender {
        client: wire::client(parts.roots, settings.concurrency.into(), settings.networks.clone())?,
        signer: parts.signer,
        timeout: settings.timeout.0,
        dev: parts.dev,
    });
    let chance = auth::fresh_id().as_u64_pair().0;
    let (settle, settled) = mpsc::unbounded_channel();
    let (told, progress) = watch::channel(Progress { owed: 0, seen: NoticeId::NONE });
    let stop = CancellationToken::new();
    let round = Round {
        courier: Courier::new(patience, chance),
        store: Arc::clone(&parts.store),
        clock: Arc::clone(&parts.clock),
        news: parts.news,
        sender,
        settle,
        told,
        under_way: JoinSet::new(),
        names: HashMap::new(),
    };
    let writer = tokio::spawn(write_down(parts.store, parts.clock, settled));
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            round.run(stop).await;
            // The round has dropped its end: the writer stops once all is written.
            let _ = writer.await;
        }
    });
    Ok(Delivery { progress, stop, task })
}

impl Delivery {
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until everything up to `newest` is delivered or given up; `false` if something is left after `within`.
    pub async fn flush(&mut self, newest: NoticeId, within: Duration) -> bool {
        let flushed = self.progress.wait_for(|progress| progress.seen >= newest && progress.owed == 0);
        matches!(tokio::time::timeout(within, flushed).await, Ok(Ok(_)))
    }

    /// Stops sending. What is under way is sent again by the next process.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

/// The loop between the courier, the outbox and the network.
struct Round {
    courier: Courier,
    store: Arc<dyn Store>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    news: watch::Receiver<NoticeId>,
    sender: Arc<Sender>,
    /// Unbounded, and bounded all the same: no more than the courier holds is ever in it.
    settle: mpsc::UnboundedSender<(NoticeId, Settled)>,
    told: watch::Sender<Progress>,
    under_way: JoinSet<(NoticeId, Attempt)>,
    /// Which notice each task sends, in case one does not come back.
    names: HashMap<Id, NoticeId>,
}

impl Round {
    async fn run(mut self, stop: CancellationToken) {
        let mut unread = true;
        let mut again_at: Option<tokio::time::Instant> = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if unread && again_at.is_none() && self.courier.room() >= PAGE {
                match self.store.pending(self.courier.seen(), PAGE).await {
                    Ok(page) => {
                        unread = page.len() == PAGE;
                        self.turn(Input::Owed(page));
                    }
                    Err(error) => {
                        tracing::error!(%error, "the outbox cannot be read");
                        again_at = Some(tokio::time::Instant::now() + STORE_AGAIN_AFTER);
                    }
                }
                if unread && again_at.is_none() {
                    continue;
                }
            }
            let now = (self.clock)();
            let due = self.courier.deadline().map(|deadline| deadline.since(now));
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => unread = true,
                changed = self.news.changed() => match changed {
                    Ok(()) => unread = true,
                    // The engine is gone, and no news will come; what is known is still delivered.
                    Err(_) => self.news = watch::channel(NoticeId::NONE).1,
                },
                Some(ended) = self.under_way.join_next_with_id() => {
                    let (id, attempt) = match ended {
                        Ok((task, (id, attempt))) => {
                            self.names.remove(&task);
                            (id, attempt)
                        }
                        Err(error) => {
                            tracing::error!(%error, "sending a notification failed");
                            let Some(id) = self.names.remove(&error.id()) else { continue };
                            (id, Attempt::Unanswered("sending it failed".to_owned()))
                        }
                    };
                    self.turn(Input::Tried(id, attempt));
                }
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => self.turn(Input::Time),
                () = tokio::time::sleep_until(again_at.unwrap_or_else(tokio::time::Instant::now)), if again_at.is_some() => {
                    again_at = None;
                }
            }
        }
    }

    fn turn(&mut self, input: Input) {
        self.courier.handle((self.clock)(), input);
        while let Some(output) = self.courier.poll_output() {
            match output {
                Output::Send(notice) => {
                    let (id, sender, now) = (notice.id, Arc::clone(&self.sender), auth::wall_clock());
                    let task = self.under_way.spawn(async move { (notice.id, sender.send(&notice, now).await) });
                    self.names.insert(task.id(), id);
                }
                Output::Settle(id, settled) => {
                    count(&settled);
                    // The writer lives as long as this round does.
                    let _ = self.settle.send((id, settled));
                }
            }
        }
        self.told.send_replace(Progress { owed: self.courier.held(), seen: self.courier.seen() });
    }
}

/// Posts one notification.
struct Sender {
    client: HttpClient,
    signer: Arc<NotificationSigner>,
    timeout: Duration,
    dev: bool,
}

impl Sender {
    async fn send(&self, pending: &PendingNotice, now: Timestamp) -> Attempt {
        let request = match self.request(pending, now) {
            Ok(request) => request,
            Err(why) => return Attempt::Forbidden(why.to_owned()),
        };
        let began = Instant::now();
        let call: CallId = pending.notice.call;
        let attempt = match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(attempt) => attempt,
            Err(_) => Attempt::Unanswered(format!("no answer within {} s", self.timeout.as_secs_f32())),
        };
        metrics::histogram!("convoke_notification_seconds").record(began.elapsed().as_secs_f64());
        tracing::debug!(%call, notice = %pending.id, ?attempt, "notification sent");
        attempt
    }

    /// The headers are those of contract §2.7, and the URL is the client's, byte for byte.
    fn request(&self, pending: &PendingNotice, now: Timestamp) -> Result<Request<Full<Bytes>>, &'static str> {
        let notice = &pending.notice;
        let uri: Uri = notice.callback.parse().map_err(|_| "the callback is no URL")?;
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => {}
            (Some("http"), Some(host)) if self.dev && is_this_machine(host) => {}
            (Some("http"), Some(_)) => return Err("plain http is sent to this machine only, and only when dev is on"),
            _ => return Err("the callback is neither https nor http"),
        }
        let token = self.signer.token(notice.app, notice.tenant, now);
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "the token does not fit into a header")?;
        bearer.set_sensitive(true);
        let mut request = Request::new(Full::from(notice.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("Microsoft-Skype/3.0,(Calling/1.0)"));
        for (name, id) in [
            ("scenario-id", notice.scenario.to_string()),
            ("x-microsoft-skype-chain-id", notice.chain.to_string()),
            ("x-microsoft-skype-message-id", auth::fresh_id().to_string()),
            ("x-microsoft-skype-original-message-id", pending.message_id.to_string()),
        ] {
            let id = HeaderValue::try_from(id).map_err(|_| "an id does not fit into a header")?;
            headers.insert(HeaderName::from_static(name), id);
        }
        Ok(request)
    }

    /// Follows redirects as long as they stay within the host: nobody else is to have the token or the news.
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Attempt {
        let mut followed = 0;
        loop {
            let response = match self.client.request(request.clone()).await {
                Ok(response) => response,
                Err(error) => return failed(&error),
            };
            let status = response.status();
            let target = redirection(request.uri(), &response).filter(|_| followed < REDIRECTS_MAX);
            // The connection serves again only if the body is read; who sends more than that loses it.
            let _ = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let Some(target) = target else { return Attempt::Answered(status.as_u16()) };
            *request.uri_mut() = target;
            followed += 1;
        }
    }
}

/// Where a webhook wants the same POST sent, if that is at the same scheme, host and port. 303 asks for a GET, which no
/// notification is.
fn redirection<B>(from: &Uri, response: &Response<B>) -> Option<Uri> {
    if !matches!(response.status().as_u16(), 301 | 302 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    if location.starts_with('/') && !location.starts_with("//") {
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    let target: Uri = location.parse().ok()?;
    let standard = if scheme == "https" { 443 } else { 80 };
    let port = |uri: &Uri| uri.port_u16().unwrap_or(standard);
    let same = target.scheme_str() == Some(scheme)
        && target.host()?.eq_ignore_ascii_case(authority.host())
        && port(&target) == port(from)
        && !target.authority()?.as_str().contains('@');
    same.then_some(target)
}

/// An address that is barred stays so until somebody changes something: trying again by itself would not help.
fn failed(error: &(dyn std::error::Error + 'static)) -> Attempt {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    match chain.find_map(|error| error.downcast_ref::<ConnectError>()) {
        Some(ConnectError::Barred(barred)) => Attempt::Forbidden(barred.to_string()),
        Some(ConnectError::Failed(_)) | None => Attempt::Unanswered(reason(error)),
    }
}

/// The innermost error says what happened: `connection refused`, `invalid peer certificate: …`.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn count(settled: &Settled) {
    let outcome = match settled {
        Settled::Delivered => "delivered",
        Settled::Superseded => "superseded",
        Settled::Dead { .. } => "dead",
    };
    metrics::counter!("convoke_notifications_total", "outcome" => outcome).increment(1);
}

/// Writes down what became of notices, all that came meanwhile in one transaction. Stops when nobody sends any more.
async fn write_down(
    store: Arc<dyn Store>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    mut settled: mpsc::UnboundedReceiver<(NoticeId, Settled)>,
) {
    let mut batch = Vec::new();
    while settled.recv_many(&mut batch, PAGE).await > 0 {
        for (id, end) in &batch {
            if let Settled::Dead { reason, attempts, .. } = end {
                tracing::warn!(notice = %id, attempts, reason, "a notification was given up; see `convoke deadletter list`");
            }
        }
        while let Err(error) = store.settle(clock(), batch.clone()).await {
            tracing::error!(%error, "what became of notifications cannot be written down");
            if settled.is_closed() {
                // Stopping: what is not written down is sent again by the next process.
                return;
            }
            tokio::time::sleep(STORE_AGAIN_AFTER).await;
        }
        batch.clear();
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("settings", &self.settings).field("dev", &self.dev).finish_non_exhaustive()
    }
}
