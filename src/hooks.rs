//! The interposed symbols, and nothing else. Each hook hands libc's function and the arguments to a policy; `connect`
//! and the calls that send first call their policy and then libc.
//!
//! `redhook::hook!` exports the symbol and wraps the hook in `catch_unwind`. The crate is built with
//! `panic = "abort"`, which makes that a plain call. So the frames here have no landing pads, and a forced
//! unwind (`pthread_cancel`, `pthread_exit`) passes through them. For the same reason nothing here may own a
//! value that is dropped after the real call.

use std::ffi::CStr;
use std::ptr::null_mut;

use libc::{
    MSG_FASTOPEN, addrinfo, c_char, c_int, c_uint, c_void, hostent, mmsghdr, msghdr, size_t,
    sockaddr, socklen_t, ssize_t, timespec,
};

use crate::keepalive::{self, Connect, SetSockOpt};
use crate::next::{Next, symbol};
use crate::resolver::{self, GetAddrInfo, GetHostByName2, GetHostByName2R, Lookup};
use crate::{process, replies};

/// `redhook::hook!`, whose hook has the stack that the compiler takes for granted.
macro_rules! hook {
    (unsafe fn $name:ident($($argument:ident: $type:ty),+) -> $result:ty => $hook:ident $body:block) => {
        redhook::hook! {
            unsafe fn $name($($argument: $type),+) -> $result => $hook {
                $crate::stack::aligned(move || $body)
            }
        }
    };
}
#[cfg(target_pointer_width = "32")]
pub(crate) use hook;

hook! {
    unsafe fn connect(
        socket: c_int,
        address: *const sockaddr,
        length: socklen_t
    ) -> c_int => connect_with_keepalive {
        keepalive::before_connect(socket, address, length);
        // SAFETY: the caller's own arguments, unread, go to the function that they were meant for.
        unsafe { CONNECT.get()(socket, address, length) }
    }
}

// With MSG_FASTOPEN these calls connect (tcp(7)). Without that flag each hook is a test and a jump.

hook! {
    unsafe fn sendto(
        socket: c_int,
        buffer: *const c_void,
        length: size_t,
        flags: c_int,
        address: *const sockaddr,
        address_length: socklen_t
    ) -> ssize_t => sendto_with_keepalive {
        // SAFETY: as in `connect`; the static is named and typed for sendto.
        unsafe {
            if flags & MSG_FASTOPEN == 0 && let Some(real) = SENDTO.known() {
                return real(socket, buffer, length, flags, address, address_length);
            }
            process::in_own_frame(move || {
                if flags & MSG_FASTOPEN != 0 {
                    keepalive::before_connect(socket, address, address_length);
                }
                SENDTO.get()(socket, buffer, length, flags, address, address_length)
            })
        }
    }
}

hook! {
    unsafe fn sendmsg(
        socket: c_int,
        header: *const msghdr,
        flags: c_int
    ) -> ssize_t => sendmsg_with_keepalive {
        // SAFETY: as in `connect`; the static is named and typed for sendmsg.
        unsafe {
            if flags & MSG_FASTOPEN == 0 && let Some(real) = SENDMSG.known() {
                return real(socket, header, flags);
            }
            process::in_own_frame(move || {
                if flags & MSG_FASTOPEN != 0 {
                    keepalive::before_message(socket, header);
                }
                SENDMSG.get()(socket, header, flags)
            })
        }
    }
}

hook! {
    unsafe fn sendmmsg(
        socket: c_int,
        vector: *mut mmsghdr,
        length: c_uint,
        flags: c_int
    ) -> c_int => sendmmsg_with_keepalive {
        // SAFETY: as in `connect`; the static is named and typed for sendmmsg.
        unsafe {
            if flags & MSG_FASTOPEN == 0 && let Some(real) = SENDMMSG.known() {
                return real(socket, vector, length, flags);
            }
            process::in_own_frame(move || {
                if flags & MSG_FASTOPEN != 0 {
                    // The first message connects. Its header is at the start of the first element.
                    keepalive::before_message(socket, vector.cast());
                }
                SENDMMSG.get()(socket, vector, length, flags)
            })
        }
    }
}

