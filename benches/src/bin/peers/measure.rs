//! One run of one program.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// What one run took. CPU, RSS and faults include the processes that it waited for.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Wall time.
    pub(crate) seconds: f64,
    /// User and system time, in seconds.
    pub(crate) cpu: f64,
    /// Most memory resident at a time, in bytes: of the largest process, if there are several.
    pub(crate) rss: f64,
    /// Pages that had to be supplied.
    pub(crate) faults: f64,
    /// What it wrote.
    pub(crate) output: String,
}

/// What is warmed up before each run.
const WARM: usize = 1 << 30;

/// Uses memory and frees it, so that the next program gets memory that was used a moment ago. A virtual machine's host
/// takes unused memory back, and the first touch of a huge page that is gone costs 40 times as much as of another one: what
/// ran just before would decide.
fn warm_up() -> Result<(), String> {
    let mut memory = MmapMut::map_anon(WARM).map_err(|error| error.to_string())?;
    // Without huge pages it is only slower.
    let _ = memory.advise(Advice::HugePage);
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    Ok(())
}

/// Runs a command; what it took, or why that does not count.
pub(crate) fn run(command: &mut Command, timeout: Duration) -> Result<Sample, String> {
    warm_up()?;
    let mut output = scratch()?;
    let copy = |file: &File| file.try_clone().map_err(|error| error.to_string());
    command
        .stdin(std::process::Stdio::null())
        .stdout(copy(&output)?)
        .stderr(copy(&output)?);
    // SAFETY: does nothing. But with a hook the child is made by fork and not by vfork, and then the system does not count
    // this program's own memory, megabytes, as the child's peak.
    unsafe { command.pre_exec(|| Ok(())) };
    let begin = Instant::now();
    let child = command
        .spawn()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let in_time = wait(pid, timeout);
    let seconds = begin.elapsed().as_secs_f64();
    let (status, usage) = reap(pid)?;
    let output = contents(&mut output)?;
    if !in_time {
        return Err(format!("not done after {} s", timeout.as_secs()));
    }
    if !status.success() {
        let last = output.lines().last().unwrap_or("it wrote nothing");
        return Err(format!("{status}: {last}"));
    }
    Ok(Sample {
        seconds,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        rss: usage.ru_maxrss as f64 * 1024.0,
        faults: (usage.ru_minflt + usage.ru_majflt) as f64,
        output,
    })
}

/// Waits for a child's end and leaves it to be reaped; kills it when the time is over. Whether it ended in time.
fn wait(pid: Pid, timeout: Duration) -> bool {
    let (done, watch) = channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = watch.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
        if late {
            // Not reaped before this thread was joined, so the number is still the child's.
            let _ = kill(pid, Signal::SIGKILL);
        }
        !late
    });
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        == Err(nix::Error::EINTR)
    {}
    drop(done);
    watchdog.join().expect("the watchdog does not panic")
}

/// Reaps a child that has ended; how it ended and what it used.
fn reap(pid: Pid) -> Result<(ExitStatus, libc::rusage), String> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: a child of ours; both places are ours to write to.
    let reaped = unsafe { libc::wait4(pid.as_raw(), &raw mut status, 0, usage.as_mut_ptr()) };
    if reaped != pid.as_raw() {
        return Err(std::io::Error::last_os_error().to_string());
    }
    // SAFETY: zeroed, and filled in by the system.
    Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }))
}

fn time(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

/// A file without a name for a program's output: unlike a pipe it never makes the program wait.
fn scratch() -> Result<File, String> {
    let file = nix::sys::memfd::memfd_create(c"output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    file.map(File::from).map_err(|error| error.to_string())
}

/// What a program wrote, from its beginning; at most 64 KiB.
fn contents(file: &mut File) -> Result<String, String> {
    use std::io::Seek;
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.take(64 << 10).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
