//! The console: a Unix socket at which whoever runs a program that only preloads the library gives `commands`.
//!
//! 1. Where `EBB_CONTROL` names a path there is a socket before `main`, and a thread that serves it. Elsewhere there is neither.
//! 2. A line is a command. Its answer is text and an empty line. A line that does not end is not obeyed: `budget 1` may be
//!    all that came of `budget 1G`.
//! 3. One client is served at a time, for as long as it likes, but only for its turn ([`TURN_NS`]) when another waits:
//!    that is looked at whenever its lines are obeyed, and while there is nothing to read, or no room for an answer.
//! 4. Nothing of its own needs the heap, so it works when there is no memory. (What a walk needs is kept back, and a shrinker
//!    that is called may do as it likes, as on any reclaim thread.)
//! 5. A forked child has neither socket nor thread, and closes its copies: else clients would go on talking to a process that
//!    does not listen, when the parent has ended. The lock is held across forks, so that no copy is missed.
//! 6. A program may close all descriptors that it finds open. What has our number then is not ours (`os::Socket`), and the
//!    thread ends.
//!
//! Who can open the socket can change the budget: it is made for this user alone. The tests are in
//! `tests/tests/console.rs`, and say which of these they are about.

use core::ffi::{CStr, c_void};
use core::fmt::Write;
use core::ptr;

use crate::commands::Answer;
use crate::lock::Lock;
use crate::os::{self, Listener, Socket};

/// The longest line, with its end, in bytes.
const LINE: usize = 256;

/// How long a client is served although others wait, in nanoseconds.
const TURN_NS: u64 = 2_000_000_000;

/// How long to sleep at most, in milliseconds: a number that was taken for something else while we sleep on it wakes nobody.
const LOOK_MS: u32 = 5000;

/// How long to wait when a client came and could not be let in, in microseconds.
const PAUSE_US: u32 = 10_000;

/// How often an exiting process tries to remove the socket, so far apart.
const EXIT_TRIES: u32 = 10;

/// What a forked child has to close.
pub(crate) struct Sockets {
    listener: Option<Listener>,
    client: Option<Socket>,
}

static SOCKETS: Lock<Sockets> = Lock::new(Sockets {
    listener: None,
    client: None,
});

/// Held around forks.
pub(crate) fn lock() -> &'static Lock<Sockets> {
    &SOCKETS
}

/// Step 1: once, where the C library is ready for a thread.
pub(crate) fn start(pattern: &CStr) {
    let _errno = os::KeepErrno::new();
    let text = pattern.to_str().unwrap_or("");
    let listening = match text {
        "" if pattern.is_empty() => return,
        "" => Err("it is not UTF-8"),
        _ => listen(text),
    };
    if let Err(why) = listening {
        // Not more of it than fits.
        os::Line::new(format_args!(
            "ebbmalloc: EBB_CONTROL: no socket at {text:.108}: {why}; there is none\n"
        ))
        .write();
    }
}

fn listen(pattern: &str) -> Result<(), &'static str> {
    let mut path = os::Path::new();
    for (index, part) in pattern.split("%p").enumerate() {
        if index > 0 {
            // What does not fit here does not below.
            let _ = write!(path, "{}", os::process_id());
        }
        path.write_str(part).map_err(|_| "it is too long")?;
    }
    let listener = Listener::new(path.as_c_str())?;
    SOCKETS.lock().listener = Some(listener);
    if os::spawn(run, 0) {
        os::at_exit(end);
        return Ok(());
    }
    give_up();
    Err("no thread is to be had")
}

fn give_up() {
    if let Some(listener) = SOCKETS.lock().listener.take() {
        listener.remove();
        listener.socket.close();
    }
}

/// Called when the process exits.
extern "C" fn end() {
    // The thread holds it for moments; in a child of which `fork` was not told, for ever.
    for _ in 0..EXIT_TRIES {
        if let Some(sockets) = SOCKETS.try_lock() {
            if let Some(listener) = &sockets.listener {
                listener.remove();
            }
            return;
        }
        os::sleep_us(PAUSE_US);
    }
}

/// Step 5. In a forked child: there is one thread.
pub(crate) fn forget() {
    let _errno = os::KeepErrno::new();
    let mut sockets = SOCKETS.lock();
    if let Some(listener) = sockets.listener.take() {
        listener.socket.close();
    }
    if let Some(client) = sockets.client.take() {
        client.close();
    }
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _uncancelled = os::Uncancelled::new();
    let listener = SOCKETS.lock().listener.map(|listener| listener.socket);
    if let (Some(listener), Some(mut answer)) = (listener, Answer::new()) {
        // Until the program closes it, as some do with all that they find open.
        while listener.is_ours() {
            let (_, comes) = os::wait_for(None, Some(listener), LOOK_MS);
            match let_in(listener) {
                Some(client) => {
                    serve(client, listener, &mut answer);
                    let mut sockets = SOCKETS.lock();
                    sockets.client = None;
                    client.hang_up();
                    drop(sockets);
                    answer.discard();
                }
                None if comes => os::sleep_us(PAUSE_US),
                None => {}
            }
        }
    }
    give_up();
    ptr::null_mut()
}

/// The next client.
fn let_in(listener: Socket) -> Option<Socket> {
    let mut sockets = SOCKETS.lock();
    sockets.client = listener.accept();
    sockets.client
}

/// Step 2, for one client: until it goes, or its turn is over.
fn serve(client: Socket, listener: Socket, answer: &mut Answer) {
    let turn = os::now_ns() + TURN_NS;
    let wait = |send| wait(client, send, listener, turn);
    let (mut line, mut len, mut too_long) = ([0; LINE], 0, false);
    loop {
        let read = line.get(..len).unwrap_or(&[]);
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let command = (!too_long).then(|| read.get(..end).unwrap_or(&[]));
            answer.to(command);
            if !answer.send(client, wait) {
                return;
            }
            line.copy_within(end + 1..len, 0);
            len -= end + 1;
            too_long = false;
            continue;
        }
        if len == LINE {
            too_long = true;
            len = 0;
        }
        if !wait(false) {
            answer.whole("error: your turn is over, and another waits\n");
            // As far as there is room.
            let _ = answer.send(client, |_| false);
            return;
        }
        match client.receive(line.get_mut(len..).unwrap_or(&mut [])) {
            None => {}
            Some(0) => {
                if len > 0 || too_long {
                    answer.whole("error: the last line has no end, and was not obeyed\n");
                    let _ = answer.send(client, wait);
                }
                return;
            }
            Some(more) => len += more,
        }
    }
}

/// Step 3. Whether `client` can be read from (or, to `send`, written to) now; if not, its turn is over and another waits.
fn wait(client: Socket, send: bool, listener: Socket, turn: u64) -> bool {
    // What is not ours is found out by whoever uses it.
    while client.is_ours() {
        let left = turn.saturating_sub(os::now_ns()).div_ceil(1_000_000);
        let (others, ms) = match left {
            0 => (Some(listener), LOOK_MS),
            ms => (None, ms as u32),
        };
        match os::wait_for(Some((client, send)), others, ms) {
            (_, true) => return false,
            (true, _) => return true,
            _ => {}
        }
    }
    true
}
