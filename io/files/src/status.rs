//! What is to be shown of the files: for each class, who lacks what.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::content::ContentId;
use crate::exchange::Named;
use crate::message::RowId;

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// How long all together.
    pub bytes: u64,
}

impl Amount {
    const fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    /// Whether it is none.
    pub const fn is_none(&self) -> bool {
        self.files == 0
    }
}

/// A class of files.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClassStatus {
    /// Its name.
    pub class: String,
    /// All that rows name, every version.
    pub all: Amount,
    /// Of these, what is not on this machine.
    pub lacking_here: Amount,
    /// What is not on the twin; `None` where there is none, or it has not said.
    pub lacking_there: Option<Amount>,
    /// What is on neither.
    pub missing: Option<Amount>,
}

impl ClassStatus {
    /// Whether both have everything.
    pub fn is_equal(&self) -> bool {
        self.lacking_here.is_none() && self.lacking_there.is_some_and(|lacking| lacking.is_none())
    }
}

/// A content that comes here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UnderWay {
    /// What it is for.
    pub class: String,
    /// What it is called.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Of that, here.
    pub here_bytes: u64,
}

/// Every class that has a row.
pub(crate) fn sum_up(
    rows: &BTreeMap<RowId, Named>,
    here: impl Fn(ContentId) -> bool,
    there: Option<&BTreeSet<(ContentId, RowId)>>,
) -> Vec<ClassStatus> {
    let mut classes: BTreeMap<&str, ClassStatus> = BTreeMap::new();
    for (id, named) in rows {
        let status = classes.entry(&named.class).or_insert_with(|| ClassStatus {
            class: named.class.clone(),
            lacking_there: there.map(|_| Amount::default()),
            missing: there.map(|_| Amount::default()),
            ..ClassStatus::default()
        });
        status.all.add(named.bytes);
        let is_here = here(named.content);
        if !is_here {
            status.lacking_here.add(named.bytes);
        }
        let lacks = there.is_some_and(|there| !there.contains(&(named.content, *id)));
        if let Some(lacking) = status.lacking_there.as_mut().filter(|_| lacks) {
            lacking.add(named.bytes);
        }
        if let Some(missing) = status.missing.as_mut().filter(|_| lacks && !is_here) {
            missing.add(named.bytes);
        }
    }
    classes.into_values().collect()
}
