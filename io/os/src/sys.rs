//! The only `unsafe` code of this crate: system calls that rustix does not wrap.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Gives the calling thread real-time priority (`SCHED_FIFO`); its children start without.
pub(crate) fn set_fifo(priority: i32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `param` is a whole sched_param that outlives the call; 0 is the calling thread.
    done(unsafe { libc::sched_setscheduler(0, policy, &raw const param) })
}

/// Blocks `signals` in the calling thread and opens a non-blocking descriptor that reads them.
pub(crate) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = no_signals()?;
    for signal in signals {
        // SAFETY: `set` is a sigset_t of ours; a number that is no signal is refused by the call.
        done(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    // SAFETY: `set` is initialised, the old mask is not asked for.
    let refused =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    done(fd)?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the child of `command` die (SIGKILL) with the thread that starts it, and lets it get the
/// signals that this thread has blocked.
pub(crate) fn prepare_child(command: &mut Command, parent: Pid) {
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent died before that call, nobody would send the signal.
        if getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let none = no_signals()?;
        // SAFETY: `none` is initialised, the old mask is not asked for.
        match unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
        } {
            0 => Ok(()),
            refused => Err(io::Error::from_raw_os_error(refused)),
        }
    };
    // SAFETY: between fork and exec the closure makes plain system calls and allocates nothing (its
    // errors are bare numbers).
    unsafe { command.pre_exec(prepare) };
}

fn no_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it all the same.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: `set` is a sigset_t of ours.
    done(unsafe { libc::sigemptyset(&raw mut set) })?;
    Ok(set)
}

/// One step of a classic BPF program.
pub(crate) type Step = libc::sock_filter;

/// A non-blocking packet socket on one interface that sees frames of `ethertype` for which `filter`
/// returns other than 0; none where `ethertype` is 0. Sends whole Ethernet frames.
pub(crate) fn packet_socket(index: u32, ethertype: u16, filter: &[Step]) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Protocol 0 receives nothing, so nothing gets in before filter and interface are set.
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    done(fd)?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };

    let mut steps = filter.to_vec();
    let program = libc::sock_fprog {
        len: u16::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: `program` points to `len` steps that live until after the call; the kernel copies and
    // checks them.
    done(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;

    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `address` is a sockaddr_ll of the length given.
    done(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })?;
    Ok(socket)
}

/// The usual answer of a system call: -1 and `errno`, or success.
fn done(answer: i32) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
