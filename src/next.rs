//! The next definition of an interposed symbol: what `dlsym(RTLD_NEXT)` finds, found without a lock.
//!
//! dlsym(3) takes the loader's lock, and dlopen(3) holds that while a library's constructors run. A
//! function that the program may call in a signal handler, or in a child of vfork(2), cannot wait for
//! them, and binding each of them at load would be a price for every start. So the first call looks the
//! symbol up itself, in the libraries that the loader has put behind this one. These were there before
//! the program started and stay to its end; the first of them that has the symbol ends the search, libc
//! at the latest.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::iter::successors;
use std::marker::PhantomData;
use std::mem::transmute_copy;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// The next definition of a symbol, a function of type `F`.
pub struct Next<F> {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
    function: PhantomData<F>,
}

impl<F: Copy> Next<F> {
    /// The next definition of this symbol, which the first call looks up.
    pub const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(null_mut()), function: PhantomData }
    }

    /// The function, which every libc has.
    ///
    /// # Safety
    /// `F` is the type of the functions of that name.
    pub unsafe fn get(&self) -> F {
        // SAFETY: this function's own contract.
        unsafe { self.find() }.unwrap_or_else(|| std::process::abort())
    }

    /// The function, if there is one.
    ///
    /// # Safety
    /// As for [`Self::get`].
    pub unsafe fn find(&self) -> Option<F> {
        let mut found = self.found.load(Relaxed);
        if found.is_null() {
            found = next_definition(self.name);
            self.found.store(found, Relaxed);
        }
        // SAFETY: the address of a function of type `F`.
        (!found.is_null()).then(|| unsafe { transmute_copy(&found) })
    }
}

#[cold]
fn next_definition(name: &CStr) -> *mut c_void {
    // SAFETY: the loader's list; `_DYNAMIC` is where this library's own entry says that it is.
    let found = unsafe {
        let behind = successors(first_loaded(), |library| library.next.as_ref())
            .skip_while(|library| library.dynamic != &raw const _DYNAMIC)
            .skip(1);
        behind.into_iter().find_map(|library| library.definition(name))
    };
    // Opened with dlopen(3) this library may have nothing behind it, and not every loader shows its list.
    // SAFETY: a C string.
    found.unwrap_or_else(|| unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) })
}

// --- What the loader shows to debuggers ----------------------------------------------------------------

/// `struct link_map` of <link.h>, in its public part the same for glibc and musl.
#[repr(C)]
struct Library {
    address: usize,
    name: *const c_char,
    dynamic: *const Entry,
    next: *const Library,
}

/// An entry of the dynamic section.
#[repr(C)]
struct Entry {
    tag: usize,
    value: usize,
}

/// `struct r_debug` of <link.h>.
#[repr(C)]
struct Debug {
    version: c_int,
    first: *const Library,
}

const DT_HASH: usize = 4;
const DT_STRTAB: usize = 5;
const DT_SYMTAB: usize = 6;
const DT_DEBUG: usize = 21;
const DT_GNU_HASH: usize = 0x6fff_fef5;
const DT_VERSYM: usize = 0x6fff_fff0;
const STT_FUNC: u8 = 2;

unsafe extern "C" {
    /// The dynamic section of this library.
    static _DYNAMIC: Entry;
}

/// The first library of the loader's list, which is the program. The loader puts the list's address into
/// the program's dynamic section (System V gABI, chapter 5, `DT_DEBUG`).
///
/// # Safety
/// The program's headers are still where the kernel has put them.
unsafe fn first_loaded() -> Option<&'static Library> {
    // SAFETY: getauxval(3) takes a number; the headers are of the program, as is what they describe.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        let count = libc::getauxval(libc::AT_PHNUM);
        if headers.is_null() {
            return None;
        }
        let header = |kind| {
            (0..usize::try_from(count).ok()?)
                .map(|index| &*headers.add(index))
                .find(|header| header.p_type == kind)
                .and_then(|header| usize::try_from(header.p_vaddr).ok())
        };
        let address = (headers as usize).wrapping_sub(header(libc::PT_PHDR)?);
        let program = address.wrapping_add(header(libc::PT_DYNAMIC)?) as *const Entry;
        let debug = entry(program, DT_DEBUG)? as *const Debug;
        debug.as_ref()?.first.as_ref()
    }
}

