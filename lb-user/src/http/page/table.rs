//! A table as the page has it: rows that a narrow screen shows as cards, and roles that say so to screen readers all the same.

use std::fmt::{self, Display, Write};

use super::text::Text;

/// A column: what its head says, and whether it has numbers.
pub(super) type Column = (&'static str, bool);

/// A table while it is written. Content is markup; whoever gives text escapes it.
pub(super) struct Table<'h, 'c> {
    html: &'h mut String,
    columns: &'c [Column],
    at: usize,
}

impl<'h, 'c> Table<'h, 'c> {
    /// Begins one; `caption` is for who cannot see where it stands.
    pub(super) fn open(html: &'h mut String, caption: &str, columns: &'c [Column]) -> Result<Self, fmt::Error> {
        write!(
            html,
            "<table role=\"table\"><caption class=\"hidden\">{}</caption><thead role=\"rowgroup\"><tr role=\"row\">",
            Text(caption)
        )?;
        for (title, is_number) in columns {
            let class = if *is_number { " class=\"n\"" } else { "" };
            write!(html, "<th scope=\"col\" role=\"columnheader\"{class}>{title}</th>")?;
        }
        html.push_str("</tr></thead><tbody role=\"rowgroup\">");
        Ok(Self { html, columns, at: 0 })
    }

    /// Begins a row with what it is about; `key` tells it from others when the page is brought up to date.
    pub(super) fn row(&mut self, key: &str, class: &str, about: impl Display) -> fmt::Result {
        if self.at > 0 {
            self.html.push_str("</tr>\n");
        }
        self.at = 1;
        write!(
            self.html,
            "<tr role=\"row\" data-key=\"{}\" class=\"{class}\"><th scope=\"row\" role=\"rowheader\">{about}</th>",
            Text(key)
        )
    }

    /// The next cell.
    pub(super) fn cell(&mut self, content: impl Display) -> fmt::Result {
        let (title, is_number) = self.columns.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        let class = if is_number { " class=\"n\"" } else { "" };
        write!(self.html, "<td role=\"cell\" data-l=\"{title}\"{class}>{content}</td>")
    }

    /// Ends it.
    pub(super) fn close(self) {
        self.html.push_str("</tr></tbody></table>\n");
    }
}
