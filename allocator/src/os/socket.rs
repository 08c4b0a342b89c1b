//! Unix sockets, for the `console`. Each descriptor is known by its inode too: a program may close all that it finds open, and
//! open something of its own under the same number. What is not ours any more is left alone.

use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;

use super::linux::{errno, sleep_us};

/// Clients that may wait for their turn.
const WAITING: c_int = 16;

/// Our descriptors have at least this number, where the process may have so many: low ones are the program's to choose.
const LOW: c_int = 200;

/// How often the lock of a directory is tried for, a millisecond apart.
const TRIES: u32 = 100;

/// A socket: closed by [`close`](Self::close) or [`hang_up`](Self::hang_up), not when dropped.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    number: c_int,
    inode: u64,
}

impl Socket {
    /// Takes a new descriptor over, and gives it a number that is not in anybody's way. None where it is none.
    fn new(low: c_int) -> Option<Self> {
        if low < 0 {
            return None;
        }
        // SAFETY: a descriptor of ours.
        let high = unsafe { libc::fcntl(low, libc::F_DUPFD_CLOEXEC, LOW) };
        if high >= 0 {
            // SAFETY: ours, and used no more.
            unsafe { libc::close(low) };
        }
        let number = if high >= 0 { high } else { low };
        let inode = inode(number)?;
        Some(Self { number, inode })
    }

    /// Whether the number is still that of our socket.
    pub(crate) fn is_ours(self) -> bool {
        inode(self.number) == Some(self.inode)
    }

    /// Closes this process's descriptor. The connection goes on for as long as another has one.
    pub(crate) fn close(self) {
        if self.is_ours() {
            // SAFETY: ours, and used no more.
            unsafe { libc::close(self.number) };
        }
    }

    /// Ends the connection for all who have it, and closes it.
    pub(crate) fn hang_up(self) {
        if self.is_ours() {
            // SAFETY: touches no memory of ours.
            unsafe { libc::shutdown(self.number, libc::SHUT_RDWR) };
        }
        self.close();
    }

    /// The next client, if one waits. Does not block.
    pub(crate) fn accept(self) -> Option<Self> {
        if !self.is_ours() {
            return None;
        }
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: nobody wants the client's address.
        let client = unsafe { libc::accept4(self.number, core::ptr::null_mut(), &mut 0, flags) };
        Self::new(client)
    }

    /// Reads what has come: how many bytes, 0 at the end or where it broke. Nothing when nothing has come. Does not block.
    pub(crate) fn receive(self, into: &mut [u8]) -> Option<usize> {
        if !self.is_ours() {
            return Some(0);
        }
        // SAFETY: as many bytes as the slice has.
        let len = unsafe { libc::recv(self.number, into.as_mut_ptr().cast(), into.len(), 0) };
        or_later(len)
    }

    /// Sends what there is room for: how many bytes, 0 where the connection broke. Nothing when there is no room. Does not
    /// block.
    pub(crate) fn send(self, bytes: &[u8]) -> Option<usize> {
        if !self.is_ours() {
            return Some(0);
        }
        let start = bytes.as_ptr().cast();
        // SAFETY: as many bytes as the slice has.
        let len = unsafe { libc::send(self.number, start, bytes.len(), libc::MSG_NOSIGNAL) };
        or_later(len)
    }
}

/// The inode of a descriptor.
fn inode(number: c_int) -> Option<u64> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: writes what it knows.
    let known = unsafe { libc::fstat(number, about.as_mut_ptr()) } == 0;
    // SAFETY: written where that succeeded.
    known.then(|| unsafe { about.assume_init() }.st_ino)
}

/// A length, 0 on a failure; nothing where it is to be tried later.
fn or_later(len: isize) -> Option<usize> {
    match usize::try_from(len) {
        Err(_) if matches!(errno(), libc::EAGAIN | libc::EINTR) => None,
        len => Some(len.unwrap_or(0)),
    }
}

