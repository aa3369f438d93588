//! Defaults, file, environment, flags: each laid over the one before, each key remembering where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sip::invite::reinvite::{INTERVAL_MAX, MIN_SE};
use thiserror::Error;
use toml::{Table, Value};

use super::Config;
use super::document::{Key, environment_name, keys};

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Where each key that is not at its default was set.
    pub origins: BTreeMap<String, Origin>,
    /// Odd but harmless, for the log: environment variables that look like ours and are not.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    Environment(String),
    Flag(String),
}

/// One setting from a flag, as in `notify.timeout` = `5s`.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: String,
    pub value: String,
    /// As the user wrote it, as in `--trace-sip`.
    pub flag: String,
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{} is not TOML: {message}", path.display())]
    NotToml { path: PathBuf, message: String },
    #[error("{origin}: there is no setting `{key}`{}", hint(nearest.as_deref()))]
    Unknown { origin: Origin, key: String, nearest: Option<String> },
    #[error("{origin}: `{key}` is wrong: {message}")]
    Wrong { origin: Origin, key: String, message: String },
    #[error("`{key}` is wrong: {message}")]
    Senseless { key: &'static str, message: String },
}

/// Lays file, environment and flags over the defaults.
///
/// `environment` is every variable of the process; those that do not start with `CONVOKE_` are passed over.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[Setting],
) -> Result<Loaded, ConfigError> {
    let keys = keys();
    let mut layered = Layers { keys: &keys, values: BTreeMap::new() };
    let mut warnings = Vec::new();
    if let Some(path) = file {
        layered.file(path)?;
    }
    for (name, value) in environment {
        if !name.starts_with("CONVOKE_") || name == "CONVOKE_CONFIG" {
            continue;
        }
        match keys.iter().find(|key| environment_name(&key.path) == name) {
            Some(key) => layered.text(key, &value, Origin::Environment(name))?,
            // Not an error: container platforms set variables named after a service of the name.
            None => warnings.push(format!("the environment variable {name} names no setting; ignored")),
        }
    }
    for flag in flags {
        let origin = Origin::Flag(flag.flag.clone());
        match keys.iter().find(|key| key.path == flag.key) {
            Some(key) => layered.text(key, &flag.value, origin)?,
            None => return Err(unknown(&keys, origin, flag.key.clone())),
        }
    }
    let config = layered.config()?;
    check(&config)?;
    let origins = layered.values.into_iter().map(|(key, (_, origin))| (key, origin)).collect();
    Ok(Loaded { config, origins, warnings })
}

struct Layers<'a> {
    keys: &'a [Key],
    values: BTreeMap<String, (Value, Origin)>,
}

impl Layers<'_> {
    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let table: Table = toml::from_str(&text)
            .map_err(|error| ConfigError::NotToml { path: path.to_owned(), message: one_line(&text, &error) })?;
        self.table("", table, &Origin::File(path.to_owned()))
    }

    fn table(&mut self, prefix: &str, table: Table, origin: &Origin) -> Result<(), ConfigError> {
        for (name, value) in table {
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let section = format!("{path}.");
            match value {
                Value::Table(inner) if self.keys.iter().any(|key| key.path.starts_with(&section)) => {
                    self.table(&path, inner, origin)?;
                }
                value => match self.keys.iter().find(|key| key.path == path) {
                    Some(key) => self.value(key, value, origin.clone())?,
                    None => return Err(unknown(self.keys, origin.clone(), path)),
                },
            }
        }
        Ok(())
    }

    /// A value that came as text, read as what the key wants.
    fn text(&mut self, key: &Key, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let value = match key.kind.as_str() {
            "bool" => text.parse().ok().map(Value::Boolean),
            "u8" | "u16" | "u32" => text.parse().ok().map(Value::Integer),
            "Vec<String>" | "Vec<Network>" => Some(Value::Array(
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
            )),
            _ => None,
        };
        self.value(key, value.unwrap_or_else(|| Value::from(text)), origin)
    }

    /// Takes a value if the tree takes it: trying each alone is what lets the error name the key.
    fn value(&mut self, key: &Key, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let mut table = Table::new();
        put(&mut table, &key.path, value.clone());
        match table.try_into::<Config>() {
            Ok(_) => {
                self.values.insert(key.path.clone(), (value, origin));
                Ok(())
            }
            Err(error) => Err(ConfigError::Wrong {
                origin,
                key: key.path.clone(),
                message: error.message().lines().next().unwrap_or_default().to_owned(),
            }),
        }
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let mut table = Table::new();
        for (path, (value, _)) in &self.values {
            put(&mut table, path, value.clone());
        }
        table
            .try_into()
            .map_err(|error| ConfigError::Senseless { key: "configuration", message: error.message().to_owned() })
    }
}

