//! The notices that the licences of what is linked into the program want to be passed on with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::step::command;

/// What the files are called wherever they are put: of the libraries, and of Rust's own.
pub(crate) const FILES: [&str; 2] = ["third-party-notices.txt", "rust-library-notices.html"];
/// Where rustup has the latter.
const STANDARD_LIBRARY: &str = "share/doc/rust/COPYRIGHT-library.html";
/// Beginnings of the names of files with licences and notices, in small letters.
const NAMES: [&str; 6] = ["licens", "licenc", "copying", "copyright", "notice", "unlicense"];

/// A library and where its source is.
struct Library {
    name: String,
    version: String,
    licence: String,
    repository: Option<String>,
    directory: PathBuf,
}

/// Texts by the names of their files.
type Texts = BTreeMap<String, String>;

/// Writes both files into a directory.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    let mut libraries = libraries()?
        .into_iter()
        .map(|library| {
            let texts = texts(&library.directory).with_context(|| library.directory.display().to_string())?;
            Ok((library, texts))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    lend(&mut libraries)?;
    let [own, rust] = FILES.map(|file| directory.join(file));
    fs::write(own, book(&libraries))?;

    let sysroot = command("rustc").args(["--print", "sysroot"]).output().context("rustc did not start")?;
    let from = Path::new(String::from_utf8_lossy(&sysroot.stdout).trim()).join(STANDARD_LIBRARY);
    fs::copy(&from, rust).with_context(|| format!("{}: a tool chain of rustup has it", from.display()))?;
    Ok(())
}

/// All that is linked and not of this workspace, by name.
fn libraries() -> anyhow::Result<Vec<Library>> {
    let mut linked = crate::bill::libraries()?;
    let metadata = crate::bill::metadata(&["--all-features"])?;
    let mut libraries = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let (Some(name), Some(version), Some(manifest)) = (text("name"), text("version"), text("manifest_path")) else {
            bail!("cargo metadata has a package without a name, a version or a place");
        };
        let id = (name, version);
        if !linked.remove(&id) || package["source"].is_null() {
            continue;
        }
        let (name, version) = id;
        let directory = Path::new(&manifest).parent().unwrap_or(Path::new("/")).to_owned();
        let (licence, repository) = (text("license").unwrap_or_default(), text("repository"));
        libraries.push(Library { name, version, licence, repository, directory });
    }
    if !linked.is_empty() {
        bail!("cargo metadata does not have what is linked: {linked:?}");
    }
    libraries.sort_by_cached_key(|library| (library.name.clone(), library.version.clone()));
    Ok(libraries)
}

/// The licences and notices in a directory, by the names of their files.
fn texts(directory: &Path) -> io::Result<Texts> {
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let small = name.to_lowercase();
        if NAMES.iter().any(|beginning| small.starts_with(beginning)) && entry.path().is_file() {
            let text = String::from_utf8_lossy(&fs::read(entry.path())?).replace('\r', "");
            texts.insert(name, text.trim_end().to_owned());
        }
    }
    Ok(texts)
}

/// Some are published without a text, which another library of the same repository and licence has.
fn lend(libraries: &mut [(Library, Texts)]) -> anyhow::Result<()> {
    for index in 0..libraries.len() {
        let (library, texts) = &libraries[index];
        if !texts.is_empty() {
            continue;
        }
        let of = |library: &Library| (library.repository.clone(), library.licence.clone());
        let lender = libraries.iter().find(|(other, texts)| !texts.is_empty() && of(other) == of(library));
        let lent = lender.filter(|_| library.repository.is_some()).map(|(_, texts)| texts.clone());
        let lent = lent.with_context(|| format!("{} {} is without its licence's text", library.name, library.version));
        libraries[index].1 = lent?;
    }
    Ok(())
}

/// First who is under what licence, then each text once, with whose it is.
fn book(libraries: &[(Library, Texts)]) -> String {
    let mut book = format!(
        "xvip {} contains the libraries below, each under one of the licences named beside it. Rust's standard library, whose\n\
         notices are in rust-library-notices.html, is under MIT or Apache-2.0.\n\n",
        env!("CARGO_PKG_VERSION")
    );
    // By the words alone: many copies of one licence differ in their margins.
    let mut sections: BTreeMap<String, (Vec<String>, &str)> = BTreeMap::new();
    let mut order = Vec::new();
    for (library, texts) in libraries {
        let id = format!("{} {}", library.name, library.version);
        _ = writeln!(book, "  {id}: {}", library.licence);
        for (file, text) in texts {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let (owners, _) = sections.entry(words.clone()).or_insert_with(|| {
                order.push(words);
                (Vec::new(), text)
            });
            owners.push(format!("{id} ({file})"));
        }
    }
    for (owners, text) in order.iter().filter_map(|words| sections.get(words)) {
        _ = write!(book, "\n{}\n{}\n\n{text}\n", "-".repeat(80), owners.join("\n"));
    }
    book
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, texts: &[(&str, &str)]) -> (Library, Texts) {
        let text = |text: &str| text.to_owned();
        let own = Library {
            name: text(name),
            version: text("1.0.0"),
            licence: text("MIT"),
            repository: Some(text("https://example.com/r")),
            directory: PathBuf::new(),
        };
        (own, texts.iter().map(|(file, content)| (text(file), text(content))).collect())
    }

    #[test]
    fn a_text_is_there_once_with_all_whose_it_is() {
        let book = book(&[
            library("a", &[("LICENSE", "Permission is\n    granted"), ("NOTICE", "By A")]),
            library("b", &[("LICENSE.md", "Permission is granted")]),
        ]);
        assert_eq!(book.matches("granted").count(), 1, "{book}");
        assert!(book.contains("a 1.0.0 (LICENSE)\nb 1.0.0 (LICENSE.md)\n\nPermission"), "{book}");
        assert!(book.contains("a 1.0.0 (NOTICE)\n\nBy A\n"), "{book}");
    }

    #[test]
    fn a_repository_is_under_one_text() {
        let mut both = [library("a", &[]), library("b", &[("LICENSE", "Permission")])];
        lend(&mut both).unwrap();
        assert_eq!(both[0].1, both[1].1);
        let (mut other, _) = library("c", &[]);
        other.licence = "ISC".to_owned();
        let [_, lender] = both;
        assert!(lend(&mut [(other, Texts::new()), lender]).is_err());
    }

    #[test]
    fn every_linked_library_has_its_text() {
        let directory = std::env::temp_dir().join(format!("xvip-notices-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let written = write(&directory);
        let book = fs::read_to_string(directory.join(FILES[0]));
        fs::remove_dir_all(&directory).unwrap();
        written.unwrap();
        let book = book.unwrap();
        // One of the agent, one of the kernel side alone; and none that is only there to build.
        for linked in ["\n  rustls ", "\n  aya-ebpf "] {
            assert!(book.contains(linked), "{linked}");
        }
        assert!(!book.contains("\n  proptest ") && !book.contains("\n  xvip "));
    }
}
