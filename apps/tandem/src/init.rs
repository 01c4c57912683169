//! `tandem init`: sets up one machine of a pair: the configuration, the pair secret, the state folder.
//!
//! On the master it makes the secret and prints a pairing code; on the standby it reads that code,
//! which is all the standby needs. Nothing that exists is overwritten: files are created or the
//! command is refused, and what a refused command had created is removed.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use tandem_types::Seat;

use crate::config::{Config, HEARTBEAT_PORT, LINK_PORT, Prefix, Profile, SIP_PORT};
use crate::pairing::Pairing;

/// Which machine of the pair this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SeatArg {
    /// Leads when both start cold; is set up first
    Master,
    /// Follows; is set up with the master's pairing code
    Standby,
}

/// The options of `tandem init`.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Which machine of the pair this is
    #[arg(long, value_enum)]
    pub seat: SeatArg,
    /// An address of this machine; may be repeated (master only: the code tells the standby)
    #[arg(long, value_name = "IP")]
    pub address: Vec<IpAddr>,
    /// An address of the other machine; may be repeated, in the order of --address (master only)
    #[arg(long, value_name = "IP")]
    pub peer: Vec<IpAddr>,
    /// An address that phones know, with its prefix; may be repeated (master only)
    #[arg(long = "virtual", value_name = "IP/PREFIX", value_parser = prefix)]
    pub virtual_addresses: Vec<Prefix>,
    /// The interface that carries the virtual addresses (left out on loopback only)
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// The domain of the users and the realm of their passwords (master only) [default: tandem]
    #[arg(long, value_name = "DOMAIN")]
    pub realm: Option<String>,
    /// The master's pairing code; `-` reads it from the standard input (standby only)
    #[arg(long, value_name = "CODE")]
    pub join: Option<String>,
    /// Folder for everything [default: /etc/tandem, with the state in /var/lib/tandem]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// The account the services run under; it will own the files [default: tandem, where root runs
    /// this and the account exists]
    #[arg(long, value_name = "ACCOUNT")]
    pub owner: Option<String>,
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::parse(text)
        .ok_or_else(|| String::from("expected an address with its prefix, as in 192.0.2.10/24"))
}

/// What `init` made.
#[derive(Debug)]
pub struct Made {
    /// The configuration file.
    pub path: PathBuf,
    /// What it says.
    pub config: Config,
    /// What the other machine needs.
    pub pairing: Pairing,
}

/// Runs the command and prints what to do next.
///
/// # Errors
///
/// Wrong options, a wrong code, files that are already there or cannot be written.
pub fn run(args: InitArgs) -> anyhow::Result<()> {
    let made = set_up(args)?;
    let path = made.path.display();
    match made.config.seat {
        Seat::Master => println!("{}", next_steps(&made)),
        Seat::Standby => println!(
            "This machine is set up as standby: {path}\n\nStart it:\n\n    {}",
            start_command(&made.path)
        ),
    }
    Ok(())
}

fn next_steps(made: &Made) -> String {
    let standby = made.pairing.standby.first().map(IpAddr::to_string).unwrap_or_default();
    let interface = made
        .config
        .interface
        .as_ref()
        .map(|name| format!(" --interface {name}"))
        .unwrap_or_default();
    let dir =
        if made.path == Path::new(crate::config::DEFAULT_PATH) { "" } else { " --dir FOLDER" };
    let code = made.pairing.to_code();
    format!(
        "This machine is set up as master: {path}\n\n\
         Pairing code (it holds the pair's secret: treat it like a password):\n\n    {code}\n\n\
         On the other machine ({standby}) run:\n\n    \
         tandem init --seat standby{interface}{dir} --join {code}\n\n\
         (`--join -` reads the code from the standard input, so that it stays out of the shell's \
         history.)\n\nThen start both machines:\n\n    {start}",
        path = made.path.display(),
        start = start_command(&made.path),
    )
}

fn start_command(path: &Path) -> String {
    if path == Path::new(crate::config::DEFAULT_PATH) {
        String::from("systemctl enable --now tandem-keeper")
    } else {
        format!("tandem --config {} keeper", path.display())
    }
}

/// Writes everything that one machine needs.
///
/// # Errors
///
/// As for [`run`].
pub fn set_up(args: InitArgs) -> anyhow::Result<Made> {
    let (folder, state) = match &args.dir {
        Some(dir) => (std::path::absolute(dir)?, PathBuf::from("state")),
        None => (PathBuf::from("/etc/tandem"), PathBuf::from("/var/lib/tandem")),
    };
    let (seat, pairing) = match args.seat {
        SeatArg::Master => (Seat::Master, new_pairing(&args)?),
        SeatArg::Standby => (Seat::Standby, join(&args)?),
    };
    let path = folder.join("tandem.toml");
    let text = file_text(seat, &pairing, args.interface.as_deref(), &state);
    // The file must pass its own check before anything is written.
    let config = Config::parse(&path, &text).map_err(|problems| {
        let wrong: Vec<_> = problems.problems.into_iter().map(|problem| problem.what).collect();
        anyhow::anyhow!("{}", wrong.join("\n"))
    })?;
    write_all(&path, &text, &config, &pairing.secret, owner(args.owner.as_deref())?)?;
    Ok(Made { path, config, pairing })
}

