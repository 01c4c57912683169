//! `cargo xtask tidy`: the rules about the tree that the compiler and clippy do not know.
//!
//! ```text
//! git ls-files ───> Tree ────┬─> layers  licences  roots          (need cargo's metadata)
//! cargo metadata ─> Value ───┼─> lengths names  leftovers  purity  sleeps   (read Rust)
//!                            └─> paths   links                   (read everything, read pages)
//!                                  └─> Report { seen, faults } ─> printed; any fault fails
//! ```
//!
//! Every check is a function from a tree held in memory to a [`Report`], so that each has a test
//! that makes it fail on purpose. Invariant: a report that saw nothing is a fault by itself.

mod layers;
mod licences;
mod names;
mod pages;
mod source;

use std::path::Path;

use crate::{metadata, output_of};

/// What one check looked at and what it found.
#[derive(Debug)]
pub(crate) struct Report {
    /// The check's name.
    pub(crate) name: &'static str,
    /// What it counts.
    pub(crate) of: &'static str,
    /// How many of them it looked at.
    pub(crate) seen: usize,
    /// One sentence for each fault, beginning with the place.
    pub(crate) faults: Vec<String>,
}

impl Report {
    /// Nothing looked at yet.
    pub(crate) const fn new(name: &'static str, of: &'static str) -> Self {
        Self { name, of, seen: 0, faults: Vec::new() }
    }

    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// The report with the fault of having looked at nothing, where it has.
    fn settled(mut self) -> Self {
        if self.seen == 0 {
            self.faults.push(format!("looked at no {}: the check did not run", self.of));
        }
        self
    }
}

/// A file of the project that is text.
#[derive(Debug)]
pub(crate) struct File {
    /// From the top of the tree, with `/`.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

impl File {
    /// Whether this is Rust source.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, counted from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// The files of the project: tracked, or new and not ignored.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The text files.
    pub(crate) files: Vec<File>,
    /// The paths of all files, binary ones too.
    pub(crate) paths: Vec<String>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self, String> {
        let command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let mut tree = Self::default();
        for path in output_of(root, &command)?.split('\0').filter(|path| !path.is_empty()) {
            // A file that was deleted but not committed is still in the index.
            let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
            tree.paths.push(path.to_owned());
            if let Ok(text) = String::from_utf8(bytes) {
                tree.files.push(File { path: path.to_owned(), text });
            }
        }
        Ok(tree)
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The file with this path, if it is text.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether there is a file or a folder with this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.paths.iter().any(|own| own == path || own.starts_with(&folder))
    }
}

/// Runs every check and prints its count and its faults. True when there is no fault.
///
/// # Errors
///
/// When the tree or cargo's metadata cannot be read.
pub(crate) fn run(root: &Path) -> Result<bool, String> {
    let tree = Tree::read(root)?;
    let metadata = metadata(root)?;
    let reports = [
        layers::check(&metadata),
        licences::check(&metadata, &tree),
        source::roots(&metadata, &tree),
        source::lengths(&tree),
        source::leftovers(&tree),
        source::purity(&tree),
        source::sleeps(&tree, source::SLEEPS_ALLOWED),
        names::check(&tree, names::NAMES_ALLOWED),
        pages::machine_paths(&tree),
        pages::links(&tree),
    ];
    let mut faults = 0;
    for report in reports.map(Report::settled) {
        println!("tidy: {:<9} {:>5} {}", report.name, report.seen, report.of);
        for fault in &report.faults {
            println!("tidy: {:<9} FAULT {fault}", report.name);
        }
        faults += report.faults.len();
    }
    println!("tidy: {faults} faults");
    Ok(faults == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of the files given as (path, text).
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File {
            path: String::from(*path),
            text: String::from(*text),
        };
        Tree {
            files: files.iter().map(file).collect(),
            paths: files.iter().map(|(path, _)| String::from(*path)).collect(),
        }
    }

    #[test]
    fn a_check_that_looked_at_nothing_has_failed() {
        assert_eq!(Report::new("lengths", "files").settled().faults.len(), 1);
        let looked = Report { seen: 1, ..Report::new("lengths", "files") };
        assert!(looked.settled().faults.is_empty());
    }

    #[test]
    fn every_check_reports_nothing_seen_on_an_empty_tree() {
        let empty = Tree::default();
        let nothing = serde_json::json!({});
        let reports = [
            layers::check(&nothing),
            licences::check(&nothing, &empty),
            source::roots(&nothing, &empty),
            source::lengths(&empty),
            source::leftovers(&empty),
            source::purity(&empty),
            source::sleeps(&empty, &[]),
            names::check(&empty, &[]),
            pages::machine_paths(&empty),
            pages::links(&empty),
        ];
        for report in reports {
            assert_eq!(report.seen, 0, "{}", report.name);
            assert!(!report.settled().faults.is_empty());
        }
    }

    #[test]
    fn a_folder_is_there_when_a_file_in_it_is() {
        let tree = tree(&[("docs/pair.md", "")]);
        assert!(tree.has("docs") && tree.has("docs/pair.md"));
        assert!(!tree.has("doc") && !tree.has("docs/pair"));
    }
}
