//! The live view: keys in, pictures out, and the terminal as it was afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::model::Tone;
use crate::observer::Observer;
use crate::stop;
use crate::view;
use crate::world::World;

const REDRAW: Duration = Duration::from_millis(150);

/// Restores the terminal also when the loop ends by an error or a panic; ratatui's own hook prints a panic on the restored screen.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What the keys mean at the moment.
#[derive(Debug, Default)]
struct Choice {
    balancer: usize,
    server: usize,
    help: bool,
}

/// Shows the world until somebody quits.
pub(crate) fn run(world: &mut World) -> Result<()> {
    let mut terminal = ratatui::try_init().context("preparing the terminal")?;
    let _restored = Restored;
    let mut observer = Observer::default();
    let mut choice = Choice::default();
    observer.note(world.client.now(), Tone::Good, "the control plane is up; press ? to see how to try it yourself");
    let mut drawn: Option<Instant> = None;
    while !stop::asked() {
        if drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            let mut model = observer.observe(world);
            (model.balancer, model.server) = (choice.balancer, choice.server);
            if choice.help {
                model.help = help(world);
            }
            terminal.draw(|frame| view::draw(frame, &model))?;
            drawn = Some(Instant::now());
        }
        if event::poll(Duration::from_millis(50))? {
            match event::read()? {
                Input::Key(key) if key.kind != KeyEventKind::Release => {
                    if !on_key(key, &mut choice, world, &mut observer) {
                        break;
                    }
                    drawn = None;
                }
                Input::Resize(..) => drawn = None,
                _ => {}
            }
        }
    }
    Ok(())
}

fn help(world: &World) -> Vec<String> {
    let [ask, status] = world.commands();
    let lines = [
        "ask the control plane, and see which API server answers:",
        &ask,
        "",
        "see the same through the agent's eyes:",
        &status,
    ];
    lines.map(str::to_owned).into()
}

/// False when it was the wish to quit.
fn on_key(key: KeyEvent, choice: &mut Choice, world: &mut World, observer: &mut Observer) -> bool {
    let at = world.client.now();
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    let done = match key.code {
        KeyCode::Char('c') if ctrl => return false,
        KeyCode::Char('q') => return false,
        KeyCode::Esc if choice.help => {
            choice.help = false;
            return true;
        }
        KeyCode::Char('?' | 'h') => {
            choice.help = !choice.help;
            return true;
        }
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
            choice.balancer = (choice.balancer + 1) % world.balancers.len().max(1);
            return true;
        }
        KeyCode::Up => {
            choice.server = choice.server.saturating_sub(1);
            return true;
        }
        KeyCode::Down => {
            choice.server = (choice.server + 1).min(world.servers.len().saturating_sub(1));
            return true;
        }
        KeyCode::Char(digit @ '1'..='9') => {
            let index = digit as usize - '1' as usize;
            if index < world.servers.len() {
                choice.server = index;
            }
            on_server(Deed::KillOrRevive, index, world)
        }
        KeyCode::Char('r') => on_server(Deed::Drain, choice.server, world),
        KeyCode::Char(letter @ ('k' | 's' | 'z' | 'c')) => on_balancer(letter, choice.balancer, world),
        _ => return true,
    };
    match done {
        Ok(Some(text)) => observer.note(at, Tone::Deed, text),
        Ok(None) => {}
        Err(err) => observer.note(at, Tone::Bad, format!("that did not work: {err:#}")),
    }
    true
}

enum Deed {
    KillOrRevive,
    Drain,
}

fn on_server(deed: Deed, index: usize, world: &mut World) -> Result<Option<String>> {
    let Some(server) = world.servers.get_mut(index) else {
        return Ok(None);
    };
    let name = server.name().to_owned();
    Ok(Some(match (deed, server.is_running()) {
        (Deed::KillOrRevive, true) => {
            server.kill9()?;
            format!("you killed {name}")
        }
        (Deed::KillOrRevive, false) => {
            server.revive()?;
            format!("you started {name} again")
        }
        (Deed::Drain, false) => return Ok(None),
        (Deed::Drain, true) => {
            let ready = !server.is_ready();
            server.set_ready(ready)?;
            format!("you let {name} answer {} on /readyz", if ready { 200 } else { 500 })
        }
    }))
}

fn on_balancer(letter: char, index: usize, world: &mut World) -> Result<Option<String>> {
    let Some(balancer) = world.balancers.get_mut(index) else {
        return Ok(None);
    };
    let name = balancer.name().to_owned();
    Ok(Some(match (letter, balancer.is_running()) {
        ('c', _) => {
            let cut = !balancer.is_cut();
            balancer.set_cut(cut)?;
            if cut { format!("you cut the link of {name}") } else { format!("you mended the link of {name}") }
        }
        ('k', true) => {
            balancer.kill9()?;
            format!("you killed the agent of {name}")
        }
        ('s', true) => {
            balancer.terminate()?;
            format!("you asked the agent of {name} to stop")
        }
        ('z', true) => {
            let frozen = !balancer.is_frozen();
            balancer.set_frozen(frozen)?;
            if frozen { format!("you froze the agent of {name}") } else { format!("you thawed the agent of {name}") }
        }
        ('k' | 's', false) => {
            balancer.start()?;
            format!("you started the agent of {name}")
        }
        _ => return Ok(None),
    }))
}
