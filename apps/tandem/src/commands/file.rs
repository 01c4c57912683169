//! `tandem file`: announcements, voicemail, recordings, fax, firmware, certificates. All of it works on
//! either machine.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use tandem_config::{Ask, FILE_CLASSES, FileRow, FileStanding, NewFile, Told};
use tandem_files::{Amount, ClassStatus, Hasher, ScrubStatus, UnderWay};
use tandem_os::{clock, entropy};
use tandem_types::Dice;

use super::changes::{decided, time, told};
use super::size::size;
use super::table::Table;
use super::{print_json, unexpected};
use crate::cli::{Failure, Json};
use crate::config::Config;
use crate::server::files::talk::{FilePlace, FilesAnswer, FilesReport, FilesRequest};
use line::Line;

/// So long the twin's disk is waited for, and a second more for so many bytes.
const SAVE_WAIT_SECONDS: u64 = 10;
const SAVE_BYTES_A_SECOND: u64 = 8 * 1024 * 1024;

/// Read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Files in one question where they are: a tenth of what a request may be long.
const ASKED_AT_ONCE: usize = 8_000;

/// How long `tandem status` waits for what the files' thread says, which may be reading a long file.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// What of files.
#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// Keep a file on both machines; one of the same name is replaced, and kept as an older version
    Add(AddArgs),
    /// List files, and where their contents are
    List(ListArgs),
    /// Write a file out, verified
    Get(GetArgs),
    /// Remove a file with its versions; for 7 days `tandem change undo` brings it back
    Remove {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Show each class: how much there is, and whether both machines have it
    Classes(Json),
}

/// What to add.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// What it is for
    #[arg(value_parser = PossibleValuesParser::new(FILE_CLASSES))]
    class: String,
    /// The file
    file: PathBuf,
    /// What it is called [default: the file's own name]
    #[arg(long)]
    name: Option<String>,
    /// What kind of content it is, as audio/wav [default: by the end of its name]
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
}

/// What to list.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Of one class only
    #[arg(value_parser = PossibleValuesParser::new(FILE_CLASSES))]
    class: Option<String>,
    /// Older versions too
    #[arg(long)]
    versions: bool,
    #[command(flatten)]
    json: Json,
}

/// Which file.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// What it is for
    #[arg(value_parser = PossibleValuesParser::new(FILE_CLASSES))]
    class: String,
    /// What it is called
    name: String,
}

/// What to write out.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Where to [default: its name, in this folder]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// An older version, as `file list --versions` counts them
    #[arg(long, value_name = "N", default_value_t = 1)]
    version: usize,
}

/// A file as listed.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    row: FileRow,
    /// Counted from the one in force, which is 1.
    version: usize,
    /// On this machine.
    here: bool,
    /// On the other one; nothing where it does not say.
    there: Option<bool>,
}

/// `tandem file`.
pub(crate) fn file(config: &Config, command: FileCommand) -> Result<(), Failure> {
    match command {
        FileCommand::Add(args) => add(config, &args),
        FileCommand::List(args) => list(config, &args),
        FileCommand::Get(args) => get(config, &args),
        FileCommand::Remove { file: FileArgs { class, name } } => {
            let shown = format!("{class}/{name}");
            decided(config, &Ask::FileRemove { class, name })?;
            println!("{shown} is removed; `tandem change undo` brings it back for 7 days");
            Ok(())
        }
        FileCommand::Classes(json) => classes(config, json),
    }
}

fn add(config: &Config, args: &AddArgs) -> Result<(), Failure> {
    let what = || format!("cannot read {}", args.file.display());
    let own_name = args.file.file_name().and_then(|name| name.to_str());
    let name = args.name.as_deref().or(own_name).context("give the file a name: --name")?;
    let mut from = File::open(&args.file).with_context(what)?;
    let found = from.metadata().with_context(what)?;
    if !found.is_file() {
        return Err(Failure::Other(anyhow!("{}: it is no file", args.file.display())));
    }
    let bytes = found.len();
    let mut line = Line::open(config)?;
    let FilesAnswer::Go = line.ask(&FilesRequest::Put { bytes })? else { return Err(unexpected()) };
    line.send(&mut from, bytes)?;
    let FilesAnswer::Kept { content } = line.answer()? else { return Err(unexpected()) };
    let id = new_id()?;
    let media_type = args.media_type.clone().unwrap_or_else(|| media_type(name).to_owned());
    let class = args.class.clone();
    let (row, of) = (id.clone(), content.clone());
    let new = NewFile { id, class, name: name.to_owned(), media_type, content, bytes };
    decided(config, &Ask::FileAdd(new))?;
    let seconds = SAVE_WAIT_SECONDS + bytes / SAVE_BYTES_A_SECOND;
    let wait = FilesRequest::Wait { row, content: of, seconds };
    let FilesAnswer::There(there) = Line::open(config)?.ask(&wait)? else {
        return Err(unexpected());
    };
    let shown = format!("{}/{name}", args.class);
    if there {
        println!("{shown} is saved on both machines ({})", size(bytes));
    } else {
        println!(
            "{shown} is saved on THIS MACHINE ONLY ({}): the other one has not confirmed it; it gets it \
             as soon as it can, and `tandem file classes` shows when",
            size(bytes)
        );
    }
    Ok(())
}

