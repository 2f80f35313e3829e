//! The library's own memory: nothing is taken from the program's malloc, which may be jemalloc, a heap
//! profiler that connects, or exhausted.
//!
//! A usual start is served from a reserve inside the library, on the page that has its other variables. When that
//! reserve is used up, a larger one is mapped. A block that is large, or fits into neither, has its own mapping, which
//! is unmapped when the block is freed. The allocator takes no lock, so it works in a child that was forked while
//! another thread was allocating.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr::{null_mut, slice_from_raw_parts_mut};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

use crate::calls;
use crate::process::keeping_errno;

/// The bytes of the reserve inside the library.
const SMALL_RESERVE: usize = 2 << 10;
/// The bytes of the mapped reserve.
const RESERVE: usize = 64 << 10;
/// A block of this size or more has its own mapping.
const LARGE: usize = 32 << 10;

/// The allocator. Every failure is a null pointer, as `GlobalAlloc` asks.
#[derive(Debug)]
pub struct Memory {
    /// The bytes of each reserve that are given out.
    used: [AtomicUsize; 2],
    /// Each part is accessed only through the allocation that it was given to.
    small: UnsafeCell<[Unit; SMALL_RESERVE / size_of::<Unit>()]>,
    /// The mapped reserve; null until it is needed.
    mapped: AtomicPtr<u8>,
}

/// The unit that sets the alignment of the reserves.
type Unit = u128;

/// The start of a reserve, its size, and the number of its bytes that are given out.
type Reserve<'a> = (*mut u8, usize, &'a AtomicUsize);

// SAFETY: the reserves are handed out in parts that do not overlap, by atomic counts.
unsafe impl Sync for Memory {}

impl Memory {
    /// An allocator that has given out nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            used: [AtomicUsize::new(0), AtomicUsize::new(0)],
            small: UnsafeCell::new([0; SMALL_RESERVE / size_of::<Unit>()]),
            mapped: AtomicPtr::new(null_mut()),
        }
    }

    fn reserves(&self) -> [Reserve<'_>; 2] {
        let [small, mapped] = &self.used;
        [
            (self.small.get().cast(), SMALL_RESERVE, small),
            (self.mapped.load(Acquire), RESERVE, mapped),
        ]
    }

    /// The reserve that an allocation is part of, and the offset of the allocation in it.
    fn place(&self, block: *mut u8) -> Option<(Reserve<'_>, usize)> {
        self.reserves().into_iter().find_map(|reserve| {
            let (start, size, _) = reserve;
            let offset = block.addr().checked_sub(start.addr()).filter(|offset| *offset < size);
            Some((reserve, offset.filter(|_| !start.is_null())?))
        })
    }

    fn reserve(&self, layout: Layout) -> Option<*mut u8> {
        let [small, mapped] = self.reserves();
        take(small, layout).or_else(|| {
            let (mut start, size, used) = mapped;
            if start.is_null() {
                start = self.map_reserve()?;
            }
            take((start, size, used), layout)
        })
    }

    /// Maps the larger reserve, unless another thread has.
    fn map_reserve(&self) -> Option<*mut u8> {
        let own = map(RESERVE);
        if own.is_null() {
            return None;
        }
        match self.mapped.compare_exchange(null_mut(), own, AcqRel, Acquire) {
            Ok(_) => Some(own),
            Err(other) => {
                // SAFETY: it was mapped above, and nobody else knows it.
                unsafe { unmap(slice_from_raw_parts_mut(own, RESERVE)) };
                Some(other)
            }
        }
    }
}

/// Takes the next part of a reserve.
fn take((reserve, size, count): Reserve<'_>, layout: Layout) -> Option<*mut u8> {
    let mut used = count.load(Relaxed);
    loop {
        let start = used.checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size()).filter(|end| *end <= size)?;
        // Acquire, to pair with the Release of the part's last owner: its writes happen before those of the new owner.
        match count.compare_exchange_weak(used, end, Acquire, Relaxed) {
            // SAFETY: `start` is within the reserve.
            Ok(_) => return Some(unsafe { reserve.add(start) }),
            Err(now) => used = now,
        }
    }
}

// SAFETY: blocks are of the size and alignment asked for and do not overlap: parts of a reserve by its
// count (which is aligned as the largest alignment taken there), or mappings of their own.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE {
            return null_mut();
        }
        let small = layout.size() < LARGE && layout.align() <= align_of::<Unit>();
        small.then(|| self.reserve(layout)).flatten().unwrap_or_else(|| map(layout.size()))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: this function's own contract.
        let block = unsafe { self.alloc(layout) };
        // A mapping is zero already, and touching all of it would take its memory.
        if !block.is_null() && self.place(block).is_some() {
            // SAFETY: the block has just been allocated with this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(((_, _, used), start)) = self.place(block) else {
            // SAFETY: the block is in no reserve, so it is a mapping of this size, and its owner gives it up.
            return unsafe { unmap(slice_from_raw_parts_mut(block, layout.size())) };
        };
        // The last block goes back to the reserve; other blocks stay taken, because there are few of them.
        let end = start.saturating_add(layout.size());
        let _ = used.compare_exchange(end, start, Release, Relaxed);
    }
}

