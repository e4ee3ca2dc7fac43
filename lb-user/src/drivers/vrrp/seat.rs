//! Where the virtual routers of a sync group hear of each other. All of them live on one thread.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lb_proto::family::Family;
use lb_proto::units::Priority;
use lb_proto::vrrp::{Group, Standing, Word};
use tokio::sync::watch;

use super::config::Order;
use super::key;

/// What a group says to a member: what to do, and the priority to advertise.
pub(super) type Said = (Word, Priority);

/// A member's place in its group.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    table: Arc<Table>,
    member: usize,
    news: watch::Receiver<()>,
}

#[derive(Debug)]
struct Table {
    known: Mutex<Known>,
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct Known {
    group: Group,
    /// To each member, last.
    said: Vec<Said>,
}

impl Seat {
    /// Places for so many members, that of the lead first.
    pub(super) fn around(members: usize) -> Vec<Self> {
        let group = Group::new(members);
        let said = vec![(Word::default(), group.priority()); members];
        let (sender, news) = watch::channel(());
        let table = Arc::new(Table { known: Mutex::new(Known { group, said }), news: sender });
        (0..members).map(|member| Self { table: Arc::clone(&table), member, news: news.clone() }).collect()
    }

    /// How this member stands, and the priority that it has by itself; what is said to it now. Others who are said
    /// something new are woken.
    pub(super) fn tell(&self, standing: Standing, priority: Priority, now: Instant) -> Said {
        let mut known = self.table.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { group, said } = &mut *known;
        group.tell(self.member, standing, priority, now);
        let new = (0..said.len()).map(|member| (group.word(member, now), group.priority())).collect();
        let is_news = std::mem::replace(said, new) != *said;
        let mine = said.get(self.member).copied().unwrap_or((Word::default(), priority));
        drop(known);
        if is_news {
            self.table.news.send_replace(());
        }
        mine
    }

    /// When something else may be said though nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let known = self.table.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.group.deadline().filter(|deadline| *deadline > now)
    }

    /// Waits for news of the others.
    pub(super) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl PartialEq for Seat {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table) && self.member == other.member
    }
}

/// The groups of the last orders.
#[derive(Debug, Default)]
pub(super) struct Seats(Vec<(Vec<Member>, Vec<Seat>)>);

/// What makes a member the same one after a reload: name, interface, VRID, family.
type Member = (String, String, u8, Family);

impl Seats {
    /// Gives each order that is of a group its place; a group of the same members as before keeps what it knows.
    pub(super) fn assign(&mut self, orders: &mut [Order]) {
        let mut groups: Vec<String> = orders.iter().filter_map(|order| order.vrrp.sync_group.clone()).collect();
        groups.sort();
        groups.dedup();
        let before = std::mem::take(&mut self.0);
        for group in groups {
            let mut members: Vec<&mut Order> =
                orders.iter_mut().filter(|order| order.vrrp.sync_group.as_ref() == Some(&group)).collect();
            members.sort_by_key(|order| lowest(order));
            let keys: Vec<Member> = members
                .iter()
                .map(|order| {
                    let (name, interface, id, family) = key(&order.vrrp);
                    (name.to_owned(), interface.to_owned(), id, family)
                })
                .collect();
            let known = before.iter().find(|(members, _)| *members == keys).map(|(_, seats)| seats.clone());
            let seats = known.unwrap_or_else(|| Seat::around(keys.len()));
            for (order, seat) in members.into_iter().zip(&seats) {
                order.seat = Some(seat.clone());
            }
            self.0.push((keys, seats));
        }
    }
}

/// By which all nodes agree on an order.
fn lowest(order: &Order) -> Option<IpAddr> {
    order.vrrp.virtual_addresses.iter().map(|net| net.address).min()
}
