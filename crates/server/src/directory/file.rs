//! The directory as a file: what an operator writes, and how it becomes rows.
//!
//! The form is fixed; others depend on it. An entry replaces the row with its id as a whole, with one exception: secrets
//! that are left out stay as they are, so that what `convoke directory show` prints can be applied again.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use control::{AppId, PhoneNumber, TenantId, UserId};
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use store::{App, Directory, DirectorySet, SipAccount, Tenant, Trunk, User};
use thiserror::Error;

use crate::auth;
use crate::config::SIP_REALM;

/// Everything an operator sets up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryFile {
    #[serde(default, rename = "tenant", skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantEntry>,
    #[serde(default, rename = "app", skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppEntry>,
    #[serde(default, rename = "user", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserEntry>,
    #[serde(default, rename = "trunk", skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<TrunkEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantEntry {
    pub id: TenantId,
    /// The host of its users' addresses of record.
    pub domain: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppEntry {
    /// The client id.
    pub id: AppId,
    pub tenant: TenantId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// A file that holds the secret, relative to the directory file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// Where `callbackUri` may point; default: the host of `callback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_hosts: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The id of its application instance; default: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<AppId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_remove_participants: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    pub id: UserId,
    pub tenant: TenantId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip: Option<SipEntry>,
    /// A test line's script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Value>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SipEntry {
    pub username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkEntry {
    pub name: String,
    pub uri: String,
    /// The beginnings of the numbers it takes; default: every number.
    #[serde(default = "every_number")]
    pub prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub register: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strip: u8,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prepend: String,
    /// Whose calls it takes; default: everybody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Value>,
}

/// What is wrong, in one line that names the entry.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: {message}", path.display())]
    NotDirectory { path: PathBuf, message: String },
    #[error("{entry}: {message}")]
    Wrong { entry: String, message: String },
}

/// What a test line needs, as it lies in the store beside its user or trunk.
#[derive(Clone, PartialEq, Deserialize)]
pub struct StoredLine {
    pub script: phone::Script,
    /// A phone must know its password, and the directory keeps hashes: a user with a test line has it kept in plain.
    pub password: Option<String>,
}

impl DirectoryFile {
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path).map_err(|error| FileError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text).map_err(|message| FileError::NotDirectory { path: path.to_owned(), message })
    }

    /// From TOML; the error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", error.message().lines().next().unwrap_or_default())
        })
    }

    /// The rows these entries become. `current` is where unchanged secrets are found, `folder` what paths are relative to.
    pub fn resolve(self, current: &Directory, folder: &Path) -> Result<DirectorySet, FileError> {
        let known = |tenant: TenantId, entry: &str, tenants: &[Tenant]| {
            let there = tenants.iter().any(|each| each.id == tenant) || current.tenant(tenant).is_some();
            if there { Ok(()) } else { wrong(entry, format!("there is no tenant {tenant}")) }
        };
        let mut set = DirectorySet::default();
        for tenant in self.tenants {
            set.tenants.push(tenant.resolve()?);
        }
        for app in self.apps {
            known(app.tenant, &format!("app {}", app.id), &set.tenants)?;
            set.apps.push(app.resolve(current, folder)?);
        }
        for user in self.users {
            known(user.tenant, &format!("user {}", user.id), &set.tenants)?;
            set.users.push(user.resolve(current, folder)?);
        }
        for trunk in self.trunks {
            for tenant in &trunk.tenants {
                known(*tenant, &format!("trunk {}", trunk.name), &set.tenants)?;
            }
            set.trunks.push(trunk.resolve(current, folder)?);
        }
        unique("tenant", set.tenants.iter().map(|each| each.id.to_string()))?;
        unique("app", set.apps.iter().map(|each| each.id.to_string()))?;
        unique("user", set.users.iter().map(|each| each.id.to_string()))?;
        unique("trunk", set.trunks.iter().map(|each| each.name.clone()))?;
        Ok(set)
    }

    /// The file that would make this directory, secrets left out.
    pub fn of(directory: &Directory) -> Self {
        Self {
            tenants: directory
                .tenants()
                .map(|tenant| TenantEntry { id: tenant.id, domain: tenant.domain.clone() })
                .collect(),
            apps: directory.apps().map(AppEntry::of).collect(),
            users: directory.users().map(UserEntry::of).collect(),
            trunks: directory.trunks().map(TrunkEntry::of).collect(),
        }
    }
}