/// A value that lasts as long as the process; `None` if there is no memory for it.
pub fn leak<T>(value: T) -> Option<&'static T> {
    let mut place = Vec::new();
    place.try_reserve_exact(1).ok()?;
    place.push(value);
    place.leak().first()
}

/// A copy of a text that lasts as long as the process; `None` if there is no memory for it.
pub fn copy(text: &[u8]) -> Option<&'static [u8]> {
    copy_with(text, b"")
}

/// As [`copy`], as a C string.
pub fn copy_with_nul(text: &[u8]) -> Option<&'static CStr> {
    CStr::from_bytes_until_nul(copy_with(text, b"\0")?).ok()
}

fn copy_with(text: &[u8], end: &[u8]) -> Option<&'static [u8]> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(text.len() + end.len()).ok()?;
    copy.extend_from_slice(text);
    copy.extend_from_slice(end);
    Some(copy.leak())
}

/// No page is smaller, on any machine that Linux runs on.
const PAGE: usize = 4096;

/// A new mapping, all zero; null if the kernel has no memory.
fn map(size: usize) -> *mut u8 {
    keeping_errno(|| calls::map(size))
}

/// # Safety
/// The block is a mapping of [`map`], and nobody uses it any more.
unsafe fn unmap(block: *mut [u8]) {
    // SAFETY: this function's own contract.
    keeping_errno(|| unsafe { libc::syscall(libc::SYS_munmap, block.cast::<u8>(), block.len()) });
}

/// Temporary memory, mapped from the kernel, for data that is too large for a signal handler's stack.
pub struct Scratch {
    start: *mut u8,
    size: usize,
}

impl Scratch {
    /// Maps `size` bytes, all zero; `None` if the kernel has no memory.
    #[must_use]
    pub fn new(size: usize) -> Option<Self> {
        let start = map(size);
        (!start.is_null()).then_some(Self { start, size })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this size, and is used only through this borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.size) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the mapping was made above, and is no longer used.
        unsafe { unmap(slice_from_raw_parts_mut(self.start, self.size)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn blocks_are_aligned_and_do_not_overlap() {
        let memory = Box::new(Memory::new());
        let mut blocks = Vec::new();
        for (index, (size, align)) in [
            (1, 1),
            (3, 8),
            (100, 16),
            (LARGE, 8),
            (5, 4),
            (40, 64),
            (LARGE - 1, 1),
            (70_000, 4096),
        ]
        .into_iter()
        .enumerate()
        {
            let layout = layout(size, align);
            // SAFETY: a layout that is not empty.
            let block = unsafe { memory.alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align), "{size}, {align}");
            let mark = u8::try_from(index).expect("few blocks");
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(mark, size) };
            blocks.push((block, layout, mark));
        }
        for (block, layout, mark) in blocks {
            // SAFETY: the block is this test's, and is given back once.
            unsafe {
                let bytes = std::slice::from_raw_parts(block, layout.size());
                assert!(bytes.iter().all(|byte| *byte == mark), "{layout:?} is overwritten");
                memory.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn the_last_block_goes_back_and_zeroed_memory_is_zero() {
        let memory = Box::new(Memory::new());
        let layout = layout(1000, 8);
        for round in 0..1000 {
            // SAFETY: a layout that is not empty; each block is given back once.
            unsafe {
                let block = memory.alloc_zeroed(layout);
                let bytes = std::slice::from_raw_parts(block, layout.size());
                assert!(bytes.iter().all(|byte| *byte == 0), "round {round}");
                block.write_bytes(7, layout.size());
                memory.dealloc(block, layout);
            }
        }
        assert_eq!(memory.used.each_ref().map(|used| used.load(Relaxed)), [0; 2]);
    }

    #[test]
    fn when_the_reserves_are_used_up_memory_is_mapped() {
        let memory = Box::new(Memory::new());
        let layout = layout(LARGE / 2, 8);
        // SAFETY: a layout that is not empty.
        let blocks: Vec<_> = (0..10).map(|_| unsafe { memory.alloc(layout) }).collect();
        let within = blocks.iter().filter(|block| memory.place(**block).is_some()).count();
        assert_eq!(within, RESERVE / layout.size(), "blocks of the reserve");
        for block in blocks {
            assert!(!block.is_null());
            // SAFETY: a block of this layout, given back once.
            unsafe { memory.dealloc(block, layout) };
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_a_null_pointer_and_errno_stays() {
        let memory = Box::new(Memory::new());
        crate::process::set_errno(77);
        // Of half the addresses: a 32-bit process on a 64-bit kernel may get one such block.
        let layout = layout(isize::MAX as usize - 4096, 1);
        // SAFETY: a layout that is not empty.
        let blocks = [(); 2].map(|()| unsafe { memory.alloc(layout) });
        assert!(blocks[1].is_null());
        assert_eq!(crate::process::errno(), 77);
        if !blocks[0].is_null() {
            // SAFETY: a block of this layout, given back once.
            unsafe { memory.dealloc(blocks[0], layout) };
        }
    }
}
