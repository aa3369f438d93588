//! Who may register, and which trunks lead where: the part of the directory that the switch needs.

use std::collections::BTreeMap;

use control::{PhoneNumber, TenantId};

/// A snapshot of users and trunks. The server replaces it whole when the directory changes.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By user name, then by the tenant's domain in lower case.
    users: BTreeMap<String, BTreeMap<String, User>>,
    trunks: Vec<Trunk>,
}

/// A user with a SIP account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub tenant: TenantId,
    /// The tenant's domain: the host of the address of record.
    pub domain: String,
    /// Unique within its tenant.
    pub username: String,
    /// `H(username:realm:password)` in lower-case hex.
    pub ha1_md5: String,
    pub ha1_sha256: String,
}

/// A way to the public network.
#[derive(Clone, PartialEq, Eq)]
pub struct Trunk {
    /// Unique.
    pub name: String,
    /// `sip:host[:port][;transport=tcp]`.
    pub uri: String,
    /// Starts of numbers that it takes, such as `+` or `+49`; the longest match wins.
    pub prefixes: Vec<String>,
    /// Characters to take off the front of the number, the `+` counted.
    pub strip: usize,
    /// Put in front after stripping.
    pub prepend: String,
    /// Digest credentials towards the trunk.
    pub credentials: Option<TrunkCredentials>,
    /// Whether we register with it.
    pub register: bool,
    /// Who may use it; `None` for everyone.
    pub tenants: Option<Vec<TenantId>>,
}

/// A trunk's digest credentials. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct TrunkCredentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({}@{})", self.username, self.domain)
    }
}

impl std::fmt::Debug for Trunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trunk({}, {})", self.name, self.uri)
    }
}

impl std::fmt::Debug for TrunkCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrunkCredentials")
    }
}

/// What a user name and a host lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    User(&'a User),
    Nobody,
    /// Several tenants have a user of that name, and the host does not say which is meant.
    Several,
}

impl Directory {
    /// Of two users with the same name and domain the later one counts.
    pub fn new(users: impl IntoIterator<Item = User>, trunks: Vec<Trunk>) -> Self {
        let mut by_name: BTreeMap<String, BTreeMap<String, User>> = BTreeMap::new();
        for user in users {
            by_name.entry(user.username.clone()).or_default().insert(user.domain.to_ascii_lowercase(), user);
        }
        Self { users: by_name, trunks }
    }

    /// The user of an address of record. The domain names the tenant; with any other host the name must be the only
    /// one of its kind.
    pub fn user(&self, username: &str, host: &str) -> Found<'_> {
        let Some(namesakes) = self.users.get(username) else { return Found::Nobody };
        if let Some(user) = namesakes.get(&host.to_ascii_lowercase()) {
            return Found::User(user);
        }
        let mut all = namesakes.values();
        match (all.next(), all.next()) {
            (Some(user), None) => Found::User(user),
            (Some(_), Some(_)) => Found::Several,
            (None, _) => Found::Nobody,
        }
    }

    /// The user of exactly this name and domain.
    pub fn user_exactly(&self, username: &str, domain: &str) -> Option<&User> {
        self.users.get(username)?.get(&domain.to_ascii_lowercase())
    }

    pub fn trunks(&self) -> &[Trunk] {
        &self.trunks
    }

    /// The trunks that take a number for a tenant, the longest prefix first, else in the directory's order; and the
    /// number as each wants it.
    pub fn routes(&self, tenant: TenantId, number: &PhoneNumber) -> Vec<(&Trunk, String)> {
        let number = number.as_str();
        let mut routes: Vec<(usize, &Trunk)> = self
            .trunks
            .iter()
            .filter(|trunk| trunk.tenants.as_ref().is_none_or(|tenants| tenants.contains(&tenant)))
            .filter_map(|trunk| Some((trunk.matched(number)?, trunk)))
            .collect();
        routes.sort_by_key(|(matched, _)| std::cmp::Reverse(*matched));
        routes.into_iter().map(|(_, trunk)| (trunk, trunk.dialled(number))).collect()
    }
}

impl User {
    /// The key under which the user's contacts are kept and stored.
    pub fn aor(&self) -> String {
        aor(&self.username, &self.domain)
    }
}

/// The key of an address of record: `username@domain`, the domain in lower case.
pub fn aor(username: &str, domain: &str) -> String {
    format!("{username}@{}", domain.to_ascii_lowercase())
}

impl Trunk {
    /// How much of the number its best prefix matches.
    fn matched(&self, number: &str) -> Option<usize> {
        self.prefixes.iter().filter(|prefix| number.starts_with(prefix.as_str())).map(String::len).max()
    }

    /// The number as the trunk wants it.
    fn dialled(&self, number: &str) -> String {
        let rest: String = number.chars().skip(self.strip).collect();
        format!("{}{rest}", self.prepend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(format!("{number:032x}").parse::<TenantId>().expect("a GUID").0)
    }

    fn user(tenant_number: u128, domain: &str, username: &str) -> User {
        User {
            tenant: tenant(tenant_number),
            domain: domain.to_owned(),
            username: username.to_owned(),
            ha1_md5: String::new(),
            ha1_sha256: String::new(),
        }
    }

    fn trunk(name: &str, prefixes: &[&str]) -> Trunk {
        Trunk {
            name: name.to_owned(),
            uri: "sip:127.0.0.1".to_owned(),
            prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            strip: 0,
            prepend: String::new(),
            credentials: None,
            register: false,
            tenants: None,
        }
    }

    #[test]
    fn the_domain_names_the_tenant_and_a_foreign_host_only_a_unique_name() {
        let directory = Directory::new(
            [user(1, "a.example", "desk"), user(2, "B.example", "desk"), user(2, "b.example", "lobby")],
            Vec::new(),
        );
        assert!(matches!(directory.user("desk", "b.EXAMPLE"), Found::User(user) if user.tenant == tenant(2)));
        assert_eq!(directory.user("desk", "127.0.0.1"), Found::Several);
        assert!(matches!(directory.user("lobby", "127.0.0.1"), Found::User(_)));
        assert_eq!(directory.user("nobody", "a.example"), Found::Nobody);
        assert!(directory.user_exactly("lobby", "a.example").is_none());
    }

    #[test]
    fn the_longest_prefix_wins_and_the_number_is_rewritten() {
        let national = Trunk { strip: 3, prepend: "0".to_owned(), ..trunk("national", &["+49"]) };
        let private = Trunk { tenants: Some(vec![tenant(7)]), ..trunk("private", &["+49301"]) };
        let directory = Directory::new([], vec![trunk("world", &["+"]), national, private]);
        let number = PhoneNumber::parse("+49301234").expect("E.164");
        let names = |tenant| {
            let routes = directory.routes(tenant, &number);
            routes.into_iter().map(|(trunk, dialled)| format!("{} {dialled}", trunk.name)).collect::<Vec<_>>()
        };
        assert_eq!(names(tenant(1)), ["national 0301234", "world +49301234"]);
        assert_eq!(names(tenant(7)), ["private +49301234", "national 0301234", "world +49301234"]);
        let american = PhoneNumber::parse("+12065550100").expect("E.164");
        assert_eq!(directory.routes(tenant(1), &american).len(), 1);
    }
}
