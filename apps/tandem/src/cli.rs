//! The command line: what there is, and where it leads.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::{ChangeCommand, ConflictCommand, FileCommand};
use crate::config::{Config, DEFAULT_PATH, PATH_VARIABLE, reference};
use crate::witness::{self, WitnessCommand};
use crate::{commands, demo, init, keeper, server};

/// A SIP phone system that comes as a pair of servers.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    /// The configuration file of this machine
    #[arg(long, short, global = true, env = PATH_VARIABLE, default_value = DEFAULT_PATH)]
    #[arg(value_name = "FILE", hide_env_values = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed; the reason is on the standard error
  2  the command line or the configuration is wrong
  3  the keeper or the server of this machine does not answer";

const WITNESS_FILE: &str = "\
Without a command it is the service itself. Its file is /etc/tandem/witness.toml where --config names
no other.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a whole pair on this machine, without root and without configuration
    Demo(demo::DemoArgs),
    /// Set up this machine as one of a pair
    Init(init::InitArgs),
    /// Run the keeper: it starts and watches the server and decides with its twin who is active
    Keeper,
    /// Run the server (the keeper does that)
    #[command(hide = true)]
    Server(server::ServerArgs),
    /// Show both machines: who is active, since when and why, and what would be lost now
    Status(Json),
    /// Explain the present state, and what would happen if the active server or machine died now
    Why(Json),
    /// Show what happened on both machines, and what each change rested on; works whoever runs
    Events(commands::EventsArgs),
    /// Hand over from the active machine to the other one, in good order; from either machine
    Switch(SwitchArgs),
    /// Maintenance lock: while it is on, this machine does not take over by itself
    Lock {
        /// On or off
        #[arg(value_parser = ["on", "off"])]
        state: String,
        /// The lock ends by itself after that: 90s, 30m, 2h, 1d
        #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
        seconds: Option<u64>,
    },
    /// Users and their devices
    #[command(subcommand)]
    User(UserCommand),
    /// Calls that are up
    #[command(subcommand)]
    Call(CallCommand),
    /// Call detail records
    #[command(subcommand)]
    Cdr(commands::CdrCommand),
    /// Let nobody log in anew, or no call begin, for a while; emergency numbers always pass
    #[command(subcommand)]
    Block(BlockCommand),
    /// Emergency numbers, and where they ring
    #[command(subcommand)]
    Emergency(EmergencyCommand),
    /// Announcements, voicemail, recordings, fax, firmware, certificates: on both machines
    #[command(subcommand)]
    File(FileCommand),
    /// What was changed of users, numbers and settings, by whom; and to undo it
    #[command(subcommand)]
    Change(ChangeCommand),
    /// What both machines changed while they were apart, and which value is in force
    #[command(subcommand)]
    Conflict(ConflictCommand),
    /// Where configuration and call records are kept: in files, or in a PostgreSQL
    #[command(subcommand)]
    Store(commands::StoreCommand),
    /// Copy everything of this machine to a folder or file, while calls go on
    Backup(commands::BackupArgs),
    /// Put a backup in place on this machine, or bring back the configuration of that day on both
    Restore(commands::RestoreArgs),
    /// Check every file of this machine, and both machines against each other; or a backup
    Verify(commands::VerifyArgs),
    /// The configuration: of this machine (its file), and of the pair as one document
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run a witness, the third vote for pairs, on a third machine
    #[command(after_help = WITNESS_FILE)]
    Witness {
        #[command(subcommand)]
        command: Option<WitnessCommand>,
    },
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// When to switch over.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct SwitchArgs {
    /// Also if the other machine is not in sync: calls may be lost
    #[arg(long)]
    pub(crate) force: bool,
    /// As soon as no calls are up; `tandem status` shows what is waited for
    #[arg(long, conflicts_with = "force")]
    pub(crate) when_idle: bool,
    /// Cancel a switchover that waits for the calls to end
    #[arg(long, conflicts_with_all = ["force", "when_idle"])]
    pub(crate) cancel: bool,
}

