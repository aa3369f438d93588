//! Where a request for a URI goes: NAPTR, SRV, A and AAAA (RFC 3263, RFC 2782).
//!
//! A [`Walk`] visits the targets of a URI in their order, one at a time, and says what has to be looked up on the way;
//! nothing is asked before it is needed. [`Answers`] remembers what DNS said. Neither owns a clock or a resolver, and
//! chance comes in as a seed.
//!
//! ```text
//!   sip:host         NAPTR host ──▶ SRV of each service ──┐
//!                      └ none: SRV _sip._udp, _sip._tcp ──┤
//!   ;transport=tcp   SRV _sip._tcp.host ──────────────────┼──▶ A, AAAA of each target ──▶ addresses
//!   host:port        ────────────────────────────────────▶│
//!   an address       ──────────────────────────────────────────────────────────────────▶ itself
//!                      no SRV at all: A, AAAA of the host, port 5060 ┘
//! ```

mod answers;
mod selection;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

pub use answers::{Answer, Answers, Naptr, Question, Record, RecordKind, Srv};
pub use selection::Chance;

use crate::agent::Transport;
use crate::agent::limits::{ADDRESSES_MAX, LOOKUPS_MAX, RECORDS_MAX, TARGETS_MAX};
use crate::message::{Host, Scheme, Uri};
use selection::in_order;

/// RFC 3261 §19.1.2, for UDP and TCP.
pub const DEFAULT_PORT: u16 = 5060;

/// Why a URI leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    /// `sips` asks for TLS on every hop (RFC 3261 §26.2.2); it is never sent in the clear.
    #[error("sips needs TLS, which is not spoken here")]
    NeedsTls,
    /// Another scheme than `sip` and `sips`.
    #[error("not a SIP URI")]
    NotSip,
    /// The URI asks for a transport we do not have.
    #[error("the URI asks for a transport that is not spoken here")]
    UnknownTransport,
    /// NAPTR offers TLS, SCTP or WebSocket, and neither UDP nor TCP.
    #[error("the domain offers neither UDP nor TCP")]
    NoCommonTransport,
    /// An SRV record with the target `.` (RFC 2782).
    #[error("the domain says that it has no such service")]
    Declined,
    #[error("the name has no address")]
    NoAddress,
}

/// The next thing on a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send it there.
    Target(Transport, SocketAddr),
    /// Look this up, and give the walk its answer.
    Ask(Question),
    /// There is nothing more.
    Over,
}

/// The way along the targets of one URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    steps: VecDeque<Step>,
    /// If no SRV record is found at all (RFC 3263 §4.2): the host itself.
    otherwise: Option<Step>,
    /// Targets that are tried when there are no better ones.
    later: VecDeque<(Transport, SocketAddr)>,
    chance: Chance,
    asked: usize,
    given: usize,
    nowhere: Nowhere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Send(Transport, SocketAddr),
    Services {
        name: String,
    },
    /// A guess was not named by the domain.
    Servers {
        name: String,
        transport: Transport,
        is_guess: bool,
    },
    Addresses {
        name: String,
        port: u16,
        transport: Transport,
    },
}

impl Walk {
    /// To the targets of a URI, by RFC 3263 §4. The same seed makes the same choice among equals.
    pub fn to(uri: &Uri, seed: u64) -> Self {
        match Self::start(uri) {
            Ok((first, otherwise)) => Self::of(first, otherwise, seed),
            Err(nowhere) => Self { nowhere, ..Self::of([], None, seed) },
        }
    }

    /// To one address.
    pub fn straight(transport: Transport, address: SocketAddr) -> Self {
        Self::of([Step::Send(transport, address)], None, 0)
    }

