//! Whatever is linked has a permissive licence: one of the list in `deny.toml`.
//!
//! The same list serves `cargo deny`, for those who have it; this check needs nothing installed.
//! GPL tools (SIPp, baresip's modules) are run as separate processes in tests and never linked.

use serde_json::Value;

use super::{Report, Tree};

/// Checks the licence expression of every crate from a registry against the list.
pub(super) fn check(metadata: &Value, tree: &Tree) -> Report {
    let mut report = Report::new("licences", "outside crates");
    let Some(allowed) = tree.file("deny.toml").map(|file| allowed(&file.text)) else {
        report.fault(String::from("deny.toml is missing"));
        return report;
    };
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if package["source"].is_null() {
            continue;
        }
        report.seen += 1;
        let name = package["name"].as_str().unwrap_or_default();
        match package["license"].as_str() {
            Some(expression) if holds(expression, &allowed) => {}
            Some(expression) => {
                report.fault(format!("{name}: {expression} is not covered by deny.toml"));
            }
            None => report.fault(format!("{name} names no licence")),
        }
    }
    report
}

/// The strings of `allow = [...]` in the `[licenses]` part of deny.toml.
fn allowed(deny: &str) -> Vec<&str> {
    let part = deny.split("[licenses]").nth(1).unwrap_or_default();
    let list = part.split("allow = [").nth(1).unwrap_or_default();
    let list = list.split(']').next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression can be satisfied with the allowed licences. AND binds tighter than
/// OR; the old `MIT/Apache-2.0` means OR.
fn holds(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = expression.split_whitespace().peekable();
    let value = any_of(&mut words, allowed);
    value && words.peek().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut value = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        value |= all_of(words, allowed);
    }
    value
}

fn all_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut value = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        value &= one(words, allowed);
    }
    value
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => {
            let value = any_of(words, allowed);
            value && words.next_if_eq(&")").is_some()
        }
        Some(licence) => {
            // An exception grants more, so the licence itself is what counts.
            if words.next_if_eq(&"WITH").is_some() {
                words.next();
            }
            allowed.contains(&licence)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::tree;
    use serde_json::json;

    const LIST: &[&str] = &["MIT", "Apache-2.0", "ISC"];

    #[test]
    fn one_of_the_choices_is_enough_and_all_of_a_sum_are_needed() {
        assert!(holds("MIT OR GPL-3.0", LIST));
        assert!(holds("Unlicense/MIT", LIST));
        assert!(holds("Apache-2.0 AND ISC", LIST));
        assert!(holds("Apache-2.0 WITH LLVM-exception OR GPL-2.0", LIST));
        assert!(!holds("MIT AND GPL-3.0", LIST));
        assert!(!holds("(MIT OR Apache-2.0) AND NCSA", LIST));
        assert!(!holds("GPL-3.0 OR MIT AND NCSA", LIST));
        assert!(!holds("", LIST));
    }

    #[test]
    fn a_crate_outside_the_list_or_without_a_licence_is_a_fault() {
        let deny = "[licenses]\nallow = [\n  \"MIT\",\n  \"ISC\",\n]\n[bans]\n";
        let tree = tree(&[("deny.toml", deny)]);
        let metadata = json!({ "packages": [
            { "name": "good", "source": "registry", "license": "ISC" },
            { "name": "bad", "source": "registry", "license": "GPL-3.0" },
            { "name": "mute", "source": "registry", "license": null },
            { "name": "own", "source": null, "license": "whatever" },
        ]});
        let report = check(&metadata, &tree);
        assert_eq!((report.seen, report.faults.len()), (3, 2), "{:?}", report.faults);
    }

    #[test]
    fn a_missing_list_is_a_fault() {
        assert_eq!(check(&json!({}), &Tree::default()).faults.len(), 1);
    }
}