/// How a list is printed.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Json {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; the password that is made is shown once
    Add {
        /// Login name: a-z, 0-9, dot, dash, underscore
        name: String,
        /// An internal number; may be repeated
        #[arg(long = "number", value_name = "DIGITS", required = true)]
        numbers: Vec<String>,
        /// What others see [default: the login name]
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        display: String,
        /// Take the password from the first line of the standard input instead of making one
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the users and the devices they are logged in with
    List(Json),
    /// Remove a user and end the logins
    Remove {
        /// Login name
        name: String,
    },
    /// Change a user; what is not given stays
    Set {
        /// Login name
        name: String,
        /// All internal numbers; may be repeated
        #[arg(long = "number", value_name = "DIGITS")]
        numbers: Vec<String>,
        /// What others see
        #[arg(long, value_name = "NAME")]
        display: Option<String>,
        /// Let the user log in
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Do not let the user log in
        #[arg(long)]
        disable: bool,
        /// Make a new password and show it once
        #[arg(long, conflicts_with = "password_stdin")]
        new_password: bool,
        /// Take the new password from the first line of the standard input
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CallCommand {
    /// List the calls that are up
    List(Json),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BlockCommand {
    /// Devices that are not logged in; those that are renew and log out as ever
    Logins(BlockArgs),
    /// Calls that are not up yet, but those to emergency numbers
    Calls(BlockArgs),
    /// Show what is blocked, since when and why, and how many were refused
    Show(Json),
}

#[derive(Args, Debug)]
pub(crate) struct BlockArgs {
    /// On or off
    #[arg(value_parser = ["on", "off"])]
    pub(crate) state: String,
    /// Why; who is refused is told, and the log
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The block ends by itself after that: 90s, 30m, 2h, 1d
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    pub(crate) seconds: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EmergencyCommand {
    /// Change them; what is not given stays
    Set {
        /// All emergency numbers; may be repeated
        #[arg(long = "number", value_name = "DIGITS")]
        numbers: Vec<String>,
        /// The user, by name or number, at whom they ring
        #[arg(long, value_name = "USER")]
        to: Option<String>,
        /// They ring nowhere but at users who have such a number
        #[arg(long, conflicts_with = "to")]
        nowhere: bool,
    },
    /// List them
    List(Json),
}

/// Seconds from `90s`, `30m`, `2h` or `1d`.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a number and s, m, h or d, as in 2h";
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    found.filter(|seconds| *seconds > 0).ok_or_else(|| EXPECTED.to_owned())
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the file and name everything that is wrong in it
    Check,
    /// Explain every key
    Keys,
    /// Print users, numbers and emergency numbers as one document (TOML)
    Export {
        /// With what is kept of passwords: needed to make users anew. Keep it secret
        #[arg(long)]
        passwords: bool,
    },
    /// Show what a document would change; with --apply make it so, in one transaction
    Import {
        /// The document; "-" for the standard input. Whoever is not in it is removed
        document: PathBuf,
        /// Make it so
        #[arg(long)]
        apply: bool,
    },
}

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong.
    Config(anyhow::Error),
    /// A service does not answer.
    Unreachable(anyhow::Error),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let (code, error) = match run(cli) {
        Ok(code) => return code,
        Err(Failure::Other(error)) => (1, error),
        Err(Failure::Config(error)) => (2, error),
        Err(Failure::Unreachable(error)) => (3, error),
    };
    eprintln!("tandem: {error:#}");
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let load = || Config::load(&cli.config).map_err(Failure::Config);
    match cli.command {
        Command::Demo(args) => return Ok(demo::run(args)?),
        Command::Init(args) => init::run(args)?,
        Command::Keeper => keeper::run(&cli.config, &load()?)?,
        Command::Server(args) => server::run(&cli.config, &load()?, &args)?,
        Command::Status(json) => commands::status(&load()?, json)?,
        Command::Why(json) => commands::why(&load()?, json)?,
        Command::Events(args) => commands::events(&load()?, &args)?,
        Command::Switch(args) => commands::switch(&load()?, args)?,
        Command::Lock { state, seconds } => commands::lock(&load()?, state == "on", seconds)?,
        Command::User(command) => commands::user(&load()?, command)?,
        Command::Call(CallCommand::List(json)) => commands::calls(&load()?, json)?,
        Command::Cdr(command) => commands::cdr(&load()?, command)?,
        Command::Block(command) => commands::block(&load()?, command)?,
        Command::Emergency(command) => commands::emergency(&load()?, command)?,
        Command::File(command) => commands::file(&load()?, command)?,
        Command::Change(command) => commands::changes(&load()?, command)?,
        Command::Conflict(command) => commands::conflicts(&load()?, command)?,
        Command::Store(command) => commands::store(&load()?, command)?,
        Command::Backup(args) => commands::backup(&cli.config, &load()?, &args)?,
        Command::Verify(args) => commands::verify(load, &args)?,
        Command::Restore(args) => commands::restore(&cli.config, &args)?,
        Command::Config(ConfigCommand::Check) => {
            let config = load()?;
            config.pair_secret().map_err(Failure::Config)?;
            println!("{}: good ({} of the pair)", cli.config.display(), config.seat);
        }
        Command::Config(ConfigCommand::Keys) => print!("{}", reference()),
        Command::Config(ConfigCommand::Export { passwords }) => {
            commands::export(&load()?, passwords)?;
        }
        Command::Config(ConfigCommand::Import { document, apply }) => {
            commands::import(&load()?, &document, apply)?;
        }
        Command::Witness { command } => witness::command(&cli.config, command)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tandem", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;

    /// The help of every command, as a page.
    fn help() -> String {
        fn add(page: &mut String, command: &mut clap::Command, path: &str) {
            *page += &format!("$ {path} --help\n{}\n", command.render_help());
            for inner in command.get_subcommands_mut() {
                let path = format!("{path} {}", inner.get_name());
                add(page, inner, &path);
            }
        }
        let mut page = String::new();
        let mut command = Cli::command();
        command.build();
        add(&mut page, &mut command, "tandem");
        page
    }

    #[test]
    fn the_help_reads_as_it_did() {
        expect_file!["help.txt"].assert_eq(&help());
    }

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(parse_span(text), Ok(seconds));
        }
        for text in ["", "2", "h", "0h", "-1h", "2 h", "2w", "99999999999999999999d"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