/// Waits, so many milliseconds at most, until `client` can be read from (or, to `send`, written to), or somebody
/// waits at `listener`: which of them. Either counts when it is broken. May return for no reason.
pub(crate) fn wait_for(
    client: Option<(Socket, bool)>,
    listener: Option<Socket>,
    ms: u32,
) -> (bool, bool) {
    let entry = |socket: Option<Socket>, events| libc::pollfd {
        // A negative number is passed over.
        fd: socket.map_or(-1, |socket| socket.number),
        events,
        revents: 0,
    };
    let send = client.is_some_and(|(_, send)| send);
    let events = if send { libc::POLLOUT } else { libc::POLLIN };
    let mut both = [
        entry(client.map(|(socket, _)| socket), events),
        entry(listener, libc::POLLIN),
    ];
    let ms = c_int::try_from(ms).unwrap_or(c_int::MAX);
    // SAFETY: two entries.
    unsafe { libc::poll(both.as_mut_ptr(), 2, ms) };
    (both[0].revents != 0, both[1].revents != 0)
}

/// A socket with a path, at which clients come.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) socket: Socket,
    address: libc::sockaddr_un,
    /// Device and inode of the path.
    file: (u64, u64),
}

impl Listener {
    /// A socket at `path` that only this user (and root) can open; a stale one of this user's is replaced. Or why not.
    pub(crate) fn new(path: &CStr) -> Result<Self, &'static str> {
        let address = address(path).ok_or("it is too long")?;
        let lock = DirectoryLock::new(&address);
        let socket = stream().ok_or("no socket is to be had")?;
        let made = listen_at(socket, &address, lock.is_some());
        let file = made.and_then(|()| about(&address).ok_or("it is gone"));
        match file {
            Ok(about) => Ok(Self {
                socket,
                address,
                file: (about.st_dev, about.st_ino),
            }),
            Err(why) => {
                socket.close();
                Err(why)
            }
        }
    }

    /// Removes the path, if it is still this socket's.
    pub(crate) fn remove(&self) {
        let is_ours = |about: libc::stat| (about.st_dev, about.st_ino) == self.file;
        if about(&self.address).is_some_and(is_ours) {
            // SAFETY: a terminated path.
            unsafe { libc::unlink(self.address.sun_path.as_ptr()) };
        }
    }
}

/// Gives the socket the path, and lets clients come. `alone`: nobody else is at this in the same directory.
fn listen_at(socket: Socket, address: &libc::sockaddr_un, alone: bool) -> Result<(), &'static str> {
    // What is given here the path has from the beginning.
    // SAFETY: touches no memory of ours.
    if unsafe { libc::fchmod(socket.number, 0o600) } != 0 {
        return Err("its mode cannot be set");
    }
    let mut bound = on_address(libc::bind, socket, address);
    if bound == libc::EADDRINUSE && alone && is_stale(address) {
        // SAFETY: a terminated path.
        unsafe { libc::unlink(address.sun_path.as_ptr()) };
        bound = on_address(libc::bind, socket, address);
    }
    match bound {
        0 => {}
        libc::EADDRINUSE => return Err("it is taken"),
        libc::ENOENT | libc::ENOTDIR => return Err("there is no such directory"),
        libc::EACCES | libc::EPERM | libc::EROFS => return Err("that is not allowed"),
        _ => return Err("the system refuses"),
    }
    // SAFETY: touches no memory of ours.
    match unsafe { libc::listen(socket.number, WAITING) } {
        0 => Ok(()),
        _ => Err("the system refuses"),
    }
}

/// Whether there is a socket of this user's where nobody answers.
fn is_stale(address: &libc::sockaddr_un) -> bool {
    // SAFETY: always allowed.
    let user = unsafe { libc::geteuid() };
    let is_own =
        |about: libc::stat| about.st_mode & libc::S_IFMT == libc::S_IFSOCK && about.st_uid == user;
    let Some(socket) = stream().filter(|_| about(address).is_some_and(is_own)) else {
        return false;
    };
    let answer = on_address(libc::connect, socket, address);
    socket.close();
    answer == libc::ECONNREFUSED
}

