//! What is written for people: links that lead somewhere, files and types that exist, and no path
//! that exists on one machine only.

use super::{File, Report, Tree};

/// Folders of single machines. Written in two pieces, so that this file does not accuse itself.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// The first folders of the project: a path that begins with one of them and is set as code in a
/// page must exist.
const OWN_FOLDERS: &[&str] = &["core/", "io/", "apps/", "sim/", "lab/", "fuzz/", "xtask/", "docs/"];

/// No file names a folder of the machine it was written on.
pub(super) fn machine_paths(tree: &Tree) -> Report {
    let mut report = Report::new("paths", "text files");
    for file in &tree.files {
        report.seen += 1;
        for (number, line) in file.numbered() {
            for path in MACHINE_PATHS.iter().filter(|path| names_path(line, path)) {
                report.fault(format!("{}:{number}: {path} is a path of one machine", file.path));
            }
        }
    }
    report
}

/// Whether an absolute path that begins with `path` stands in the line, and not merely a longer
/// one or an address that contains it.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/*~}$".contains(c))
    })
}

/// Every link of every page that stays inside the project leads to a file, a folder or a heading
/// that is there; so does every path of the project that is set as code.
pub(super) fn links(tree: &Tree) -> Report {
    let mut report = Report::new("links", "links and paths in pages");
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut fenced = false;
        for (number, line) in file.numbered() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                check_line(tree, file, number, line, &mut report);
            }
        }
    }
    report
}

fn check_line(tree: &Tree, file: &File, number: usize, line: &str, report: &mut Report) {
    // Between backticks stand the pieces at odd places.
    for piece in line.split('`').skip(1).step_by(2) {
        let there = if is_own_path(piece) {
            tree.has(piece.trim_end_matches('/'))
        } else if let Some((folder, item)) = own_item(piece) {
            defines(tree, folder, item)
        } else {
            continue;
        };
        report.seen += 1;
        if !there {
            report.fault(format!("{}:{number}: {piece} is not there", file.path));
        }
    }
    for target in targets(line) {
        report.seen += 1;
        if let Err(why) = follow(tree, &file.path, target) {
            report.fault(format!("{}:{number}: ({target}) {why}", file.path));
        }
    }
}

/// A path of the project written out in full: no placeholder, no pattern, no line number.
fn is_own_path(piece: &str) -> bool {
    OWN_FOLDERS.iter().any(|folder| piece.starts_with(folder))
        && piece.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
}

/// The crate's folder name and the first item of a path like `tandem_types::Seat`.
fn own_item(piece: &str) -> Option<(&str, &str)> {
    let mut parts = piece.strip_prefix("tandem_")?.split("::");
    Some((parts.next()?, parts.next()?))
}

/// Whether a crate of `core/` or `io/` defines an item of this name.
fn defines(tree: &Tree, folder: &str, item: &str) -> bool {
    let sources = [format!("core/{folder}/src/"), format!("io/{folder}/src/")];
    tree.rust()
        .filter(|file| sources.iter().any(|source| file.path.starts_with(source)))
        .flat_map(|file| file.text.lines())
        .any(|line| defined_by(line) == Some(item))
}

/// The public name that a line defines: in `pub enum Seat {` the last word before any punctuation.
fn defined_by(line: &str) -> Option<&str> {
    let line = line.trim_start().strip_prefix("pub ")?;
    line.split(['(', '<', ':', '=', '{', ';']).next()?.split_whitespace().next_back()
}

/// What stands in `](...)` and stays inside the project.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

fn follow(tree: &Tree, from: &str, target: &str) -> Result<(), &'static str> {
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let place = if path.is_empty() { String::from(from) } else { resolve(from, path) };
    if !tree.has(&place) {
        return Err("leads to nothing");
    }
    match (heading, tree.file(&place)) {
        (Some(heading), Some(page)) if !anchors(page).any(|anchor| anchor == heading) => {
            Err("leads to no heading of that page")
        }
        (Some(_) | None, _) => Ok(()),
    }
}

/// The path from the top of the tree for a path relative to the page `from`.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchors that a forge makes of the headings of a page.
fn anchors(page: &File) -> impl Iterator<Item = String> {
    page.text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::tree;

    #[test]
    fn a_path_of_one_machine_is_a_fault() {
        for path in MACHINE_PATHS {
            let bare = format!("see {path}main");
            let quoted = format!("\"{path}main\"");
            for text in [bare, quoted] {
                let found = machine_paths(&tree(&[("docs/x.md", &text)])).faults;
                assert_eq!(found.len(), 1, "{text}");
            }
            let inside = format!("https://example.org{path}x and target{path}y");
            assert!(machine_paths(&tree(&[("docs/x.md", &inside)])).faults.is_empty());
        }
    }

    fn faults(text: &str) -> Vec<String> {
        let other = "# Who is active\n## The *two* walks, in short\n";
        links(&tree(&[("docs/a.md", text), ("docs/pair.md", other), ("README.md", "")])).faults
    }

    #[test]
    fn a_link_that_leads_somewhere_is_fine() {
        for text in [
            "[pair](pair.md)",
            "[readme](../README.md) and [pair](./pair.md)",
            "[folder](../docs/)",
            "[elsewhere](https://example.org/x.md)",
            "[heading](pair.md#who-is-active)",
            "[heading](pair.md#the-two-walks-in-short)",
            "# Own\n[own](#own)",
            "```\n[x](gone.md)\n```",
        ] {
            assert!(faults(text).is_empty(), "{text}: {:?}", faults(text));
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_fault() {
        for text in ["[x](gone.md)", "[x](../docs/gone/)", "[x](pair.md#gone)", "[x](#gone)"] {
            assert_eq!(faults(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_path_of_the_project_set_as_code_exists() {
        assert!(faults("see `docs/pair.md` and `cargo test` and `docs/*.md`").is_empty());
        assert_eq!(faults("see `docs/gone.md`").len(), 1);
        assert_eq!(faults("see `core/gone/`").len(), 1);
    }

    #[test]
    fn a_type_of_the_project_set_as_code_is_defined_in_its_crate() {
        let seat = ("core/types/src/pair.rs", "pub enum Seat {\n    Master,\n}\n");
        let faults = |text| links(&tree(&[("docs/a.md", text), seat])).faults.len();
        assert_eq!(faults("`tandem_types::Seat` and `tandem_types::Seat::Master`"), 0);
        assert_eq!(faults("`tandem_types::Sea` and `tandem_sip::Seat`"), 2);
    }
}
