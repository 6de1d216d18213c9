//! A small HTTP server on 127.0.0.1 for tests of fetching.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// 200 with this body.
    Whole(Vec<u8>),
    /// 200 with this length claimed and this body, then the end.
    Claim(u64, Vec<u8>),
    /// 200 with this length claimed and no body, until the other side goes.
    Stall(u64),
    /// 200 with this body and no length: it ends where the connection does.
    Unframed(Vec<u8>),
    /// A status without a body.
    Status(u16),
    /// Nothing, until the other side goes.
    Silence,
    /// 200 and a byte at a time, with this pause.
    Trickle(Duration),
}

/// Answers requests in order, each on a connection of its own, then stops listening.
pub(crate) struct Server {
    /// `http://127.0.0.1:<port>/mnist/`
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                let path = request_path(&stream);
                seen.lock().unwrap().push(path);
                // The other side may leave early: that is what some tests are about.
                let _ = reply(stream, answer);
            }
        });
        Server { address: format!("http://127.0.0.1:{port}/mnist/"), requests }
    }

    /// The paths asked for so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A mirror on a port where nobody listens.
pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}/mnist/")
}

fn request_path(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    for line in lines {
        if line.is_empty() {
            break;
        }
    }
    first.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn reply(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let head = |length: u64| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    match answer {
        Answer::Whole(body) => {
            stream.write_all(head(body.len() as u64).as_bytes())?;
            stream.write_all(&body)
        }
        Answer::Claim(length, body) => {
            stream.write_all(head(length).as_bytes())?;
            stream.write_all(&body)
        }
        Answer::Stall(length) => {
            stream.write_all(head(length).as_bytes())?;
            wait_for_hang_up(stream)
        }
        Answer::Unframed(body) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(&body)
        }
        Answer::Status(code) => {
            let head = format!("HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes())
        }
        Answer::Silence => wait_for_hang_up(stream),
        Answer::Trickle(pause) => {
            stream.write_all(head(1000).as_bytes())?;
            loop {
                stream.write_all(b"x")?;
                thread::sleep(pause);
            }
        }
    }
}

fn wait_for_hang_up(stream: TcpStream) -> std::io::Result<()> {
    BufReader::new(stream).lines().count();
    Ok(())
}