/// A new socket that nothing blocks on.
fn stream() -> Option<Socket> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: touches no memory of ours.
    Socket::new(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })
}

/// What `bind` and `connect` are.
type OnAddress = unsafe extern "C" fn(c_int, *const libc::sockaddr, libc::socklen_t) -> c_int;

/// Calls one of the two: 0, or the error's number.
fn on_address(call: OnAddress, socket: Socket, address: &libc::sockaddr_un) -> c_int {
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    let start = core::ptr::from_ref(address).cast();
    // SAFETY: an address of that length, which is read.
    match unsafe { call(socket.number, start, len) } {
        0 => 0,
        _ => errno(),
    }
}

/// The address that a path is, if it is short enough.
fn address(path: &CStr) -> Option<libc::sockaddr_un> {
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; 108],
    };
    let path = path.to_bytes_with_nul();
    let room = address.sun_path.get_mut(..path.len())?;
    for (to, from) in room.iter_mut().zip(path) {
        *to = from.cast_signed() as _;
    }
    Some(address)
}

/// What is at the path, if anything is. Links are not followed.
fn about(address: &libc::sockaddr_un) -> Option<libc::stat> {
    let mut about = MaybeUninit::uninit();
    // SAFETY: a terminated path; writes what it knows.
    let known = unsafe { libc::lstat(address.sun_path.as_ptr(), about.as_mut_ptr()) } == 0;
    // SAFETY: written where that succeeded.
    known.then(|| unsafe { about.assume_init() })
}

/// Held by a process that makes a socket in a directory. Without it two that find the same stale one could remove each other's
/// new one, or one that is not listened at yet. Goes with the process, whatever happens.
struct DirectoryLock(c_int);

impl DirectoryLock {
    fn new(address: &libc::sockaddr_un) -> Option<Self> {
        let mut directory = *address;
        let path = &mut directory.sun_path;
        match path.iter().rposition(|byte| *byte as u8 == b'/') {
            Some(slash) => path[slash.max(1)..].fill(0),
            None => {
                path.fill(0);
                path[0] = b'.' as _;
            }
        }
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: a terminated path.
        let number = unsafe { libc::open(path.as_ptr(), flags) };
        if number < 0 {
            return None;
        }
        let this = Self(number);
        for _ in 0..TRIES {
            // SAFETY: touches no memory of ours.
            if unsafe { libc::flock(number, libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return Some(this);
            }
            sleep_us(1000);
        }
        None
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // SAFETY: ours, and used no more.
        unsafe { libc::close(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::Barrier;
    use std::{env, fs, process, thread};

    use super::*;

    /// Several at once at the place that an ended process left behind: one gets it, and it answers there. Seen to fail without
    /// the lock of the directory.
    #[test]
    fn a_stale_socket_is_replaced_by_one_alone() {
        const THREADS: usize = 4;
        let path = env::temp_dir().join(format!("ebb-stale-{}", process::id()));
        let name = CString::new(path.to_str().unwrap()).unwrap();
        for round in 0..200 {
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(THREADS);
            let made: Vec<_> = thread::scope(|scope| {
                let start = || {
                    scope.spawn(|| {
                        barrier.wait();
                        Listener::new(&name).ok()
                    })
                };
                let threads: Vec<_> = (0..THREADS).map(|_| start()).collect();
                let ended = threads.into_iter().map(|thread| thread.join().unwrap());
                ended.flatten().collect()
            });
            assert_eq!(made.len(), 1, "round {round}");
            assert!(UnixStream::connect(&path).is_ok(), "round {round}");
            made[0].remove();
            made[0].socket.close();
            assert!(fs::symlink_metadata(&path).is_err());
        }
    }
}
