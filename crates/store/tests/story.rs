//! One story, told to a store through its trait alone: a second backend is told the same.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod events;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::{
    AppId, CallId, ChainId, Conference, ConferenceId, Event, OperationId, PhoneNumber, ScenarioId, TenantId, Timestamp,
    UserId,
};
use store::limits::SWEEP_ROWS;
use store::sqlite::{Access, Sqlite};
use store::{
    App, Binding, Commit, DirectoryKey, DirectorySet, Fate, Keep, Meeting, MeetingKey, NoticeId, OutgoingNotice,
    PROCESSES_APART, Purpose, Settled, SigningKey, SipAccount, Store, StoreError, Swept, Tenant, Trunk, User, Verb,
    wants_snapshot,
};

use crate::events::{NOW, id, opened, placed};

fn open(directory: &Path) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(directory, Access::Serve).unwrap())
}

fn kept_alive(call: u128, by: i64) -> Event {
    Event::KeptAlive { call: CallId(id(call)), keep_alive_by: Timestamp(by) }
}

fn established(call: u128) -> Event {
    Event::CallEstablished { call: CallId(id(call)), at: NOW, keep_alive_by: NOW, audio_by: NOW }
}

fn notice(call: u128, body: &str) -> OutgoingNotice {
    OutgoingNotice {
        call: CallId(id(call)),
        app: AppId(id(1)),
        tenant: TenantId(id(2)),
        callback: "https://bot.example/?web=1".to_owned(),
        scenario: ScenarioId(id(4)),
        chain: ChainId(id(5)),
        body: body.to_owned(),
        after: None,
        settles: Some(OperationId(id(6))),
        full_roster: true,
        ends_call: false,
    }
}

/// A conference as its writer has it: what the log must give back.
struct Writer {
    conference: Conference,
    position: u64,
}

impl Writer {
    fn new(conference: u128) -> Self {
        Self { conference: Conference::new(ConferenceId(id(conference))), position: 0 }
    }

    fn turn(&mut self, events: Vec<Event>, notices: Vec<OutgoingNotice>) -> Commit {
        for event in &events {
            self.conference.apply(event);
        }
        let (before, after) = (self.position, self.position + events.len() as u64);
        self.position = after;
        let snapshot = wants_snapshot(before, after).then(|| Box::new(self.conference.clone()));
        Commit { conference: self.conference.id(), position: before, at: NOW, events, notices, snapshot }
    }

    async fn is_what_was_kept(&self, store: &dyn Store) {
        let loaded = store.load(self.conference.id()).await.unwrap().unwrap();
        assert_eq!(loaded.position, self.position);
        assert_eq!(loaded.conference, self.conference);
    }
}

#[tokio::test]
async fn a_conference_is_what_its_log_says_until_it_closes() {
    let directory = tempfile::tempdir().unwrap();
    let mut ours = Writer::new(10);
    {
        let store = open(directory.path());
        assert_eq!(store.load(ours.conference.id()).await.unwrap(), None);
        store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], vec![])).await.unwrap();
        store.commit(ours.turn(vec![established(11)], vec![])).await.unwrap();
        for turn in 0..300 {
            store.commit(ours.turn(vec![kept_alive(11, NOW.0 + turn)], vec![])).await.unwrap();
        }
        ours.is_what_was_kept(store.as_ref()).await;
    }
    // Another process, as if the first had died: nothing was kept in memory.
    let store = open(directory.path());
    ours.is_what_was_kept(store.as_ref()).await;
    assert_eq!(store.live_conferences().await.unwrap(), [ours.conference.id()]);
    assert_eq!(store.conference_of(CallId(id(11))).await.unwrap(), Some(ours.conference.id()));
    assert_eq!(store.conference_of(CallId(id(12))).await.unwrap(), None);

    let last = ours.position;
    let events = vec![Event::Closed];
    let (conference, notices) = (ours.conference.id(), vec![notice(11, "over")]);
    store.commit(Commit { conference, position: last, at: NOW, events, notices, snapshot: None }).await.unwrap();
    assert_eq!(store.load(conference).await.unwrap(), None);
    assert_eq!(store.conference_of(CallId(id(11))).await.unwrap(), None);
    assert!(store.live_conferences().await.unwrap().is_empty());
    assert_eq!(store.pending(NoticeId::NONE, 10).await.unwrap().len(), 1, "what is owed outlives the conference");
}

