//! News of an interface: its wire, its being there at all.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::Refused;
use super::netlink::{Interface, LinkNews, Netlink, index_of};

/// How an interface is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkState {
    /// Its number; another one if it was removed and made anew. Zero: there is none.
    pub index: u32,
    /// An administrator switched it on.
    pub up: bool,
    /// Its wire works.
    pub carrier: bool,
    /// Its Ethernet address, if others resolve addresses on it.
    pub hardware: Option<[u8; 6]>,
}

impl LinkState {
    /// Whether packets can go out and come in, as far as this machine knows.
    pub const fn works(&self) -> bool {
        self.up && self.carrier
    }
}

impl From<&Interface> for LinkState {
    fn from(interface: &Interface) -> Self {
        let Interface { index, up, carrier, hardware, name: _ } = *interface;
        Self { index, up, carrier, hardware }
    }
}

/// Hears what happens to one interface. Readable when [`LinkWatch::read`] may have something.
#[derive(Debug)]
pub struct LinkWatch {
    name: String,
    news: Netlink,
    state: LinkState,
}

impl LinkWatch {
    /// Watches the interface called `name`, which need not be there yet.
    ///
    /// # Errors
    /// Only if the process may not open more descriptors.
    pub fn open(name: &str) -> Result<Self, Refused> {
        let news =
            Netlink::open(libc::RTMGRP_LINK.cast_unsigned()).map_err(|e| refused(name, e))?;
        let mut watch = Self { name: name.to_owned(), news, state: LinkState::default() };
        watch.ask()?;
        Ok(watch)
    }

    /// How it is, as of the last [`LinkWatch::read`].
    pub const fn state(&self) -> LinkState {
        self.state
    }

    /// Reads the news. The new state, if it is another than before.
    ///
    /// # Errors
    /// None in practice.
    pub fn read(&mut self) -> Result<Option<LinkState>, Refused> {
        let before = self.state;
        for _ in 0..MAX_READS {
            match self.news.news() {
                Ok(None) => break,
                Ok(Some(news)) => news.iter().for_each(|news| self.heed(news)),
                // Some news were lost: what counts is how it is now.
                Err(Errno::NOBUFS) => self.ask()?,
                Err(error) => return Err(refused(&self.name, error)),
            }
        }
        Ok((self.state != before).then_some(self.state))
    }

    fn heed(&mut self, news: &LinkNews) {
        match news {
            LinkNews::Is(interface) if interface.name == self.name => self.state = interface.into(),
            // It was given another name.
            LinkNews::Is(interface) if interface.index == self.state.index => {
                self.state = LinkState::default();
            }
            LinkNews::Gone { index } if *index == self.state.index => {
                self.state = LinkState::default();
            }
            LinkNews::Is(_) | LinkNews::Gone { .. } => {}
        }
    }

    fn ask(&mut self) -> Result<(), Refused> {
        let name = self.name.as_str();
        let mut asking = Netlink::open(0).map_err(|error| refused(name, error))?;
        self.state = match index_of(name).and_then(|index| asking.interface(index)) {
            Ok(interface) => (&interface).into(),
            Err(Errno::NODEV | Errno::NXIO) => LinkState::default(),
            Err(error) => return Err(refused(name, error)),
        };
        Ok(())
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn refused(name: &str, error: Errno) -> Refused {
    Refused::new(format!("watch the interface {name}"), error, "CAP_NET_ADMIN")
}

/// Messages read at a time, so that a flood of them cannot hold the keeper's loop.
const MAX_READS: usize = 64;
