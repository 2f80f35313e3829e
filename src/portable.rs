//! What the shipped file has of its own, because not every libc has it, or not in the library that is
//! always loaded. It is there by `--cfg portable` alone, which `scripts/build-portable` gives.
//!
//! The linker binds the calls of `NAME` to `__wrap_NAME` here (`--wrap=NAME`), and its version script
//! exports nothing of this.

use std::arch::global_asm;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use libc::mode_t;

// --- dlsym -------------------------------------------------------------------------------------------

// Weak references: the loader leaves null where it finds no such symbol. Rust has none that is stable.
global_asm!(
    ".weak __real_dlsym",
    ".weak _dl_sym",
    ".pushsection .data.rel.ro.egress_shim_found,\"aw\"",
    ".globl egress_shim_found",
    ".hidden egress_shim_found",
    ".balign 8",
    "egress_shim_found:",
    ".quad __real_dlsym",
    ".quad _dl_sym",
    ".popsection",
);

#[repr(C)]
struct Found {
    dlsym: Option<unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void>,
    dl_sym: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const ()) -> *mut c_void>,
}

unsafe extern "C" {
    #[link_name = "egress_shim_found"]
    static FOUND: Found;
}

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
        match &FOUND {
            // RTLD_NEXT is the next after the library that calls: this one, here as there.
            Found { dlsym: Some(dlsym), .. } => dlsym(handle, symbol),
            Found { dl_sym: Some(dl_sym), .. } => dl_sym(handle, symbol, __wrap_dlsym as *const ()),
            _ => ptr::null_mut(),
        }
    }
}

// --- The unwinder ------------------------------------------------------------------------------------
//
// libgcc_s.so.1 is not on every host, and costs every start where it is. Since a panic aborts, std only
// prints backtraces with it, and here the stack has no frame to print. Who does unwind is glibc, which
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

// --- Files -------------------------------------------------------------------------------------------
//
// The names that end in 64 have left musl with 1.2.4; off_t has 64 bits wherever this is built for.
// fstat is in glibc's libc.so.6 since 2.33.

/// # Safety
/// As for open(2). Its callers pass a mode or, without `O_CREAT`, none, and then none is read.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: this function's own contract.
    unsafe { libc::open(path, flags, mode) }
}

/// # Safety
/// As for fstat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fstat64(descriptor: c_int, status: *mut libc::stat) -> c_int {
    // SAFETY: this function's own contract; the kernel's struct is libc's.
    let result = unsafe { libc::syscall(libc::SYS_fstat, descriptor, status) };
    if result == 0 { 0 } else { -1 }
}

/// # Safety
/// As for fstat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fstat(descriptor: c_int, status: *mut libc::stat) -> c_int {
    // SAFETY: this function's own contract.
    unsafe { __wrap_fstat64(descriptor, status) }
}
