//! The first process of a guest (`ebb_tests::vm`): mounts what programs expect, runs one, says how it ended, and
//! switches the machine off.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use ebb_tests::vm::{ENDED, JOB, STARTED};

fn main() {
    let said = prepare().and_then(|mut port| {
        writeln!(port, "{STARTED}")?;
        let status = run(&port)?;
        writeln!(port, "\n{ENDED}{status}")?;
        wait_until_sent(&port);
        Ok(())
    });
    if let Err(error) = said {
        // To the kernel's console, which the runner shows.
        eprintln!("guest-init: {error}");
    }
    // SAFETY: nothing is lost: the machine has no disk.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}

/// Mounts, and opens the port that the output goes to.
fn prepare() -> io::Result<File> {
    fs::create_dir_all("/dev")?;
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        mount(kind, at)?;
    }
    fs::create_dir_all("/dev/shm")?;
    mount("tmpfs", "/dev/shm")?;
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/ttyS1")?;
    make_raw(&port)?;
    Ok(port)
}

fn mount(kind: &str, at: &str) -> io::Result<()> {
    let (kind, at) = (CString::new(kind)?, CString::new(at)?);
    // SAFETY: terminated strings; no options.
    let failed = unsafe {
        libc::mount(
            kind.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the port pass bytes on as they are.
fn make_raw(port: &File) -> io::Result<()> {
    // SAFETY: a value of zeros is valid, and is overwritten.
    let mut mode: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: writes the mode.
    if unsafe { libc::tcgetattr(port.as_raw_fd(), &raw mut mode) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: changes the mode.
    unsafe { libc::cfmakeraw(&raw mut mode) };
    // SAFETY: reads the mode.
    unsafe { libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &raw const mode) };
    Ok(())
}

fn wait_until_sent(port: &File) {
    // SAFETY: an open port.
    unsafe { libc::tcdrain(port.as_raw_fd()) };
}

/// Runs what [`JOB`] says; its exit status.
fn run(port: &File) -> io::Result<i32> {
    let job = fs::read(JOB)?;
    let job = job.strip_suffix(b"\0").unwrap_or(&job);
    let mut words = job.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let directory = words.next().unwrap_or_default();
    let environment: Vec<_> = words
        .by_ref()
        .take_while(|word| !word.is_empty())
        .filter_map(setting)
        .collect();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .envs(environment)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(port.try_clone()?)
        .stderr(port.try_clone()?)
        .status()?;
    let signal = status.signal().map(|signal| 128 + signal);
    Ok(status.code().or(signal).unwrap_or(-1))
}

/// `NAME=value`, split.
fn setting(text: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&bytes[..end], &bytes[end + 1..]);
    Some((OsStr::from_bytes(name), OsStr::from_bytes(value)))
}
