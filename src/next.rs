//! The next definition of a symbol: what `dlsym(RTLD_NEXT)` finds, found without a lock.
//!
//! dlsym(3) takes the loader's lock, and dlopen(3) holds that lock while a library's constructors run. A
//! function that the program may call in a signal handler, or in a child of vfork(2), cannot wait for
//! that lock, and binding each function at load would cost every start. So the first call looks the
//! symbol up itself, in the libraries after this one in the loader's list. These were there before
//! the program started and stay to its end. The first of them that has the symbol ends the search, libc
//! at the latest.
//!
//! If dlopen(3) has loaded this library, those libraries are not after it in the list. Then the loader is asked. If that
//! finds nothing either, as in musl, whose list has libc first, the libraries before this one are searched.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::iter::successors;
use std::marker::PhantomData;
use std::mem::transmute_copy;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::process;

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
        unsafe { self.or_else(anywhere) }.unwrap_or_else(|| process::exit(NO_SYMBOL))
    }

    /// The function, if one of the libraries that were loaded with the program has it.
    ///
    /// # Safety
    /// As for [`Self::get`].
    pub unsafe fn find(&self) -> Option<F> {
        // SAFETY: this function's own contract.
        unsafe { self.or_else(loaded_with_program) }
    }

    /// The function, if any library after this one has it now, even if only for old programs. It is not remembered,
    /// because a library that dlopen(3) has loaded may go again.
    ///
    /// # Safety
    /// As for [`Self::get`].
    pub unsafe fn find_now(&self) -> Option<F> {
        // SAFETY: this function's own contract.
        behind(self.name, Hidden::Too).map(|found| unsafe { transmute_copy(&found) })
    }

    /// The function that an earlier call found, or that is found now.
    ///
    /// # Safety
    /// As for [`Self::get`].
    #[inline]
    unsafe fn or_else(&self, search: fn(&CStr) -> Option<*mut c_void>) -> Option<F> {
        if self.found.load(Relaxed).is_null() {
            self.found.store(search(self.name).unwrap_or(null_mut()), Relaxed);
        }
        // SAFETY: this function's own contract.
        unsafe { self.known() }
    }

    /// The function, if an earlier call has found it. For hooks that are a test and a jump.
    ///
    /// # Safety
    /// As for [`Self::get`].
    #[inline]
    pub unsafe fn known(&self) -> Option<F> {
        let found = self.found.load(Relaxed);
        // SAFETY: it is the address of a function of type `F`.
        (!found.is_null()).then(|| unsafe { transmute_copy(&found) })
    }
}

/// The name of a symbol, from a text that ends with a zero byte.
pub const fn symbol(name: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => c"",
    }
}

/// The exit status with which the loader ends a program for a symbol that no library has.
const NO_SYMBOL: c_int = 127;

/// Whether the search finds symbols with a hidden version, which are for programs that were linked long ago.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hidden {
    Not,
    Too,
}

/// The next definition, wherever this library was loaded.
#[cold]
fn anywhere(name: &CStr) -> Option<*mut c_void> {
    behind(name, Hidden::Not).or_else(|| from_loader(name)).or_else(|| in_front(name))
}

/// The next definition, if it was loaded with the program. The loader of glibc before 2.34 is not asked: it would end the
/// process for a symbol that no library has.
#[cold]
fn loaded_with_program(name: &CStr) -> Option<*mut c_void> {
    behind(name, Hidden::Not).or_else(|| in_front(name))
}

/// The definition in the first library after this one that has the symbol.
#[cold]
fn behind(name: &CStr, hidden: Hidden) -> Option<*mut c_void> {
    let mut behind = loaded().skip_while(|library| !library.is_this()).skip(1);
    // SAFETY: the loader has loaded it.
    behind.find_map(|library| unsafe { library.definition(name, hidden) })
}

