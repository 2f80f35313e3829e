//! The table of the clients, and how each is started. What it says of a program is true of Debian 12's,
//! and of Node 20 where that is here.

use std::process::Command;

use super::made::{class_path, made, source};
use super::{AtBlackHole, CLIENT, Client, Keepalive, Request, Server};
use crate::harness::Environment;
use crate::harness::run::stdout;
use AtBlackHole::{FallsBack, Hangs, TakesAny, TakesIpv4};

/// All rows.
pub fn clients() -> Vec<Client> {
    [tools(), python_clients(), databases(), javascript(), java_clients(), compiled(), proxies()]
        .concat()
}

/// Programs that the library does not reach, and others that stand for many.
pub fn rescued_clients() -> Vec<Client> {
    let names = [
        "curl --no-keepalive",
        "wget",
        "ssh TCPKeepAlive=no",
        "Perl HTTP::Tiny",
        "Python urllib",
        "Python requests",
        "Python aiohttp",
        "psql keepalives=0",
        "Node https",
        "Node http, one address",
        "Java HttpURLConnection",
        "Java HttpClient, IPv6 first",
    ];
    let known = clients().into_iter().filter(|client| names.contains(&client.name));
    let more = [
        base("/usr/bin/ruby", "ruby").row("Ruby Net::HTTP", ruby),
        base("go", "go").row("Go, static", |c, r| _ = c.arg(r.url("http"))),
        base("static", "static").row("C on musl, static", host_and_path),
        base("io_uring", "io_uring").row("C with io_uring", host_and_path),
    ];
    known.chain(more).collect()
}

fn base(program: &'static str, from: &'static str) -> Client {
    Client { program, from, ..CLIENT }
}

fn tools() -> Vec<Client> {
    let curl_ = base("/usr/bin/curl", "curl").at_black_hole(FallsBack);
    let wget_ = base("/usr/bin/wget", "wget");
    let ssh_ = base("/usr/bin/ssh", "openssh-client").server(Server::Other);
    vec![
        curl_.row("curl", |c, r| curl(c, &[], r)).keepalive(Keepalive::CURL),
        curl_.row("curl, enforced", |c, r| curl(c, &[], r)).keepalive(Keepalive::CURL).enforced(),
        curl_.row("curl --no-keepalive", |c, r| curl(c, &["--no-keepalive"], r)),
        wget_.row("wget", wget),
        base("/usr/bin/wget2", "wget2").row("wget2", wget),
        ssh_.row("ssh", |c, r| ssh(c, "TCPKeepAlive=yes", r)).keepalive(Keepalive::ON),
        ssh_.row("ssh TCPKeepAlive=no", |c, r| ssh(c, "TCPKeepAlive=no", r)),
        base("/usr/bin/perl", "perl").row("Perl HTTP::Tiny", perl).keepalive(Keepalive::ON),
        base("/usr/bin/php", "php-cli").row("PHP dns_get_record", php).asks("A AAAA"),
        base("postfix/usr/sbin/posttls-finger", "postfix")
            .row("Postfix posttls-finger", posttls_finger)
            .server(Server::Other)
            .keepalive(Keepalive::ON)
            .at_black_hole(TakesAny)
            .asks("A AAAA"),
        base("/usr/bin/kcat", "kcat")
            .row("kcat (librdkafka)", kcat)
            .server(Server::Other)
            .at_black_hole(TakesAny),
    ]
}

