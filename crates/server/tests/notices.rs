//! Notifications from the outbox to a webhook: the whole server in one process, real HTTPS, real tokens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use control::{AppId, CallId};
use server::auth::{fresh_id, wall_clock};
use server::certs::{Authority, Served};
use server::config::Span;
use server::hook::{Hook, Manners};
use tokio::net::TcpListener;
use world::{Deed, World, in_time, next, scripted};

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
    let world = World::with(|config| config.notify.retry_for = Span(Duration::from_secs(2))).await;
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
    // One that is down.
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    world.owe_one(&format!("https://{closed}/"), 3).await;
    let letters = world.dead_letters(2).await;
    assert!(letters[0].status.is_none() && letters[0].attempts > 1, "{}", letters[0].reason);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_sent_again_and_what_is_one_is_not() {
    // OQ-9, Q-12
    let world = World::with(|config| config.notify.timeout = Span(Duration::from_millis(200))).await;
    let answer = |status| Deed::Answer(status, String::new());
    let patient = [Deed::Drop, Deed::Silence, answer(500), answer(502), answer(408), answer(429)];
    let mut hooks = Vec::new();
    for deed in patient {
        let (address, told) = scripted(vec![deed.clone(), answer(204)]).await;
        world.owe_one(&format!("http://{address}/"), 7).await;
        hooks.push((deed, told));
    }
    for (deed, told) in &mut hooks {
        for _ in 0..2 {
            assert_eq!(in_time("it comes again", told.recv()).await, Some(("/".to_owned(), 7)), "{deed:?}");
        }
    }
    assert!(world.store.dead_letters(None, 1).await.unwrap().is_empty());
    let finals = [400, 401, 404, 410, 303];
    for status in finals {
        let (address, _) = scripted(vec![answer(status)]).await;
        world.owe_one(&format!("http://{address}/"), 8).await;
    }
    let letters = world.dead_letters(finals.len()).await;
    let mut statuses: Vec<_> = letters.iter().map(|letter| (letter.status.unwrap(), letter.attempts)).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [(303, 1), (400, 1), (401, 1), (404, 1), (410, 1)]);
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_within_its_host_and_never_to_another() {
    // the POST is sent again as it was, and only to where it was allowed to go.
    let world = World::start().await;
    let answer = |status, location: &str| Deed::Answer(status, location.to_owned());
    let mut followed = Vec::new();
    for status in [301, 302, 307, 308] {
        let (address, told) = scripted(vec![answer(status, "/moved?x=1"), answer(202, "")]).await;
        world.owe_one(&format!("http://{address}/"), 1).await;
        followed.push((status, told));
    }
    let (elsewhere, mut never) = scripted(vec![answer(202, "")]).await;
    for location in
        [format!("http://{elsewhere}/stolen"), format!("//{elsewhere}/stolen"), "https://bot.example/".to_owned()]
    {
        let (address, _) = scripted(vec![answer(302, &location)]).await;
        world.owe_one(&format!("http://{address}/"), 2).await;
    }
    // Round in circles.
    let (address, mut circling) = scripted(vec![answer(307, "/")]).await;
    world.owe_one(&format!("http://{address}/"), 3).await;

    for (status, told) in &mut followed {
        assert_eq!(in_time("the first", told.recv()).await, Some(("/".to_owned(), 1)));
        assert_eq!(in_time("the second", told.recv()).await, Some(("/moved?x=1".to_owned(), 1)), "{status}");
    }
    let letters = world.dead_letters(4).await;
    for letter in &letters {
        assert_eq!(letter.attempts, 1, "{}", letter.reason);
        assert!(letter.reason.contains("within its own host"), "{}", letter.reason);
    }
    for _ in 0..4 {
        assert!(in_time("it comes", circling.recv()).await.is_some());
    }
    assert!(circling.try_recv().is_err() && never.try_recv().is_err());
    world.server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_webhook_holds_up_nobody_else() {
    let world = World::start().await;
    let (slow, mut waiting) = scripted(vec![Deed::Silence]).await;
    for number in 0..40 {
        world.owe_one(&format!("http://{slow}/"), number).await;
    }
    assert!(in_time("the slow one is tried", waiting.recv()).await.is_some());
    let (quick, mut told) = scripted(vec![Deed::Answer(202, String::new())]).await;
    for number in 0..40 {
        world.owe_one(&format!("http://{quick}/"), number).await;
    }
    for _ in 0..40 {
        assert!(in_time("the quick one is served", told.recv()).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_address_may_not_be_told_is_given_up_at_once() {
    let world = World::start().await;
    // The last is a name that resolvers take for an address of this machine.
    for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:169.254.169.254]", "127.1:1"] {
        world.owe_one(&format!("https://{host}/latest/meta-data"), 1).await;
    }
    for letter in world.dead_letters(5).await {
        assert_eq!((letter.status, letter.attempts), (None, 1), "{}", letter.reason);
        assert!(letter.reason.starts_with("the callback's host"), "{}", letter.reason);
    }
    world.server.drain().await;
}