/// The definition that the loader finds.
#[cold]
fn from_loader(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The definition in the last library before this one that has the symbol, which is libc's. An earlier one, or the program,
/// may call this library's function.
#[cold]
fn in_front(name: &CStr) -> Option<*mut c_void> {
    loaded().find(|library| library.is_this())?;
    let in_front = loaded().take_while(|library| !library.is_this());
    // SAFETY: the loader has loaded it.
    in_front.filter_map(|library| unsafe { library.definition(name, Hidden::Not) }).last()
}

// --- The loader's list, as debuggers see it ------------------------------------------------------------

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
// The types of a symbol (gABI, chapter 4), in the lower half of `st_info`, and its bindings, in the upper half.
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const STB_LOCAL: u8 = 0;
const SHN_UNDEF: u16 = 0;
/// The bit in a symbol's version that marks a version which is not the default.
const HIDDEN: u16 = 0x8000;

#[cfg(target_pointer_width = "32")]
use libc::{Elf32_Phdr as Header, Elf32_Sym as Symbol};
#[cfg(target_pointer_width = "64")]
use libc::{Elf64_Phdr as Header, Elf64_Sym as Symbol};

/// A word of the gABI's hash tables. It has 32 bits, and 64 on s390x.
#[cfg(target_arch = "s390x")]
type HashWord = u64;
#[cfg(not(target_arch = "s390x"))]
type HashWord = u32;

unsafe extern "C" {
    /// The dynamic section of this library.
    static _DYNAMIC: Entry;
}

/// The loader's list of libraries: the program, the preloaded ones, those that they need, and those that dlopen(3) has
/// loaded.
fn loaded() -> impl Iterator<Item = &'static Library> {
    // SAFETY: the loader keeps what was loaded with the program to its end.
    unsafe { successors(first_loaded(), |library| library.next.as_ref()) }
}

/// The first library of the loader's list, which is the program. The loader puts the list's address into
/// the program's dynamic section (System V gABI, chapter 5, `DT_DEBUG`).
///
/// # Safety
/// The program's headers are still where the kernel has put them.
unsafe fn first_loaded() -> Option<&'static Library> {
    // SAFETY: getauxval(3) takes a number; the headers are of the program, as is what they describe.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const Header;
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
/// A dynamic section starts at the address.
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
    /// Whether it is this library.
    fn is_this(&self) -> bool {
        self.dynamic == &raw const _DYNAMIC
    }

    /// A function that the library defines.
    ///
    /// # Safety
    /// The loader has loaded the library.
    unsafe fn definition(&self, name: &CStr, hidden: Hidden) -> Option<*mut c_void> {
        let is_glibc = process::is_glibc();
        // SAFETY: the tables follow the gABI and the GNU extensions to it. Otherwise the loader could not have bound
        // the program.
        unsafe {
            let symbols: *const Symbol = self.table(DT_SYMTAB)?;
            let strings: *const c_char = self.table(DT_STRTAB)?;
            let versions: Option<*const u16> = self.table(DT_VERSYM);
            let is_found = |index: &usize| {
                let symbol = &*symbols.add(*index);
                let kind = symbol.st_info & 0xf;
                let is_function =
                    matches!(kind, STT_NOTYPE | STT_FUNC) || kind == STT_GNU_IFUNC && is_glibc;
                let is_defined = symbol.st_shndx != SHN_UNDEF && symbol.st_info >> 4 != STB_LOCAL;
                let is_hidden = hidden == Hidden::Not
                    && versions.is_some_and(|versions| *versions.add(*index) & HIDDEN != 0);
                is_function
                    && is_defined
                    && !is_hidden
                    && CStr::from_ptr(strings.add(symbol.st_name as usize)) == name
            };
            let index = if let Some(table) = self.table(DT_GNU_HASH) {
                gnu_chain(table, name).find(is_found)
            } else {
                chain(self.table(DT_HASH)?, name).find(is_found)
            };
            let symbol = &*symbols.add(index?);
            let address = self.address.wrapping_add(usize::try_from(symbol.st_value).ok()?);
            let is_indirect = symbol.st_info & 0xf == STT_GNU_IFUNC;
            Some(if is_indirect { resolved(address) } else { address as *mut c_void })
        }
    }

    /// The address of a table. The dynamic section has either the address itself (glibc, which has relocated it) or an
    /// offset from the library's base (musl, and every loader if the section is read-only). The right one of the two is
    /// closer to the dynamic section, because it is in the same library. If a library is linked above the address where
    /// it is loaded, its base is negative.
    ///
    /// # Safety
    /// As for [`Self::definition`].
    unsafe fn table<T>(&self, tag: usize) -> Option<*const T> {
        // SAFETY: the dynamic section of a library that is loaded.
        let value = unsafe { entry(self.dynamic, tag) }?;
        let distance = |address: &usize| address.abs_diff(self.dynamic.addr());
        let address = [value, value.wrapping_add(self.address)].into_iter().min_by_key(distance)?;
        Some(address as *const T)
    }
}

