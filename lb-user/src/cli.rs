//! The command line: what can be typed, and what the help says. Nothing is executed here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::admin::{LONGEST_HOLD, USUAL_HOLD};
use crate::config::said::{backend_address, name, net};
use crate::config::{IpNet, MOST_WEIGHT};
use crate::connections::{MOST, Peer};
use crate::import::ImportArgs;

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
    /// SIGHUP reloads the configuration; a file with faults keeps the old one. SIGTERM and SIGINT hand the virtual IPs over,
    /// serving until another node has them (four seconds at most), detach from the interface and end. SIGUSR2 ends the agent and
    /// leaves everything to the next one, which continues. XVIP_LOG sets the log filter (default: info).
    #[command(
        after_help = "Exit status: 0 after a clean stop, 78 when the configuration file has faults or cannot be read, \
                            1 otherwise."
    )]
    Run(RunArgs),

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

    /// Make a configuration of those of haproxy and keepalived
    ///
    /// Says on standard error each line that is not carried over, with the reason, and each mistake found, as FILE:LINE: what.
    /// Scripts that keepalived runs are looked into where they are readable. Nothing else of the host is looked at.
    #[command(
        after_help = "Exit status: 0 when a configuration was written that `xvip check` takes, 1 when a file is \
                      broken or has nothing that can be carried over."
    )]
    Import(ImportArgs),

    /// Show what the agent on this machine does
    #[command(after_help = "Exit status: 0; 3 when no agent answers, 1 when its answer cannot be used.\n\
                      NO_COLOR switches colours off.")]
    Status(StatusArgs),

    /// Have the agent read its configuration again, and wait for the outcome
    ///
    /// A file with faults keeps the old configuration; each fault is printed as FILE:LINE:COLUMN: what is wrong, and what to do.
    /// What commands changed without --save is undone.
    #[command(after_help = "Exit status: 0 when it is applied, 1 when it is refused, 3 when no agent answers.")]
    Reload(SocketArgs),

    /// Show what has happened on this node
    ///
    /// The newest thousand changes of backends, virtual routers, configuration and datapath since the agent started.
    #[command(after_help = "Exit status: 0; 3 when no agent answers, 1 when its answer cannot be used.")]
    Events(EventsArgs),

    /// List the connections that this node's datapath knows
    ///
    /// Established ones, and those whose handshake is under way. SEEN AS is the address and port that the backend has for
    /// its client. ORIGIN is `own`, or `sync` for what another balancer has told of. Connections of this node's own clients,
    /// which are translated at connect(2), are not among them.
    #[command(after_help = "Exit status: 0; 3 when no agent answers, 1 when its answer cannot be used.")]
    Connections(ConnectionsArgs),

    /// Say which backend a client's connection is on, or would go to, and why
    ///
    /// The datapath's own decision on a copy of its tables: nothing is sent and nothing counted. LISTENER may be left out
    /// where the client has one connection, or the node one listener of its IP version.
    #[command(after_help = "Exit status: 0; 3 when no agent answers, 1 when its answer cannot be used.")]
    Explain(ExplainArgs),

    /// Show packets as they enter the datapath and as they leave it
    ///
    /// One line for each packet: where it was seen (xdp, tc; leave and home: sent by this node itself), what came, what became of
    /// it and for which reason, and what went on. With --write, pcapng for Wireshark: outcome and reason are each packet's
    /// comment. Packets that are none of xvip's are left out. The datapath is exchanged for one that shows packets, and
    /// back at the end, which connections do not notice; packets take longer meanwhile. Needs root.
    #[command(after_help = "For example: xvip capture --write - | tshark -r -\n\
                      Exit status: 0; 3 when no agent answers, 1 when packets cannot be captured.")]
    Capture(CaptureArgs),

    /// Change a backend of the agent on this machine
    ///
    /// NAME is that of a backend, or SERVICE/NAME where several services have one of this name. Each node has its own say: what
    /// is to hold on all balancers is told to all of them. Changes last until the next reload or start; those with --save are
    /// written into the configuration file as well.
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Exit status: 0 when it is done, 1 when not, or not saved with --save, 3 when no agent answers."
    )]
    Backend(BackendCommand),

    /// Steer the virtual routers of the agent on this machine
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Exit status: 0 when it is done, 1 when not, 3 when no agent answers."
    )]
    Vrrp(VrrpCommand),

    /// Print the line for an administrator of the status page
    ///
    /// Asks for the password, or takes it from the first line of standard input where that is no terminal. The line belongs in
    /// the file that metrics.password_file names, which has mode 0600.
    #[command(
        after_help = "For example: install -m 600 /dev/null /etc/xvip/page.passwords; xvip password alice >> /etc/xvip/page.passwords\n\
                      Exit status: 0, or 1 when the name or the password will not do."
    )]
    Password(PasswordArgs),

    /// Print a completion script for a shell
    #[command(after_help = "For example: xvip completions bash > /etc/bash_completion.d/xvip\nExit status: 0.")]
    Completions(CompletionsArgs),

    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Exit status: 0, or 1 when a page cannot be written.")]
    ManPages(ManPagesArgs),
}

