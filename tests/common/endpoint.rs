//! A chat completions endpoint on this machine that behaves as badly as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub at: Instant,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Request {
    /// A header by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the endpoint does with a request.
#[derive(Debug, Clone)]
pub enum Reaction {
    Reply {
        status: u16,
        headers: String,
        body: String,
        delay: Duration,
        broken: bool,
    },
    /// Says nothing for a while, then closes.
    Hang(Duration),
    /// Closes at once.
    Close,
}

impl Reaction {
    pub fn status(status: u16, body: &str) -> Reaction {
        let (headers, body) = (String::new(), body.to_owned());
        Reaction::Reply { status, headers, body, delay: Duration::ZERO, broken: false }
    }

    /// A completion with a choice for each vote.
    pub fn votes<'a>(votes: impl IntoIterator<Item = &'a str>) -> Reaction {
        let choice = |vote: &str| json!({"message": {"role": "assistant", "content": vote}});
        let choices: Vec<Value> = votes.into_iter().map(choice).collect();
        Reaction::status(200, &json!({"choices": choices}).to_string())
    }

    pub fn with(mut self, name: &str, value: &str) -> Reaction {
        if let Reaction::Reply { headers, .. } = &mut self {
            *headers += &format!("{name}: {value}\r\n");
        }
        self
    }

    pub fn after(mut self, wait: Duration) -> Reaction {
        if let Reaction::Reply { delay, .. } = &mut self {
            *delay = wait;
        }
        self
    }

    /// Announces the whole body and sends half of it.
    pub fn broken_off(mut self) -> Reaction {
        if let Reaction::Reply { broken, .. } = &mut self {
            *broken = true;
        }
        self
    }
}

/// The endpoint; it lives as long as the test program.
pub struct Endpoint {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    pub fn start(react: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, react) = (requests.clone(), Arc::new(react));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, react) = (seen.clone(), react.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    seen.lock().unwrap().push(request.clone());
                    respond(stream, react(&request));
                });
            }
        });
        Endpoint { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        headers.push((key.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(key, _)| key == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { at: Instant::now(), path, headers, body: serde_json::from_slice(&body).ok()? })
}

/// A client that has gone away is no failure of the test.
fn respond(mut stream: TcpStream, reaction: Reaction) {
    match reaction {
        Reaction::Close => {}
        Reaction::Hang(time) => std::thread::sleep(time),
        Reaction::Reply { status, headers, body, delay, broken } => {
            std::thread::sleep(delay);
            let sent = if broken { &body[..body.len() / 2] } else { &body };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent.as_bytes()));
        }
    }
}
