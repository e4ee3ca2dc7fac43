//! Virtual routers, and the balancers that flows are shared with.

use std::fmt::{self, Write};

use super::View;
use super::table::{Column, Table};
use super::text::{Number, Short, State, Text, UNKNOWN};
use crate::status::VrrpStatus;
use crate::status::words::{ago, since};

const COLUMNS: [Column; 7] = [
    ("Router", false),
    ("State", false),
    ("Since", false),
    ("Holder", false),
    ("Priority", true),
    ("Addresses", false),
    ("Why", false),
];

/// One row for each.
pub(super) fn routers(html: &mut String, view: &View<'_>) -> fmt::Result {
    let status = view.status;
    if status.vrrp.is_empty() {
        return Ok(());
    }
    html.push_str("<section aria-labelledby=\"routers\"><h2 id=\"routers\">Virtual routers</h2>\n");
    let mut columns = COLUMNS.to_vec();
    if view.rights.is_some() {
        columns.push(("Change", false));
    }
    let mut table = Table::open(html, "Virtual routers", &columns)?;
    for router in &status.vrrp {
        let group = match router.sync_group.as_str() {
            "" => String::new(),
            group => format!(", group {group}"),
        };
        let about = format!("VRID {} on {}{group}", router.virtual_router_id, router.interface);
        table.row(&router.name, "", format_args!("{}<small>{}</small>", Text(&router.name), Text(&about)))?;
        table.cell(State(&router.state))?;
        table.cell(since(view.now, router.since))?;
        table.cell(Text(holder(router)))?;
        table.cell(router.priority)?;
        table.cell(Text(&router.virtual_addresses.join(" ")))?;
        table.cell(Text(&router.reason))?;
        if let Some(rights) = &view.rights {
            let mut form = String::new();
            if router.state == "active" {
                rights.step_down(&mut form, &router.name)?;
            }
            table.cell(form)?;
        }
    }
    table.close();
    html.push_str("</section>\n");
    Ok(())
}

fn holder(router: &VrrpStatus) -> &str {
    match (&router.active_router, router.state.as_str()) {
        (_, "active") => "this node",
        (Some(router), _) => router,
        (None, _) => UNKNOWN,
    }
}

const PEERS: [Column; 8] = [
    ("Balancer", false),
    ("State", false),
    ("Since", false),
    ("Heard", false),
    ("Flows told", true),
    ("Flows heard", true),
    ("Waiting", true),
    ("Delay", true),
];

/// Balancers that flows are shared with.
pub(super) fn peers(html: &mut String, view: &View<'_>) -> fmt::Result {
    let sync = &view.status.sync;
    html.push_str("<section aria-labelledby=\"peers\"><h2 id=\"peers\">Shared connections</h2>\n");
    if !sync.shared {
        html.push_str(
            "<p class=\"muted\">Shared with nobody: when the VIP moves, connections end. A key in [sync] changes that.</p></section>\n",
        );
        return Ok(());
    }
    let mut table = Table::open(html, "Balancers that connections are shared with", &PEERS)?;
    for peer in &sync.peers {
        table.row(&peer.address, "", Text(&peer.address))?;
        table.cell(State(&peer.state))?;
        table.cell(since(view.now, peer.since))?;
        table.cell(peer.heard.map_or_else(|| "never".to_owned(), |heard| ago(view.now, heard)))?;
        table.cell(Number(peer.flows_sent))?;
        table.cell(Number(peer.flows_received))?;
        table.cell(Number(peer.backlog))?;
        table.cell(Short(peer.lag_seconds))?;
    }
    table.close();
    let skipped = sync.flows_skipped.iter().filter(|row| row.flows > 0);
    let skipped: Vec<_> = skipped.map(|row| format!("{} {}", Number(row.flows), row.reason)).collect();
    let skipped = if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") };
    write!(html, "<p class=\"muted\">Taken over: {}; left out: {}.", Number(sync.flows_taken), Text(&skipped))?;
    let refused: u64 = sync.peers.iter().flat_map(|peer| &peer.refused).map(|row| row.datagrams).sum();
    if refused + sync.strangers > 0 {
        write!(html, " Messages not believed: {}; of strangers: {}.", Number(refused), Number(sync.strangers))?;
    }
    html.push_str("</p></section>\n");
    Ok(())
}
