//! The `xvip` binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use xvip::cli::{Cli, Command};
use xvip::{agent, config, logging, status};

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match cli.command {
        Command::Run(arguments) => {
            logging::init();
            runtime.block_on(agent::run(arguments.config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(arguments) => match config::load(&arguments.config) {
            Ok(_) => {
                println!("{}: good", arguments.config.display());
                Ok(ExitCode::SUCCESS)
            }
            Err(faults) => {
                println!("{faults}");
                Ok(ExitCode::FAILURE)
            }
        },
        Command::Status(arguments) => Ok(runtime.block_on(status::show(&arguments)).into()),
    }
}
