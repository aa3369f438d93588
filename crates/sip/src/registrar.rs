//! The registrar: who can be reached where, and until when (RFC 3261 §10.3, RFC 3327, RFC 5626).
//!
//! It owns the bindings of every address of record, answers REGISTER and says where to ring somebody. What changes is
//! reported, to be stored and given back after a restart. Authentication comes before it and is not its business; so is
//! the name under which bindings are kept, which the caller chooses.

mod binding;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use binding::{Binding, Proposal, read_proposals};
pub use binding::{Source, StoredBinding, Target};

use crate::message::{HeaderName, Request, Response};

/// What a registrar grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrarConfig {
    /// Shorter wishes are refused with 423, in seconds.
    pub expires_min: u32,
    /// Longer wishes are cut to this, in seconds.
    pub expires_max: u32,
    /// For those who do not say, in seconds.
    pub expires_default: u32,
    /// Most contacts of one address of record. A request with more is refused; beyond it, the contact that would expire
    /// first makes room, because a phone that starts anew may come from another port each time.
    pub contacts_max: usize,
}

impl Default for RegistrarConfig {
    fn default() -> RegistrarConfig {
        RegistrarConfig { expires_min: 60, expires_max: 7200, expires_default: 3600, contacts_max: 10 }
    }
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A contact is bound, or bound anew: replaces what was stored for the address of record and contact.
    Bound(StoredBinding),
    /// A contact is gone.
    Unbound {
        aor: String,
        /// As in [`StoredBinding::contact`].
        contact: String,
    },
}

/// The answer to a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Without a tag in To.
    pub response: Response,
    pub changes: Vec<Change>,
}

/// All bindings.
#[derive(Debug)]
pub struct Registrar {
    config: RegistrarConfig,
    /// By address of record, in the order they were first bound.
    bindings: BTreeMap<String, Vec<Binding>>,
    /// When which binding expires, by its id.
    expiries: BTreeMap<(Instant, u64), String>,
    /// Which connection carries which bindings, by their ids.
    flows: BTreeMap<(u64, u64), String>,
    last_id: u64,
}

impl Registrar {
    /// A registrar without bindings.
    pub fn new(config: RegistrarConfig) -> Registrar {
        Registrar { config, bindings: BTreeMap::new(), expiries: BTreeMap::new(), flows: BTreeMap::new(), last_id: 0 }
    }

    /// Takes back a binding that was reported before a restart. `stored.expires_in` is what is left of it. Whether it
    /// could be read.
    pub fn load(&mut self, now: Instant, stored: &StoredBinding) -> bool {
        let Some(binding) = Binding::load(now, stored) else { return false };
        self.put(&stored.aor, binding);
        true
    }

    /// Answers a REGISTER for an address of record that its sender may change.
    pub fn register(&mut self, now: Instant, aor: &str, request: &Request, source: &Source) -> Registered {
        // What is over is over, even when nobody has called `expire` yet.
        let mut changes = self.expire(now);
        let response = match self.change(now, aor, request, source) {
            Ok(made) => {
                changes.extend(made);
                self.list(now, aor, request)
            }
            Err(refusal) => refusal.response(request, &self.config),
        };
        Registered { response, changes }
    }

