//! Phones tell where they are: REGISTER, authenticated, and the contacts it leaves behind.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::guarding::{Admission, Guard};
use super::servers::ServerKey;
use super::vocabulary::{AgentConfig, Binding, Flow, Lookup, Report, Transport, UnboundBecause};
use super::{Agent, Due};
use crate::digest::{Algorithm, Credentials, DigestServer, UserSecrets, Verdict};
use crate::message::{HeaderName, Host, Method, NameAddr, Response, TransportName, Uri};
use crate::registrar::{Change, Registrar, RegistrarConfig, Source, StoredBinding};

/// Stands for the flow of a contact whose connection is gone.
const NO_FLOW: Flow = Flow(u64::MAX);

/// Where everybody is; nothing without a registrar in the configuration.
#[derive(Debug)]
pub(super) struct Locations {
    parts: Option<Parts>,
    guard: Guard,
    /// The address of record as the phone wrote it, by our key for it.
    aor_uris: BTreeMap<String, Uri>,
}

#[derive(Debug)]
struct Parts {
    registrar: Registrar,
    digest: DigestServer,
}

impl Locations {
    pub(super) fn new(config: &AgentConfig, now: Instant) -> Self {
        let parts = config.registrar.as_ref().map(|wanted| {
            let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
            let registrar = Registrar::new(RegistrarConfig {
                expires_min: seconds(wanted.expires_min),
                expires_max: seconds(wanted.expires_max),
                expires_default: seconds(wanted.expires_default),
                contacts_max: wanted.contacts_max,
            });
            // Nonces are signed for one process: what an earlier one counted is forgotten.
            let digest = DigestServer::new(&wanted.realm, super::naming::nonce_secret(&config.seed), now)
                .offering(&wanted.algorithms);
            Parts { registrar, digest }
        });
        let guard = Guard::new(config.registrar.as_ref().map(|wanted| wanted.guesses).unwrap_or_default());
        Self { parts, guard, aor_uris: BTreeMap::new() }
    }

    /// Whether a contact is reached by this flow.
    pub(super) fn uses(&self, flow: Flow) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.registrar.carries(flow.0))
    }
}

impl Agent {
    /// The contacts of an address of record, as they are registered.
    pub fn bindings(&self, aor: &str) -> Vec<Binding> {
        let Some(parts) = &self.registrar.parts else { return Vec::new() };
        parts.registrar.of(self.now, aor).into_iter().filter_map(|stored| self.binding(stored)).collect()
    }

    /// REGISTER (RFC 3261 §10.3): who is it, may he, and then the registrar decides.
    pub(super) fn receive_register(&mut self, key: ServerKey) {
        let now = self.now;
        let Some(transaction) = self.servers.get(&key) else { return };
        let (request, source) = (transaction.request.clone(), transaction.source);
        let Ok(to) = request.headers.to() else { return self.reply(key, 400) };
        let Some(realm) = self.config.registrar.as_ref().map(|wanted| wanted.realm.clone()) else {
            return self.reply(key, 405);
        };
        let Some(credentials) = Credentials::find(&request.headers, &HeaderName::Authorization, &realm) else {
            return self.challenge(key, false);
        };
        let Some(aor) = self.prove(key, &credentials, &Method::Register, &to.uri) else { return };
        if !to.uri.is_sip() {
            return self.reply(key, 403);
        }
        // Its repetition is no replay: the answer is kept for it.
        self.trust(key);

        self.report_expired();
        let came_from = Source {
            address: source.address,
            transport: TransportName::parse(source.transport.via_name()),
            flow: Some(source.flow.0),
        };
        let aor_uri = Uri { params: crate::message::Params::new(), headers: None, ..to.uri };
        let Some(parts) = &mut self.registrar.parts else { return };
        let registered = parts.registrar.register(now, &aor, &request, &came_from);
        if parts.registrar.is_bound(now, &aor) {
            self.registrar.aor_uris.insert(aor.clone(), aor_uri);
        }
        let response = registered.response;
        self.reply_with(key, response.status, |_| response);
        self.report_changes(registered.changes, UnboundBecause::Unregistered);
    }

