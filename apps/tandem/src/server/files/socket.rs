//! The socket for commands about contents: a thread for each connection, one question each.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tandem_files::{ContentId, FileError, Folder, RowId, check_length};
use tandem_os::clock;

use super::talk::{FilePlace, FilesAnswer, FilesReport, FilesRequest};
use super::{Asker, FilesThread, Question, Waiter, Wish};
use crate::control::{self, REQUEST_MAX, Refusal};

/// Commands that are answered at the same time, at most; further ones are refused. So not more of them
/// wait for the twin, either.
const CONNECTIONS_MAX: usize = 16;

/// How long the other end may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest that a command may have this server wait for the twin, in seconds.
const WAIT_SECONDS_MAX: u64 = 3_600;

/// So long a damaged content is waited for, which comes from the twin.
const MEND_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks whether it is there.
const MEND_PAUSE: Duration = Duration::from_millis(100);

/// Pause after the system refused to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Numbers of what users send.
static STAGED: AtomicU64 = AtomicU64::new(0);

/// Opens the socket. What answers it ends with the process.
pub(super) fn listen(socket: &Path, thread: &FilesThread, folder: Folder) -> anyhow::Result<()> {
    let listener = control::listen(socket)?;
    listener.set_nonblocking(false)?;
    let asker = thread.asker(folder);
    let name = std::thread::Builder::new().name("files-socket".to_owned());
    name.spawn(move || accept(&listener, &asker))?;
    Ok(())
}

