//! All users of the pair, and the rules that keep them apart.

use core::fmt;
use std::collections::BTreeMap;

use crate::emergency::{EMERGENCY_NUMBERS_MAX, Emergency};
use crate::user::{
    Account, Credentials, DisplayName, Invalid, NUMBERS_PER_USER_MAX, Number, User, UserName,
};

/// Users of one pair. Beyond it, adding is refused.
pub const USERS_MAX: usize = 10_000;

/// Why a change of the directory was refused. Prints as one sentence for the administrator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DirectoryError {
    /// A field does not have the expected form.
    Invalid(Invalid),
    /// There is a user of this name.
    NameTaken(UserName),
    /// The name reads like a number, and that number is another user's.
    NameIsNumber {
        /// The name asked for.
        name: UserName,
        /// Whose number it is.
        of: UserName,
    },
    /// The number is another user's (or reads like another user's name).
    NumberTaken {
        /// The number asked for.
        number: Number,
        /// Who has it.
        by: UserName,
    },
    /// More than [`NUMBERS_PER_USER_MAX`] numbers for one user.
    TooManyNumbers,
    /// There is no user of this name.
    NoSuchUser(UserName),
    /// There are [`USERS_MAX`] users already.
    Full,
    /// No emergency number, or more than [`EMERGENCY_NUMBERS_MAX`].
    EmergencyNumbers,
    /// Nobody who may be called has the name or number where emergency calls shall ring.
    EmergencyNowhere(String),
    /// Emergency calls ring at this user and would lead nowhere then.
    EmergencyRingsHere(UserName),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::NameTaken(name) => write!(f, "name \"{name}\": there is a user of this name"),
            Self::NameIsNumber { name, of } => {
                write!(f, "name \"{name}\": this is a number of user \"{of}\"")
            }
            Self::NumberTaken { number, by } => {
                write!(f, "number \"{number}\": user \"{by}\" has it already")
            }
            Self::TooManyNumbers => {
                write!(f, "numbers: expected at most {NUMBERS_PER_USER_MAX} for one user")
            }
            Self::NoSuchUser(name) => write!(f, "there is no user \"{name}\""),
            Self::Full => write!(f, "there are {USERS_MAX} users already, the most there can be"),
            Self::EmergencyNumbers => {
                write!(f, "emergency numbers: expected 1 to {EMERGENCY_NUMBERS_MAX}")
            }
            Self::EmergencyNowhere(to) => {
                write!(f, "emergency calls: there is no user or number \"{to}\" that may be called")
            }
            Self::EmergencyRingsHere(name) => write!(
                f,
                "emergency calls ring at user \"{name}\": say first where else they shall ring"
            ),
        }
    }
}

impl std::error::Error for DirectoryError {}

impl From<Invalid> for DirectoryError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// What to change about a user; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New display name.
    pub display: Option<DisplayName>,
    /// New numbers, all of them.
    pub numbers: Option<Vec<Number>>,
    /// Allow or forbid logging in.
    pub enabled: Option<bool>,
    /// New password.
    pub credentials: Option<Credentials>,
}

/// Two users claim one number, after both servers were changed while they could not hear each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// What both claim.
    pub number: Number,
    /// Whom it rings.
    pub kept: UserName,
    /// Whose claim waits until somebody decides.
    pub waiting: UserName,
}

/// All users, found by name and by number.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    accounts: BTreeMap<UserName, Account>,
    /// Each number and who claims it; the last one has it. More than one only after a merge.
    claims: BTreeMap<Number, Vec<UserName>>,
    pub(crate) emergency: Emergency,
}

impl Directory {
    /// Without users.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new user.
    ///
    /// # Errors
    ///
    /// When the name or a number is taken, or there are too many. Nothing has changed then.
    pub fn add(&mut self, account: Account) -> Result<(), DirectoryError> {
        let name = &account.user.name;
        if self.accounts.contains_key(name) {
            return Err(DirectoryError::NameTaken(name.clone()));
        }
        if self.accounts.len() >= USERS_MAX {
            return Err(DirectoryError::Full);
        }
        let namesake = Number::parse(name.as_str()).ok();
        if let Some(owner) = namesake.and_then(|number| self.find_by_number(&number)) {
            let of = owner.user.name.clone();
            return Err(DirectoryError::NameIsNumber { name: name.clone(), of });
        }
        self.check_numbers(name, &account.user.numbers)?;
        self.restore(account);
        Ok(())
    }

