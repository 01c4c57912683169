//! The configuration as one document (TOML): to keep, to look at, to write with an editor, to bring back.
//!
//! A document is everything: whoever is not in it is removed. Blocks are not part of it: they are a state
//! of the day.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tandem_dialplan::{
    Account, Credentials, Directory, DisplayName, Edit, Emergency, Number, User, UserName,
};

use crate::hex::{hex, unhex};

/// Version of the document.
const VERSION: u32 = 1;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    emergency: EmergencyPart,
    #[serde(default, rename = "user")]
    users: Vec<UserPart>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EmergencyPart {
    numbers: Vec<String>,
    /// Name or number of the user where they ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rings: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UserPart {
    name: String,
    #[serde(default)]
    display: String,
    #[serde(default)]
    numbers: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
    /// HA1 in hexadecimal digits (RFC 7616 §3.4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    md5: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

const fn yes() -> bool {
    true
}

/// All accounts, by name.
pub(crate) type Accounts = BTreeMap<UserName, Account>;

/// The document of what is. Without `passwords` it cannot make a user anew.
pub(crate) fn write(accounts: &Accounts, emergency: &Emergency, passwords: bool) -> String {
    let users = accounts.values().map(|Account { user, credentials }| UserPart {
        name: user.name.to_string(),
        display: user.display.to_string(),
        numbers: user.numbers.iter().map(ToString::to_string).collect(),
        enabled: user.enabled,
        md5: passwords.then(|| hex(&credentials.md5)),
        sha256: passwords.then(|| hex(&credentials.sha256)),
    });
    let numbers = emergency.numbers.iter().map(ToString::to_string).collect();
    let emergency = EmergencyPart { numbers, rings: emergency.to.clone() };
    let document = Document { version: VERSION, emergency, users: users.collect() };
    // Only maps with keys that are no text, or values after tables, can fail: there are none.
    toml::to_string(&document).unwrap_or_default()
}

/// What a document would change.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The edits.
    pub(crate) edits: Vec<Edit>,
    /// The same for people, a line each.
    pub(crate) lines: Vec<String>,
}

/// Compares a document with what is.
///
/// # Errors
///
/// It is none, or not one that makes sense: names the user, the key and what was expected, or the line.
pub(crate) fn plan(text: &str, accounts: &Accounts, emergency: &Emergency) -> Result<Plan, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
    if document.version != VERSION {
        let given = document.version;
        return Err(format!("version: {given}; this program knows {VERSION}"));
    }
    let wanted = wanted(document.users, accounts)?;
    let numbers = document.emergency.numbers.iter();
    let numbers = numbers.map(|number| Number::parse(number).map_err(|error| error.to_string()));
    let numbers = numbers.collect::<Result<_, _>>().map_err(|why| format!("emergency: {why}"))?;
    let wanted_emergency = Emergency { numbers, to: document.emergency.rings };
    check(&wanted, &wanted_emergency)?;
    let mut plan = Plan { edits: Vec::new(), lines: Vec::new() };
    let names: BTreeSet<&UserName> = accounts.keys().chain(wanted.keys()).collect();
    for name in names {
        let (is, shall) = (accounts.get(name), wanted.get(name));
        if is == shall {
            continue;
        }
        plan.edits.push(Edit::User { name: name.clone(), account: shall.cloned() });
        plan.lines.push(line(name, is, shall));
    }
    if wanted_emergency != *emergency {
        let say = |emergency: &Emergency| {
            let to = emergency.to.as_deref().unwrap_or("their users only");
            format!("{} at {to}", list(&emergency.numbers))
        };
        plan.lines.push(format!("~ emergency: {} -> {}", say(emergency), say(&wanted_emergency)));
        plan.edits.push(Edit::Emergency(wanted_emergency));
    }
    Ok(plan)
}

fn wanted(users: Vec<UserPart>, accounts: &Accounts) -> Result<Accounts, String> {
    let mut wanted = Accounts::new();
    for (place, part) in (1..).zip(users) {
        let whose = format!("user {place} ({})", part.name);
        let account = account(part, accounts).map_err(|why| format!("{whose}: {why}"))?;
        if wanted.insert(account.user.name.clone(), account).is_some() {
            return Err(format!("{whose}: this name is there twice"));
        }
    }
    Ok(wanted)
}

fn account(part: UserPart, accounts: &Accounts) -> Result<Account, String> {
    let said = |error: tandem_dialplan::Invalid| error.to_string();
    let name = UserName::parse(&part.name).map_err(said)?;
    let display = if part.display.is_empty() { &part.name } else { &part.display };
    let display = DisplayName::parse(display).map_err(said)?;
    let numbers = part.numbers.iter().map(|number| Number::parse(number).map_err(said));
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let credentials = match (part.md5, part.sha256, accounts.get(&name)) {
        (Some(md5), Some(sha256), _) => {
            Credentials { md5: bytes("md5", &md5)?, sha256: bytes("sha256", &sha256)? }
        }
        (None, None, Some(known)) => known.credentials,
        (None, None, None) => {
            return Err(String::from(
                "he is new and has no password: expected md5 and sha256, as `config export --passwords` \
                 writes them, or `user add` first",
            ));
        }
        (Some(_), None, _) => return Err(String::from("sha256 is missing beside md5")),
        (None, Some(_), _) => return Err(String::from("md5 is missing beside sha256")),
    };
    let user = User { name, display, numbers, enabled: part.enabled };
    Ok(Account { user, credentials })
}

