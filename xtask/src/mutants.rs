//! Shows that the world bites: breaks the code on purpose, one way at a time, and expects the seeds to notice.
//!
//! Each file of `sim/mutations` says what is broken, where, and how. The sources are copied below `target/mutants`, the
//! copy is changed, built and played, and changed back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only those whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// So many seeds have to notice.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
}

/// One way to break the code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    /// A sentence.
    what: String,
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    file: PathBuf,
    /// Must be there exactly once.
    find: String,
    replace: String,
}

/// How a mutation went.
enum Fate {
    /// By the first law that was broken.
    Caught(String),
    Survived,
    /// The change does not fit, or does not compile: it shows nothing.
    Unfit(String),
}

pub(crate) fn mutants(root: &Path, options: &Options) -> Result<()> {
    let scratch = root.join("target/mutants");
    let tree = scratch.join("tree");
    copy(root, &tree)?;
    let mut mutations = read(&root.join("sim/mutations"))?;
    mutations.retain(|(name, _)| options.only.as_ref().is_none_or(|only| name.contains(only.as_str())));
    let world = World { tree, target: scratch.join("target"), seeds: options.seeds };
    if !world.build()?.status.success() {
        bail!("the unchanged copy does not build");
    }
    let unharmed = world.play()?;
    if !unharmed.status.success() {
        bail!("the unchanged copy breaks a law:\n{}", String::from_utf8_lossy(&unharmed.stdout));
    }
    let (mut caught, mut unfit) = (0, 0);
    for (name, mutation) in &mutations {
        let began = Instant::now();
        let line = match world.suffers(mutation)? {
            Fate::Caught(law) => {
                caught += 1;
                format!("caught    {law}")
            }
            Fate::Survived => "NOT CAUGHT".to_owned(),
            Fate::Unfit(why) => {
                unfit += 1;
                format!("UNFIT     {why}")
            }
        };
        println!("{name}: {} ({:.0} s)\n    {line}", mutation.what, began.elapsed().as_secs_f32());
    }
    println!("{caught} of {} mutations are caught, {unfit} do not fit", mutations.len());
    if caught == mutations.len() { Ok(()) } else { bail!("a mutation is not caught") }
}

struct World {
    tree: PathBuf,
    target: PathBuf,
    seeds: u64,
}

impl World {
    fn suffers(&self, mutation: &Mutation) -> Result<Fate> {
        let mut unchanged = Vec::new();
        let mut unfit = None;
        for change in &mutation.changes {
            let path = self.tree.join(&change.file);
            let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            if text.matches(&change.find).count() == 1 {
                fs::write(&path, text.replacen(&change.find, &change.replace, 1))?;
            } else {
                unfit = Some(format!("{} does not hold the text exactly once", change.file.display()));
            }
            unchanged.push((path, text));
        }
        let fate = match unfit {
            Some(why) => Ok(Fate::Unfit(why)),
            None => self.fate(),
        };
        // In reverse: two changes may be to the same file.
        for (path, text) in unchanged.iter().rev() {
            fs::write(path, text)?;
        }
        fate
    }

    fn fate(&self) -> Result<Fate> {
        let built = self.build()?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            let error = said.lines().find(|line| line.starts_with("error")).unwrap_or("it does not build");
            return Ok(Fate::Unfit(error.to_owned()));
        }
        let played = self.play()?;
        if played.status.success() {
            return Ok(Fate::Survived);
        }
        let said = String::from_utf8_lossy(&played.stdout).into_owned();
        let law = said.lines().find(|line| line.contains("BROKEN")).unwrap_or("it fell");
        Ok(Fate::Caught(law.chars().take(160).collect()))
    }

    fn build(&self) -> Result<Output> {
        let mut command = Command::new("cargo");
        command.args(["build", "--quiet", "-p", "sim"]).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        command.output().context("cannot run cargo")
    }

    fn play(&self) -> Result<Output> {
        let mut command = Command::new(self.target.join("debug/sim"));
        // What was found once is looked for first.
        command.arg("--kept").arg(self.tree.join("sim/seeds/found.txt"));
        command.args(["--seeds", &self.seeds.to_string(), "--first"]).output().context("cannot run the world")
    }
}

/// What git knows of, and what is new: as it lies in the work tree.
fn copy(root: &Path, tree: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    for name in String::from_utf8(listed.stdout)?.lines() {
        let (from, to) = (root.join(name), tree.join(name));
        let Ok(bytes) = fs::read(&from) else { continue };
        // What is the same stays, so that it is not built again.
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::write(&to, bytes)?;
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<(String, Mutation)>> {
    let mut mutations = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let text = fs::read_to_string(&path)?;
        let mutation = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        mutations.push((name, mutation));
    }
    mutations.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(mutations)
}
