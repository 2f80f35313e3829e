//! Processes as they are seen from outside: plain data, gathered from /proc with bounds on everything that a process
//! controls.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use egress_shim_core::elf::{Architecture, Elf};
use egress_shim_core::kernel::{self, Mapping};

use crate::environment::Environment;
use crate::library::{self, Version};
use crate::loader;
use crate::names::{self, Answers};
use crate::program;
use crate::sockets::{self, Connection, Descriptors, Question, Table};

/// A process.
pub struct Process {
    /// Its PID.
    pub id: u32,
    /// The file that it runs. The file may be deleted.
    pub file: Vec<u8>,
    /// Its command line.
    pub words: Vec<Vec<u8>>,
    /// The ELF headers of that file; `None` if it cannot be read.
    pub elf: Option<Elf>,
    /// Whether it has privileges that its caller did not have (`AT_SECURE`): its loader ignores `LD_PRELOAD`.
    pub is_secure: bool,
    /// The library in it.
    pub library: Option<Library>,
    /// The library that `LD_PRELOAD` names, if the library is not in the process.
    pub named: Option<Named>,
    /// The variables of its environment that matter here: `LD_PRELOAD` and the settings.
    pub environment: Environment,
    /// Whether it has written something else over its environment, so that the environment cannot be known.
    pub is_overwritten: bool,
    /// Names of hosts that occur in its command line, its environment and its list.
    pub hosts: Vec<String>,
    /// Whether it sees other files than this command, as in a container.
    pub is_elsewhere: bool,
    /// Its TCP connections.
    pub connections: Vec<Connection>,
    /// Its questions to name servers that are not answered yet.
    pub questions: Vec<Question>,
    /// The answers of the name server that it waits for to this command's own questions.
    pub server: Option<Answers>,
    /// The names, among `hosts` and those of /etc/hosts, of peers that do not answer.
    pub names: Vec<(IpAddr, String)>,
    /// The parts that were not read in full.
    pub cut: Vec<&'static str>,
}

/// The library in a process.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its file.
    pub path: Vec<u8>,
    /// Its version.
    pub version: Version,
    /// Whether the file is gone.
    pub is_deleted: bool,
}

/// The library that `LD_PRELOAD` names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its path, as the loader of the process takes it.
    pub path: Vec<u8>,
    /// The architecture of the ELF file that is there.
    pub architecture: Option<Architecture>,
}

/// Why a process could not be seen.
pub struct Unseen {
    /// Its PID.
    pub id: u32,
    /// The error that prevented it.
    pub error: io::Error,
}

/// The processes that were found.
#[derive(Default)]
pub struct Gathered {
    /// The processes that were seen, parents before their children.
    pub processes: Vec<Process>,
    /// The processes that could not be seen.
    pub unseen: Vec<Unseen>,
}

// Bounds for data that a process controls.
/// The kernel accepts no longer environment, but a process may make /proc show other memory.
const LONGEST_ENVIRONMENT: u64 = 6 << 20;
const LONGEST_COMMAND_LINE: u64 = 128 << 10;
const LONGEST_MAPS: u64 = 8 << 20;
/// At most this many descriptors are looked at, of all processes together.
const MOST_DESCRIPTORS: usize = 300_000;
/// A connect that is not answered is sent again after one second; a name server answers sooner.
const SECOND_LOOK: Duration = Duration::from_millis(1100);
/// No more questions are put to name servers after this time, of all processes together.
const QUESTIONS: Duration = Duration::from_millis(500);

