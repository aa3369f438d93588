//! A switch on loopback with its channels in our hands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use control::{
    Caller, Cause, ConferenceId, Destination, Effect, LegAction, LegId, LegNews, MixPlan, MixPort, PhoneNumber, Signal,
    Snapshot, Target, TenantId,
};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use switch::{Binding, Directory, Report, Switch, SwitchConfig, Trunk, User};
use tokio::sync::mpsc;
use uuid::Uuid;

pub(crate) const DOMAIN: &str = "contoso.example";
pub(crate) const PASSWORD: &str = "only-for-tests";
pub(crate) const SECRET: [u8; 32] = [42; 32];

pub(crate) struct World {
    pub(crate) switch: Switch,
    pub(crate) directory: Arc<ArcSwap<Directory>>,
    effects: mpsc::Sender<(ConferenceId, Effect)>,
    pub(crate) signals: mpsc::Receiver<(ConferenceId, Signal)>,
    pub(crate) reports: mpsc::Receiver<Report>,
}

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn conference(number: u128) -> ConferenceId {
    ConferenceId(id(0xc0 << 64 | number))
}

pub(crate) fn tenant() -> TenantId {
    TenantId(id(0x7e))
}

/// A leg that no other story uses.
pub(crate) fn fresh_leg() -> LegId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    LegId(Uuid::from_bytes(bytes))
}

pub(crate) fn user(username: &str) -> User {
    let secret = format!("{username}:convoke:{PASSWORD}");
    User {
        tenant: tenant(),
        domain: DOMAIN.to_owned(),
        username: username.to_owned(),
        ha1_md5: format!("{:x}", Md5::digest(&secret)),
        ha1_sha256: format!("{:x}", Sha256::digest(&secret)),
    }
}

pub(crate) fn trunk(name: &str, address: SocketAddr, prefixes: &[&str]) -> Trunk {
    Trunk {
        name: name.to_owned(),
        uri: format!("sip:{address}"),
        prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        strip: 0,
        prepend: String::new(),
        credentials: None,
        register: false,
        tenants: None,
    }
}

pub(crate) fn to_user(username: &str) -> Target {
    target(Destination::Line { username: username.to_owned(), domain: DOMAIN.to_owned() })
}

pub(crate) fn to_number(number: &str) -> Target {
    target(Destination::Number(PhoneNumber::parse(number).unwrap()))
}

fn target(destination: Destination) -> Target {
    let caller = Caller {
        display_name: Some("Incident bot".to_owned()),
        number: PhoneNumber::parse("+12065550100"),
        domain: DOMAIN.to_owned(),
    };
    Target { tenant: tenant(), destination, caller }
}

impl World {
    pub(crate) fn start(users: &[&str], trunks: Vec<Trunk>) -> Self {
        Self::start_with(users, trunks, Vec::new(), |_| {})
    }

    pub(crate) fn start_with(
        users: &[&str],
        trunks: Vec<Trunk>,
        bindings: Vec<Binding>,
        change: impl FnOnce(&mut SwitchConfig),
    ) -> Self {
        let mut config = SwitchConfig::loopback(SECRET);
        config.media.threads = 2;
        config.media.ports = 40_000..=48_999;
        config.sip.ping_trunks_every = Duration::ZERO;
        change(&mut config);
        let directory = Directory::new(users.iter().map(|name| user(name)), trunks);
        let directory = Arc::new(ArcSwap::from_pointee(directory));
        let (effects, performed) = mpsc::channel(64);
        let (told, signals) = mpsc::channel(64);
        let (reported, reports) = mpsc::channel(64);
        let switch =
            Switch::start(config, Arc::clone(&directory), bindings, performed, told, reported).expect("it starts");
        Self { switch, directory, effects, signals, reports }
    }