hook! {
    unsafe fn setsockopt(
        socket: c_int,
        level: c_int,
        option: c_int,
        value: *const c_void,
        length: socklen_t
    ) -> c_int => setsockopt_within_limits {
        // SAFETY: the caller's own arguments, unread, go to the function that they were meant for.
        unsafe {
            if let Some(real) = SETSOCKOPT.known()
                && !keepalive::is_watched(level, option)
            {
                return real(socket, level, option, value, length);
            }
            process::in_own_frame(move || {
                keepalive::setsockopt(SETSOCKOPT.get(), socket, level, option, value, length)
            })
        }
    }
}

hook! {
    unsafe fn getaddrinfo(
        node: *const c_char,
        service: *const c_char,
        hints: *const addrinfo,
        result: *mut *mut addrinfo
    ) -> c_int => getaddrinfo_by_allowlist {
        // SAFETY: the caller's own arguments, which getaddrinfo(3) requires to be valid.
        unsafe { Lookup::new(GETADDRINFO.get(), node, service, hints, result) }.answer()
    }
}

hook! {
    unsafe fn gethostbyname2(
        name: *const c_char,
        family: c_int
    ) -> *mut hostent => gethostbyname2_by_allowlist {
        // SAFETY: the caller's own arguments, which gethostbyname2(3) requires to be valid.
        unsafe { resolver::host(GETHOSTBYNAME2.get(), name, family) }
    }
}

hook! {
    unsafe fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        host: *mut hostent,
        buffer: *mut c_char,
        length: size_t,
        result: *mut *mut hostent,
        error: *mut c_int
    ) -> c_int => gethostbyname2_r_by_allowlist {
        // SAFETY: as in `gethostbyname2`.
        unsafe {
            let real = GETHOSTBYNAME2_R.get();
            resolver::host_r(real, name, family, host, buffer, length, result, error)
        }
    }
}

// The calls by which a program may receive a DNS reply.

/// A hook of such a call. If no host is listed, it is a test and a jump. Otherwise it jumps to a function with the same
/// arguments, so that only one frame of the library is on the stack during libc's call. The processor's prediction of
/// returns is lost in the kernel, so each further frame costs as much as the rest of the hook.
macro_rules! receiving {
    (
        $next:ident, $name:ident($($argument:ident: $type:ty),+) -> $result:ty => $hook:ident,
        real: $real:expr,
        $filter:ident($($filtered:ident),+)
    ) => {
        hook! {
            unsafe fn $name($($argument: $type),+) -> $result => $hook {
                #[inline(never)]
                unsafe fn filtered($($argument: $type),+) -> $result {
                    // SAFETY: the caller's own arguments, unread, go to the function that they were meant for.
                    unsafe {
                        let real = $real;
                        replies::$filter(|| real($($argument),+), $($filtered),+)
                    }
                }
                /// Looks libc's function up in a frame that is gone again when libc runs: the first call of all may
                /// be one in a signal handler, on a small stack.
                #[cold]
                #[inline(never)]
                unsafe fn first($($argument: $type),+) -> $result {
                    // SAFETY: as above.
                    unsafe {
                        let real = $real;
                        if replies::may_act() { filtered($($argument),+) } else { real($($argument),+) }
                    }
                }
                // SAFETY: as above.
                unsafe {
                    match $next.known() {
                        Some(real) if !replies::may_act() => real($($argument),+),
                        Some(_) => filtered($($argument),+),
                        None => first($($argument),+),
                    }
                }
            }
        }
    };
}