/// Gathers processes: those with these PIDs, each with its descendants, or all of them.
///
/// # Errors
/// There is no /proc.
pub fn gather(ids: Option<&[u32]>) -> io::Result<Gathered> {
    let mut gathered = Gathered::default();
    let mut seen_libraries = HashMap::new();
    let here = place("self");
    let mut descriptors = Vec::new();
    let mut budget = MOST_DESCRIPTORS;
    for id in family(ids)? {
        let process = Process::of(id, &mut seen_libraries)
            .and_then(|process| Ok((process, Descriptors::of(id, &mut budget)?)));
        match process {
            Ok((mut process, sockets)) => {
                process.is_elsewhere = place(&id.to_string()) != here;
                if sockets.is_cut {
                    process.cut.push("its descriptors");
                }
                gathered.processes.push(process);
                descriptors.push(sockets);
            }
            Err(error) => gathered.unseen.push(Unseen { id, error }),
        }
    }
    let mut places: Vec<_> = (0..gathered.processes.len()).collect();
    look_at_sockets(&mut gathered.processes, &places, &descriptors);
    places.retain(|&place| gathered.processes.get(place).is_some_and(Process::is_undecided));
    if !places.is_empty() {
        sleep(SECOND_LOOK);
        let mut asked = HashMap::new();
        for &place in &places {
            let process = &mut gathered.processes[place];
            let questions = std::mem::take(&mut process.questions);
            asked.insert(
                place,
                questions.into_iter().map(|question| question.inode).collect::<HashSet<_>>(),
            );
            let mut budget = MOST_DESCRIPTORS;
            descriptors[place] = Descriptors::of(process.id, &mut budget).unwrap_or_default();
        }
        look_at_sockets(&mut gathered.processes, &places, &descriptors);
        for (place, asked) in asked {
            gathered.processes[place].questions.retain(|question| asked.contains(&question.inode));
        }
    }
    let end = Instant::now() + QUESTIONS;
    for process in gathered.processes.iter_mut().take_while(|_| Instant::now() < end) {
        process.names = names::of_silent_peers(process);
        process.server = names::probe(process);
    }
    Ok(gathered)
}

