//! The bill of materials of a release: what is linked into it, with versions, checksums and licences, in CycloneDX's JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::step::{cargo, command, run_quietly};
use crate::tool::Tool;

pub(crate) const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9", options: &[] };

/// What cargo builds the two parts of the program with.
const AGENT: [&str; 4] = ["--package", "xvip", "--target", "x86_64-unknown-linux-gnu"];
const DATAPATH: [&str; 7] =
    ["--package", "lb-ebpf", "--no-default-features", "--features", "kernel", "--target", ebpf_toolchain::TARGET];

/// Name and version of a library.
pub(crate) type Library = (String, String);

/// Writes it; its time is `epoch`, in seconds since 1970.
pub(crate) fn write(to: &Path, epoch: u64) -> anyhow::Result<()> {
    let mut bill = everything(epoch)?;
    reduce(&mut bill, &libraries()?)?;
    fs::write(to, format!("{bill:#}\n")).with_context(|| to.display().to_string())
}

/// All that is linked into the program, its own packages among them.
pub(crate) fn libraries() -> anyhow::Result<BTreeSet<Library>> {
    let (mut all, datapath) = (linked(&AGENT)?, linked(&DATAPATH)?);
    all.extend(datapath);
    Ok(all)
}

/// What cargo links for a choice of package, features and target: neither tests, nor what runs while others are compiled.
fn linked(choice: &[&str]) -> anyhow::Result<BTreeSet<Library>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    let output = tree.args(choice).stderr(Stdio::inherit()).output().context("cargo did not start")?;
    if !output.status.success() {
        bail!("`cargo tree` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(library).collect())
}

/// Of a line such as `aya v0.14.0 (*)`.
fn library(line: &str) -> Option<Library> {
    let mut words = line.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((name.to_owned(), version.to_owned()))
}

/// All that the agent may be made of, with whatever features.
fn everything(epoch: u64) -> anyhow::Result<Value> {
    const FILE: &str = "xvip-sbom";
    let mut tool = command(CYCLONEDX.program()?);
    tool.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--manifest-path", "lb-user/Cargo.toml"]);
    tool.args(["--target", "x86_64-unknown-linux-gnu", "--no-build-deps", "--all-features"]);
    tool.args(["--override-filename", FILE]).env("SOURCE_DATE_EPOCH", epoch.to_string());
    run_quietly("cargo cyclonedx", &mut tool)?;
    // It writes beside the manifest of each package of the workspace.
    let metadata = metadata(&["--no-deps"])?;
    let mut written = None;
    for package in packages(&metadata) {
        let file = package.join(format!("{FILE}.json"));
        if package.ends_with("lb-user") {
            written = Some(fs::read_to_string(&file).with_context(|| file.display().to_string())?);
        }
        if file.exists() {
            fs::remove_file(&file)?;
        }
    }
    let text = written.context("cargo metadata has no package in lb-user")?;
    // Where the source was is nobody's business, and would differ from one build to the next.
    let mut text = text.replace(&crate::workspace().display().to_string(), ebpf_toolchain::SOURCE);
    for url in urls(&metadata) {
        text = text.replace(&url, ebpf_toolchain::SOURCE);
    }
    serde_json::from_str(&text).context("cargo cyclonedx wrote no JSON")
}

/// The directories of the workspace's packages.
fn packages(metadata: &Value) -> Vec<PathBuf> {
    let manifests = metadata["packages"].as_array().into_iter().flatten();
    manifests.filter_map(|package| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned())).collect()
}

/// The workspace as cargo names it within URLs, where a space is %20.
fn urls(metadata: &Value) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let url = |package: &Value| {
        let (directory, _) = package["id"].as_str()?.strip_prefix("path+file://")?.rsplit_once('#')?;
        let within = Path::new(package["manifest_path"].as_str()?).parent()?.strip_prefix(crate::workspace()).ok()?;
        directory.strip_suffix(&format!("/{}", within.display())).map(str::to_owned)
    };
    packages.filter_map(url).collect()
}

/// What cargo says of the workspace and of all that it depends on.
pub(crate) fn metadata(options: &[&str]) -> anyhow::Result<Value> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked"]).args(options);
    let output = metadata.stderr(Stdio::inherit()).output().context("cargo did not start")?;
    serde_json::from_slice(&output.stdout).context("cargo metadata wrote no JSON")
}

