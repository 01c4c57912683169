//! Emergency numbers: which they are, and where they ring while there is no trunk.
//!
//! A user who has such a number rings at it as at any other. Otherwise, or where that user is
//! switched off, the call goes to one user for all emergency numbers: the reception, say.

use serde::{Deserialize, Serialize};

use crate::directory::{Directory, DirectoryError};
use crate::route::digits;
use crate::user::{Number, User, UserName};

/// Emergency numbers of one pair, at most.
pub const EMERGENCY_NUMBERS_MAX: usize = 16;

/// The numbers until an administrator names others: police and fire brigade in Germany; 112 is
/// good in all of Europe.
const NUMBERS_DEFAULT: [&str; 2] = ["110", "112"];

/// The setting.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Emergency {
    /// The numbers; one at least.
    pub numbers: Vec<Number>,
    /// The name or number of the user where they ring; `None`: nowhere but at users who have them.
    pub to: Option<String>,
}

impl Default for Emergency {
    fn default() -> Self {
        let numbers = NUMBERS_DEFAULT.iter().filter_map(|digits| Number::parse(digits).ok());
        Self { numbers: numbers.collect(), to: None }
    }
}

impl Directory {
    /// The emergency numbers, and where they ring.
    pub const fn emergency(&self) -> &Emergency {
        &self.emergency
    }

    /// Changes the emergency numbers and where they ring.
    ///
    /// # Errors
    ///
    /// When there is no number or more than [`EMERGENCY_NUMBERS_MAX`], or nobody (or somebody who
    /// is switched off) has the name or number where they shall ring. Nothing has changed then.
    pub fn set_emergency(&mut self, emergency: Emergency) -> Result<(), DirectoryError> {
        if !(1..=EMERGENCY_NUMBERS_MAX).contains(&emergency.numbers.len()) {
            return Err(DirectoryError::EmergencyNumbers);
        }
        let leads = |to: &String| self.find(to).is_some_and(|(user, _)| user.enabled);
        if let Some(to) = emergency.to.as_ref().filter(|to| !leads(to)) {
            return Err(DirectoryError::EmergencyNowhere(to.clone()));
        }
        self.emergency = emergency;
        Ok(())
    }

    /// Takes the setting as it stands, from the disk or from the twin.
    pub fn restore_emergency(&mut self, emergency: Emergency) {
        self.emergency = emergency;
    }

    /// Whether this is an emergency number. `dialled` is as for [`Directory::route`].
    pub fn is_emergency(&self, dialled: &str) -> bool {
        self.emergency_number(dialled).is_some()
    }

    /// The user at whom emergency numbers ring that are nobody's own.
    pub fn emergency_user(&self) -> Option<&User> {
        let (user, _) = self.find(self.emergency.to.as_ref()?)?;
        Some(user)
    }

    /// Who rings at a number of the setting; `None`: nobody.
    pub fn emergency_rings(&self, number: &Number) -> Option<&User> {
        let own = self.find(number.as_str()).map(|(user, _)| user);
        own.filter(|user| user.enabled).or_else(|| self.emergency_user())
    }

    /// Who rings where an emergency number was dialled that rings at no user who has it.
    pub(crate) fn find_emergency(&self, dialled: &str) -> Option<(&User, Option<Number>)> {
        let number = self.emergency_number(dialled)?;
        Some((self.emergency_user()?, Some(number)))
    }

    /// Refuses a change after which emergency calls would lead nowhere. `then`: the user as it
    /// would be, `None` where it would be gone.
    pub(crate) fn keep_emergency(
        &self,
        name: &UserName,
        then: Option<&User>,
    ) -> Result<(), DirectoryError> {
        let Some(to) = &self.emergency.to else { return Ok(()) };
        if self.emergency_user().is_none_or(|user| user.name != *name) {
            return Ok(());
        }
        let has = |user: &User| digits(to).is_some_and(|number| user.numbers.contains(&number));
        let is_named = to.eq_ignore_ascii_case(name.as_str());
        match then {
            Some(user) if user.enabled && (is_named || has(user)) => Ok(()),
            Some(_) | None => Err(DirectoryError::EmergencyRingsHere(name.clone())),
        }
    }