impl TenantEntry {
    fn resolve(self) -> Result<Tenant, FileError> {
        let entry = format!("tenant {}", self.id);
        let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if self.domain.is_empty() || !self.domain.chars().all(host) {
            return wrong(&entry, format!("domain `{}` is no host name", self.domain));
        }
        Ok(Tenant { id: self.id, domain: self.domain.to_ascii_lowercase() })
    }
}

impl AppEntry {
    fn resolve(self, current: &Directory, folder: &Path) -> Result<App, FileError> {
        let entry = format!("app {}", self.id);
        let secret = secret(&entry, self.secret, self.secret_file.as_deref(), folder)?;
        let kept = current.app(self.id).and_then(|app| app.secret_hash.clone());
        let secret_hash = match (secret, kept) {
            // Hashes are salted: a fresh one of the same secret would look like a change.
            (Some(secret), Some(kept)) if auth::secret_matches(&secret, &kept) => Some(kept),
            (Some(secret), _) => Some(auth::hash_secret(&secret)),
            (None, kept) => kept,
        };
        let callback_host = self.callback.as_deref().map(|url| callback_host(&entry, url)).transpose()?;
        let number = match self.number {
            Some(number) => match PhoneNumber::parse(&number) {
                Some(number) => Some(number),
                None => return wrong(&entry, format!("number `{number}` is not E.164, as in +12065550100")),
            },
            None => None,
        };
        let roles: Vec<String> = self.roles;
        if let Some(role) = roles.iter().find(|role| role.trim().is_empty()) {
            return wrong(&entry, format!("`{role}` is no role"));
        }
        Ok(App {
            id: self.id,
            tenant: self.tenant,
            name: self.name,
            secret_hash,
            roles,
            callback: self.callback,
            callback_hosts: self.callback_hosts.unwrap_or_else(|| callback_host.into_iter().collect()),
            number,
            instance: self.instance.unwrap_or(self.id),
            may_remove_participants: self.may_remove_participants,
        })
    }

    fn of(app: &App) -> Self {
        Self {
            id: app.id,
            tenant: app.tenant,
            name: app.name.clone(),
            secret: None,
            secret_file: None,
            roles: app.roles.clone(),
            callback: app.callback.clone(),
            callback_hosts: Some(app.callback_hosts.clone()),
            number: app.number.as_ref().map(|number| number.as_str().to_owned()),
            instance: (app.instance != app.id).then_some(app.instance),
            may_remove_participants: app.may_remove_participants,
        }
    }
}

impl UserEntry {
    fn resolve(self, current: &Directory, folder: &Path) -> Result<User, FileError> {
        let entry = format!("user {}", self.id);
        let kept = current.user(self.id);
        let mut password = None;
        let sip = match self.sip {
            None => None,
            Some(sip) => {
                let legal = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'&=+$,;?/".contains(c);
                if sip.username.is_empty() || !sip.username.chars().all(legal) {
                    return wrong(&entry, format!("sip.username `{}` cannot stand in a SIP address", sip.username));
                }
                password = secret(&entry, sip.password, sip.password_file.as_deref(), folder)?;
                let account = kept.and_then(|user| user.sip.clone()).filter(|kept| kept.username == sip.username);
                match (&password, account) {
                    (Some(password), _) => Some(sip_account(&sip.username, password)),
                    (None, Some(account)) => Some(account),
                    (None, None) => return wrong(&entry, "sip needs a password"),
                }
            }
        };
        let line = match self.line {
            None => None,
            Some(script) => {
                let Some(account) = &sip else { return wrong(&entry, "a test line needs sip = { … }") };
                let kept =
                    kept.and_then(|user| user.line.as_ref()).and_then(stored_line).and_then(|line| line.password);
                let known = kept.filter(|password| *account == sip_account(&account.username, password));
                let Some(password) = password.or(known) else {
                    return wrong(&entry, "a test line needs sip.password");
                };
                Some(json!({ "script": script_of(&entry, script, folder)?, "password": password }))
            }
        };
        Ok(User { id: self.id, tenant: self.tenant, name: self.name, upn: self.upn, sip, line })
    }