/// Whether all of it can be at once: the same rules as for one user.
fn check(wanted: &Accounts, emergency: &Emergency) -> Result<(), String> {
    let mut directory = Directory::new();
    for account in wanted.values() {
        let name = &account.user.name;
        directory.add(account.clone()).map_err(|error| format!("user {name}: {error}"))?;
    }
    directory.set_emergency(emergency.clone()).map_err(|error| format!("emergency: {error}"))
}

fn line(name: &UserName, is: Option<&Account>, shall: Option<&Account>) -> String {
    let (is, shall) = match (is, shall) {
        (Some(is), Some(shall)) => (is, shall),
        (None, Some(shall)) => return format!("+ user {name}: {}", list(&shall.user.numbers)),
        (Some(_), None) | (None, None) => return format!("- user {name}"),
    };
    let mut parts = Vec::new();
    if is.user.display != shall.user.display {
        let (is, shall) = (is.user.display.as_str(), shall.user.display.as_str());
        parts.push(format!("display {is:?} -> {shall:?}"));
    }
    if is.user.numbers != shall.user.numbers {
        let (is, shall) = (list(&is.user.numbers), list(&shall.user.numbers));
        parts.push(format!("numbers {is} -> {shall}"));
    }
    if is.user.enabled != shall.user.enabled {
        parts.push(String::from(if shall.user.enabled { "enabled" } else { "disabled" }));
    }
    if is.credentials != shall.credentials {
        parts.push(String::from("another password"));
    }
    format!("~ user {name}: {}", parts.join(", "))
}

fn list(numbers: &[Number]) -> String {
    match numbers {
        [] => String::from("no number"),
        numbers => numbers.iter().map(Number::as_str).collect::<Vec<_>>().join(" "),
    }
}

fn bytes<const N: usize>(key: &str, text: &str) -> Result<[u8; N], String> {
    unhex(text).ok_or_else(|| format!("{key}: expected {} hexadecimal digits", N * 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, number: &str) -> Account {
        let user = User {
            name: UserName::parse(name).unwrap(),
            display: DisplayName::parse("Ä \"b\"").unwrap(),
            numbers: vec![Number::parse(number).unwrap()],
            enabled: false,
        };
        Account { user, credentials: Credentials { md5: [0xa0; 16], sha256: [7; 32] } }
    }

    fn accounts() -> Accounts {
        let all = [account("anna", "21"), account("ben", "22")];
        all.into_iter().map(|account| (account.user.name.clone(), account)).collect()
    }

    fn emergency() -> Emergency {
        Emergency::default()
    }

    #[test]
    fn what_is_written_changes_nothing_and_makes_everything_anew() {
        let text = write(&accounts(), &emergency(), true);
        let nothing = plan(&text, &accounts(), &emergency()).unwrap();
        assert!(nothing.edits.is_empty() && nothing.lines.is_empty(), "{text}");
        let all = plan(&text, &Accounts::new(), &emergency()).unwrap();
        assert_eq!(all.lines, ["+ user anna: 21", "+ user ben: 22"]);
        let Edit::User { account: Some(anna), .. } = &all.edits[0] else { panic!() };
        assert_eq!(anna, &account("anna", "21"));
        let without = write(&accounts(), &emergency(), false);
        assert!(!without.contains("md5"));
        assert!(plan(&without, &accounts(), &emergency()).unwrap().edits.is_empty());
    }

    #[test]
    fn a_difference_is_told_in_words() {
        let text = "version = 1\n[emergency]\nnumbers = [\"911\"]\nrings = \"anna\"\n\
                    [[user]]\nname = \"anna\"\nnumbers = [\"22\", \"23\"]\n";
        let plan = plan(text, &accounts(), &emergency()).unwrap();
        assert_eq!(
            plan.lines,
            [
                "~ user anna: display \"Ä \\\"b\\\"\" -> \"anna\", numbers 21 -> 22 23, enabled",
                "- user ben",
                "~ emergency: 110 112 at their users only -> 911 at anna",
            ]
        );
    }

    #[test]
    fn a_document_that_makes_no_sense_says_where() {
        let head = "version = 1\n[emergency]\nnumbers = [\"110\"]\n";
        for (rest, wanted) in [
            ("[[user]]\nname = \"Anna\"\n", "user 1 (Anna): name \"Anna\": expected"),
            ("[[user]]\nname = \"zoe\"\n", "user 1 (zoe): he is new and has no password"),
            ("[[user]]\nname = \"anna\"\nmd5 = \"00\"\n", "sha256 is missing"),
            (
                "[[user]]\nname = \"anna\"\nmd5 = \"00\"\nsha256 = \"0\"\n",
                "md5: expected 32 hexadecimal digits",
            ),
            ("[[user]]\nname = \"anna\"\n[[user]]\nname = \"anna\"\n", "user 2 (anna): this name"),
            (
                "[[user]]\nname = \"anna\"\nnumbers = [\"22\"]\n[[user]]\nname = \"ben\"\nnumbers = [\"22\"]\n",
                "user ben: ",
            ),
            ("[[user]]\nname = \"anna\"\ncolour = 1\n", "unknown field `colour`"),
        ] {
            let why = plan(&format!("{head}{rest}"), &accounts(), &emergency()).unwrap_err();
            assert!(why.contains(wanted), "{why}");
        }
        let two = head.replace("version = 1", "version = 2");
        assert_eq!(
            plan(&two, &accounts(), &emergency()).unwrap_err(),
            "version: 2; this program knows 1"
        );
    }
}