    /// Changes a user; the account as it is then.
    ///
    /// # Errors
    ///
    /// When there is no such user, a new number is taken, or emergency calls would ring nowhere.
    /// Nothing has changed then.
    pub fn set(&mut self, name: &UserName, change: Change) -> Result<&Account, DirectoryError> {
        let unknown = || DirectoryError::NoSuchUser(name.clone());
        let mut account = self.accounts.get(name).cloned().ok_or_else(unknown)?;
        if let Some(numbers) = change.numbers {
            self.check_numbers(name, &numbers)?;
            account.user.numbers = numbers;
        }
        account.user.display = change.display.unwrap_or(account.user.display);
        account.user.enabled = change.enabled.unwrap_or(account.user.enabled);
        account.credentials = change.credentials.unwrap_or(account.credentials);
        self.keep_emergency(name, Some(&account.user))?;
        self.restore(account);
        self.accounts.get(name).ok_or_else(unknown)
    }

    /// Forgets a user; the account as it was.
    ///
    /// # Errors
    ///
    /// When there is no such user, or emergency calls ring there.
    pub fn remove(&mut self, name: &UserName) -> Result<Account, DirectoryError> {
        self.keep_emergency(name, None)?;
        self.forget(name).ok_or_else(|| DirectoryError::NoSuchUser(name.clone()))
    }

    /// Takes the removal of a user as it stands, from the twin; `None`: gone here already.
    pub fn forget(&mut self, name: &UserName) -> Option<Account> {
        self.withdraw(name);
        self.accounts.remove(name)
    }

    /// Takes an account as it stands, from the disk or from the twin, in place of one of that name.
    ///
    /// Never refuses: what both servers stored must be loaded. Where two users claim a number, the
    /// one restored last has it, so restore in the order in which they were written.
    pub fn restore(&mut self, account: Account) {
        let name = account.user.name.clone();
        self.withdraw(&name);
        for number in &account.user.numbers {
            let claims = self.claims.entry(number.clone()).or_default();
            if !claims.contains(&name) {
                claims.push(name.clone());
            }
        }
        self.accounts.insert(name, account);
    }

    /// Forgets everybody and every setting, before everything is restored anew.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The account of this name.
    pub fn get(&self, name: &UserName) -> Option<&Account> {
        self.accounts.get(name)
    }

    /// Who has this number.
    pub fn find_by_number(&self, number: &Number) -> Option<&Account> {
        self.claims.get(number).and_then(|claims| claims.last()).and_then(|name| self.get(name))
    }

    /// All users in order of their names.
    pub fn list(&self) -> impl Iterator<Item = &User> {
        self.accounts.values().map(|account| &account.user)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Numbers that more than one user claims, for the administrator to decide.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (number, claims) in &self.claims {
            let Some((kept, waiting)) = claims.split_last() else { continue };
            conflicts.extend(waiting.iter().map(|waiting| Conflict {
                number: number.clone(),
                kept: kept.clone(),
                waiting: waiting.clone(),
            }));
        }
        conflicts
    }

    fn check_numbers(&self, name: &UserName, numbers: &[Number]) -> Result<(), DirectoryError> {
        if numbers.len() > NUMBERS_PER_USER_MAX {
            return Err(DirectoryError::TooManyNumbers);
        }
        for number in numbers {
            let others = self.claims.get(number).into_iter().flatten();
            let claimed = others.rev().find(|other| *other != name).cloned();
            let namesake = UserName::parse(number.as_str())
                .ok()
                .filter(|namesake| namesake != name && self.accounts.contains_key(namesake));
            if let Some(by) = claimed.or(namesake) {
                return Err(DirectoryError::NumberTaken { number: number.clone(), by });
            }
        }
        Ok(())
    }