#[tokio::test]
async fn a_refused_commit_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut ours = Writer::new(10);
    store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], vec![notice(11, "1")])).await.unwrap();

    let stale = |position, events| Commit {
        conference: ConferenceId(id(10)),
        position,
        at: NOW,
        events,
        notices: vec![notice(11, "never")],
        snapshot: None,
    };
    let diverged = Err(StoreError::Diverged(ConferenceId(id(10))));
    for position in [0, 1, 3] {
        assert_eq!(store.commit(stale(position, vec![placed(CallId(id(12)))])).await.map(drop), diverged);
        assert_eq!(store.commit(stale(position, vec![Event::Closed])).await.map(drop), diverged);
    }
    // The call exists already: refused after the log was written to.
    assert!(store.commit(stale(2, vec![placed(CallId(id(11)))])).await.is_err());

    ours.is_what_was_kept(store.as_ref()).await;
    assert_eq!(store.conference_of(CallId(id(12))).await.unwrap(), None);
    let pending = store.pending(NoticeId::NONE, 10).await.unwrap();
    assert_eq!(pending.iter().map(|pending| &pending.notice.body).collect::<Vec<_>>(), ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_that_come_together_are_all_kept_and_refusals_sink_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let writers = (0..200_u128).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut ours = Writer::new(1000 + number);
            let call = 5000 + number;
            store.commit(ours.turn(vec![opened(), placed(CallId(id(call)))], vec![notice(call, "1")])).await.unwrap();
            let again = Writer::new(1000 + number).turn(vec![opened()], vec![notice(call, "never")]);
            store.commit(again).await.unwrap_err();
            store.commit(ours.turn(vec![established(call)], vec![notice(call, "2"), notice(call, "3")])).await.unwrap();
            ours.is_what_was_kept(store.as_ref()).await;
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    // CALL-3: the ids of a call's notices are in the order of its turns.
    let pending = store.pending(NoticeId::NONE, 1000).await.unwrap();
    assert_eq!(pending.len(), 600);
    for call in (0..200).map(|number| CallId(id(5000 + number))) {
        let bodies = pending.iter().filter(|pending| pending.notice.call == call).map(|pending| &pending.notice.body);
        assert_eq!(bodies.collect::<Vec<_>>(), ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut ours = Writer::new(10);
    drop(open(directory.path()));
    let spoilt = rusqlite::Connection::open(directory.path().join("convoke.db")).unwrap();
    let conference = ours.conference.id();
    let store = open(directory.path());
    store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], vec![])).await.unwrap();
    spoilt.execute("UPDATE log SET events = '[\"Unheard\"]'", []).unwrap();
    for _ in 0..2 {
        let error = store.load(conference).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreadable { conference, .. } if *conference == ours.conference.id()));
        assert!(error.to_string().contains(&conference.to_string()));
    }
    let kept: String = spoilt.query_row("SELECT events FROM log", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "[\"Unheard\"]");
}

