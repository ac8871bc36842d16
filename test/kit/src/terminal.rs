//! A program on a terminal of its own, and what that terminal shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{self, PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::poll::{poll, until};

/// A running program whose input and output are a pseudo-terminal. Dropping it kills it.
pub struct Terminal {
    child: Child,
    ours: File,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    theirs: File,
    seen: Arc<Mutex<vt100::Parser>>,
    is_gone: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

fn size(width: u16, height: u16) -> Winsize {
    Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Starts `command` on a terminal of so many columns and rows.
    ///
    /// # Panics
    /// When there are no pseudo-terminals, or it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, width: u16, height: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other side");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("as text");
        let flags = i32::try_from(OpenptFlags::NOCTTY.bits()).expect("a flag");
        let theirs = File::options().read(true).write(true).custom_flags(flags).open(&name).expect(&name);
        tcsetwinsize(&ours, size(width, height)).expect("a size");
        let side = || theirs.try_clone().expect("a descriptor");
        command.stdin(side()).stdout(side()).stderr(side());
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let child = command.spawn().unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        let seen = Arc::new(Mutex::new(vt100::Parser::new(height, width, 0)));
        let ours = File::from(ours);
        let is_gone = Arc::new(AtomicBool::new(false));
        let (mut from, to, gone) = (ours.try_clone().expect("a descriptor"), seen.clone(), is_gone.clone());
        let reading = std::thread::spawn(move || {
            let (mut bytes, now_and_then) = ([0; 4096], Timespec { tv_sec: 0, tv_nsec: 20_000_000 });
            while !gone.load(Ordering::Relaxed) {
                let ready = event::poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&now_and_then));
                if ready != Ok(0) {
                    let Ok(count @ 1..) = from.read(&mut bytes) else { break };
                    to.lock().expect("nobody panics with it").process(&bytes[..count]);
                }
            }
        });
        Self { child, ours, theirs, seen, is_gone, reading: Some(reading) }
    }

    /// What the screen shows.
    ///
    /// # Panics
    /// When the reading thread did.
    #[must_use]
    pub fn screen(&self) -> String {
        self.seen.lock().expect("nobody panics with it").screen().contents()
    }

    /// Whether any of it has a colour.
    ///
    /// # Panics
    /// When the reading thread did.
    #[must_use]
    pub fn is_coloured(&self) -> bool {
        let seen = self.seen.lock().expect("nobody panics with it");
        let (rows, columns) = seen.screen().size();
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        cells
            .filter_map(|(row, column)| seen.screen().cell(row, column))
            .any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Waits until the screen shows `text`, and gives all of it.
    ///
    /// # Panics
    /// When it does not within `patience`; the text has what it shows instead.
    #[track_caller]
    pub fn wait_for(&self, text: &str, patience: Duration) -> String {
        let found = poll(patience, || Some(self.screen()).filter(|screen| screen.contains(text)));
        found.unwrap_or_else(|| panic!("`{text}` is not on the screen:\n{}", self.screen()))
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Gives it another size, and tells the program as a terminal would.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.seen.lock().expect("nobody panics with it").screen_mut().set_size(height, width);
        tcsetwinsize(&self.ours, size(width, height)).expect("a size");
        self.signal(Signal::WINCH);
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Takes the terminal away, as when its window is closed.
    ///
    /// # Panics
    /// When the reading thread did.
    pub fn hang_up(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            reading.join().expect("it only reads");
        }
        self.ours = File::open("/dev/null").expect("something in its place");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether the kernel has stopped it, as a shell's job that is suspended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Whether the terminal is as a shell wants it: lines, echo, its own screen, a cursor.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[must_use]
    pub fn is_given_back(&self) -> bool {
        let modes = tcgetattr(&self.theirs).expect("a terminal").local_modes;
        let seen = self.seen.lock().expect("nobody panics with it");
        let (screen, lines) = (seen.screen(), LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        modes.contains(lines)
            && !screen.alternate_screen()
            && !screen.hide_cursor()
            && !screen.bracketed_paste()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `patience`.
    #[track_caller]
    pub fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        until("the program's end", patience, || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
