//! The stack, which programs for i386 may have aligned in another way than the compiler assumes.

#[cfg(target_arch = "x86")]
pub use x86::aligned;

/// Runs `f` on a stack that is aligned as the compiler assumes. On i386 that is 16 bytes; older programs, and those built
/// with `-mpreferred-stack-boundary=2`, call with a stack that is aligned to 4.
#[cfg(not(target_arch = "x86"))]
#[inline(always)]
#[allow(clippy::inline_always, reason = "it is nothing on these machines")]
pub fn aligned<T>(f: impl FnOnce() -> T) -> T {
    f()
}

#[cfg(target_arch = "x86")]
mod x86 {
    use std::ffi::c_void;
    use std::mem::{ManuallyDrop, MaybeUninit};

    /// On i386.
    #[inline]
    pub fn aligned<F: FnOnce() -> T, T>(f: F) -> T {
        struct Call<F, T> {
            f: ManuallyDrop<F>,
            result: MaybeUninit<T>,
        }
        unsafe extern "C" fn run<F: FnOnce() -> T, T>(call: *mut c_void) {
            // SAFETY: the call below, which nobody else uses now. Its function is taken once.
            unsafe {
                let call = &mut *call.cast::<Call<F, T>>();
                call.result.write(ManuallyDrop::take(&mut call.f)());
            }
        }
        let mut call = Call { f: ManuallyDrop::new(f), result: MaybeUninit::uninit() };
        // SAFETY: `run` gets the call that it is for, and has written the result when it comes back.
        unsafe {
            egress_shim_aligned(run::<F, T>, (&raw mut call).cast());
            call.result.assume_init()
        }
    }

    // The function may end the thread, which unwinds this frame.
    std::arch::global_asm!(
        ".pushsection .text.egress_shim_aligned,\"ax\",@progbits",
        ".hidden egress_shim_aligned",
        ".globl egress_shim_aligned",
        ".type egress_shim_aligned,@function",
        "egress_shim_aligned:",
        ".cfi_startproc",
        "push ebp",
        ".cfi_def_cfa_offset 8",
        ".cfi_offset ebp, -8",
        "mov ebp, esp",
        ".cfi_def_cfa_register ebp",
        "and esp, -16",
        "sub esp, 12",
        "push dword ptr [ebp + 12]",
        "call dword ptr [ebp + 8]",
        "leave",
        ".cfi_restore ebp",
        ".cfi_def_cfa esp, 4",
        "ret",
        ".cfi_endproc",
        ".size egress_shim_aligned, . - egress_shim_aligned",
        ".popsection",
    );
    unsafe extern "C" {
        /// Calls a function with one argument, on an aligned stack.
        fn egress_shim_aligned(function: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    }
}