#[tokio::test]
async fn notices_stay_until_they_are_settled_and_dead_ones_can_be_revived() {
    // OQ-9
    let directory = tempfile::tempdir().unwrap();
    let mut ours = Writer::new(10);
    let (first, ids) = {
        let store = open(directory.path());
        let notices = ["1", "2", "3", "4"].map(|body| notice(11, body)).to_vec();
        let committed = store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], notices)).await.unwrap();
        (store.pending(NoticeId::NONE, 10).await.unwrap(), committed.notices)
    };
    let store = open(directory.path());
    assert_eq!(store.pending(NoticeId::NONE, 10).await.unwrap(), first, "the message id is stable");
    assert_eq!(first.iter().map(|pending| pending.id).collect::<Vec<_>>(), ids);
    assert_eq!(first[0].notice, notice(11, "1"));
    assert_eq!(store.pending(ids[1], 1).await.unwrap(), first[2..3]);

    let dead = Settled::Dead { status: Some(500), reason: "the bot fell over".to_owned(), attempts: 9 };
    store.settle(NOW, vec![(ids[0], Settled::Delivered), (ids[1], Settled::Superseded)]).await.unwrap();
    store
        .settle(NOW, vec![(ids[2], dead), (ids[0], Settled::Delivered), (NoticeId(999), Settled::Delivered)])
        .await
        .unwrap();
    assert_eq!(store.pending(NoticeId::NONE, 10).await.unwrap(), first[3..]);

    let letters = store.dead_letters(Some(AppId(id(1))), 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].status, letters[0].reason.as_str(), letters[0].attempts),
        (Some(500), "the bot fell over", 9)
    );
    assert_eq!((&letters[0].notice, letters[0].message_id), (&first[2].notice, first[2].message_id));
    assert!(store.dead_letters(Some(AppId(id(77))), 10).await.unwrap().is_empty());

    assert_eq!(store.revive(NOW, vec![ids[2], NoticeId(999)]).await.unwrap(), 1);
    let again = store.pending(ids[3], 10).await.unwrap();
    assert_eq!((again[0].message_id, &again[0].notice.body), (first[2].message_id, &first[2].notice.body));
}

fn dead(status: u16) -> Settled {
    Settled::Dead { status: Some(status), reason: format!("the webhook answered {status}"), attempts: 3 }
}

#[tokio::test]
async fn dead_letters_go_back_in_the_order_of_their_call_once_and_tell_what_became_of_them() {
    // OQ-9, CALL-3
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut ours = Writer::new(10);
    let mut waiting = notice(11, "2");
    waiting.after = Some(OperationId(id(6)));
    let notices = vec![notice(11, "1"), waiting, notice(12, "3")];
    let ids = store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], notices)).await.unwrap().notices;
    let messages: Vec<_> =
        store.pending(NoticeId::NONE, 10).await.unwrap().iter().map(|pending| pending.message_id).collect();
    store.settle(NOW, ids.iter().map(|id| (*id, dead(503))).collect()).await.unwrap();
    assert_eq!(store.given_up(None, NoticeId::NONE, 2).await.unwrap(), ids[..2]);
    assert_eq!(store.given_up(None, ids[1], 2).await.unwrap(), ids[2..]);
    assert_eq!(store.given_up(Some(AppId(id(77))), NoticeId::NONE, 10).await.unwrap(), []);

    // The later one of a call first, fails again; then both, whichever way they are named.
    let put_back = async |which: &[NoticeId]| {
        let revived = store.revive(NOW, which.to_vec()).await.unwrap();
        let pending = store.pending(NoticeId::NONE, 10).await.unwrap();
        (revived, pending)
    };
    let (revived, pending) = put_back(&[ids[1]]).await;
    assert_eq!((revived, pending.len()), (1, 1));
    assert_eq!(store.dead_letter(ids[1]).await.unwrap().unwrap().fate, Fate::PutBack(NOW));
    assert_eq!(put_back(&[ids[1], ids[1]]).await, (0, pending.clone()), "it is on its way already");
    let later = NOW + Duration::from_secs(1);
    store.settle(later, vec![(pending[0].id, dead(500))]).await.unwrap();
    let again = store.dead_letter(ids[1]).await.unwrap().unwrap();
    assert_eq!((again.fate, again.replays, again.attempts), (Fate::GivenUp, 1, 6));
    assert_eq!((again.died, again.status, again.message_id), (later, Some(500), messages[1]));

    let (revived, pending) = put_back(&[ids[1], ids[0]]).await;
    assert_eq!(revived, 2);
    let order: Vec<_> = pending.iter().map(|pending| (pending.message_id, pending.notice.body.as_str())).collect();
    assert_eq!(order, [(messages[0], "1"), (messages[1], "2")]);
    assert!(pending.iter().all(|pending| pending.created == NOW && pending.id > ids[2]));
    let alone = |notice: &OutgoingNotice| notice.after.is_none() && notice.settles.is_none() && !notice.full_roster;
    assert!(pending.iter().all(|pending| alone(&pending.notice)), "each is sent, and for itself");

    store.settle(later, vec![(pending[0].id, Settled::Delivered)]).await.unwrap();
    let fates = store.dead_letters(None, 10).await.unwrap();
    let fates: Vec<_> = fates.iter().map(|letter| (letter.id, letter.fate, letter.replays)).collect();
    assert_eq!(
        fates,
        [(ids[1], Fate::PutBack(NOW), 2), (ids[2], Fate::GivenUp, 0), (ids[0], Fate::Delivered(later), 1),]
    );
    let (revived, left) = put_back(&ids).await;
    assert_eq!(revived, 1, "what was delivered is not sent once more");
    assert_eq!(left.iter().map(|pending| &pending.notice.body).collect::<Vec<_>>(), ["2", "3"]);
}