/// What `password` is told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PasswordArgs {
    /// Name to log in with: letters, digits, and . _ @ -
    pub name: String,
}

/// The commands of `backend`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum BackendCommand {
    /// Give it no new connections, and let it keep those it has (until drain_timeout)
    #[command(after_help = STEERED)]
    Drain(BackendArgs),
    /// Give it no new connections, and reset those it has
    #[command(after_help = STEERED)]
    Disable(BackendArgs),
    /// Undo drain and disable
    #[command(after_help = STEERED)]
    Enable(BackendArgs),
    /// Change its share of new connections
    #[command(after_help = SAVED)]
    Weight(WeightArgs),
    /// Add a backend to a service
    #[command(after_help = SAVED)]
    Add(AddArgs),
    /// Remove it from its service; its connections are reset, after drain_timeout where there is one
    #[command(after_help = SAVED)]
    Remove(RemoveArgs),
}

const STEERED: &str = "Exit status: 0 when it is done, 1 when not, 3 when no agent answers.";
const SAVED: &str = "Exit status: 0 when it is done, 1 when not, or not saved with --save, 3 when no agent answers.";

/// A backend, by its own name or by service and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendName {
    /// The service, where it was said.
    pub service: Option<String>,
    /// The backend.
    pub name: String,
}

/// Which backend.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BackendArgs {
    /// Name of the backend, or SERVICE/NAME
    #[arg(value_name = "NAME", value_parser = backend_name)]
    pub backend: BackendName,

    /// The agent.
    #[command(flatten)]
    pub agent: SocketArgs,
}

/// Arguments of `backend remove`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RemoveArgs {
    /// The backend.
    #[command(flatten)]
    pub backend: BackendArgs,

    /// Write it into the configuration file too
    #[arg(long)]
    pub save: bool,
}

/// Arguments of `backend weight`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WeightArgs {
    /// The backend.
    #[command(flatten)]
    pub backend: BackendArgs,

    /// Its share of new connections, 0 to 256; 0: none
    #[arg(value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(..=i64::from(MOST_WEIGHT)))]
    pub weight: u16,

    /// Write it into the configuration file too
    #[arg(long)]
    pub save: bool,
}

/// Arguments of `backend add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AddArgs {
    /// The backend.
    #[command(flatten)]
    pub backend: BackendArgs,

    /// Where it listens, ADDRESS:PORT; without a port connections keep the client's
    #[arg(value_name = "ADDRESS", value_parser = backend_address)]
    pub address: SocketAddr,

    /// Its share of new connections, 0 to 256 [default: 1]
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(..=i64::from(MOST_WEIGHT)))]
    pub weight: Option<u16>,

    /// Established connections it may have at most
    #[arg(long, value_name = "CONNECTIONS")]
    pub max_connections: Option<u32>,

    /// Write it into the configuration file too
    #[arg(long)]
    pub save: bool,
}

/// Where the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SocketArgs {
    /// Socket of the agent (its admin.socket)
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// Arguments of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct EventsArgs {
    /// Go on with what happens, until interrupted
    #[arg(short, long)]
    pub follow: bool,

    /// Print JSON, one object to a line, for programs
    #[arg(long)]
    pub json: bool,

    /// The agent.
    #[command(flatten)]
    pub agent: SocketArgs,
}

/// Arguments of `connections`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConnectionsArgs {
    /// Only those of this client: ADDRESS or ADDRESS:PORT
    #[arg(long, value_name = "CLIENT", value_parser = crate::connections::peer)]
    pub client: Option<Peer>,

    /// Only those of this service
    #[arg(long, value_name = "SERVICE", value_parser = name)]
    pub service: Option<String>,

    /// Only those to this backend: its name, or SERVICE/NAME
    #[arg(long, value_name = "BACKEND", value_parser = backend_name)]
    pub backend: Option<BackendName>,

    /// So many at most, up to 50000
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = limit)]
    pub limit: usize,

    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,

    /// The agent.
    #[command(flatten)]
    pub agent: SocketArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExplainArgs {
    /// The client, ADDRESS:PORT
    #[arg(value_name = "CLIENT:PORT")]
    pub client: SocketAddr,

    /// Where it connects to, VIP:PORT
    #[arg(value_name = "LISTENER")]
    pub listener: Option<SocketAddr>,

    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,

    /// The agent.
    #[command(flatten)]
    pub agent: SocketArgs,
}

