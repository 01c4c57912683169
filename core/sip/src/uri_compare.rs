//! When two URIs are the same (RFC 3261 §19.1.4).

use crate::bytes::{hex_value, is_unreserved};
use crate::{Scheme, Uri};

/// Parameters that must stand in both URIs or in neither. The text of the RFC names the first
/// four, its examples the fifth.
const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

impl Uri {
    /// Whether both are the same address as RFC 3261 §19.1.4 says. Not transitive, which is why it
    /// is not `==`. `tel:` compares as RFC 3966 §4 says, other schemes byte for byte.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        match (self.scheme(), other.scheme()) {
            (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => same_sip(self, other),
            (Scheme::Tel, Scheme::Tel) => same_tel(self, other),
            (Scheme::Sip | Scheme::Sips | Scheme::Tel | Scheme::Other, _) => {
                self.as_bytes() == other.as_bytes()
            }
        }
    }
}

fn same_sip(one: &Uri, two: &Uri) -> bool {
    same_optional(one.user(), two.user(), same_case)
        && same_optional(one.password(), two.password(), same_case)
        && one.port() == two.port()
        && match (one.host(), two.host()) {
            (Some(one), Some(two)) => one.is_same(&two),
            _ => false,
        }
        && NEVER_IGNORED.iter().all(|name| one.has_param(name) == two.has_param(name))
        && one.params().all(|(name, value)| fits(name, value, two))
        && has_all_headers(one, two)
        && has_all_headers(two, one)
}

/// A parameter that stands in both has the same value in both.
fn fits(name: &[u8], value: Option<&[u8]>, other: &Uri) -> bool {
    let same_name = |key: &[u8]| same_any_case(key, name);
    match other.params().find(|(key, _)| same_name(key)) {
        Some((_, theirs)) => same_optional(value, theirs, same_any_case),
        None => true,
    }
}

fn has_all_headers(one: &Uri, two: &Uri) -> bool {
    one.headers().all(|(name, value)| {
        two.headers().any(|(key, theirs)| {
            same_any_case(key, name) && same_optional(value, theirs, same_case)
        })
    })
}

fn same_tel(one: &Uri, two: &Uri) -> bool {
    let digits = |uri: &Uri| -> Vec<u8> {
        let number = uri.user().unwrap_or_default().iter();
        number.filter(|byte| !b"-.()".contains(byte)).map(u8::to_ascii_lowercase).collect()
    };
    digits(one) == digits(two)
        && one.params().count() == two.params().count()
        && one.params().all(|(name, value)| {
            two.params().any(|(key, theirs)| {
                same_any_case(key, name) && same_optional(value, theirs, same_any_case)
            })
        })
}

fn same_optional(
    one: Option<&[u8]>,
    two: Option<&[u8]>,
    same: impl Fn(&[u8], &[u8]) -> bool,
) -> bool {
    match (one, two) {
        (None, None) => true,
        (Some(one), Some(two)) => same(one, two),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn same_case(one: &[u8], two: &[u8]) -> bool {
    Units(one).eq(Units(two))
}

pub(crate) fn same_any_case(one: &[u8], two: &[u8]) -> bool {
    let lower = |unit: Unit| Unit { byte: unit.byte.to_ascii_lowercase(), ..unit };
    Units(one).map(lower).eq(Units(two).map(lower))
}

/// One character of a part. `%HH` is the same as the character, unless that is reserved.
#[derive(Eq, PartialEq)]
struct Unit {
    byte: u8,
    is_escaped: bool,
}

struct Units<'a>(&'a [u8]);

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let (first, tail) = self.0.split_first()?;
        if *first == b'%'
            && let [high, low, rest @ ..] = tail
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            self.0 = rest;
            let byte = high << 4 | low;
            return Some(Unit { byte, is_escaped: !is_unreserved(byte) });
        }
        self.0 = tail;
        Some(Unit { byte: *first, is_escaped: false })
    }
}

#[cfg(test)]
mod tests {
    use crate::Uri;

    fn same(one: &str, two: &str) -> bool {
        let (one, two): (Uri, Uri) = (one.parse().unwrap(), two.parse().unwrap());
        assert_eq!(one.is_equivalent(&two), two.is_equivalent(&one), "{one} {two}");
        one.is_equivalent(&two)
    }

    #[test]
    fn the_equivalent_examples_of_the_rfc_are_equivalent() {
        assert!(same(
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtlanTa.CoM;Transport=tcp"
        ));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"));
        assert!(same(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ));
        assert!(same(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ));
    }

    #[test]
    fn the_other_examples_of_the_rfc_are_not() {
        assert!(!same(
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP"
        ));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"));
        assert!(!same("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
        assert!(!same("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"));
        assert!(!same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
    }

    #[test]
    fn a_reserved_character_is_not_its_escape() {
        assert!(!same("sip:a%3Bb@h", "sip:a;b@h"));
        assert!(same("sip:a%2Db@h", "sip:a-b@h"));
        assert!(same("sip:a%3bb@h", "sip:a%3Bb@h"));
        assert!(!same("sip:a@h", "sips:a@h"));
        assert!(same("sip:a@[2001:DB8::1]", "sip:a@[2001:db8:0::1]"));
    }

    #[test]
    fn telephone_numbers_compare_without_separators() {
        assert!(same("tel:+1-201-555-0123", "tel:+12015550123"));
        assert!(!same("tel:+12015550123", "tel:12015550123;phone-context=+1"));
        assert!(same("isbn:1", "isbn:1"));
    }
}