/// Sweeps until there is nothing left to do.
async fn sweep(store: &dyn Store, now: Timestamp, keep: Keep) -> Vec<Swept> {
    let mut steps = Vec::new();
    loop {
        steps.push(store.sweep(now, keep).await.unwrap());
        if !steps[steps.len() - 1].more {
            return steps;
        }
        assert!(steps.len() < 10_000, "it never ends");
    }
}

#[tokio::test]
async fn what_was_kept_long_enough_goes_a_little_at_a_time_and_its_space_is_given_back() {
    // OQ-9
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let size = || directory.path().join("convoke.db").metadata().unwrap().len();
    let keep = Keep { dead_letters: Duration::from_hours(1), ..Keep::default() };
    let mut ours = Writer::new(10);
    let long = "x".repeat(10_000);
    let notices = (0..2000).map(|_| notice(11, &long)).collect();
    let ids = store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], notices)).await.unwrap().notices;
    store.settle(NOW, ids[..1999].iter().map(|id| (*id, dead(503))).collect()).await.unwrap();
    // One that is sent again, and one that was delivered in the end, are looked at for longer.
    store.revive(NOW + Duration::from_mins(30), vec![ids[0], ids[1]]).await.unwrap();
    let put_back = store.pending(ids[1999], 10).await.unwrap();
    store.settle(NOW + Duration::from_mins(40), vec![(put_back[0].id, Settled::Delivered)]).await.unwrap();

    let hour = NOW + Duration::from_hours(1);
    assert_eq!(sweep(store.as_ref(), hour, keep).await[0].dead_letters, 0, "not yet");
    let steps = sweep(store.as_ref(), hour + Duration::from_millis(1), keep).await;
    assert!(steps.iter().all(|step| step.dead_letters <= SWEEP_ROWS && step.reclaimed_bytes <= 1 << 20), "{steps:?}");
    assert_eq!(steps.iter().map(|step| step.dead_letters).sum::<usize>(), 1997);
    assert!(steps.len() < 200, "{} steps for 1997 letters of three pages", steps.len());
    let left = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
    assert_eq!(sweep(store.as_ref(), hour + Duration::from_mins(41), keep).await[0].dead_letters, 2);

    // What is owed is never swept, and the file is small again once its log is written back.
    assert_eq!(store.pending(NoticeId::NONE, 10).await.unwrap().len(), 2);
    let last = *steps.last().unwrap();
    assert!(last.bytes < 6 << 20 && last.free_bytes <= 4 << 20, "{last:?}");
    drop(store);
    assert!(size() < 6 << 20, "{}", size());
}

#[tokio::test]
async fn the_newest_dead_letters_are_kept_when_there_are_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut ours = Writer::new(10);
    let notices = (0..250).map(|_| notice(11, "{}")).collect();
    let ids = store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], notices)).await.unwrap().notices;
    for (second, id) in ids.iter().enumerate() {
        store.settle(NOW + Duration::from_secs(second as u64), vec![(*id, dead(503))]).await.unwrap();
    }
    let keep = Keep { dead_letters_max: 20, ..Keep::default() };
    let steps = sweep(store.as_ref(), NOW, keep).await;
    assert_eq!(steps.iter().map(|step| step.dead_letters_crowded_out).collect::<Vec<_>>(), [100, 100, 30]);
    assert_eq!(store.given_up(None, NoticeId::NONE, 100).await.unwrap(), ids[230..]);
}

