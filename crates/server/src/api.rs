//! Graph's face: every route on one page.
//!
//! A request passes `front` (ids, headers, envelope, compression), is matched here, is understood in `from_graph`,
//! carried out by the engine, and answered in `to_graph`. Nothing behind those two knows Graph's JSON.

mod calls;
pub(crate) mod error;
pub(crate) mod exchange;
mod from_graph;
mod front;
mod graph_path;
mod health;
mod meetings;
pub(crate) mod percent;
mod placed;
mod result;
pub(crate) mod service;
pub mod to_graph;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use control::InvitePolicy;
use engine::Engine;
use metrics_exporter_prometheus::PrometheusHandle;
use store::{Directory, Store};

use crate::admission::Gate;
use crate::auth::{Keys, openid, token};
use crate::config::Network;
use error::ApiError;
use service::Service;

/// Everything the API stands on.
#[derive(Clone)]
pub struct State {
    pub engine: Engine,
    pub store: Arc<dyn Store>,
    /// Renewed by whoever watches the store.
    pub directory: Arc<ArcSwap<Directory>>,
    pub keys: Arc<Keys>,
    pub settings: Arc<Settings>,
    /// What `/metrics` shows; without it there are none.
    pub metrics: Option<PrometheusHandle>,
    /// Lets new work in, or says when to come back.
    pub gate: Gate,
    /// Whether `/health/ready` says yes: set once everything runs, cleared when the server drains.
    pub ready: Arc<AtomicBool>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the operator decided about the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What clients call this server, without a trailing slash; `None`: whatever they name in `Host`.
    pub base_url: Option<String>,
    /// Plain http callbacks to loopback are allowed.
    pub dev: bool,
    pub invite: InvitePolicy,
    /// The form of `joinWebUrl`: `{base}`, `{thread}`, `{message}` and `{context}` are filled in, percent-encoded
    /// (OQ-10).
    pub join_web_url: String,
    /// The issuer of notification tokens: one of those that bots accept (contract 2.6).
    pub notification_issuer: String,
    /// For the body of a request to arrive.
    pub body_within: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Network>,
    /// Replies spell an operation's status in lower case, as most of the documentation does (OQ-2).
    pub lower_case_status: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: None,
            dev: false,
            invite: InvitePolicy::default(),
            join_web_url: "{base}/l/meetup-join/{thread}/{message}?context={context}".to_owned(),
            notification_issuer: "https://api.botframework.com".to_owned(),
            body_within: Duration::from_secs(30),
            proxies: Vec::new(),
            lower_case_status: false,
        }
    }
}

/// Put on the requests of a listener that speaks plain HTTP, as an extension: URLs in answers begin with `http:`.
#[derive(Clone, Copy, Debug)]
pub struct PlainHttp;

/// The whole site.
pub fn router(state: State) -> Router {
    let service = Service::new(state);
    let closed = |router: Router<Service>| {
        router.fallback(no_route).method_not_allowed_fallback(wrong_method).with_state(service.clone())
    };
    front::router(closed(graph().router), closed(site()), service.clone())
}

/// Every route of the Graph API: what it is asked by, `*` for anything, and its path as in [`graph`].
pub fn routes() -> Vec<(&'static str, &'static str)> {
    graph().listed
}

/// Under `/v1.0` and `/beta`, and there under `/communications` and `/app` alike. `GraphPath` has put every path into
/// lower case, taken the version off, and made `calls('x')` and `microsoft.graph.invite` what they are elsewhere.
fn graph() -> Routes {
    Routes::default()
        .get("/communications/calls", calls::list)
        .post("/communications/calls", calls::create)
        .post("/communications/calls/logteleconferencedevicequality", not_built)
        .get("/communications/calls/{call}", calls::get)
        .delete("/communications/calls/{call}", calls::delete)
        .post("/communications/calls/{call}/keepalive", calls::keep_alive)
        .get("/communications/calls/{call}/participants", calls::participants)
        .post("/communications/calls/{call}/participants/invite", calls::invite)
        .post("/communications/calls/{call}/participants/muteall", not_built)
        .post("/communications/calls/{call}/participants/configuremixer", not_built)
        .get("/communications/calls/{call}/participants/{participant}", calls::participant)
        .delete("/communications/calls/{call}/participants/{participant}", calls::remove_participant)
        .get("/communications/calls/{call}/operations", calls::operations)
        .get("/communications/calls/{call}/operations/{operation}", calls::operation)
        .get("/communications/calls/{call}/audioroutinggroups", calls::audio_routing_groups)
        .post("/communications/calls/{call}/audioroutinggroups", not_built)
        .get("/communications/calls/{call}/audioroutinggroups/{group}", calls::audio_routing_group)
        .patch("/communications/calls/{call}/audioroutinggroups/{group}", not_built)
        .delete("/communications/calls/{call}/audioroutinggroups/{group}", not_built)
        .get("/communications/calls/{call}/contentsharingsessions", calls::content_sharing_sessions)
        .any("/communications/calls/{call}/{action}", known_action)
        .any("/communications/calls/{call}/participants/{participant}/{action}", known_action)
        .get("/communications/onlinemeetings", meetings::list)
        .post("/communications/onlinemeetings", meetings::create)
        .post("/communications/onlinemeetings/createorget", meetings::create_or_get)
        .get("/communications/onlinemeetings/{meeting}", meetings::get)
        .patch("/communications/onlinemeetings/{meeting}", meetings::change)
        .delete("/communications/onlinemeetings/{meeting}", meetings::delete)
        .get("/users/{user}/onlinemeetings", meetings::list_of_user)
        .post("/users/{user}/onlinemeetings", meetings::create_for_user)
        .post("/users/{user}/onlinemeetings/createorget", meetings::create_or_get_for_user)
        .get("/users/{user}/onlinemeetings/{meeting}", meetings::get_of_user)
        .patch("/users/{user}/onlinemeetings/{meeting}", meetings::change_of_user)
        .delete("/users/{user}/onlinemeetings/{meeting}", meetings::delete_of_user)
        .any("/me/onlinemeetings", meetings::me)
        .any("/me/onlinemeetings/{*rest}", meetings::me)
}

