//! What is on the screen, as text.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::model::Event;

fn model() -> Model {
    let balancer = |name: &str, address: &str, state: &str| BalancerView {
        name: name.to_owned(),
        address: address.to_owned(),
        priority: "110".to_owned(),
        state: Some(state.to_owned()),
        datapath: "xdp".to_owned(),
        ..BalancerView::default()
    };
    let server = |name: &str, state: &str, reason: &str, share| ServerView {
        name: name.to_owned(),
        address: "192.0.2.31:6443".to_owned(),
        running: true,
        ready: true,
        state: Some(state.to_owned()),
        reason: reason.to_owned(),
        connections: 3,
        share,
    };
    let event = |at, tone, text: &str| Event { at: Duration::from_secs(at), tone, text: text.to_owned() };
    Model {
        now: Duration::from_millis(83_400),
        vip: "192.0.2.100:8443".to_owned(),
        balancers: vec![balancer("lb1", "192.0.2.21", "active"), balancer("lb2", "192.0.2.22", "backup")],
        servers: vec![
            server("master1", "up", "200 OK", 0.5),
            server("master2", "down", "connection refused", 0.0),
            server("master3", "draining", "answers 500", 0.5),
        ],
        traffic: Traffic {
            per_second: 198.4,
            history: vec![40; 300],
            expected: 40,
            p50: Duration::from_micros(2_100),
            p99: Duration::from_micros(4_800),
            served: 12_345,
            failed: 3,
            outage_now: None,
            last_outage: Some((Duration::from_millis(143), Duration::from_secs(71))),
            watches_alive: 8,
            watches: 8,
        },
        events: vec![
            event(1, Tone::Deed, "you killed master2"),
            event(2, Tone::Bad, "no new connection was served for 143 ms"),
        ],
        ..Model::default()
    }
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(width));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
}

#[track_caller]
fn shows(screen: &str, texts: &[&str]) {
    for text in texts {
        assert!(screen.contains(text), "{text:?} is not on\n{screen}");
    }
}

#[test]
fn the_smallest_screen_shows_everything() {
    let screen = screen(&model(), 80, 24);
    shows(&screen, &["xvip  sandbox", "01:23.4", "VIP 192.0.2.100:8443", "held by lb1"]);
    shows(&screen, &["● lb1  192.0.2.21  ACTIVE", "○ lb2  192.0.2.22  backup", "priority 110 · xdp"]);
    shows(&screen, &["198 a second", "p50 2.1 ms", "p99 4.8 ms", "last outage 143 ms, 12 s ago"]);
    shows(&screen, &["12345 served · 3 failed · watches 8/8"]);
    shows(&screen, &["master1  192.0.2.31:6443 ● up", "█████", "50.0%", "✗ down", "◐ draining", "connection refu"]);
    shows(&screen, &["00:01.0  ▸ you killed master2", "00:02.0  ✗ no new connection was served for 143 ms"]);
    shows(&screen, &["1 2 3", "drain master1", "Tab", "kill -9", "freeze", "cut / mend its link", " q  quit"]);
}

#[test]
fn a_larger_screen_has_room_for_more_events() {
    let mut model = model();
    model.events = (0..40)
        .map(|at| Event { at: Duration::from_secs(at), tone: Tone::Change, text: format!("event number {at}") })
        .collect();
    assert!(!screen(&model, 80, 24).contains("event number 20"));
    shows(&screen(&model, 140, 50), &["event number 20", "event number 39", "connection refused"]);
    shows(&screen(&model, 80, 24), &["event number 39"]);
}

#[test]
fn troubles_are_named() {
    let mut model = model();
    model.balancers[0].running = Running::No;
    model.balancers[0].state = None;
    model.balancers[1].running = Running::Frozen;
    model.balancers[1].cut = true;
    model.traffic.outage_now = Some(Duration::from_millis(1500));
    model.traffic.watches_alive = 2;
    model.servers[0].running = false;
    let screen = screen(&model, 100, 30);
    shows(&screen, &["✗ lb1  192.0.2.21  stopped", "‖ lb2  192.0.2.22  frozen", "link cut", "watches 2/8", "✗ killed"]);
    shows(&screen, &["nobody is served since 1.50 s"]);
    model.balancers[1].state = None;
    model.balancers[1].running = Running::Yes;
    shows(&self::screen(&model, 100, 30), &["no answer", "nobody holds the VIP"]);
}

#[test]
fn help_lies_over_the_rest_and_wraps() {
    let mut model = model();
    model.help = vec!["ask:".to_owned(), format!("  nsenter {}end", "x".repeat(100))];
    shows(&screen(&model, 80, 24), &["Try it from another terminal", "nsenter", "end"]);
}

#[test]
fn a_screen_too_small_says_so() {
    shows(&screen(&model(), 60, 20), &["needs 80 x 24"]);
    screen(&model(), 1, 1);
}

#[test]
fn an_empty_model_can_be_drawn() {
    shows(&screen(&Model::default(), 80, 24), &["nobody holds the VIP"]);
}