fn new_pairing(args: &InitArgs) -> anyhow::Result<Pairing> {
    ensure!(args.join.is_none(), "--join is for the standby; the master makes the pairing code");
    let need = [
        ("--address", args.address.is_empty(), "an address of this machine, as in 192.0.2.2"),
        ("--peer", args.peer.is_empty(), "an address of the other machine, as in 192.0.2.3"),
        (
            "--virtual",
            args.virtual_addresses.is_empty(),
            "the address phones know, as in 192.0.2.10/24",
        ),
    ];
    for (option, missing, expected) in need {
        ensure!(!missing, "{option} is missing: expected {expected}");
    }
    ensure!(
        args.peer.len() == args.address.len(),
        "--peer is given {} times and --address {}: expected one --peer for each --address, in the \
         same order (each two are one path between the machines)",
        args.peer.len(),
        args.address.len()
    );
    let mut secret = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut dice| dice.read_exact(&mut secret))
        .context("cannot read random bytes from /dev/urandom")?;
    Ok(Pairing {
        secret,
        realm: args.realm.clone().unwrap_or_else(|| String::from("tandem")),
        master: args.address.clone(),
        standby: args.peer.clone(),
        virtual_addresses: args.virtual_addresses.clone(),
        ports: [SIP_PORT, HEARTBEAT_PORT, LINK_PORT],
        profile: Profile::Default,
    })
}

fn join(args: &InitArgs) -> anyhow::Result<Pairing> {
    let told = [
        ("--address", !args.address.is_empty()),
        ("--peer", !args.peer.is_empty()),
        ("--virtual", !args.virtual_addresses.is_empty()),
        ("--realm", args.realm.is_some()),
    ];
    for (option, given) in told {
        ensure!(!given, "{option} is for the master; the pairing code tells it to the standby");
    }
    let code = match args.join.as_deref() {
        Some("-") => {
            let mut code = String::new();
            std::io::stdin().read_to_string(&mut code).context("cannot read the pairing code")?;
            code
        }
        Some(code) => code.to_owned(),
        None => bail!(
            "--join is missing: expected the pairing code that `tandem init --seat master` printed \
             on the other machine"
        ),
    };
    Ok(Pairing::from_code(&code)?)
}

/// The configuration file of one seat.
fn file_text(seat: Seat, pairing: &Pairing, interface: Option<&str>, state: &Path) -> String {
    let (own, peer) = match seat {
        Seat::Master => (&pairing.master, &pairing.standby),
        Seat::Standby => (&pairing.standby, &pairing.master),
    };
    let profile = match pairing.profile {
        Profile::Default => "default",
        Profile::Fast => "fast",
    };
    let interface = interface.map(|name| format!("interface = {name:?}\n")).unwrap_or_default();
    let [port, heartbeat_port, link_port] = pairing.ports;
    format!(
        "# One machine of a Tandem pair. `tandem config keys` explains every key,\n\
         # `tandem config check` checks this file.\n\
         seat = \"{seat}\"\nrealm = {realm:?}\naddress = [{own}]\npeer = [{peer}]\n\
         virtual = [{virtual_addresses}]\n{interface}port = {port}\n\
         heartbeat_port = {heartbeat_port}\nlink_port = {link_port}\nstate = {state:?}\n\
         secret = \"pair.secret\"\nprofile = \"{profile}\"\n",
        realm = pairing.realm,
        own = quoted(own),
        peer = quoted(peer),
        virtual_addresses = quoted(&pairing.virtual_addresses),
    )
}

fn quoted<T: ToString>(list: &[T]) -> String {
    let list: Vec<_> = list.iter().map(|item| format!("\"{}\"", item.to_string())).collect();
    list.join(", ")
}

/// User and group that will own the files.
type Owner = Option<(u32, u32)>;

/// The account of the services, where root sets up for it.
fn owner(account: Option<&str>) -> anyhow::Result<Owner> {
    if account.is_none() && !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let name = account.unwrap_or("tandem");
    let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [found, _, user, group, ..] if *found == name => {
                Some((user.parse().ok()?, group.parse().ok()?))
            }
            _ => None,
        }
    });
    ensure!(ids.is_some() || account.is_none(), "--owner {name}: there is no such account");
    Ok(ids)
}

fn write_all(
    path: &Path,
    text: &str,
    config: &Config,
    secret: &[u8; 32],
    owner: Owner,
) -> anyhow::Result<()> {
    for file in [path, &config.secret] {
        ensure!(
            !file.exists(),
            "{} is already there: this machine is set up. To begin anew, remove it first",
            file.display()
        );
    }
    for folder in path.parent().into_iter().chain([config.state.as_path()]) {
        make_folder(folder, owner)?;
    }
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    create(&config.secret, &format!("{hex}\n"), 0o600, owner)?;
    create(path, text, 0o644, owner).inspect_err(|_| {
        // So that a second try does not find half a set-up.
        let _ = fs::remove_file(&config.secret);
    })
}

