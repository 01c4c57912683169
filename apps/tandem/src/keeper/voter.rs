//! The third vote, where one is configured: asked for as the keeper wants, and its troubles told.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, anyhow};
use tandem_keeper::{Input, pair};
use tandem_link::WitnessKey;
use tandem_types::{Duration, Epoch, Instant};
use tandem_vote::{
    Ask, EtcdConfig, EtcdLease, Lease, Login, Side, Tls, Voted, WitnessConfig, WitnessLease,
};
use tandem_witness::Seal;

use crate::config::Config;

/// The voter, and what was told of it.
pub(super) struct Voter {
    /// `None`: nobody else votes.
    lease: Option<Box<dyn Lease>>,
    /// The trouble that was told last.
    trouble: Option<String>,
}

impl Voter {
    /// Begins to speak with the voter; never waits for it. `life` is that of the keeper.
    pub(super) fn start(config: &Config, key: &WitnessKey, life: u64) -> anyhow::Result<Self> {
        let third = &config.third;
        let side = Side { seat: config.seat, life };
        let lease: Option<Box<dyn Lease>> = if let Some(address) = &third.witness {
            let lease = WitnessLease::start(WitnessConfig {
                address: address.clone(),
                key: *key.reveal(),
                side,
                own: config.address.clone(),
                not_from: config.virtual_addresses.iter().map(|prefix| prefix.ip).collect(),
            });
            Some(Box::new(lease.context("cannot ask the witness")?))
        } else if third.etcd.is_empty() {
            None
        } else {
            let lease = etcd(config, key, side)?;
            Some(Box::new(EtcdLease::start(&lease).map_err(|why| anyhow!("etcd: {why}"))?))
        };
        Ok(Self { lease, trouble: None })
    }

    /// What to wait for: then call [`Voter::answers`].
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.lease.as_ref().map(|lease| lease.as_fd())
    }

    pub(super) fn ask(&mut self, now: Instant, number: u64, epoch: Epoch, term: Duration) {
        if let Some(lease) = &mut self.lease {
            lease.ask(now, Ask { number, epoch, term });
        }
    }

    pub(super) fn release(&mut self, epoch: Epoch) {
        if let Some(lease) = &mut self.lease {
            lease.release(epoch);
        }
    }

    /// What became of requests, for the keeper.
    pub(super) fn answers(&mut self) -> Vec<Input> {
        let answers = self.lease.as_mut().map(|lease| lease.answers()).unwrap_or_default();
        let told = |voted| match voted {
            Voted::Granted { number, term } => pair::Voted::Granted { number, term },
            Voted::Refused { number, left, highest } => {
                pair::Voted::Refused { number, left, highest }
            }
            Voted::Unreachable { number, .. } => pair::Voted::Unreachable { number },
        };
        answers.into_iter().map(|voted| Input::Voted(told(voted))).collect()
    }

    /// A sentence where the voter went out of reach or came back since the last call.
    pub(super) fn news(&mut self) -> Option<String> {
        let trouble = self.lease.as_ref()?.standing().trouble;
        if trouble == self.trouble {
            return None;
        }
        self.trouble.clone_from(&trouble);
        Some(match trouble {
            Some(why) => format!("the third vote is out of reach: {why}"),
            None => String::from("the third vote is in reach again"),
        })
    }
}

fn etcd(config: &Config, key: &WitnessKey, side: Side) -> anyhow::Result<EtcdConfig> {
    let third = &config.third;
    let login = match (&third.etcd_user, &third.etcd_password) {
        (Some(user), Some(file)) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read etcd_password_file {}", file.display()))?;
            let password = text.lines().next().unwrap_or_default().to_owned();
            Some(Login { user: user.clone(), password })
        }
        (None, _) | (_, None) => None,
    };
    let client = third.etcd_certificate.clone().zip(third.etcd_key.clone());
    Ok(EtcdConfig {
        endpoints: third.etcd.clone(),
        // The public name of the pair: two pairs may share a cluster.
        prefix: format!("/tandem/{:?}/", Seal::new(key.reveal()).pair()),
        side,
        login,
        tls: Tls { authority: third.etcd_authority.clone(), client },
    })
}