#[tokio::test]
async fn a_call_that_has_ended_and_a_notice_that_was_delivered_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut ours = Writer::new(10);
    store.commit(ours.turn(vec![opened(), placed(CallId(id(11)))], vec![notice(11, "1")])).await.unwrap();
    for turn in 0..300 {
        store.commit(ours.turn(vec![kept_alive(11, NOW.0 + turn)], vec![])).await.unwrap();
    }
    let (conference, position) = (ours.conference.id(), ours.position);
    let closed = Commit {
        conference,
        position,
        at: NOW,
        events: vec![Event::Closed],
        notices: vec![notice(11, "2")],
        snapshot: None,
    };
    store.commit(closed).await.unwrap();
    let owed = store.pending(NoticeId::NONE, 10).await.unwrap();
    store.settle(NOW, owed.iter().map(|owed| (owed.id, Settled::Delivered)).collect()).await.unwrap();
    drop(store);
    let database = rusqlite::Connection::open(directory.path().join("convoke.db")).unwrap();
    for table in ["conferences", "log", "snapshots", "calls", "outbox", "dead_letters"] {
        let rows: i64 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn meetings_are_kept_after_their_end_and_after_they_were_held_and_while_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let keep = Keep { meetings: Duration::from_hours(24), ..Keep::default() };
    for number in [50, 51, 52] {
        store.create_meeting(meeting(number, None)).await.unwrap();
    }
    // 51 was held an hour after its end, 52 is being held.
    let hour = NOW + Duration::from_hours(1);
    let mut held = Writer::new(51);
    store.commit(held.turn(vec![opened()], vec![])).await.unwrap();
    store.commit(Commit { at: hour, ..held.turn(vec![Event::Closed], vec![]) }).await.unwrap();
    store.commit(Writer::new(52).turn(vec![opened()], vec![])).await.unwrap();

    let left = async |at: Timestamp| {
        sweep(store.as_ref(), at + Duration::from_hours(24), keep).await;
        let mut left = Vec::new();
        for number in [50, 51, 52] {
            if store.meeting(MeetingKey::Id(ConferenceId(id(number)))).await.unwrap().is_some() {
                left.push(number);
            }
        }
        left
    };
    assert_eq!(left(NOW).await, [50, 51, 52]);
    assert_eq!(left(NOW + Duration::from_millis(1)).await, [51, 52]);
    assert_eq!(left(hour).await, [51, 52]);
    assert_eq!(left(hour + Duration::from_millis(1)).await, [52]);
    assert_eq!(left(NOW + Duration::from_hours(1000)).await, [52]);
}

#[tokio::test]
async fn registrations_of_phones_that_never_came_back_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let binding = |contact: &str, expires_at| Binding {
        aor: "ann@contoso.example".to_owned(),
        contact: contact.to_owned(),
        expires_at,
        path: None,
        received: None,
        call_id: "a84b".to_owned(),
        cseq: 1,
        instance: None,
        data: "{}".to_owned(),
    };
    let gone = NOW - Duration::from_hours(1);
    store.put_bindings(vec![binding("sip:1", gone), binding("sip:2", NOW)]).await.unwrap();
    assert_eq!(sweep(store.as_ref(), NOW, Keep::default()).await[0].registrations, 1);
    assert_eq!(store.bindings().await.unwrap(), [binding("sip:2", NOW)]);
}

