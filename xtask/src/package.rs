//! The Debian package: what goes into it beside the binary, and cargo-deb.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::step::{command, run_quietly, say};
use crate::tool::Tool;

/// Without its own xz: there is one wherever Debian packages are made.
pub(crate) const CARGO_DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0", options: &["--no-default-features"] };

/// What to pack.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A release/xvip of a target directory; without it, target/release/xvip is built
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Options {
    /// To pack this one.
    pub(crate) fn of(binary: PathBuf) -> Self {
        Self { binary: Some(binary) }
    }
}

/// Builds target/debian/xvip_VERSION_ARCHITECTURE.deb of an ordinary build.
pub(crate) fn package(options: &Options) -> anyhow::Result<PathBuf> {
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => crate::run::build()?,
    };
    debian(&binary, &crate::workspace().join("target/debian"), epoch()?)
}

/// Packs `binary`, which is release/xvip of some target directory, into `directory`. The files in it are of `epoch`, in seconds
/// since 1970.
pub(crate) fn debian(binary: &Path, directory: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let package = pack(binary, directory, epoch)?;
    let mut lintian = command("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags", "initial-upload-closes-no-bugs"]);
    run_quietly("lintian", lintian.arg(&package))?;
    say(&package.display().to_string());
    Ok(package)
}

/// Fails unless `package`, and the archive of a release, come out the same when they are packed anew.
pub(crate) fn same_again(binary: &Path, package: &Path) -> anyhow::Result<()> {
    say("The package and the archive, packed again");
    let (directory, epoch) = (crate::workspace().join("target/again"), epoch()?);
    // cargo-deb removes what it has packed before, wherever it puts the next one.
    let first = fs::read(package).with_context(|| package.display().to_string())?;
    let again = pack(binary, &directory, epoch)?;
    fs::write(package, &first).with_context(|| package.display().to_string())?;
    same(&first, &again)?;
    let first = fs::read(crate::dist::archive(binary, &directory, epoch)?)?;
    same(&first, &crate::dist::archive(binary, &directory, epoch)?)?;
    fs::remove_dir_all(directory).map_err(Into::into)
}

fn same(first: &[u8], again: &Path) -> anyhow::Result<()> {
    if fs::read(again)? == first {
        return Ok(());
    }
    let kept = again.with_extension("first");
    fs::write(&kept, first)?;
    bail!("{} and {} are not the same; `diffoscope` tells in what", kept.display(), again.display())
}

fn pack(binary: &Path, directory: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let build = binary.parent().and_then(Path::parent).filter(|_| binary.ends_with("release/xvip"));
    let build = build.with_context(|| format!("{} is not release/xvip of a target directory", binary.display()))?;
    crate::setup::packaging_programs()?;
    let version = version_of_changelog()?;
    stage(binary)?;
    let program = CARGO_DEB.program()?;
    let package = directory.join(format!("xvip_{version}_amd64.deb"));
    fs::create_dir_all(directory)?;
    let mut deb = command(program);
    deb.current_dir(crate::workspace().join("lb-user"));
    deb.args(["deb", "--package", "xvip", "--no-build", "--no-strip", "--deb-version", &version, "--output"]);
    deb.arg(&package).env("CARGO_TARGET_DIR", build).env("SOURCE_DATE_EPOCH", epoch.to_string());
    // xz cuts what it compresses differently by the number of processors.
    deb.env("XZ_OPT", "--threads=1").env_remove("XZ_DEFAULTS").env("LC_ALL", "C");
    run_quietly("packing", &mut deb)?;
    Ok(package)
}

/// Writes what is made of the binary and of files that differ in a package.
pub(crate) fn stage(binary: &Path) -> anyhow::Result<PathBuf> {
    let stage = crate::workspace().join("target/package");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let (man, completions) = (stage.join("man"), stage.join("completions"));
    fs::create_dir_all(&completions)?;
    run_quietly("manual pages", command(binary).arg("man-pages").arg(&man))?;
    for (shell, file) in [("bash", "xvip.bash"), ("fish", "xvip.fish"), ("zsh", "_xvip")] {
        let output = command(binary).args(["completions", shell]).output()?;
        if !output.status.success() {
            bail!("`xvip completions {shell}` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        fs::write(completions.join(file), output.stdout)?;
    }
    crate::notices::write(&stage)?;
    let unit = crate::workspace().join("config/xvip.service");
    let unit = fs::read_to_string(&unit).with_context(|| unit.display().to_string())?;
    // What an administrator installs by hand is below /usr/local, what a package brings is not.
    fs::write(stage.join("xvip.service"), unit.replace("/usr/local/bin/", "/usr/bin/"))?;
    Ok(stage)
}

/// The version that the changelog of the package begins with, which has to be the workspace's.
fn version_of_changelog() -> anyhow::Result<String> {
    let path = crate::workspace().join("config/debian/changelog");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let version = text.split(['(', ')']).nth(1).unwrap_or_default();
    let own = env!("CARGO_PKG_VERSION");
    if version.rsplit_once('-').map(|(upstream, _)| upstream) != Some(own) {
        bail!("{} begins with version {version:?}, the workspace is at {own}: add an entry", path.display());
    }
    Ok(version.to_owned())
}

/// The time of all files in what is packed: that of the source, or where nobody knows it, of the package's changelog.
fn epoch() -> anyhow::Result<u64> {
    match epoch_of_source()? {
        Some(epoch) => Ok(epoch),
        None => epoch_of_changelog(&fs::read_to_string(crate::workspace().join("config/debian/changelog"))?),
    }
}

/// SOURCE_DATE_EPOCH, else the time of the commit; `None` where there is no git, or this is no repository.
pub(crate) fn epoch_of_source() -> anyhow::Result<Option<u64>> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().map(Some).with_context(|| format!("SOURCE_DATE_EPOCH={text} is no number of seconds"));
    }
    let time = git(&["log", "-1", "--format=%ct"]);
    time.map(|text| text.trim().parse().context("git does not say when the commit was made")).transpose()
}

/// What git says of the workspace, whoever owns it.
pub(crate) fn git(words: &[&str]) -> Option<String> {
    let mut git = command("git");
    git.arg("-c").arg(format!("safe.directory={}", crate::workspace().display())).args(words);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The time of its newest entry, which ends with ` -- NAME <ADDRESS>  TIME`.
fn epoch_of_changelog(text: &str) -> anyhow::Result<u64> {
    let time = text.lines().find_map(|line| line.strip_prefix(" -- ")?.split_once(">  "));
    let (_, time) = time.context("config/debian/changelog has no entry with a time")?;
    let output = command("date").args(["--utc", "+%s", "--date", time]).output().context("date did not start")?;
    let seconds = String::from_utf8_lossy(&output.stdout);
    seconds.trim().parse().with_context(|| format!("config/debian/changelog: {time:?} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_newest_entry() {
        let entry = |time: &str| {
            format!("xvip (1-1) unstable; urgency=medium\n\n  * It.\n\n -- We <we@example.com>  {time}\n\n")
        };
        let changelog = entry("Sun, 22 Nov 2026 12:00:00 +0000") + &entry("Sat, 21 Nov 2026 12:00:00 +0000");
        assert_eq!(epoch_of_changelog(&changelog).unwrap(), 1_795_348_800);
        assert!(epoch_of_changelog(&entry("soon")).is_err());
        let own = fs::read_to_string(crate::workspace().join("config/debian/changelog")).unwrap();
        assert!(epoch_of_changelog(&own).is_ok());
    }
}