/// A router that knows its routes: whoever adds one is asked by a test what strangers get to see there.
#[derive(Default)]
struct Routes {
    router: Router<Service>,
    listed: Vec<(&'static str, &'static str)>,
}

impl Routes {
    fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, Service>) -> Self {
        self.on("GET", path, routing::get(handler))
    }

    fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, Service>) -> Self {
        self.on("POST", path, routing::post(handler))
    }

    fn patch<T: 'static>(self, path: &'static str, handler: impl Handler<T, Service>) -> Self {
        self.on("PATCH", path, routing::patch(handler))
    }

    fn delete<T: 'static>(self, path: &'static str, handler: impl Handler<T, Service>) -> Self {
        self.on("DELETE", path, routing::delete(handler))
    }

    fn any<T: 'static>(self, path: &'static str, handler: impl Handler<T, Service>) -> Self {
        self.on("*", path, routing::any(handler))
    }

    /// Routes of one path are put together.
    fn on(mut self, method: &'static str, path: &'static str, route: MethodRouter<Service>) -> Self {
        self.listed.push((method, path));
        Self { router: self.router.route(path, route), listed: self.listed }
    }
}

/// Outside of Graph; paths are in lower case here too.
fn site() -> Router<Service> {
    Router::new()
        .route("/health/live", routing::get(health::live))
        .route("/health/ready", routing::get(health::ready))
        .route("/metrics", routing::get(health::metrics))
        .route("/common/discovery/instance", routing::get(openid::instance))
        .route("/v1/.well-known/openidconfiguration", routing::get(openid::notification_configuration))
        .route("/v1/.well-known/openid-configuration", routing::get(openid::notification_configuration))
        .route("/v1/keys", routing::get(openid::notification_keys))
        .route("/{tenant}/oauth2/v2.0/token", routing::post(token::token))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", routing::get(openid::configuration))
        .route("/{tenant}/.well-known/openid-configuration", routing::get(openid::configuration))
        .route("/{tenant}/discovery/v2.0/keys", routing::get(openid::access_keys))
        .route("/{tenant}/discovery/keys", routing::get(openid::access_keys))
}

async fn no_route() -> ApiError {
    ApiError::NoRoute
}

async fn wrong_method() -> ApiError {
    ApiError::WrongMethod
}

/// Known to Graph and not to this server yet: 405 `8520` for what is documented, 501 for what only SDKs have
/// (contract 3, 6.2).
async fn known_action(
    method: http::Method,
    axum::extract::Path(names): axum::extract::Path<Vec<(String, String)>>,
    _: exchange::Ask,
) -> ApiError {
    const DOCUMENTED: [&str; 17] = [
        "answer",
        "reject",
        "redirect",
        "transfer",
        "mute",
        "unmute",
        "startholdmusic",
        "stopholdmusic",
        "playprompt",
        "recordresponse",
        "record",
        "cancelmediaprocessing",
        "subscribetotone",
        "senddtmftones",
        "updaterecordingstatus",
        "changescreensharingrole",
        "addlargegalleryview",
    ];
    const SDK_ONLY: [&str; 5] =
        ["startrecording", "stoprecording", "starttranscription", "stoptranscription", "reportsyntheticmedia"];
    let action = names.last().map_or("", |(_, action)| action.as_str());
    let (documented, sdk_only) = (DOCUMENTED.contains(&action), SDK_ONLY.contains(&action));
    if !documented && !sdk_only {
        ApiError::NoRoute
    } else if method != http::Method::POST {
        ApiError::WrongMethod
    } else if documented {
        ApiError::NotBuilt
    } else {
        ApiError::NotImplemented
    }
}

async fn not_built(_: exchange::Ask) -> ApiError {
    ApiError::NotBuilt
}
