//! Who may depend on whom.
//!
//! Dependencies run downwards: a crate may use crates of its own layer and of those below.
//! Inside `core/` and `io/` the law is finer and written out crate by crate in [`MAY_KNOW`],
//! because what a crate does *not* know is what keeps it small. Only dev-dependencies are free.

use serde_json::Value;

use super::Report;

/// Bottom first. A crate lies in the layer that its first folder names.
const LAYERS: &[&[&str]] =
    &[&["core"], &["io"], &["apps"], &["sim"], &["lab", "model", "xtask", "fuzz"]];

/// For every crate in `core/` and `io/`: the crates of this workspace that it may depend on.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("tandem-types", &[]),
    ("tandem-sip", &["tandem-types"]),
    ("tandem-stack", &["tandem-types", "tandem-sip"]),
    ("tandem-registrar", &["tandem-types", "tandem-sip"]),
    ("tandem-dialplan", &["tandem-types"]),
    // A call speaks to its legs (invite, ring, answer, bye): it knows no message syntax, no
    // transactions, no logins and no storage.
    ("tandem-call", &["tandem-types"]),
    ("tandem-journal", &["tandem-types"]),
    ("tandem-pair", &["tandem-types"]),
    ("tandem-keeper", &["tandem-types", "tandem-pair"]),
    // The voter knows what it promised to whom, not what a vote is for.
    ("tandem-witness", &["tandem-types"]),
    ("tandem-oplog", &["tandem-types"]),
    (
        "tandem-node",
        &[
            "tandem-types",
            "tandem-sip",
            "tandem-stack",
            "tandem-registrar",
            "tandem-dialplan",
            "tandem-call",
            "tandem-journal",
        ],
    ),
    ("tandem-net", &["tandem-types"]),
    ("tandem-link", &["tandem-types"]),
    ("tandem-store", &["tandem-types", "tandem-journal", "tandem-oplog"]),
    // It is told what is in a record, and what the tables are.
    ("tandem-postgres", &["tandem-types", "tandem-journal", "tandem-oplog"]),
    // What rows mean for telephony is all that sets it apart from the store.
    ("tandem-config", &["tandem-types", "tandem-dialplan", "tandem-oplog", "tandem-store"]),
    // Contents have no meaning there: rows of the configuration say what they are for.
    ("tandem-files", &["tandem-types"]),
    // For tests only: nothing that is shipped may know it.
    ("tandem-faultfs", &["tandem-types"]),
    ("tandem-os", &["tandem-types"]),
    ("tandem-vote", &["tandem-types", "tandem-witness", "tandem-os"]),
];

/// Crates from outside that `core/` may use. All of them are pure: no clock, no system, no dice
/// of their own. Adding one is a decision: say why in `docs/decisions/`.
const CORE_MAY_USE: &[&str] =
    &["serde", "postcard", "rand_chacha", "memchr", "md-5", "sha2", "hmac", "subtle"];

/// Checks every normal and build dependency of every crate of the workspace.
pub(super) fn check(metadata: &Value) -> Report {
    let mut report = Report::new("layers", "dependencies");
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    for package in own_packages(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layer_of(package["manifest_path"].as_str().unwrap_or_default(), root)
        else {
            report.fault(format!("{name} lies in no layer"));
            continue;
        };
        let known = MAY_KNOW.iter().find(|(of, _)| *of == name).map(|(_, may)| *may);
        if layer <= FINER_LAW_UP_TO && known.is_none() {
            report.fault(format!("{name} has no row in MAY_KNOW: say what it may know"));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            report.seen += 1;
            if let Err(why) = judge(layer, known, dependency, root) {
                let on = dependency["name"].as_str().unwrap_or_default();
                report.fault(format!("{name} must not depend on {on}: {why}"));
            }
        }
    }
    report
}

