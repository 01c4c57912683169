use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::bytes::{is_token, is_token_byte};

macro_rules! header_names {
    ($($variant:ident $printed:literal $lower:literal $(or $compact:literal)?;)*) => {
        /// The name of a header. Case and compact forms do not count; prints in its usual form.
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(from = "String", into = "String")]
        pub enum HeaderName {
            $(#[doc = concat!("`", $printed, "`")] $variant,)*
            /// A header this crate has no name for; made by [`HeaderName::named`].
            Other(ExtensionName),
        }

        impl HeaderName {
            /// As it prints.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $printed,)*
                    Self::Other(name) => name.as_str(),
                }
            }

            fn known(lower: &[u8]) -> Option<Self> {
                match lower {
                    $($lower $(| $compact)? => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

header_names! {
    Accept "Accept" b"accept";
    AcceptContact "Accept-Contact" b"accept-contact" or b"a";
    AcceptEncoding "Accept-Encoding" b"accept-encoding";
    AcceptLanguage "Accept-Language" b"accept-language";
    AlertInfo "Alert-Info" b"alert-info";
    Allow "Allow" b"allow";
    AllowEvents "Allow-Events" b"allow-events" or b"u";
    AuthenticationInfo "Authentication-Info" b"authentication-info";
    Authorization "Authorization" b"authorization";
    CallId "Call-ID" b"call-id" or b"i";
    CallInfo "Call-Info" b"call-info";
    Contact "Contact" b"contact" or b"m";
    ContentDisposition "Content-Disposition" b"content-disposition";
    ContentEncoding "Content-Encoding" b"content-encoding" or b"e";
    ContentLanguage "Content-Language" b"content-language";
    ContentLength "Content-Length" b"content-length" or b"l";
    ContentType "Content-Type" b"content-type" or b"c";
    CSeq "CSeq" b"cseq";
    Date "Date" b"date";
    Diversion "Diversion" b"diversion";
    ErrorInfo "Error-Info" b"error-info";
    Event "Event" b"event" or b"o";
    Expires "Expires" b"expires";
    From "From" b"from" or b"f";
    HistoryInfo "History-Info" b"history-info";
    Identity "Identity" b"identity" or b"y";
    IdentityInfo "Identity-Info" b"identity-info" or b"n";
    InReplyTo "In-Reply-To" b"in-reply-to";
    Join "Join" b"join";
    MaxForwards "Max-Forwards" b"max-forwards";
    MimeVersion "MIME-Version" b"mime-version";
    MinExpires "Min-Expires" b"min-expires";
    MinSe "Min-SE" b"min-se";
    Organization "Organization" b"organization";
    PAccessNetworkInfo "P-Access-Network-Info" b"p-access-network-info";
    PAssertedIdentity "P-Asserted-Identity" b"p-asserted-identity";
    PPreferredIdentity "P-Preferred-Identity" b"p-preferred-identity";
    Path "Path" b"path";
    Priority "Priority" b"priority";
    Privacy "Privacy" b"privacy";
    ProxyAuthenticate "Proxy-Authenticate" b"proxy-authenticate";
    ProxyAuthorization "Proxy-Authorization" b"proxy-authorization";
    ProxyRequire "Proxy-Require" b"proxy-require";
    RAck "RAck" b"rack";
    Reason "Reason" b"reason";
    RecordRoute "Record-Route" b"record-route";
    ReferTo "Refer-To" b"refer-to" or b"r";
    ReferredBy "Referred-By" b"referred-by" or b"b";
    RejectContact "Reject-Contact" b"reject-contact" or b"j";
    Replaces "Replaces" b"replaces";
    ReplyTo "Reply-To" b"reply-to";
    RequestDisposition "Request-Disposition" b"request-disposition" or b"d";
    Require "Require" b"require";
    RetryAfter "Retry-After" b"retry-after";
    Route "Route" b"route";
    RSeq "RSeq" b"rseq";
    Server "Server" b"server";
    ServiceRoute "Service-Route" b"service-route";
    SessionExpires "Session-Expires" b"session-expires" or b"x";
    SipEtag "SIP-ETag" b"sip-etag";
    SipIfMatch "SIP-If-Match" b"sip-if-match";
    Subject "Subject" b"subject" or b"s";
    SubscriptionState "Subscription-State" b"subscription-state";
    Supported "Supported" b"supported" or b"k";
    TargetDialog "Target-Dialog" b"target-dialog";
    Timestamp "Timestamp" b"timestamp";
    To "To" b"to" or b"t";
    Unsupported "Unsupported" b"unsupported";
    UserAgent "User-Agent" b"user-agent";
    Via "Via" b"via" or b"v";
    Warning "Warning" b"warning";
    WwwAuthenticate "WWW-Authenticate" b"www-authenticate";
}

/// Longer names are not known ones.
const LONGEST_KNOWN: usize = 32;

impl HeaderName {
    /// `None` when it is not a token. Known names and compact forms are recognised.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut lower = [0; LONGEST_KNOWN];
        if let Some(lower) = lower.get_mut(..bytes.len()) {
            lower.copy_from_slice(bytes);
            lower.make_ascii_lowercase();
            if let Some(known) = Self::known(lower) {
                return Some(known);
            }
        }
        if !is_token(bytes) {
            return None;
        }
        core::str::from_utf8(bytes).ok().map(|text| Self::Other(ExtensionName(text.into())))
    }

    /// The name that `text` spells; characters that may not stand in a name become `-`.
    pub fn named(text: &str) -> Self {
        let clean = |byte: u8| if is_token_byte(byte) { char::from(byte) } else { '-' };
        let name: String = text.bytes().map(clean).collect();
        Self::from_bytes(name.as_bytes()).unwrap_or_else(|| Self::Other(ExtensionName("-".into())))
    }
}

impl From<String> for HeaderName {
    fn from(text: String) -> Self {
        Self::named(&text)
    }
}

/// Stored by name, so that a later version may add names.
impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.as_str().into()
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a header that [`HeaderName`] does not list: prints as it stood, compares without
/// case.
#[derive(Clone, Debug, Eq)]
pub struct ExtensionName(Box<str>);

impl ExtensionName {
    /// As it stood.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn lower(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

impl PartialEq for ExtensionName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl PartialOrd for ExtensionName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ExtensionName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lower().cmp(other.lower())
    }
}

impl Hash for ExtensionName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lower().for_each(|byte| state.write_u8(byte));
        state.write_u8(0xff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_compact_forms_do_not_count() {
        assert_eq!(HeaderName::from_bytes(b"v"), Some(HeaderName::Via));
        assert_eq!(HeaderName::from_bytes(b"cALL-id"), Some(HeaderName::CallId));
        assert_eq!(HeaderName::named("x-Thing"), HeaderName::named("X-THING"));
        assert!(HeaderName::named("x-a") < HeaderName::named("X-B"));
        assert_eq!(HeaderName::named("x-Thing").as_str(), "x-Thing");
    }

    #[test]
    fn only_tokens_are_names() {
        assert_eq!(HeaderName::from_bytes(b""), None);
        assert_eq!(HeaderName::from_bytes(b"Foo bar"), None);
        assert_eq!(HeaderName::named("a\r\nb: c").as_str(), "a--b--c");
        assert_eq!(HeaderName::named("").as_str(), "-");
    }

    #[test]
    fn every_listed_name_reads_back() {
        for name in ["WWW-Authenticate", "P-Access-Network-Info", "RAck", "MIME-Version"] {
            let parsed = HeaderName::named(name);
            assert!(!matches!(parsed, HeaderName::Other(_)), "{name}");
            assert_eq!(parsed.as_str(), name);
        }
    }
}
