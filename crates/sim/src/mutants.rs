//! One-line sabotages, each of which some scenario must catch: patches applied to a scratch copy that is built and run.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Asked;

/// The crates that are copied.
const CRATES: [&str; 5] = ["core", "wire", "node", "store", "sim"];
/// Seeds that are run at once, and how often at most, until a mutant is caught.
const SEEDS: u64 = 100;
const ROUNDS: u64 = 10;

/// A patch, and the invariant that its first line names.
struct Mutant {
    name: String,
    file: PathBuf,
    caught_by: String,
}

struct Scratch {
    root: PathBuf,
    scratch: PathBuf,
    target: PathBuf,
}

/// All of them, or the one that is asked for. True if the copy without any passes, and each with one does not.
pub fn all(asked: &Asked) -> bool {
    let (mut passed, mut failed) = (0, 0);
    let mut tell = |name: &str, outcome: Result<String, String>| match outcome {
        Ok(how) => {
            passed += 1;
            println!("  {name}: {how}");
        }
        Err(why) => {
            failed += 1;
            println!("  {name}: NOT CAUGHT: {why}");
        }
    };
    match Scratch::find().and_then(|scratch| Ok((scratch.mutants()?, scratch))) {
        Err(fault) => tell("the scratch copy", Err(fault.to_string())),
        Ok((mutants, scratch)) => {
            tell("nothing changed", scratch.is_sound());
            let chosen =
                mutants.iter().filter(|one| asked.only.as_ref().is_none_or(|only| *only == one.name));
            for mutant in chosen {
                tell(&mutant.name, scratch.hunt(mutant));
            }
        }
    }
    println!("mutants: {passed} passed, {failed} failed");
    failed == 0 && passed > 1
}

impl Scratch {
    fn find() -> io::Result<Scratch> {
        let here = std::env::current_dir()?;
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = [here, built].into_iter().find(|root| root.join("crates/sim/mutants").is_dir());
        let root = root.ok_or_else(|| io::Error::other("there is no crates/sim/mutants here"))?;
        let beside = std::env::current_exe()?;
        let target = beside.parent().and_then(Path::parent).unwrap_or(Path::new(".")).join("mutants");
        Ok(Scratch { root, scratch: target.join("copy"), target })
    }

    fn mutants(&self) -> io::Result<Vec<Mutant>> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.root.join("crates/sim/mutants"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
            .collect();
        files.sort();
        let read = |file: PathBuf| {
            let text = fs::read_to_string(&file)?;
            let first = text.lines().next().unwrap_or_default();
            // `I3 true ack: an acknowledgement …`
            let caught_by = first.split(':').next().unwrap_or_default().to_owned();
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Mutant { name, file, caught_by })
        };
        files.into_iter().map(read).collect()
    }

    /// The copy without any mutant passes what is to catch them.
    fn is_sound(&self) -> Result<String, String> {
        self.copy().map_err(|fault| fault.to_string())?;
        self.build()?;
        match self.broken(0).first() {
            Some(what) => Err(format!("the copy as it is breaks: {what}")),
            None => Ok(format!("{SEEDS} seeds pass")),
        }
    }

    fn hunt(&self, mutant: &Mutant) -> Result<String, String> {
        self.copy().map_err(|fault| fault.to_string())?;
        let patch = fs::File::open(&mutant.file).map_err(|fault| fault.to_string())?;
        let applied = Command::new("patch")
            .args(["-p1", "--silent", "--forward", "--no-backup-if-mismatch"])
            .current_dir(&self.scratch)
            .stdin(patch)
            .output()
            .map_err(|fault| format!("patch cannot be run: {fault}"))?;
        if !applied.status.success() {
            return Err(format!("it no longer applies: {}", String::from_utf8_lossy(&applied.stdout)));
        }
        self.build()?;
        let mut others = BTreeSet::new();
        for round in 0..ROUNDS {
            for what in self.broken(round * SEEDS) {
                let by = what.split(':').next().unwrap_or_default().to_owned();
                if by == mutant.caught_by {
                    return Ok(format!("caught within {} seeds: {what}", (round + 1) * SEEDS));
                }
                others.insert(by);
            }
        }
        Err(format!("not by {} within {} seeds; by {others:?}", mutant.caught_by, ROUNDS * SEEDS))
    }

    /// Brings the copy to what the workspace is. Files that are the same already are left alone, so that little is built.
    fn copy(&self) -> io::Result<()> {
        fs::create_dir_all(&self.scratch)?;
        let manifest = fs::read_to_string(self.root.join("Cargo.toml"))?;
        let members: Vec<String> = CRATES.iter().map(|name| format!("\"crates/{name}\"")).collect();
        let lines =
            manifest.lines().filter(|line| !line.starts_with("default-members")).map(|line| {
                match line.starts_with("members") {
                    true => format!("members = [{}]\n", members.join(", ")),
                    false => format!("{line}\n"),
                }
            });
        put(&self.scratch.join("Cargo.toml"), lines.collect::<String>().as_bytes())?;
        put(&self.scratch.join("Cargo.lock"), &fs::read(self.root.join("Cargo.lock"))?)?;
        for name in CRATES {
            mirror(&self.root.join("crates").join(name), &self.scratch.join("crates").join(name))?;
        }
        Ok(())
    }

    fn build(&self) -> Result<(), String> {
        let built = Command::new("cargo")
            .args(["build", "--offline", "--quiet", "-p", "fireside-sim", "--profile", "ci"])
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.scratch)
            .stdout(Stdio::null())
            .output()
            .map_err(|fault| format!("cargo cannot be run: {fault}"))?;
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        if built.status.success() { Ok(()) } else { Err(format!("it does not build: {said}")) }
    }

    /// What breaks in some seeds, in the words of the checker.
    fn broken(&self, from: u64) -> Vec<String> {
        let ran = Command::new(self.target.join("ci/fireside-sim"))
            .args(["--seeds", &SEEDS.to_string(), "--from", &from.to_string()])
            .output();
        let told = match ran {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(fault) => return vec![format!("it cannot be run: {fault}")],
        };
        if !told.contains("\nsim: ") {
            return vec!["it did not come to its end".to_owned()];
        }
        told.lines().filter_map(|line| line.trim_start().strip_prefix("BROKEN ")).map(str::to_owned).collect()
    }
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::read(path) {
        Ok(known) if known == content => Ok(()),
        _ => fs::write(path, content),
    }
}

/// Makes `to` the same as `from`.
fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        names.insert(entry.file_name());
        if entry.file_type()?.is_dir() {
            mirror(&entry.path(), &target)?;
        } else {
            put(&target, &fs::read(entry.path())?)?;
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
