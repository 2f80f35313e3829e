//! The control: every promise is tried with a library that does nothing (the environment `nothing` of the harness), and
//! fails. A test that passes there does not show that the library acted. That is right for a promise which is negative
//! by nature, and each of those is named here with its reason.

use std::collections::BTreeSet;
use std::env;
use std::process::{Command, Stdio};

use crate::harness::environment::{CHOICE, NOT_CHOSEN};

/// The promises that hold with a library that does nothing, and why they may.
const NEGATIVE: &[(&str, &str)] = &[
    (
        "company::a_preload_behind_is_found_however_it_is_linked",
        "the other preload is called as without the library",
    ),
    ("cost::a_start_makes_no_kind_of_system_call_that_the_loader_does_not_make", "a cost"),
    ("cost::five_thousand_unknown_settings_cost_little_more_than_any_variables", "a cost"),
    ("cost::switched_off_it_makes_no_system_call", "switched off"),
    ("hostile::h09_a_static_pie_program_is_as_without_the_library", "no library is loaded"),
    ("hostile::h10_a_program_with_its_own_connect_and_getaddrinfo_keeps_them", "not called"),
    ("lookups::a_call_that_needs_no_resolver_asks_none", "libc's own answer"),
    ("lookups::addresses_and_no_node_at_all_are_left_to_libc", "libc's own answer"),
    ("lookups::another_host_is_answered_by_libc_alone", "libc's own answer"),
    ("lookups::what_is_wrong_with_a_call_is_said_as_libc_says_it", "libc's own answer"),
    ("replies::a_fortified_recv_is_there_only_where_libc_has_it", "as libc has it"),
    ("replies::libresolv_answers_as_without_the_library_for_any_other_host", "libc's own answer"),
    ("replies::what_is_no_reply_costs_no_system_call", "a cost"),
    ("settings::variables_that_kubernetes_makes_of_a_service_draw_no_word", "silence"),
    ("sockets::a_connect_costs_no_system_call_where_keepalive_is_off", "switched off"),
    ("sockets::enforce_leaves_sockets_alone_that_others_connect_to", "left alone"),
    ("sockets::keepalive_off_leaves_every_socket_alone", "switched off"),
    ("sockets::nothing_is_said_of_keepalive_that_is_switched_off_elsewhere", "left alone"),
    ("sockets::sockets_that_are_not_tcp_are_left_alone", "left alone"),
    ("transparency::every_connect_has_the_result_and_errno_of_the_bare_run", "as bare"),
    ("transparency::every_lookup_without_an_allowlist_is_as_in_the_bare_run", "as bare"),
    ("transparency::strace_shows_the_arguments_of_connect_as_the_program_gave_them", "as bare"),
];

#[test]
fn every_promise_fails_with_a_library_that_does_nothing() {
    let output = Command::new(env::current_exe().expect("the test knows its file"))
        .env(CHOICE, "nothing")
        // Most of them wait, for what does not happen.
        .args(["promises::", "--test-threads=12"])
        .stdin(Stdio::null())
        .output()
        .expect("the tests start");
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let of_line = |line: &'_ str| {
        let (name, verdict) = line.strip_prefix("test promises::")?.split_once(" ... ")?;
        Some((name.to_owned(), verdict == "ok"))
    };
    let verdicts: Vec<_> = out.lines().filter_map(of_line).collect();
    assert!(verdicts.iter().any(|(_, passed)| !passed), "none failed:\n{out}\n{err}");

    // A test of another environment passes since it did not run.
    let not_run = |name: &str| {
        let start = format!("not run: promises::{name}: ");
        err.lines().any(|line| line.starts_with(&start) && line.ends_with(NOT_CHOSEN))
    };
    let passed = verdicts.iter().filter(|(name, passed)| *passed && !not_run(name));
    let passed: BTreeSet<_> = passed.map(|(name, _)| name.as_str()).collect();
    let may: BTreeSet<_> = NEGATIVE.iter().map(|(name, _)| *name).collect();
    let unseen: Vec<_> = passed.difference(&may).collect();
    let stale: Vec<_> = may.difference(&passed).collect();
    assert!(
        unseen.is_empty() && stale.is_empty(),
        "pass with a library that does nothing, though they are not in the list: {unseen:#?}\n\
        are in the list and do not pass with such a library: {stale:#?}"
    );
}