fn directory_set() -> DirectorySet {
    let user = |number: u128, tenant: u128, username: &str| User {
        id: UserId(id(number)),
        tenant: TenantId(id(tenant)),
        name: format!("User {number}"),
        upn: None,
        sip: Some(SipAccount {
            username: username.to_owned(),
            ha1_md5: "md5".to_owned(),
            ha1_sha256: "sha".to_owned(),
        }),
        line: Some(serde_json::json!({ "say": "speech" })),
    };
    let trunk = |name: &str, prefixes: &[&str], tenants: &[u128]| Trunk {
        name: name.to_owned(),
        uri: "sip:127.0.0.1".to_owned(),
        prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        username: None,
        password: None,
        register: false,
        strip: 0,
        prepend: String::new(),
        tenants: tenants.iter().map(|&tenant| TenantId(id(tenant))).collect(),
        line: None,
    };
    DirectorySet {
        tenants: vec![
            Tenant { id: TenantId(id(1)), domain: "contoso.example".to_owned() },
            Tenant { id: TenantId(id(2)), domain: "fabrikam.example".to_owned() },
        ],
        apps: vec![App {
            id: AppId(id(20)),
            tenant: TenantId(id(1)),
            name: "Bot".to_owned(),
            secret_hash: Some("$argon2id$".to_owned()),
            roles: vec!["Calls.Initiate.All".to_owned()],
            callback: None,
            callback_hosts: vec!["localhost:9443".to_owned()],
            number: PhoneNumber::parse("+12065550100"),
            instance: AppId(id(21)),
            may_remove_participants: true,
        }],
        users: vec![user(30, 1, "ann"), user(31, 1, "bob"), user(32, 2, "bob")],
        trunks: vec![trunk("all", &["+"], &[]), trunk("berlin", &["+49", "+4930"], &[1])],
    }
}

fn verbs(changes: &[store::Change]) -> Vec<(Verb, String)> {
    changes.iter().map(|change| (change.verb, change.name.clone())).collect()
}

#[tokio::test]
async fn a_directory_is_applied_again_and_again_and_pruned_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let created = store.apply(directory_set(), false).await.unwrap();
    assert_eq!(created.len(), 8);
    assert!(created.iter().all(|change| change.verb == Verb::Created));
    let version = store.directory_version().await.unwrap();
    let unchanged = store.apply(directory_set(), true).await.unwrap();
    assert!(unchanged.iter().all(|change| change.verb == Verb::Unchanged) && unchanged.len() == 8);
    assert_eq!(store.directory_version().await.unwrap(), version);

    let picture = store.directory().await.unwrap();
    let user = |name: &str, host: &str| picture.user_by_address(name, host).map(|user| user.id.0.as_u128());
    assert_eq!(user("Ann", "Contoso.Example"), Some(30));
    assert_eq!((user("bob", "contoso.example"), user("bob", "fabrikam.example")), (Some(31), Some(32)));
    assert_eq!(
        (user("ann", "192.0.2.1"), user("bob", "192.0.2.1")),
        (Some(30), None),
        "unique in the server, or nobody"
    );
    assert_eq!(user("ann", "fabrikam.example"), None);
    let number = |text| PhoneNumber::parse(text).unwrap();
    assert_eq!(picture.app_by_number(&number("+12065550100")).unwrap().name, "Bot");
    assert_eq!(picture.app_by_instance(AppId(id(21))).unwrap().id, AppId(id(20)));
    let trunks = |tenant, text| {
        let trunks = picture.trunks_for(TenantId(id(tenant)), &number(text));
        trunks.into_iter().map(|trunk| trunk.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(trunks(1, "+493012345"), ["berlin", "all"]);
    assert_eq!(trunks(2, "+493012345"), ["all"]);

    // Two users exchange their names; nothing else is touched.
    let mut set = DirectorySet { users: directory_set().users[..2].to_vec(), ..DirectorySet::default() };
    let (ann, bob) = set.users.split_at_mut(1);
    std::mem::swap(&mut ann[0].sip, &mut bob[0].sip);
    let exchanged = store.apply(set.clone(), false).await.unwrap();
    assert_eq!(verbs(&exchanged), [(Verb::Updated, "User 30".to_owned()), (Verb::Updated, "User 31".to_owned())]);
    assert_eq!(store.directory().await.unwrap().user_by_address("ann", "contoso.example").unwrap().id.0, id(31));
    assert_ne!(store.directory_version().await.unwrap(), version);

    set.tenants = directory_set().tenants[..1].to_vec();
    let pruned = store.apply(set, true).await.unwrap();
    assert_eq!(pruned.iter().filter(|change| change.verb == Verb::Deleted).count(), 5);
    assert_eq!(store.directory().await.unwrap().tenants().count(), 1);

    assert!(store.delete(DirectoryKey::User(UserId(id(30)))).await.unwrap());
    assert!(!store.delete(DirectoryKey::User(UserId(id(30)))).await.unwrap());
    let why = store.delete(DirectoryKey::Tenant(TenantId(id(1)))).await.unwrap_err();
    assert!(why.to_string().starts_with("the user User 31 belongs to the tenant"), "{why}");
}

#[tokio::test]
async fn a_directory_that_contradicts_itself_is_refused_whole_and_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let refused = async |change: fn(&mut DirectorySet)| {
        let mut set = directory_set();
        change(&mut set);
        let why = store.apply(set, false).await.unwrap_err().to_string();
        assert_eq!(store.directory().await.unwrap().tenants().count(), 0);
        why
    };
    assert_eq!(
        refused(|set| set.users[2].tenant = set.users[1].tenant).await,
        "two users of the tenant contoso.example have the SIP user name bob"
    );
    assert_eq!(
        refused(|set| set.tenants[1].domain = "CONTOSO.example".to_owned()).await,
        "two tenants have the domain CONTOSO.example"
    );
    let twice = refused(|set| {
        let app = App { id: AppId(id(99)), instance: AppId(id(99)), ..set.apps[0].clone() };
        set.apps.push(app);
    });
    assert_eq!(twice.await, "two apps have the number +12065550100");
    assert!(refused(|set| set.users[0].id = set.users[1].id).await.ends_with("is given twice"));
    assert!(refused(|set| set.trunks[1].tenants = vec![TenantId(id(9))]).await.contains("does not exist"));
}

