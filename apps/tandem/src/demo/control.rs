//! The control connection to a baresip (its module `ctrl_tcp`): commands out, answers and events in.
//!
//! Invariant: every event is kept with the time when it was read, in order.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::netstring::{Unwrapper, wrap};
use super::space::{Space, inside};
use super::wait;

/// baresip answers a command at once or not at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long a read of the channel lasts before Ctrl-C is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Something that happened in the phone.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was read.
    pub at: Instant,
    /// As `CALL_ESTABLISHED`.
    pub kind: String,
    /// More about it: the reason of `CALL_CLOSED`, the status of `REGISTER_FAIL`.
    pub detail: String,
}

/// What baresip sends: an event or the answer to a command.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    response: bool,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    data: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    param: String,
}

/// The connection.
#[derive(Debug)]
pub struct Control {
    stream: TcpStream,
    messages: Receiver<(Instant, Message)>,
    events: Vec<Event>,
    /// How many events have been waited for already.
    passed: usize,
}

impl Control {
    /// Connects to the baresip at `address`, inside `space`.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn connect(space: Option<&Space>, address: SocketAddr) -> Result<Self> {
        let stream = inside(space, || Ok(TcpStream::connect(address)?))?;
        stream.set_nodelay(true)?;
        let (sender, messages) = channel();
        let reading = stream.try_clone()?;
        // Ends with the connection.
        std::thread::spawn(move || read_all(reading, &sender));
        Ok(Self { stream, messages, events: Vec::new(), passed: 0 })
    }

    /// Gives a command and returns what baresip answers.
    ///
    /// # Errors
    ///
    /// The command is refused or not answered, the connection is lost.
    pub fn command(&mut self, command: &str, parameters: &str) -> Result<String> {
        let text = serde_json::json!({ "command": command, "params": parameters, "token": "t" });
        self.stream.write_all(&wrap(&text.to_string()))?;
        let end = Instant::now() + ANSWER_LIMIT;
        while Instant::now() < end {
            if let Some(answer) = self.read()? {
                ensure!(answer.ok, "the phone refused `{command}`: {}", answer.data);
                return Ok(answer.data);
            }
        }
        bail!("the phone did not answer `{command}`")
    }

    /// Waits for the next event of this kind; those before it are passed.
    ///
    /// # Errors
    ///
    /// It does not come within `limit`; what came instead is told.
    pub fn expect(&mut self, kind: &str, limit: Duration) -> Result<Event> {
        let end = Instant::now() + limit;
        let begun = self.passed;
        loop {
            while let Some(event) = self.events.get(self.passed) {
                self.passed += 1;
                if event.kind == kind {
                    return Ok(event.clone());
                }
            }
            if Instant::now() >= end {
                let came: Vec<_> = self.events[begun..].iter().map(Event::brief).collect();
                bail!("no {kind} within {limit:?}; came: [{}]", came.join(", "));
            }
            self.read()?;
        }
    }

    /// All events until now.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn events(&mut self) -> Result<&[Event]> {
        while let Ok((at, message)) = self.messages.try_recv() {
            self.keep(at, message);
        }
        Ok(&self.events)
    }

    /// Nobody waits for what has come until now.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn pass(&mut self) -> Result<()> {
        self.passed = self.events()?.len();
        Ok(())
    }

    /// Reads for a moment; returns the answer to a command where that came.
    fn read(&mut self) -> Result<Option<Message>> {
        ensure!(!wait::asked_to_stop(), "stopped by a signal");
        match self.messages.recv_timeout(LOOK_EVERY) {
            Ok((at, message)) => Ok(self.keep(at, message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the phone has closed its control connection")
            }
        }
    }

    fn keep(&mut self, at: Instant, message: Message) -> Option<Message> {
        if message.response {
            return Some(message);
        }
        self.events.push(Event { at, kind: message.kind, detail: message.param });
        None
    }
}

impl Event {
    fn brief(&self) -> String {
        if self.detail.is_empty() {
            return self.kind.clone();
        }
        format!("{} ({})", self.kind, self.detail)
    }
}

fn read_all(mut stream: TcpStream, sender: &Sender<(Instant, Message)>) {
    let mut unwrapper = Unwrapper::default();
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let at = Instant::now();
        unwrapper.push(&bytes[..count]);
        while let Ok(Some(frame)) = unwrapper.next_frame() {
            let message = serde_json::from_slice(&frame).context("no message of baresip");
            let Ok(message) = message else { return };
            if sender.send((at, message)).is_err() {
                return;
            }
        }
    }
}
