//! Keys of a terminal, one at a time.
//!
//! The terminal is not made raw: it only stops collecting lines and echoing. So Ctrl-C stays the signal
//! that it is, and what cargo, the log and a panic print keeps its line ends.

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

use super::Signal;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Feed the sample again.
    Feed,
    /// Send the last event again.
    Redeliver,
    /// Stop feeding, or go on.
    Pause,
    /// End.
    Quit,
    /// Say which keys there are.
    Help,
}

/// The line that says which keys there are.
pub const HELP: &str = "keys: f feed again · r redeliver the last event · p pause · q quit";

impl Key {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'f' => Self::Feed,
            b'r' => Self::Redeliver,
            b'p' => Self::Pause,
            b'q' => Self::Quit,
            b'h' | b'?' => Self::Help,
            _ => return None,
        })
    }
}

/// The terminal, listening for keys; as it was before once this is dropped, by a panic too.
pub struct Keys {
    before: Termios,
}

impl Keys {
    /// Listens, if standard input and output are a terminal whose foreground this process is: one in the
    /// background would be stopped for touching it.
    pub fn listen(signals: SyncSender<Signal>) -> Option<Self> {
        let stdin = std::io::stdin();
        let is_foreground = tcgetpgrp(stdin.as_fd()).is_ok_and(|group| group == getpgrp());
        if !stdin.is_terminal() || !std::io::stdout().is_terminal() || !is_foreground {
            return None;
        }
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut now = before.clone();
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        now.special_codes[SpecialCodeIndex::VMIN] = 1;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &now).ok()?;
        let keys = Self { before };
        // Ends with the process: a read of a terminal cannot be called off.
        let read = move || {
            let keys = stdin.lock().bytes().map_while(Result::ok).filter_map(Key::of);
            for key in keys {
                if signals.send(Signal::Key(key)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("keys".to_owned()).spawn(read).ok()?;
        Some(keys)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // What was typed and not read would be run by the shell: `Flush` drops it.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Flush, &self.before);
    }
}
