//! The directory from a file to a ringing phone: applied by a command, taken up by a running server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use server::boot;
use server::config::Config;
use server::directory;
use store::sqlite::{Access, Sqlite};
use store::{Store, Verb};

const FILE: &str = r#"
    [[tenant]]
    id = "72f988bf-86f1-41af-91ab-2d7cd011db47"
    domain = "contoso.example"

    [[app]]
    id = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01"
    tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
    name = "Incident bot"
    secret_file = "secret"
    roles = ["Calls.Initiate.All"]
    callback = "https://localhost:9443/api/calls"

    [[user]]
    id = "278405a3-f568-4b3e-b684-009193463064"
    tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
    name = "Front desk"
    sip = { username = "front-desk", password = "only-for-tests" }
    line = { answer_after = "300ms" }
"#;

async fn apply(store: &dyn Store, folder: &Path, text: &str, prune: bool) -> Vec<Verb> {
    let path = folder.join("directory.toml");
    std::fs::write(&path, text).unwrap();
    let changes = directory::apply(store, &path, prune).await.unwrap();
    changes.into_iter().map(|change| change.verb).collect()
}

#[tokio::test]
async fn applying_again_changes_nothing_and_only_prune_deletes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "only-for-tests\n").unwrap();
    let store = Sqlite::open(folder.path(), Access::Command).unwrap();
    assert_eq!(apply(&store, folder.path(), FILE, false).await, [Verb::Created; 3]);
    let version = store.directory_version().await.unwrap();
    assert_eq!(apply(&store, folder.path(), FILE, false).await, [Verb::Unchanged; 3]);
    assert_eq!(store.directory_version().await.unwrap(), version, "nothing to take up");

    std::fs::write(folder.path().join("secret"), "another").unwrap();
    assert!(apply(&store, folder.path(), FILE, false).await.contains(&Verb::Updated));

    let (without_user, _) = FILE.split_once("[[user]]").unwrap();
    assert_eq!(apply(&store, folder.path(), without_user, false).await, [Verb::Unchanged; 2]);
    assert_eq!(store.directory().await.unwrap().users().count(), 1, "never silently deleted");
    assert!(apply(&store, folder.path(), without_user, true).await.contains(&Verb::Deleted));
    assert_eq!(store.directory().await.unwrap().users().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_a_change_up_and_its_test_line_registers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "only-for-tests").unwrap();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config { data: folder.path().to_owned(), ..Config::default() };
    config.http.listen = here;
    config.sip.udp_listen = here;
    config.sip.tcp_listen = here;
    let server = boot::start(&config).await.unwrap();
    let mut phones = server.bank.subscribe();

    let command = Sqlite::open(folder.path(), Access::Command).unwrap();
    apply(&command, folder.path(), FILE, false).await;
    let registered = phones
        .wait_for(Duration::from_secs(10), |event| matches!(event.what, phone::Happening::Registered { .. }))
        .await
        .expect("the line registers");
    assert_eq!(&*registered.line, "front-desk@contoso.example");

    let (without_user, _) = FILE.split_once("[[user]]").unwrap();
    apply(&command, folder.path(), without_user, true).await;
    phones
        .wait_for(Duration::from_secs(10), |event| matches!(event.what, phone::Happening::Unregistered))
        .await
        .expect("the line goes");
    server.drain().await;
    // The lock is gone with the server: another may serve.
    boot::start(&config).await.unwrap().drain().await;
}
