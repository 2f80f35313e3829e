//! The command: it runs a program with the library preloaded, or diagnoses and rescues programs.
//!
//! It runs in front of somebody else's program, often as the first process of a container without a shell
//! or a libc. So it is statically linked, and it ends in execve(2): the program gets the arguments, environment,
//! descriptors and signals unchanged.
//!
//! | module | what it holds |
//! |---|---|
//! | [`options`] | the command line: one definition for parser, help, manual page and completions |
//! | [`mistakes`] | messages about mistakes in the command line |
//! | [`environment`] | the environment, byte for byte |
//! | [`configuration`] | the settings in force: read, judged, handed on |
//! | [`library`] | the place of the library, and `LD_PRELOAD` |
//! | [`loader`] | the dynamic loaders here, and the file that each opens for a path in `LD_PRELOAD` |
//! | [`program`] | how the kernel and the loader treat COMMAND |
//! | [`run`] | execve(2) |
//! | [`check`] | `--check`: gathers the facts, and reports |
//! | [`verdict`] | the judge of `--check` |
//! | [`target`], [`trial`], [`attempts`], [`nameservers`] | the host to check; a trial of the library in a program; the attempts to connect; the replies of name servers |
//! | [`inspect`] | `--inspect`: the judge of processes and their connections |
//! | [`process`], [`sockets`], [`names`] | the facts for it: processes, their sockets, the names of their peers |
//! | [`finding`], [`report`] | a finding; its report, as text or JSON with foreign bytes escaped |
//! | [`rescue`], [`duplicates`], [`sock_destroy`], [`refusal`] | `--rescue`; duplicates of sockets; ending a connect; why it is refused |
//! | [`output`] | standard output, standard error and the exit status |
//!
//! The settings and the host patterns are those of `egress_shim_core`, which the library reads too.

// std's start-up code would ignore SIGPIPE, and open descriptors 0 to 2 if they are closed. COMMAND would inherit both.
#![cfg_attr(not(test), no_main)]

mod attempts;
mod check;
mod configuration;
mod duplicates;
mod environment;
mod finding;
mod inspect;
mod library;
mod loader;
mod mistakes;
mod names;
mod nameservers;
mod options;
mod output;
#[cfg(feature = "pages")]
mod pages;
mod process;
mod program;
mod refusal;
mod report;
mod rescue;
mod run;
mod sock_destroy;
mod sockets;
mod target;
mod trial;
mod verdict;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use configuration::Configuration;
use environment::Environment;
use options::Task;
use output::{Failure, print, say};

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    let words = (0..count).map(|index| {
        // SAFETY: libc's start-up code passes `count` C strings.
        let word = unsafe { CStr::from_ptr(*words.add(index)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    });
    act(&words.collect::<Vec<_>>()).unwrap_or_else(|failure| {
        say(failure.message);
        failure.status
    })
}

fn act(words: &[OsString]) -> Result<c_int, Failure> {
    let mut environment = Environment::of_this_process();
    let path = run::path(&environment);
    #[cfg(feature = "pages")]
    if let [_, option, directory] = words
        && option == "--pages"
    {
        return pages::write(directory);
    }
    let options = options::parse(words, &path)?;
    let command = match &options.task {
        Task::Print(text) => return print(text).map(|()| 0),
        Task::Inspect(processes) => return inspect::inspect(processes, options.format),
        Task::PrintEnvironment | Task::Rescue(..) => &Vec::new(),
        Task::Check(_, command) | Task::Run(command) => command,
    };
    Configuration::apply(&options, &mut environment);
    if let Task::Rescue(process, is_dry) = &options.task {
        let keepalive = Configuration::of_rescue(&environment)?;
        return rescue::rescue(process, &keepalive, *is_dry, options.format);
    }
    let configuration = Configuration::of(&environment, &options);
    if let Task::Check(hosts, _) = &options.task {
        return check::check(hosts, command, &options, &configuration, &environment);
    }
    if !options.lenient {
        configuration.refuse_problems()?;
    }
    let library = library::find(options.library.as_deref())?;
    if let Task::PrintEnvironment = options.task {
        configuration.hand_on(&mut environment);
        run::preload(&mut environment, &library);
        return print(&configuration::lines(&environment)?).map(|()| 0);
    }
    let file = program::find(&command[0], &path).map_err(|failure| Failure {
        message: failure.message + &mistakes::not_found(&options, &path),
        ..failure
    })?;
    let program = program::examine(&file, &path)?;
    let library = library.for_program(&program);
    program.refuse_foreign(&library)?;
    if let Some(obstacle) = program.obstacle(&library) {
        say(format_args!("warning: {}; {}", obstacle.why, obstacle.instead));
    }
    configuration.hand_on(&mut environment);
    run::exec(&file, command, &program, &library, environment)
}
