//! The command line: what can be typed, and what the help says. Nothing is executed here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Where `run` and `check` look for the configuration.
pub const DEFAULT_CONFIG: &str = "/etc/xvip/xvip.toml";

/// Where `status` looks for the agent.
pub const DEFAULT_SOCKET: &str = "/run/xvip/admin.sock";

/// In-kernel load balancer and virtual IP for Kubernetes control planes
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "xvip",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Exit status: 2 when the command line is wrong; see each command for the rest."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground
    ///
    /// SIGHUP reloads the configuration; a file with faults keeps the old one. SIGTERM and SIGINT give the virtual IPs up at
    /// once, detach from the interface and end. XVIP_LOG sets the log filter (default: info).
    #[command(after_help = "Exit status: 0 after a clean stop, 1 otherwise.")]
    Run(ConfigArgs),

    /// Validate a configuration file, on any machine
    ///
    /// Prints each fault as FILE:LINE:COLUMN: what is wrong, and what to do.
    #[command(after_help = "Exit status: 0 when the file is good, 1 when it is not.")]
    Check(ConfigArgs),

    /// Look at this host and its network before the agent runs here
    ///
    /// Looks at the kernel, interfaces and other people's programs, listens for virtual routers, asks by ARP who has the VIPs, and
    /// asks each backend once. Without --config it looks at every interface that is up. Each finding is ok, a note, a warning or a
    /// problem, with what was seen, why it matters and what to do. Nothing on the host is changed. Without root it says what it
    /// could not look at. It takes a few seconds.
    #[command(after_help = "Exit status: 0 when there is no problem, 1 otherwise.")]
    Doctor(DoctorArgs),

    /// Show what the agent on this machine does
    #[command(after_help = "Exit status: 0; 3 when no agent answers, 1 when its answer cannot be used.\n\
                      NO_COLOR switches colours off.")]
    Status(StatusArgs),
}

/// Arguments of `run` and `check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// Configuration file that is to be used here
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,

    /// Socket of the agent (its admin.socket)
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// Draw again every second, until interrupted
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let config = ConfigArgs { config: DEFAULT_CONFIG.into() };
        assert_eq!(parse("xvip run").unwrap(), Command::Run(config.clone()));
        assert_eq!(parse("xvip check").unwrap(), Command::Check(config));
        assert_eq!(
            parse("xvip status").unwrap(),
            Command::Status(StatusArgs { json: false, socket: DEFAULT_SOCKET.into(), watch: false })
        );
    }

    #[test]
    fn arguments() {
        let config = ConfigArgs { config: "a.toml".into() };
        assert_eq!(parse("xvip run --config a.toml").unwrap(), Command::Run(config.clone()));
        assert_eq!(parse("xvip check --config=a.toml").unwrap(), Command::Check(config));
        assert_eq!(parse("xvip doctor").unwrap(), Command::Doctor(DoctorArgs { config: None, json: false }));
        assert_eq!(
            parse("xvip doctor --config a.toml --json").unwrap(),
            Command::Doctor(DoctorArgs { config: Some("a.toml".into()), json: true })
        );
        assert_eq!(
            parse("xvip status --json --socket /tmp/s").unwrap(),
            Command::Status(StatusArgs { json: true, socket: "/tmp/s".into(), watch: false })
        );
    }

    #[test]
    fn refusals() {
        for (line, kind) in [
            ("xvip", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("xvip stat", ErrorKind::InvalidSubcommand),
            ("xvip run a.toml", ErrorKind::UnknownArgument),
            ("xvip check --config", ErrorKind::InvalidValue),
            ("xvip status --json --watch", ErrorKind::ArgumentConflict),
            ("xvip --version", ErrorKind::DisplayVersion),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn every_command_names_its_exit_codes() {
        for command in Cli::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Exit status: 0"), "{help}");
        }
        let mut cli = Cli::command();
        let status = cli.find_subcommand_mut("status").unwrap();
        assert!(status.render_help().to_string().contains("3 when no agent answers"));
        let version = Cli::command().render_version();
        assert_eq!(version, format!("xvip {}\n", env!("CARGO_PKG_VERSION")));
    }
}
