//! The program's code in memory, and what the allocator keeps.
//!
//! DESIGN. The start runs through half of the code, once, and so does a session of the camera, the
//! gallery, a photo. The kernel counts code as ours as long as it is mapped, and on a machine with
//! little memory it rather gives up what is not. So when the house comes to rest, all code is
//! unmapped; what runs next comes back from the page cache by itself, and the rest stays away.

use std::ptr;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

unsafe extern "C" {
    /// Where the program begins in memory, and where its code ends, as the linker says.
    static __executable_start: u8;
    static etext: u8;
}

/// Give what was freed back to the kernel; the allocator keeps it when something small behind it
/// is in use.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks, and gives back what nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Let go of code that has run and may not run soon again.
pub fn unmap_code() {
    let begin = (&raw const __executable_start).addr();
    let end = (&raw const etext).addr();
    let length = (end - begin) / page_size() * page_size();
    let begin = ptr::without_provenance_mut(begin);
    // SAFETY: what lies there is mapped from the program's file and never written to (but by a
    // debugger that sets a breakpoint), so that it is read again as it was.
    if let Err(errno) = unsafe { madvise(begin, length, Advice::LinuxDontNeed) } {
        log::debug!("unmap code: {errno}");
    }
}