/// A UUID of version 7 (RFC 9562 §5.7), hexadecimal.
fn new_id() -> Result<String, Failure> {
    let seed = entropy::seed().context("the system gives no random numbers")?;
    let millis = clock::wall_micros() / 1_000;
    let random = Dice::from_seed(seed).hex(10);
    let (version, variant) = (&random[1..4], &random[5..20]);
    Ok(format!("{:012x}7{version}8{variant}", millis & 0xffff_ffff_ffff))
}

/// By the end of a name; who knows better says so.
fn media_type(name: &str) -> &'static str {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    match end.to_ascii_lowercase().as_str() {
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        "g722" => "audio/G722",
        "tif" | "tiff" => "image/tiff",
        "pdf" => "application/pdf",
        "pem" | "crt" | "key" => "application/x-pem-file",
        "zip" => "application/zip",
        "txt" | "cfg" => "text/plain",
        "xml" => "application/xml",
        _ => "application/octet-stream",
    }
}

/// Files with where they are, those in force first.
fn listed(config: &Config, class: Option<&str>) -> Result<Vec<Listed>, Failure> {
    let question = Ask::Files { class: class.map(str::to_owned) };
    let Told::FileList(rows) = told(config, &question)? else { return Err(unexpected()) };
    let mut places = Vec::new();
    for rows in rows.chunks(ASKED_AT_ONCE) {
        let asked = rows.iter().map(|row| (row.id.clone(), row.content.clone())).collect();
        let answer = Line::open(config)?.ask(&FilesRequest::Where { rows: asked })?;
        let FilesAnswer::Places(some) = answer else { return Err(unexpected()) };
        places.extend(some);
    }
    let mut listed: Vec<Listed> = Vec::new();
    for (row, FilePlace { here, there }) in rows.into_iter().zip(places) {
        let same = |one: &&Listed| one.row.class == row.class && one.row.name == row.name;
        let version = 1 + listed.iter().rev().take_while(same).count();
        listed.push(Listed { row, version, here, there });
    }
    Ok(listed)
}

fn list(config: &Config, args: &ListArgs) -> Result<(), Failure> {
    let mut files = listed(config, args.class.as_deref())?;
    if !args.versions {
        files.retain(|file| file.row.standing != FileStanding::Older);
    }
    if args.json.json {
        return print_json(&files);
    }
    let mut table =
        Table::new(&["CLASS", "NAME", "VERSION", "SIZE", "TYPE", "ADDED (UTC)", "CONTENT"]);
    for file in files {
        let standing = match file.row.standing {
            FileStanding::InForce => format!("{}", file.version),
            FileStanding::Older => format!("{} (older)", file.version),
            FileStanding::Undecided => format!("{} (UNDECIDED)", file.version),
        };
        let place = place_words(file.here, file.there).to_owned();
        let FileRow { class, name, media_type, bytes, added, .. } = file.row;
        table.row([class, name, standing, size(bytes), media_type, time(added), place]);
    }
    print!("{table}");
    Ok(())
}

const fn place_words(here: bool, there: Option<bool>) -> &'static str {
    match (here, there) {
        (true, Some(true)) => "on both machines",
        (true, Some(false)) => "on this machine only",
        (true, None) => "here; the other machine does not say",
        (false, Some(true)) => "pending: on the other machine only",
        (false, Some(false)) => "MISSING",
        (false, None) => "pending: not here; the other machine does not say",
    }
}

