//! Caches and shorthands that the tests share.
#![allow(dead_code, unreachable_pub)]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ebb_shrinker::{
    Count, Registration, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk, WalkReport,
};

/// Long enough for anything that is not stuck.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A shrinker that is never too late: how long the machine stands still now and then has nothing to do with what most tests
/// are about.
pub fn patient(name: &str) -> Shrinker {
    Shrinker::new(name).deadline(Duration::MAX)
}

/// A list of its own for each test.
pub fn list() -> &'static ShrinkerList {
    Box::leak(Box::default())
}

/// A walk at `priority` over one node, to the end.
pub fn walk(list: &ShrinkerList, priority: u8) -> WalkReport {
    let walk = Walk {
        priority,
        ..Walk::default()
    };
    list.walk(&walk, &mut |_| ControlFlow::Continue(()))
}

/// The last pass before a failure.
pub fn walk_for_all(list: &ShrinkerList) -> WalkReport {
    let walk = Walk {
        priority: 0,
        exhaustive: true,
        ..Walk::default()
    };
    list.walk(&walk, &mut |_| ControlFlow::Continue(()))
}

/// Runs `f` on a thread of its own and fails, instead of hanging, when it is stuck: many short waits, because a machine, or
/// a process, that stands still for a while spoils one of them and not all.
pub fn in_time<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    const WAIT: Duration = Duration::from_millis(100);
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(f()));
    for _ in 0..3 * PATIENCE.as_millis() / WAIT.as_millis() {
        match receiver.recv_timeout(WAIT) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::panic::resume_unwind(thread.join().expect_err("nothing was sent"))
            }
        }
    }
    panic!("stuck: {what}")
}

/// Waits until `condition` holds.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until all shrinkers of a list are being taken off.
pub fn until_dying(list: &ShrinkerList) {
    until("it is dying", || {
        let mut living = 0;
        list.for_each(&mut |stats| living += usize::from(!stats.dying));
        living == 0
    });
}

/// A cache made of two closures.
pub struct Fake<C, S> {
    pub count: C,
    pub scan: S,
}

impl<C, S> Shrink for Fake<C, S>
where
    C: Fn(&ShrinkControl) -> Count + Send + Sync,
    S: Fn(&mut ShrinkControl) -> Scan + Send + Sync,
{
    fn count(&self, ctl: &ShrinkControl) -> Count {
        (self.count)(ctl)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        (self.scan)(ctl)
    }
}

/// An empty cache that runs `f` when it is asked.
pub fn on_count(f: impl Fn() + Send + Sync + 'static) -> impl Shrink + 'static {
    Fake {
        count: move |_: &ShrinkControl| {
            f();
            Count::Empty
        },
        scan: |_: &mut ShrinkControl| Scan::Stop,
    }
}

/// A cache of `n` objects (always) that runs `scan`.
pub fn on_scan(
    n: usize,
    scan: impl Fn(&mut ShrinkControl) -> Scan + Send + Sync + 'static,
) -> impl Shrink + 'static {
    Fake {
        count: move |_: &ShrinkControl| Count::of(n),
        scan,
    }
}

/// An honest cache of objects of 16 bytes.
#[derive(Default)]
pub struct Pile {
    pub objects: AtomicUsize,
    /// The largest `to_scan` seen.
    pub largest: AtomicUsize,
}

impl Pile {
    /// A pile that lives for ever, so that tests can look at it.
    pub fn leak(objects: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            objects: AtomicUsize::new(objects),
            largest: AtomicUsize::new(0),
        }))
    }

    pub fn left(&self) -> usize {
        self.objects.load(Ordering::SeqCst)
    }

    pub fn largest(&self) -> usize {
        self.largest.load(Ordering::SeqCst)
    }
}

/// The cache in front of a pile.
pub struct Front(pub &'static Pile);

impl Shrink for Front {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.0.left())
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        self.0.largest.fetch_max(ctl.to_scan(), Ordering::SeqCst);
        let objects = self.0.left().min(ctl.to_scan());
        self.0.objects.fetch_sub(objects, Ordering::SeqCst);
        Scan::Freed {
            objects,
            bytes: 16 * objects,
        }
    }
}

/// Sets a flag when it is dropped.
pub struct Flag(pub &'static AtomicUsize);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A counter that lives for ever.
pub fn counter() -> &'static AtomicUsize {
    Box::leak(Box::default())
}

/// A gate that a callback stands at: says that it came, waits until it is let go. Closed when a test ends early.
pub fn gate() -> (
    impl Fn() + Send + Sync + 'static,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (came, arrivals) = mpsc::channel();
    let (go, leave) = mpsc::channel();
    let leave = Mutex::new(leave);
    let stand = move || {
        let _ = came.send(());
        let _ = leave.lock().unwrap().recv();
    };
    (stand, arrivals, go)
}

/// A shrinker that a walk is held up in: its callback stands at a gate.
pub struct HeldUp {
    pub list: &'static ShrinkerList,
    pub registration: Registration,
    pub walker: thread::JoinHandle<WalkReport>,
    /// Lets the callback go.
    pub go: mpsc::Sender<()>,
    /// How often the callback was called.
    pub calls: &'static AtomicUsize,
    /// How often the cache was dropped.
    pub drops: &'static AtomicUsize,
}

impl HeldUp {
    pub fn new() -> Self {
        let (stand, arrivals, go) = gate();
        let (list, drops, calls) = (list(), counter(), counter());
        let flag = Flag(drops);
        let cache = on_count(move || {
            let _ = &flag;
            calls.fetch_add(1, Ordering::SeqCst);
            stand();
        });
        let registration = patient("slow").register(list, cache).unwrap();
        let walker = thread::spawn(move || walk(list, 12));
        arrivals.recv_timeout(PATIENCE).unwrap();
        Self {
            list,
            registration,
            walker,
            go,
            calls,
            drops,
        }
    }
}

/// Forks as `pthread_atfork` would have it, runs `child` there, and says whether it answered true in time.
/// The child may not panic or print: other threads may have held those locks.
pub fn fork(list: &ShrinkerList, child: impl FnOnce() -> bool) -> bool {
    list.fork_prepare();
    // SAFETY: the child uses only what `fork_child` repairs and the C library's allocator, then leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no pointers.
        unsafe { libc::alarm(60) };
        // SAFETY: the forked child's only thread, which ran fork_prepare.
        unsafe { list.fork_child() };
        let status = i32::from(!child());
        // SAFETY: ends the child without destructors that belong to the parent.
        unsafe { libc::_exit(status) };
    }
    list.fork_parent();
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: our child, and a place for its status.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}