fn python_clients() -> Vec<Client> {
    let python3 = base("/usr/bin/python3", "python3");
    let venv = base("venv/bin/python3", "venv");
    let grpc = venv.server(Server::Other).at_black_hole(FallsBack);
    vec![
        python3.row("Python urllib", |c, r| python(c, "urllib", r)),
        python3.row("Python ftplib", |c, r| python(c, "ftplib", r)).server(Server::Other),
        venv.row("Python requests", |c, r| python(c, "requests", r)),
        venv.row("Python httpx", |c, r| python(c, "httpx", r)),
        venv.row("Python httpx async", |c, r| python(c, "httpx-async", r)).at_black_hole(FallsBack),
        venv.row("Python aiohttp", |c, r| python(c, "aiohttp", r)).at_black_hole(FallsBack),
        venv.row("Python aiohttp, aiodns", |c, r| python(c, "aiohttp-aiodns", r))
            .at_black_hole(FallsBack)
            .asks("A AAAA"),
        venv.row("openai SDK", |c, r| python(c, "openai", r))
            .host("api.openai.com")
            .at_black_hole(FallsBack),
        venv.row("openai SDK async", |c, r| python(c, "openai-async", r))
            .host("eu.api.openai.com")
            .at_black_hole(FallsBack),
        venv.row("anthropic SDK", |c, r| python(c, "anthropic", r))
            .host("api.anthropic.com")
            .keepalive(Keepalive::set(60, 60, 5))
            .at_black_hole(FallsBack),
        venv.row("boto3", |c, r| python(c, "boto3", r)),
        venv.row("google-genai", |c, r| python(c, "google-genai", r)),
        venv.row("dnspython", |c, r| python(c, "dnspython", r)).asks("A AAAA"),
        venv.row("twisted.names", |c, r| python(c, "twisted.names", r)).asks("ANY"),
        grpc.row("gRPC", |c, r| python(c, "grpc", r)).asks("A AAAA"),
        grpc.row("gRPC, native resolver", |c, r| {
            python(c.env("GRPC_DNS_RESOLVER", "native"), "grpc", r);
        }),
        grpc.row("Google Pub/Sub", |c, r| python(c, "pubsub", r)).asks("A AAAA"),
    ]
}

fn databases() -> Vec<Client> {
    let psql_ = base("/usr/bin/psql", "postgresql-client").server(Server::Postgresql);
    let venv = base("venv/bin/python3", "venv");
    let other = venv.server(Server::Other);
    let pymongo =
        other.row("PyMongo", |c, r| python(c, "pymongo", r)).keepalive(Keepalive::PYMONGO);
    let postgres = base("rust/debug/rust-client", "rust")
        .row("Rust tokio-postgres", |c, r| rust(c, "tokio-postgres", r))
        .server(Server::Postgresql)
        .keepalive(Keepalive::RUST_POSTGRES);
    let jdbc = base("/usr/bin/java", "jdbc").at_black_hole(TakesIpv4).enforced();
    vec![
        psql_.row("psql", |c, r| psql(c, "", r)).keepalive(Keepalive::ON),
        psql_
            .row("psql keepalives_idle=1 ...", |c, r| {
                psql(c, "keepalives_idle=1 keepalives_interval=2 keepalives_count=3", r);
            })
            .keepalive(Keepalive::set(1, 2, 3)),
        psql_.row("psql keepalives=0", |c, r| psql(c, "keepalives=0", r)),
        other
            .row("redis-py", |c, r| python(c, "redis", r))
            .keepalive(Keepalive::set(30, 5, 3))
            .at_black_hole(FallsBack),
        pymongo,
        pymongo.named("PyMongo, enforced").enforced(),
        venv.row("psycopg", |c, r| python(c, "psycopg", r))
            .server(Server::Postgresql)
            .keepalive(Keepalive::ON),
        postgres,
        postgres.named("Rust tokio-postgres, enforced").enforced(),
        jdbc.row("pgjdbc, enforced", pgjdbc).server(Server::Postgresql),
        jdbc.row("jTDS, enforced", jtds).server(Server::Other),
    ]
}

fn javascript() -> Vec<Client> {
    let is_node_20 = node_version() >= 20;
    let node_ =
        base("/usr/bin/node", "nodejs").at_black_hole(if is_node_20 { FallsBack } else { Hangs });
    let on_node_20 = |keepalive| if is_node_20 { keepalive } else { Keepalive::NONE };
    let node_agent = on_node_20(Keepalive::set(1, 1, 10));
    let node_fetch = on_node_20(Keepalive::set(60, 1, 10));
    vec![
        node_.row("Node http", |c, r| node(c, "http", r)).keepalive(node_agent),
        node_.row("Node https", |c, r| node(c, "https", r)),
        node_.row("Node fetch", |c, r| node(c, "fetch", r)).keepalive(node_fetch),
        node_
            .row("Node dns.lookup", |c, r| node(c, "lookup", r))
            .keepalive(node_agent)
            .at_black_hole(Hangs),
        node_
            .row("Node http, one address", |c, r| node(c, "one-address", r))
            .keepalive(node_agent)
            .at_black_hole(Hangs),
        node_
            .row("Node dns.resolve", |c, r| node(c, "resolve", r))
            .keepalive(node_agent)
            .at_black_hole(Hangs)
            .asks("A AAAA"),
        Client { from: "undici", ..node_ }.row("Node undici", |c, r| node(c, "undici", r)),
        base("venv/bin/deno", "venv").row("Deno fetch", deno).at_black_hole(FallsBack),
        base("/bin/sh", "chromium")
            .row("Chromium headless", chromium)
            .keepalive(Keepalive::CHROMIUM)
            .at_black_hole(FallsBack),
    ]
}