/// An entry's value.
///
/// # Safety
/// A dynamic section starts there.
unsafe fn entry(mut dynamic: *const Entry, tag: usize) -> Option<usize> {
    // SAFETY: a dynamic section ends with an entry whose tag is zero.
    unsafe {
        while (*dynamic).tag != 0 {
            if (*dynamic).tag == tag {
                return Some((*dynamic).value);
            }
            dynamic = dynamic.add(1);
        }
    }
    None
}

impl Library {
    /// A function that the library defines.
    ///
    /// # Safety
    /// The loader has loaded the library.
    unsafe fn definition(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the tables are as gABI and the GNU extensions to it have them, or else the loader could
        // not have bound the program.
        unsafe {
            let symbols: *const libc::Elf64_Sym = self.table(DT_SYMTAB)?;
            let strings: *const c_char = self.table(DT_STRTAB)?;
            let versions: Option<*const u16> = self.table(DT_VERSYM);
            let address_of = |index: usize| {
                let symbol = &*symbols.add(index);
                // A hidden version is for programs that were linked against it long ago.
                let is_hidden = versions.is_some_and(|versions| *versions.add(index) & 0x8000 != 0);
                let is_function = symbol.st_info & 0xf == STT_FUNC && symbol.st_shndx != 0;
                let found = is_function
                    && !is_hidden
                    && CStr::from_ptr(strings.add(symbol.st_name as usize)) == name;
                let value = usize::try_from(symbol.st_value).ok()?;
                found.then(|| (self.address + value) as *mut c_void)
            };
            if let Some(table) = self.table(DT_GNU_HASH) {
                gnu_chain(table, name).find_map(address_of)
            } else {
                chain(self.table(DT_HASH)?, name).find_map(address_of)
            }
        }
    }

    /// The address of a table. glibc has made it one already, musl has not.
    ///
    /// # Safety
    /// As for [`Self::definition`].
    unsafe fn table<T>(&self, tag: usize) -> Option<*const T> {
        // SAFETY: the dynamic section of a library that is loaded.
        let value = unsafe { entry(self.dynamic, tag) }?;
        let address = if value < self.address { self.address + value } else { value };
        Some(address as *const T)
    }
}

/// The symbols that may have that name, by a GNU hash table.
///
/// # Safety
/// The table is one.
unsafe fn gnu_chain(table: *const u32, name: &CStr) -> impl Iterator<Item = usize> {
    let hash = name
        .to_bytes()
        .iter()
        .fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
    // SAFETY: four numbers, the filter of 64-bit words, the buckets, and a chain for each: the hashes of
    // its symbols, the last with its lowest bit set.
    unsafe {
        let buckets = *table;
        let first = *table.add(1);
        let words = *table.add(2) as usize;
        let starts = table.add(4 + 2 * words);
        let hashes = starts.add(buckets as usize);
        let start = if buckets == 0 { 0 } else { *starts.add((hash % buckets) as usize) };
        let hash_of = move |index: u32| *hashes.add((index - first) as usize);
        successors((start >= first && start != 0).then_some(start), move |index| {
            (hash_of(*index) & 1 == 0).then(|| index + 1)
        })
        .filter(move |index| hash_of(*index) | 1 == hash | 1)
        .map(|index| index as usize)
    }
}

/// The symbols that may have that name, by a hash table of the gABI.
///
/// # Safety
/// The table is one.
unsafe fn chain(table: *const u32, name: &CStr) -> impl Iterator<Item = usize> {
    let hash = name.to_bytes().iter().fold(0_u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        (hash ^ (hash >> 24 & 0xf0)) & 0x0fff_ffff
    });
    // SAFETY: two numbers, the buckets, and for each symbol the next of its chain; zero is the end.
    unsafe {
        let buckets = *table;
        let starts = table.add(2);
        let next = starts.add(buckets as usize);
        let symbol = |index: u32| (index != 0).then_some(index);
        let start = if buckets == 0 { 0 } else { *starts.add((hash % buckets) as usize) };
        successors(symbol(start), move |index| symbol(*next.add(*index as usize)))
            .map(|index| index as usize)
    }
}
