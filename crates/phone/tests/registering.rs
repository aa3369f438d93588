//! Phones at a registrar: the agent with its registrar, on a socket of its own.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phone::{
    Account, BankConfig, EndCause, Events, Happening, Line, LoadBank, LoadConfig, Phone, PhoneBank, PhoneConfig,
    PhoneEvent, Place, Reply, Script, Transport, TrunkLine,
};
use sip::agent::{
    Agent, AgentConfig, Binding, Caller, Dial, Flow, Input, LegKey, Lookup, Order, Output, RegistrarConfig, Report,
    UnboundBecause, Users,
};
use sip::digest::{Algorithm, ha1};
use sip::message::Uri;
use sip::sdp::{LocalMedia, Negotiation};
use tokio::net::UdpSocket;

const SOON: Duration = Duration::from_secs(20);
const REALM: &str = "convoke";

/// Everybody's password is `secret`.
struct Everybody;

impl Users for Everybody {
    fn ha1(&self, username: &str, domain: &str, algorithm: Algorithm) -> Lookup {
        Lookup::Ha1 { ha1: ha1(algorithm, username, REALM, "secret"), aor: format!("{username}@{domain}") }
    }
}

/// A registrar, turned by the tests themselves.
struct Registrar {
    agent: Agent,
    socket: UdpSocket,
    local: SocketAddr,
}

impl Registrar {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let local = socket.local_addr().unwrap();
        let mut config = AgentConfig::new("registrar", [1; 32], [2; 32]);
        config.registrar = Some(RegistrarConfig { realm: REALM.to_owned(), ..RegistrarConfig::default() });
        config.users = Arc::new(Everybody);
        let mut agent = Agent::new(config, Instant::now());
        let transport = sip::agent::Transport::Udp;
        agent.handle(Instant::now(), Input::Listening { flow: Flow(0), transport, local, advertised: local });
        Self { agent, socket, local }
    }

    /// Works until something is reported that is `wanted`.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Report) -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + SOON;
        let mut buffer = vec![0; 65_536];
        loop {
            while let Some(output) = self.agent.poll_output() {
                match output {
                    Output::Transmit { destination, bytes, .. } => {
                        self.socket.send_to(&bytes, destination).await.unwrap();
                    }
                    Output::Report(report) => {
                        if let Some(found) = wanted(report) {
                            return found;
                        }
                    }
                    Output::Connect { .. } | Output::CloseFlow(_) | Output::LookUp { .. } => {}
                }
            }
            let due = self.agent.deadline().map_or(end, |due| end.min(due.into()));
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received.unwrap();
                    let bytes = &buffer[..length];
                    self.agent.handle(Instant::now(), Input::Datagram { flow: Flow(0), source, bytes });
                }
                () = tokio::time::sleep_until(due) => {
                    assert!(tokio::time::Instant::now() < end, "{what} did not happen");
                    self.agent.handle(Instant::now(), Input::Time);
                }
            }
        }
    }

    async fn until_bound(&mut self, aor: &str) -> Binding {
        self.until("binding", |report| match report {
            Report::Bound(binding) if binding.aor == aor => Some(*binding),
            _ => None,
        })
        .await
    }

    fn dial(&mut self, leg: LegKey, binding: &Binding) {
        let offer = Negotiation::new(LocalMedia::new(self.local.ip(), 40_000, 1)).offer();
        let dial = Dial {
            leg,
            branches: vec![binding.branch()],
            caller: Caller {
                display: Some("Incident bot".to_owned()),
                uri: Uri::sip(Some("bot"), "contoso.example", None),
                asserted: None,
            },
            offer,
            ring_for: SOON,
            credentials: None,
            extra_headers: Vec::new(),
        };
        self.agent.handle(Instant::now(), Input::Order(Order::Dial(Box::new(dial))));
    }
}

fn account(server: SocketAddr, username: &str, domain: &str) -> Account {
    Account {
        server: server.to_string(),
        transport: Transport::Udp,
        domain: domain.to_owned(),
        username: username.to_owned(),
        password: "secret".to_owned(),
        display: None,
        expires: Duration::from_mins(5),
    }
}

