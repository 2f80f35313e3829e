//! The interposed symbols, and nothing but them. Each calls a policy and then libc.
//!
//! `redhook::hook!` exports the symbol and finds the next definition with `dlsym(RTLD_NEXT)`. It
//! wraps the hook in `catch_unwind`; the crate is built with `panic = "abort"`, in which that is a
//! plain call, so the frames here have no landing pads and a forced unwind (`pthread_cancel`,
//! `pthread_exit`) passes through them. For the same reason nothing here may own a value that is
//! dropped after the real call.

use libc::{addrinfo, c_char, c_int, sockaddr, socklen_t};

redhook::hook! {
    unsafe fn connect(
        socket: c_int,
        address: *const sockaddr,
        length: socklen_t
    ) -> c_int => connect_with_keepalive {
        crate::keepalive::before_connect(socket);
        // SAFETY: the caller's own arguments, unread, to the function that they were meant for.
        unsafe { redhook::real!(connect)(socket, address, length) }
    }
}

redhook::hook! {
    unsafe fn getaddrinfo(
        node: *const c_char,
        service: *const c_char,
        hints: *const addrinfo,
        result: *mut *mut addrinfo
    ) -> c_int => getaddrinfo_by_allowlist {
        let real = redhook::real!(getaddrinfo);
        // SAFETY: the caller's own arguments, which getaddrinfo(3) requires to be valid.
        unsafe {
            if crate::resolver::is_listed(node) {
                crate::resolver::lookup_without_ipv6(real, node, service, hints, result)
            } else {
                real(node, service, hints, result)
            }
        }
    }
}

/// Finds libc's functions now: later calls only read what was found, so that a signal handler
/// never meets the `Once` in the middle of its work.
pub fn resolve() {
    redhook::real!(connect);
    redhook::real!(getaddrinfo);
}