    fn of(user: &User) -> Self {
        let sip = user.sip.as_ref();
        Self {
            id: user.id,
            tenant: user.tenant,
            name: user.name.clone(),
            upn: user.upn.clone(),
            sip: sip.map(|sip| SipEntry { username: sip.username.clone(), password: None, password_file: None }),
            line: user.line.as_ref().and_then(|line| line.get("script")).cloned(),
        }
    }
}

impl TrunkEntry {
    fn resolve(self, current: &Directory, folder: &Path) -> Result<Trunk, FileError> {
        let entry = format!("trunk {}", self.name);
        let host = self.uri.strip_prefix("sip:").map(|rest| rest.split([';', '?']).next().unwrap_or_default());
        if self.name.is_empty() || host.is_none_or(|host| host.is_empty() || host.contains([' ', '@'])) {
            return wrong(&entry, format!("uri `{}` is not of the form sip:carrier.example:5060", self.uri));
        }
        let digits = |prefix: &String| prefix.starts_with('+') && prefix[1..].bytes().all(|byte| byte.is_ascii_digit());
        if let Some(prefix) = self.prefixes.iter().find(|prefix| !digits(prefix)) {
            return wrong(&entry, format!("prefix `{prefix}` is not the start of a number, as in +49"));
        }
        let kept = current.trunks().find(|trunk| trunk.name == self.name);
        let password = secret(&entry, self.password, self.password_file.as_deref(), folder)?
            .or_else(|| kept.filter(|kept| kept.username == self.username)?.password.clone());
        if self.register && (self.username.is_none() || password.is_none()) {
            return wrong(&entry, "register = true needs username and password");
        }
        let line = match self.line {
            None => None,
            Some(_) if trunk_address(&self.uri).is_none_or(|address| !address.ip().is_loopback()) => {
                return wrong(&entry, "a test line plays a trunk on this machine only: uri = \"sip:127.0.0.1:15060\"");
            }
            Some(script) => Some(json!({ "script": script_of(&entry, script, folder)? })),
        };
        Ok(Trunk {
            name: self.name,
            uri: self.uri,
            prefixes: self.prefixes,
            username: self.username,
            password,
            register: self.register,
            strip: self.strip,
            prepend: self.prepend,
            tenants: self.tenants,
            line,
        })
    }

    fn of(trunk: &Trunk) -> Self {
        Self {
            name: trunk.name.clone(),
            uri: trunk.uri.clone(),
            prefixes: trunk.prefixes.clone(),
            username: trunk.username.clone(),
            password: None,
            password_file: None,
            register: trunk.register,
            strip: trunk.strip,
            prepend: trunk.prepend.clone(),
            tenants: trunk.tenants.clone(),
            line: trunk.line.as_ref().and_then(|line| line.get("script")).cloned(),
        }
    }
}

/// The test line kept in a row; `None`, with a warning, where it does not read.
pub fn stored_line(line: &Value) -> Option<StoredLine> {
    StoredLine::deserialize(line).inspect_err(|error| tracing::warn!(%error, "a test line cannot be read")).ok()
}

/// What is kept of a SIP password: its digests with user name and realm (RFC 3261 §22, RFC 8760).
pub fn sip_account(username: &str, password: &str) -> SipAccount {
    let text = format!("{username}:{SIP_REALM}:{password}");
    SipAccount {
        username: username.to_owned(),
        ha1_md5: hex(&Md5::digest(&text)),
        ha1_sha256: hex(&Sha256::digest(&text)),
    }
}

/// Where a trunk's test line listens: the address its URI names.
pub fn trunk_address(uri: &str) -> Option<SocketAddr> {
    let host = uri.strip_prefix("sip:")?.split([';', '?']).next()?;
    let bare = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| (ip, 5060).into());
    host.parse().ok().or_else(|| bare(host)).or_else(|| {
        let port = host.strip_prefix("localhost")?;
        format!("127.0.0.1{}", if port.is_empty() { ":5060" } else { port }).parse().ok()
    })
}