    /// Where to ring somebody, the most wanted first; of equals the one bound last.
    pub fn targets(&self, now: Instant, aor: &str) -> Vec<Target> {
        let bindings = self.bindings.get(aor).into_iter().flatten().rev();
        let mut targets: Vec<Target> =
            bindings.filter(|binding| binding.expires_at > now).map(Binding::target).collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.q_thousandths));
        targets
    }

    /// Whether anybody can be rung there.
    pub fn is_bound(&self, now: Instant, aor: &str) -> bool {
        self.bindings.get(aor).into_iter().flatten().any(|binding| binding.expires_at > now)
    }

    /// All bindings, for listing.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = StoredBinding> {
        self.bindings
            .iter()
            .flat_map(move |(aor, bindings)| bindings.iter().map(move |binding| binding.store(now, aor)))
    }

    /// The bindings of one address of record, for listing.
    pub fn of(&self, now: Instant, aor: &str) -> Vec<StoredBinding> {
        self.bindings.get(aor).into_iter().flatten().map(|binding| binding.store(now, aor)).collect()
    }

    /// Whether a contact is reached by this connection.
    pub fn carries(&self, flow: u64) -> bool {
        self.flows.range((flow, 0)..=(flow, u64::MAX)).next().is_some()
    }

    /// When [`Registrar::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.expiries.keys().next().map(|(at, _)| *at)
    }

    /// Lets go of what has expired.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(first) = self.expiries.first_entry() {
            let (at, id) = *first.key();
            if at > now {
                break;
            }
            let aor = first.get().clone();
            changes.extend(self.remove(&aor, id));
        }
        changes
    }

    /// A connection is gone. Bindings that can be reached in no other way go with it (RFC 5626 §6.3); the others keep
    /// their address.
    pub fn flow_closed(&mut self, now: Instant, flow: u64) -> Vec<Change> {
        let carried: Vec<(u64, String)> =
            self.flows.range((flow, 0)..=(flow, u64::MAX)).map(|((_, id), aor)| (*id, aor.clone())).collect();
        let mut changes = Vec::new();
        for (id, aor) in carried {
            self.flows.remove(&(flow, id));
            let bindings = self.bindings.get_mut(&aor);
            let binding = bindings.and_then(|bindings| bindings.iter_mut().find(|binding| binding.id == id));
            let Some(binding) = binding else { continue };
            if binding.needs_flow() {
                changes.extend(self.remove(&aor, id));
            } else {
                binding.source.flow = None;
                changes.push(Change::Bound(binding.store(now, &aor)));
            }
        }
        changes
    }

    /// Removes all bindings of somebody, as when a user is deleted.
    pub fn remove_all(&mut self, aor: &str) -> Vec<Change> {
        let ids: Vec<u64> = self.bindings.get(aor).into_iter().flatten().map(|binding| binding.id).collect();
        ids.into_iter().filter_map(|id| self.remove(aor, id)).collect()
    }

    /// RFC 3261 §10.3, steps 6 and 7: all of the request or nothing of it.
    fn change(
        &mut self,
        now: Instant,
        aor: &str,
        request: &Request,
        source: &Source,
    ) -> Result<Vec<Change>, RegisterRefusal> {
        let mut changes = Vec::new();
        let proposals = read_proposals(request, source, self.config.expires_default, now)?;
        match proposals {
            Proposal::All { call_id, cseq } => {
                let bindings = self.bindings.get(aor).map(Vec::as_slice).unwrap_or_default();
                if bindings.iter().any(|binding| binding.is_out_of_order(&call_id, cseq)) {
                    return Err(RegisterRefusal::OutOfOrder);
                }
                changes.extend(self.remove_all(aor));
            }
            Proposal::Some(proposed) => {
                self.check(aor, &proposed)?;
                for (binding, expires) in proposed {
                    changes.extend(self.apply(now, aor, binding, expires));
                }
            }
        }
        Ok(changes)
    }

    fn check(&self, aor: &str, proposed: &[(Binding, u32)]) -> Result<(), RegisterRefusal> {
        if proposed.iter().filter(|(_, expires)| *expires > 0).count() > self.config.contacts_max {
            return Err(RegisterRefusal::TooManyContacts);
        }
        for (binding, expires) in proposed {
            if (1..self.config.expires_min).contains(expires) {
                return Err(RegisterRefusal::TooBrief);
            }
            let known = self.find(aor, binding);
            if known.is_some_and(|known| known.is_out_of_order(&binding.call_id, binding.cseq)) {
                return Err(RegisterRefusal::OutOfOrder);
            }
        }
        Ok(())
    }

    fn apply(&mut self, now: Instant, aor: &str, mut binding: Binding, expires: u32) -> Vec<Change> {
        let known = self.find(aor, &binding).map(|known| (known.id, known.contact_text()));
        if expires == 0 {
            return known.and_then(|(id, _)| self.remove(aor, id)).into_iter().collect();
        }
        let mut changes = Vec::new();
        let expires = expires.min(self.config.expires_max);
        binding.expires_at = now + Duration::from_secs(u64::from(expires));
        let stored = binding.store(now, aor);
        if let Some((id, contact)) = known {
            let removed = self.remove(aor, id);
            // The same phone with another contact: what is stored under the old one has to go.
            if contact != stored.contact {
                changes.extend(removed);
            }
        }
        while self.bindings.get(aor).map_or(0, Vec::len) >= self.config.contacts_max.max(1) {
            let first = self.bindings.get(aor).into_iter().flatten().min_by_key(|known| known.expires_at);
            let Some(id) = first.map(|first| first.id) else { break };
            changes.extend(self.remove(aor, id));
        }
        self.put(aor, binding);
        changes.push(Change::Bound(stored));
        changes
    }

    fn find(&self, aor: &str, like: &Binding) -> Option<&Binding> {
        self.bindings.get(aor)?.iter().find(|known| known.is_same(like))
    }

    fn put(&mut self, aor: &str, mut binding: Binding) {
        if let Some(id) = self.find(aor, &binding).map(|known| known.id) {
            self.remove(aor, id);
        }
        self.last_id += 1;
        binding.id = self.last_id;
        self.expiries.insert((binding.expires_at, binding.id), aor.to_owned());
        if let Some(flow) = binding.source.flow {
            self.flows.insert((flow, binding.id), aor.to_owned());
        }
        self.bindings.entry(aor.to_owned()).or_default().push(binding);
    }

    fn remove(&mut self, aor: &str, id: u64) -> Option<Change> {
        let bindings = self.bindings.get_mut(aor)?;
        let at = bindings.iter().position(|binding| binding.id == id)?;
        let binding = bindings.remove(at);
        if bindings.is_empty() {
            self.bindings.remove(aor);
        }
        self.expiries.remove(&(binding.expires_at, id));
        if let Some(flow) = binding.source.flow {
            self.flows.remove(&(flow, id));
        }
        Some(Change::Unbound { aor: aor.to_owned(), contact: binding.contact_text() })
    }

    /// RFC 3261 §10.3, step 8: 200 with all contacts and what is left of each.
    fn list(&self, now: Instant, aor: &str, request: &Request) -> Response {
        let mut response = Response::to_request(request, 200, "");
        for binding in self.bindings.get(aor).into_iter().flatten() {
            response.headers.push(HeaderName::Contact, binding.listed(now));
        }
        // RFC 3327 §5.3: the way that was registered is shown to the one who registered.
        for path in request.headers.get_all(HeaderName::Path) {
            response.headers.push(HeaderName::Path, path);
        }
        response
    }
}

/// Why a REGISTER is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegisterRefusal {
    BadRequest,
    TooBrief,
    OutOfOrder,
    TooManyContacts,
}

impl RegisterRefusal {
    fn response(self, request: &Request, config: &RegistrarConfig) -> Response {
        match self {
            RegisterRefusal::BadRequest => Response::to_request(request, 400, "Bad Contact"),
            RegisterRefusal::TooBrief => {
                Response::to_request(request, 423, "").with(HeaderName::MinExpires, config.expires_min.to_string())
            }
            RegisterRefusal::OutOfOrder => Response::to_request(request, 500, "CSeq Out of Order"),
            RegisterRefusal::TooManyContacts => Response::to_request(request, 403, "Too Many Contacts"),
        }
    }
}

#[cfg(test)]
mod tests;