    /// Another process of the same node at the same address, once the earlier one has let go of it.
    pub(crate) async fn restart(users: &[&str], bindings: Vec<Binding>, sip: SocketAddr) -> Self {
        let free = async {
            while std::net::UdpSocket::bind(sip).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), free).await.expect("the address is free again");
        Self::start_with(users, Vec::new(), bindings, |config| {
            config.sip.udp = vec![sip];
            config.take_up_within = Some(Duration::from_secs(10));
            config.process = 1_000;
        })
    }

    pub(crate) fn sip(&self) -> SocketAddr {
        let bound = self.switch.addresses().udp[0];
        if bound.ip().is_unspecified() { (std::net::Ipv4Addr::LOCALHOST, bound.port()).into() } else { bound }
    }

    pub(crate) async fn perform(&self, conference: ConferenceId, effect: Effect) {
        self.effects.send((conference, effect)).await.expect("the switch runs");
    }

    pub(crate) async fn dial(&self, conference: ConferenceId, target: Target) -> LegId {
        let leg = fresh_leg();
        self.perform(conference, Effect::Leg(leg, LegAction::Dial(target))).await;
        leg
    }

    pub(crate) async fn confirm(&self, conference: ConferenceId, leg: LegId) {
        self.perform(conference, Effect::Leg(leg, LegAction::Confirm)).await;
    }

    pub(crate) async fn resume(&self, conference: ConferenceId, leg: LegId, snapshot: &Snapshot, user: &str) {
        let action = LegAction::Resume { snapshot: snapshot.clone(), target: to_user(user) };
        self.perform(conference, Effect::Leg(leg, action)).await;
    }

    pub(crate) async fn dial_again(&self, conference: ConferenceId, leg: LegId, user: &str) {
        self.perform(conference, Effect::Leg(leg, LegAction::DialAgain(to_user(user)))).await;
    }

    pub(crate) async fn hang_up(
        &self,
        conference: ConferenceId,
        leg: LegId,
        snapshot: Option<Snapshot>,
        target: Option<Target>,
    ) {
        let action = LegAction::HangUp { cause: Cause::HungUpByApp, snapshot, target };
        self.perform(conference, Effect::Leg(leg, action)).await;
    }

    pub(crate) async fn mix(&self, conference: ConferenceId, ports: &[(LegId, u32)]) {
        let port = |&(leg, epoch)| MixPort { leg, epoch, speaks: true, hears: true };
        self.perform(conference, Effect::Mix(MixPlan { ports: ports.iter().map(port).collect() })).await;
    }

    /// The next news of a leg, and whom it was told; news of others is skipped.
    pub(crate) async fn news(&mut self, wanted: LegId) -> (ConferenceId, LegNews) {
        let wait = async {
            loop {
                match self.signals.recv().await.expect("the switch runs") {
                    (conference, Signal::Leg(leg, news)) if leg == wanted => return (conference, news),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(15), wait).await.expect("news of the leg")
    }

    /// The next so many legs that are resumed, in any order: who is told, and what is written down of them.
    pub(crate) async fn resumed(&mut self, count: usize) -> Vec<(LegId, ConferenceId, Snapshot)> {
        let wait = async {
            let mut resumed = Vec::new();
            while resumed.len() < count {
                match self.signals.recv().await.expect("the switch runs") {
                    (conference, Signal::Leg(leg, LegNews::Resumed(snapshot))) => {
                        resumed.push((leg, conference, snapshot));
                    }
                    (_, Signal::Leg(leg, LegNews::HungUp(cause))) => panic!("{leg} hung up: {cause:?}"),
                    _ => {}
                }
            }
            resumed
        };
        tokio::time::timeout(Duration::from_secs(15), wait).await.expect("legs that are resumed")
    }

    /// What phones have registered.
    pub(crate) async fn bindings(&mut self, count: usize) -> Vec<Binding> {
        let mut bindings = Vec::new();
        while bindings.len() < count {
            let bound = self.report(|report| match report {
                Report::Bound(binding) => Some((**binding).clone()),
                _ => None,
            });
            bindings.push(bound.await);
        }
        bindings
    }

    pub(crate) async fn expect_hung_up(&mut self, leg: LegId) -> Cause {
        loop {
            if let (_, LegNews::HungUp(cause)) = self.news(leg).await {
                return cause;
            }
        }
    }

    /// Somebody is called, answers, and is confirmed.
    pub(crate) async fn call(&mut self, conference: ConferenceId, user: &str) -> (LegId, Snapshot) {
        let leg = self.dial(conference, to_user(user)).await;
        let snapshot = self.connected(conference, leg).await;
        (leg, snapshot)
    }

    /// Until the leg is connected; then it is confirmed.
    pub(crate) async fn connected(&mut self, conference: ConferenceId, leg: LegId) -> Snapshot {
        loop {
            match self.news(leg).await {
                (owner, LegNews::Connected(snapshot)) => {
                    assert_eq!(owner, conference);
                    self.confirm(conference, leg).await;
                    return snapshot;
                }
                (_, LegNews::HungUp(cause)) => panic!("hung up: {cause:?}"),
                _ => {}
            }
        }
    }

    /// The next report that `pick` picks.
    pub(crate) async fn report<T>(&mut self, mut pick: impl FnMut(&Report) -> Option<T>) -> T {
        let wait = async {
            loop {
                let report = self.reports.recv().await.expect("the switch runs");
                if let Some(picked) = pick(&report) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("a report")
    }
}