#[tokio::test]
async fn only_one_server_but_any_command_may_use_a_directory_and_each_sees_the_others_changes() {
    let directory = tempfile::tempdir().unwrap();
    let server = open(directory.path());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(directory.path().join("convoke.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else reads the keys");
    }
    let second = Sqlite::open(directory.path(), Access::Serve).unwrap_err();
    assert_eq!(second, StoreError::InUse { path: directory.path().to_owned() });

    let command = Sqlite::open(directory.path(), Access::Command).unwrap();
    let before = server.directory_version().await.unwrap();
    command.apply(directory_set(), false).await.unwrap();
    assert_ne!(server.directory_version().await.unwrap(), before);
    assert_eq!(server.directory().await.unwrap().users().count(), 3);
    assert_eq!(server.directory().await.unwrap().version(), server.directory_version().await.unwrap());

    drop(server);
    drop(open(directory.path()));
}

fn meeting(number: u128, external: Option<&str>) -> Meeting {
    Meeting {
        id: ConferenceId(id(number)),
        tenant: TenantId(id(1)),
        organizer: Some(UserId(id(30))),
        created_by: AppId(id(20)),
        created: Timestamp(number as i64),
        subject: Some("Standup".to_owned()),
        start: NOW,
        end: NOW,
        thread: format!("19:meeting_{number}@thread.v2"),
        join_meeting_id: format!("{number:012}"),
        passcode: None,
        external_id: external.map(str::to_owned),
        vtc_id: Some(format!("vtc{number}")),
        body: serde_json::json!({ "allowedPresenters": "everyone" }),
    }
}

