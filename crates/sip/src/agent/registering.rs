//! Our own registrations, kept alive, and OPTIONS pings.

use std::time::{Duration, Instant};

use super::clients::{ClientKey, Lost, Owner, Sending, retry_after};
use super::network::Hop;
use super::vocabulary::{Credentials, Flow, Register, Report};
use super::{Agent, Due};
use crate::message::{CSeq, HeaderName, Method, NameAddr, Request, Response, Uri};

/// A registration that failed is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Registrations and pings at one time.
const REGISTRATIONS_MAX: usize = 10_000;

/// A registration of ours.
#[derive(Debug)]
pub(super) struct Registration {
    register: Register,
    call_id: String,
    from_tag: String,
    cseq: u32,
    /// What we ask for: the wish, or more after a 423.
    expires: Duration,
    under_way: Option<ClientKey>,
    next_at: Option<Instant>,
    /// The flow of the last success: when it closes, the registrar has lost us.
    flow: Option<Flow>,
    is_ending: bool,
}

impl Agent {
    pub(super) fn register(&mut self, register: Register) {
        let key = register.key;
        if self.registrations.len() >= REGISTRATIONS_MAX && !self.registrations.contains_key(&key) {
            self.report(Report::RegisterFailed { key, status: 503 });
            return;
        }
        let expires = register.expires;
        let (call_id, from_tag, cseq) = match self.registrations.remove(&key) {
            // RFC 3261 §10.2.4: the same Call-ID for the same registrar, so that order is kept.
            Some(earlier) => (earlier.call_id, earlier.from_tag, earlier.cseq),
            None => (self.naming.call_id(), self.naming.tag(), 0),
        };
        let registration = Registration {
            register,
            call_id,
            from_tag,
            cseq,
            expires,
            under_way: None,
            next_at: None,
            flow: None,
            is_ending: false,
        };
        self.registrations.insert(key, registration);
        self.send_register(key);
    }

    pub(super) fn unregister(&mut self, key: u64) {
        let Some(registration) = self.registrations.get_mut(&key) else {
            self.report(Report::Unregistered { key });
            return;
        };
        registration.is_ending = true;
        self.send_register(key);
    }