receiving! {
    RECV, recv(socket: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t => recv_without_ipv6,
    real: RECV.get(),
    filter_buffer(socket, buffer, length, flags)
}

receiving! {
    RECVFROM, recvfrom(
        socket: c_int,
        buffer: *mut c_void,
        length: size_t,
        flags: c_int,
        address: *mut sockaddr,
        address_length: *mut socklen_t
    ) -> ssize_t => recvfrom_without_ipv6,
    real: RECVFROM.get(),
    filter_buffer(socket, buffer, length, flags)
}

receiving! {
    RECVMSG, recvmsg(socket: c_int, header: *mut msghdr, flags: c_int) -> ssize_t => recvmsg_without_ipv6,
    real: RECVMSG.get(),
    filter_message(socket, header, flags)
}

receiving! {
    RECVMMSG, recvmmsg(
        socket: c_int,
        vector: *mut mmsghdr,
        length: c_uint,
        flags: c_int,
        timeout: *mut timespec
    ) -> c_int => recvmmsg_without_ipv6,
    real: RECVMMSG.get(),
    filter_messages(socket, vector, length, flags)
}

// glibc's headers replace recv and recvfrom by these functions if the size of the buffer is known
// (_FORTIFY_SOURCE, feature_test_macros(7)). musl has no such functions.

receiving! {
    RECV_CHK, __recv_chk(
        socket: c_int,
        buffer: *mut c_void,
        length: size_t,
        size: size_t,
        flags: c_int
    ) -> ssize_t => recv_chk_without_ipv6,
    real: if let Some(real) = RECV_CHK.find() { real } else {
        return recv_without_ipv6(socket, buffer, within(length, size), flags);
    },
    filter_buffer(socket, buffer, length, flags)
}

receiving! {
    RECVFROM_CHK, __recvfrom_chk(
        socket: c_int,
        buffer: *mut c_void,
        length: size_t,
        size: size_t,
        flags: c_int,
        address: *mut sockaddr,
        address_length: *mut socklen_t
    ) -> ssize_t => recvfrom_chk_without_ipv6,
    real: if let Some(real) = RECVFROM_CHK.find() { real } else {
        let length = within(length, size);
        return recvfrom_without_ipv6(socket, buffer, length, flags, address, address_length);
    },
    filter_buffer(socket, buffer, length, flags)
}

/// The bounds check of these two functions, for a libc that lacks them. As in glibc, it ends a program that would
/// overrun its buffer.
fn within(length: size_t, size: size_t) -> size_t {
    if length <= size { length } else { std::process::abort() }
}

// The functions of libresolv (resolver(3)). Programs built for glibc before 2.34 use the names with underscores, which were
// in libresolv.so.2. Programs built for later versions and for musl use the names without them, which are in libc.

/// One hook for each name of a function. The parameters are its arguments without the last two (the buffer and its
/// length), the resolver state among them, and whether the function makes the question.
macro_rules! resolver {
    ($($name:ident => $hook:ident),+; $arguments:tt, $state:expr, $makes_question:literal) => {
        $(resolver_hook! { $name => $hook, $arguments, $state, $makes_question })+
    };
}

macro_rules! resolver_hook {
    ($name:ident => $hook:ident, ($($argument:ident: $type:ty),+), $state:expr, $makes_question:literal) => {
        hook! {
            unsafe fn $name(
                $($argument: $type,)+
                answer: *mut u8,
                length: c_int
            ) -> c_int => $hook {
                type Real = unsafe extern "C" fn($($type,)+ *mut u8, c_int) -> c_int;
                const NAME: &CStr = symbol(concat!(stringify!($name), "\0"));
                // SAFETY: as in `recv`.
                unsafe {
                    let Some(real) = Next::<Real>::new(NAME).find_now() else { return no_function() };
                    let call = move || real($($argument,)+ answer, length);
                    replies::filter_answer(call, $state, answer, length, $makes_question)
                }
            }
        }
    };
}

resolver! {
    res_query => res_query_without_ipv6,
    __res_query => res_query_of_libresolv_without_ipv6,
    res_search => res_search_without_ipv6,
    __res_search => res_search_of_libresolv_without_ipv6;
    (name: *const c_char, class: c_int, kind: c_int), null_mut(), true
}

resolver! {
    res_querydomain => res_querydomain_without_ipv6,
    __res_querydomain => res_querydomain_of_libresolv_without_ipv6;
    (name: *const c_char, domain: *const c_char, class: c_int, kind: c_int), null_mut(), true
}

resolver! {
    res_send => res_send_without_ipv6,
    __res_send => res_send_of_libresolv_without_ipv6;
    (question: *const u8, size: c_int), null_mut(), false
}

resolver! {
    res_nquery => res_nquery_without_ipv6,
    __res_nquery => res_nquery_of_libresolv_without_ipv6,
    res_nsearch => res_nsearch_without_ipv6,
    __res_nsearch => res_nsearch_of_libresolv_without_ipv6;
    (state: *mut c_void, name: *const c_char, class: c_int, kind: c_int), state, true
}

resolver! {
    res_nquerydomain => res_nquerydomain_without_ipv6,
    __res_nquerydomain => res_nquerydomain_of_libresolv_without_ipv6;
    (state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int), state, true
}

resolver! {
    res_nsend => res_nsend_without_ipv6,
    __res_nsend => res_nsend_of_libresolv_without_ipv6;
    (state: *mut c_void, question: *const u8, size: c_int), state, false
}

/// The result if a program has found such a function here, but neither libc nor another library has it.
fn no_function() -> c_int {
    process::set_errno(libc::ENOSYS);
    -1
}

// The types of libc's functions.

type SendTo = unsafe extern "C" fn(
    c_int,
    *const c_void,
    size_t,
    c_int,
    *const sockaddr,
    socklen_t,
) -> ssize_t;
type SendMsg = unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t;
type SendMmsg = unsafe extern "C" fn(c_int, *mut mmsghdr, c_uint, c_int) -> c_int;
type Recv = unsafe extern "C" fn(c_int, *mut c_void, size_t, c_int) -> ssize_t;
type RecvFrom = unsafe extern "C" fn(
    c_int,
    *mut c_void,
    size_t,
    c_int,
    *mut sockaddr,
    *mut socklen_t,
) -> ssize_t;
type RecvMsg = unsafe extern "C" fn(c_int, *mut msghdr, c_int) -> ssize_t;
type RecvMmsg = unsafe extern "C" fn(c_int, *mut mmsghdr, c_uint, c_int, *mut timespec) -> c_int;
type RecvChk = unsafe extern "C" fn(c_int, *mut c_void, size_t, size_t, c_int) -> ssize_t;
type RecvFromChk = unsafe extern "C" fn(
    c_int,
    *mut c_void,
    size_t,
    size_t,
    c_int,
    *mut sockaddr,
    *mut socklen_t,
) -> ssize_t;

static CONNECT: Next<Connect> = Next::new(c"connect");
static SENDTO: Next<SendTo> = Next::new(c"sendto");
static SENDMSG: Next<SendMsg> = Next::new(c"sendmsg");
static SENDMMSG: Next<SendMmsg> = Next::new(c"sendmmsg");
static SETSOCKOPT: Next<SetSockOpt> = Next::new(c"setsockopt");
static GETADDRINFO: Next<GetAddrInfo> = Next::new(c"getaddrinfo");
static GETHOSTBYNAME2: Next<GetHostByName2> = Next::new(c"gethostbyname2");
static GETHOSTBYNAME2_R: Next<GetHostByName2R> = Next::new(c"gethostbyname2_r");
static RECV: Next<Recv> = Next::new(c"recv");
static RECVFROM: Next<RecvFrom> = Next::new(c"recvfrom");
static RECVMSG: Next<RecvMsg> = Next::new(c"recvmsg");
static RECVMMSG: Next<RecvMmsg> = Next::new(c"recvmmsg");
static RECV_CHK: Next<RecvChk> = Next::new(c"__recv_chk");
static RECVFROM_CHK: Next<RecvFromChk> = Next::new(c"__recvfrom_chk");

/// The getaddrinfo that the hook calls: libc's own if no other library is preloaded.
pub fn next_getaddrinfo() -> GetAddrInfo {
    // SAFETY: the static is named and typed for getaddrinfo.
    unsafe { GETADDRINFO.get() }
}
