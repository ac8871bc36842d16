//! The terminal: taken over, given back whatever happens, and read.

use std::io::{self, Write as _, stdout};
use std::process::ExitCode;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};

use super::deeds::Hands;
use super::keys::{Desk, Wish};
use super::screen::draw;
use super::watch::{Signal, Told, Watch, empty, take, thread};
use crate::arguments::{Dashboard, View};
use crate::ledger::now;
use crate::output::Failure;

/// How long a key is waited for before something else is looked at.
const WAIT: Duration = Duration::from_millis(100);
/// How many waits pass before the screen is drawn again though nothing came: ages on it grow.
const IDLE_WAITS: u32 = 10;

/// The terminal as long as it is ours.
struct Taken(Terminal<CrosstermBackend<io::Stdout>>);

impl Taken {
    fn take() -> io::Result<Self> {
        enter()?;
        match Terminal::new(CrosstermBackend::new(stdout())) {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Stops as a shell's job does, and takes the terminal again when it goes on.
    fn suspend(&mut self) -> io::Result<()> {
        give_back();
        // Not SIGTSTP, which we catch: this one always stops.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
        enter()?;
        self.forget()
    }

    /// Nothing of what was drawn counts as being there. It is not asked where the cursor is, which not every terminal answers.
    fn forget(&mut self) -> io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        self.0 = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }
}

/// Keys as they are pressed, on a screen of its own. Text that is pasted is no keys.
fn enter() -> io::Result<()> {
    let entered = enable_raw_mode();
    let entered = entered.and_then(|()| execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste));
    if entered.is_err() {
        give_back();
    }
    entered
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Each as far as it can be: there is nothing else to do about a terminal that is gone.
fn give_back() {
    let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = stdout().flush();
}

/// A panic of any thread is told on a terminal that is as it was, and ends the program.
fn tell_panics_plainly() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        before(panic);
        std::process::exit(101);
    }));
}

/// Shows the dashboard until somebody has seen enough.
pub fn show(asked: &Dashboard) -> Result<ExitCode, Failure> {
    let watch = Watch::begin(asked)?;
    heed_signals(watch.teller())?;
    end_with_the_terminal()?;
    tell_panics_plainly();
    let failed = |error: io::Error| Failure::runtime("INTERNAL", format!("the terminal: {error}"));
    let mut taken = Taken::take().map_err(failed)?;
    let shown = turns(asked, &watch, &mut taken);
    drop(taken);
    shown.map_err(failed)
}

fn turns(asked: &Dashboard, watch: &Watch, taken: &mut Taken) -> io::Result<ExitCode> {
    let generation = asked.generation.as_ref().map(ToString::to_string);
    let mut desk = Desk::new(asked.view.unwrap_or(View::Releases), generation);
    let (mut model, hands) = (empty(asked), Hands::of(asked));
    let (mut is_new, mut waits) = (true, 0);
    loop {
        while let Some(told) = watch.next() {
            is_new = true;
            match told {
                Told::Ended(outcome) => desk.ended(outcome),
                Told::Signal(Signal::End) => return Ok(ExitCode::SUCCESS),
                Told::Signal(Signal::Stop) => taken.suspend()?,
                told => take(&mut model, told),
            }
        }
        if is_new || waits == IDLE_WAITS {
            (is_new, waits) = (false, 0);
            taken.0.draw(|frame| draw(&model, &mut desk, now(), frame.area(), frame.buffer_mut()))?;
        }
        if !event::poll(WAIT)? {
            waits += 1;
            continue;
        }
        is_new = true;
        let wish = match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => desk.press(key, &model, &hands, now()),
            Event::Paste(text) => {
                desk.paste(&text);
                Wish::Nothing
            }
            _ => Wish::Nothing,
        };
        match wish {
            Wish::Nothing => {}
            Wish::Quit => return Ok(ExitCode::SUCCESS),
            Wish::Suspend => taken.suspend()?,
            Wish::Redraw => taken.forget()?,
            Wish::Do(deed) => {
                desk.begun(&deed);
                watch.act(deed).map_err(|failure| io::Error::other(failure.message))?;
            }
        }
    }
}

/// Of a terminal that is gone crossterm reads nothing without end, and nobody is left to be told anything.
fn end_with_the_terminal() -> Result<(), Failure> {
    thread("hangup", || {
        let input = std::io::stdin();
        // No events are asked for: it wakes for a hangup or an error alone.
        while let Err(Errno::INTR) = poll(&mut [PollFd::new(&input, PollFlags::empty())], None) {}
        give_back();
        std::process::exit(0);
    })
}

/// What would end or stop the program elsewhere gives the terminal back first.
fn heed_signals(to: SyncSender<Told>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::runtime("INTERNAL", error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let kinds = {
        let _inside = runtime.enter();
        let stop = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
        let listen = |kind| signal(kind).map_err(failed);
        let end =
            [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];
        (end.into_iter().map(listen).collect::<Result<Vec<_>, _>>()?, listen(stop)?)
    };
    thread("signals", move || {
        let (mut ends, mut stop) = kinds;
        runtime.block_on(async {
            loop {
                let ended = std::future::poll_fn(|context| {
                    match ends.iter_mut().any(|end| end.poll_recv(context).is_ready()) {
                        true => std::task::Poll::Ready(()),
                        false => std::task::Poll::Pending,
                    }
                });
                let told = tokio::select! {
                    () = ended => Signal::End,
                    _ = stop.recv() => Signal::Stop,
                };
                if to.send(Told::Signal(told)).is_err() {
                    break;
                }
            }
        });
    })
}