/// Arguments of `capture`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CaptureArgs {
    /// Write pcapng to this file; -: to standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Only packets from or to this address or network, before or after the datapath
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = net)]
    pub address: Option<IpNet>,

    /// Packets of others too, which the datapath lets pass
    #[arg(long)]
    pub all: bool,

    /// End after so many packets
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,

    /// Bytes to keep of each packet
    #[arg(long, value_name = "NUMBER", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub bytes: u32,

    /// The agent.
    #[command(flatten)]
    pub agent: SocketArgs,
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("a whole number from 1 to {MOST} is wanted"))
}

/// Arguments of `completions`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man-pages`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ManPagesArgs {
    /// Where they go; it is made where it is missing
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
}

/// NAME or SERVICE/NAME.
fn backend_name(text: &str) -> Result<BackendName, String> {
    let (service, backend) = match text.split_once('/') {
        Some((service, backend)) => (Some(name(service)?), backend),
        None => (None, text),
    };
    Ok(BackendName { service, name: name(backend)? })
}

/// The commands of `vrrp`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum VrrpCommand {
    /// Hand the VIPs over to another node
    ///
    /// This node goes on serving until it hears the other one claim them. Where nobody does within the hand-over's bound (three
    /// advert intervals and the skew, at least one second, at most four) it keeps them. Afterwards it takes them from no node that
    /// lives, whatever its priority, until the hold is over or the agent starts anew.
    #[command(after_help = "Exit status: 0 when this node does not hold them now, 1 when it does or there is no such \
                      name, 3 when no agent answers.")]
    StepDown(StepDownArgs),
}

/// Arguments of `vrrp step-down`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StepDownArgs {
    /// Name of a [[vrrp]]; all without
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: Option<String>,

    /// Seconds for which this node then leaves a living one in peace, at most 86400
    #[arg(long, value_name = "SECONDS", default_value_t = USUAL_HOLD.as_secs(), value_parser = clap::value_parser!(u64).range(..=LONGEST_HOLD))]
    pub hold: u64,

    /// Socket of the agent (its admin.socket)
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// Arguments of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// How log lines look: for people, or JSON, one object to a line, with one line of the target xvip::event for each state
    /// change
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people, and with levels for the journal.
    Text,
    /// For programs.
    Json,
}

