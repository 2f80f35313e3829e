//! On 32-bit machines, libc has other names for functions that programs with a 64-bit `time_t` call: in glibc since 2.34
//! for programs built with `_TIME_BITS=64`, in musl since 1.2 for all programs. The headers replace the usual names.
//!
//! If libc is older, a program that asks for such a name at run time finds it here, and the call fails with ENOSYS.

use libc::{MSG_FASTOPEN, c_int, c_uint, c_void, mmsghdr, msghdr, socklen_t, ssize_t};

use crate::hooks::hook;
use crate::next::{Next, symbol};
use crate::{keepalive, process, replies};

/// A hook for such a name. The last argument of the macro gets libc's function.
macro_rules! hook64 {
    ($name:ident($($argument:ident: $type:ty),+) -> $result:ty => $hook:ident, |$real:ident| $body:expr) => {
        hook! {
            unsafe fn $name($($argument: $type),+) -> $result => $hook {
                type Real = unsafe extern "C" fn($($type),+) -> $result;
                static NEXT: Next<Real> = Next::new(symbol(concat!(stringify!($name), "\0")));
                // SAFETY: the caller's own arguments, unread, go to the function that they were meant for.
                unsafe {
                    let Some($real) = NEXT.find() else {
                        process::set_errno(libc::ENOSYS);
                        return -1;
                    };
                    $body
                }
            }
        }
    };
}

hook64! {
    __sendmsg64(socket: c_int, header: *const msghdr, flags: c_int) -> ssize_t => sendmsg64_with_keepalive,
    |real| {
        if flags & MSG_FASTOPEN != 0 {
            keepalive::before_message(socket, header);
        }
        real(socket, header, flags)
    }
}

hook64! {
    __sendmmsg64(socket: c_int, vector: *mut mmsghdr, length: c_uint, flags: c_int) -> c_int => sendmmsg64_with_keepalive,
    |real| {
        if flags & MSG_FASTOPEN != 0 {
            // As in `sendmmsg`.
            keepalive::before_message(socket, vector.cast());
        }
        real(socket, vector, length, flags)
    }
}

hook64! {
    __setsockopt64(
        socket: c_int, level: c_int, option: c_int, value: *const c_void, length: socklen_t
    ) -> c_int => setsockopt64_within_limits,
    |real| keepalive::setsockopt(real, socket, level, option, value, length)
}

hook64! {
    __recvmsg64(socket: c_int, header: *mut msghdr, flags: c_int) -> ssize_t => recvmsg64_without_ipv6,
    |real| {
        let call = move || real(socket, header, flags);
        replies::filter_message(call, socket, header, flags)
    }
}

/// A time with two words of 64 bits, which the hooks do not read.
type Timespec64 = c_void;

/// recvmmsg(2), which has a name of its own in each libc.
macro_rules! recvmmsg64 {
    ($($name:ident => $hook:ident),+) => {
        $(hook64! {
            $name(
                socket: c_int, vector: *mut mmsghdr, length: c_uint, flags: c_int, timeout: *mut Timespec64
            ) -> c_int => $hook,
            |real| {
                let call = move || real(socket, vector, length, flags, timeout);
                replies::filter_messages(call, socket, vector, length, flags)
            }
        })+
    };
}

// The first is glibc's, the second musl's.
recvmmsg64! {
    __recvmmsg64 => recvmmsg64_without_ipv6,
    __recvmmsg_time64 => recvmmsg_time64_without_ipv6
}
