//! Trunks: which are alive, and our registrations with those that want one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sip::agent::{Credentials, Order, Register};
use sip::message::Uri;

use super::Operator;
use crate::Report;
use crate::directory::Trunk;

/// Every trunk of the directory.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    by_name: BTreeMap<String, Watched>,
    names: BTreeMap<u64, String>,
    last_key: u64,
    ping_at: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    key: u64,
    trunk: Trunk,
    /// `None` until it was asked.
    alive: Option<bool>,
}

/// Our registrations are refreshed well before that.
const REGISTER_FOR: Duration = Duration::from_mins(10);

impl Trunks {
    /// Those that did not answer when last asked.
    pub(super) fn dead(&self) -> BTreeSet<String> {
        let dead = self.by_name.iter().filter(|(_, watched)| watched.alive == Some(false));
        dead.map(|(name, _)| name.clone()).collect()
    }
}

impl Operator {
    /// Follows the directory, and asks each trunk now and then whether it lives.
    pub(super) fn look_after_trunks(&mut self, now: Instant) {
        let directory = self.directory.load_full();
        let current: BTreeMap<&str, &Trunk> =
            directory.trunks().iter().map(|trunk| (trunk.name.as_str(), trunk)).collect();
        let changed: Vec<String> = self
            .trunks
            .by_name
            .iter()
            .filter(|(name, watched)| current.get(name.as_str()).is_none_or(|trunk| **trunk != watched.trunk))
            .map(|(name, _)| name.clone())
            .collect();
        for name in changed {
            if let Some(watched) = self.trunks.by_name.remove(&name) {
                self.trunks.names.remove(&watched.key);
                if watched.trunk.register {
                    self.order(Order::Unregister { key: watched.key });
                }
            }
        }
        let mut fresh = Vec::new();
        for (name, trunk) in current {
            if !self.trunks.by_name.contains_key(name) {
                self.trunks.last_key += 1;
                let key = self.trunks.last_key;
                self.trunks.names.insert(key, name.to_owned());
                self.trunks.by_name.insert(name.to_owned(), Watched { key, trunk: trunk.clone(), alive: None });
                self.register(key, trunk);
                fresh.push((key, trunk.uri.clone()));
            }
        }
        let every = self.config.sip.ping_trunks_every;
        if every.is_zero() {
            return;
        }
        if self.trunks.ping_at.is_none_or(|at| at <= now) {
            self.trunks.ping_at = Some(now + every);
            fresh = self.trunks.by_name.values().map(|watched| (watched.key, watched.trunk.uri.clone())).collect();
        }
        for (key, uri) in fresh {
            if let Ok(target) = uri.parse::<Uri>() {
                self.order(Order::Ping { key, target });
            }
        }
    }

    fn register(&mut self, key: u64, trunk: &Trunk) {
        let (true, Some(credentials)) = (trunk.register, &trunk.credentials) else { return };
        let Ok(registrar) = trunk.uri.parse::<Uri>() else { return };
        let aor = Uri::sip(Some(&credentials.username), registrar.host.clone(), None);
        self.order(Order::Register(Box::new(Register {
            key,
            registrar,
            aor,
            contact_user: credentials.username.clone(),
            credentials: Some(Credentials {
                username: credentials.username.clone(),
                password: credentials.password.clone(),
            }),
            expires: REGISTER_FOR,
        })));
    }

    pub(super) fn trunk_pinged(&mut self, key: u64, alive: bool) {
        let Some(name) = self.trunks.names.get(&key).cloned() else { return };
        let Some(watched) = self.trunks.by_name.get_mut(&name) else { return };
        if watched.alive.replace(alive) == Some(alive) {
            return;
        }
        if alive {
            tracing::info!(trunk = name, "the trunk answers");
            self.report(Report::TrunkAlive { name });
        } else {
            tracing::warn!(trunk = name, "the trunk does not answer");
            self.report(Report::TrunkDead { name });
        }
    }

    pub(super) fn trunk_registered(&mut self, key: u64, expires: Duration) {
        if let Some(name) = self.trunks.names.get(&key) {
            tracing::info!(trunk = name, expires_s = expires.as_secs(), "registered with the trunk");
        }
    }

    pub(super) fn trunk_refused(&mut self, key: u64, status: u16) {
        if let Some(name) = self.trunks.names.get(&key) {
            tracing::warn!(trunk = name, status, "the trunk refuses our registration");
        }
    }
}
