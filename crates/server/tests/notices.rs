//! Notifications from the outbox to a webhook: the whole server in one process, real HTTPS, real tokens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::{AppId, CallId, ChainId, ConferenceId, Event, Kind, ScenarioId, TenantId};
use server::auth::{fresh_id, wall_clock};
use server::boot::{self, Server};
use server::certs::{self, Authority, Served};
use server::config::{Config, Span};
use server::hook::{Hook, Manners, Received, Verifier};
use store::sqlite::{Access, Sqlite};
use store::{Commit, DeadLetter, OutgoingNotice, Store};
use tokio::net::TcpListener;

/// Anything that should come does so long before.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on free ports of loopback, and what its owner knows.
struct World {
    server: Server,
    /// As a command of the operator has it open.
    store: Arc<dyn Store>,
    app: AppId,
    tenant: TenantId,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::giving_up_after(Duration::from_mins(1)).await
    }

    async fn giving_up_after(retry_for: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config { data: folder.path().to_owned(), dev: true, ..Config::default() };
        config.http.listen = here;
        config.http.plain_listen = here;
        config.sip.udp_listen = here;
        config.sip.tcp_listen = here;
        config.notify.retry_for = Span(retry_for);
        let server = boot::start(&config).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path(), Access::Command).unwrap());
        Self { server, store, app: AppId(fresh_id()), tenant: TenantId(fresh_id()), folder }
    }

    async fn hook(&self, tls: bool, audience: AppId, manners: Manners) -> Hook {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let authority = Authority::open(self.folder.path()).unwrap();
        let issued = authority.issue(&["localhost".to_owned()]).unwrap();
        let tls = tls.then(|| Served::new(issued.loaded().unwrap()).server_config().unwrap());
        let roots = certs::roots(Some(authority.pem()), None).unwrap();
        let verifier = Verifier::new(&self.server.base_url, Some(audience), roots).unwrap();
        Hook::start(listener, tls, Some(verifier), manners).unwrap()
    }

    fn notice(&self, call: CallId, callback: &str, number: u32) -> OutgoingNotice {
        OutgoingNotice {
            call,
            app: self.app,
            tenant: self.tenant,
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

    /// Writes notices into the outbox as a turn of some conference does.
    async fn owe(&self, notices: Vec<OutgoingNotice>) {
        let commit = Commit {
            conference: ConferenceId(fresh_id()),
            position: 0,
            at: wall_clock(),
            events: vec![
                Event::Opened { at: wall_clock(), tenant: self.tenant, kind: Kind::PeerToPeer, created_by: self.app },
                Event::Closed,
            ],
            notices,
            snapshot: None,
        };
        self.store.commit(commit).await.unwrap();
    }

    async fn dead_letter(&self) -> DeadLetter {
        let found = async {
            loop {
                if let Some(letter) = self.store.dead_letters(None, 1).await.unwrap().pop() {
                    return letter;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it is given up")
    }
}

async fn next(hook: &mut Hook) -> Received {
    tokio::time::timeout(PATIENCE, hook.next()).await.expect("a notification comes").expect("the hook runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_what_existing_bots_accept() {
    let world = World::start().await;
    let mut hook = world.hook(true, world.app, Manners::default()).await;
    let uri = "/api//calls/../x?webInstanceId=local&filter='a'%2fB&empty";
    let notice = world.notice(CallId(fresh_id()), &format!("https://LOCALHOST:{}{uri}", hook.address.port()), 1);
    world.owe(vec![notice.clone()]).await;
    let received = next(&mut hook).await;
    let printed = serde_json::to_value(&received).unwrap();
    assert_eq!(printed["token"]["verified"]["aud"], world.app.to_string());
    // Contract 2.6: signature by the published key set, issuer, audience, tenant.
    let claims = received.token.unwrap().unwrap();
    assert_eq!(claims.aud, world.app.to_string());
    assert_eq!(claims.tid, world.tenant.to_string());
    assert_eq!(claims.iss, "https://api.botframework.com");
    // Contract 2.7: the URL byte for byte, the ids in their headers.
    assert_eq!(received.uri, uri);
    assert_eq!(received.scenario, Some(notice.scenario.to_string()));
    assert_eq!(received.chain, Some(notice.chain.to_string()));
    assert!(received.message.is_some() && received.original.is_some() && received.message != received.original);
    assert_eq!(received.body["number"], 1);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_sent_again_before_what_follows_it() {
    // CALL-3, OQ-9
    let world = World::start().await;
    let mut hook = world.hook(false, world.app, Manners { fail: 1, ..Manners::default() }).await;
    let (call, callback) = (CallId(fresh_id()), format!("http://127.0.0.1:{}/", hook.address.port()));
    world.owe(vec![world.notice(call, &callback, 1), world.notice(call, &callback, 2)]).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let received = next(&mut hook).await;
        seen.push((received.body["number"].as_u64().unwrap(), received.answered, received.original, received.message));
    }
    assert_eq!(seen.iter().map(|each| (each.0, each.1)).collect::<Vec<_>>(), [(1, 503), (1, 202), (2, 202)]);
    assert_eq!(seen[0].2, seen[1].2, "the same notification");
    assert_ne!(seen[0].3, seen[1].3, "another message");
    world.server.drain().await;
    assert!(world.store.pending(store::NoticeId::NONE, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_refuses_our_token_gets_no_second_one_and_the_letter_can_be_sent_again() {
    // OQ-9: never silently dropped.
    let world = World::start().await;
    let mut stranger = world.hook(true, AppId(fresh_id()), Manners::default()).await;
    let callback = format!("https://localhost:{}/calls", stranger.address.port());
    world.owe(vec![world.notice(CallId(fresh_id()), &callback, 1)]).await;
    let refused = next(&mut stranger).await;
    assert!(refused.token.unwrap().is_err());
    let letter = world.dead_letter().await;
    assert_eq!((letter.status, letter.attempts), (Some(403), 1));
    assert_eq!(world.store.revive(wall_clock(), vec![letter.id]).await.unwrap(), 1);
    let again = next(&mut stranger).await;
    assert_eq!(again.body["number"], 1);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_with_a_certificate_of_nobody_is_given_up_and_others_go_on() {
    let world = World::giving_up_after(Duration::from_secs(2)).await;
    let nobody = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let issued = Authority::open(Path::new(nobody.path())).unwrap().issue(&["localhost".to_owned()]).unwrap();
    let tls = Served::new(issued.loaded().unwrap()).server_config().unwrap();
    let bad = Hook::start(listener, Some(tls), None, Manners::default()).unwrap();
    let mut good = world.hook(true, world.app, Manners::default()).await;
    let to = |hook: &Hook| format!("https://localhost:{}/", hook.address.port());
    world
        .owe(vec![world.notice(CallId(fresh_id()), &to(&bad), 1), world.notice(CallId(fresh_id()), &to(&good), 2)])
        .await;
    assert_eq!(next(&mut good).await.body["number"], 2);
    let letter = world.dead_letter().await;
    assert_eq!(letter.status, None);
    assert!(letter.reason.contains("certificate"), "{}", letter.reason);
    world.server.drain().await;
}
