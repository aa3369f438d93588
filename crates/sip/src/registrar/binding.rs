//! One binding: a contact, where its REGISTER came from, and how long it holds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::RegisterRefusal;
use crate::message::{HeaderName, NameAddr, Request, TransportName, Uri};

/// Most Path elements of one binding.
const PATHS_MAX: usize = 16;

/// Where a REGISTER came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address the packet came from.
    pub address: SocketAddr,
    pub transport: TransportName,
    /// The connection it came by, if it came by one.
    pub flow: Option<u64>,
}

/// Where to send a request for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The Request-URI: the contact as it was registered.
    pub uri: Uri,
    /// The Route headers: the Path of the registration.
    pub route: Vec<NameAddr>,
    /// Where to send it, whatever the URI says: the address the registration came from, when that is not the contact's own.
    /// Nothing if the URI or the route is to be followed.
    pub destination: Option<SocketAddr>,
    pub transport: TransportName,
    /// The connection to use while it lasts.
    pub flow: Option<u64>,
    /// 0 to 1000.
    pub q_thousandths: u16,
}

/// A binding as plain data, to be stored and loaded again. The address of record and the contact together name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBinding {
    pub aor: String,
    /// The Contact value with its parameters, without `expires`.
    pub contact: String,
    /// The Path values, topmost first.
    pub path: Vec<String>,
    pub source: SocketAddr,
    /// As Via names it.
    pub transport: String,
    /// The connection; good only until a restart.
    pub flow: Option<u64>,
    pub call_id: String,
    pub cseq: u32,
    /// What is left when it is reported.
    pub expires_in: Duration,
    pub user_agent: Option<String>,
}

/// What a REGISTER asks for.
#[derive(Debug)]
pub(super) enum Proposal {
    /// `*`: remove all.
    All { call_id: String, cseq: u32 },
    /// Each with its wish in seconds; 0 removes. None at all is a question.
    Some(Vec<(Binding, u32)>),
}

#[derive(Debug, Clone)]
pub(super) struct Binding {
    /// Numbers bindings in the order they were made.
    pub(super) id: u64,
    /// Without `expires`.
    contact: NameAddr,
    path: Vec<NameAddr>,
    pub(super) source: Source,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    user_agent: Option<String>,
    pub(super) expires_at: Instant,
}

/// Reads what a REGISTER asks for.
pub(super) fn read_proposals(
    request: &Request,
    source: &Source,
    expires_default: u32,
    now: Instant,
) -> Result<Proposal, RegisterRefusal> {
    let headers = &request.headers;
    let bad = |_| RegisterRefusal::BadRequest;
    let call_id = headers.call_id().map_err(bad)?.to_owned();
    let cseq = headers.cseq().map_err(bad)?.number;
    let expires = headers.expires().map_err(bad)?;
    if headers.is_contact_star() {
        // RFC 3261 §10.3, step 6: only with Expires: 0.
        return if expires == Some(0) { Ok(Proposal::All { call_id, cseq }) } else { Err(RegisterRefusal::BadRequest) };
    }
    let path = headers.paths().map_err(bad)?;
    if path.len() > PATHS_MAX {
        return Err(RegisterRefusal::BadRequest);
    }
    let user_agent = headers.get(HeaderName::UserAgent).map(|value| String::from_utf8_lossy(value).into_owned());
    let mut proposed = Vec::new();
    for mut contact in headers.contacts().map_err(bad)? {
        // Anything else cannot be rung.
        if !contact.uri.is_sip() {
            return Err(RegisterRefusal::BadRequest);
        }
        // RFC 3261 §10.2.1.1: an unreadable `expires` counts as 3600; our default is as good.
        let wish = if contact.params.has("expires") {
            contact.expires().unwrap_or(expires_default)
        } else {
            expires.unwrap_or(expires_default)
        };
        contact.params.remove("expires");
        let binding = Binding {
            id: 0,
            contact,
            path: path.clone(),
            source: source.clone(),
            call_id: call_id.clone(),
            cseq,
            user_agent: user_agent.clone(),
            expires_at: now,
        };
        proposed.push((binding, wish));
    }
    Ok(Proposal::Some(proposed))
}

impl Binding {
    pub(super) fn load(now: Instant, stored: &StoredBinding) -> Option<Binding> {
        let path = stored.path.iter().map(|value| NameAddr::parse(value.as_bytes()));
        Some(Binding {
            id: 0,
            contact: NameAddr::parse(stored.contact.as_bytes())?,
            path: path.collect::<Option<Vec<_>>>()?,
            source: Source {
                address: stored.source,
                transport: TransportName::parse(&stored.transport),
                flow: stored.flow,
            },
            call_id: stored.call_id.clone(),
            cseq: stored.cseq,
            user_agent: stored.user_agent.clone(),
            expires_at: now.checked_add(stored.expires_in)?,
        })
    }

    pub(super) fn store(&self, now: Instant, aor: &str) -> StoredBinding {
        StoredBinding {
            aor: aor.to_owned(),
            contact: self.contact_text(),
            path: self.path.iter().map(|path| text(path.to_bytes())).collect(),
            source: self.source.address,
            transport: self.source.transport.as_str().to_owned(),
            flow: self.source.flow,
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            expires_in: self.expires_at.saturating_duration_since(now),
            user_agent: self.user_agent.clone(),
        }
    }

    pub(super) fn contact_text(&self) -> String {
        text(self.contact.to_bytes())
    }

    /// The contact with what is left of it, rounded up to whole seconds.
    pub(super) fn listed(&self, now: Instant) -> Vec<u8> {
        let left = self.expires_at.saturating_duration_since(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let mut contact = self.contact.clone();
        contact.params.set("expires", seconds.to_string());
        contact.to_bytes()
    }

    /// Whether it is a binding of the same contact: the same URI, or the same registration of the same device (RFC 5626 §6).
    pub(super) fn is_same(&self, other: &Binding) -> bool {
        let device = |binding: &Binding| {
            let params = &binding.contact.params;
            Some((params.get_unquoted("+sip.instance")?, params.get("reg-id")?.to_owned()))
        };
        self.contact.uri.is_same(&other.contact.uri) || device(self).is_some_and(|ours| Some(ours) == device(other))
    }

    /// RFC 3261 §10.3, step 7: an older request of the same phone that was overtaken.
    pub(super) fn is_out_of_order(&self, call_id: &str, cseq: u32) -> bool {
        self.call_id == call_id && cseq <= self.cseq
    }

    pub(super) fn target(&self) -> Target {
        Target {
            uri: self.contact.uri.clone(),
            route: self.path.clone(),
            destination: (self.path.is_empty() && !self.is_where_it_says()).then_some(self.source.address),
            transport: self.source.transport.clone(),
            // With a Path, the connection is that of the proxy in front of us, and as good as the route.
            flow: self.source.flow,
            q_thousandths: self.contact.q_thousandths(),
        }
    }

    /// Whether only its connection reaches it: a browser, or a phone behind a NAT that called in by TCP.
    pub(super) fn needs_flow(&self) -> bool {
        let is_browser = matches!(self.source.transport, TransportName::Ws | TransportName::Wss);
        self.path.is_empty() && (is_browser || !self.is_where_it_says())
    }

    /// Whether the contact is at the address that the registration came from. A contact with a name is not: phones have
    /// none that we could look up, and `.invalid` ones have none at all (RFC 7118 §5).
    fn is_where_it_says(&self) -> bool {
        self.contact.uri.host.ip() == Some(self.source.address.ip())
    }
}

/// Text for storing. What is not UTF-8, which only a display name can be, is replaced.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