fn java_clients() -> Vec<Client> {
    let java_ = base("/usr/bin/java", "java");
    vec![
        java_
            .row("Java HttpURLConnection", |c, r| java(c, "HttpURLConnection", r))
            .at_black_hole(TakesIpv4),
        java_.row("Java HttpClient", |c, r| java(c, "HttpClient", r)).at_black_hole(TakesIpv4),
        java_
            .row("Java HttpClient, pooled", java_pooled)
            .server(Server::Other)
            .at_black_hole(TakesIpv4)
            .pooled(),
        java_.row("Java HttpClient, IPv6 first", |c, r| {
            java(c.arg("-Djava.net.preferIPv6Addresses=true"), "HttpClient", r);
        }),
        base("/usr/bin/java", "netty").row("netty, IPv6 first", netty).asks("A AAAA"),
    ]
}

fn compiled() -> Vec<Client> {
    let rust_ = base("rust/debug/rust-client", "rust");
    let musl = |program| base(program, "musl").environment(Environment::musl).asks("A AAAA");
    vec![
        rust_.row("Rust ureq", |c, r| rust(c, "ureq", r)),
        rust_.row("Rust hickory", |c, r| rust(c, "hickory", r)).asks("A AAAA"),
        base("asio", "asio").row("C++ Boost.Asio", host_and_path),
        musl("musl/cares").row("C c-ares, on musl", host_and_path),
        musl("musl/evdns").row("C evdns, on musl", host_and_path),
    ]
}

fn proxies() -> Vec<Client> {
    vec![
        base("/bin/sh", "haproxy").row("haproxy", |c, r| proxy(c, "haproxy", r)).asks("A AAAA"),
        base("/bin/sh", "nginx")
            .row("nginx", |c, r| proxy(c, "nginx", r))
            .at_black_hole(TakesAny)
            .asks("A AAAA"),
    ]
}

// --- How each is started ------------------------------------------------------------------------

fn curl(command: &mut Command, options: &[&str], request: &Request) {
    command.arg("-sS").args(options).arg(request.url("http"));
}

fn wget(command: &mut Command, request: &Request) {
    command.args(["-q", "-O", "-", &request.url("http")]);
}

fn python(command: &mut Command, client: &str, request: &Request) {
    command.arg(source("python.py")).args([client, &request.url("http")]);
    command.env("SSL_CERT_FILE", made("lab.pem"));
}

fn node(command: &mut Command, client: &str, request: &Request) {
    let scheme = if client == "https" { "https" } else { "http" };
    command.arg(source("node.mjs")).args([client, &request.url(scheme)]);
    command.env("NODE_EXTRA_CA_CERTS", made("lab.pem")).env("NODE_PATH", "/usr/share/nodejs");
}