fn line(name: &str, account: Account, reply: Reply) -> Line {
    Line { name: name.to_owned(), place: Place::Registered(account), script: Script { reply, ..Script::default() } }
}

async fn until(events: &mut Events, what: &str, mut wanted: impl FnMut(&PhoneEvent) -> bool) -> PhoneEvent {
    let found = events.wait_for(SOON, |event| wanted(event)).await;
    (*found.unwrap_or_else(|| panic!("{what} did not happen"))).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_registers_is_called_and_says_farewell() {
    let mut registrar = Registrar::start().await;
    let bank = PhoneBank::start(BankConfig::default()).await.unwrap();
    let mut events = bank.subscribe();
    bank.set(vec![line("desk", account(registrar.local, "desk", "contoso.example"), Reply::Answer)]).await;
    let binding = registrar.until_bound("desk@contoso.example").await;
    let registered = until(&mut events, "registration", |event| matches!(event.what, Happening::Registered { .. }));
    assert_eq!(registered.await.what, Happening::Registered { expires_s: 300 });

    let leg = LegKey([9; 16]);
    registrar.dial(leg, &binding);
    registrar.until("answer", |report| matches!(report, Report::Answered { .. }).then_some(())).await;
    registrar.agent.handle(Instant::now(), Input::Order(Order::Confirm { leg }));
    let incoming = until(&mut events, "call", |event| matches!(event.what, Happening::Incoming { .. })).await;
    let Happening::Incoming { name, from, .. } = incoming.what else { unreachable!() };
    assert_eq!((name.as_deref(), from.as_str()), (Some("Incident bot"), "sip:bot@contoso.example"));
    assert_eq!(&*incoming.line, "desk");

    let farewell = tokio::spawn(async move { bank.shut_down(SOON).await });
    let (mut ended, mut unbound) = (false, false);
    registrar
        .until("farewell", |report| {
            ended |= matches!(report, Report::Ended { local: false, .. });
            unbound |= matches!(report, Report::Unbound { because: UnboundBecause::Unregistered, .. });
            (ended && unbound).then_some(())
        })
        .await;
    farewell.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_one_name_in_two_tenants_share_a_port_and_are_told_apart() {
    let mut registrar = Registrar::start().await;
    let bank = PhoneBank::start(BankConfig::default()).await.unwrap();
    let mut events = bank.subscribe();
    bank.set(vec![
        line("contoso", account(registrar.local, "desk", "contoso.example"), Reply::Answer),
        line("fabrikam", account(registrar.local, "desk", "fabrikam.example"), Reply::Refuse(486)),
    ])
    .await;
    let mut bindings = Vec::new();
    while bindings.len() < 2 {
        bindings.push(
            registrar
                .until("binding", |report| match report {
                    Report::Bound(binding) => Some(*binding),
                    _ => None,
                })
                .await,
        );
    }
    assert!(bindings.iter().all(|binding| binding.source == bank.local_addr()));
    let fabrikam = bindings.iter().find(|binding| binding.aor == "desk@fabrikam.example").unwrap();
    registrar.dial(LegKey([1; 16]), fabrikam);
    let status = registrar
        .until("refusal", |report| match report {
            Report::Failed { status, .. } => Some(status),
            _ => None,
        })
        .await;
    assert_eq!(status, 486);
    let incoming = until(&mut events, "call", |event| matches!(event.what, Happening::Incoming { .. })).await;
    assert_eq!(&*incoming.line, "fabrikam");
    bank.shut_down(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_line_is_not_registered() {
    let mut registrar = Registrar::start().await;
    let bank = PhoneBank::start(BankConfig::default()).await.unwrap();
    let desk = account(registrar.local, "desk", "contoso.example");
    let away = account(registrar.local, "away", "contoso.example");
    bank.set(vec![line("away", away.clone(), Reply::Unreachable), line("desk", desk, Reply::Answer)]).await;
    registrar.until_bound("desk@contoso.example").await;
    assert!(registrar.agent.bindings("away@contoso.example").is_empty());
    // It comes back, and the other one goes.
    bank.set(vec![line("away", away, Reply::Answer)]).await;
    let (mut came, mut went) = (false, false);
    registrar
        .until("change", |report| {
            came |= matches!(&report, Report::Bound(binding) if binding.aor == "away@contoso.example");
            went |= matches!(&report, Report::Unbound { aor, .. } if aor == "desk@contoso.example");
            (came && went).then_some(())
        })
        .await;
    bank.shut_down(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told() {
    let mut registrar = Registrar::start().await;
    let bank = PhoneBank::start(BankConfig::default()).await.unwrap();
    let mut events = bank.subscribe();
    let wrong = Account { password: "guess".to_owned(), ..account(registrar.local, "desk", "contoso.example") };
    bank.set(vec![line("desk", wrong, Reply::Answer)]).await;
    let server = tokio::spawn(async move { registrar.until("nothing", |_| None::<()>).await });
    let failed = until(&mut events, "refusal", |event| matches!(event.what, Happening::RegisterFailed { .. })).await;
    let Happening::RegisterFailed { status } = failed.what else { unreachable!() };
    assert!(matches!(status, 401 | 403), "{status}");
    server.abort();
    bank.shut_down(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_bank_registers_all_its_users() {
    let mut registrar = Registrar::start().await;
    let users = (0..100).map(|n| account(registrar.local, &format!("user{n}"), "contoso.example")).collect();
    let load = LoadBank::start(LoadConfig {
        bank: BankConfig { sound: false, ..BankConfig::default() },
        users,
        answer_after: Duration::ZERO,
        hangup_after: None,
    })
    .await
    .unwrap();
    let mut events = load.bank().subscribe();
    let server = tokio::spawn(async move { registrar.until("nothing", |_| None::<()>).await });
    while load.counters().registered < 100 {
        until(&mut events, "registration", |event| matches!(event.what, Happening::Registered { .. })).await;
    }
    assert_eq!(load.counters().register_failed, 0);
    server.abort();
    load.bank().shut_down(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunks_line_lets_in_who_knows_the_password() {
    let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind = probe.local_addr().unwrap();
    drop(probe);
    let carrier = PhoneBank::start(BankConfig::default()).await.unwrap();
    let challenge = Some(("convoke".to_owned(), "secret".to_owned()));
    let trunk = Place::Trunk(TrunkLine { bind, challenge });
    let failed = carrier.set(vec![Line { name: "carrier".to_owned(), place: trunk, script: Script::default() }]).await;
    assert!(failed.is_empty());

    for (password, expected) in [("secret", None), ("guess", Some(403))] {
        let caller = Account { password: password.to_owned(), ..account(bind, "convoke", "carrier.example") };
        let phone =
            Phone::start(PhoneConfig { bank: BankConfig::default(), line: line("caller", caller, Reply::Answer) });
        let phone = phone.await.unwrap();
        let mut events = phone.subscribe();
        // A trunk may ask its customers to register, with the same password.
        let registered = until(&mut events, "registration", |event| {
            matches!(event.what, Happening::Registered { .. } | Happening::RegisterFailed { .. })
        });
        assert_eq!(matches!(registered.await.what, Happening::Registered { .. }), expected.is_none());
        phone.dial("+12065550100").await.unwrap();
        let outcome = until(&mut events, "outcome", |event| {
            matches!(event.what, Happening::Answered { .. } | Happening::Ended { .. })
        })
        .await;
        match (expected, outcome.what) {
            (None, Happening::Answered { codec }) => assert!(codec.is_some()),
            (Some(status), Happening::Ended { cause, status: Some(refused), .. }) => {
                assert_eq!((cause, refused), (EndCause::Rejected, status));
            }
            (_, other) => panic!("{other:?}"),
        }
        phone.bank().shut_down(Duration::from_secs(1)).await;
    }
    carrier.shut_down(Duration::from_secs(1)).await;
}
