//! A bot: it asks the Graph API over plain HTTP and keep-alive connections, and its webhook takes what it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(super) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(super) const APP: &str = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01";
pub(super) const SECRET: &str = "only-for-tests";

/// The id of the user of that number.
pub(super) fn user_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// The bot's side of the API.
#[derive(Clone, Debug)]
pub(super) struct Bot {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    token: String,
    callback: String,
}

/// An invitation as the API took it.
#[derive(Clone, Debug)]
pub(super) struct Invited {
    pub(super) operation: String,
    pub(super) participants: Vec<String>,
}

/// How the API answered anything.
enum Replied {
    Now(StatusCode, Value),
    /// 503 or 429: to be asked again after that long.
    Later(Duration),
}

const COME_BACK_MAX: u32 = 20;

/// How the API answered an invitation.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    Invited(Invited),
    /// To be asked again after that long.
    Later(Duration),
}

impl Bot {
    /// Takes a token.
    pub(super) async fn new(api: SocketAddr, callback: String) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(256).build(connector);
        let mut bot = Self { client, base: format!("http://{api}"), token: String::new(), callback };
        let form = format!(
            "client_id={APP}&client_secret={SECRET}&grant_type=client_credentials\
             &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
        );
        let request = Request::post(format!("{}/{TENANT}/oauth2/v2.0/token", bot.base))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))?;
        let (status, answer) = bot.send(request).await?;
        ensure!(status == StatusCode::OK, "no token: {status} {answer}");
        answer["access_token"].as_str().context("no token")?.clone_into(&mut bot.token);
        Ok(bot)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Value)> {
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Comes back when told to, as often as it takes: for what is not measured itself.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        for _ in 0..COME_BACK_MAX {
            match self.ask_once(method.clone(), path, body).await? {
                Replied::Now(status, answer) => return Ok((status, answer)),
                Replied::Later(wait) => tokio::time::sleep(wait).await,
            }
        }
        bail!("the server has too much to do, again and again")
    }

    async fn ask_once(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Replied> {
        let response = self.client.request(self.request(method, path, body)?).await?;
        let (status, wait) = (response.status(), retry_after(response.headers()));
        let body = response.into_body().collect().await?.to_bytes();
        Ok(match (status, wait) {
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, Some(wait)) => Replied::Later(wait),
            _ => Replied::Now(status, serde_json::from_slice(&body).unwrap_or(Value::Null)),
        })
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1.0{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Full::default, |body| Full::from(body.to_string())))?;
        Ok(request)
    }

    /// How many ticks of the mixers were late since the server started, as it counts them itself.
    pub(super) async fn late_ticks(&self) -> Result<f64> {
        let response =
            self.client.request(Request::get(format!("{}/metrics", self.base)).body(Full::default())?).await?;
        let text = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("convoke_media_late_ticks_total "));
        Ok(line.map_or(Ok(0.0), |value| value.trim().parse())?)
    }

    /// Makes a meeting and joins it: the call's id.
    pub(super) async fn open_room(&self) -> Result<String> {
        let path = format!("/users/{}/onlineMeetings", user_id(0));
        let (status, meeting) = self.ask(Method::POST, &path, Some(&json!({"subject": "Bench"}))).await?;
        ensure!(status == StatusCode::CREATED, "no meeting: {status} {meeting}");
        let join = json!({
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": self.callback,
            "requestedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "tenantId": TENANT,
            "chatInfo": meeting["chatInfo"],
            "meetingInfo": {
                "@odata.type": "#microsoft.graph.organizerMeetingInfo",
                "organizer": meeting["participants"]["organizer"]["identity"],
            },
        });
        let (status, call) = self.ask(Method::POST, "/communications/calls", Some(&join)).await?;
        ensure!(status == StatusCode::CREATED, "cannot join: {status} {call}");
        Ok(call["id"].as_str().context("a call without an id")?.to_owned())
    }

    pub(super) async fn close_room(&self, call: &str) -> Result<()> {
        let (status, answer) = self.ask(Method::DELETE, &format!("/communications/calls/{call}"), None).await?;
        ensure!(status.is_success(), "cannot end a call: {status} {answer}");
        Ok(())
    }

    /// Calls one user, peer to peer: the call's id.
    pub(super) async fn place(&self, user: &str) -> Result<String> {
        let body = json!({
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": self.callback,
            "requestedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "tenantId": TENANT,
            "targets": [invitee(user)],
        });
        let (status, call) = self.ask(Method::POST, "/communications/calls", Some(&body)).await?;
        ensure!(status == StatusCode::CREATED, "cannot call: {status} {call}");
        Ok(call["id"].as_str().context("a call without an id")?.to_owned())
    }

    /// Hangs up a participant; one who has left meanwhile is not missed.
    pub(super) async fn remove(&self, call: &str, participant: &str) -> Result<()> {
        let path = format!("/communications/calls/{call}/participants/{participant}");
        let (status, answer) = self.ask(Method::DELETE, &path, None).await?;
        ensure!(status.is_success() || status == StatusCode::NOT_FOUND, "cannot remove: {status} {answer}");
        Ok(())
    }

    /// Moves a participant of one call into another.
    pub(super) async fn fetch(&self, call: &str, user: &str, from: &str, participant: &str) -> Result<Invited> {
        let mut person = invitee(user);
        person["replacesCallId"] = from.into();
        person["participantId"] = participant.into();
        self.bring(call, vec![person], 0).await
    }

    /// Invites users by id, or numbers that begin with a plus; comes back when told to.
    pub(super) async fn invite(&self, call: &str, people: &[String], context: u64) -> Result<Invited> {
        self.bring(call, people.iter().map(|id| invitee(id)).collect(), context).await
    }

    /// Asks for one user, once.
    pub(super) async fn invite_once(&self, call: &str, user: &str, context: u64) -> Result<Answered> {
        let (path, body) = invitation(call, &[invitee(user)], context);
        match self.ask_once(Method::POST, &path, Some(&body)).await? {
            Replied::Later(wait) => Ok(Answered::Later(wait)),
            Replied::Now(status, operation) => Ok(Answered::Invited(invited(status, &operation)?)),
        }
    }

    async fn bring(&self, call: &str, people: Vec<Value>, context: u64) -> Result<Invited> {
        let (path, body) = invitation(call, &people, context);
        let (status, operation) = self.ask(Method::POST, &path, Some(&body)).await?;
        invited(status, &operation)
    }
}

