//! The system calls whose number or arguments differ between architectures. The other modules make the same calls on
//! all of them.
//!
//! All are bare calls: libc's functions may be interposed, by this library and perhaps by another, and some are
//! cancellation points.

use std::ptr::{null_mut, with_exposed_provenance_mut};

use libc::{c_int, c_long, socklen_t};

use crate::process::errno;

// --- Numbers -------------------------------------------------------------------------------------------

/// System calls of which 32-bit machines have a second, newer form: with an offset in pages, 64-bit sizes, and 32-bit
/// user and group ids.
#[cfg(target_pointer_width = "32")]
mod number {
    pub use libc::{SYS_fstatfs64, SYS_getegid32, SYS_geteuid32, SYS_mmap2};

    pub const MMAP: libc::c_long = SYS_mmap2;
    pub const EFFECTIVE_USER: [libc::c_long; 2] = [SYS_geteuid32, SYS_getegid32];
}
#[cfg(target_pointer_width = "64")]
mod number {
    pub use libc::SYS_fstatfs;

    pub const MMAP: libc::c_long = libc::SYS_mmap;
    pub const EFFECTIVE_USER: [libc::c_long; 2] = [libc::SYS_geteuid, libc::SYS_getegid];
}

/// socketcall(2), through which these machines made all calls about sockets before Linux 4.3.
const SOCKETCALL: Option<c_long> = {
    #[cfg(any(target_arch = "x86", target_arch = "s390x"))]
    {
        Some(libc::SYS_socketcall)
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "s390x")))]
    {
        None
    }
};

// --- Memory, files, users, time ------------------------------------------------------------------------

/// New memory from the kernel, at any address (mmap(2)); null if the kernel refuses it.
pub fn map(size: usize) -> *mut u8 {
    let access = (libc::PROT_READ | libc::PROT_WRITE).cast_unsigned() as usize;
    let kind = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned() as usize;
    let no_file = usize::MAX;
    // Whole words for the kernel: if an int is passed on the stack, half of its word is undefined.
    let arguments = [0, size, access, kind, no_file, 0];
    // SAFETY: a mapping that replaces no other.
    let block = unsafe {
        // This call takes its arguments in memory (arch/s390/kernel/syscall.c), where musl's syscall(3) puts them itself.
        #[cfg(target_arch = "s390x")]
        let block = {
            let result: c_long;
            std::arch::asm!(
                "svc 0",
                in("r1") number::MMAP,
                inlateout("r2") arguments.as_ptr() => result,
                options(nostack)
            );
            if (-4095..0).contains(&result) { -1 } else { result }
        };
        #[cfg(not(target_arch = "s390x"))]
        let block = syscall(number::MMAP, &arguments);
        block
    };
    // On 32-bit machines an address of the upper half is negative too.
    let address = (block != -1).then(|| usize::try_from(block.cast_unsigned()).ok()).flatten();
    address.map_or(null_mut(), with_exposed_provenance_mut)
}

/// A system call with its arguments.
///
/// # Safety
/// The requirements of the call hold.
unsafe fn syscall(number: c_long, arguments: &[usize; 6]) -> c_long {
    let [first, second, third, fourth, fifth, sixth] = *arguments;
    // SAFETY: this function's own contract.
    unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) }
}

/// The kind of file system that a descriptor's file is on (`f_type` of statfs(2)).
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of 32 bits")]
pub fn file_system(descriptor: c_int) -> Option<u32> {
    // SAFETY: all zeros are a valid statfs, and the pointer is to a local of the size that the kernel is told.
    unsafe {
        let mut status: libc::statfs64 = std::mem::zeroed();
        let place = &raw mut status;
        #[cfg(target_pointer_width = "32")]
        let result = {
            let size = size_of::<libc::statfs64>();
            libc::syscall(number::SYS_fstatfs64, descriptor, size, place)
        };
        #[cfg(target_pointer_width = "64")]
        let result = libc::syscall(number::SYS_fstatfs, descriptor, place);
        (result == 0).then_some(status.f_type as u32)
    }
}

/// The effective user and group.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of 32 bits")]
pub fn effective_user() -> [u32; 2] {
    // SAFETY: geteuid(2) and getegid(2) take nothing and cannot fail.
    number::EFFECTIVE_USER.map(|call| unsafe { libc::syscall(call) } as u32)
}

