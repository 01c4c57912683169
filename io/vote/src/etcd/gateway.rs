//! etcd's JSON gateway (`/v3/...`) over HTTP: the five requests that are needed, and logging in.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tandem_types::Duration;
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};

use super::{EtcdConfig, read};

/// One endpoint may take so long for an answer; then the next is tried.
pub(super) const ENDPOINT_PATIENCE: Duration = Duration::from_millis(400);
/// Bytes of an answer that are read.
const ANSWER_MAX: u64 = 64 * 1024;

/// A name and a password for etcd.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    /// Never the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// Files in PEM for `https`.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who signed the cluster's certificates; must be given for `https`.
    pub authority: Option<PathBuf>,
    /// Our certificate and its key, where the cluster wants one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why etcd did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failed {
    /// No usable answer: another endpoint may give one.
    Away(String),
    /// It wants us to log in (again).
    Login(String),
    /// It answered that it does not.
    Said(String),
}

/// A key as etcd has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) value: String,
    /// Changes with every write.
    pub(super) revision: i64,
    /// Zero: none.
    pub(super) lease: i64,
}

/// Talks to one endpoint at a time.
pub(super) struct Gateway {
    agent: ureq::Agent,
    endpoints: Vec<String>,
    /// The endpoint that answered last.
    pub(super) at: usize,
    login: Option<Login>,
    token: Option<String>,
}

