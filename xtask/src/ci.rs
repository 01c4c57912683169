//! `cargo xtask ci`: the whole test command, step by step, each timed.
//!
//! ```text
//! format > clippy > tidy > docs > test > build > story > lab
//! ```
//!
//! [`STEPS`] is the one place that says what "all tests pass" means; `.ci/run`, the README and
//! CONTRIBUTING.md only call it. The last two steps start real servers and real phones in network
//! namespaces: as root directly, otherwise in a user namespace, and where neither is possible
//! they are skipped in capital letters.
//!
//! Invariant: a step that did not run is never counted as passed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{metadata, output_of};

/// One step of the test command.
#[derive(Debug)]
struct Step {
    name: &'static str,
    /// What it proves.
    proves: &'static str,
    /// Program and arguments. [`XTASK`] stands for this program; a program below [`BUILT`] is
    /// looked for where cargo puts the binaries.
    command: &'static [&'static str],
    /// Variables set for it.
    environment: &'static [(&'static str, &'static str)],
    needs: Needs,
}

/// What a step cannot run without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    /// A compiler.
    Cargo,
    /// Network namespaces: root, or the right to make them inside a user namespace.
    Namespaces,
}

const fn step(
    name: &'static str,
    proves: &'static str,
    command: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    needs: Needs,
) -> Step {
    Step { name, proves, command, environment, needs }
}

use Needs::{Cargo, Namespaces};

#[rustfmt::skip]
const STEPS: &[Step] = &[
    step("format", "the code is formatted",
        &["cargo", "fmt", "--all", "--check"], &[], Cargo),
    step("clippy", "no lint speaks, and core/ is pure",
        &["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        &[], Cargo),
    step("tidy", "layers, licences, names, lengths and links are in order",
        &[XTASK, "tidy"], &[], Cargo),
    step("docs", "the documentation builds and its links lead somewhere",
        &["cargo", "doc", "--locked", "--no-deps", "--workspace"],
        &[("RUSTDOCFLAGS", "-D warnings")], Cargo),
    step("test", "unit tests, stories and simulated bad luck",
        &["cargo", "test", "--locked", "--workspace"], &[], Cargo),
    step("build", "the binaries and the fuzz targets build",
        // Not the whole workspace: sim/ would switch on the sabotage that only its tests may use.
        &["cargo", "build", "--locked", "--bins", "-p", "tandem", "-p", "tandem-lab",
            "-p", "tandem-fuzz"], &[], Cargo),
    step("story", "two real phones talk on while their server is killed",
        &["target/debug/tandem", "demo", "--story"], &[], Namespaces),
    step("lab", "real binaries under load: killed, hung, cut off",
        &["target/debug/tandem-lab", "ci"], &[], Namespaces),
];

/// How a step ended.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Outcome {
    Passed,
    Failed(String),
    /// It could not run here, for this reason.
    Skipped(String),
}

/// What was asked for on the command line.
#[derive(Debug, Default, Eq, PartialEq)]
struct Wish {
    list: bool,
    keep_going: bool,
    /// Names of steps; empty for all.
    only: Vec<String>,
}

/// Runs the steps. True when none failed.
///
/// # Errors
///
/// When the command line names something unknown or cargo cannot be asked where it builds.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool, String> {
    let wish = parse(arguments)?;
    if wish.list {
        for step in STEPS {
            println!("{:<8} {:<56} {}", step.name, step.proves, step.command.join(" "));
        }
        return Ok(true);
    }
    let target = metadata(root)?["target_directory"].as_str().map(String::from);
    let built = format!("{}/debug/", target.ok_or("cargo names no target directory")?);
    let done = run_steps(&wish, |step| run_step(root, &built, step));
    print!("{}", summary(&done));
    Ok(!done.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_))))
}

