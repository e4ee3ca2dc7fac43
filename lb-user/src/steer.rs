//! `xvip vrrp`: asks the agent, prints what became of it.

use std::time::Duration;

use crate::admin::request_step_down;
use crate::cli::StepDownArgs;

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
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}