    fn emergency_number(&self, dialled: &str) -> Option<Number> {
        let dialled = dialled.split(';').next().unwrap_or(dialled);
        digits(dialled).filter(|number| self.emergency.numbers.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Change;
    use crate::route::Refusal;
    use crate::user::{Account, Credentials, DisplayName};

    fn name(text: &str) -> UserName {
        UserName::parse(text).unwrap()
    }

    /// Anna 201, the reception 9, the fire brigade of the works 112 where `works`.
    fn directory(works: bool) -> Directory {
        let mut directory = Directory::new();
        let mut people = vec![("anna", "201"), ("reception", "9")];
        if works {
            people.push(("works", "112"));
        }
        for (name, number) in people {
            let user = User {
                name: UserName::parse(name).unwrap(),
                display: DisplayName::default(),
                numbers: vec![Number::parse(number).unwrap()],
                enabled: true,
            };
            let credentials = Credentials { md5: [0; 16], sha256: [0; 32] };
            directory.add(Account { user, credentials }).unwrap();
        }
        directory
    }

    fn to(to: &str) -> Emergency {
        Emergency { to: Some(to.to_owned()), ..Emergency::default() }
    }

    fn rings(directory: &Directory, dialled: &str) -> Result<(String, String), Refusal> {
        let plan = directory.route(&name("anna"), dialled)?;
        Ok((plan.destination.user.to_string(), plan.destination.number))
    }

    #[test]
    fn until_somebody_says_where_an_emergency_number_rings_nobody_has_it() {
        let directory = directory(false);
        assert!(directory.is_emergency("110") && directory.is_emergency("1-12;phone-context=x"));
        assert!(!directory.is_emergency("201") && !directory.is_emergency("1120"));
        assert_eq!(rings(&directory, "112"), Err(Refusal::Unknown));
    }

    #[test]
    fn an_emergency_number_rings_where_the_setting_says_and_is_the_number_shown() {
        for target in ["reception", "Reception", "9"] {
            let mut directory = directory(false);
            directory.set_emergency(to(target)).unwrap();
            let rung = rings(&directory, "1 1 2").unwrap();
            assert_eq!(rung, ("reception".to_owned(), "112".to_owned()));
        }
    }

    #[test]
    fn a_user_who_has_an_emergency_number_comes_first_while_switched_on() {
        let mut directory = directory(true);
        directory.set_emergency(to("reception")).unwrap();
        assert_eq!(rings(&directory, "112").unwrap().0, "works");
        assert_eq!(rings(&directory, "110").unwrap().0, "reception");
        let off = Change { enabled: Some(false), ..Change::default() };
        directory.set(&name("works"), off).unwrap();
        assert_eq!(rings(&directory, "112").unwrap().0, "reception");
    }

    #[test]
    fn emergency_calls_are_not_led_nowhere_by_mistake() {
        let mut directory = directory(false);
        let error = directory.set_emergency(to("dora")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "emergency calls: there is no user or number \"dora\" that may be called"
        );
        directory.set_emergency(to("9")).unwrap();
        let off = Change { enabled: Some(false), ..Change::default() };
        let moved = Change { numbers: Some(vec![]), ..Change::default() };
        let error = directory.set(&name("reception"), off).unwrap_err();
        assert_eq!(
            error.to_string(),
            "emergency calls ring at user \"reception\": say first where else they shall ring"
        );
        assert!(directory.set(&name("reception"), moved.clone()).is_err());
        assert!(directory.remove(&name("reception")).is_err());
        assert_eq!(rings(&directory, "110").unwrap().0, "reception", "nothing has changed");
        directory.set_emergency(to("reception")).unwrap();
        directory.set(&name("reception"), moved).unwrap();
        directory.set_emergency(to("anna")).unwrap();
        directory.remove(&name("reception")).unwrap();
    }

    #[test]
    fn emergency_numbers_end_at_the_limit_and_begin_with_one() {
        let mut directory = directory(false);
        let numbers = |count: usize| {
            let digits = (0..count).map(|n| Number::parse(&(900 + n).to_string()).unwrap());
            Emergency { numbers: digits.collect(), to: None }
        };
        assert_eq!(directory.set_emergency(numbers(EMERGENCY_NUMBERS_MAX)), Ok(()));
        for count in [0, EMERGENCY_NUMBERS_MAX + 1] {
            let error = directory.set_emergency(numbers(count)).unwrap_err();
            assert_eq!(error.to_string(), "emergency numbers: expected 1 to 16");
        }
    }
}