    /// Whether a request comes from the user of an address of record, by its credentials; answered otherwise. Gives the
    /// key of the address of record.
    pub(super) fn prove(
        &mut self,
        key: ServerKey,
        credentials: &Credentials,
        method: &Method,
        owner: &Uri,
    ) -> Option<String> {
        let now = self.now;
        let source = self.servers.get(&key)?.source;
        let username = credentials.username();
        let (aor, secrets) = self.secrets(username, &domain_of(owner));
        let is_registered_here = aor.as_ref().is_some_and(|aor| self.is_registered_at(aor, source.address));
        if !is_registered_here {
            match self.registrar.guard.admit(now, source.address.ip(), username) {
                Admission::Check => {}
                Admission::Wait(time) => {
                    self.counters.guesses_refused += 1;
                    let seconds = time.as_secs() + 1 + self.naming.below(3);
                    let later = move |response: Response| response.with(HeaderName::RetryAfter, seconds.to_string());
                    self.reply_with(key, 503, later);
                    return None;
                }
                Admission::Ignore => {
                    self.counters.guesses_refused += 1;
                    self.drop_server(key);
                    return None;
                }
            }
        }
        let parts = self.registrar.parts.as_mut()?;
        match parts.digest.check(now, source.address.ip(), credentials, method, secrets.as_ref()) {
            Verdict::Accepted => self.registrar.guard.was_right(now, source.address.ip(), username),
            Verdict::Stale => {
                self.challenge(key, true);
                return None;
            }
            Verdict::Unusable => {
                self.challenge(key, false);
                return None;
            }
            Verdict::Wrong => {
                self.counters.authentication_failed += 1;
                self.registrar.guard.was_wrong(now, source.address.ip(), username);
                self.challenge(key, false);
                return None;
            }
        }
        // RFC 3261 §10.3 step 4: he may change his own contacts and nobody else's.
        let is_own = owner.user_text().is_some_and(|user| user.eq_ignore_ascii_case(username));
        if !is_own {
            self.reply(key, 403);
        }
        aor.filter(|_| is_own)
    }

    /// The key of an address of record, if it is one of our users'.
    pub(super) fn user_of(&self, uri: &Uri) -> Option<String> {
        self.registrar.parts.as_ref()?;
        self.secrets(&uri.user_text()?, &domain_of(uri)).0
    }

    /// Whether somebody has registered a contact from exactly there.
    fn is_registered_at(&self, aor: &str, address: SocketAddr) -> bool {
        let Some(parts) = &self.registrar.parts else { return false };
        parts.registrar.of(self.now, aor).iter().any(|stored| stored.source == address)
    }

    /// Whether somebody has registered a contact from there, at any port.
    pub(super) fn is_registered_from(&self, aor: &str, ip: IpAddr) -> bool {
        let Some(parts) = &self.registrar.parts else { return false };
        parts.registrar.of(self.now, aor).iter().any(|stored| stored.source.ip() == ip)
    }

    /// Asks with every algorithm of the configuration; the phone takes what it knows (RFC 8760 §2.4).
    pub(super) fn challenge(&mut self, key: ServerKey, is_stale: bool) {
        let now = self.now;
        let Some(peer) = self.servers.get(&key).map(|transaction| transaction.source.address.ip()) else { return };
        let Some(parts) = &mut self.registrar.parts else { return };
        let challenges = parts.digest.challenges(now, peer, is_stale);
        self.reply_with(key, 401, |response| {
            challenges.into_iter().fold(response, |response, line| response.with(HeaderName::WwwAuthenticate, line))
        });
    }

    /// What the directory has of a user, and the key of his address of record.
    fn secrets(&self, username: &str, domain: &str) -> (Option<String>, Option<UserSecrets>) {
        let users = &self.config.users;
        let both = [Algorithm::Md5, Algorithm::Sha256].map(|algorithm| match users.ha1(username, domain, algorithm) {
            Lookup::Ha1 { ha1, aor } => Some((ha1, aor)),
            Lookup::Unknown | Lookup::Ambiguous => None,
        });
        match both {
            [Some((md5, aor)), Some((sha256, other))] if aor == other => (Some(aor), Some(UserSecrets { md5, sha256 })),
            [Some(_) | None, Some(_) | None] => (None, None),
        }
    }