/// The time of day, in seconds since 1970 (`clock_gettime`(2)).
#[must_use]
pub fn time_of_day() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a local for the time; the clock exists on every kernel.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now) };
    // 32 bits without a sign last until 2106.
    #[cfg(target_pointer_width = "32")]
    return now.tv_sec.cast_unsigned().into();
    #[cfg(target_pointer_width = "64")]
    return now.tv_sec;
}

// --- Sockets -------------------------------------------------------------------------------------------

/// A call about sockets: its number, and the one that socketcall(2) has for it (linux/net.h).
#[derive(Clone, Copy)]
struct SocketCall {
    number: c_long,
    inner: c_long,
}

const SOCKET: SocketCall = SocketCall { number: libc::SYS_socket, inner: 1 };
const SENDTO: SocketCall = SocketCall { number: libc::SYS_sendto, inner: 11 };
const SETSOCKOPT: SocketCall = SocketCall { number: libc::SYS_setsockopt, inner: 14 };
const GETSOCKOPT: SocketCall = SocketCall { number: libc::SYS_getsockopt, inner: 15 };

/// A new socket (socket(2)); `None` if there cannot be one.
#[must_use]
pub fn socket(family: c_int, kind: c_int) -> Option<c_int> {
    let arguments = [family.cast_unsigned() as usize, kind.cast_unsigned() as usize, 0, 0, 0, 0];
    // SAFETY: socket(2) takes numbers.
    let socket = unsafe { socket_call(SOCKET, &arguments) };
    c_int::try_from(socket).ok().filter(|socket| *socket >= 0)
}

/// Sends bytes to a socket's peer (send(2)). Returns the number of bytes, or -1 with errno set.
#[must_use]
pub fn send(socket: c_int, bytes: &[u8], flags: c_int) -> c_long {
    let (socket, flags) = (socket.cast_unsigned() as usize, flags.cast_unsigned() as usize);
    let arguments = [socket, bytes.as_ptr().expose_provenance(), bytes.len(), flags, 0, 0];
    // SAFETY: the pointer and the length are those of one slice, which the kernel reads; no address is given.
    unsafe { socket_call(SENDTO, &arguments) }
}

/// A call about a socket, made directly or, if the kernel does not have it, through socketcall(2).
///
/// # Safety
/// The requirements of the call hold.
unsafe fn socket_call(call: SocketCall, arguments: &[usize; 6]) -> c_long {
    // SAFETY: this function's own contract.
    unsafe {
        match (syscall(call.number, arguments), SOCKETCALL) {
            // socketcall(2) reads as many arguments as the call has.
            (-1, Some(socketcall)) if errno() == libc::ENOSYS => {
                libc::syscall(socketcall, call.inner, arguments.as_ptr())
            }
            (result, _) => result,
        }
    }
}

/// Reads a socket option of type int. The bare system call, as for the others here: libc's functions for
/// options are interposed, by this library and perhaps by another.
///
/// # Errors
/// The errno of getsockopt(2).
pub fn get_option(socket: c_int, level: c_int, option: c_int) -> Result<c_int, c_int> {
    get_option_bytes(socket, level, option).map(c_int::from_ne_bytes)
}

/// Reads the first bytes of a socket option.
///
/// # Errors
/// The errno of getsockopt(2).
pub fn get_option_bytes<const SIZE: usize>(
    socket: c_int,
    level: c_int,
    option: c_int,
) -> Result<[u8; SIZE], c_int> {
    let mut value = [0; SIZE];
    #[allow(clippy::cast_possible_truncation, reason = "a few bytes")]
    let mut length = SIZE as socklen_t;
    // SAFETY: the kernel writes no more than the bytes of the local that `length` allows, and to `length`;
    // getsockopt(2) takes any descriptor.
    unsafe {
        let (value, length) = (value.as_mut_ptr().addr(), (&raw mut length).addr());
        option_call(GETSOCKOPT, socket, level, option, value, length)
    }?;
    Ok(value)
}

