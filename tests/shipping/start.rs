//! The code of the shipped library that a start runs is kept together, because each page that a start touches takes time.
//! The test runs a program step by step, and notes the steps in the library.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::ptr::null_mut;

use crate::harness::run::{before, result};
use crate::harness::{Environment, ROOT};

const PAGE: usize = 4096;

/// The places in the library's file that a program executes, and the bytes of stack that are in use meanwhile.
#[allow(clippy::zombie_processes, reason = "waitpid(2) takes its end")]
fn steps(command: &mut Command, library: &Path) -> (BTreeSet<usize>, usize) {
    let child = before(command, || request(libc::PTRACE_TRACEME, 0)).spawn();
    let child = child.expect("the program starts");
    let process = libc::pid_t::try_from(child.id()).expect("an id");
    let ended = || {
        let mut status = 0;
        // SAFETY: the child is this test's, and the pointer is to a local.
        assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
        if libc::WIFEXITED(status) {
            assert_eq!(libc::WEXITSTATUS(status), 0, "the program succeeds");
        } else {
            assert!(libc::WIFSTOPPED(status), "it is not killed: {status:#x}");
        }
        libc::WIFEXITED(status)
    };
    let mut code: Option<[usize; 2]> = None;
    let (mut places, mut lowest, mut highest) = (BTreeSet::new(), usize::MAX, 0);
    while !ended() {
        let Some([from, to]) = code else {
            code = code_of(library, process);
            request(libc::PTRACE_SYSCALL, process).expect("it goes on");
            continue;
        };
        let (counter, stack) = registers(process);
        if (from..to).contains(&counter) {
            places.insert(counter - from);
            (lowest, highest) = (lowest.min(stack), highest.max(stack));
        }
        request(libc::PTRACE_SINGLESTEP, process).expect("it goes on");
    }
    (places, highest.saturating_sub(lowest))
}

/// Makes a request of ptrace(2) that takes no pointers.
fn request(request: libc::c_uint, process: libc::pid_t) -> io::Result<()> {
    // SAFETY: without pointers the call takes numbers.
    let status = unsafe { libc::ptrace(request, process, null_mut::<u8>(), 0) };
    result(libc::c_int::try_from(status).unwrap_or(-1))
}

/// The addresses of the library's code, if the loader has relocated the library: its relocated data is read-only then.
fn code_of(library: &Path, process: libc::pid_t) -> Option<[usize; 2]> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    let name = library.to_str().expect("a plain path");
    // FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH (proc_pid_maps(5))
    let with = |access: &str| {
        maps.lines().find(|line| line.ends_with(name) && line.contains(&format!(" {access} ")))
    };
    with("r--p")?;
    let (from, to) = with("r-xp")?.split_once(' ')?.0.split_once('-')?;
    Some([from, to].map(|address| usize::from_str_radix(address, 16).expect("an address")))
}

/// The program counter and the stack pointer of a stopped process.
fn registers(process: libc::pid_t) -> (usize, usize) {
    const NT_PRSTATUS: usize = 1;
    // SAFETY: all zeros are valid registers, and the kernel is told their size.
    let registers = unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        let mut place = libc::iovec {
            iov_base: (&raw mut registers).cast(),
            iov_len: size_of::<libc::user_regs_struct>(),
        };
        let status =
            libc::ptrace(libc::PTRACE_GETREGSET, process, NT_PRSTATUS as *mut u8, &raw mut place);
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        registers
    };
    #[cfg(target_arch = "x86_64")]
    let (counter, stack) = (registers.rip, registers.rsp);
    #[cfg(target_arch = "aarch64")]
    let (counter, stack) = (registers.pc, registers.sp);
    [counter, stack].map(|value| usize::try_from(value).expect("an address")).into()
}

#[test]
fn what_a_start_runs_stands_on_few_pages_and_takes_little_stack() {
    /// The most pages of code.
    const PAGES: usize = 5;
    /// The most bytes of stack. A buffer for a path would take a page.
    const STACK: usize = 3 << 10;
    let environment = Environment::shipped();
    let program = environment.program("empty");
    for settings in [
        &[("", "off")][..],
        &[],
        &[("IPV4_ONLY", "a.example.com,*.b.example.com,!c.example.com")],
        &[("IPV4_ONLY", "a.example.com"), ("KEEPALIVE", "idle=30,interval=10,enforce")],
    ] {
        let mut command = environment.shimmed(&program, settings);
        let (places, stack) = steps(&mut command, &environment.library);
        assert!(!places.is_empty(), "{settings:?}: the library runs");
        let pages: BTreeSet<_> = places.iter().map(|place| place / PAGE).collect();
        let first = pages.first().expect("one at least");
        // The linker's map, which scripts/build-portable leaves there, tells the functions.
        let map = format!("target/portable/{}/libegress_shim.map", std::env::consts::ARCH);
        let far: Vec<_> = places.iter().filter(|place| *place / PAGE - first >= PAGES).collect();
        assert!(
            far.is_empty(),
            "{settings:?}: a start runs code on the pages {pages:x?}, at {far:x?}. {} has the names of these functions, \
             which scripts/library.ld should list",
            Path::new(ROOT).join(map).display()
        );
        assert!(stack <= STACK, "{settings:?}: a start takes {stack} bytes of stack");
        println!("{settings:?}: pages {pages:x?}, {stack} bytes of stack");
    }
}
