//! The forms of who may change things.

use std::fmt::{self, Write};

use super::text::Text;
use crate::status::BackendStatus;

/// Who looks at the page and may change things by it.
pub(in crate::http) struct Rights<'a> {
    /// Name of the administrator.
    pub(in crate::http) name: &'a str,
    /// Not who shows a certificate: the browser does so by itself.
    pub(in crate::http) can_log_out: bool,
    /// What each form has to bring along.
    pub(in crate::http) token: &'a str,
    /// What came of the last action, good or not, and in words.
    pub(in crate::http) outcome: Option<(bool, &'a str)>,
}

impl Rights<'_> {
    /// What can be done with a backend.
    pub(super) fn backend(&self, html: &mut String, service: &str, backend: &BackendStatus) -> fmt::Result {
        let (name, service) = (Text(&backend.name), Text(service));
        let form = |html: &mut String| {
            write!(html, "<form method=\"post\" action=\"/do/backend\">")?;
            self.token(html)?;
            write!(
                html,
                "<input type=\"hidden\" name=\"service\" value=\"{service}\"><input type=\"hidden\" name=\"name\" value=\"{name}\">"
            )
        };
        write!(
            html,
            "<details class=\"do\"><summary>Change<span class=\"hidden\"> {service}/{name}</span></summary><div>"
        )?;
        form(html)?;
        let (drain, disable, enable) = match backend.state.as_str() {
            "draining" => (false, true, true),
            "disabled" => (true, false, true),
            _ => (true, true, false),
        };
        for (is_offered, what, label, class) in [
            (enable, "enable", "Enable", ""),
            (drain, "drain", "Drain", ""),
            (disable, "disable", "Disable", " class=\"danger\""),
        ] {
            if is_offered {
                write!(html, "<button name=\"what\" value=\"{what}\"{class}>{label}</button>")?;
            }
        }
        html.push_str("</form>");
        form(html)?;
        write!(
            html,
            "<label>Weight <input type=\"number\" name=\"weight\" min=\"0\" max=\"256\" required value=\"{}\"></label>\
             <button name=\"what\" value=\"weight\">Set</button></form>\
             <p class=\"muted\">Drain: no new connections. Disable: resets those there are, too. Until the next reload, on this node.</p>\
             </div></details>",
            backend.weight
        )
    }

    /// What can be done with a virtual router that is active.
    pub(super) fn step_down(&self, html: &mut String, router: &str) -> fmt::Result {
        let router = Text(router);
        write!(
            html,
            "<details class=\"do\"><summary>Change<span class=\"hidden\"> {router}</span></summary><div>\
             <form method=\"post\" action=\"/do/step-down\">"
        )?;
        self.token(html)?;
        write!(
            html,
            "<input type=\"hidden\" name=\"name\" value=\"{router}\"><button class=\"danger\">Step down</button></form>\
             <p class=\"muted\">Hands the addresses to another node, which is not preempted for an hour.</p></div></details>"
        )
    }

    /// Who it is, and the way out.
    pub(super) fn who(&self, html: &mut String) -> fmt::Result {
        if !self.can_log_out {
            return write!(html, "<p class=\"who\"><span>{}</span> by certificate</p>", Text(self.name));
        }
        write!(html, "<form method=\"post\" action=\"/logout\" class=\"who\"><span>{}</span>", Text(self.name))?;
        self.token(html)?;
        html.push_str("<button>Log out</button></form>");
        Ok(())
    }

    fn token(&self, html: &mut String) -> fmt::Result {
        write!(html, "<input type=\"hidden\" name=\"token\" value=\"{}\">", Text(self.token))
    }
}