/// The major version; 0 where there is no Node.
fn node_version() -> u32 {
    let output = Command::new("/usr/bin/node").arg("--version").output();
    let version = output.map(|output| stdout(&output)).unwrap_or_default();
    version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What makes a short life of a JVM cheaper.
const SHORT: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

fn java(command: &mut Command, client: &str, request: &Request) {
    command.args(SHORT).arg("-cp").arg(made("java")).args(["Client", client, &request.url("http")]);
}

/// The connection is idle in the pool for as long as another client waits for an answer.
fn java_pooled(command: &mut Command, request: &Request) {
    let url = format!("http://{}:8080/now?{}", request.host, request.mark);
    command.args(SHORT).arg("-cp").arg(made("java"));
    command.args(["Client", "pool", &url, &request.wait.to_string()]);
}

fn pgjdbc(command: &mut Command, request: &Request) {
    let Request { host, wait, mark } = request;
    let url = format!("jdbc:postgresql://{host}/postgres?user=postgres&ApplicationName={mark}");
    let query = format!("select 42 from pg_sleep({wait})");
    command.args(SHORT).args(["-cp", &class_path(), "Query", &url, &query]);
}

fn jtds(command: &mut Command, request: &Request) {
    let url = format!("jdbc:jtds:sqlserver://{}/lab;user=lab;password=lab", request.host);
    let query = format!("select 42 -- {}", request.path());
    command.arg("-Djdbc.drivers=net.sourceforge.jtds.jdbc.Driver");
    command.args(SHORT).args(["-cp", &class_path(), "Query", &url, &query]);
}

fn psql(command: &mut Command, settings: &str, request: &Request) {
    let Request { host, wait, mark } = request;
    let user = format!("host={host} user=postgres dbname=postgres application_name={mark}");
    command.args(["-X", "-A", "-t", "-d", &format!("{user} {settings}")]);
    command.args(["-c", &format!("select 42 from pg_sleep({wait})")]);
}

fn ssh(command: &mut Command, option: &str, request: &Request) {
    let unknown = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
    command.args(["-F", "none", "-o", option]);
    command.args(unknown.iter().flat_map(|option| ["-o", option]));
    command.args([request.host, request.path().trim_start_matches('/')]);
}

fn posttls_finger(command: &mut Command, request: &Request) {
    let name = request.path().trim_start_matches('/').replace(['/', '?'], ".");
    command.args(["-l", "none", "-t", "5", "-o", &format!("myhostname={name}")]);
    command.arg(format!("[{}]", request.host));
    command.env("MAIL_CONFIG", made("postfix"));
    command.env("LD_LIBRARY_PATH", made("postfix/usr/lib/postfix"));
}

fn kcat(command: &mut Command, request: &Request) {
    let id = format!("client.id={}", request.path().trim_start_matches('/'));
    command.args(["-L", "-m", "60", "-b", request.host, "-X", &id]);
    // The server knows the oldest of the protocol.
    command.args(["-X", "api.version.request=false", "-X", "broker.version.fallback=0.9.0"]);
    // It asks for the addresses again before each try, and begins with any of them; with these settings it takes the next.
    command.args([
        "-X",
        "socket.connection.setup.timeout.ms=5000",
        "-X",
        "broker.address.ttl=60000",
    ]);
}

fn php(command: &mut Command, request: &Request) {
    command.arg(source("dns.php")).args([request.host, &request.path()]);
}

fn perl(command: &mut Command, request: &Request) {
    command.arg(source("perl.pl")).arg(request.url("http"));
}

fn ruby(command: &mut Command, request: &Request) {
    let get = "puts Net::HTTP.start(URI(ARGV[0]).host, read_timeout: nil, open_timeout: nil) { |http| http.get(URI(ARGV[0]).request_uri) }.body";
    command.args(["-rnet/http", "-e", get, &request.url("http")]);
}

fn rust(command: &mut Command, client: &str, request: &Request) {
    command.args([client, &request.url("http")]);
}

fn deno(command: &mut Command, request: &Request) {
    command.args(["run", "--quiet", "--no-config", "--allow-net"]);
    command.arg(source("deno.mjs")).arg(request.url("http"));
    command.env("DENO_DIR", made("deno")).env("DENO_NO_UPDATE_CHECK", "1");
}

fn chromium(command: &mut Command, request: &Request) {
    // Its network is to be in this process; what it says to standard error is about this machine.
    let run = "exec /usr/lib/chromium/chromium-headless-shell --no-sandbox --disable-gpu \
        --enable-features=NetworkServiceInProcess2 --dump-dom \"$1\" 2>/dev/null";
    command.args(["-c", run, "sh", &request.url("http")]);
}

fn netty(command: &mut Command, request: &Request) {
    command.args(SHORT).args(["-Djava.net.preferIPv6Addresses=true", "-cp", &class_path()]);
    command.args(["NettyClient", &request.url("http")]);
}

fn proxy(command: &mut Command, proxy: &str, request: &Request) {
    command.arg(source("proxy")).args([proxy, request.host, &request.path()]);
}

fn host_and_path(command: &mut Command, request: &Request) {
    command.args([request.host, &request.path()]);
}