fn parse(arguments: &[String]) -> Result<Wish, String> {
    let mut wish = Wish::default();
    for argument in arguments {
        match argument.as_str() {
            "--list" => wish.list = true,
            "--keep-going" => wish.keep_going = true,
            name if STEPS.iter().any(|step| step.name == name) => wish.only.push(name.to_owned()),
            other => {
                let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
                return Err(format!("no step or option {other}; the steps: {}", names.join(" ")));
            }
        }
    }
    Ok(wish)
}

type Done = Vec<(&'static Step, Outcome, Duration)>;

/// Runs the wished steps in order; stops at the first that fails unless told to go on.
fn run_steps(wish: &Wish, mut run_one: impl FnMut(&Step) -> Outcome) -> Done {
    let mut done = Done::new();
    for step in STEPS {
        if !wish.only.is_empty() && !wish.only.iter().any(|name| name == step.name) {
            continue;
        }
        println!("\n==== {}: {}", step.name, step.proves);
        let began = Instant::now();
        let outcome = run_one(step);
        let took = began.elapsed();
        println!("==== {}", line(step, &outcome, took));
        let failed = matches!(outcome, Outcome::Failed(_));
        done.push((step, outcome, took));
        if failed && !wish.keep_going {
            break;
        }
    }
    done
}

fn run_step(root: &Path, built: &str, step: &Step) -> Outcome {
    let command = match step.needs {
        Cargo => place(step.command, built),
        Namespaces => match wrapper(root) {
            Ok(wrapper) => [wrapper, place(step.command, built)].concat(),
            Err(why) => return Outcome::Skipped(why),
        },
    };
    let Some((program, arguments)) = command.split_first() else {
        return Outcome::Failed(String::from("no command given"));
    };
    let status = Command::new(program)
        .args(arguments)
        .envs(step.environment.iter().copied())
        .current_dir(root)
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) if status.code() == Some(EXIT_OF_TIMEOUT) => {
            Outcome::Failed(format!("not done after {LIVE_MINUTES_MAX} minutes"))
        }
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(error) => Outcome::Failed(format!("{program}: {error}")),
    }
}

/// The command with its program where it really lies.
fn place(command: &[&str], built: &str) -> Vec<String> {
    let mut command: Vec<String> = command.iter().map(|word| String::from(*word)).collect();
    if let Some(program) = command.first_mut() {
        if program == XTASK {
            if let Ok(own) = std::env::current_exe() {
                *program = own.to_string_lossy().into_owned();
            }
        } else if let Some(binary) = program.strip_prefix(BUILT) {
            *program = format!("{built}{binary}");
        }
    }
    command
}

/// What is put in front of a step that needs namespaces: a time limit and, without root, a user
/// namespace in which we are root, with a /run of our own where `ip netns` keeps its names, and a loopback device that is up.
fn wrapper(root: &Path) -> Result<Vec<String>, String> {
    let words = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect::<Vec<_>>();
    let limit = format!("{LIVE_MINUTES_MAX}m");
    let limit = words(&["timeout", "--foreground", "--kill-after=10", &limit]);
    if output_of(root, &["unshare", "--net", "true"]).is_ok() {
        return Ok(limit);
    }
    let as_root = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", OWN_RUN, "sh"];
    match output_of(root, &[&as_root[..], &["true"]].concat()) {
        Ok(_) => Ok([limit, words(&as_root)].concat()),
        Err(why) => Err(format!("neither root nor user namespaces: {why}")),
    }
}

fn line(step: &Step, outcome: &Outcome, took: Duration) -> String {
    let (word, why) = match outcome {
        Outcome::Passed => ("passed", String::new()),
        Outcome::Failed(why) => ("FAILED", format!(" ({why})")),
        Outcome::Skipped(why) => ("SKIPPED", format!(" ({why})")),
    };
    format!("{:<8} {word:<8} {:>7.1} s{why}", step.name, took.as_secs_f64())
}

