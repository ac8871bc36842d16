//! An upstream that does something before it answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Answers each request with what a function makes of its target, on a connection of its own. It ends with the test's process.
#[derive(Debug)]
pub struct Tool {
    addr: SocketAddr,
    asked: Arc<AtomicU64>,
}

impl Tool {
    /// `act` gets the target of a request, and gives the JSON of the answer.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start(act: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::start_reading(move |asked| act(&asked.target))
    }

    /// `act` gets a request, and gives the JSON of the answer.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start_reading(act: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener.local_addr().expect("it is bound");
        let (act, asked) = (Arc::new(act), Arc::new(AtomicU64::new(0)));
        let count = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (act, count) = (act.clone(), count.clone());
                // A peer that leaves in the middle is no concern of this side.
                thread::spawn(move || drop(answer(stream, &*act, &count)));
            }
        });
        Self { addr, asked }
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests came.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A request.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// All values of a header, in their order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

fn answer(stream: TcpStream, act: &dyn Fn(&Asked) -> String, asked: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut headers) = (0, Vec::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(':') {
            None => break,
            Some((name, value)) => {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap_or(0);
                }
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    asked.fetch_add(1, Ordering::SeqCst);
    let body = act(&Asked { method, target, body, headers });
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    reader.get_mut().write_all((head + &body).as_bytes())
}
