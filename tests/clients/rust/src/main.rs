//! The clients in Rust: rust-client CLIENT URL prints the answer.

use std::error::Error;

use hickory_resolver::Resolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

type Answer = Result<String, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let client = arguments.next().expect("an argument: the client");
    let url = arguments.next().expect("an argument: the URL");
    let url: ureq::http::Uri = url.parse()?;
    let host = url.host().expect("the URL has a host");
    let path = url.path_and_query().expect("the URL has a path").as_str();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = match client.as_str() {
        "ureq" => ureq::get(&url).call()?.body_mut().read_to_string()?,
        "hickory" => runtime.block_on(hickory(host, path))?,
        "tokio-postgres" => runtime.block_on(postgres(host, path))?,
        _ => panic!("{client}: no such client"),
    };
    println!("{answer}");
    Ok(())
}

/// Asks for the address by itself, for an IPv4 address only where there is no other.
async fn hickory(host: &str, path: &str) -> Answer {
    let mut resolver = Resolver::builder_tokio()?;
    resolver.options_mut().ip_strategy = LookupIpStrategy::Ipv6thenIpv4;
    let addresses = resolver.build()?.lookup_ip(format!("{host}.")).await?;
    let address = addresses.iter().next().ok_or("no address")?;
    let mut stream = TcpStream::connect((address, 80)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.to_owned())
}

async fn postgres(host: &str, path: &str) -> Answer {
    let (path, mark) = path.split_once('?').expect("a mark");
    let wait = path.strip_prefix("/after/").unwrap_or("0");
    let settings = format!("host={host} user=postgres dbname=postgres application_name={mark}");
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
    let connection = async { connection.await.expect("the connection works") };
    let answer = async {
        let answer = client.simple_query(&format!("select 42 from pg_sleep({wait})")).await;
        drop(client);
        answer
    };
    tokio::pin!(connection, answer);
    // The connection makes the query's progress.
    let messages = loop {
        tokio::select! {
            messages = &mut answer => break messages?,
            () = &mut connection => return Err("the connection has ended".into()),
        }
    };
    Ok(format!("{messages:?}"))
}
