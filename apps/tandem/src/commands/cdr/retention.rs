//! `tandem cdr retention`: how long closed calls stay on record, on both machines.

use serde_json::json;
use tandem_node::{RETENTION_DAYS_MAX, Reply, Request};

use crate::cli::Failure;
use crate::commands::{ask_server, print_json, unexpected};
use crate::config::Config;

/// How long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Keep(Option<u32>);

/// `30`, or `forever`.
pub(super) fn keep(text: &str) -> Result<Keep, String> {
    if text == "forever" {
        return Ok(Keep(None));
    }
    let days = text.parse().ok().filter(|days| (1..=RETENTION_DAYS_MAX).contains(days));
    days.map(|days| Keep(Some(days)))
        .ok_or_else(|| format!("expected 1 to {RETENTION_DAYS_MAX} days, or `forever`"))
}

/// Sets it where it is given, and says how it is.
pub(super) fn retention(config: &Config, keep: Option<Keep>, json: bool) -> Result<(), Failure> {
    if let Some(Keep(days)) = keep {
        let Reply::Done { .. } = ask_server(config, &Request::RetentionSet { days })? else {
            return Err(unexpected());
        };
    }
    let Reply::Retention { days } = ask_server(config, &Request::Retention)? else {
        return Err(unexpected());
    };
    // The passive machine hears of the change a moment later.
    let days = keep.map_or(days, |Keep(days)| days);
    if json {
        return print_json(&json!({ "days": days }));
    }
    match days {
        Some(1) => println!("closed calls stay on record for 1 day"),
        Some(days) => println!("closed calls stay on record for {days} days"),
        None => println!("closed calls stay on record for ever"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_days_or_forever() {
        assert_eq!(keep("forever"), Ok(Keep(None)));
        assert_eq!(keep("30"), Ok(Keep(Some(30))));
        assert_eq!(keep("36500"), Ok(Keep(Some(36_500))));
        for text in ["", "0", "-1", "36501", "30d", "always"] {
            assert!(keep(text).is_err(), "{text}");
        }
    }
}
