//! What DNS said, for as long as it holds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::agent::Transport;
use crate::agent::limits::{ANSWER_TTL_MAX, ANSWERS_MAX, FAILED_TTL, NEGATIVE_TTL_MAX};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    Naptr,
    Srv,
    /// A and AAAA together.
    Address,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub kind: RecordKind,
    /// In lower case, without the dot at the end.
    pub name: String,
}

/// A NAPTR record (RFC 3403 §4.1). One with a regular expression is no concern of SIP (RFC 3263 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    pub order: u16,
    pub preference: u16,
    pub flags: String,
    pub service: String,
    pub regexp: String,
    /// Where to look for SRV records.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// Empty for the root, which says that there is no such service.
    pub target: String,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Naptr(Naptr),
    Srv(Srv),
    Address(IpAddr),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// None: the name has none of the kind.
    pub records: Vec<Record>,
    /// How long it holds.
    pub ttl: Duration,
}

/// Answers that still hold.
#[derive(Debug, Default)]
pub struct Answers {
    pub(super) known: BTreeMap<Question, (Answer, Instant)>,
}

impl Question {
    /// A question about a name, however it is written.
    pub fn new(kind: RecordKind, name: &str) -> Self {
        Self { kind, name: name.trim_end_matches('.').to_ascii_lowercase() }
    }
}

impl Naptr {
    /// Whether it says where to find SIP servers.
    pub(super) fn is_sip(&self) -> bool {
        let service = self.service.to_ascii_uppercase();
        let is_sip = service.starts_with("SIP+") || service.starts_with("SIPS+");
        is_sip && self.flags.eq_ignore_ascii_case("s") && self.regexp.is_empty() && !self.replacement.is_empty()
    }

    /// The transport it is for, if we speak it.
    pub(super) fn transport(&self) -> Option<Transport> {
        match self.service.to_ascii_uppercase().as_str() {
            "SIP+D2U" => Some(Transport::Udp),
            "SIP+D2T" => Some(Transport::Tcp),
            _ => None,
        }
    }
}

impl Answer {
    /// Addresses, best first.
    pub fn addresses(addresses: impl IntoIterator<Item = IpAddr>, ttl: Duration) -> Self {
        Self { records: addresses.into_iter().map(Record::Address).collect(), ttl }
    }

    /// There is none, for so long.
    pub fn nothing(ttl: Duration) -> Self {
        Self { records: Vec::new(), ttl }
    }

    /// Nobody could be asked. For the walk it is as if there were none, and not for long.
    pub fn failed() -> Self {
        Self::nothing(FAILED_TTL)
    }
}

impl Answers {
    /// The answer to a question, while it holds.
    pub fn find(&self, now: Instant, question: &Question) -> Option<&Answer> {
        self.known.get(question).filter(|(_, until)| *until > now).map(|(answer, _)| answer)
    }

    /// The last answer to a question, whether it still holds or not.
    pub fn last(&self, question: &Question) -> Option<&Answer> {
        self.known.get(question).map(|(answer, _)| answer)
    }

    /// Whether an address is one that DNS named for a host: its own, or one of its SIP servers'. What it said last
    /// counts, even when it is over: a call outlives it.
    pub fn may_be(&self, host: &str, ip: IpAddr) -> bool {
        let names = |name: &str, kind| self.last(&Question::new(kind, name)).map(|answer| &answer.records);
        let has_address =
            |name: &str| names(name, RecordKind::Address).is_some_and(|records| records.contains(&Record::Address(ip)));
        let listed_under = names(host, RecordKind::Naptr).into_iter().flatten().filter_map(|record| match record {
            Record::Naptr(naptr) if naptr.is_sip() => Some(naptr.replacement.clone()),
            Record::Naptr(_) | Record::Srv(_) | Record::Address(_) => None,
        });
        let guesses = ["udp", "tcp"].map(|transport| format!("_sip._{transport}.{host}"));
        has_address(host)
            || listed_under.chain(guesses).any(|list| {
                names(&list, RecordKind::Srv).into_iter().flatten().any(|record| match record {
                    Record::Srv(srv) => has_address(&srv.target),
                    Record::Naptr(_) | Record::Address(_) => false,
                })
            })
    }

    /// Remembers an answer, for a bounded time.
    pub fn keep(&mut self, now: Instant, question: Question, answer: Answer) {
        if self.known.len() >= ANSWERS_MAX && !self.known.contains_key(&question) {
            let soonest = self.known.iter().min_by_key(|(_, (_, until))| *until).map(|(question, _)| question.clone());
            if let Some(soonest) = soonest {
                self.known.remove(&soonest);
            }
        }
        let max = if answer.records.is_empty() { NEGATIVE_TTL_MAX } else { ANSWER_TTL_MAX };
        let until = now + answer.ttl.min(max);
        self.known.insert(question, (answer, until));
    }
}