/// What no single value can tell.
fn check(config: &Config) -> Result<(), ConfigError> {
    let wrong = |key, message: &str| Err(ConfigError::Senseless { key, message: message.to_owned() });
    if config.http.certificate.is_some() != config.http.key.is_some() {
        return wrong("http.certificate", "set both http.certificate and http.key, or neither");
    }
    if !config.http.plain_listen.ip().is_loopback() {
        return wrong("http.plain_listen", "plain HTTP is served on this machine only: use 127.0.0.1 or [::1]");
    }
    if let Some(url) = &config.http.base_url {
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', ' '])) {
            return wrong("http.base_url", "write it as https://calls.example.net");
        }
    }
    if config.rtp.ports.last - config.rtp.ports.first < 3 {
        return wrong("rtp.ports", "a leg needs two ports: make room for at least two legs");
    }
    let known = |codec: &String| ["opus", "g722", "pcmu", "pcma"].contains(&codec.to_ascii_lowercase().as_str());
    if config.rtp.codecs.is_empty() || !config.rtp.codecs.iter().all(known) {
        return wrong("rtp.codecs", "names at least one of opus, G722, PCMU and PCMA, and nothing else");
    }
    if config.sip.digests.is_empty() || config.sip.digest_algorithms().len() != config.sip.digests.len() {
        return wrong("sip.digests", "names at least one of MD5 and SHA-256, and nothing else");
    }
    let interval = config.sip.session_expires.0;
    if !interval.is_zero() && !(MIN_SE..=INTERVAL_MAX).contains(&interval) {
        return wrong("sip.session_expires", "is 0s, or between 90s and 24h");
    }
    if config.invite.invited_bots_max > 1 {
        return wrong("invite.invited_bots_max", "is 0 or 1");
    }
    if config.notify.concurrency == 0 {
        return wrong("notify.concurrency", "is at least 1");
    }
    if config.notify.timeout.0.is_zero() {
        return wrong("notify.timeout", "is more than 0s");
    }
    if config.limits.legs == 0 {
        return wrong("limits.legs", "is at least 1");
    }
    if config.limits.http_connections == 0 {
        return wrong("limits.http_connections", "is at least 1");
    }
    if config.limits.http_connections_per_source == 0 {
        return wrong("limits.http_connections_per_source", "is at least 1");
    }
    Ok(())
}

fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn unknown(keys: &[Key], origin: Origin, key: String) -> ConfigError {
    let last = key.rsplit('.').next().unwrap_or(&key);
    let nearest = keys
        .iter()
        .map(|each| (distance(each.path.rsplit('.').next().unwrap_or(&each.path), last), each))
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, each)| each.path.clone());
    ConfigError::Unknown { origin, key, nearest }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

/// How many letters to change, add or drop to get from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, second) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *second);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn one_line(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
    format!("line {line}: {}", error.message().lines().next().unwrap_or_default())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Span;
    use super::*;

    fn with(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("convoke.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| Setting {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
                flag: "--set".to_owned(),
            })
            .collect();
        load(Some(&path), environment, &flags)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
    }

    #[test]
    fn each_layer_lies_over_the_one_before() {
        let loaded = with(
            "dev = true\n[notify]\ntimeout = '1s'\nretry_for = '2s'\nbackoff_max = '3s'",
            &[("CONVOKE_NOTIFY_RETRY_FOR", "20s"), ("CONVOKE_NOTIFY_BACKOFF_MAX", "30s"), ("HOME", "/")],
            &[("notify.backoff_max", "5min"), ("http.names", "a.example, b.example"), ("rtp.threads", "3")],
        )
        .unwrap();
        let config = loaded.config;
        assert!(config.dev);
        assert_eq!(config.notify.timeout, Span(Duration::from_secs(1)));
        assert_eq!(config.notify.retry_for, Span(Duration::from_secs(20)));
        assert_eq!(config.notify.backoff_max, Span(Duration::from_mins(5)));
        assert_eq!(config.http.names, ["a.example", "b.example"]);
        assert_eq!(config.rtp.threads, 3);
        assert_eq!(config.sip, super::super::Sip::default());
        assert_eq!(loaded.origins["notify.retry_for"], Origin::Environment("CONVOKE_NOTIFY_RETRY_FOR".to_owned()));
        assert!(matches!(loaded.origins["dev"], Origin::File(_)));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_the_key() {
        let said = |file, environment, flags| with(file, environment, flags).unwrap_err();
        insta::assert_snapshot!(said("[sip]\nudp_lisen = '0.0.0.0:1'", &[], &[]), @"DIR/convoke.toml: there is no setting `sip.udp_lisen`; did you mean `sip.udp_listen`?");
        insta::assert_snapshot!(said("sip = 3", &[], &[]), @"DIR/convoke.toml: there is no setting `sip`");
        insta::assert_snapshot!(said("dev = 'maybe'", &[], &[]), @r#"DIR/convoke.toml: `dev` is wrong: invalid type: string "maybe", expected a boolean"#);
        insta::assert_snapshot!(said("dev = \n", &[], &[]), @"DIR/convoke.toml is not TOML: line 1: string values must be quoted, expected literal string");
        insta::assert_snapshot!(said("", &[("CONVOKE_NOTIFY_TIMEOUT", "soon")], &[]), @"CONVOKE_NOTIFY_TIMEOUT: `notify.timeout` is wrong: `soon` is not a span of time; write 300ms, 10s, 10min, 1h or 7d");
        insta::assert_snapshot!(said("[sip]\nsession_expires = '30s'", &[], &[]), @"`sip.session_expires` is wrong: is 0s, or between 90s and 24h");
        insta::assert_snapshot!(said("", &[], &[("rtp.port", "1-2")]), @"--set: there is no setting `rtp.port`; did you mean `rtp.ports`?");
        insta::assert_snapshot!(said("[http]\nkey = 'k.pem'", &[], &[]), @"`http.certificate` is wrong: set both http.certificate and http.key, or neither");
    }

    #[test]
    fn a_stranger_among_the_variables_is_a_warning() {
        let loaded = with("", &[("CONVOKE_PORT_8443_TCP", "tcp://10.0.0.1:8443")], &[]).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.warnings.len(), 1);
    }
}