fn accept(listener: &UnixListener, asker: &Asker) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            let error = format!("{CONNECTIONS_MAX} commands about files run already: try again");
            let _ = say(&stream, &Refusal { error });
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (asker, counted) = (asker.clone(), Arc::clone(&open));
        let name = std::thread::Builder::new().name("files-command".to_owned());
        let spawned = name.spawn(move || {
            // Who goes away while asking needs no answer.
            let _ = converse(&stream, &asker);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn say(mut stream: &UnixStream, answer: &impl serde::Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn converse(stream: &UnixStream, asker: &Asker) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let most = u64::try_from(REQUEST_MAX).unwrap_or(u64::MAX);
    reader.by_ref().take(most).read_line(&mut line)?;
    let request = serde_json::from_str(&line)
        .map_err(|error| format!("the server does not know this request: {error}"));
    let answer = match request {
        Ok(FilesRequest::Get { content }) => match get(stream, asker, &content) {
            Ok(done) => return done,
            Err(error) => Err(error),
        },
        Ok(FilesRequest::Put { bytes }) => put(stream, &mut reader, asker, bytes)?,
        Ok(FilesRequest::Wait { row, content, seconds }) => {
            wait(asker, &row, &content, seconds).map(FilesAnswer::There)
        }
        Ok(FilesRequest::Where { rows }) => places(asker, &rows).map(FilesAnswer::Places),
        Ok(FilesRequest::Classes) => classes(asker).map(FilesAnswer::Classes),
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => say(stream, &answer),
        Err(error) => say(stream, &Refusal { error }),
    }
}

/// Takes a content; the inner error is what the user is told.
fn put(
    stream: &UnixStream,
    reader: &mut BufReader<&UnixStream>,
    asker: &Asker,
    bytes: u64,
) -> std::io::Result<Result<FilesAnswer, String>> {
    if let Err(error) = check_length(bytes).and_then(|()| asker.folder.check_room(bytes)) {
        return Ok(Err(error.to_string()));
    }
    say(stream, &FilesAnswer::Go)?;
    let mut body = reader.take(bytes);
    let staged = asker.folder.stage(STAGED.fetch_add(1, Ordering::Relaxed), &mut body);
    if staged.is_err() {
        // The other end hears why when it has said all.
        std::io::copy(&mut body, &mut std::io::sink())?;
    }
    let kept = match staged {
        Ok(staged) if staged.bytes == bytes => {
            let content = staged.content;
            let kept = asker.ask(|back| Question::Adopt(staged, back));
            kept.and_then(|kept| kept.map_err(|error: FileError| error.to_string()))
                .map(|()| FilesAnswer::Kept { content: content.to_string() })
        }
        Ok(staged) => {
            asker.folder.unstage(&staged);
            Err(format!("{} of {bytes} bytes came: nothing is kept", staged.bytes))
        }
        Err(error) => Err(error.to_string()),
    };
    Ok(kept)
}

/// Sends a content; one that is damaged is waited for.
fn get(stream: &UnixStream, asker: &Asker, content: &str) -> Result<std::io::Result<()>, String> {
    let content = parse(content)?;
    let until = std::time::Instant::now() + MEND_PATIENCE;
    let mut doubted = false;
    let mut file = loop {
        match asker.folder.read(content) {
            Ok(file) => break file,
            Err(FileError::Damaged | FileError::Missing)
                if std::time::Instant::now() < until && (doubted || asker.has(content)?) =>
            {
                if !doubted {
                    asker.tell(Question::Doubt(content))?;
                }
                doubted = true;
                std::thread::sleep(MEND_PAUSE);
            }
            Err(error) => return Err(format!("{error}: look with `tandem file list`")),
        }
    };
    let mut send = || {
        let bytes = file.metadata()?.len();
        say(stream, &FilesAnswer::Content { bytes })?;
        let mut to = stream;
        std::io::copy(&mut file, &mut to).map(|_| ())
    };
    Ok(send())
}

fn wait(asker: &Asker, row: &str, content: &str, seconds: u64) -> Result<bool, String> {
    let (row, content) = (parse_row(row)?, parse(content)?);
    let until = clock::now() + Duration::from_secs(seconds.min(WAIT_SECONDS_MAX));
    asker.ask(|back| Question::Wait(Waiter { row, content, until, had_twin: false, back }))
}

fn places(asker: &Asker, rows: &[(String, String)]) -> Result<Vec<FilePlace>, String> {
    let rows = rows.iter().map(|(row, content)| Ok((parse_row(row)?, parse(content)?)));
    let rows = rows.collect::<Result<Vec<_>, String>>()?;
    let places = asker.ask(|back| Question::Where(rows, back))?;
    Ok(places.iter().map(|place| FilePlace { here: place.here, there: place.there }).collect())
}

fn classes(asker: &Asker) -> Result<FilesReport, String> {
    let super::Classes { classes, under_way, twin, scrub } = asker.ask(Question::Classes)?;
    Ok(FilesReport { classes, under_way, twin, scrub })
}

impl Asker {
    fn tell(&self, question: Question) -> Result<(), String> {
        self.wishes.send(Wish::Ask(question)).map_err(|_| GONE.to_owned())
    }

    fn ask<A>(&self, question: impl FnOnce(Sender<A>) -> Question) -> Result<A, String> {
        let (back, answer) = channel();
        self.tell(question(back))?;
        answer.recv().map_err(|_| GONE.to_owned())
    }

    /// Whether the thread believes that it is here.
    fn has(&self, content: ContentId) -> Result<bool, String> {
        let places = self.ask(|back| Question::Where(vec![([0; 16], content)], back))?;
        Ok(places.first().is_some_and(|place| place.here))
    }
}

const GONE: &str = "the server is stopping";

fn parse(content: &str) -> Result<ContentId, String> {
    ContentId::from_str(content).map_err(|()| format!("{content:?} names no content"))
}

fn parse_row(row: &str) -> Result<RowId, String> {
    let digits = |at: usize| u8::from_str_radix(row.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..16).map(|byte| digits(byte * 2)).collect();
    let parsed = bytes.and_then(|bytes| RowId::try_from(bytes).ok());
    parsed.filter(|_| row.len() == 32).ok_or_else(|| format!("{row:?} names no row"))
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use serde_json::Value;
    use tandem_files::{Cuts, FILE_BYTES_MAX, Files};

    use super::super::{FilesThread, start};
    use super::*;
    use crate::demo::place::Folder as Place;
    use crate::demo::wait;

    /// Far beyond what anything here takes, also on a busy machine.
    const LIMIT: Duration = Duration::from_secs(60);

    struct Server {
        place: Place,
        // It ends when this is dropped.
        _thread: FilesThread,
    }

    impl Server {
        fn up() -> Self {
            let place = Place::new(None).unwrap();
            let folder = Folder::open(&place.path().join("files")).unwrap();
            let files = Files::open(folder.with(Cuts::default(), |_| Ok(u64::MAX))).unwrap();
            let (thread, _) = start(files, &place.path().join("files.sock")).unwrap();
            Self { place, _thread: thread }
        }

        /// Sends a line.
        fn ask(&self, line: &str) -> BufReader<UnixStream> {
            let mut stream = UnixStream::connect(self.place.path().join("files.sock")).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // One that is refused may be closed before it has said all.
            let _ = stream.write_all(format!("{line}\n").as_bytes());
            BufReader::new(stream)
        }

        fn staged(&self) -> usize {
            std::fs::read_dir(self.place.path().join("files/incoming")).unwrap().count()
        }
    }

    fn answer(stream: &mut BufReader<UnixStream>) -> Value {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn one_command_too_many_is_refused_and_served_as_soon_as_another_has_ended() {
        let server = Server::up();
        let put = r#"{"put":{"bytes":5}}"#;
        let mut open: Vec<_> = (0..CONNECTIONS_MAX).map(|_| server.ask(put)).collect();
        assert!(open.iter_mut().all(|stream| answer(stream) == "go"));
        let refused = answer(&mut server.ask(put));
        let why = refused["error"].as_str().unwrap();
        assert!(why.contains("16 commands about files run already"), "{why}");
        // Those that were there before go on.
        let mut first = open.remove(0);
        first.get_mut().write_all(b"hello").unwrap();
        let kept = answer(&mut first);
        assert_eq!(kept["kept"]["content"], ContentId::of(b"hello").to_string());
        drop(first);
        wait::until("room for a command", LIMIT, || {
            Ok((answer(&mut server.ask(put)) == "go").then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_leaves_nothing() {
        let server = Server::up();
        let longer = format!(r#"{{"put":{{"bytes":{}}}}}"#, FILE_BYTES_MAX + 1);
        let endless = " ".repeat(REQUEST_MAX + 1);
        for (line, why) in [
            (longer.as_str(), "longer than 2048 MiB"),
            (r#"{"get":{"content":"../../../etc/passwd"}}"#, "names no content"),
            (r#"{"get":{"content":"00"}}"#, "names no content"),
            (r#"{"where":{"rows":[["0","0"]]}}"#, "names no row"),
            (r#"{"wait":{"row":"é","content":"","seconds":1}}"#, "names no row"),
            (r#"{"put":{"bytes":-1}}"#, "does not know this request"),
            ("", "does not know this request"),
            (endless.as_str(), "does not know this request"),
        ] {
            let answer = answer(&mut server.ask(line));
            let told = answer["error"].as_str().unwrap_or_default().to_owned();
            assert!(told.contains(why), "{}: {answer}", &line[..line.len().min(80)]);
        }
        // A file that became shorter while it was sent.
        let mut short = server.ask(r#"{"put":{"bytes":5}}"#);
        assert_eq!(answer(&mut short), "go");
        short.get_mut().write_all(b"he").unwrap();
        short.get_mut().shutdown(Shutdown::Write).unwrap();
        assert_eq!(answer(&mut short)["error"], "2 of 5 bytes came: nothing is kept");
        assert_eq!(server.staged(), 0);
    }
}