/// The function that a resolver chooses (`STT_GNU_IFUNC`, of the GNU extensions to gABI).
///
/// # Safety
/// The address is that of such a resolver.
unsafe fn resolved(resolver: usize) -> *mut c_void {
    /// The argument of glibc's resolvers on `aarch64` (<sys/ifunc.h>). On other machines they get only the first word, or
    /// no argument.
    #[repr(C)]
    struct Capabilities {
        size: libc::c_ulong,
        words: [libc::c_ulong; 2],
    }
    const HAS_CAPABILITIES: u64 = 1 << 62;
    type Resolver = unsafe extern "C" fn(libc::c_ulong, *const Capabilities) -> *mut c_void;
    // SAFETY: this function's own contract; getauxval(3) takes a number.
    unsafe {
        let words = [libc::AT_HWCAP, libc::AT_HWCAP2].map(|word| libc::getauxval(word));
        let size = libc::c_ulong::try_from(size_of::<Capabilities>()).unwrap_or_default();
        let flag = if cfg!(target_arch = "aarch64") { HAS_CAPABILITIES } else { 0 };
        let first = words[0] | libc::c_ulong::try_from(flag).unwrap_or_default();
        std::mem::transmute::<usize, Resolver>(resolver)(first, &Capabilities { size, words })
    }
}

/// The symbols that may have a name, by a GNU hash table.
///
/// # Safety
/// The table is a GNU hash table.
unsafe fn gnu_chain(table: *const u32, name: &CStr) -> impl Iterator<Item = usize> {
    let hash = name
        .to_bytes()
        .iter()
        .fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
    // SAFETY: four numbers, the filter of machine words, the buckets, and a chain for each: the hashes of
    // its symbols, the last with its lowest bit set.
    unsafe {
        let buckets = *table;
        let first = *table.add(1);
        let words = *table.add(2) as usize;
        let starts = table.add(4 + words * (size_of::<usize>() / size_of::<u32>()));
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

/// The symbols that may have a name, by a hash table of the gABI.
///
/// # Safety
/// The table is a hash table of the gABI.
unsafe fn chain(table: *const HashWord, name: &CStr) -> impl Iterator<Item = usize> {
    let hash = name.to_bytes().iter().fold(0_u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        (hash ^ (hash >> 24 & 0xf0)) & 0x0fff_ffff
    });
    // SAFETY: two numbers, the buckets, and for each symbol the next of its chain; zero is the end.
    unsafe {
        let buckets = *table;
        let starts = table.add(2);
        let next = starts.add(buckets as usize);
        let symbol = |index: HashWord| (index != 0).then_some(index as usize);
        let start =
            if buckets == 0 { 0 } else { *starts.add((HashWord::from(hash) % buckets) as usize) };
        successors(symbol(start), move |index| symbol(*next.add(*index)))
    }
}
