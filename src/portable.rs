//! Functions that the shipped file brings along, because some libcs lack them or have them in a library that is not
//! always loaded, or because no start needs libc's. They are compiled only with `--cfg portable`, which
//! `scripts/build-portable` passes.
//!
//! The linker binds the calls of `NAME` to `__wrap_NAME` here, for each line `wrapped NAME` of tests/elf.golden, and its
//! version script exports nothing of this.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use libc::{addrinfo, clockid_t, size_t, ssize_t, timespec};

use crate::next::Next;
use crate::process::{self, weak};

// --- dlsym -------------------------------------------------------------------------------------------

weak!(DLSYM: unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void = "__real_dlsym", "egress_shim_dlsym");
weak!(DL_SYM: unsafe extern "C" fn(*mut c_void, *const c_char, *const ()) -> *mut c_void = "_dl_sym", "egress_shim_dl_sym");

/// dlsym(3) without a dependency on libdl.so.2, which would cost every start of a process. musl has dlsym in
/// libc, and so has glibc since 2.34. Before that it is in libdl.so.2, which the process may not have, and is a
/// wrapper of `_dl_sym` in libc.so.6 (elf/dl-sym.c, dlfcn/dlsym.c).
///
/// # Safety
/// As for dlsym(3), and the symbol exists: `_dl_sym` ends the process otherwise.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void {
    // SAFETY: the loader has made each slot null or the address of the function of that name; the
    // arguments are the caller's own.
    unsafe {
        match (DLSYM, DL_SYM) {
            // RTLD_NEXT means the next library after the caller. The caller is this library in both cases.
            (Some(dlsym), _) => dlsym(handle, symbol),
            (None, Some(dl_sym)) => dl_sym(handle, symbol, __wrap_dlsym as *const ()),
            (None, None) => ptr::null_mut(),
        }
    }
}

// --- Names that only glibc has -------------------------------------------------------------------------
//
// A program for musl may look for such a function at run time, and must find none. musl skips symbols whose version
// is hidden, and glibc binds a program by the version that the program asks for.

// The versions differ between architectures. scripts/build-portable makes directives for the assembler from the lines
// "export" in tests/elf.golden.

std::arch::global_asm!(include_str!(env!("EGRESS_SHIM_VERSIONS")));

// --- The unwinder ------------------------------------------------------------------------------------
//
// libgcc_s.so.1 is not on every host, and costs every start where it is. Because a panic aborts, std only uses it to
// print backtraces, and with these functions the stack has no frame to print. Unwinding is done by glibc, which
// loads libgcc_s itself to end a cancelled thread; frames of std then have nothing to do. These functions do
// not use `--wrap`: the compiler sees their bodies and leaves out the code that prints backtraces, two thirds of the
// library.

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_each: *const c_void, _argument: *mut c_void) -> c_int {
    const END_OF_STACK: c_int = 5;
    END_OF_STACK
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetLanguageSpecificData(_context: *mut c_void) -> *const c_void {
    ptr::null()
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetIPInfo(_context: *mut c_void, before_instruction: &mut c_int) -> usize {
    *before_instruction = 0;
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetRegionStart(_context: *mut c_void) -> usize {
    0
}

/// The end of a cleanup. No cleanup is ever entered.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume(_exception: *mut c_void) -> ! {
    std::process::abort()
}

/// The names that the unwind tables of 32-bit ARM need (EHABI32, sections 9 and 10): the routines of its compact entries,
/// for which the unwinder uses its own code, and the functions that std's routine calls, which no frame uses.
#[cfg(target_arch = "arm")]
mod ehabi {
    macro_rules! never_called {
        ($($name:ident),*) => {
            $(
                #[unsafe(no_mangle)]
                extern "C" fn $name() -> ! {
                    std::process::abort()
                }
            )*
        };
    }
    never_called!(
        _Unwind_VRS_Get,
        _Unwind_VRS_Set,
        __gnu_unwind_frame,
        __aeabi_unwind_cpp_pr0,
        __aeabi_unwind_cpp_pr1
    );
}

// --- Functions that no start needs ---------------------------------------------------------------------
//
// Each symbol that the loader must look up costs every start, so these are looked up when they are first called.

macro_rules! looked_up_when_called {
    ($($wrapper:ident: $name:literal ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            /// libc's function, or that of a library between this one and libc.
            ///
            /// # Safety
            /// As for that function.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $wrapper($($argument: $type),*) -> $result {
                static REAL: Next<unsafe extern "C" fn($($type),*) -> $result> = Next::new($name);
                // SAFETY: every libc has a function of that name and type, and the arguments are the caller's own.
                unsafe { REAL.get()($($argument),*) }
            }
        )*
    };
}

looked_up_when_called! {
    __wrap_clock_gettime: c"clock_gettime" (clock: clockid_t, time: *mut timespec) -> c_int;
    __wrap_freeaddrinfo: c"freeaddrinfo" (list: *mut addrinfo) -> ();
    __wrap___h_errno_location: c"__h_errno_location" () -> *mut c_int;
    __wrap___res_state: c"__res_state" () -> *mut c_void;
    __wrap_abort: c"abort" () -> !;
    __wrap_write: c"write" (descriptor: c_int, bytes: *const c_void, size: size_t) -> ssize_t;
}

// --- Functions that a panic would call ------------------------------------------------------------------
//
// No panic is left, but the code of panics is still linked. With these functions, a panic would print its message
// without a backtrace.

#[unsafe(no_mangle)]
extern "C" fn __wrap_getenv(_name: *const c_char) -> *mut c_char {
    ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_getcwd(_buffer: *mut c_char, _size: usize) -> *mut c_char {
    ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_gettid() -> c_int {
    process::thread_id()
}

// --- Atomics -----------------------------------------------------------------------------------------

/// Whether the compiler's out-of-line atomics use the instructions of ARMv8.1. Here they use those that every aarch64
/// processor has, because compiler-rt would need a constructor to find out.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
static __aarch64_have_lse_atomics: u8 = 0;