fn get(config: &Config, args: &GetArgs) -> Result<(), Failure> {
    let GetArgs { file: FileArgs { class, name }, output, version } = args;
    let mut files = listed(config, Some(class))?;
    files.retain(|file| file.row.name == *name);
    let found = version.checked_sub(1).and_then(|at| files.get(at));
    let Some(Listed { row, .. }) = found else {
        let why = match files.len() {
            0 => anyhow!("{class}/{name}: there is no such file"),
            most => anyhow!("{class}/{name}: expected a version from 1 to {most}"),
        };
        return Err(Failure::Other(why));
    };
    let to = output.clone().unwrap_or_else(|| PathBuf::from(name));
    let is_screen = to.as_os_str() == "-";
    if !is_screen {
        check_place(&to, output.is_some())?;
    }
    let mut line = Line::open(config)?;
    let question = FilesRequest::Get { content: row.content.clone() };
    let FilesAnswer::Content { bytes } = line.ask(&question)? else { return Err(unexpected()) };
    if is_screen {
        return take(line.body(), bytes, &row.content, &mut std::io::stdout().lock());
    }
    // What is there stays until all has come and is what it should be.
    let mut part = to.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_out(&part, line.body(), bytes, &row.content)
        .and_then(|()| Ok(std::fs::rename(&part, &to).with_context(|| cannot_write(&to))?));
    if written.is_err() {
        // The reason is told; what is left says by its name what it is.
        let _ = std::fs::remove_file(&part);
    }
    written?;
    println!("{} ({}, {})", to.display(), size(bytes), row.media_type);
    Ok(())
}

/// Whether a file may be written there. A name may have come from the other machine or a database: it
/// does not choose a folder. What is not a file (`/dev/null`, a folder) is not replaced by one.
fn check_place(to: &Path, is_chosen: bool) -> Result<(), Failure> {
    let is_here = to.file_name() == Some(to.as_os_str());
    if !is_chosen && !is_here {
        let why = anyhow!("{}: this name leads elsewhere: say where with --output", to.display());
        return Err(Failure::Other(why));
    }
    match std::fs::symlink_metadata(to) {
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            let why = anyhow!("{}: it is no file (- is the standard output)", to.display());
            Err(Failure::Other(why))
        }
        // A link is replaced, not followed. What else is wrong is told when it is written.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Only its owner reads it: it may be a key, or somebody's voice. Nothing that is there is written through.
fn write_out(
    path: &Path,
    from: &mut BufReader<std::os::unix::net::UnixStream>,
    bytes: u64,
    content: &str,
) -> Result<(), Failure> {
    let mut file = create_anew(path).with_context(|| cannot_write(path))?;
    take(from, bytes, content, &mut file)
}

fn create_anew(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Copies a content and compares it with its name.
fn take(
    from: &mut BufReader<std::os::unix::net::UnixStream>,
    bytes: u64,
    content: &str,
    to: &mut dyn std::io::Write,
) -> Result<(), Failure> {
    let mut from = from.take(bytes);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).context("the server went away")?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read]).context("cannot write what has come")?;
    }
    to.flush().context("cannot write what has come")?;
    if hasher.finish().to_string() != content {
        let why = "what came is not the content that was asked for: try again";
        return Err(Failure::Other(anyhow!("{why}")));
    }
    Ok(())
}

/// What the server of this machine says.
fn report(mut line: Line) -> Result<FilesReport, Failure> {
    match line.ask(&FilesRequest::Classes)? {
        FilesAnswer::Classes(report) => Ok(report),
        FilesAnswer::Go
        | FilesAnswer::Kept { .. }
        | FilesAnswer::There(_)
        | FilesAnswer::Content { .. }
        | FilesAnswer::Places(_) => Err(unexpected()),
    }
}

fn classes(config: &Config, json: Json) -> Result<(), Failure> {
    let report = report(Line::open(config)?)?;
    if json.json {
        return print_json(&report);
    }
    let mut table = Table::new(&["CLASS", "FILES", "SIZE", "THIS MACHINE", "OTHER MACHINE"]);
    for name in FILE_CLASSES {
        let known = report.classes.iter().find(|status| status.class == name).cloned();
        let none = report.twin.then(Amount::default);
        let status = known.unwrap_or(ClassStatus {
            class: name.to_owned(),
            lacking_there: none,
            missing: none,
            ..ClassStatus::default()
        });
        let there = status.lacking_there.map_or_else(|| "does not say".to_owned(), behind);
        let (files, bytes) = (status.all.files.to_string(), size(status.all.bytes));
        table.row([status.class, files, bytes, behind(status.lacking_here), there]);
    }
    print!("{table}");
    for UnderWay { class, name, bytes, here_bytes } in &report.under_way {
        println!("coming: {class}/{name}, {} of {}", size(*here_bytes), size(*bytes));
    }
    let missing = report.classes.iter().filter_map(missing);
    missing.for_each(|line| println!("{line}: add them again, or restore a backup"));
    println!("scrub: {}", scrub_words(&report.scrub));
    Ok(())
}