/// Sets a socket option of type int.
///
/// # Errors
/// The errno of setsockopt(2).
pub fn set_option(socket: c_int, level: c_int, option: c_int, value: c_int) -> Result<(), c_int> {
    // SAFETY: the kernel reads a local int, whose size it is given; setsockopt(2) takes any descriptor.
    unsafe {
        let value = (&raw const value).addr();
        option_call(SETSOCKOPT, socket, level, option, value, size_of::<c_int>())
    }
}

/// Makes getsockopt(2) or setsockopt(2), and returns the errno if it fails. Architectures with an instruction below do
/// without musl's syscall(3), which takes more stack than the smallest stacks have left during a connect.
///
/// # Safety
/// The call may use the memory at the addresses.
#[inline]
unsafe fn option_call(
    call: SocketCall,
    socket: c_int,
    level: c_int,
    option: c_int,
    value: usize,
    length: usize,
) -> Result<(), c_int> {
    let status: c_long;
    // SAFETY: the registers of a system call (syscall(2)); the kernel uses what this function's caller says.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") call.number => status,
            in("edi") socket, in("esi") level, in("edx") option, in("r10") value, in("r8") length,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") call.number,
            inlateout("x0") c_long::from(socket) => status,
            in("x1") level, in("x2") option, in("x3") value, in("x4") length,
            options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        std::arch::asm!(
            "ecall",
            in("a7") call.number,
            inlateout("a0") c_long::from(socket) => status,
            in("a1") level, in("a2") option, in("a3") value, in("a4") length,
            options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "x86")]
    unsafe {
        let result = egress_shim_option_call(call.number, socket, level, option, value, length);
        let has_call = result != -c_long::from(libc::ENOSYS);
        let arguments = [value, length];
        status =
            if has_call { result } else { by_function(call, socket, level, option, arguments) };
    }
    // SAFETY: as above.
    #[cfg(not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "x86"
    )))]
    unsafe {
        status = by_function(call, socket, level, option, [value, length]);
    }
    if status == 0 { Ok(()) } else { Err(c_int::try_from(-status).unwrap_or(libc::EINVAL)) }
}

// The call needs a register that the compiler reserves, so it is made by a function in assembly. A signal handler may end
// the thread and unwind it from any instruction here, so the unwind tables are exact.
#[cfg(target_arch = "x86")]
std::arch::global_asm!(
    ".pushsection .text.egress_shim_option_call,\"ax\",@progbits",
    ".hidden egress_shim_option_call",
    ".globl egress_shim_option_call",
    ".type egress_shim_option_call,@function",
    "egress_shim_option_call:",
    ".cfi_startproc",
    "push ebx",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset ebx, 0",
    "push esi",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset esi, 0",
    "push edi",
    ".cfi_adjust_cfa_offset 4",
    ".cfi_rel_offset edi, 0",
    "mov eax, [esp + 16]",
    "mov ebx, [esp + 20]",
    "mov ecx, [esp + 24]",
    "mov edx, [esp + 28]",
    "mov esi, [esp + 32]",
    "mov edi, [esp + 36]",
    "int 0x80",
    "pop edi",
    ".cfi_adjust_cfa_offset -4",
    ".cfi_restore edi",
    "pop esi",
    ".cfi_adjust_cfa_offset -4",
    ".cfi_restore esi",
    "pop ebx",
    ".cfi_adjust_cfa_offset -4",
    ".cfi_restore ebx",
    "ret",
    ".cfi_endproc",
    ".size egress_shim_option_call, . - egress_shim_option_call",
    ".popsection",
);
#[cfg(target_arch = "x86")]
unsafe extern "C" {
    /// A system call with five arguments, as the kernel gives its result.
    fn egress_shim_option_call(
        number: c_long,
        socket: c_int,
        level: c_int,
        option: c_int,
        value: usize,
        length: usize,
    ) -> c_long;
}

/// The same through syscall(3). Returns the kernel's result, in which an error is a negative number.
///
/// # Safety
/// As for [`option_call`].
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
#[cold]
unsafe fn by_function(
    call: SocketCall,
    socket: c_int,
    level: c_int,
    option: c_int,
    [value, length]: [usize; 2],
) -> c_long {
    let [socket, level, option] =
        [socket, level, option].map(|number| number.cast_unsigned() as usize);
    // SAFETY: this function's own contract.
    let result = unsafe { socket_call(call, &[socket, level, option, value, length, 0]) };
    if result == 0 { 0 } else { -c_long::from(errno()) }
}