    pub(super) fn restore_binding(&mut self, binding: Binding) {
        let now = self.now;
        let is_udp = self.network.transport(binding.flow) == Some(Transport::Udp);
        let mut contact = NameAddr::new(binding.contact);
        if binding.q_thousandths < 1000 {
            contact.params.set("q", format!("0.{:03}", binding.q_thousandths));
        }
        if let Some(instance) = &binding.instance {
            contact.params.set("+sip.instance", crate::message::scan::quote(instance.as_bytes()));
        }
        let stored = StoredBinding {
            aor: binding.aor.clone(),
            contact: String::from_utf8_lossy(&contact.to_bytes()).into_owned(),
            path: binding.path.into_iter().map(|uri| NameAddr::new(uri).to_bytes()).map(into_text).collect(),
            source: binding.source,
            transport: binding.transport.via_name().to_owned(),
            flow: is_udp.then_some(binding.flow.0),
            call_id: binding.call_id,
            cseq: binding.cseq,
            expires_in: binding.expires_at.saturating_duration_since(now),
            user_agent: binding.user_agent,
        };
        let Some(parts) = &mut self.registrar.parts else { return };
        if parts.registrar.load(now, &stored) {
            self.registrar.aor_uris.insert(binding.aor, binding.aor_uri);
        }
        self.watch_registrar();
    }

    pub(super) fn remove_bindings(&mut self, aor: &str) {
        let Some(parts) = &mut self.registrar.parts else { return };
        let changes = parts.registrar.remove_all(aor);
        self.report_changes(changes, UnboundBecause::Removed);
    }

    pub(super) fn registrar_time(&mut self) {
        self.report_expired();
        self.watch_registrar();
    }

    pub(super) fn registrar_flow_closed(&mut self, flow: Flow) {
        let now = self.now;
        let Some(parts) = &mut self.registrar.parts else { return };
        let changes = parts.registrar.flow_closed(now, flow.0);
        self.report_changes(changes, UnboundBecause::FlowClosed);
    }

    fn report_expired(&mut self) {
        let now = self.now;
        let Some(parts) = &mut self.registrar.parts else { return };
        let changes = parts.registrar.expire(now);
        self.report_changes(changes, UnboundBecause::Expired);
    }

    fn report_changes(&mut self, changes: Vec<Change>, because: UnboundBecause) {
        for change in changes {
            match change {
                Change::Bound(stored) => {
                    if let Some(binding) = self.binding(stored) {
                        let aor = binding.aor.clone();
                        self.report(Report::Bound(Box::new(binding)));
                        self.send_stranded(&aor);
                    }
                }
                Change::Unbound { aor, contact } => {
                    let is_last =
                        self.registrar.parts.as_ref().is_some_and(|one| !one.registrar.is_bound(self.now, &aor));
                    if is_last {
                        self.registrar.aor_uris.remove(&aor);
                    }
                    if let Some(contact) = NameAddr::parse(contact.as_bytes()) {
                        self.report(Report::Unbound { aor, contact: contact.uri, because });
                    }
                }
            }
        }
        self.watch_registrar();
    }

    fn watch_registrar(&mut self) {
        let deadline = self.registrar.parts.as_ref().and_then(|parts| parts.registrar.deadline());
        self.alarms.set(Due::Registrar, deadline);
    }

    fn binding(&self, stored: StoredBinding) -> Option<Binding> {
        let contact = NameAddr::parse(stored.contact.as_bytes())?;
        let instance = contact.params.get_unquoted("+sip.instance").map(into_text);
        let aor_uri = self.registrar.aor_uris.get(&stored.aor).cloned();
        let path = stored.path.iter().filter_map(|value| NameAddr::parse(value.as_bytes()));
        Some(Binding {
            aor_uri: aor_uri.unwrap_or_else(|| contact.uri.clone()),
            aor: stored.aor,
            path: path.map(|address| address.uri).collect(),
            source: stored.source,
            transport: Transport::from_name(&stored.transport)?,
            flow: stored.flow.map_or(NO_FLOW, Flow),
            call_id: stored.call_id,
            cseq: stored.cseq,
            q_thousandths: contact.q_thousandths(),
            user_agent: stored.user_agent,
            instance,
            expires_at: self.now + stored.expires_in,
            contact: contact.uri,
        })
    }
}

/// The host of an address of record.
fn domain_of(uri: &Uri) -> String {
    match &uri.host {
        Host::Domain(name) => name.clone(),
        Host::Ip(ip) => ip.to_string(),
    }
}

fn into_text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}