fn invitation(call: &str, people: &[Value], context: u64) -> (String, Value) {
    let path = format!("/communications/calls/{call}/participants/invite");
    (path, json!({"participants": people, "clientContext": context.to_string()}))
}

fn invited(status: StatusCode, operation: &Value) -> Result<Invited> {
    ensure!(status == StatusCode::OK, "not invited: {status} {operation}");
    let participants = operation["participants"].as_array().into_iter().flatten();
    Ok(Invited {
        operation: operation["id"].as_str().context("an operation without an id")?.to_owned(),
        participants: participants.filter_map(|one| Some(one["participantId"].as_str()?.to_owned())).collect(),
    })
}

fn invitee(id: &str) -> Value {
    let kind = if id.starts_with('+') { "phone" } else { "user" };
    json!({
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": {"@odata.type": "#microsoft.graph.identitySet", kind: {"id": id}},
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    Some(Duration::from_secs(headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?))
}

/// Whether the server says that it is ready.
pub(super) async fn is_ready(api: SocketAddr) -> bool {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let Ok(uri) = format!("http://{api}/health/ready").parse() else { return false };
    client.get(uri).await.is_ok_and(|response| response.status() == StatusCode::OK)
}

/// What the webhook was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Notification requests.
    pub(super) requests: u64,
    /// Ended operations: when, and whether they completed.
    pub(super) operations: HashMap<String, (Instant, bool)>,
    /// When each participant was first in a roster.
    pub(super) rostered: HashMap<String, Instant>,
    /// How many are in each call's newest roster.
    pub(super) sizes: HashMap<String, usize>,
}

/// A webhook that answers 202 at once.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    pub(super) address: SocketAddr,
    told: Arc<Mutex<Told>>,
    /// It answers 503 and takes nothing.
    down: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Notifications<'a> {
    #[serde(borrow)]
    value: Vec<Notification<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    resource_url: &'a str,
    #[serde(borrow)]
    resource_data: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
struct Operation<'a> {
    id: &'a str,
    status: &'a str,
}

#[derive(Deserialize)]
struct Participant<'a> {
    id: &'a str,
    #[serde(rename = "info")]
    _info: IgnoredAny,
}

impl Webhook {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let hook = Self { address: listener.local_addr()?, told: Arc::default(), down: Arc::default() };
        let serving = hook.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let hook = serving.clone();
                let service = service_fn(move |request| hook.clone().take(request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(hook)
    }

    pub(super) fn callback(&self) -> String {
        format!("http://{}/api/calls", self.address)
    }

    /// Takes nothing while it is down, as a bot that restarts.
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self) {
        *self.told() = Told::default();
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        let mut answer = Response::new(Empty::new());
        if self.down.load(Ordering::Relaxed) {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(answer);
        }
        *answer.status_mut() = StatusCode::ACCEPTED;
        let Ok(body) = request.into_body().collect().await else { return Ok(answer) };
        let now = Instant::now();
        if let Err(error) = self.note(now, &body.to_bytes()) {
            eprintln!("a notification cannot be read: {error:#}");
        }
        Ok(answer)
    }

    fn note(&self, now: Instant, body: &[u8]) -> Result<()> {
        let notifications: Notifications<'_> = serde_json::from_slice(body)?;
        let mut told = self.told();
        told.requests += 1;
        for notification in notifications.value {
            let path = notification.resource_url.trim_start_matches("/communications/calls/");
            let (data, mut parts) = (notification.resource_data.get(), path.split('/'));
            let call = parts.next().unwrap_or_default();
            match (parts.next(), parts.next()) {
                (Some("participants"), None) => {
                    let roster: Vec<Participant<'_>> = serde_json::from_str(data)?;
                    told.sizes.insert(call.to_owned(), roster.len());
                    for participant in roster {
                        if !told.rostered.contains_key(participant.id) {
                            told.rostered.insert(participant.id.to_owned(), now);
                        }
                    }
                }
                (Some("operations"), Some(_)) => {
                    let operation: Operation<'_> = serde_json::from_str(data)?;
                    if matches!(operation.status, "completed" | "failed") {
                        let completed = operation.status == "completed";
                        if told.operations.insert(operation.id.to_owned(), (now, completed)).is_some() {
                            bail!("operation {} ended twice", operation.id);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
