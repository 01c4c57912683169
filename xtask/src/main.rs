//! `cargo xtask`: the project's own checks, and the whole test command in one word.
//!
//! ```text
//! cargo xtask tidy              rules about the tree that the compiler does not know
//! cargo xtask ci                everything that must hold before a change lands, in order, timed
//! cargo xtask ci --list         the steps of it
//! cargo xtask ci tidy docs      only these steps
//! ```
//!
//! Invariant: a check says how much it looked at, and one that looked at nothing has failed.

mod ci;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let outcome = match arguments.split_first() {
        Some((command, [])) if command == "tidy" => tidy::run(&root),
        Some((command, rest)) if command == "ci" => ci::run(&root, rest),
        Some(_) | None => Err(String::from(USAGE)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(EXIT_COULD_NOT_RUN)
        }
    }
}

/// The top of the tree: this crate lies one folder below it.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|own| Path::new(&own).parent().map(Path::to_path_buf))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Runs a command in `root` and returns what it prints.
///
/// # Errors
///
/// When it cannot be started, fails, or prints something that is not UTF-8.
fn output_of(root: &Path, command: &[&str]) -> Result<String, String> {
    let said = command.join(" ");
    let Some((program, arguments)) = command.split_first() else {
        return Err(String::from("no command given"));
    };
    let output = std::process::Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|error| format!("{said}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{said}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{said}: {error}"))
}

/// What cargo knows about the workspace and about every crate that is linked on this machine.
fn metadata(root: &Path) -> Result<Value, String> {
    let version = output_of(root, &["rustc", "-vV"])?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("rustc -vV names no host")?;
    let command = ["cargo", "metadata", "--format-version", "1", "--filter-platform", host];
    let text = output_of(root, &command)?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

const USAGE: &str = "usage: cargo xtask tidy | cargo xtask ci [--list] [--keep-going] [STEP...]";

/// Told apart from 1 ("looked and found faults").
const EXIT_COULD_NOT_RUN: u8 = 2;
