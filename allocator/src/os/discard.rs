//! Taking the memory behind addresses away.

use core::ffi::c_int;
use core::ptr::{self, NonNull};

use crate::config::UNIT_SLICES;

/// Takes the memory behind a range away; it reads as zero when touched again. Whether that worked.
///
/// # Safety
/// The bytes are mapped, ours, and hold nothing that anybody needs.
#[must_use]
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) -> bool {
    // SAFETY: the caller's clause.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTNEED) == 0 }
}

/// As many ranges as one unit can have.
const MOST: usize = UNIT_SLICES / 2;

/// What `process_madvise` takes for the calling thread's process. Linux 6.18 knows it, 6.1 does not.
const SELF: c_int = -10_000;

/// Ranges to be discarded together: where the system can, by one call. For 32 ranges of 32 KiB that took 0.27 (huge pages) to
/// 0.42 of the time of a call for each.
pub(crate) struct Ranges {
    ranges: [libc::iovec; MOST],
    count: usize,
}

impl Ranges {
    pub(crate) const fn new() -> Self {
        const NONE: libc::iovec = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            ranges: [NONE; MOST],
            count: 0,
        }
    }

    /// Adds a range: at most half as many as a unit has slices.
    pub(crate) fn push(&mut self, start: NonNull<u8>, len: usize) {
        self.ranges[self.count] = libc::iovec {
            iov_base: start.as_ptr().cast(),
            iov_len: len,
        };
        self.count += 1;
    }

    /// As [`discard`], each of them.
    ///
    /// # Safety
    /// That of [`discard`], for each.
    #[must_use]
    pub(crate) unsafe fn discard(&self) -> bool {
        let ranges = &self.ranges[..self.count];
        // SAFETY: the caller's clause.
        if ranges.len() > 1 && unsafe { discard_at_once(ranges) } {
            return true;
        }
        // What was discarded already is discarded again.
        ranges.iter().all(|range| {
            let start = NonNull::new(range.iov_base.cast());
            // SAFETY: the caller's clause.
            start.is_none_or(|start| unsafe { discard(start, range.iov_len) })
        })
    }
}

/// Whether the system has discarded all of them. Older ones know no such call, or not for the process itself, or it is
/// forbidden.
///
/// # Safety
/// That of [`discard`], for each.
unsafe fn discard_at_once(ranges: &[libc::iovec]) -> bool {
    let bytes: usize = ranges.iter().map(|range| range.iov_len).sum();
    // SAFETY: the caller's clause; the kernel reads the ranges.
    let discarded = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            SELF,
            ranges.as_ptr(),
            ranges.len(),
            libc::MADV_DONTNEED,
            0,
        )
    };
    usize::try_from(discarded) == Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PAGE;
    use crate::os;

    /// Seen to fail with a range left out, and with the next one taken in.
    #[test]
    fn ranges_are_discarded_and_nothing_else() {
        const PAGES: usize = 2 * MOST;
        let start = os::map(PAGES * PAGE).unwrap();
        // SAFETY: inside the mapping.
        let page = |page: usize| unsafe { start.add(page * PAGE) };
        // SAFETY: as above.
        (0..PAGES).for_each(|number| unsafe { page(number).write(1) });
        let mut ranges = Ranges::new();
        (0..PAGES)
            .step_by(2)
            .for_each(|number| ranges.push(page(number), PAGE));
        // SAFETY: nobody needs them.
        assert!(unsafe { ranges.discard() });
        for number in 0..PAGES {
            // SAFETY: as above.
            assert_eq!(unsafe { page(number).read() } as usize, number % 2);
        }
        // SAFETY: used no more.
        unsafe { os::unmap(start, PAGES * PAGE) };
    }
}
