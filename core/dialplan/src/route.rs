//! From what was dialled to who shall ring.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::directory::Directory;
use crate::user::{Number, User, UserName};

/// One end of a call as others see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Party {
    /// Whose devices.
    pub user: UserName,
    /// The display name, empty where there is none.
    pub display: String,
    /// The number to show and to record: the dialled or the first one, else the name.
    pub number: String,
}

impl Party {
    fn of(user: &User, number: Option<&Number>) -> Self {
        let shown = number.or(user.numbers.first()).map_or(user.name.as_str(), Number::as_str);
        Self {
            user: user.name.clone(),
            display: user.display.to_string(),
            number: shown.to_owned(),
        }
    }
}

/// Who calls whom.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RoutePlan {
    /// Who calls, with the number to show.
    pub caller: Party,
    /// Whose devices ring, with the number that was dialled.
    pub destination: Party,
}

/// Why a call leads nowhere.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Refusal {
    /// The caller is nobody here, or switched off.
    Forbidden,
    /// Nobody has this name or number.
    Unknown,
    /// The destination is switched off.
    Disabled,
}

impl Refusal {
    /// The SIP status that says so.
    pub const fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::Unknown => 404,
            Self::Disabled => 480,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forbidden => "the caller may not call",
            Self::Unknown => "nobody has this name or number",
            Self::Disabled => "the destination is switched off",
        })
    }
}

impl Directory {
    /// Where a call of `caller` to `dialled` leads.
    ///
    /// `dialled` is the user part of the request's address, unescaped: a number (with or without
    /// the separators of RFC 3966 §5.1.1) or a name (in any case). Parameters that stand within the
    /// user part (`201;phone-context=...`) are ignored. An emergency number rings at the user who
    /// has it, else where [`crate::Emergency`] says.
    ///
    /// # Errors
    ///
    /// The refusal to answer the caller with.
    pub fn route(&self, caller: &UserName, dialled: &str) -> Result<RoutePlan, Refusal> {
        let caller = self.get(caller).filter(|account| account.user.enabled);
        let caller = Party::of(&caller.ok_or(Refusal::Forbidden)?.user, None);
        let found = self.find(dialled);
        let rings = found.as_ref().is_some_and(|(user, _)| user.enabled);
        let found = if rings { found } else { self.find_emergency(dialled).or(found) };
        let (user, number) = found.ok_or(Refusal::Unknown)?;
        if !user.enabled {
            return Err(Refusal::Disabled);
        }
        Ok(RoutePlan { caller, destination: Party::of(user, number.as_ref()) })
    }

    /// Whom a dialled number or name means, and the number where it was one.
    pub(crate) fn find(&self, dialled: &str) -> Option<(&User, Option<Number>)> {
        let dialled = dialled.split(';').next().unwrap_or(dialled);
        if let Some(number) = digits(dialled)
            && let Some(account) = self.find_by_number(&number)
        {
            return Some((&account.user, Some(number)));
        }
        let name = UserName::parse(&dialled.to_ascii_lowercase()).ok()?;
        self.get(&name).map(|account| (&account.user, None))
    }
}

/// The number in `dialled` without visual separators, if it is a number.
pub(crate) fn digits(dialled: &str) -> Option<Number> {
    let is_separator = |letter: char| matches!(letter, '-' | '.' | '(' | ')' | ' ');
    Number::parse(&dialled.replace(is_separator, "")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{Account, Credentials, DisplayName};

    /// Anna 201 and 202, Ben 301 (switched off), Carl without a number.
    fn directory() -> Directory {
        let mut directory = Directory::new();
        let people: [(&str, &str, &[&str], bool); 3] = [
            ("anna", "Anna Ähre", &["201", "202"], true),
            ("ben", "Ben", &["301"], false),
            ("carl", "", &[], true),
        ];
        for (name, display, numbers, enabled) in people {
            let user = User {
                name: UserName::parse(name).unwrap(),
                display: DisplayName::parse(display).unwrap(),
                numbers: numbers.iter().map(|digits| Number::parse(digits).unwrap()).collect(),
                enabled,
            };
            let credentials = Credentials { md5: [0; 16], sha256: [0; 32] };
            directory.add(Account { user, credentials }).unwrap();
        }
        directory
    }

    #[track_caller]
    fn check(caller: &str, dialled: &str, want: Result<(&str, &str), Refusal>) {
        let caller = UserName::parse(caller).unwrap();
        let plan = directory().route(&caller, dialled);
        let got = plan.map(|plan| (plan.destination.user.to_string(), plan.destination.number));
        assert_eq!(got, want.map(|(user, number)| (user.to_owned(), number.to_owned())));
    }

    #[test]
    fn a_number_rings_its_user_and_is_the_one_shown() {
        check("carl", "201", Ok(("anna", "201")));
        check("carl", "202", Ok(("anna", "202")));
    }

    #[test]
    fn a_name_rings_in_any_case() {
        check("carl", "anna", Ok(("anna", "201")));
        check("carl", "ANNA", Ok(("anna", "201")));
        check("anna", "carl", Ok(("carl", "carl")));
    }

    #[test]
    fn separators_and_parameters_do_not_count() {
        check("carl", "2-0.1", Ok(("anna", "201")));
        check("carl", "(2) 01", Ok(("anna", "201")));
        check("carl", "201;phone-context=example.org", Ok(("anna", "201")));
    }

    #[test]
    fn who_is_not_there_is_404() {
        for dialled in ["", "999", "dora", "+201", "2O1", "-", ";201", "anna\r\n"] {
            check("carl", dialled, Err(Refusal::Unknown));
        }
        assert_eq!(Refusal::Unknown.status(), 404);
    }

    #[test]
    fn who_is_switched_off_neither_rings_nor_calls() {
        check("carl", "301", Err(Refusal::Disabled));
        check("ben", "201", Err(Refusal::Forbidden));
        check("nobody", "201", Err(Refusal::Forbidden));
        assert_eq!((Refusal::Disabled.status(), Refusal::Forbidden.status()), (480, 403));
    }

    #[test]
    fn the_plan_says_what_the_other_side_sees() {
        let caller = UserName::parse("anna").unwrap();
        let plan = directory().route(&caller, "carl").unwrap();
        assert_eq!(plan.caller.display, "Anna Ähre");
        assert_eq!(plan.caller.number, "201");
    }

    #[test]
    fn one_may_ring_ones_own_other_devices() {
        check("anna", "201", Ok(("anna", "201")));
    }
}