/// Writes the file of a machine that was there before, and the pair secret where it is given.
///
/// # Errors
///
/// Files that are already there or cannot be written.
pub(crate) fn put_back(
    path: &Path,
    text: &str,
    config: &Config,
    secret: Option<&str>,
) -> anyhow::Result<()> {
    let owner = owner(None)?;
    for folder in path.parent().into_iter().chain([config.state.as_path()]) {
        make_folder(folder, owner)?;
    }
    if let Some(secret) = secret {
        create(&config.secret, secret, 0o600, owner)?;
    }
    create(path, text, 0o644, owner)
}

fn make_folder(folder: &Path, owner: Owner) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    made.and_then(|()| give(folder, owner))
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn create(path: &Path, text: &str, mode: u32, owner: Owner) -> anyhow::Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is already there: this machine is set up", path.display())
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| give(path, owner))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn give(path: &Path, owner: Owner) -> std::io::Result<()> {
    match owner {
        Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: InitArgs,
    }

    /// A folder of the test's own, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tandem-init-{}-{count}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn init(folder: &Folder, seat: &str, options: &[&str]) -> anyhow::Result<Made> {
        let dir = folder.0.to_str().unwrap_or_default();
        let line = ["init", "--dir", dir, "--seat", seat];
        set_up(Line::parse_from(line.iter().chain(options)).args)
    }

    const MASTER: [&str; 8] = [
        "--address",
        "127.1.2.1",
        "--peer",
        "127.1.2.2",
        "--virtual",
        "127.1.2.10/24",
        "--realm",
        "example.org",
    ];

    #[test]
    fn the_code_alone_sets_up_the_standby() {
        let (here, there) = (Folder::new(), Folder::new());
        let master = init(&here, "master", &MASTER).unwrap();
        let standby = init(&there, "standby", &["--join", &master.pairing.to_code()]).unwrap();
        assert_eq!(standby.pairing, master.pairing);
        let [one, two] = [&master.path, &standby.path].map(|path| Config::load(path).unwrap());
        assert_eq!((one.seat, two.seat), (Seat::Master, Seat::Standby));
        assert_eq!((&one.address, &one.peer), (&two.peer, &two.address));
        assert_eq!((&one.realm, &one.virtual_addresses), (&two.realm, &two.virtual_addresses));
        assert_eq!(one.pair_secret().unwrap(), two.pair_secret().unwrap());
        assert!(two.state.starts_with(&there.0) && two.state.is_dir());
    }

    #[test]
    fn two_pairs_have_different_secrets() {
        let (one, two) = (Folder::new(), Folder::new());
        let [one, two] = [&one, &two].map(|folder| init(folder, "master", &MASTER).unwrap());
        assert_ne!(one.pairing.secret, two.pairing.secret);
    }

    #[test]
    fn the_secret_is_for_its_owner_only_and_is_refused_otherwise() {
        let folder = Folder::new();
        let config = init(&folder, "master", &MASTER).unwrap().config;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&config.secret), mode(&config.state)), (0o600, 0o750));
        fs::set_permissions(&config.secret, fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", config.pair_secret().unwrap_err());
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&config.secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&config.secret, "0123").unwrap();
        let error = format!("{:#}", config.pair_secret().unwrap_err());
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let folder = Folder::new();
        let first = init(&folder, "master", &MASTER).unwrap();
        let error = init(&folder, "master", &MASTER).unwrap_err().to_string();
        assert!(error.contains("already there"), "{error}");
        assert_eq!(first.config.pair_secret().unwrap().reveal(), &first.pairing.secret);
    }

    #[test]
    fn wrong_options_say_what_was_expected_and_leave_nothing_behind() {
        let cases: [(&str, &[&str], &str); 7] = [
            ("master", &[], "--address is missing: expected an address of this machine"),
            ("master", &MASTER[..4], "--virtual is missing"),
            ("master", &[&MASTER[..], &["--join", "X"]].concat(), "--join is for the standby"),
            (
                "master",
                &[&MASTER[..4], &["--virtual", "192.0.2.9/24"]].concat(),
                "interface is missing",
            ),
            ("standby", &[], "--join is missing: expected the pairing code"),
            ("standby", &["--join", "X", "--realm", "a"], "--realm is for the master"),
            ("standby", &["--join", "ABCDEFG-HJKMNPQ"], "the pairing code is wrong"),
        ];
        for (seat, options, expected) in cases {
            let folder = Folder::new();
            let error = init(&folder, seat, options).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!folder.0.exists(), "{options:?}");
        }
    }

    #[test]
    fn the_next_steps_name_the_command_for_the_other_machine() {
        let folder = Folder::new();
        let made = init(&folder, "master", &MASTER).unwrap();
        let text = next_steps(&made);
        let code = made.pairing.to_code();
        assert!(text.contains(&format!("tandem init --seat standby --dir FOLDER --join {code}")));
        assert!(text.contains("On the other machine (127.1.2.2)"));
    }
}
