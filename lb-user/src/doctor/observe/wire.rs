//! What is heard on the wire: adverts of virtual routers, and who says that it has an address.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use lb_proto::family::Family;
use lb_proto::wire::arp::Mac;
use tokio::time::timeout_at;

use super::advert;
use crate::doctor::facts::{Advert, Answer, Seen};
use crate::netlink::Link;
use crate::sock::ask::Asking;
use crate::sock::vrrp::{LARGEST, Opened, Received};

/// More routers than a network has; a flood of adverts ends the listening early.
const MOST_ADVERTS: usize = 1000;
/// Listens on an interface for adverts of one family until `deadline`; one of each router and kind.
pub(super) async fn adverts(link: Link, family: Family, deadline: Instant) -> Seen<Vec<Advert>> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let (name, index) = (link.name.clone(), link.index);
    let opened = tokio::task::spawn_blocking(move || Opened::on(&name, index, family, true)).await;
    let socket = opened.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let socket = socket.watch().map_err(|error| failed(&error))?;
    let mut heard = Vec::new();
    let mut buffer = vec![0; LARGEST];
    while heard.len() < MOST_ADVERTS && timeout_at(deadline.into(), socket.readable()).await.is_ok() {
        let packet = match socket.receive(&mut buffer) {
            Ok(Some(Received { packet: Ok(packet), .. })) => packet,
            Ok(_) => continue,
            Err(error) => return Err(failed(&error)),
        };
        heard.extend(advert::read(packet, &link.name).filter(|advert| !heard.contains(advert)));
    }
    socket.close();
    Ok(heard)
}

/// Asks who has `address`, from the interface's own address `local` over IPv6.
pub(super) async fn who_has(link: Link, local: Option<Ipv6Addr>, address: IpAddr) -> Seen<Answer> {
    let Some(mac) = link.mac.map(Mac) else { return Ok(Answer::Elsewhere) };
    let asking = Asking { ifindex: link.index, mac, local, first: false };
    asking.who_has(address).await.map(Answer::From).map_err(|error| format!("{}: {error}", link.name))
}