    fn send_register(&mut self, key: u64) {
        let Some(registration) = self.registrations.get_mut(&key) else { return };
        registration.cseq += 1;
        registration.next_at = None;
        let register = &registration.register;
        let expires = if registration.is_ending { Duration::ZERO } else { registration.expires };
        let mut request =
            Request::new(Method::Register, Uri { headers: None, user: None, ..register.registrar.clone() });
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, "70");
        headers.push(HeaderName::From, NameAddr::new(register.aor.clone()).with_tag(&registration.from_tag));
        headers.push(HeaderName::To, NameAddr::new(register.aor.clone()));
        headers.push(HeaderName::CallId, registration.call_id.as_str());
        headers.push(HeaderName::CSeq, CSeq { number: registration.cseq, method: Method::Register });
        headers.push(HeaderName::Expires, expires.as_secs().to_string());
        let hop = Hop { uri: register.registrar.clone(), hint: None, advertised: None };
        let sending = Sending {
            contact_user: Some(register.contact_user.clone()),
            account: register.credentials.as_ref().map(Credentials::account),
            ..Sending::new(request, hop, Owner::Registration { key })
        };
        let under_way = self.send(sending);
        self.registration_moved(key, under_way);
        self.watch_registration(key);
    }

    pub(super) fn registration_moved(&mut self, key: u64, under_way: ClientKey) {
        if let Some(registration) = self.registrations.get_mut(&key) {
            registration.under_way = Some(under_way);
        }
    }

    /// The next CSeq number of a registration.
    pub(super) fn registration_again(&mut self, key: u64) -> Option<u32> {
        let registration = self.registrations.get_mut(&key)?;
        registration.cseq += 1;
        Some(registration.cseq)
    }

    pub(super) fn registration_answered(&mut self, client: ClientKey, key: u64, response: &Response) {
        let now = self.now;
        let sent = self.clients.get(&client).map(|transaction| {
            let contact = transaction.request.headers.contacts().ok().and_then(|list| list.into_iter().next());
            (contact, transaction.way.map(|way| way.flow))
        });
        let Some(registration) = self.registrations.get_mut(&key) else { return };
        let Some((contact, flow)) = sent.filter(|_| registration.under_way == Some(client)) else { return };
        registration.under_way = None;
        if registration.is_ending {
            self.forget_registration(key);
            self.report(Report::Unregistered { key });
            return;
        }
        let status = response.status;
        match status {
            200..=299 => {
                let granted = granted(response, contact.as_ref())
                    .map_or(registration.expires, |seconds| Duration::from_secs(seconds.into()));
                registration.flow = flow;
                // Well before the end, but for short ones not all the time.
                let early = if granted >= Duration::from_mins(2) { Duration::from_mins(1) } else { granted / 2 };
                registration.next_at = Some(now + granted.saturating_sub(early).max(Duration::from_secs(1)));
                self.report(Report::Registered { key, expires: granted });
            }
            423 => {
                // RFC 3261 §10.2.8: ask for what the registrar gives at least.
                let least =
                    response.headers.min_expires().ok().flatten().map(|seconds| Duration::from_secs(seconds.into()));
                match least.filter(|&least| least > registration.expires && least <= Duration::from_hours(24)) {
                    Some(least) => {
                        registration.expires = least;
                        self.send_register(key);
                    }
                    None => self.registration_failed(key, status, None),
                }
            }
            401 | 403 | 404 | 407 => {
                self.forget_registration(key);
                self.report(Report::RegisterFailed { key, status });
            }
            _ => self.registration_failed(key, status, retry_after(response)),
        }
        self.watch_registration(key);
    }

    pub(super) fn registration_lost(&mut self, client: ClientKey, key: u64, lost: Lost) {
        let Some(registration) = self.registrations.get_mut(&key) else { return };
        if registration.under_way != Some(client) {
            return;
        }
        registration.under_way = None;
        if registration.is_ending {
            self.forget_registration(key);
            self.report(Report::Unregistered { key });
            return;
        }
        let status = match lost {
            Lost::Silent => 408,
            Lost::Unreachable | Lost::Nowhere(_) => 503,
        };
        self.registration_failed(key, status, None);
    }

    fn registration_failed(&mut self, key: u64, status: u16, after: Option<Duration>) {
        let spread = Duration::from_millis(self.naming.below(3000));
        let Some(registration) = self.registrations.get_mut(&key) else { return };
        registration.flow = None;
        registration.next_at = Some(self.now + after.unwrap_or(TRY_AGAIN).min(Duration::from_mins(5)) + spread);
        self.watch_registration(key);
        self.report(Report::RegisterFailed { key, status });
    }

    fn forget_registration(&mut self, key: u64) {
        self.registrations.remove(&key);
        self.alarms.set(Due::Registration(key), None);
    }

    pub(super) fn registration_time(&mut self, key: u64) {
        let Some(registration) = self.registrations.get(&key) else { return };
        if registration.next_at.is_some_and(|at| at <= self.now) {
            self.send_register(key);
        }
        self.watch_registration(key);
    }

    fn watch_registration(&mut self, key: u64) {
        let next_at = self.registrations.get(&key).and_then(|registration| registration.next_at);
        self.alarms.set(Due::Registration(key), next_at);
    }

    /// The connection by which we registered is gone, and with it the way the registrar reaches us.
    pub(super) fn registration_flow_closed(&mut self, flow: Flow) {
        let lost: Vec<_> =
            self.registrations.iter().filter(|(_, one)| one.flow == Some(flow)).map(|(&key, _)| key).collect();
        for key in lost {
            if let Some(registration) = self.registrations.get_mut(&key) {
                registration.flow = None;
                registration.next_at = Some(self.now + Duration::from_secs(1));
            }
            self.watch_registration(key);
        }
    }

    pub(super) fn ping(&mut self, key: u64, target: Uri) {
        let mut request = Request::new(Method::Options, Uri { headers: None, ..target.clone() });
        let from = Uri::sip(Some(&self.config.contact_user), "anonymous.invalid", None);
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, "70");
        headers.push(HeaderName::From, NameAddr::new(from).with_tag(&self.naming.tag()));
        headers.push(HeaderName::To, NameAddr::new(request.uri.clone()));
        headers.push(HeaderName::CallId, self.naming.call_id());
        headers.push(HeaderName::CSeq, CSeq { number: 1, method: Method::Options });
        headers.push(HeaderName::Accept, "application/sdp");
        let hop = Hop { uri: target, hint: None, advertised: None };
        let sending = Sending {
            contact_user: Some(self.config.contact_user.clone()),
            ..Sending::new(request, hop, Owner::Ping { key })
        };
        self.send(sending);
    }

    pub(super) fn ping_ended(&mut self, key: u64, alive: bool) {
        self.report(Report::Pinged { key, alive });
    }
}

/// What the registrar gave our contact (RFC 3261 §10.2.4).
fn granted(response: &Response, ours: Option<&NameAddr>) -> Option<u32> {
    let contacts = response.headers.contacts().unwrap_or_default();
    let listed = ours.and_then(|ours| contacts.iter().find(|contact| contact.uri.is_same(&ours.uri)));
    let given = listed.and_then(NameAddr::expires).or_else(|| response.headers.expires().ok().flatten());
    given.filter(|&seconds| seconds > 0)
}
