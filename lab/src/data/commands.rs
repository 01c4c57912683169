//! Commands that read all call records beside the running servers: how long they take, and how much memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem::demo::report::Report;
use tandem::demo::wait;

use crate::stage::{Stage, program};

/// A command that takes longer never ends.
const LIMIT: Duration = Duration::from_secs(600);

/// Pause between two looks at a command.
const PAUSE: Duration = Duration::from_millis(5);

/// The memory of a command that reads records does not grow with their number.
const PEAK_MAX_MIB: f64 = 40.0;

/// Exports and verifies, on the machine that serves.
pub(super) fn run(stage: &Stage, records: u64, report: &mut Report) -> Result<()> {
    let file = stage.folder.path().join("export");
    let path = file.to_str().context("a folder with a strange name")?;
    for (form, heads) in [("reference", 1), ("jsonl", 0)] {
        let words = ["cdr", "export", "--format", form, "--output", path];
        measure(stage, &words, &format!("export of {records} calls as {form}"), report)?;
        let lines = lines(&file)?;
        let what = format!("all are exported as {form}");
        report.check(&what, lines > records + heads, &format!("{lines} lines"));
    }
    std::fs::remove_file(&file)?;
    measure(stage, &["verify"], &format!("verify of {records} calls"), report)
}

/// Runs a command of the first machine.
fn measure(stage: &Stage, words: &[&str], what: &str, report: &mut Report) -> Result<()> {
    let mut command = Command::new(program()?);
    command.arg("--config").arg(&stage.twins.machines[0].config_path).args(words);
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let peak = watch(&mut child, begun);
    if peak.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
    }
    let (seconds, mib) = (begun.elapsed().as_secs_f64(), peak.with_context(|| words.join(" "))?);
    let text = format!("{mib:.1} MiB of memory at most");
    report.figure(what, (seconds * 10.0).round() / 10.0, "s", &text);
    report.check(&format!("{what}: {PEAK_MAX_MIB} MiB"), mib <= PEAK_MAX_MIB, &text);
    Ok(())
}

/// Waits until it succeeds; the most memory that it had, in MiB.
fn watch(child: &mut Child, begun: Instant) -> Result<f64> {
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{status}");
            ensure!(peak > 0, "it ended before its memory was seen");
            // Memory is far below 2^52 KiB.
            return Ok(peak as f64 / 1024.0);
        }
        ensure!(begun.elapsed() < LIMIT && !wait::asked_to_stop(), "it does not end");
        // The highest so far: the kernel keeps it until the process is gone.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.ok().and_then(|all| {
            let value = all.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        peak = line.unwrap_or(0).max(peak);
        std::thread::sleep(PAUSE);
    }
}

fn lines(file: &Path) -> Result<u64> {
    use std::io::{BufRead as _, BufReader};
    let file = BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    let mut count = 0;
    for line in file.split(b'\n') {
        line?;
        count += 1;
    }
    Ok(count)
}
