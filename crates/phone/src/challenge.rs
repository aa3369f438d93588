//! A trunk's line that wants to know who calls: it asks for digest authentication, without keeping state
//! (RFC 3261 §8.2.7, §22.3).

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use sip::agent::{AgentConfig, Lookup, RegistrarConfig, Users};
use sip::digest::{Algorithm, Credentials, DigestServer, UserSecrets, Verdict as Checked, ha1};
use sip::message::{HeaderName, Message, Method, Request, Response, parse_datagram};

/// Lets those through that know a user name and its password.
pub(crate) struct Challenge {
    username: String,
    secrets: UserSecrets,
    digest: DigestServer,
    /// Transactions that were let through: what is repeated of them is no replay.
    admitted: BTreeSet<Vec<u8>>,
    order: VecDeque<Vec<u8>>,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({})", self.username)
    }
}

/// Who may register with a trunk's line: the same one.
#[derive(Clone)]
pub(crate) struct OnlyUser {
    username: String,
    password: String,
}

impl OnlyUser {
    pub(crate) fn new(username: String, password: String) -> Self {
        Self { username, password }
    }

    /// Makes an agent a registrar for this user.
    pub(crate) fn admit_to(self, config: &mut AgentConfig) {
        config.registrar = Some(RegistrarConfig { realm: REALM.to_owned(), ..RegistrarConfig::default() });
        config.users = Arc::new(self);
    }
}

impl fmt::Debug for OnlyUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnlyUser({})", self.username)
    }
}

impl Users for OnlyUser {
    fn ha1(&self, username: &str, _domain: &str, algorithm: Algorithm) -> Lookup {
        if username != self.username {
            return Lookup::Unknown;
        }
        Lookup::Ha1 { ha1: ha1(algorithm, username, REALM, &self.password), aor: username.to_owned() }
    }
}

/// What becomes of a datagram.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on to the agent.
    Pass,
    /// It is answered right here.
    Reply(Vec<u8>),
    /// Nobody needs it.
    Drop,
}

const REALM: &str = "trunk";
/// An INVITE is repeated for half a minute at most.
const ADMITTED_MAX: usize = 16_384;
/// Marks the answers made here, so that their ACKs are known.
const TAG: &str = "challenge";

impl Challenge {
    pub(crate) fn new(username: String, password: &str, secret: [u8; 32]) -> Self {
        let secrets = UserSecrets {
            md5: ha1(Algorithm::Md5, &username, REALM, password),
            sha256: ha1(Algorithm::Sha256, &username, REALM, password),
        };
        let digest = DigestServer::new(REALM, secret, Instant::now());
        Self { username, secrets, digest, admitted: BTreeSet::new(), order: VecDeque::new() }
    }

    /// Looks at what arrived. Only an INVITE that begins a call needs proof; what belongs to a call has had it.
    pub(crate) fn check(&mut self, now: Instant, peer: IpAddr, datagram: &[u8]) -> Verdict {
        // What cannot be read is the agent's to answer.
        let Ok(Message::Request(request)) = parse_datagram(datagram) else { return Verdict::Pass };
        let to_tag = request.headers.to().ok().and_then(|to| to.tag().map(str::to_owned));
        match (&request.method, to_tag.as_deref()) {
            (Method::Ack, Some(TAG)) => Verdict::Drop,
            (Method::Invite, None) => self.check_invite(now, peer, &request),
            _ => Verdict::Pass,
        }
    }

    fn check_invite(&mut self, now: Instant, peer: IpAddr, request: &Request) -> Verdict {
        let Some(transaction) = request.headers.get(HeaderName::Via).map(<[u8]>::to_vec) else { return Verdict::Pass };
        if self.admitted.contains(&transaction) {
            return Verdict::Pass;
        }
        let credentials = Credentials::find(&request.headers, &HeaderName::ProxyAuthorization, REALM);
        let checked = credentials.map(|credentials| {
            let secrets = (credentials.username() == self.username).then_some(&self.secrets);
            self.digest.check(now, peer, &credentials, &request.method, secrets)
        });
        match checked {
            Some(Checked::Accepted) => {
                self.admit(transaction);
                Verdict::Pass
            }
            Some(Checked::Wrong | Checked::Unusable) => {
                Verdict::Reply(Response::to_request(request, 403, "").with_to_tag(TAG).to_bytes())
            }
            Some(Checked::Stale) => self.ask(now, peer, request, true),
            None => self.ask(now, peer, request, false),
        }
    }

    fn ask(&mut self, now: Instant, peer: IpAddr, request: &Request, is_stale: bool) -> Verdict {
        let response = Response::to_request(request, 407, "").with_to_tag(TAG);
        let challenges = self.digest.challenges(now, peer, is_stale).into_iter();
        let response = challenges.fold(response, |response, line| response.with(HeaderName::ProxyAuthenticate, line));
        Verdict::Reply(response.to_bytes())
    }

    fn admit(&mut self, transaction: Vec<u8>) {
        if self.order.len() >= ADMITTED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.admitted.remove(&oldest);
        }
        self.order.push_back(transaction.clone());
        self.admitted.insert(transaction);
    }
}
