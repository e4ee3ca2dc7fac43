//! The Markdown files as tests read them: blocks of code with what stands behind their language, links, and anchors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{CodeBlockKind, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};

/// A fenced block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Anchor of the chapter (heading of the second level) that it stands in; empty before the first.
    pub chapter: String,
    /// Line of its first fence, from 1.
    pub line: usize,
    /// First word behind the fence; empty where there is none.
    pub language: String,
    /// The other words there, which readers do not see.
    pub marks: Vec<String>,
    /// What is between the fences.
    pub text: String,
}

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its blocks of code, in their order.
    pub blocks: Vec<Block>,
    /// Where links and pictures lead, with their lines.
    pub links: Vec<(usize, String)>,
    /// What may stand behind # in a link to it.
    pub anchors: BTreeSet<String>,
    /// Words in the font of code within the text, with their lines.
    pub codes: Vec<(usize, String)>,
}

/// Top of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads a file, named from the top of the repository.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<Page> {
    let path = root().join(path);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(parse(&text))
}

/// Reads Markdown with tables, as GitHub shows it.
#[must_use]
pub fn parse(text: &str) -> Page {
    let mut page = Page::default();
    let mut slugs: BTreeMap<String, usize> = BTreeMap::new();
    // The text of a heading or of a block while it is open.
    let mut heading: Option<String> = None;
    let mut chapter = String::new();
    let mut block: Option<Block> = None;
    for (event, place) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        let line = || text.get(..place.start).unwrap_or_default().matches('\n').count() + 1;
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let mut words = info.split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                let (chapter, line, marks) = (chapter.clone(), line(), words.collect());
                block = Some(Block { chapter, line, language, marks, text: String::new() });
            }
            Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(level)) => {
                let slug = slug(&heading.take().unwrap_or_default());
                let times = slugs.entry(slug.clone()).or_default();
                let anchor = if *times == 0 { slug } else { format!("{slug}-{times}") };
                *times += 1;
                if level == HeadingLevel::H2 {
                    chapter.clone_from(&anchor);
                }
                page.anchors.insert(anchor);
            }
            Event::Start(Tag::Link { link_type, dest_url, .. }) if link_type != LinkType::Email => {
                page.links.push((line(), dest_url.into_string()));
            }
            Event::Start(Tag::Image { dest_url, .. }) => page.links.push((line(), dest_url.into_string())),
            Event::Html(html) | Event::InlineHtml(html) => {
                let sources = attributes(&html).map(|at| (line(), at)).collect::<Vec<_>>();
                page.links.extend(sources);
            }
            Event::Text(text) => append(&mut heading, &mut block, &text),
            Event::Code(text) => {
                append(&mut heading, &mut block, &text);
                page.codes.push((line(), text.into_string()));
            }
            _ => {}
        }
    }
    page
}

fn append(heading: &mut Option<String>, block: &mut Option<Block>, text: &CowStr<'_>) {
    if let Some(heading) = heading {
        heading.push_str(text);
    }
    if let Some(block) = block {
        block.text.push_str(text);
    }
}

/// What `src`, `srcset` and `href` of HTML name.
fn attributes(html: &str) -> impl Iterator<Item = String> {
    let names = [" src=\"", " srcset=\"", " href=\""];
    names
        .into_iter()
        .flat_map(|name| html.split(name).skip(1))
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
}

/// As GitHub makes the anchor of a heading: letters in lower case, digits, _ and -, and - for a blank.
fn slug(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '))
        .collect::<String>();
    kept.replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_links_and_anchors_are_found() {
        let text = "# A `b`, c\n\n[x](y.md#z) and `[no](link)`\n\n```sh lb1 lb2\nls\n```\n\n## Same\n\n![p](p.svg)\n\n## Same\n\
                    \n| a |\n| --- |\n| [t](u.md) |\n\n<img src=\"q.svg\" alt=\"\">\n\n```\n[no](link)\n```\n";
        let page = parse(text);
        let links: Vec<_> = page.links.iter().map(|(line, to)| (*line, to.as_str())).collect();
        assert_eq!(links, [(3, "y.md#z"), (11, "p.svg"), (17, "u.md"), (19, "q.svg")]);
        assert_eq!(page.anchors, ["a-b-c", "same", "same-1"].map(str::to_owned).into());
        let [first, second] = page.blocks.as_slice() else { panic!("{page:?}") };
        assert_eq!((first.line, first.language.as_str(), first.text.as_str()), (5, "sh", "ls\n"));
        assert_eq!(
            (first.chapter.as_str(), first.marks.as_slice()),
            ("", ["lb1", "lb2"].map(str::to_owned).as_slice())
        );
        assert_eq!((second.chapter.as_str(), second.language.as_str(), second.marks.len()), ("same-1", "", 0));
    }
}
