//! A collector of logs over HTTP/1.1 that records what it is sent and answers as it is told to, once for each request.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Request line.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Delivered {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What a collector does with a request.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Answers; the last part is the body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Takes the request and closes without an answer.
    Hang,
    /// Answers, and then closes without saying so.
    AnswerAndClose(u16),
    /// Begins an answer whose end never comes, and closes.
    Cut(u16),
    /// Takes the request, and keeps the connection open without an answer.
    Silent,
}

impl Reaction {
    /// An answer without further headers.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new())
    }
}

type Reacts = dyn FnMut(usize, &Delivered) -> Reaction + Send;

/// The collector. It lives as long as the test's process.
#[derive(Clone)]
pub struct Collector {
    /// Where it listens.
    pub addr: SocketAddr,
    taken: Arc<Mutex<Vec<Delivered>>>,
}

impl Collector {
    /// Listens on a free port of loopback. `reacts` gets the number of the request, from 0, and the request.
    ///
    /// # Errors
    /// There is no port.
    pub fn start(reacts: impl FnMut(usize, &Delivered) -> Reaction + Send + 'static) -> io::Result<Self> {
        Self::start_at("127.0.0.1:0".parse().map_err(io::Error::other)?, reacts)
    }

    /// As [`Collector::start`], at an address where one was before.
    ///
    /// # Errors
    /// The address is taken.
    pub fn start_at(
        addr: SocketAddr,
        reacts: impl FnMut(usize, &Delivered) -> Reaction + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let collector = Self { addr: listener.local_addr()?, taken: Arc::default() };
        let taken = collector.taken.clone();
        let state: Arc<Mutex<(usize, Box<Reacts>)>> = Arc::new(Mutex::new((0, Box::new(reacts))));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (taken, state) = (taken.clone(), state.clone());
                thread::spawn(move || drop(serve(&stream, &taken, &state)));
            }
        });
        Ok(collector)
    }

    /// Requests that were answered with a status below 300, in the order in which they were answered.
    #[must_use]
    pub fn taken(&self) -> Vec<Delivered> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    stream: &TcpStream,
    taken: &Mutex<Vec<Delivered>>,
    state: &Mutex<(usize, Box<Reacts>)>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Delivered { line: line.trim_end().to_owned(), headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        // Held over the answer, so that the order of what was taken is the order of answers.
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
        let (number, reacts) = &mut *state;
        let reaction = reacts(*number, &request);
        *number += 1;
        let (status, headers, body, close) = match reaction {
            Reaction::Hang => return Ok(()),
            Reaction::Silent => {
                drop(state);
                io::copy(&mut reader, &mut io::sink())?;
                return Ok(());
            }
            Reaction::Cut(status) => {
                let head = format!("HTTP/1.1 {status} Told\r\ncontent-length: 100\r\n\r\nhalf");
                return (&mut &*stream).write_all(head.as_bytes());
            }
            Reaction::AnswerAndClose(status) => (status, Vec::new(), String::new(), true),
            Reaction::Answer(status, headers, body) => (status, headers, body, false),
        };
        if status < 300 {
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        }
        let mut answer = format!("HTTP/1.1 {status} Told\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        (&mut &*stream).write_all(format!("{answer}\r\n{body}").as_bytes())?;
        if close {
            return Ok(());
        }
    }
}
