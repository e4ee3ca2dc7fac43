//! The page to log in at.

use std::fmt::{self, Write};

use super::head;
use super::text::Text;

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// Name or password; it is not said which.
    Wrong,
    /// Too many attempts.
    TooMany,
    /// What is sent here could be read on its way.
    Plain,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Self::Wrong => "That name and password do not belong together.",
            Self::TooMany => "Too many attempts. Wait a minute, then try again.",
            Self::Plain => {
                "A password would cross the network in clear text. Come over HTTPS (tls_cert and tls_key in [metrics]), \
                 or through an SSH tunnel to this port on the node's 127.0.0.1."
            }
        }
    }
}

/// The form, or why there is none.
pub(in crate::http) fn login(node: &str, refusal: Option<Refusal>, nonce: &str) -> String {
    let mut html = String::with_capacity(8 * 1024);
    // Writing to a String cannot fail.
    let _ = form(&mut html, node, refusal, nonce);
    html
}

fn form(html: &mut String, node: &str, refusal: Option<Refusal>, nonce: &str) -> fmt::Result {
    head(html, &format!("Log in · {node} · xvip"), nonce)?;
    write!(html, "</head><body class=\"login\"><main><h1>{}</h1>", Text(node))?;
    if let Some(refusal) = refusal {
        write!(html, "<p class=\"note bad\" role=\"alert\">{}</p>", refusal.text())?;
    }
    if refusal != Some(Refusal::Plain) {
        html.push_str(
            "<form method=\"post\" action=\"/login\">\
             <label>Name <input name=\"name\" autocomplete=\"username\" required maxlength=\"64\" autofocus></label>\
             <label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required maxlength=\"1024\"></label>\
             <button>Log in</button></form>",
        );
    }
    html.push_str("<p><a href=\"/\">Back to the status</a></p></main></body></html>\n");
    Ok(())
}