#[tokio::test]
async fn meetings_are_found_by_each_of_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = meeting(1, None);
    store.create_meeting(first.clone()).await.unwrap();
    assert!(matches!(store.create_meeting(first.clone()).await, Err(StoreError::Taken(_))));
    for key in [
        MeetingKey::Id(first.id),
        MeetingKey::Thread(first.thread.clone()),
        MeetingKey::JoinMeetingId(first.join_meeting_id.clone()),
        MeetingKey::VtcId("vtc1".to_owned()),
    ] {
        assert_eq!(store.meeting(key).await.unwrap().as_ref(), Some(&first));
    }
    let second = store.create_or_get_meeting(meeting(2, Some("weekly"))).await.unwrap();
    assert!(second.created);
    let same = store.create_or_get_meeting(meeting(3, Some("weekly"))).await.unwrap();
    assert_eq!((same.created, same.meeting), (false, second.meeting.clone()));
    let of_another_app = Meeting { created_by: AppId(id(77)), ..meeting(4, Some("weekly")) };
    assert!(store.create_or_get_meeting(of_another_app).await.unwrap().created, "CALL-8");

    let listed = store.meetings_of(TenantId(id(1)), Some(UserId(id(30))), 2).await.unwrap();
    assert_eq!(listed.iter().map(|meeting| meeting.id.0.as_u128()).collect::<Vec<_>>(), [4, 2]);
    assert!(store.meetings_of(TenantId(id(1)), None, 10).await.unwrap().is_empty());

    let renamed = Meeting { subject: Some("Retro".to_owned()), ..first.clone() };
    assert!(store.update_meeting(renamed.clone()).await.unwrap());
    assert!(!store.update_meeting(meeting(9, None)).await.unwrap());
    assert_eq!(store.meeting(MeetingKey::Id(first.id)).await.unwrap(), Some(renamed));
    assert!(store.delete_meeting(first.id).await.unwrap());
    assert!(!store.delete_meeting(first.id).await.unwrap());
}

#[tokio::test]
async fn registrations_keys_and_secrets_survive() {
    let directory = tempfile::tempdir().unwrap();
    let binding = |contact: &str, cseq| Binding {
        aor: "sip:ann@contoso.example".to_owned(),
        contact: contact.to_owned(),
        expires_at: NOW,
        path: None,
        received: Some("udp:192.0.2.7:5060".to_owned()),
        call_id: "a84b".to_owned(),
        cseq,
        instance: None,
        data: "{}".to_owned(),
    };
    let key = |kid: &str, purpose, created| SigningKey {
        kid: kid.to_owned(),
        purpose,
        private: vec![1, 2, 3],
        created: Timestamp(created),
        retire_at: None,
    };
    let secret = {
        let store = open(directory.path());
        store.put_bindings(vec![binding("sip:1", 1), binding("sip:2", 1), binding("sip:1", 2)]).await.unwrap();
        store.remove_bindings(vec![("sip:ann@contoso.example".to_owned(), "sip:2".to_owned())]).await.unwrap();
        store.add_key(key("b", Purpose::Access, 2)).await.unwrap();
        store.add_key(key("a", Purpose::Access, 1)).await.unwrap();
        store.add_key(key("n", Purpose::Notification, 1)).await.unwrap();
        assert_eq!(store.next_process(Timestamp(0)).await.unwrap(), 1);
        store.secret("node").await.unwrap()
    };
    let store = open(directory.path());
    assert_eq!(store.bindings().await.unwrap(), [binding("sip:1", 2)]);
    assert_eq!(store.next_process(Timestamp(0)).await.unwrap(), 1 + PROCESSES_APART);
    assert_eq!(store.secret("node").await.unwrap(), secret);
    assert_ne!(store.secret("other").await.unwrap(), secret);
    let kids = async || {
        let keys = store.keys(Purpose::Access).await.unwrap();
        keys.into_iter().map(|key| (key.kid, key.retire_at)).collect::<Vec<_>>()
    };
    assert_eq!(kids().await, [("a".to_owned(), None), ("b".to_owned(), None)]);
    assert!(store.retire_key("a", NOW).await.unwrap());
    assert!(!store.retire_key("z", NOW).await.unwrap());
    store.forget_keys(NOW).await.unwrap();
    assert_eq!(kids().await[0].1, Some(NOW));
    store.forget_keys(Timestamp(NOW.0 + 1)).await.unwrap();
    assert_eq!(kids().await, [("b".to_owned(), None)]);
}
