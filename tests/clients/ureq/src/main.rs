//! ureq-client URL: prints what the URL holds.

fn main() -> Result<(), ureq::Error> {
    let url = std::env::args().nth(1).expect("an argument: the URL");
    print!("{}", ureq::get(url).call()?.body_mut().read_to_string()?);
    Ok(())
}
