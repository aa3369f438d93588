//! Taste that a machine can check: who may import whom, and what a source file must and must not hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may import whom: the crate, those of ours that it may import, and what it may not import of the outside.
const WALLS: [(&str, &[&str], &[&str]); 9] = [
    ("control", &[], PURE),
    ("graph", &[], PURE),
    ("sip", &[], PURE),
    ("media", &[], PURE),
    ("phone", &["sip", "media"], &["rusqlite", "axum", "reqwest"]),
    ("switch", &["control", "sip", "media"], &["rusqlite", "axum", "reqwest"]),
    ("store", &["control"], &["axum", "reqwest"]),
    ("engine", &["control", "store"], &["axum", "reqwest", "rusqlite"]),
    ("server", &["control", "engine", "graph", "media", "phone", "sip", "store", "switch"], &["rusqlite"]),
];

/// What a crate that only decides has no use for.
const PURE: &[&str] =
    &["tokio", "mio", "socket2", "rusqlite", "axum", "hyper", "reqwest", "getrandom", "rand", "tracing", "metrics"];

/// Left open. In two halves, so that this file does not accuse itself.
const OPEN_ENDS: [(&str, &str); 5] =
    [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("todo", "!("), ("unimplemented", "!(")];

/// Where operators read what each figure of `/metrics` means.
const FIGURES: &str = "docs/operating.md";

/// Longer than this, a file tells two stories.
const LINES_MAX: usize = 1000;

pub(crate) fn tidy(root: &Path) -> Result<()> {
    let mut complaints = walls(root)?;
    let explained = fs::read_to_string(root.join(FIGURES))?;
    for file in sources(root)? {
        complaints.extend(read(root, &file, &explained)?);
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    if complaints.is_empty() {
        println!("tidy");
        return Ok(());
    }
    bail!("{} complaints", complaints.len())
}

fn walls(root: &Path) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let ours: BTreeSet<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let mut complaints = Vec::new();
    for (name, may, never) in WALLS {
        let Some(package) = metadata.packages.iter().find(|package| package.name.as_str() == name) else {
            complaints.push(format!("there is no crate {name}, but the wall table has it"));
            continue;
        };
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        for dependency in normal {
            let dependency = dependency.name.as_str();
            if ours.contains(dependency) && !may.contains(&dependency) {
                complaints.push(format!("{name} may not import {dependency}"));
            }
            if never.contains(&dependency) {
                complaints.push(format!("{name} may not import {dependency}: it is on the other side of the wall"));
            }
        }
    }
    Ok(complaints)
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = ["crates", "fuzz", "sim", "xtask"].map(|folder| root.join(folder)).to_vec();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(root: &Path, file: &Path, explained: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let name = file.strip_prefix(root)?.display();
    let mut complaints = Vec::new();
    if !text.starts_with("//!") && !text.starts_with("#!") {
        complaints.push(format!("{name}:1: the first line says what story the file tells (//!)"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{name}: {lines} lines; is there a second story inside?"));
    }
    for (number, line) in text.lines().enumerate() {
        for (one, two) in OPEN_ENDS {
            if line.contains(&format!("{one}{two}")) {
                complaints.push(format!("{name}:{}: left open: {one}{two}", number + 1));
            }
        }
        if line.contains(concat!("#[", "ignore")) {
            complaints.push(format!("{name}:{}: a test that is not run holds nothing", number + 1));
        }
        let figures =
            line.split('"').filter(|text| text.starts_with("convoke_") && line.contains(&format!("!(\"{text}")));
        for figure in figures.filter(|figure| !explained.contains(&format!("`{figure}"))) {
            complaints.push(format!("{name}:{}: {FIGURES} does not say what {figure} is", number + 1));
        }
    }
    Ok(complaints)
}