/// The processes with these PIDs and their descendants, parents first; all processes, if there are none.
pub fn family(ids: Option<&[u32]>) -> io::Result<Vec<u32>> {
    let mut all: Vec<u32> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        all.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    all.sort_unstable();
    let Some(ids) = ids else { return Ok(all) };
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for id in all {
        let stat = read_bounded(format!("/proc/{id}/stat"), 4096).map(|(stat, _)| stat);
        if let Some(parent) = stat.ok().and_then(|stat| kernel::parent(&stat)) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut family: Vec<u32> = Vec::new();
    let mut known = HashSet::new();
    for &id in ids {
        let first = family.len();
        family.extend(known.insert(id).then_some(id));
        let mut next = first;
        while let Some(id) = family.get(next) {
            let of_parent = children.get(id).into_iter().flatten().copied();
            family.extend(of_parent.filter(|id| known.insert(*id)).collect::<Vec<_>>());
            next += 1;
        }
    }
    Ok(family)
}

/// Adds the sockets to these processes. Each network namespace is asked once.
fn look_at_sockets(processes: &mut [Process], places: &[usize], descriptors: &[Descriptors]) {
    let mut networks: HashMap<u64, Vec<usize>> = HashMap::new();
    for &place in places {
        if descriptors[place].inodes().next().is_some()
            && let Ok(network) = sockets::network_of(processes[place].id)
        {
            networks.entry(network).or_default().push(place);
        } else {
            processes[place].connections.clear();
        }
    }
    for places in networks.into_values() {
        let wanted: HashSet<u64> =
            places.iter().flat_map(|&place| descriptors[place].inodes()).collect();
        let Some(&first) = places.first() else { continue };
        let table = Table::of(processes[first].id, &wanted);
        for place in places {
            let process = &mut processes[place];
            process.connections = table.connections(&descriptors[place]);
            process.questions = table.questions(&descriptors[place]);
            if table.is_cut && !process.cut.contains(&"the table of sockets") {
                process.cut.push("the table of sockets");
            }
        }
    }
}

/// The libraries that were looked at before, by device and number of the file.
type SeenLibraries = HashMap<(Vec<u8>, u64), Option<Version>>;

impl Process {
    /// Looks at a process. If it starts another program meanwhile, looks again.
    fn of(id: u32, seen: &mut SeenLibraries) -> io::Result<Self> {
        let file = || fs::read_link(format!("/proc/{id}/exe"));
        for _ in 0..3 {
            let before = file()?;
            let process = Self::look(id, before.clone().into_os_string().into_vec(), seen)?;
            if file()? == before {
                return Ok(process);
            }
        }
        Err(io::Error::other("it keeps starting other programs"))
    }

    fn look(id: u32, file: Vec<u8>, seen: &mut SeenLibraries) -> io::Result<Self> {
        let mut cut = Vec::new();
        let mut read = |name: &str, longest, what| {
            let (bytes, is_cut) = read_bounded(format!("/proc/{id}/{name}"), longest)?;
            if is_cut {
                cut.push(what);
            }
            io::Result::Ok(bytes)
        };
        let maps = read("maps", LONGEST_MAPS, "its mapped files")?;
        let environ = read("environ", LONGEST_ENVIRONMENT, "its environment")?;
        let command_line =
            read("cmdline", LONGEST_COMMAND_LINE, "its command line").unwrap_or_default();
        let auxiliary = read("auxv", 4096, "its auxiliary vector").unwrap_or_default();
        let elf = File::open(format!("/proc/{id}/exe"))
            .ok()
            .and_then(|file| Elf::read(|at, length| library::read_at(&file, at, length)));
        let is_wide = elf.as_ref().is_none_or(|elf| elf.architecture.is_wide);
        let words: Vec<_> = command_line
            .strip_suffix(b"\0")
            .unwrap_or(&command_line)
            .split(|&byte| byte == 0)
            .map(<[u8]>::to_vec)
            .collect();
        let is_overwritten = kernel::is_overwritten(&environ);
        let entries = if is_overwritten { &[][..] } else { &environ[..] };
        let environment = Environment::of_bytes(&ours(entries));
        let library = find_library(id, &maps, seen);
        let named = if library.is_some() { None } else { named(id, &maps, &environment) };
        Ok(Self {
            id,
            library,
            named,
            hosts: names::candidates(id, &words, entries, &environment),
            file,
            words,
            elf,
            is_secure: kernel::auxiliary(&auxiliary, is_wide, kernel::AT_SECURE) == Some(1),
            environment,
            is_overwritten,
            is_elsewhere: false,
            connections: Vec::new(),
            questions: Vec::new(),
            server: None,
            names: Vec::new(),
            cut,
        })
    }

    /// The base name of its file.
    pub fn name(&self) -> &[u8] {
        let file = self.file.strip_suffix(b" (deleted)").unwrap_or(&self.file);
        file.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// Whether a second look will tell more.
    fn is_undecided(&self) -> bool {
        !self.questions.is_empty()
            || self
                .connections
                .iter()
                .any(|connection| connection.is_connecting() && connection.socket.retries == 0)
    }
}

/// The variables that matter here, as /proc/PID/environ has them.
fn ours(environ: &[u8]) -> Vec<u8> {
    let matters =
        |entry: &&[u8]| entry.starts_with(b"EGRESS_SHIM") || entry.starts_with(b"LD_PRELOAD=");
    environ.split(|&byte| byte == 0).filter(matters).collect::<Vec<_>>().join(&0)
}

/// The root directory and the mounts that a process sees.
fn place(process: &str) -> (Option<(u64, u64)>, Option<u64>) {
    let root = fs::metadata(format!("/proc/{process}/root/."));
    let mounts = fs::metadata(format!("/proc/{process}/ns/mnt"));
    (root.ok().map(|root| (root.dev(), root.ino())), mounts.ok().map(|mounts| mounts.ino()))
}

/// The library that the `LD_PRELOAD` of a process names.
fn named(id: u32, maps: &[u8], environment: &Environment) -> Option<Named> {
    let preload = environment.last("LD_PRELOAD").unwrap_or_default();
    let entry = library::entries(preload).find(|entry| library::is_ours(entry))?;
    let entry = Path::new(OsStr::from_bytes(entry));
    // The process's dynamic loader, if it is glibc's. musl's loader is its libc, mostly under another name.
    let loader = maps.split(|&byte| byte == b'\n').filter_map(Mapping::of).find_map(|mapping| {
        let path = Path::new(OsStr::from_bytes(mapping.path));
        let name = path.file_name()?.as_bytes();
        (name.starts_with(b"ld-") && !loader::is_musl(path)).then_some(path)
    });
    let path = loader::expanded_by(entry, loader).into_os_string().into_vec();
    let there = [format!("/proc/{id}/root").as_bytes(), &path].concat();
    let elf = if path.starts_with(b"/") {
        program::elf_of(Path::new(OsStr::from_bytes(&there)))
    } else {
        None
    };
    Some(Named { path, architecture: elf.map(|elf| elf.architecture) })
}

/// The library in a process, if it is there.
pub fn library_in(id: u32) -> Option<Library> {
    let (maps, _) = read_bounded(format!("/proc/{id}/maps"), LONGEST_MAPS).ok()?;
    find_library(id, &maps, &mut HashMap::new())
}

/// The library among the executable mappings of a process. The mapping is read from the memory of the process, which is
/// right even if the file is gone or has been replaced. If that is not allowed, the file is read.
fn find_library(id: u32, maps: &[u8], seen: &mut SeenLibraries) -> Option<Library> {
    let mappings: Vec<_> = maps.split(|&byte| byte == b'\n').filter_map(Mapping::of).collect();
    let mut memory = None;
    let mut looked_at = HashSet::new();
    for mapping in mappings.iter().filter(|mapping| mapping.is_executable) {
        if !looked_at.insert((mapping.device, mapping.inode)) {
            continue;
        }
        let key = (mapping.device.to_vec(), mapping.inode);
        let version = seen.entry(key).or_insert_with(|| {
            let is_start = |start: &&Mapping| {
                start.offset == 0 && (start.device, start.inode) == (mapping.device, mapping.inode)
            };
            let start = mappings.iter().find(is_start)?.start;
            let memory = memory.get_or_insert_with(|| File::open(format!("/proc/{id}/mem")).ok());
            let in_memory =
                memory.as_ref().filter(|memory| library::read_at(memory, start, 4).is_some());
            if let Some(memory) = in_memory {
                library::identify(mapping.path, |at, length| {
                    library::read_at(memory, start.saturating_add(at), length)
                })
            } else {
                let path = [format!("/proc/{id}/root").as_bytes(), mapping.path].concat();
                let path = Path::new(OsStr::from_bytes(&path));
                let is_it = fs::metadata(path).is_ok_and(|file| file.ino() == mapping.inode);
                is_it.then(|| library::version_of(path))?
            }
        });
        if let Some(version) = version {
            let gone = mapping.path.strip_suffix(b" (deleted)");
            let whole = [format!("/proc/{id}/root").as_bytes(), mapping.path].concat();
            let is_there = fs::metadata(OsStr::from_bytes(&whole)).is_ok();
            let is_deleted = gone.is_some() && !is_there;
            let path = gone.filter(|_| is_deleted).unwrap_or(mapping.path).to_vec();
            return Some(Library { path, version: version.clone(), is_deleted });
        }
    }
    None
}

/// Reads a file up to a bound. Returns whether there is more.
pub fn read_bounded(path: impl AsRef<Path>, longest: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    let is_cut = bytes.len() as u64 > longest;
    bytes.truncate(usize::try_from(longest).unwrap_or(usize::MAX));
    Ok((bytes, is_cut))
}

/// The reason why a process cannot be seen, and what would help.
pub fn why_unseen(unseen: &Unseen) -> String {
    let Unseen { id, error } = unseen;
    let directory = fs::metadata(format!("/proc/{id}"));
    // SAFETY: geteuid(2) always succeeds.
    let own_user = unsafe { libc::geteuid() };
    match (error.kind(), directory) {
        (io::ErrorKind::PermissionDenied, Ok(directory)) if directory.uid() == own_user => format!(
            "process {id} cannot be seen without the privilege CAP_SYS_PTRACE, as in: docker exec --privileged"
        ),
        (io::ErrorKind::PermissionDenied, Ok(directory)) => {
            let user = directory.uid();
            format!(
                "process {id} belongs to user {user}: run this as that user, or with the privilege CAP_SYS_PTRACE, \
                 as in: docker exec --user {user} or --privileged"
            )
        }
        (_, Err(_)) if !Path::new("/proc/self").exists() => {
            "--inspect needs /proc, which is not mounted here".to_owned()
        }
        (_, Err(_)) => format!("there is no process {id} here"),
        (io::ErrorKind::NotFound, Ok(_)) => {
            format!("process {id} runs no program: it has ended, or is a kernel thread")
        }
        (_, Ok(_)) => format!("process {id} cannot be seen: {error}"),
    }
}