/// Whether a crate of `layer`, which may know `known`, may have this dependency.
fn judge(
    layer: usize,
    known: Option<&[&str]>,
    dependency: &Value,
    root: &str,
) -> Result<(), &'static str> {
    let on = dependency["name"].as_str().unwrap_or_default();
    let Some(path) = dependency["path"].as_str() else {
        let free = layer > CORE || CORE_MAY_USE.contains(&on);
        return if free { Ok(()) } else { Err("not on core's list of outside crates") };
    };
    if layer_of(path, root).is_none_or(|below| below > layer) {
        return Err("it lies in a higher layer");
    }
    match known {
        Some(may) if !may.contains(&on) => Err("its row in MAY_KNOW does not name it"),
        Some(_) | None => Ok(()),
    }
}

/// The packages of this workspace, not those from a registry.
pub(super) fn own_packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| package["source"].is_null())
}

fn layer_of(path: &str, root: &str) -> Option<usize> {
    let relative = path.strip_prefix(root)?.trim_start_matches('/');
    let folder = relative.split('/').next()?;
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// The layer of `core/`.
const CORE: usize = 0;

/// The highest layer whose crates need a row in [`MAY_KNOW`]: `io/`.
const FINER_LAW_UP_TO: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A workspace with one crate that has one dependency.
    fn faults(name: &str, folder: &str, dependency: &Value) -> Vec<String> {
        let metadata = json!({ "workspace_root": "/w", "packages": [{
            "name": name, "source": null, "manifest_path": format!("/w/{folder}/Cargo.toml"),
            "dependencies": [dependency],
        }]});
        check(&metadata).faults
    }

    fn inner(name: &str, folder: &str) -> Value {
        json!({ "name": name, "path": format!("/w/{folder}"), "kind": null })
    }

    fn outer(name: &str) -> Value {
        json!({ "name": name, "kind": null })
    }

    #[test]
    fn a_crate_may_use_its_own_layer_and_those_below() {
        assert!(faults("tandem-sip", "core/sip", &inner("tandem-types", "core/types")).is_empty());
        assert!(faults("tandem", "apps/tandem", &inner("tandem-net", "io/net")).is_empty());
        assert!(faults("tandem-lab", "lab", &inner("tandem", "apps/tandem")).is_empty());
    }

    #[test]
    fn a_crate_that_looks_upwards_is_a_fault() {
        assert_eq!(faults("tandem", "apps/tandem", &inner("tandem-sim", "sim")).len(), 1);
        assert_eq!(faults("tandem-node", "core/node", &inner("tandem-net", "io/net")).len(), 1);
    }

    #[test]
    fn a_call_that_knows_transactions_is_a_fault() {
        let found = faults("tandem-call", "core/call", &inner("tandem-stack", "core/stack"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("MAY_KNOW"));
    }

    #[test]
    fn nothing_in_core_or_io_may_know_the_node() {
        for (name, may) in MAY_KNOW {
            assert!(!may.contains(&"tandem-node"), "{name}");
        }
    }

    #[test]
    fn core_uses_only_the_outside_crates_of_its_list() {
        assert!(faults("tandem-sip", "core/sip", &outer("memchr")).is_empty());
        assert_eq!(faults("tandem-sip", "core/sip", &outer("tokio")).len(), 1);
        assert!(faults("tandem-net", "io/net", &outer("tokio")).is_empty());
    }

    #[test]
    fn a_build_dependency_counts_and_a_dev_dependency_does_not() {
        let build = json!({ "name": "cc", "kind": "build" });
        let dev = json!({ "name": "proptest", "kind": "dev" });
        assert_eq!(faults("tandem-sip", "core/sip", &build).len(), 1);
        assert!(faults("tandem-sip", "core/sip", &dev).is_empty());
    }

    #[test]
    fn a_new_crate_needs_a_layer_and_a_row() {
        let types = inner("tandem-types", "core/types");
        assert_eq!(faults("tandem-new", "core/new", &types).len(), 1);
        assert_eq!(faults("tandem-new", "elsewhere", &types).len(), 1);
    }

    #[test]
    fn a_crate_from_a_registry_is_not_judged() {
        let metadata = json!({ "workspace_root": "/w", "packages": [{
            "name": "serde", "source": "registry", "manifest_path": "/r/serde/Cargo.toml",
            "dependencies": [outer("anything")],
        }]});
        assert_eq!(check(&metadata).seen, 0);
    }
}