impl Gateway {
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, String> {
        let plain = |url: &&String| !url.starts_with("http://") && !url.starts_with("https://");
        if let Some(wrong) = config.endpoints.iter().find(plain) {
            return Err(format!("{wrong}: expected http://HOST:PORT or https://HOST:PORT"));
        }
        if config.endpoints.is_empty() {
            return Err(String::from("no endpoint: expected at least one"));
        }
        let secure = config.endpoints.iter().any(|url| url.starts_with("https://"));
        let mut builder = ureq::Agent::config_builder()
            .timeout_global(Some(ENDPOINT_PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("tandem");
        if secure {
            builder = builder.tls_config(tls(&config.tls)?);
        }
        let endpoints =
            config.endpoints.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let agent = builder.build().new_agent();
        Ok(Self { agent, endpoints, at: 0, login: config.login.clone(), token: None })
    }

    /// How many endpoints there are.
    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// Every key that starts with `prefix`.
    pub(super) fn range(&mut self, prefix: &str) -> Result<Vec<Stored>, Failed> {
        let answer = self.call("/v3/kv/range", &range(prefix))?;
        Ok(stored(&answer))
    }

    /// A new lease, and how long etcd made it.
    pub(super) fn grant(&mut self, ttl: Duration) -> Result<(i64, Duration), Failed> {
        let answer = self.call("/v3/lease/grant", &json!({ "TTL": ttl.as_secs().to_string() }))?;
        let id = number(&answer["ID"]).ok_or_else(|| garbled(&answer))?;
        Ok((id, seconds(&answer["TTL"])))
    }

    /// The lease begins afresh; zero: it has ended.
    pub(super) fn keep_alive(&mut self, lease: i64) -> Result<Duration, Failed> {
        let body = json!({ "ID": lease.to_string() });
        Ok(seconds(&self.call("/v3/lease/keepalive", &body)?["result"]["TTL"]))
    }

    /// The lease and its key end.
    pub(super) fn revoke(&mut self, lease: i64) -> Result<(), Failed> {
        self.call("/v3/lease/revoke", &json!({ "ID": lease.to_string() })).map(drop)
    }

    /// How long the lease has left, in whole seconds rounded down.
    pub(super) fn left(&mut self, lease: i64) -> Result<Duration, Failed> {
        let body = json!({ "ID": lease.to_string() });
        Ok(seconds(&self.call("/v3/lease/timetolive", &body)?["TTL"]))
    }

    /// Writes all of `puts` (key, value, lease) if each of `unless` (key, revision) is still as it
    /// was seen, zero for absent. What is there now, where it is not.
    pub(super) fn write(
        &mut self,
        unless: &[(&str, i64)],
        puts: &[(&str, &str, i64)],
        prefix: &str,
    ) -> Result<Result<(), Vec<Stored>>, Failed> {
        let compare: Vec<Value> = unless.iter().map(|(key, revision)| json!({
            "result": "EQUAL", "target": "MOD", "key": text(key), "mod_revision": revision.to_string(),
        })).collect();
        let success: Vec<Value> = puts.iter().map(|(key, value, lease)| json!({
            "request_put": { "key": text(key), "value": text(value), "lease": lease.to_string() },
        })).collect();
        let failure = json!([{ "request_range": range(prefix) }]);
        let body = json!({ "compare": compare, "success": success, "failure": failure });
        let answer = self.call("/v3/kv/txn", &body)?;
        let done = answer["succeeded"].as_bool().unwrap_or(false);
        Ok(if done { Ok(()) } else { Err(stored(&answer["responses"][0]["response_range"])) })
    }

    /// One request; where etcd wants a login, once more with one.
    fn call(&mut self, path: &str, body: &Value) -> Result<Value, Failed> {
        match self.post(path, body) {
            Err(Failed::Login(why)) => {
                let Some(login) = self.login.clone() else { return Err(Failed::Said(why)) };
                self.token = None;
                let names = json!({ "name": login.user, "password": login.password });
                let answer = self.post("/v3/auth/authenticate", &names)?;
                self.token = answer["token"].as_str().map(str::to_owned);
                self.post(path, body).map_err(|again| match again {
                    Failed::Login(why) => Failed::Said(why),
                    Failed::Away(_) | Failed::Said(_) => again,
                })
            }
            done @ (Ok(_) | Err(Failed::Away(_) | Failed::Said(_))) => done,
        }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        let url = format!("{}{path}", self.endpoints[self.at % self.endpoints.len()]);
        let away = |error: ureq::Error| Failed::Away(format!("{url}: {error}"));
        let mut request = self.agent.post(&url).header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let mut response = request.send(body.to_string().as_bytes()).map_err(away)?;
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        let answer: Value = serde_json::from_slice(&bytes.map_err(away)?)
            .map_err(|error| Failed::Away(format!("{url}: no JSON in the answer: {error}")))?;
        judge(&url, status, answer)
    }
}

/// What an answer means.
fn judge(url: &str, status: u16, answer: Value) -> Result<Value, Failed> {
    // A stream's answer holds its error inside.
    let error = ["error", "message"].iter().find_map(|key| answer[*key].as_str());
    let error = error.or_else(|| answer["error"]["message"].as_str());
    let why = format!("{url}: {status} {}", error.unwrap_or("without a reason"));
    match (status, error) {
        (200, None) => Ok(answer),
        (401, _) => Err(Failed::Login(why)),
        (_, Some(text)) if is_about_login(text) => Err(Failed::Login(why)),
        // 5xx: no leader, a time-out inside the cluster.
        (500.., _) => Err(Failed::Away(why)),
        _ => Err(Failed::Said(why)),
    }
}

fn is_about_login(text: &str) -> bool {
    ["invalid auth token", "user name is empty", "user name not found"]
        .iter()
        .any(|sign| text.contains(sign))
}

fn garbled(answer: &Value) -> Failed {
    Failed::Away(format!("an answer that is not etcd's: {answer}"))
}

fn tls(files: &Tls) -> Result<TlsConfig, String> {
    let Some(authority) = &files.authority else {
        return Err(String::from(
            "https needs `authority`: the file of who signed the certificates",
        ));
    };
    let roots = certificates(authority)?;
    let client = match &files.client {
        None => None,
        Some((certificate, key)) => {
            let bytes = read(key)?;
            let key = PrivateKey::from_pem(&bytes)
                .map_err(|error| format!("{}: {error}", key.display()))?;
            Some(ClientCert::new_with_certs(&certificates(certificate)?, key))
        }
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client)
        .build())
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate<'static>>, String> {
    let bytes = read(path)?;
    let found: Vec<_> = parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        Err(format!("{}: no certificate in it", path.display()))
    } else {
        Ok(found)
    }
}

fn range(prefix: &str) -> Value {
    // The end of everything that starts with it: the prefix with its last byte raised.
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    json!({ "key": text(prefix), "range_end": STANDARD.encode(end) })
}

fn stored(answer: &Value) -> Vec<Stored> {
    let read = |value: &Value| {
        let bytes = STANDARD.decode(value.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let rows = answer["kvs"].as_array().into_iter().flatten();
    rows.filter_map(|row| {
        Some(Stored {
            key: read(&row["key"])?,
            // An empty value is left out.
            value: read(&row["value"]).unwrap_or_default(),
            revision: number(&row["mod_revision"])?,
            lease: number(&row["lease"]).unwrap_or(0),
        })
    })
    .collect()
}

fn text(text: &str) -> String {
    STANDARD.encode(text)
}

/// The gateway writes 64-bit numbers as text, and leaves zero out.
fn number(value: &Value) -> Option<i64> {
    value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok())
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(number(value).and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}
