//! Functions that the shipped file brings along, because some libc lacks them, or does not have them in the library
//! that is always loaded. They are compiled only with `--cfg portable`, which `scripts/build-portable` gives.
//!
//! The linker binds the calls of `NAME` to `__wrap_NAME` here (`--wrap=NAME`), and its version script
//! exports nothing of this.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use crate::process::weak;

// --- dlsym -------------------------------------------------------------------------------------------

weak!(DLSYM: unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void = "__real_dlsym", "egress_shim_dlsym");
weak!(DL_SYM: unsafe extern "C" fn(*mut c_void, *const c_char, *const ()) -> *mut c_void = "_dl_sym", "egress_shim_dl_sym");

/// dlsym(3) without a need for libdl.so.2, which every start of a process would pay for. musl has it
/// in libc, and so has glibc since 2.34. Before that it is in libdl.so.2, if the process has that; and
/// libc.so.6 has `_dl_sym`, of which it is a wrapper (elf/dl-sym.c, dlfcn/dlsym.c).
///
/// # Safety
/// As for dlsym(3), and the symbol exists: `_dl_sym` ends the process otherwise.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void {
    // SAFETY: the loader has made each slot null or the address of the function of that name; the
    // arguments are the caller's own.
    unsafe {
        match (DLSYM, DL_SYM) {
            // RTLD_NEXT is the next after the library that calls: this one, here as there.
            (Some(dlsym), _) => dlsym(handle, symbol),
            (None, Some(dl_sym)) => dl_sym(handle, symbol, __wrap_dlsym as *const ()),
            (None, None) => ptr::null_mut(),
        }
    }
}

// --- Names that only glibc has -------------------------------------------------------------------------
//
// A program for musl may ask at run time whether there is such a function, and must find none. musl passes over symbols
// whose version is hidden, and glibc binds a program by the version that the program asks for.

// The versions are those of the lines "export" in tests/elf.golden, of which scripts/build-portable makes directives for
// the assembler: they differ between architectures.

std::arch::global_asm!(include_str!(env!("EGRESS_SHIM_VERSIONS")));

// --- The unwinder ------------------------------------------------------------------------------------
//
// libgcc_s.so.1 is not on every host, and costs every start where it is. Since a panic aborts, std only
// prints backtraces with it, and here the stack has no frame to print. What does unwind is glibc, which
// brings libgcc_s itself to end a cancelled thread; a frame of std's then finds that it has nothing to
// do. These are no part of `--wrap`: the compiler sees through them and leaves out what prints backtraces,
// two thirds of the library.

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

/// The end of a cleanup; none is ever entered.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume(_exception: *mut c_void) -> ! {
    std::process::abort()
}

/// The names that the tables of 32-bit ARM want (EHABI32, sections 9 and 10): the routines that its compact entries
/// belong to, of which the unwinder takes its own, and what std's routine would call, which no frame has.
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

// --- What a panic would ask ----------------------------------------------------------------------------
//
// No panic is left, but its code is there, and each symbol that the loader must look for costs every
// start. Without these two a panic would print its message without a backtrace.

#[unsafe(no_mangle)]
extern "C" fn __wrap_getenv(_name: *const c_char) -> *mut c_char {
    ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_getcwd(_buffer: *mut c_char, _size: usize) -> *mut c_char {
    ptr::null_mut()
}

// --- Atomics -----------------------------------------------------------------------------------------

/// Which of its two ways a compiler's out-of-line atomics take: with the instructions of ARMv8.1, or, as
/// here, with those that every aarch64 has. To find out, compiler-rt would run a constructor of its own.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
static __aarch64_have_lse_atomics: u8 = 0;
