//! The judge of `--check`: it turns the observations of a host into one [`State`], and each state into a finding. Pure.

use std::net::IpAddr;
use std::time::Duration;

use libc::c_int;

use crate::attempts::{Attempt, Family, Outcome};
use crate::finding::{Finding, Severity};
use crate::nameservers::{NameServer, Reply};
use crate::target::Target;
use crate::trial::{Answer, Lookup};

/// The observations of a host.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The host and the port.
    pub target: Target,
    /// Whether the settings list it.
    pub is_listed: bool,
    /// The pattern that decided.
    pub rule: Option<String>,
    /// libc's own lookup.
    pub without: Answer,
    /// The lookup of the program, with the library if it is loaded there.
    pub with: Answer,
    /// The addresses that were tried, of both lookups.
    pub tried: Vec<Attempt>,
    /// The replies of the name servers, if they were asked.
    pub servers: Vec<NameServer>,
    /// The service of the container: its PID, and whether its library lists the host.
    pub service: Option<(u32, Service)>,
}

/// The relation of a container's service to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Lists,
    DoesNotList,
    HasNoLibrary,
}

/// The relation of the library to COMMAND.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Why COMMAND does not load the library.
    pub not_loaded: Option<String>,
    /// The way to let COMMAND load the library.
    pub fix: Option<&'static str>,
    /// The option that makes the library act in a program that `EGRESS_SHIM_PROGRAMS` leaves out.
    pub way_in: Option<String>,
}

/// The conclusion from the lookups and the attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// This address is the first that answers, and no address before it is silent.
    Reached(IpAddr),
    /// The same over IPv4. IPv6 is silent, but comes later in this lookup.
    ReachedBesideBlackHole,
    /// IPv6 is tried first and is silent, and IPv4 answers.
    BlackHole,
    /// The same, but IPv4 refuses the port.
    BlackHoleAndRefused,
    /// The same, and some IPv4 addresses are silent before one answers.
    BlackHoleAndSilent(Vec<IpAddr>),
    /// Silent addresses are tried before one that answers.
    AddressesSilent(Vec<IpAddr>, IpAddr),
    /// No IPv4 address answers, but an IPv6 address, which the list leaves out, does.
    Ipv4Fails,
    Refused,
    Silent,
    /// An IPv6 address was given in place of a name.
    SilentIpv6Address,
    Unreachable(String),
    /// The listed host has none, and whether it can be reached over IPv6.
    NoIpv4Address(bool),
    NoSuchName,
    NoAddress,
    /// Name servers answer, but libc does not ask them.
    NotAsked,
    /// The reason why no name server gives an answer.
    NoNameServer(String),
}

/// The state that follows from the observations of a host.
pub fn state(seen: &Seen) -> State {
    match &seen.with.lookup {
        Lookup::Addresses(addresses) => by_attempts(seen, addresses),
        _ if matches!(seen.without.lookup, Lookup::Addresses(_)) => {
            State::NoIpv4Address(Family::of(&seen.tried, false) == Family::Connected)
        }
        Lookup::Silent => by_servers(None, &seen.servers),
        Lookup::Error(code, _) => by_servers(Some(*code), &seen.servers),
    }
}

