//! Virtual addresses that an earlier life of the keeper left on an interface.
//!
//! A keeper that is killed cannot give them up; the kernel removes them after a second, but a keeper that
//! starts before that must, or its machine answers for an address that the twin has taken. Which they
//! are stands in a file, because the configuration may have been changed in between. It is written
//! at the start, before anything is claimed: a takeover waits for no disk.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use tandem_os::address::{Prefixed, remove_left_over};
use tandem_os::durable;

use crate::config::Config;

/// Lines of the file that are read.
const LINES_MAX: usize = 64;

/// Removes what is left over and remembers what this life may claim. What was removed, and what could
/// not be, in words.
pub(super) fn clear(config: &Config, prefixes: &[Prefixed]) -> anyhow::Result<Vec<String>> {
    let path = config.state.join("addresses");
    let mut left = read(&path)?;
    if let Some(name) = &config.interface {
        left.entry(name.clone()).or_default().extend(prefixes);
    }
    let mut words = Vec::new();
    for (name, addresses) in &mut left {
        // What is the machine's own by now is not left over.
        addresses.retain(|prefixed| !config.address.contains(&prefixed.address));
        match remove_left_over(name, addresses) {
            Ok(removed) => words.extend(removed.iter().map(|prefixed| {
                format!("removed {prefixed} from {name}: an earlier keeper left it there")
            })),
            // Its addresses went with it.
            Err(refused) if refused.is_no_interface() => {}
            Err(refused) => words.push(refused.to_string()),
        }
    }
    let now = config.interface.iter().map(|name| (name.clone(), prefixes.to_vec())).collect();
    if read(&path)? != now {
        write(&path, &now)?;
    }
    Ok(words)
}

type Addresses = BTreeMap<String, Vec<Prefixed>>;

/// A file that is not there, or is not ours to understand, names nothing.
fn read(path: &Path) -> anyhow::Result<Addresses> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut addresses = Addresses::new();
    for line in text.lines().take(LINES_MAX) {
        if let Some((name, prefixed)) = line.split_once(' ')
            && let Ok(prefixed) = prefixed.parse()
        {
            addresses.entry(name.to_owned()).or_default().push(prefixed);
        }
    }
    Ok(addresses)
}

fn write(path: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let mut text = String::new();
    for (name, prefixes) in addresses {
        for prefixed in prefixes {
            text += &format!("{name} {prefixed}\n");
        }
    }
    durable::replace(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_read_and_what_is_no_line_is_passed_over() {
        let folder = std::env::temp_dir().join(format!("tandem-left-over-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("addresses");
        assert_eq!(read(&path).unwrap(), Addresses::new(), "no file yet");
        let two = ["192.0.2.10/24", "2001:db8::a/64"].map(|text| text.parse().unwrap());
        let addresses = Addresses::from([(String::from("eth0.7"), two.to_vec())]);
        write(&path, &addresses).unwrap();
        assert_eq!(read(&path).unwrap(), addresses);
        std::fs::write(&path, "eth0.7 192.0.2.10/24\neth0\neth0 x\n\neth0.7 2001:db8::a/64")
            .unwrap();
        assert_eq!(read(&path).unwrap(), addresses);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
