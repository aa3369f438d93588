//! What the settings are, told to people: the reference and the example file, made from the types themselves.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::Config;

/// One key as `config.rs` declares it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// As in `notify.timeout`.
    pub(super) path: String,
    /// The Rust type, without `Option`.
    pub(super) kind: String,
    /// Whether it may be left unset.
    pub(super) optional: bool,
    pub(super) doc: String,
    /// `None` where nothing is set by default.
    pub(super) default: Option<Value>,
}

/// `docs/configuration.md`: every key, its type, its default and the reason to change it.
pub fn document() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Made from `crates/server/src/config.rs`; a test keeps it current.\n\n\
         Every key has a default that works on a laptop. Settings are laid over one another in this order: defaults,\n\
         the file named by `--config` (TOML), environment variables, flags (`--set KEY=VALUE` sets any key). A key that\n\
         does not exist is refused. `convoke config show` prints what is in force and where it came from;\n\
         `convoke config check` only says whether it is right.\n\n\
         Spans of time are written `300ms`, `10s`, `10min`, `1h`, `7d`; lists in an environment variable are\n\
         separated by commas.\n",
    );
    let mut section = None;
    for key in keys() {
        let name = key.path.rsplit_once('.').map_or("", |(section, _)| section);
        if section.as_deref() != Some(name) {
            let (title, about) = match name {
                "" => ("Everything", String::new()),
                _ => (name, about(name)),
            };
            let _ = write!(text, "\n## {title}\n\n");
            if !about.is_empty() {
                let _ = write!(text, "{about}\n\n");
            }
            text.push_str("| key | type | default | environment |\n| --- | --- | --- | --- |\n");
            for each in keys().iter().filter(|each| each.path.rsplit_once('.').map_or("", |(s, _)| s) == name) {
                let default = each.default.as_ref().map_or_else(|| "unset".to_owned(), |value| format!("`{value}`"));
                let _ = writeln!(
                    text,
                    "| `{}` | {} | {default} | `{}` |",
                    each.path,
                    spoken(&each.kind),
                    environment_name(&each.path)
                );
            }
            text.push('\n');
            section = Some(name.to_owned());
        }
        let _ = writeln!(text, "- **`{}`**: {}", key.path, key.doc);
    }
    text
}

/// The example `convoke.toml`: every key at its default, so that loading it changes nothing.
pub fn example() -> String {
    let mut text = String::from(
        "# The settings of convoke, all at their defaults. Keep the lines you change and delete the rest.\n\
         # See docs/configuration.md; start with: convoke serve --config convoke.toml\n",
    );
    let mut section = String::new();
    for key in keys() {
        let (name, last) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        if name != section {
            let _ = write!(text, "\n[{name}]\n");
            name.clone_into(&mut section);
        }
        text.push('\n');
        for line in wrapped(&key.doc, 110) {
            let _ = writeln!(text, "# {line}");
        }
        match &key.default {
            Some(value) => {
                let _ = writeln!(text, "{last} = {value}");
            }
            None => {
                let _ = writeln!(text, "# {last} = …");
            }
        }
    }
    text
}

/// `notify.retry_for` is `CONVOKE_NOTIFY_RETRY_FOR`.
pub(super) fn environment_name(path: &str) -> String {
    format!("CONVOKE_{}", path.replace('.', "_").to_uppercase())
}

/// Every key there is, in the order of `config.rs`.
pub(super) fn keys() -> Vec<Key> {
    let defaults = Value::try_from(Config::default()).expect("the defaults are plain TOML");
    let mut keys = Vec::new();
    collect("Config", "", &defaults, &mut keys);
    keys
}

/// This very tree, as text: where its documentation comments are.
const SOURCE: &str = include_str!("../config.rs");

fn collect(of: &str, prefix: &str, defaults: &Value, keys: &mut Vec<Key>) {
    let empty = Value::Table(Table::new());
    for (name, kind, doc) in fields(of) {
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        if doc.is_empty() {
            collect(kind, &path, defaults.get(name).unwrap_or(&empty), keys);
            continue;
        }
        let optional = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>'));
        keys.push(Key {
            path,
            kind: optional.unwrap_or(kind).to_owned(),
            optional: optional.is_some(),
            doc,
            default: defaults.get(name).cloned(),
        });
    }
}

/// Name, type and documentation of each field of a struct. A field without documentation is a section of its own.
fn fields(of: &str) -> Vec<(&'static str, &'static str, String)> {
    let mut doc = String::new();
    let mut found = Vec::new();
    for line in body(of).lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            if !doc.is_empty() {
                doc.push(' ');
            }
            doc.push_str(said.trim());
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|line| line.split_once(": ")) {
            found.push((name, kind.trim_end_matches(','), std::mem::take(&mut doc)));
        }
    }
    found
}

fn body(of: &str) -> &'static str {
    let opening = format!("pub struct {of} {{");
    let (_, rest) = SOURCE.split_once(&opening).expect("every section is a struct of config.rs");
    rest.split_once("\n}").expect("a struct ends").0
}

/// The documentation of a section's struct.
fn about(section: &str) -> String {
    let (_, kind, _) =
        fields("Config").into_iter().find(|(name, ..)| *name == section).expect("every section is a field of Config");
    let opening = format!("pub struct {kind} {{");
    let (before, _) = SOURCE.split_once(&opening).expect("every section is a struct of config.rs");
    let mut lines: Vec<&str> = Vec::new();
    for line in before.lines().rev() {
        match line.strip_prefix("///") {
            Some(said) => lines.insert(0, said.trim()),
            None if line.starts_with("#[") => {}
            None => break,
        }
    }
    lines.join(" ")
}

fn spoken(kind: &str) -> &'static str {
    match kind {
        "bool" => "true or false",
        "u8" | "u16" | "u32" => "number",
        "Span" => "time",
        "PortRange" => "ports",
        "SocketAddr" => "address and port",
        "IpAddr" => "address",
        "PathBuf" => "path",
        "Vec<String>" => "list of text",
        "Vec<Network>" => "list of networks",
        _ => "text",
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_key_is_documented_and_the_generated_files_are_current() {
        let undocumented: Vec<_> = keys().into_iter().filter(|key| key.doc.len() < 20).map(|key| key.path).collect();
        assert!(undocumented.is_empty(), "{undocumented:?}");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (file, wanted) in [("docs/configuration.md", document()), ("convoke.toml", example())] {
            let path = root.join(file);
            if std::env::var_os("BLESS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &wanted).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == wanted, "{file} is stale: run `BLESS=1 cargo test -p server`");
        }
    }

    #[test]
    fn the_example_changes_nothing() {
        assert_eq!(toml::from_str::<Config>(&example()).unwrap(), Config::default());
    }

    #[test]
    fn the_keys_are_those_of_the_tree() {
        let paths: Vec<_> = keys().into_iter().map(|key| key.path).collect();
        for path in ["data", "dev", "http.listen", "sip.public_address", "notify.retry_for", "log.level"] {
            assert!(paths.iter().any(|each| each == path), "{path} in {paths:?}");
        }
    }
}