fn summary(done: &[(&'static Step, Outcome, Duration)]) -> String {
    let count = |wanted: fn(&Outcome) -> bool| done.iter().filter(|(_, o, _)| wanted(o)).count();
    let passed = count(|outcome| matches!(outcome, Outcome::Passed));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let mut text = String::from("\n==== all steps\n");
    for (step, outcome, took) in done {
        text += &format!("{}\n", line(step, outcome, *took));
    }
    for (step, _, _) in done.iter().filter(|(_, o, _)| matches!(o, Outcome::Skipped(_))) {
        text += &format!("\n!!!! SKIPPED, NOT TESTED HERE: {}: {}\n", step.name, step.proves);
    }
    text + &format!("ci: {passed} passed, {failed} failed, {skipped} skipped\n")
}

/// Stands for this program in a step's command.
const XTASK: &str = "xtask";

/// Where the binaries lie unless cargo was told otherwise.
const BUILT: &str = "target/debug/";

/// Gives a command a /run and a loopback device of its own, then becomes the command.
const OWN_RUN: &str = "mount -t tmpfs none /run && ip link set lo up && exec \"$@\"";

/// How long the steps with real processes may take: one that hangs must not hang the whole run.
const LIVE_MINUTES_MAX: u32 = 20;

/// What timeout(1) returns when time was up.
const EXIT_OF_TIMEOUT: i32 = 124;

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(words: &[&str]) -> Result<Wish, String> {
        parse(&words.iter().map(|word| String::from(*word)).collect::<Vec<_>>())
    }

    fn names(done: &Done) -> Vec<&'static str> {
        done.iter().map(|(step, _, _)| step.name).collect()
    }

    #[test]
    fn every_step_has_a_name_of_its_own() {
        for (index, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..index].iter().all(|other| other.name != step.name), "{}", step.name);
        }
    }

    #[test]
    fn the_steps_run_in_order_and_all_of_them_count() {
        let done = run_steps(&Wish::default(), |_| Outcome::Passed);
        assert_eq!(names(&done), STEPS.iter().map(|step| step.name).collect::<Vec<_>>());
        assert!(summary(&done).ends_with("ci: 8 passed, 0 failed, 0 skipped\n"));
    }

    #[test]
    fn the_first_failure_ends_the_run_unless_told_to_go_on() {
        let clippy_fails = |step: &Step| match step.name {
            "clippy" => Outcome::Failed(String::from("exit status: 101")),
            _ => Outcome::Passed,
        };
        assert_eq!(names(&run_steps(&Wish::default(), clippy_fails)), ["format", "clippy"]);
        let on = Wish { keep_going: true, ..Wish::default() };
        let done = run_steps(&on, clippy_fails);
        assert!(summary(&done).ends_with("ci: 7 passed, 1 failed, 0 skipped\n"));
    }

    #[test]
    fn a_skipped_step_is_named_loudly_and_does_not_count_as_passed() {
        let done = run_steps(&Wish::default(), |step| match step.needs {
            Cargo => Outcome::Passed,
            Namespaces => Outcome::Skipped(String::from("no namespaces")),
        });
        let text = summary(&done);
        assert!(text.contains("SKIPPED, NOT TESTED HERE: story") && text.contains(": lab"));
        assert!(text.ends_with("ci: 6 passed, 0 failed, 2 skipped\n"));
    }

    #[test]
    fn only_the_named_steps_run_and_an_unknown_name_is_refused() {
        let two = wish(&["docs", "tidy"]).unwrap();
        assert_eq!(names(&run_steps(&two, |_| Outcome::Passed)), ["tidy", "docs"]);
        assert!(wish(&["--list", "--keep-going"]).is_ok());
        assert!(wish(&["tests"]).unwrap_err().contains("format clippy tidy"));
    }

    #[test]
    fn a_built_binary_is_looked_for_where_cargo_puts_it() {
        let command = place(&["target/debug/tandem", "demo"], "/elsewhere/debug/");
        assert_eq!(command, ["/elsewhere/debug/tandem", "demo"]);
    }
}
