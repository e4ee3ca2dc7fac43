//! Being preferred by the scheduler.

use nix::errno::Errno;

/// Beside what the host runs at 0, about thirty times as much of a busy processor.
const NICE: libc::c_int = -15;

/// This thread is preferred while it lasts. Without the right to, it goes without.
#[derive(Debug)]
pub struct Haste {
    before: Option<libc::c_int>,
}

impl Haste {
    /// Begins. Threads started meanwhile are preferred for good.
    #[must_use]
    pub fn begin() -> Self {
        Errno::clear();
        // SAFETY: takes and returns numbers alone; 0 is the calling thread.
        let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        // -1 is a value too.
        let known = Errno::last_raw() == 0;
        Self { before: (known && before > NICE && set(NICE)).then_some(before) }
    }

    /// For as long as the thread lives.
    pub(super) fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            set(before);
        }
    }
}

fn set(nice: libc::c_int) -> bool {
    // SAFETY: as above.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
}
