//! What Rust files must have and must not have: a purpose at the top of each crate, a length that
//! can be read, nothing left open, nothing impure in `core/`, no sleeping in tests.

use serde_json::Value;

use super::layers::own_packages;
use super::{File, Report, Tree};

/// Beyond this a file holds more than one concept.
const FILE_LINES_MAX: usize = 800;

/// A purpose in fewer words is a placeholder.
const PURPOSE_WORDS_MIN: usize = 3;

/// Marks of unfinished work. Written in two pieces, so that this file does not accuse itself.
const LEFTOVERS: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// What `core/` must not name, besides what `core/clippy.toml` forbids by type: there, a whole
/// module of the standard library cannot be forbidden.
const IMPURE: &[&str] =
    &["std::fs", "std::thread", "std::process", "std::env", "std::os", "std::time", "SystemTime"];

/// The way around `core/clippy.toml`.
const WAYS_AROUND: &[&str] =
    &[concat!("clippy::", "disallowed_types"), concat!("clippy::", "disallowed_methods")];

/// Files whose tests may sleep, each with the reason. An entry that is no longer needed is a fault.
pub(super) const SLEEPS_ALLOWED: &[(&str, &str)] = &[];

/// The root of every crate begins with a module doc that says what the crate is for.
pub(super) fn roots(metadata: &Value, tree: &Tree) -> Report {
    let mut report = Report::new("roots", "crate roots");
    let top = metadata["workspace_root"].as_str().unwrap_or_default();
    for package in own_packages(metadata) {
        for target in package["targets"].as_array().into_iter().flatten() {
            let kinds = target["kind"].as_array().into_iter().flatten();
            if !kinds.filter_map(Value::as_str).any(|kind| kind == "lib" || kind == "bin") {
                continue;
            }
            let path = target["src_path"].as_str().unwrap_or_default();
            let path = path.strip_prefix(top).unwrap_or(path).trim_start_matches('/');
            report.seen += 1;
            let first = tree.file(path).and_then(|file| file.text.lines().next());
            let purpose = first.and_then(|line| line.strip_prefix("//!"));
            let words = purpose.map_or(0, |purpose| purpose.split_whitespace().count());
            if words < PURPOSE_WORDS_MIN {
                report.fault(format!("{path} does not begin with what the crate is for (`//!`)"));
            }
        }
    }
    report
}

/// No file is longer than [`FILE_LINES_MAX`]. (Functions are measured by clippy.)
pub(super) fn lengths(tree: &Tree) -> Report {
    let mut report = Report::new("lengths", "Rust files");
    for file in tree.rust() {
        report.seen += 1;
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            report.fault(format!("{}: {lines} lines; split it", file.path));
        }
    }
    report
}

/// Nothing was left open.
pub(super) fn leftovers(tree: &Tree) -> Report {
    let mut report = Report::new("leftovers", "lines");
    for file in tree.rust() {
        for (number, line) in file.numbered() {
            report.seen += 1;
            if let Some(mark) = LEFTOVERS.iter().find(|mark| line.contains(**mark)) {
                report.fault(format!("{}:{number}: {mark} left", file.path));
            }
        }
    }
    report
}

/// The sources of `core/` (not their tests) name nothing impure and do not silence the lints that
/// keep them pure.
pub(super) fn purity(tree: &Tree) -> Report {
    let mut report = Report::new("purity", "files of core");
    let in_core = |file: &&File| file.path.starts_with("core/") && file.path.contains("/src/");
    for file in tree.rust().filter(in_core) {
        report.seen += 1;
        let tests_at = tests_begin(file);
        for (number, line) in file.numbered().take_while(|(number, _)| *number < tests_at) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            let words = IMPURE.iter().chain(WAYS_AROUND);
            for word in words.filter(|word| line.contains(**word)) {
                report.fault(format!("{}:{number}: {word} in core", file.path));
            }
        }
    }
    report
}

/// Tests wait for a condition and never for a time.
pub(super) fn sleeps(tree: &Tree, allowed: &[(&str, &str)]) -> Report {
    let mut report = Report::new("sleeps", "lines of tests");
    let mut used = Vec::new();
    for file in tree.rust() {
        let tests_at = tests_begin(file);
        for (number, line) in file.numbered().skip_while(|(number, _)| *number < tests_at) {
            report.seen += 1;
            if line.trim_start().starts_with("//") || !sleeps_in(line) {
                continue;
            }
            match allowed.iter().find(|(path, _)| *path == file.path) {
                Some((path, _)) => used.push(*path),
                None => report.fault(format!("{}:{number}: a test sleeps", file.path)),
            }
        }
    }
    for (path, _) in allowed.iter().filter(|(path, _)| !used.contains(path)) {
        report.fault(format!("{path} may sleep but does not: remove the entry"));
    }
    report
}

