//! Changes of the configuration as administrators make them: commands on the active server's socket, so
//! many a second.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tandem_node::{NewPassword, Reply, Request};

use super::observe::Lags;

/// Commands at the same time, at most.
const AT_ONCE: usize = 16;

/// Nobody waits longer for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Sets the display names of `users` again and again for `time`, so many a second; from each order to its
/// answer.
///
/// # Errors
///
/// One is refused.
pub(super) fn make(
    socket: &Path,
    users: &[String],
    per_second: usize,
    time: Duration,
) -> Result<Lags> {
    let threads = AT_ONCE.min(per_second);
    let pause = Duration::from_secs(1) * u32::try_from(threads)? / u32::try_from(per_second)?;
    let begun = Instant::now();
    let work = |index: usize| {
        let (socket, users) = (socket.to_owned(), users.to_vec());
        // Evenly spread over the pause.
        let first = begun + pause * u32::try_from(index)? / u32::try_from(threads)?;
        Ok(std::thread::spawn(move || one(&socket, &users, index, first, pause, begun + time)))
    };
    let running = (0..threads).map(work).collect::<Result<Vec<_>>>()?;
    let mut millis = Vec::new();
    for thread in running {
        millis.extend(thread.join().map_err(|_| anyhow!("a thread has panicked"))??);
    }
    Lags::of(millis, begun.elapsed().as_secs_f64())
}

fn one(
    socket: &Path,
    users: &[String],
    index: usize,
    first: Instant,
    pause: Duration,
    end: Instant,
) -> Result<Vec<f64>> {
    let (mut millis, mut next) = (Vec::new(), first);
    while next < end {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let turn = millis.len();
        let name = &users[(index + turn * AT_ONCE) % users.len()];
        let begun = Instant::now();
        set_display(socket, name, &format!("name {index} {turn}"))?;
        millis.push(begun.elapsed().as_secs_f64() * 1_000.0);
        next += pause;
    }
    Ok(millis)
}

/// Sets the name of a user for people.
///
/// # Errors
///
/// It is refused.
pub(super) fn set_display(socket: &Path, name: &str, display: &str) -> Result<()> {
    let request = Request::UserSet {
        name: name.to_owned(),
        display: Some(display.to_owned()),
        numbers: None,
        enabled: None,
        password: NewPassword::Keep,
    };
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    let mut stream = UnixStream::connect(socket).context("the server's socket")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match serde_json::from_str(&answer) {
        Ok(Reply::Done { .. }) => Ok(()),
        Ok(_) | Err(_) => bail!("{name}: {}", answer.trim_end()),
    }
}