fn by_attempts(seen: &Seen, addresses: &[IpAddr]) -> State {
    let of_program: Vec<_> = addresses
        .iter()
        .filter_map(|address| seen.tried.iter().find(|attempt| attempt.address == *address))
        .collect();
    let first =
        of_program.iter().position(|attempt| matches!(attempt.outcome, Outcome::Connected(_)));
    let any = |outcome: &Outcome| of_program.iter().any(|attempt| attempt.outcome == *outcome);
    let is_silent = |attempt: &&&Attempt| attempt.outcome == Outcome::Silent;
    let ipv6 = Family::of(&seen.tried, false);
    let Some(first) = first else {
        let is_black_hole =
            of_program.iter().any(|attempt| attempt.address.is_ipv6() && is_silent(&attempt));
        return if ipv6 == Family::Connected {
            State::Ipv4Fails
        } else if any(&Outcome::Refused) && is_black_hole {
            State::BlackHoleAndRefused
        } else if any(&Outcome::Refused) {
            State::Refused
        } else if any(&Outcome::Silent) {
            match seen.target.host.parse() {
                Ok(IpAddr::V6(_)) => State::SilentIpv6Address,
                _ => State::Silent,
            }
        } else {
            State::Unreachable(reasons(&of_program))
        };
    };
    let reached = of_program[first].address;
    let before = of_program[..first].iter().filter(is_silent).map(|attempt| attempt.address);
    let (silent4, silent6): (Vec<_>, Vec<_>) = before.partition(IpAddr::is_ipv4);
    // One IPv6 address that answers shows that the others are dead, not IPv6.
    let is_black_hole = !silent6.is_empty() && ipv6 != Family::Connected;
    match (is_black_hole, silent4.is_empty()) {
        (true, true) => State::BlackHole,
        (true, false) => State::BlackHoleAndSilent(silent4),
        (false, _) if !silent4.is_empty() || !silent6.is_empty() => {
            State::AddressesSilent([silent6, silent4].concat(), reached)
        }
        _ if !seen.is_listed && ipv6 == Family::Silent => State::ReachedBesideBlackHole,
        _ => State::Reached(reached),
    }
}

fn reasons(tried: &[&Attempt]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for attempt in tried {
        if let Outcome::Unreachable(reason) = &attempt.outcome
            && !reasons.contains(&reason.as_str())
        {
            reasons.push(reason);
        }
    }
    reasons.join(", ")
}

/// The state of a lookup that has failed with this code, or did not answer (`None`).
fn by_servers(code: Option<c_int>, servers: &[NameServer]) -> State {
    let answers: Vec<_> = servers
        .iter()
        .filter_map(|server| match server.reply {
            Reply::Answer { code, answers, .. } => Some((code, answers)),
            _ => None,
        })
        .collect();
    let said = || servers.iter().map(|server| format!("the name server {server}"));
    let is_missing = matches!(code, Some(libc::EAI_NONAME | libc::EAI_NODATA));
    match answers.first() {
        None if !servers.is_empty() => {
            State::NoNameServer(said().collect::<Vec<_>>().join(", and "))
        }
        None if code == Some(libc::EAI_NONAME) => State::NoSuchName,
        None if code == Some(libc::EAI_NODATA) => State::NoAddress,
        None => State::NoNameServer("the lookup fails".to_owned()),
        Some((3, _)) => State::NoSuchName,
        Some((0, 0)) if is_missing => State::NoAddress,
        Some((0, 1..)) if is_missing => State::NotAsked,
        Some((0, _)) => {
            let slow =
                servers.iter().filter(|server| !matches!(server.reply, Reply::Answer { .. }));
            let slow: Vec<_> = slow.map(|server| format!("the name server {server}")).collect();
            State::NoNameServer(if slow.is_empty() {
                "the lookup fails, though a name server answers for IPv4".to_owned()
            } else {
                slow.join(", and ")
            })
        }
        Some(_) => State::NoNameServer(said().collect::<Vec<_>>().join(", and ")),
    }
}