    /// Takes back every claim of `name`.
    fn withdraw(&mut self, name: &UserName) {
        let Some(account) = self.accounts.get(name) else { return };
        for number in &account.user.numbers {
            if let Some(claims) = self.claims.get_mut(number) {
                claims.retain(|other| other != name);
                if claims.is_empty() {
                    self.claims.remove(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        UserName::parse(text).unwrap()
    }

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    fn account(who: &str, numbers: &[&str]) -> Account {
        Account {
            user: User {
                name: name(who),
                display: DisplayName::default(),
                numbers: numbers.iter().map(|digits| number(digits)).collect(),
                enabled: true,
            },
            credentials: Credentials { md5: [0; 16], sha256: [0; 32] },
        }
    }

    fn who_has(directory: &Directory, digits: &str) -> Option<String> {
        directory.find_by_number(&number(digits)).map(|found| found.user.name.to_string())
    }

    #[test]
    fn a_number_belongs_to_one_user() {
        let mut directory = Directory::new();
        directory.add(account("anna", &["201", "202"])).unwrap();
        let error = directory.add(account("ben", &["203", "202"])).unwrap_err();
        assert_eq!(error.to_string(), "number \"202\": user \"anna\" has it already");
        assert_eq!(directory.len(), 1, "a refused user is not there in part");
        assert_eq!(who_has(&directory, "203"), None);
    }

    #[test]
    fn a_name_belongs_to_one_user() {
        let mut directory = Directory::new();
        directory.add(account("anna", &[])).unwrap();
        let error = directory.add(account("anna", &["201"])).unwrap_err();
        assert_eq!(error, DirectoryError::NameTaken(name("anna")));
        assert_eq!(error.to_string(), "name \"anna\": there is a user of this name");
    }

    #[test]
    fn a_name_that_reads_like_a_number_is_nobody_elses_number() {
        let mut directory = Directory::new();
        directory.add(account("201", &["201", "7"])).unwrap();
        let taken = DirectoryError::NumberTaken { number: number("201"), by: name("201") };
        assert_eq!(directory.add(account("ben", &["201"])), Err(taken));
        let error = directory.add(account("7", &[])).unwrap_err();
        assert_eq!(error.to_string(), "name \"7\": this is a number of user \"201\"");
        directory.add(account("300", &[])).unwrap();
        let taken = DirectoryError::NumberTaken { number: number("300"), by: name("300") };
        assert_eq!(directory.add(account("ben", &["300"])), Err(taken));
    }

    #[test]
    fn set_changes_what_it_names_and_nothing_else() {
        let mut directory = Directory::new();
        directory.add(account("anna", &["201"])).unwrap();
        directory.add(account("ben", &["202"])).unwrap();
        let numbers = Some(vec![number("201"), number("301")]);
        let change = Change { numbers, ..Change::default() };
        let changed = directory.set(&name("anna"), change).unwrap();
        assert!(changed.user.enabled);
        assert_eq!(who_has(&directory, "301").as_deref(), Some("anna"));

        let change = Change { numbers: Some(vec![number("202")]), ..Change::default() };
        let error = directory.set(&name("anna"), change).unwrap_err();
        assert_eq!(error, DirectoryError::NumberTaken { number: number("202"), by: name("ben") });
        assert_eq!(who_has(&directory, "201").as_deref(), Some("anna"));

        let change = Change { enabled: Some(false), numbers: Some(vec![]), ..Change::default() };
        assert!(!directory.set(&name("anna"), change).unwrap().user.enabled);
        assert_eq!(who_has(&directory, "201"), None);
        let error = directory.set(&name("carl"), Change::default()).unwrap_err();
        assert_eq!(error.to_string(), "there is no user \"carl\"");
    }

    #[test]
    fn a_removed_users_numbers_are_free() {
        let mut directory = Directory::new();
        directory.add(account("anna", &["201"])).unwrap();
        assert_eq!(directory.remove(&name("anna")).unwrap().user.name, name("anna"));
        assert!(directory.is_empty());
        directory.add(account("ben", &["201"])).unwrap();
        assert!(directory.remove(&name("anna")).is_err());
    }

    #[test]
    fn after_a_merge_the_later_claim_rings_and_the_other_waits() {
        let mut directory = Directory::new();
        directory.restore(account("anna", &["201"]));
        directory.restore(account("ben", &["201"]));
        assert_eq!(who_has(&directory, "201").as_deref(), Some("ben"));
        let kept = Conflict { number: number("201"), kept: name("ben"), waiting: name("anna") };
        assert_eq!(directory.conflicts(), [kept]);
        directory.remove(&name("ben")).unwrap();
        assert_eq!(who_has(&directory, "201").as_deref(), Some("anna"));
        assert_eq!(directory.conflicts(), []);
    }

    #[test]
    fn numbers_for_one_user_end_at_the_limit() {
        let digits: Vec<String> = (0..=NUMBERS_PER_USER_MAX).map(|n| n.to_string()).collect();
        let digits: Vec<&str> = digits.iter().map(String::as_str).collect();
        let mut directory = Directory::new();
        directory.add(account("anna", &digits[1..])).unwrap();
        let error = directory.add(account("ben", &digits)).unwrap_err();
        assert_eq!(error, DirectoryError::TooManyNumbers);
    }

    #[test]
    fn users_end_at_the_limit() {
        let mut directory = Directory::new();
        for n in 0..USERS_MAX {
            directory.add(account(&format!("u{n}"), &[])).unwrap();
        }
        assert_eq!(directory.add(account("one-more", &[])), Err(DirectoryError::Full));
        directory.restore(account("one-more", &[]));
        assert_eq!(directory.len(), USERS_MAX + 1, "what is stored already is never refused");
    }
}