/// How far everything on this disk was read again.
fn scrub_words(status: &ScrubStatus) -> String {
    let ScrubStatus { begun_millis, ended_millis, files, bytes, damaged } = status;
    if *begun_millis == 0 {
        return String::from("not begun yet");
    }
    let read = format!("{files} right ({}), {damaged} damaged", size(*bytes));
    match ended_millis {
        Some(ended) => {
            format!("{read}; everything on this disk was read, ended {} UTC", time(*ended))
        }
        None => format!("{read} so far; begun {} UTC", time(*begun_millis)),
    }
}

/// What is whole on neither machine.
fn missing(status: &ClassStatus) -> Option<String> {
    let Amount { files, bytes } = status.missing.filter(|missing| !missing.is_none())?;
    Some(format!("{}: {files} are whole on NEITHER MACHINE ({})", status.class, size(bytes)))
}

fn behind(lacking: Amount) -> String {
    match lacking.is_none() {
        true => String::from("equal"),
        false => format!("behind by {} ({})", lacking.files, size(lacking.bytes)),
    }
}

/// What is not equal, a line each, for `tandem status`; nothing where the server does not answer.
pub(super) fn unequal(config: &Config) -> Vec<String> {
    let line = Line::open_for(config, STATUS_PATIENCE);
    let Ok(report) = line.and_then(report) else { return Vec::new() };
    let lines = |status: &ClassStatus| {
        let here = (!status.lacking_here.is_none())
            .then(|| format!("{}: this machine is {}", status.class, behind(status.lacking_here)));
        let there = status.lacking_there.filter(|lacking| !lacking.is_none());
        let there = there
            .map(|lacking| format!("{}: the other machine is {}", status.class, behind(lacking)));
        [here, there, missing(status)].into_iter().flatten().collect::<Vec<_>>()
    };
    report.classes.iter().flat_map(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_uuid_of_version_7_that_begins_with_the_time() {
        let (id, next) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!((id.len(), &id[12..13], &id[16..17]), (32, "7", "8"));
        assert!(id != next && id[..12] <= next[..12], "{id} {next}");
    }

    #[test]
    fn where_a_content_is_has_words() {
        assert_eq!(place_words(true, Some(true)), "on both machines");
        assert!(place_words(false, Some(true)).starts_with("pending"));
        assert_eq!(place_words(false, Some(false)), "MISSING");
        assert_eq!(
            behind(Amount { files: 2, bytes: 3 * 1024 * 1024 }),
            format!("behind by 2 ({})", size(3 * 1024 * 1024))
        );
        assert_eq!(behind(Amount::default()), "equal");
        let one = ClassStatus { missing: Some(Amount { files: 1, bytes: 0 }), ..none() };
        assert!(missing(&one).unwrap().contains("1 are whole on NEITHER MACHINE"));
        assert_eq!((missing(&none()), missing(&ClassStatus::default())), (None, None));
    }

    fn none() -> ClassStatus {
        ClassStatus { missing: Some(Amount::default()), ..ClassStatus::default() }
    }

    #[test]
    fn how_far_everything_was_read_has_words() {
        assert_eq!(scrub_words(&ScrubStatus::default()), "not begun yet");
        let going = ScrubStatus { begun_millis: 1_790_000_000_000, ..ScrubStatus::default() };
        assert_eq!(
            scrub_words(&going),
            "0 right (0.0 KiB), 0 damaged so far; begun 2026-09-21 14:13:20 UTC"
        );
        let over = ScrubStatus { ended_millis: Some(1_790_000_060_000), damaged: 2, ..going };
        assert!(scrub_words(&over).ends_with(
            "2 damaged; everything on this disk was read, ended \
                                              2026-09-21 14:14:20 UTC"
        ));
    }

    #[test]
    fn a_file_is_written_where_it_was_said_and_for_its_owner_only() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = crate::demo::place::Folder::new(None).unwrap();
        let (to, others) = (folder.path().join("key.part"), folder.path().join("others"));
        std::fs::write(&others, "theirs").unwrap();
        symlink(&others, &to).unwrap();
        drop(create_anew(&to).unwrap());
        assert_eq!(std::fs::read_to_string(&others).unwrap(), "theirs");
        let found = std::fs::symlink_metadata(&to).unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600);
        for (path, is_chosen, is_fit) in [
            ("greeting.wav", false, true),
            ("../greeting.wav", false, false),
            ("/etc/passwd", false, false),
            ("..", false, false),
            ("/nowhere/greeting.wav", true, true),
            ("/dev/null", true, false),
            ("/", true, false),
        ] {
            assert_eq!(check_place(Path::new(path), is_chosen).is_ok(), is_fit, "{path}");
        }
    }
}
