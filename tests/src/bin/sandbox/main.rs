//! The sandbox: a control plane behind a VIP, in namespaces made for it.

use anyhow::Result;
use clap::{Parser, Subcommand};
use xvip_tests::apiserver;

/// A control plane behind a virtual IP, in network namespaces made for it and removed with it.
#[derive(Debug, Parser)]
#[command(name = "xvip-sandbox", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as one of the API servers; the sandbox starts these itself.
    Apiserver(apiserver::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Apiserver(options)) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(apiserver::serve(options))
        }
        None => Ok(()),
    }
}
