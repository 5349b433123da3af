//! How much the allocator of the C library keeps.

/// The least size of memory that is returned to the system as soon as it is freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Heaps that threads share.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Makes allocations of 1 MiB and more mappings of their own, for good, and lets threads share two heaps.
///
/// glibc does the former from 128 KiB on, but only until such a mapping is freed: from then on everything up to its size comes from
/// heaps that keep what is freed in them (mallopt(3), `M_MMAP_THRESHOLD`). Of these it makes one for each thread, up to eight a
/// processor (`M_ARENA_MAX`); what one thread allocates and another frees stays in the first one's.
pub(crate) fn keep_less_memory() {
    #[cfg(target_env = "gnu")]
    // They fail for unknown parameters only.
    // SAFETY: mallopt takes integers, and locks what it changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}