/// The words for a reachable host in the last line; `None` if it is not reachable.
pub fn reached(seen: &Seen) -> Option<String> {
    let host = &seen.target.host;
    match state(seen) {
        State::Reached(address) => Some(format!("{host} is reached over {}", family(address))),
        State::ReachedBesideBlackHole => Some(format!("{host} is reached over IPv4")),
        _ => None,
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The findings about a host.
pub fn findings(seen: &Seen, standing: &Standing) -> Vec<Finding> {
    [of_state(seen, standing), of_slow_lookup(seen), of_service(seen)]
        .into_iter()
        .flatten()
        .collect()
}

/// A row of the table: the code, the severity, the sentence and the action.
type Row = (&'static str, Severity, String, String);

/// The table of states.
#[allow(clippy::too_many_lines, reason = "it is a table")]
fn row(seen: &Seen, standing: &Standing) -> Option<Row> {
    use Severity::{Error, Note, Warning};
    let (host, port) = (&seen.target.host, seen.target.port);
    let fix = fix(seen, standing);
    let unlist = format!("take it off the list, or add --ipv4-only '!{host}'");
    let text = str::to_owned;
    Some(match state(seen) {
        State::Reached(_) => return None,
        State::ReachedBesideBlackHole => (
            "ipv6-black-hole",
            Note,
            text("IPv6 is a black hole for programs that try it first"),
            fix,
        ),
        State::BlackHole => ("ipv6-black-hole", Error, text("IPv6 is a black hole"), fix),
        State::BlackHoleAndRefused => (
            "ipv6-black-hole",
            Error,
            format!("IPv6 is a black hole, and IPv4 refuses port {port} (is the port right?)"),
            fix,
        ),
        State::BlackHoleAndSilent(addresses) => (
            "ipv6-black-hole",
            Error,
            format!("IPv6 is a black hole, and over IPv4 {}", do_not_answer(&addresses)),
            fix,
        ),
        State::AddressesSilent(addresses, reached) => (
            "address-silent",
            Warning,
            format!(
                "reached over {}, but only after a wait: {}",
                family(reached),
                do_not_answer(&addresses)
            ),
            text(
                "no setting can leave out a single address: ask the host's owner, or look for a firewall",
            ),
        ),
        State::Ipv4Fails => (
            "ipv4-fails",
            Error,
            text("cannot be reached over IPv4 from here, but can over IPv6"),
            unlist,
        ),
        State::Refused => (
            "port-refused",
            Error,
            format!("refuses connections to port {port}: is the port right?"),
            text(""),
        ),
        State::Silent => (
            "host-silent",
            Error,
            format!(
                "does not answer on port {port}: is there a firewall in between, or no route back?"
            ),
            text(""),
        ),
        State::SilentIpv6Address => (
            "host-silent",
            Error,
            format!("does not answer on port {port}"),
            text("if IPv6 is a black hole here, give the host's name instead, and list that"),
        ),
        State::Unreachable(why) => {
            ("host-unreachable", Error, format!("cannot be reached from here: {why}"), text(""))
        }
        State::NoIpv4Address(true) => (
            "no-ipv4-address",
            Error,
            text("has no IPv4 address, but can be reached over IPv6"),
            unlist,
        ),
        State::NoIpv4Address(false) => (
            "no-ipv4-address",
            Error,
            text("has no IPv4 address, and cannot be reached over IPv6 from here"),
            text(""),
        ),
        State::NoSuchName => (
            "no-such-name",
            Error,
            text("the name does not exist: is it spelled correctly?"),
            text(""),
        ),
        State::NoAddress => (
            "no-address",
            Error,
            text("the name has no address: is it spelled correctly?"),
            text(""),
        ),
        State::NotAsked => (
            "name-server-not-asked",
            Error,
            text("a name server knows the name, but libc does not ask it"),
            text("see the line \"hosts:\" in /etc/nsswitch.conf"),
        ),
        State::NoNameServer(why) => (
            "name-server",
            Error,
            format!("{why}, so it is not known whether the name exists"),
            text("see /etc/resolv.conf"),
        ),
    })
}

/// The finding about a state, adapted to COMMAND and to a container's service.
fn of_state(seen: &Seen, standing: &Standing) -> Option<Finding> {
    let host = &seen.target.host;
    let (code, severity, sentence, action) = row(seen, standing)?;
    let is_black_hole = code == "ipv6-black-hole";
    let (severity, sentence, action) = match (&standing.not_loaded, &seen.service) {
        (Some(why), _) if is_black_hole => (severity, format!("{sentence}, and {why}"), action),
        (None, Some((id, Service::Lists))) if is_black_hole => (
            severity.min(Severity::Warning),
            format!("{sentence} for this shell; the service, PID {id}, lists it"),
            String::new(),
        ),
        (None, Some((id, Service::DoesNotList))) if is_black_hole => (
            severity,
            format!("{sentence}, and the service, PID {id}, does not list it either"),
            action,
        ),
        (None, Some((id, Service::HasNoLibrary))) if is_black_hole => (
            severity,
            format!("{sentence}, and the service, PID {id}, runs without the library"),
            format!("start the service with: egress-shim --ipv4-only {host} -- COMMAND"),
        ),
        _ => (severity, sentence, action),
    };
    Some(Finding { code, severity, subject: host.clone(), sentence, action })
}

fn do_not_answer(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let verb = if texts.len() == 1 { "does" } else { "do" };
    format!("{} {verb} not answer", texts.join(", "))
}

/// The action that takes the host's IPv6 addresses away from the program.
fn fix(seen: &Seen, standing: &Standing) -> String {
    let host = &seen.target.host;
    if let Some(fix) = standing.fix {
        return if seen.is_listed {
            fix.to_owned()
        } else {
            format!("{fix}, and add --ipv4-only {host}")
        };
    }
    if standing.not_loaded.is_some() {
        let mut ipv4 = seen.tried.iter().filter(|attempt| attempt.address.is_ipv4());
        let answers = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Connected(_));
        return match ipv4.clone().find(answers).or_else(|| ipv4.next()) {
            Some(Attempt { address, .. }) => format!(
                "put '{address} {host}' into the program's /etc/hosts, as docker run --add-host {host}:{address} does"
            ),
            None => {
                "turn IPv6 off in its network: docker run --sysctl net.ipv6.conf.all.disable_ipv6=1"
                    .to_owned()
            }
        };
    }
    match (&standing.way_in, &seen.rule) {
        (Some(way_in), _) if seen.is_listed => way_in.clone(),
        (Some(way_in), _) => format!("{way_in}, and add --ipv4-only {host}"),
        (None, Some(rule)) if !seen.is_listed => {
            format!("take {rule} out of the list, and add --ipv4-only {host}")
        }
        _ => format!("add --ipv4-only {host}"),
    }
}

/// The finding for a lookup that waits for a name server. A busy machine alone is not a finding.
fn of_slow_lookup(seen: &Seen) -> Option<Finding> {
    let is_found = matches!(seen.with.lookup, Lookup::Addresses(_));
    let mut servers = seen.servers.iter();
    let server = servers.find(|server| !matches!(server.reply, Reply::Answer { .. }));
    let server = server.filter(|_| is_found && seen.with.time >= SLOW)?;
    let tenths = seen.with.time.as_millis() / 100;
    Some(Finding {
        code: "name-server-slow",
        severity: Severity::Warning,
        subject: seen.target.host.clone(),
        sentence: format!(
            "the lookup took {}.{} s: the name server {server}",
            tenths / 10,
            tenths % 10
        ),
        action: "take it out of /etc/resolv.conf".to_owned(),
    })
}

/// A lookup that takes longer has waited for a name server: the command then asks the name servers itself.
pub const SLOW: Duration = Duration::from_secs(1);

/// A host that this shell lists and the service does not.
fn of_service(seen: &Seen) -> Option<Finding> {
    let (id, service) = seen.service?;
    let is_behind = seen.is_listed && Family::of(&seen.tried, false) == Family::Silent;
    let why = match service {
        Service::Lists => return None,
        Service::DoesNotList => "does not list it",
        Service::HasNoLibrary => "runs without the library",
    };
    is_behind.then(|| Finding {
        code: "service-differs",
        severity: Severity::Warning,
        subject: seen.target.host.clone(),
        sentence: format!("listed for this shell, but the service, PID {id}, {why}"),
        action: format!("start the service with --ipv4-only {}", seen.target.host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "198.51.100.2";
    const B: &str = "198.51.100.11";
    const V6: &str = "2001:db8:2::2";
    const V6B: &str = "2001:db8:2::3";

    fn answer(addresses: &[&str]) -> Answer {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Answer { lookup: Lookup::Addresses(addresses), time: Duration::ZERO, keepalive: None }
    }

    fn failed(lookup: Lookup) -> Answer {
        Answer { lookup, time: Duration::ZERO, keepalive: None }
    }

    /// `+` connected, `-` silent, `x` refused, `!` unreachable.
    fn tried(outcomes: &[(&str, char)]) -> Vec<Attempt> {
        let attempt = |(address, outcome): &(&str, char)| Attempt {
            address: address.parse().unwrap(),
            port: 80,
            outcome: match outcome {
                '+' => Outcome::Connected(Duration::ZERO),
                '-' => Outcome::Silent,
                'x' => Outcome::Refused,
                _ => Outcome::Unreachable("Network is unreachable".to_owned()),
            },
        };
        outcomes.iter().map(attempt).collect()
    }

    /// A host, with what comes of its addresses in libc's order.
    fn seen(is_listed: bool, outcomes: &[(&str, char)]) -> Seen {
        let all: Vec<_> = outcomes.iter().map(|(address, _)| *address).collect();
        let ipv4: Vec<_> = all.iter().copied().filter(|address| !address.contains(':')).collect();
        Seen {
            target: Target { host: "h.test".to_owned(), port: 80 },
            is_listed,
            rule: is_listed.then(|| "h.test".to_owned()),
            without: answer(&all),
            with: answer(if is_listed { &ipv4 } else { &all }),
            tried: tried(outcomes),
            servers: Vec::new(),
            service: None,
        }
    }

    fn line(seen: &Seen) -> String {
        let found = findings(seen, &Standing::default());
        found.first().map(Finding::line).or_else(|| reached(seen)).unwrap_or_default()
    }

    type Outcomes<'a> = &'a [(&'a str, char)];

    #[test]
    fn each_outcome_of_the_attempts_has_its_line() {
        let hole = "h.test: IPv6 is a black hole";
        let add = "add --ipv4-only h.test";
        let wait = "but only after a wait";
        let ask = "no setting can leave out a single address: ask the host's owner, or look for a firewall";
        let rows: &[(bool, Outcomes, String)] = &[
            (false, &[(A, '+')], "h.test is reached over IPv4".to_owned()),
            (false, &[(V6, '+'), (A, '+')], "h.test is reached over IPv6".to_owned()),
            (true, &[(V6, '-'), (A, '+')], "h.test is reached over IPv4".to_owned()),
            (false, &[(V6, 'x'), (A, '+')], "h.test is reached over IPv4".to_owned()),
            (false, &[(V6, '!'), (A, '+')], "h.test is reached over IPv4".to_owned()),
            (false, &[(V6, '-'), (A, '+')], format!("{hole}; {add}")),
            (false, &[(A, '+'), (V6, '-')], format!("{hole} for programs that try it first; {add}")),
            (false, &[(V6, '-'), (A, 'x')], format!("{hole}, and IPv4 refuses port 80 (is the port right?); {add}")),
            (false, &[(V6, '-'), (B, '-'), (A, '+')], format!("{hole}, and over IPv4 {B} does not answer; {add}")),
            // A dead IPv4 address of a listed host is no black hole.
            (true, &[(V6, '-'), (B, '-'), (A, '+')], format!("h.test: reached over IPv4, {wait}: {B} does not answer; {ask}")),
            (false, &[(V6, '-'), (V6B, '+'), (A, '+')], format!("h.test: reached over IPv6, {wait}: {V6} does not answer; {ask}")),
            (false, &[(V6, '-'), (B, '-'), (V6B, '+')], format!("h.test: reached over IPv6, {wait}: {V6}, {B} do not answer; {ask}")),
            (true, &[(V6, '+'), (A, 'x')], "h.test: cannot be reached over IPv4 from here, but can over IPv6; take it off the list, or add --ipv4-only '!h.test'".to_owned()),
            (true, &[(V6, '-'), (A, 'x')], "h.test: refuses connections to port 80: is the port right?".to_owned()),
            (false, &[(B, '-'), (A, 'x')], "h.test: refuses connections to port 80: is the port right?".to_owned()),
            (false, &[(V6, '-'), (A, '-')], "h.test: does not answer on port 80: is there a firewall in between, or no route back?".to_owned()),
            (false, &[(V6, '!'), (A, '!')], "h.test: cannot be reached from here: Network is unreachable".to_owned()),
        ];
        for (is_listed, outcomes, wanted) in rows {
            assert_eq!(line(&seen(*is_listed, outcomes)), *wanted, "{is_listed} {outcomes:?}");
        }
    }

    #[test]
    fn an_ipv6_address_is_no_name_to_list() {
        let mut seen = seen(false, &[(V6, '-')]);
        seen.target.host = V6.to_owned();
        assert!(line(&seen).ends_with(
            "; if IPv6 is a black hole here, give the host's name instead, and list that"
        ));
    }

    #[test]
    fn the_cure_names_what_stands_in_the_way() {
        let mut hole = seen(false, &[(V6, '-'), (A, '+')]);
        let action = |seen: &Seen, standing: &Standing| findings(seen, standing)[0].action.clone();
        let left_out =
            Standing { way_in: Some("add --program app".to_owned()), ..Standing::default() };
        assert_eq!(action(&hole, &left_out), "add --program app, and add --ipv4-only h.test");
        hole.rule = Some("!h.test".to_owned());
        let take = "take !h.test out of the list, and add --ipv4-only h.test";
        assert_eq!(action(&hole, &Standing::default()), take);
        hole.is_listed = true;
        assert_eq!(action(&hole, &left_out), "add --program app");
        let not_loaded =
            Standing { not_loaded: Some("app is static".to_owned()), ..Standing::default() };
        let line = findings(&hole, &not_loaded)[0].line();
        assert_eq!(
            line,
            "h.test: IPv6 is a black hole, and app is static; put '198.51.100.2 h.test' into the program's /etc/hosts, \
             as docker run --add-host h.test:198.51.100.2 does"
        );
    }

    #[test]
    fn the_service_of_a_container_is_told_from_its_shell() {
        let mut hole = seen(false, &[(V6, '-'), (A, '+')]);
        hole.service = Some((1, Service::Lists));
        assert_eq!(
            line(&hole),
            "h.test: IPv6 is a black hole for this shell; the service, PID 1, lists it"
        );
        hole.service = Some((1, Service::DoesNotList));
        assert_eq!(
            line(&hole),
            "h.test: IPv6 is a black hole, and the service, PID 1, does not list it either; add --ipv4-only h.test"
        );
        hole.service = Some((7, Service::HasNoLibrary));
        assert_eq!(
            line(&hole),
            "h.test: IPv6 is a black hole, and the service, PID 7, runs without the library; start the service with: egress-shim --ipv4-only h.test -- COMMAND"
        );
        let mut listed = seen(true, &[(V6, '-'), (A, '+')]);
        listed.service = Some((1, Service::DoesNotList));
        assert_eq!(
            line(&listed),
            "h.test: listed for this shell, but the service, PID 1, does not list it; start the service with --ipv4-only h.test"
        );
        listed.service = Some((1, Service::Lists));
        assert_eq!(line(&listed), "h.test is reached over IPv4");
    }

    #[test]
    fn a_listed_host_without_ipv4_is_told_from_a_name_that_is_missing() {
        let mut seen = seen(true, &[(V6, '+')]);
        seen.with = failed(Lookup::Error(libc::EAI_NODATA, 0));
        assert_eq!(
            line(&seen),
            "h.test: has no IPv4 address, but can be reached over IPv6; take it off the list, or add --ipv4-only '!h.test'"
        );
        seen.tried = tried(&[(V6, '-')]);
        assert_eq!(
            line(&seen),
            "h.test: has no IPv4 address, and cannot be reached over IPv6 from here"
        );
    }

    #[test]
    fn a_missing_name_and_each_failure_of_a_name_server_have_their_own_words() {
        let reply = |code, answers| Reply::Answer { code, answers, time: Duration::ZERO };
        let none = Lookup::Error(libc::EAI_NONAME, 0);
        let again = Lookup::Error(libc::EAI_AGAIN, 0);
        let unknown = ", so it is not known whether the name exists; see /etc/resolv.conf";
        for (lookup, replies, wanted) in [
            (none.clone(), vec![reply(3, 0)], "the name does not exist: is it spelled correctly?".to_owned()),
            (none.clone(), vec![], "the name does not exist: is it spelled correctly?".to_owned()),
            (Lookup::Error(libc::EAI_NODATA, 0), vec![reply(0, 0)], "the name has no address: is it spelled correctly?".to_owned()),
            (Lookup::Error(libc::EAI_NODATA, 0), vec![], "the name has no address: is it spelled correctly?".to_owned()),
            (none.clone(), vec![reply(0, 2)], "a name server knows the name, but libc does not ask it; see the line \"hosts:\" in /etc/nsswitch.conf".to_owned()),
            (again.clone(), vec![reply(2, 0)], format!("the name server 192.0.2.1 cannot look the name up (SERVFAIL), in 0 ms{unknown}")),
            (again.clone(), vec![reply(5, 0)], format!("the name server 192.0.2.1 refuses to look names up for this machine (REFUSED), in 0 ms{unknown}")),
            (again.clone(), vec![Reply::Refused], format!("the name server 192.0.2.1 refuses: nothing listens on its port 53{unknown}")),
            // glibc says of some of these that the name does not exist.
            (none, vec![Reply::Refused], format!("the name server 192.0.2.1 refuses: nothing listens on its port 53{unknown}")),
            (Lookup::Silent, vec![Reply::Silent], format!("the name server 192.0.2.1 did not answer within 2 s{unknown}")),
            (Lookup::Silent, vec![Reply::Unreachable("Network is unreachable".to_owned())], format!("the name server 192.0.2.1 cannot be reached: Network is unreachable{unknown}")),
            (Lookup::Silent, vec![Reply::Silent, reply(0, 1)], format!("the name server 192.0.2.1 did not answer within 2 s{unknown}")),
            (again.clone(), vec![reply(0, 0)], format!("the lookup fails, though a name server answers for IPv4{unknown}")),
            (again, vec![], format!("the lookup fails{unknown}")),
        ] {
            let mut seen = seen(false, &[]);
            (seen.with, seen.without) = (failed(lookup.clone()), failed(lookup));
            let servers = replies.into_iter().zip(1..);
            seen.servers = servers
                .map(|(reply, last)| NameServer { address: IpAddr::from([192, 0, 2, last]), reply })
                .collect();
            assert_eq!(line(&seen), format!("h.test: {wanted}"), "{:?}", seen.servers);
        }
    }

    #[test]
    fn a_lookup_that_waits_for_a_name_server_is_a_wait() {
        let mut seen = seen(false, &[(A, '+')]);
        seen.with.time = Duration::from_millis(5040);
        assert_eq!(line(&seen), "h.test is reached over IPv4", "a busy machine");
        seen.servers =
            vec![NameServer { address: IpAddr::from([192, 0, 2, 1]), reply: Reply::Silent }];
        let wanted = "h.test: the lookup took 5.0 s: the name server 192.0.2.1 did not answer within 2 s; take it out of /etc/resolv.conf";
        assert_eq!(line(&seen), wanted);
        seen.with.time = Duration::from_millis(900);
        assert_eq!(line(&seen), "h.test is reached over IPv4");
    }
}
