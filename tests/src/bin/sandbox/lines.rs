//! The view where there is no terminal: a line for everything that happens, and now and then how it goes.

use std::time::{Duration, Instant};

use crate::model::{Event, Model, Tone, clock, spoken};
use crate::observer::Observer;
use crate::stop::{self, say};
use crate::world::World;

const LOOK: Duration = Duration::from_millis(200);
const SUM_UP: Duration = Duration::from_secs(10);

/// Tells of the world until asked to stop.
pub(crate) fn run(world: &mut World) {
    let mut observer = Observer::default();
    let mut summed_up = Instant::now();
    while stop::sleep(LOOK) {
        let model = observer.observe(world);
        tell(&mut observer);
        if summed_up.elapsed() >= SUM_UP {
            summed_up = Instant::now();
            say(how_it_goes(&model));
        }
    }
}

/// Prints what is new.
pub(crate) fn tell(observer: &mut Observer) {
    for event in observer.news() {
        say(line(&event));
    }
}

fn line(event: &Event) -> String {
    let symbol = match event.tone {
        Tone::Deed => '>',
        Tone::Good => '+',
        Tone::Change => '~',
        Tone::Bad => '!',
    };
    format!("{}  {symbol} {}", clock(event.at), event.text)
}

fn how_it_goes(model: &Model) -> String {
    let holder = model.balancers.iter().find(|balancer| balancer.state.as_deref() == Some("active"));
    let up = model.servers.iter().filter(|server| server.state.as_deref() == Some("up")).count();
    let traffic = &model.traffic;
    format!(
        "{}    {:.0} new connections a second, p50 {}, p99 {}, {} failed so far; VIP at {}, {up} of {} API servers up, {} of {} watches alive",
        clock(model.now),
        traffic.per_second,
        spoken(traffic.p50),
        spoken(traffic.p99),
        traffic.failed,
        holder.map_or("nobody", |holder| holder.name.as_str()),
        model.servers.len(),
        traffic.watches_alive,
        traffic.watches,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BalancerView, ServerView, Traffic};

    #[test]
    fn lines_say_when_and_what() {
        let event =
            Event { at: Duration::from_millis(61_250), tone: Tone::Bad, text: "a watch broke: reset".to_owned() };
        assert_eq!(line(&event), "01:01.2  ! a watch broke: reset");
    }

    #[test]
    fn how_it_goes_fits_a_line() {
        let active =
            BalancerView { name: "lb2".to_owned(), state: Some("active".to_owned()), ..BalancerView::default() };
        let up = ServerView { state: Some("up".to_owned()), ..ServerView::default() };
        let traffic = Traffic { per_second: 199.6, watches_alive: 7, watches: 8, ..Traffic::default() };
        let servers = vec![up, ServerView::default()];
        let model = Model { balancers: vec![BalancerView::default(), active], servers, traffic, ..Model::default() };
        let text = how_it_goes(&model);
        assert!(text.contains("200 new connections a second") && text.contains("VIP at lb2"), "{text}");
        assert!(text.contains("1 of 2 API servers up, 7 of 8 watches alive"), "{text}");
    }
}