/// `host` or `host:port` of a callback, which must be https, or http to this machine.
fn callback_host(entry: &str, url: &str) -> Result<String, FileError> {
    let refused = || wrong(entry, format!("callback `{url}` is neither https:// nor http:// to this machine"));
    let Ok(uri) = url.parse::<http::Uri>() else { return refused() };
    let Some(authority) = uri.authority() else { return refused() };
    let local = is_this_machine(authority.host());
    match uri.scheme_str() {
        Some("https") => Ok(authority.to_string()),
        Some("http") if local => Ok(authority.to_string()),
        _ => refused(),
    }
}

/// Whether a host of a URL is a loopback address or `localhost`.
pub fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A line's script, checked, its WAV file made absolute.
fn script_of(entry: &str, mut script: Value, folder: &Path) -> Result<Value, FileError> {
    if let Some(Value::String(say)) = script.get_mut("say")
        && !matches!(say.as_str(), "" | "speech" | "silence")
        && !say.starts_with("tone:")
    {
        let path = folder.join(&say);
        *say = std::path::absolute(&path).unwrap_or(path).display().to_string();
    }
    match phone::Script::deserialize(&script) {
        Ok(_) => Ok(script),
        Err(error) => wrong(entry, format!("line: {error}")),
    }
}

fn secret(
    entry: &str,
    secret: Option<String>,
    file: Option<&Path>,
    folder: &Path,
) -> Result<Option<String>, FileError> {
    let secret = match (secret, file) {
        (Some(_), Some(_)) => return wrong(entry, "give the secret or the file it is in, not both"),
        (None, None) => return Ok(None),
        (Some(secret), None) => secret,
        (None, Some(path)) => {
            let path = folder.join(path);
            let text = fs::read_to_string(&path).map_err(|error| FileError::Unreadable { path, error })?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if secret.is_empty() { wrong(entry, "the secret is empty") } else { Ok(Some(secret)) }
}

fn unique(kind: &str, ids: impl Iterator<Item = String>) -> Result<(), FileError> {
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        if seen.contains(&id) {
            return wrong(&format!("{kind} {id}"), "is there twice");
        }
        seen.insert(id);
    }
    Ok(())
}

fn wrong<T>(entry: &str, message: impl Into<String>) -> Result<T, FileError> {
    Err(FileError::Wrong { entry: entry.to_owned(), message: message.into() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn every_number() -> Vec<String> {
    vec!["+".to_owned()]
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

// Secrets stay out of logs.

impl fmt::Debug for AppEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppEntry").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for SipEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipEntry").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for TrunkEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrunkEntry").field("name", &self.name).field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredLine").field("script", &self.script).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The example of the documentation.
    pub(crate) const EXAMPLE: &str = r#"
        [[tenant]]
        id = "72f988bf-86f1-41af-91ab-2d7cd011db47"
        domain = "contoso.example"

        [[app]]
        id = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01"
        tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
        name = "Incident bot"
        secret = "only-for-tests"
        roles = ["Calls.Initiate.All", "Calls.InitiateGroupCall.All", "Calls.JoinGroupCall.All"]
        callback = "https://localhost:9443/api/calls"
        number = "+12065550100"
        may_remove_participants = true

        [[user]]
        id = "278405a3-f568-4b3e-b684-009193463064"
        tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
        name = "Front desk"
        upn = "front-desk@contoso.example"
        sip = { username = "front-desk", password = "only-for-tests" }
        line = { answer_after = "300ms", say = "speech" }

        [[trunk]]
        name = "carrier"
        uri = "sip:127.0.0.1:15060"
        prefixes = ["+"]
        username = "convoke"
        password = "only-for-tests"
        register = true
        strip = 1
        prepend = "00"
        tenants = ["72f988bf-86f1-41af-91ab-2d7cd011db47"]
        line = { answer_after = "500ms", say = "tone:440" }
    "#;

    fn resolve(text: &str) -> Result<DirectorySet, String> {
        let file = DirectoryFile::parse(text)?;
        file.resolve(&Directory::default(), Path::new("/etc/convoke")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_becomes_rows_and_no_secret_is_kept_in_plain() {
        let set = resolve(EXAMPLE).unwrap();
        let app = &set.apps[0];
        assert_eq!(app.callback_hosts, ["localhost:9443"]);
        assert_eq!(app.instance, app.id);
        assert!(auth::secret_matches("only-for-tests", app.secret_hash.as_deref().unwrap()));
        let sip = set.users[0].sip.as_ref().unwrap();
        // MD5 and SHA-256 of `front-desk:convoke:only-for-tests`, by coreutils.
        assert_eq!(sip.ha1_md5, "957c51d7965192ec65ad83f7cbf18400");
        assert_eq!(sip.ha1_sha256, "bbcd02973d2f82555eef969fcadfc10f5c58a055d2a7d0b5cb8dda9d3780d2f2");
        assert_eq!((set.trunks[0].strip, set.trunks[0].prepend.as_str()), (1, "00"));
        assert!(stored_line(set.trunks[0].line.as_ref().unwrap()).is_some());
    }

    #[test]
    fn what_is_shown_can_be_applied_again_and_changes_nothing() {
        let set = resolve(EXAMPLE).unwrap();
        let directory = Directory::new(1, set.clone());
        let shown = toml::to_string(&DirectoryFile::of(&directory)).unwrap();
        assert!(!shown.contains("only-for-tests"), "{shown}");
        let again = DirectoryFile::parse(&shown).unwrap().resolve(&directory, Path::new("/")).unwrap();
        assert_eq!(again, set);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_the_entry() {
        let said = |from: &str, to: &str| {
            assert!(EXAMPLE.contains(from), "{from}");
            resolve(&EXAMPLE.replacen(from, to, 1)).unwrap_err()
        };
        insta::assert_snapshot!(said("roles =", "rolls ="), @"line 11: unknown field `rolls`, expected one of `id`, `tenant`, `name`, `secret`, `secret_file`, `roles`, `callback`, `callback_hosts`, `number`, `instance`, `may_remove_participants`");
        insta::assert_snapshot!(said("+12065550100", "2065550100"), @"app 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01: number `2065550100` is not E.164, as in +12065550100");
        insta::assert_snapshot!(said("https://localhost", "http://bot.example"), @"app 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01: callback `http://bot.example:9443/api/calls` is neither https:// nor http:// to this machine");
        insta::assert_snapshot!(said("secret = \"only-for-tests\"", "secret_file = \"gone\""), @"cannot read /etc/convoke/gone: No such file or directory (os error 2)");
        insta::assert_snapshot!(said("username = \"front-desk\"", "username = \"front desk\""), @"user 278405a3-f568-4b3e-b684-009193463064: sip.username `front desk` cannot stand in a SIP address");
        insta::assert_snapshot!(said(", password = \"only-for-tests\"", ""), @"user 278405a3-f568-4b3e-b684-009193463064: sip needs a password");
        insta::assert_snapshot!(said("sip:127.0.0.1:15060", "sip:192.0.2.1"), @r#"trunk carrier: a test line plays a trunk on this machine only: uri = "sip:127.0.0.1:15060""#);
        insta::assert_snapshot!(said("domain = \"contoso.example\"", "domain = \"conto so\""), @"tenant 72f988bf-86f1-41af-91ab-2d7cd011db47: domain `conto so` is no host name");
        let stranger = said(
            "tenant = \"72f988bf-86f1-41af-91ab-2d7cd011db47\"",
            "tenant = \"00000000-0000-0000-0000-000000000001\"",
        );
        insta::assert_snapshot!(stranger, @"app 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01: there is no tenant 00000000-0000-0000-0000-000000000001");
        let scripted = said("say = \"speech\"", "say = \"tone:loud\"");
        assert!(scripted.starts_with("user 278405a3-f568-4b3e-b684-009193463064: line: "), "{scripted}");
    }

    #[test]
    fn a_trunk_names_an_address() {
        for (uri, address) in [
            ("sip:127.0.0.1:15060", Some("127.0.0.1:15060")),
            ("sip:127.0.0.1;transport=tcp", Some("127.0.0.1:5060")),
            ("sip:[::1]:7", Some("[::1]:7")),
            ("sip:localhost", Some("127.0.0.1:5060")),
            ("sip:carrier.example", None),
        ] {
            assert_eq!(trunk_address(uri), address.map(|address| address.parse().unwrap()), "{uri}");
        }
    }
}
