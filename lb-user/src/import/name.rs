//! Names as a configuration has them.

use std::collections::BTreeSet;

/// Longest name.
const LONGEST: usize = 63;

/// The names of one kind so far, each once.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A name like `text`, or like `otherwise` where nothing is left of it, that nothing else has.
    pub(super) fn unique(&mut self, text: &str, otherwise: &str) -> String {
        let name = like(text);
        let name = if name.is_empty() { otherwise.to_owned() } else { name };
        let more = (2_u64..).map(|number| {
            let suffix = format!("-{number}");
            let length = name.len().min(LONGEST - suffix.len());
            format!("{}{suffix}", &name[..length])
        });
        let free = [name.clone()].into_iter().chain(more).find(|name| !self.0.contains(name)).unwrap_or(name);
        self.0.insert(free.clone());
        free
    }
}

/// `[a-z0-9][a-z0-9.-]*`; ASCII, so that it may be cut anywhere.
fn like(text: &str) -> String {
    let good = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '.' | '-') => c,
        _ => '-',
    };
    let name: String = text.chars().map(good).collect();
    let name = name.trim_start_matches(['-', '.']);
    name[..name.len().min(LONGEST)].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_and_are_given_once() {
        let mut names = Names::default();
        assert_eq!(names.unique("VI_1", "x"), "vi-1");
        assert_eq!(names.unique("vi-1", "x"), "vi-1-2");
        assert_eq!(names.unique("Master.1", "x"), "master.1");
        assert_eq!(names.unique("__", "x"), "x");
        assert_eq!(names.unique("größe", "x"), "gr--e");
        let long = "a".repeat(80);
        assert_eq!(names.unique(&long, "x").len(), 63);
        assert_eq!(names.unique(&long, "x").len(), 63);
    }
}
