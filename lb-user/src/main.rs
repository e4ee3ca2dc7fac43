//! The `xvip` binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use xvip::cli::{Cli, Command, VrrpCommand};
use xvip::{
    agent, bpf, capture, config, connections, doctor, import, logging, manual, passwords, privileges, status, steer,
};

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Command::Run(arguments) = &cli.command {
        logging::init(arguments.log_format);
        // Nothing else needs more than what is kept; the start says what is wrong with a file system that is not there.
        let _ = bpf::provide_file_system();
        privileges::reduce()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match cli.command {
        Command::Run(arguments) => match runtime.block_on(agent::run(arguments.config.config)) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                let code = error.exit_code();
                eprintln!("{:#}", anyhow::Error::from(error));
                if code == 1 {
                    runtime.block_on(agent::wait_before_the_next_start())?;
                }
                Ok(code.into())
            }
        },
        Command::Check(arguments) => match config::load(&arguments.config) {
            Ok(loaded) => {
                let role = match loaded.config.node.role {
                    config::Role::Balancer => "",
                    config::Role::Backend => ", of a node that holds no VIP and delivers to its own backends",
                };
                println!("{}: good{role}", arguments.config.display());
                Ok(ExitCode::SUCCESS)
            }
            Err(faults) => {
                println!("{faults}");
                Ok(ExitCode::FAILURE)
            }
        },
        Command::Doctor(arguments) => Ok(runtime.block_on(doctor::run(arguments.config, arguments.json)).into()),
        Command::Import(arguments) => Ok(import::run(&arguments).into()),
        Command::Status(arguments) => Ok(runtime.block_on(status::show(&arguments)).into()),
        Command::Reload(arguments) => Ok(runtime.block_on(steer::reload(&arguments)).into()),
        Command::Events(arguments) => Ok(runtime.block_on(status::events(&arguments)).into()),
        Command::Connections(arguments) => Ok(runtime.block_on(connections::list(&arguments)).into()),
        Command::Explain(arguments) => Ok(runtime.block_on(connections::explain(&arguments)).into()),
        Command::Capture(arguments) => Ok(runtime.block_on(capture::run(&arguments)).into()),
        Command::Backend(command) => Ok(runtime.block_on(steer::backend(&command)).into()),
        Command::Password(arguments) => Ok(passwords::ask(&arguments.name).into()),
        Command::Completions(arguments) => {
            manual::completions(arguments.shell, &mut std::io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::ManPages(arguments) => {
            manual::pages(&arguments.directory)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Vrrp(VrrpCommand::StepDown(arguments)) => Ok(runtime.block_on(steer::step_down(&arguments)).into()),
    }
}