/// Whether a line calls `sleep` or `sleep_until`, under whatever path.
fn sleeps_in(line: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '('))
        .any(|piece| piece.starts_with("sleep(") || piece.starts_with("sleep_until("))
}

/// The line where the tests of a file begin: the first for a file of tests, one beyond the last
/// for a file without.
fn tests_begin(file: &File) -> usize {
    if file.path.starts_with("tests/")
        || file.path.contains("/tests/")
        || file.path.ends_with("/tests.rs")
    {
        return 1;
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let opens = |window: &[&str]| {
        window[0].trim() == concat!("#[cfg", "(test)]") && window[1].trim_end().ends_with('{')
    };
    lines.windows(2).position(opens).map_or(lines.len() + 1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::tree;
    use serde_json::json;

    const LIB: &str = "core/x/src/lib.rs";

    fn roots_of(text: &str) -> Report {
        let metadata = json!({ "workspace_root": "/w", "packages": [{ "source": null, "targets": [
            { "kind": ["lib"], "src_path": "/w/core/x/src/lib.rs" },
            { "kind": ["test"], "src_path": "/w/core/x/tests/x.rs" },
        ]}]});
        roots(&metadata, &tree(&[(LIB, text)]))
    }

    #[test]
    fn a_crate_root_says_what_the_crate_is_for() {
        let good = roots_of("//! Parses and prints SIP messages.\n");
        assert_eq!((good.seen, good.faults.len()), (1, 0));
        for text in ["mod x;\n", "//! tandem-x\n", "", "// Parses and prints messages.\n"] {
            assert_eq!(roots_of(text).faults.len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_file_may_be_as_long_as_the_limit_and_no_longer() {
        let full = "\n".repeat(FILE_LINES_MAX);
        assert!(lengths(&tree(&[(LIB, &full)])).faults.is_empty());
        let over = "\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(lengths(&tree(&[(LIB, &over)])).faults.len(), 1);
    }

    #[test]
    fn every_mark_of_unfinished_work_is_found() {
        for mark in LEFTOVERS {
            assert_eq!(leftovers(&tree(&[(LIB, mark)])).faults.len(), 1, "{mark}");
        }
        assert!(leftovers(&tree(&[(LIB, "fn done() {}")])).faults.is_empty());
    }

    #[test]
    fn core_names_nothing_impure_outside_its_tests() {
        let found = |path, text| purity(&tree(&[(path, text)])).faults.len();
        assert_eq!(found(LIB, "use std::fs;"), 1);
        assert_eq!(found(LIB, concat!("#[allow(clippy::", "disallowed_types)]")), 1);
        assert_eq!(found(LIB, "// std::fs is not used here"), 0);
        assert_eq!(found(LIB, concat!("#[cfg", "(test)]\nmod tests {\nuse std::env;\n}")), 0);
        assert_eq!(found("io/x/src/lib.rs", "use std::fs;"), 0);
    }

    #[test]
    fn a_sleeping_test_is_a_fault_and_sleeping_code_is_not() {
        let found = |path, text| sleeps(&tree(&[(path, text)]), &[]).faults.len();
        let call = concat!("    std::thread::", "sleep", "(pause);\n");
        assert_eq!(found("io/x/tests/link.rs", call), 1);
        assert_eq!(found("io/x/src/tests.rs", concat!("sleep", "_until(x).await;")), 1);
        let inline = format!("{}\nmod tests {{\n{call}}}\n", concat!("#[cfg", "(test)]"));
        assert_eq!(found(LIB, &inline), 1);
        let elsewhere = format!("{}\nmod tests;\n{call}", concat!("#[cfg", "(test)]"));
        assert_eq!(found(LIB, &elsewhere), 0);
        assert_eq!(found(LIB, call), 0);
        assert_eq!(found("io/x/tests/link.rs", "fn nobody_sleeps() {}"), 0);
    }

    #[test]
    fn an_allowed_sleep_passes_and_an_unused_entry_is_a_fault() {
        let path = "io/x/tests/link.rs";
        let sleeping = tree(&[(path, concat!("sleep", "(x);"))]);
        let allowed = [(path, "waits for the kernel, which tells nobody")];
        assert!(sleeps(&sleeping, &allowed).faults.is_empty());
        assert_eq!(sleeps(&tree(&[(path, "")]), &allowed).faults.len(), 1);
    }
}
