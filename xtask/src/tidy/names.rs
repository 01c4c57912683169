//! The field's words, not filler: names that say nothing are refused.
//!
//! "Manager" or "handler" in a name means that its job was not named. The words that the project
//! does use are in `docs/internals/glossary.md`.

use super::{File, Report, Tree};

/// Words that no file, module, type or function may have in its name, in the singular.
const FORBIDDEN: &[&str] = &["session", "manager", "helper", "util", "handler"];

/// Names that may stand all the same, each with the reason. An entry that is no longer needed is
/// a fault.
pub(super) const NAMES_ALLOWED: &[(&str, &str)] = &[];

/// The words of the language after which a new name stands.
const KEYWORDS: &[&str] = &["struct", "enum", "trait", "type", "fn", "mod"];

/// Checks file names and the names of everything that is defined in Rust.
pub(super) fn check(tree: &Tree, allowed: &[(&str, &str)]) -> Report {
    let mut report = Report::new("names", "names");
    let mut used = Vec::new();
    let mut judge = |place: &str, name: &str| {
        let word = words(name).into_iter().find(|word| is_forbidden(word))?;
        if let Some((entry, _)) = allowed.iter().find(|(entry, _)| *entry == name) {
            used.push(*entry);
            return None;
        }
        Some(format!("{place}: \"{word}\" in {name} says nothing; name its job"))
    };
    for file in tree.rust() {
        for part in file.path.trim_end_matches(".rs").split('/') {
            report.seen += 1;
            report.faults.extend(judge(&file.path, part));
        }
        for (line, name) in defined(file) {
            report.seen += 1;
            report.faults.extend(judge(&format!("{}:{line}", file.path), name));
        }
    }
    for (entry, _) in allowed.iter().filter(|(entry, _)| !used.contains(entry)) {
        report.fault(format!("{entry} is allowed but no longer there: remove the entry"));
    }
    report
}

/// Names that this file defines, with their lines.
fn defined(file: &File) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    for (number, line) in file.numbered().filter(|(_, line)| !line.trim().starts_with("//")) {
        let mut pieces = line.split_whitespace();
        while let Some(piece) = pieces.next() {
            if KEYWORDS.contains(&piece) {
                let name = pieces.next().unwrap_or_default();
                let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'));
                names.push((number, &name[..end.unwrap_or(name.len())]));
            }
        }
    }
    names
}

/// The words of a name in snake_case, kebab-case or CamelCase, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter.is_uppercase() || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

fn is_forbidden(word: &str) -> bool {
    FORBIDDEN.contains(&word) || word.strip_suffix('s').is_some_and(|one| FORBIDDEN.contains(&one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::tree;

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(&tree(&[(path, text)]), &[]).faults
    }

    #[test]
    fn a_forbidden_word_in_a_name_is_a_fault() {
        for text in [
            concat!("pub struct Phone", "Manager;"),
            concat!("fn new_", "session() {}"),
            concat!("mod ", "utils;"),
            concat!("impl X { pub(crate) fn ", "handler(&self) {} }"),
        ] {
            assert_eq!(faults("core/x/src/lib.rs", text).len(), 1, "{text}");
        }
        assert_eq!(faults(concat!("core/x/src/", "helper.rs"), "").len(), 1);
    }

    #[test]
    fn the_word_inside_another_word_or_in_a_comment_is_none() {
        for text in
            ["fn obsession() {}", "fn handle_bytes() {}", concat!("// the fn ", "session is gone")]
        {
            assert!(faults("core/x/src/lib.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_allowed_name_passes_and_an_unused_entry_is_a_fault() {
        let text = concat!("struct ", "SessionTimer;");
        let tree = tree(&[("core/x/src/lib.rs", text)]);
        let entry = concat!("Session", "Timer");
        assert!(check(&tree, &[(entry, "RFC 4028 calls it so")]).faults.is_empty());
        assert_eq!(check(&tree, &[(entry, "so"), ("Gone", "was so")]).faults.len(), 1);
    }
}
