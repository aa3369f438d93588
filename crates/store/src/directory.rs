//! Tenants, applications, users and trunks: what the operator sets up, and one consistent picture of it to look in.

use std::collections::BTreeMap;
use std::fmt;

use control::{AppId, PhoneNumber, TenantId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    pub id: TenantId,
    /// The domain of its users' addresses of record. Unique, compared without case.
    pub domain: String,
}

/// An application that may call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// The client id.
    pub id: AppId,
    pub tenant: TenantId,
    pub name: String,
    /// An argon2 string. It is salted, so whoever applies the same secret again should pass on the hash that is there
    /// when the secret verifies against it: else the application counts as updated.
    pub secret_hash: Option<String>,
    pub roles: Vec<String>,
    pub callback: Option<String>,
    /// `host` or `host:port`: where `callbackUri` may point.
    pub callback_hosts: Vec<String>,
    /// The number its calls to the public network come from. Unique.
    pub number: Option<PhoneNumber>,
    /// The id of its application instance: its own id unless the operator gave another.
    pub instance: AppId,
    pub may_remove_participants: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub tenant: TenantId,
    pub name: String,
    pub upn: Option<String>,
    pub sip: Option<SipAccount>,
    /// A test line's script, which only the phone reads.
    pub line: Option<Value>,
}

/// How a user's phone signs in: digests of user name, realm and password (RFC 8760), never the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipAccount {
    /// Unique within the tenant, compared without case.
    pub username: String,
    pub ha1_md5: String,
    pub ha1_sha256: String,
}

/// A way to the public network.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// Unique.
    pub name: String,
    pub uri: String,
    /// The beginnings of the numbers it takes; the longest one of all trunks wins.
    pub prefixes: Vec<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    /// Whether we register there.
    pub register: bool,
    /// How many characters of the number are cut off, and what is put in their place.
    pub strip: u8,
    pub prepend: String,
    /// Whose calls it takes; empty: everybody's.
    pub tenants: Vec<TenantId>,
    /// A test line that plays the whole public network.
    pub line: Option<Value>,
}

/// What is to be created or updated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorySet {
    pub tenants: Vec<Tenant>,
    pub apps: Vec<App>,
    pub users: Vec<User>,
    pub trunks: Vec<Trunk>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirectoryKey {
    Tenant(TenantId),
    App(AppId),
    User(UserId),
    Trunk(String),
}

/// What `apply` did with one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: DirectoryKey,
    /// The domain, or the name.
    pub name: String,
    pub verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// One consistent picture of the directory.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    version: i64,
    tenants: BTreeMap<TenantId, Tenant>,
    apps: BTreeMap<AppId, App>,
    users: BTreeMap<UserId, User>,
    trunks: BTreeMap<String, Trunk>,
    by_domain: BTreeMap<String, TenantId>,
    by_number: BTreeMap<PhoneNumber, AppId>,
    by_instance: BTreeMap<AppId, AppId>,
    /// By user name in lower case: a name may exist once in every tenant.
    by_username: BTreeMap<String, Vec<UserId>>,
}

impl Directory {
    pub fn new(version: i64, set: DirectorySet) -> Self {
        let mut directory = Self { version, ..Self::default() };
        for tenant in set.tenants {
            directory.by_domain.insert(tenant.domain.to_ascii_lowercase(), tenant.id);
            directory.tenants.insert(tenant.id, tenant);
        }
        for app in set.apps {
            if let Some(number) = &app.number {
                directory.by_number.insert(number.clone(), app.id);
            }
            directory.by_instance.insert(app.instance, app.id);
            directory.apps.insert(app.id, app);
        }
        for user in set.users {
            if let Some(sip) = &user.sip {
                directory.by_username.entry(sip.username.to_ascii_lowercase()).or_default().push(user.id);
            }
            directory.users.insert(user.id, user);
        }
        directory.trunks = set.trunks.into_iter().map(|trunk| (trunk.name.clone(), trunk)).collect();
        directory
    }