/// Leaves of `bill` what is linked, in an order of its own. Each library has to be there, with a licence.
fn reduce(bill: &mut Value, linked: &BTreeSet<Library>) -> anyhow::Result<()> {
    let id =
        |component: &Value| Some((component["name"].as_str()?.to_owned(), component["version"].as_str()?.to_owned()));
    let reference = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let program = &bill["metadata"]["component"];
    let mut found: BTreeSet<Library> = id(program).into_iter().collect();
    let mut references = BTreeSet::from([reference(&program["bom-ref"])]);

    let components = bill["components"].as_array_mut().context("the bill has no components")?;
    components.retain(|component| id(component).is_some_and(|id| linked.contains(&id)));
    components.sort_by_cached_key(id);
    for component in components {
        let (name, version) = id(component).unwrap_or_default();
        if component["licenses"].as_array().is_none_or(Vec::is_empty) {
            bail!("{name} {version} does not say its licence");
        }
        found.insert((name, version));
        references.insert(reference(&component["bom-ref"]));
    }
    let missing: Vec<_> = linked.difference(&found).map(|(name, version)| format!("{name} {version}")).collect();
    if !missing.is_empty() {
        bail!("the bill does not have what is linked: {}", missing.join(", "));
    }

    let dependencies = bill["dependencies"].as_array_mut().context("the bill has no dependencies")?;
    dependencies.retain(|dependency| references.contains(&reference(&dependency["ref"])));
    dependencies.sort_by_cached_key(|dependency| reference(&dependency["ref"]));
    for dependency in dependencies {
        if let Some(on) = dependency["dependsOn"].as_array_mut() {
            on.retain(|on| references.contains(&reference(on)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bill() -> Value {
        let component = |name: &str, licences: Value| json!({"name": name, "version": "1.0.0", "bom-ref": format!("ref-{name}"), "licenses": licences});
        let mit = || json!([{"expression": "MIT"}]);
        json!({
            "metadata": {"component": component("xvip", mit())},
            "components": [component("b", mit()), component("a", mit()), component("of-tests", mit())],
            "dependencies": [
                {"ref": "ref-xvip", "dependsOn": ["ref-a", "ref-of-tests"]},
                {"ref": "ref-of-tests", "dependsOn": ["ref-b"]},
                {"ref": "ref-a", "dependsOn": ["ref-b"]},
            ],
        })
    }

    fn libraries(names: &[&str]) -> BTreeSet<Library> {
        names.iter().filter_map(|name| library(&format!("{name} v1.0.0 (/some/where)"))).collect()
    }

    #[test]
    fn what_is_linked_is_left() {
        let mut bill = bill();
        reduce(&mut bill, &libraries(&["xvip", "a", "b"])).unwrap();
        let names: Vec<_> = bill["components"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            bill["dependencies"],
            json!([{"ref": "ref-a", "dependsOn": ["ref-b"]}, {"ref": "ref-xvip", "dependsOn": ["ref-a"]}])
        );
    }

    #[test]
    fn nothing_linked_is_missing_or_without_a_licence() {
        let fault = reduce(&mut bill(), &libraries(&["a", "gone"])).unwrap_err().to_string();
        assert!(fault.ends_with("gone 1.0.0"), "{fault}");
        let mut unlicensed = bill();
        unlicensed["components"][1]["licenses"] = json!([]);
        let fault = reduce(&mut unlicensed, &libraries(&["a"])).unwrap_err().to_string();
        assert!(fault.contains("a 1.0.0"), "{fault}");
    }

    #[test]
    fn the_workspace_has_another_name_in_urls() {
        let package = |name: &str| json!({"id": format!("path+file:///my%20source/{name}#{name}@1.0.0"), "manifest_path": crate::workspace().join(name).join("Cargo.toml")});
        let other = json!({"id": "registry+https://example.net#aya@1.0.0", "manifest_path": "/root/aya/Cargo.toml"});
        let urls = urls(&json!({"packages": [package("lb-ebpf"), package("lb-user/proto"), other]}));
        assert_eq!(urls, ["/my%20source".to_owned()].into());
    }

    #[test]
    fn both_parts_of_the_program_are_asked_about() {
        let (agent, datapath) = (linked(&AGENT).unwrap(), linked(&DATAPATH).unwrap());
        let has = |set: &BTreeSet<Library>, name: &str| set.iter().any(|(library, _)| library == name);
        assert!(has(&agent, "aya") && has(&agent, "xvip") && !has(&agent, "proptest") && !has(&agent, "serde_derive"));
        assert!(has(&datapath, "aya-ebpf") && !has(&datapath, "aya"));
    }
}
