//! The smallest program worth running as a pod: it serves its own files and variables, for the tests of the node.
//!
//! `GET /readyz` succeeds while `$POD_ROOT/gate/open` exists, `GET /env/NAME` answers a variable, and any other path
//! the file of that path below `$POD_ROOT`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_default();
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!(
        "tiny listens on {port}, arguments {:?}",
        std::env::args().skip(1).collect::<Vec<_>>()
    );
    for stream in listener.incoming().flatten() {
        // A client that went away is no reason to end.
        let _ = answer(stream);
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/");
    let root = std::env::var("POD_ROOT").unwrap_or_default();
    let body = match path.strip_prefix("/env/") {
        Some(name) => std::env::var(name).ok(),
        None if path == "/readyz" => std::fs::read_to_string(format!("{root}/gate/open")).ok(),
        None => std::fs::read_to_string(format!("{root}{path}")).ok(),
    };
    let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