    /// The [`crate::Store::directory_version`] that this is a picture of.
    pub fn version(&self) -> i64 {
        self.version
    }

    pub fn tenant(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(&id)
    }

    pub fn tenant_by_domain(&self, domain: &str) -> Option<&Tenant> {
        self.tenant(*self.by_domain.get(&domain.to_ascii_lowercase())?)
    }

    pub fn app(&self, id: AppId) -> Option<&App> {
        self.apps.get(&id)
    }

    pub fn app_by_number(&self, number: &PhoneNumber) -> Option<&App> {
        self.app(*self.by_number.get(number)?)
    }

    pub fn app_by_instance(&self, instance: AppId) -> Option<&App> {
        self.app(*self.by_instance.get(&instance)?)
    }

    pub fn user(&self, id: UserId) -> Option<&User> {
        self.users.get(&id)
    }

    /// Whom an address of record names: by user name within the tenant that `host` is the domain of; with any other host
    /// the user name must be the only one in the server.
    pub fn user_by_address(&self, username: &str, host: &str) -> Option<&User> {
        let named = self.by_username.get(&username.to_ascii_lowercase())?;
        let mut candidates = named.iter().filter_map(|id| self.user(*id));
        match self.tenant_by_domain(host) {
            Some(tenant) => candidates.find(|user| user.tenant == tenant.id),
            None => candidates.next().filter(|_| named.len() == 1),
        }
    }

    /// The trunks that take a number for a tenant, those with the longest matching prefix first, then by name.
    pub fn trunks_for(&self, tenant: TenantId, number: &PhoneNumber) -> Vec<&Trunk> {
        let mut taking: Vec<(usize, &Trunk)> = self
            .trunks
            .values()
            .filter(|trunk| trunk.tenants.is_empty() || trunk.tenants.contains(&tenant))
            .filter_map(|trunk| Some((trunk.longest_prefix_of(number)?, trunk)))
            .collect();
        taking.sort_by(|(longer, a), (shorter, b)| shorter.cmp(longer).then_with(|| a.name.cmp(&b.name)));
        taking.into_iter().map(|(_, trunk)| trunk).collect()
    }

    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values()
    }

    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    pub fn trunks(&self) -> impl Iterator<Item = &Trunk> {
        self.trunks.values()
    }
}

impl Trunk {
    /// How many characters of the number the best of its prefixes matches.
    pub fn longest_prefix_of(&self, number: &PhoneNumber) -> Option<usize> {
        self.prefixes.iter().filter(|prefix| number.as_str().starts_with(prefix.as_str())).map(String::len).max()
    }
}

impl From<Tenant> for DirectorySet {
    fn from(tenant: Tenant) -> Self {
        Self { tenants: vec![tenant], ..Self::default() }
    }
}

impl From<App> for DirectorySet {
    fn from(app: App) -> Self {
        Self { apps: vec![app], ..Self::default() }
    }
}

impl From<User> for DirectorySet {
    fn from(user: User) -> Self {
        Self { users: vec![user], ..Self::default() }
    }
}

impl From<Trunk> for DirectorySet {
    fn from(trunk: Trunk) -> Self {
        Self { trunks: vec![trunk], ..Self::default() }
    }
}

// Secrets stay out of logs.

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("roles", &self.roles)
            .field("callback", &self.callback)
            .field("callback_hosts", &self.callback_hosts)
            .field("number", &self.number)
            .field("instance", &self.instance)
            .field("may_remove_participants", &self.may_remove_participants)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SipAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipAccount").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk")
            .field("name", &self.name)
            .field("uri", &self.uri)
            .field("prefixes", &self.prefixes)
            .field("username", &self.username)
            .field("register", &self.register)
            .field("strip", &self.strip)
            .field("prepend", &self.prepend)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}