/// Arguments of `check`.
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
        let run = RunArgs { config: config.clone(), log_format: LogFormat::Text };
        assert_eq!(parse("xvip run").unwrap(), Command::Run(run));
        assert_eq!(parse("xvip check").unwrap(), Command::Check(config));
        assert_eq!(
            parse("xvip status").unwrap(),
            Command::Status(StatusArgs { json: false, socket: DEFAULT_SOCKET.into(), watch: false })
        );
    }

    #[test]
    fn arguments() {
        let config = ConfigArgs { config: "a.toml".into() };
        let run = RunArgs { config: config.clone(), log_format: LogFormat::Json };
        assert_eq!(parse("xvip run --config a.toml --log-format json").unwrap(), Command::Run(run));
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
    fn step_down() {
        let arguments = |name: Option<&str>, hold| {
            let name = name.map(str::to_owned);
            Command::Vrrp(VrrpCommand::StepDown(StepDownArgs { name, hold, socket: DEFAULT_SOCKET.into() }))
        };
        assert_eq!(parse("xvip vrrp step-down").unwrap(), arguments(None, 3600));
        assert_eq!(parse("xvip vrrp step-down k8s --hold 60").unwrap(), arguments(Some("k8s"), 60));
    }

    #[test]
    fn backends() {
        let agent = SocketArgs { socket: DEFAULT_SOCKET.into() };
        let backend = |service: Option<&str>, name: &str| BackendArgs {
            backend: BackendName { service: service.map(str::to_owned), name: name.to_owned() },
            agent: agent.clone(),
        };
        for (line, expected) in [
            ("drain master1", BackendCommand::Drain(backend(None, "master1"))),
            ("enable api/master1", BackendCommand::Enable(backend(Some("api"), "master1"))),
            (
                "weight a/b 256 --save",
                BackendCommand::Weight(WeightArgs { backend: backend(Some("a"), "b"), weight: 256, save: true }),
            ),
            (
                "add b [2001:db8::1]:6443 --max-connections 9",
                BackendCommand::Add(AddArgs {
                    backend: backend(None, "b"),
                    address: "[2001:db8::1]:6443".parse().unwrap(),
                    weight: None,
                    max_connections: Some(9),
                    save: false,
                }),
            ),
        ] {
            assert_eq!(parse(&format!("xvip backend {line}")).unwrap(), Command::Backend(expected));
        }
    }

    #[test]
    fn connections() {
        let agent = SocketArgs { socket: DEFAULT_SOCKET.into() };
        let client = crate::connections::peer("192.0.2.10:40000").ok();
        let backend = BackendName { service: Some("api".to_owned()), name: "master1".to_owned() };
        let expected = ConnectionsArgs {
            client,
            service: None,
            backend: Some(backend),
            limit: 7,
            json: true,
            agent: agent.clone(),
        };
        let line = "xvip connections --client 192.0.2.10:40000 --backend api/master1 --limit 7 --json";
        assert_eq!(parse(line).unwrap(), Command::Connections(expected));
        let (from, to) = ("192.0.2.10:40000".parse().unwrap(), "192.0.2.100:8443".parse().unwrap());
        let expected = ExplainArgs { client: from, listener: Some(to), json: false, agent };
        assert_eq!(parse("xvip explain 192.0.2.10:40000 192.0.2.100:8443").unwrap(), Command::Explain(expected));
    }

    #[test]
    fn captures() {
        let agent = SocketArgs { socket: DEFAULT_SOCKET.into() };
        let expected = CaptureArgs {
            write: Some("-".into()),
            address: Some(IpNet { address: "192.0.2.0".parse().unwrap(), prefix: 24 }),
            all: false,
            count: Some(9),
            seconds: None,
            bytes: 2048,
            agent,
        };
        assert_eq!(parse("xvip capture -w - --address 192.0.2.0/24 -c 9").unwrap(), Command::Capture(expected));
    }

    #[test]
    fn refusals() {
        for (line, kind) in [
            ("xvip", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("xvip stat", ErrorKind::InvalidSubcommand),
            ("xvip run a.toml", ErrorKind::UnknownArgument),
            ("xvip check --config", ErrorKind::InvalidValue),
            ("xvip backend", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("xvip backend drain", ErrorKind::MissingRequiredArgument),
            ("xvip backend drain a/b/c", ErrorKind::ValueValidation),
            ("xvip backend drain a&b", ErrorKind::ValueValidation),
            ("xvip backend drain a --save", ErrorKind::UnknownArgument),
            ("xvip backend weight a 257", ErrorKind::ValueValidation),
            ("xvip backend add a master1:6443", ErrorKind::ValueValidation),
            ("xvip completions cmd", ErrorKind::InvalidValue),
            ("xvip capture --address master1", ErrorKind::ValueValidation),
            ("xvip capture --address 192.0.2.0/33", ErrorKind::ValueValidation),
            ("xvip capture --bytes 32769", ErrorKind::ValueValidation),
            ("xvip capture --count 0", ErrorKind::ValueValidation),
            ("xvip connections --limit 50001", ErrorKind::ValueValidation),
            ("xvip connections --client master1", ErrorKind::ValueValidation),
            ("xvip explain 192.0.2.10", ErrorKind::ValueValidation),
            ("xvip vrrp", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("xvip vrrp step-down a&b", ErrorKind::ValueValidation),
            ("xvip vrrp step-down --hold 86401", ErrorKind::ValueValidation),
            ("xvip status --json --watch", ErrorKind::ArgumentConflict),
            ("xvip --version", ErrorKind::DisplayVersion),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn what_is_said_is_read_as_in_the_configuration() {
        let words = |line: &str| parse(line).unwrap_err().to_string();
        for (line, expected) in [
            ("xvip backend drain -a", "unexpected argument"),
            ("xvip backend drain .a", r#"".a" begins with a sign, use a-z, 0-9, - and ."#),
            ("xvip backend drain Api/a", r#""Api" has upper case letters, write "api""#),
            (
                "xvip backend add a 127.0.0.1:1",
                r#""127.0.0.1:1" is a loopback address, write an address that one host"#,
            ),
            ("xvip backend add a 2001:db8::1", "is an IPv6 address without a port, write it in brackets"),
            ("xvip capture --address 192.0.2.9/24", r#"write "192.0.2.0/24", or "192.0.2.9" for the host alone"#),
        ] {
            assert!(words(line).contains(expected), "{line}: {}", words(line));
        }
        assert!(parse("xvip backend add a [2001:db8::1]").is_ok());
        assert!(parse(&format!("xvip backend drain {}", "a".repeat(64))).is_err());
    }

    #[test]
    fn the_help_says_the_bounds() {
        let help = |of: &[&str]| {
            let mut cli = Cli::command();
            let mut command = &mut cli;
            for name in of {
                command = command.find_subcommand_mut(name).unwrap();
            }
            command.render_long_help().to_string()
        };
        let weights = format!("0 to {MOST_WEIGHT}");
        assert!(help(&["backend", "weight"]).contains(&weights) && help(&["backend", "add"]).contains(&weights));
        assert!(help(&["vrrp", "step-down"]).contains(&format!("at most {LONGEST_HOLD}")));
        assert!(help(&["connections"]).contains(&format!("up to {MOST}")));
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
