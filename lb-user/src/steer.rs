//! `xvip backend`, `xvip reload` and `xvip vrrp`: ask the agent, print what became of it.

use std::time::Duration;

use crate::admin::{AdminError, Change, Done, request_backend, request_reload, request_step_down};
use crate::cli::{AddArgs, BackendArgs, BackendCommand, RemoveArgs, SocketArgs, StepDownArgs, WeightArgs};
use crate::config::Edit;

/// Carries `vrrp step-down` out; what to exit with.
pub async fn step_down(arguments: &StepDownArgs) -> u8 {
    let hold = Duration::from_secs(arguments.hold);
    match request_step_down(&arguments.socket, arguments.name.as_deref(), hold).await {
        Ok(Ok(handovers)) => {
            for handover in &handovers {
                println!("{}: {}", handover.name, handover.outcome);
            }
            u8::from(!handovers.iter().all(|handover| handover.done))
        }
        Ok(Err(fault)) => {
            eprintln!("{fault}");
            1
        }
        Err(error) => failed(&error),
    }
}

/// Carries `reload` out; what to exit with.
pub async fn reload(arguments: &SocketArgs) -> u8 {
    match request_reload(&arguments.socket).await {
        Ok(Ok(())) => {
            println!("applied");
            0
        }
        Ok(Err(faults)) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("refused: the old configuration goes on");
            1
        }
        Err(error) => failed(&error),
    }
}

/// Carries a command of `backend` out; what to exit with.
pub async fn backend(command: &BackendCommand) -> u8 {
    let (of, change, save) = wanted(command);
    let (name, socket) = (&of.backend, &of.agent.socket);
    match request_backend(socket, name.service.as_deref(), &name.name, &change, save).await {
        Ok(Ok(Done { outcome, warning })) => {
            println!("{outcome}");
            if let Some(warning) = &warning {
                eprintln!("{warning}");
            }
            u8::from(warning.is_some())
        }
        Ok(Err(faults)) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            1
        }
        Err(error) => failed(&error),
    }
}

fn wanted(command: &BackendCommand) -> (&BackendArgs, Change, bool) {
    match command {
        BackendCommand::Drain(backend) => (backend, Change::Drain, false),
        BackendCommand::Disable(backend) => (backend, Change::Disable, false),
        BackendCommand::Enable(backend) => (backend, Change::Enable, false),
        BackendCommand::Weight(WeightArgs { backend, weight, save }) => {
            (backend, Change::Edit(Edit::Weight(*weight)), *save)
        }
        BackendCommand::Add(AddArgs { backend, address, weight, max_connections, save }) => {
            let edit = Edit::Add { address: *address, weight: *weight, max_connections: *max_connections };
            (backend, Change::Edit(edit), *save)
        }
        BackendCommand::Remove(RemoveArgs { backend, save }) => (backend, Change::Edit(Edit::Remove), *save),
    }
}

fn failed(error: &AdminError) -> u8 {
    eprintln!("{error}");
    error.exit_code()
}
