//! How the allocator of the C library gives memory back.

/// The least size of memory that is returned to the system as soon as it is freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Makes allocations of 1 MiB and more mappings of their own, for good.
///
/// glibc does so from 128 KiB on, but only until such a mapping is freed: from then on everything up to its size comes from
/// heaps that keep what is freed in them (mallopt(3), `M_MMAP_THRESHOLD`).
pub(crate) fn return_large_memory() {
    #[cfg(target_env = "gnu")]
    // It fails for unknown parameters only.
    // SAFETY: mallopt takes integers, and locks what it changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