    fn of(steps: impl IntoIterator<Item = Step>, otherwise: Option<Step>, seed: u64) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            otherwise,
            later: VecDeque::new(),
            chance: Chance::new(seed),
            asked: 0,
            given: 0,
            nowhere: Nowhere::NoAddress,
        }
    }

    fn start(uri: &Uri) -> Result<(Vec<Step>, Option<Step>), Nowhere> {
        match &uri.scheme {
            Scheme::Sip => {}
            Scheme::Sips => return Err(Nowhere::NeedsTls),
            Scheme::Tel | Scheme::Other(_) => return Err(Nowhere::NotSip),
        }
        let asked = match uri.transport_param() {
            Some(name) => Some(Transport::from_name(&name).ok_or(Nowhere::UnknownTransport)?),
            None => None,
        };
        let transport = asked.unwrap_or(Transport::Udp);
        // RFC 3263 §4: `maddr` stands in for the host.
        let elsewhere = uri.params.get("maddr").and_then(Host::parse);
        let name = match elsewhere.as_ref().unwrap_or(&uri.host) {
            Host::Ip(ip) => {
                let address = SocketAddr::new(*ip, uri.port.unwrap_or(DEFAULT_PORT));
                return Ok((vec![Step::Send(transport, address)], None));
            }
            Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
        };
        let host = |port| Step::Addresses { name: name.clone(), port, transport };
        if let Some(port) = uri.port {
            return Ok((vec![host(port)], None));
        }
        // RFC 6761 §6.3: this machine, whatever DNS says; nobody has services under it.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok((vec![host(DEFAULT_PORT)], None));
        }
        let otherwise = Some(host(DEFAULT_PORT));
        Ok(match asked {
            Some(transport) => (vec![servers(&name, transport)], otherwise),
            None => (vec![Step::Services { name }], otherwise),
        })
    }

    /// The next target, or what has to be known first. A target that `is_shunned` comes after all others.
    pub fn next(&mut self, is_shunned: impl Fn(Transport, SocketAddr) -> bool) -> Next {
        while self.given < TARGETS_MAX {
            match self.steps.front() {
                Some(Step::Send(transport, address)) => {
                    let target = (*transport, *address);
                    self.steps.pop_front();
                    if is_shunned(target.0, target.1) {
                        self.later.push_back(target);
                        continue;
                    }
                    self.given += 1;
                    return Next::Target(target.0, target.1);
                }
                Some(Step::Services { name }) => return Next::Ask(Question::new(RecordKind::Naptr, name)),
                Some(Step::Servers { name, .. }) => return Next::Ask(Question::new(RecordKind::Srv, name)),
                Some(Step::Addresses { name, .. }) => return Next::Ask(Question::new(RecordKind::Address, name)),
                None => {}
            }
            if let Some(otherwise) = self.otherwise.take() {
                self.steps.push_back(otherwise);
                continue;
            }
            let Some((transport, address)) = self.later.pop_front() else { break };
            self.given += 1;
            return Next::Target(transport, address);
        }
        Next::Over
    }

    /// Takes the answer to what [`Walk::next`] asked last.
    pub fn answer(&mut self, answer: &Answer) {
        self.asked += 1;
        let records = &answer.records[..answer.records.len().min(RECORDS_MAX)];
        match self.steps.pop_front() {
            Some(Step::Services { name }) => self.take_services(&name, records),
            Some(Step::Servers { transport, .. }) => self.take_servers(transport, records),
            Some(Step::Addresses { port, transport, .. }) => self.take_addresses(port, transport, records),
            Some(step @ Step::Send(..)) => self.steps.push_front(step),
            None => {}
        }
        if self.asked >= LOOKUPS_MAX {
            self.steps.retain(|step| matches!(step, Step::Send(..)));
            self.otherwise = None;
        }
    }

    /// Goes to this address once more, before all others.
    pub fn again(&mut self, transport: Transport, address: SocketAddr) {
        self.given = self.given.saturating_sub(1);
        self.steps.push_front(Step::Send(transport, address));
    }

    /// Whether there may be another target.
    pub fn has_more(&self) -> bool {
        self.given < TARGETS_MAX && !(self.steps.is_empty() && self.otherwise.is_none() && self.later.is_empty())
    }

    /// Why the walk is over, if it never came to a target.
    pub fn nowhere(&self) -> Option<Nowhere> {
        (self.given == 0).then_some(self.nowhere)
    }

    /// RFC 3263 §4.1: of the services those that we speak, by order and preference.
    fn take_services(&mut self, name: &str, records: &[Record]) {
        let mut services: Vec<&Naptr> = records
            .iter()
            .filter_map(|record| match record {
                Record::Naptr(naptr) if naptr.is_sip() => Some(naptr),
                Record::Naptr(_) | Record::Srv(_) | Record::Address(_) => None,
            })
            .collect();
        services.sort_by_key(|naptr| (naptr.order, naptr.preference));
        if services.is_empty() {
            // RFC 3263 §4.1: without NAPTR each transport is asked for.
            self.steps.extend([Transport::Udp, Transport::Tcp].map(|transport| servers(name, transport)));
            return;
        }
        let spoken: Vec<Step> = services
            .into_iter()
            .filter_map(|naptr| {
                let transport = naptr.transport()?;
                Some(Step::Servers { name: naptr.replacement.clone(), transport, is_guess: false })
            })
            .collect();
        if spoken.is_empty() {
            self.otherwise = None;
            self.nowhere = Nowhere::NoCommonTransport;
        }
        self.steps.extend(spoken);
    }

    fn take_servers(&mut self, transport: Transport, records: &[Record]) {
        let servers: Vec<Srv> = records
            .iter()
            .filter_map(|record| match record {
                Record::Srv(srv) => Some(srv.clone()),
                Record::Naptr(_) | Record::Address(_) => None,
            })
            .collect();
        if servers.is_empty() {
            return;
        }
        // What SRV says counts, even if it is that there is nothing; the first transport that has servers is taken.
        self.otherwise = None;
        let offered = in_order(servers, &mut self.chance).into_iter().filter(|srv| !srv.target.is_empty());
        let steps: Vec<Step> =
            offered.map(|srv| Step::Addresses { name: srv.target, port: srv.port, transport }).collect();
        if steps.is_empty() {
            self.nowhere = Nowhere::Declined;
        } else {
            self.steps.retain(|step| !matches!(step, Step::Servers { is_guess: true, .. }));
        }
        self.put_first(steps);
    }

    fn take_addresses(&mut self, port: u16, transport: Transport, records: &[Record]) {
        let addresses = records.iter().filter_map(|record| match record {
            Record::Address(ip) => Some(*ip),
            Record::Naptr(_) | Record::Srv(_) => None,
        });
        let steps: Vec<Step> =
            addresses.take(ADDRESSES_MAX).map(|ip: IpAddr| Step::Send(transport, SocketAddr::new(ip, port))).collect();
        self.put_first(steps);
    }

    fn put_first(&mut self, steps: Vec<Step>) {
        for step in steps.into_iter().rev() {
            self.steps.push_front(step);
        }
    }
}

fn servers(name: &str, transport: Transport) -> Step {
    Step::Servers { name: format!("_sip._{}.{name}", transport.uri_name()), transport, is_guess: true }
}

#[cfg(test)]
mod tests;
