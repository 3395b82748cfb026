//! A collector that swallows what it is sent: telemetry costs what it costs the sender, and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

/// Listens until the benchmark ends; where.
pub fn start() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    thread::Builder::new().name("collector".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // One that breaks off has nothing more to say.
            let _ = swallow(stream);
        }
    })?;
    Ok(endpoint)
}

/// Reads a request and says that all is well.
fn swallow(stream: TcpStream) -> std::io::Result<()> {
    const LENGTH: &str = "content-length: ";
    let (mut reader, mut line, mut length) = (BufReader::new(stream), String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(text) = lower.strip_prefix(LENGTH) {
            length = text.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}
