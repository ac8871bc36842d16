use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;
use crate::http::{get, post};

/// Accepts one connection, reads until a blank line, writes these pieces and ends as told.
fn answering(pieces: &'static [&'static [u8]], end: End) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            seen.push(byte[0]);
        }
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        match end {
            End::Fin => {
                stream.shutdown(Shutdown::Write).unwrap(); // Dropping with unread bytes would send RST.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            End::Reset => {
                // Only after the peer has read everything (it says so with FIN): a reset may overtake data.
                let _ = stream.read(&mut byte);
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }
            End::Silent => {
                let _ = stream.read(&mut byte);
            }
        }
        seen
    });
    (addr, server)
}

#[test]
fn reads_an_answer_with_a_length() {
    let (addr, server) =
        answering(&[b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nContent-Length: 5\r\n\r\nhel", b"lo"], End::Fin);
    let answer = get(addr, "/x?y").unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.head.all("a"), ["1", "2"]);
    let seen = server.join().unwrap();
    assert_eq!(seen, format!("GET /x?y HTTP/1.1\r\nhost: {addr}\r\n\r\n").as_bytes());
}

#[test]
fn reads_chunks_trailers_and_interim_heads() {
    let (addr, _server) = answering(
        &[b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n",
          b"2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n"],
        End::Fin,
    );
    let answer = get(addr, "/").unwrap();
    assert_eq!(answer.interim[0].status, 103);
    assert_eq!((answer.text().as_str(), &answer.chunks[..]), ("abcde", &[3, 2][..]));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "5".to_owned())]);
}

#[test]
fn an_answer_cut_short_is_incomplete_and_keeps_what_came() {
    let (addr, _server) =
        answering(&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"], End::Fin);
    let Err(HttpError::Incomplete { answer }) = get(addr, "/") else { panic!("must be incomplete") };
    assert_eq!((answer.end, answer.text().as_str()), (Some(End::Fin), "ab"));
}

#[test]
fn a_reset_is_told_apart_from_a_close() {
    let (addr, _server) = answering(&[b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"], End::Reset);
    let mut peer = Peer::connect(addr).unwrap();
    peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(peer.read_until(b"ab").unwrap().len(), 40);
    peer.half_close().unwrap();
    assert_eq!(peer.read_to_end().unwrap(), (Vec::new(), End::Reset));
}

#[test]
fn silence_is_an_end_of_its_own() {
    let (addr, _server) = answering(&[b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"], End::Silent);
    let mut peer = Peer::connect(addr).unwrap();
    peer.set_patience(Duration::from_millis(50)).unwrap();
    peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(peer.read_answer().unwrap().end, Some(End::Silent));
    assert!(peer.quiet_for(Duration::from_millis(20)).unwrap());
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    let (addr, _server) = answering(&[b"HTTP/1.1 200 OK\r\n\r\nall ", b"of it"], End::Fin);
    assert_eq!(get(addr, "/").unwrap().text(), "all of it");
}

#[test]
fn head_and_204_have_no_body() {
    let (addr, _server) = answering(&[b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"], End::Silent);
    let mut peer = Peer::connect(addr).unwrap();
    assert_eq!(peer.exchange(&Request::new("HEAD", "/")).unwrap().header("content-length"), Some("9"));
    let (addr, _server) = answering(&[b"HTTP/1.1 204 No Content\r\n\r\n"], End::Silent);
    assert_eq!(get(addr, "/").unwrap().body, b"");
}

#[test]
fn a_post_carries_its_length_and_body() {
    let wire = Request::new("POST", "/p").header("a", "b").body("xyz").wire("h");
    assert_eq!(wire, b"POST /p HTTP/1.1\r\nhost: h\r\na: b\r\ncontent-length: 3\r\n\r\nxyz");
    let chunked = Request::new("POST", "/p").chunks(&[b"xy", b"", b"z"]).wire("h");
    assert!(chunked.ends_with(b"\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n"));
    let (addr, server) = answering(&[b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], End::Fin);
    let _answer = post(addr, "/p", "{}").unwrap();
    assert!(server.join().unwrap().ends_with(b"content-length: 2\r\n\r\n"));
}

#[test]
fn an_answer_with_two_lengths_is_refused() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    ] {
        assert!(body_length(&Head::parse(head.into()).unwrap()).is_err(), "{head}");
    }
    assert!(chunk_size(b"+1\r\n").is_err());
    assert_eq!(chunk_size(b"1F;x=y\r\n").unwrap(), 31);
}

#[test]
fn what_is_not_http_is_named() {
    let (addr, _server) = answering(&[b"220 smtp ready\r\n\r\n"], End::Fin);
    assert!(matches!(get(addr, "/"), Err(HttpError::Malformed { .. })));
}
