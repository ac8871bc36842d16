use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::runtime::Builder;

use super::*;
use crate::answer::Made;
use crate::hits::Hits;
use crate::request::{Head, RequestBody};
use crate::script::{Body, Delays, Fault, Framing, Interim, Remember, Reply, Split, Writes};

/// A peer that notes each write, says nothing, and may hang up when it has so many.
#[derive(Default)]
struct Noting {
    writes: Vec<String>,
    hang_up_after: Option<usize>,
}

impl AsyncRead for Noting {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gone = self.hang_up_after.is_some_and(|after| self.writes.len() >= after);
        if gone { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.push(String::from_utf8(bytes.to_vec()).unwrap());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn sent(reply: &Reply, pieces: &[&str], mut peer: Noting) -> (Result<(), Broke>, Vec<String>, Duration) {
    let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
    let answer = Answer::new(reply, Made::pieces("", &pieces));
    let head = Head::parse("GET / HTTP/1.1\r\n\r\n".into()).unwrap();
    let progress = Hits::new(Remember::default()).arrived(1, &head, &RequestBody::default());
    let (mut inbox, mut held) = (BytesMut::new(), BytesMut::new());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let started = std::time::Instant::now();
    let ended = runtime.block_on(async {
        let (stream, inbox, held) = (&mut peer, &mut inbox, &mut held);
        Sender { stream, inbox, held, progress: &progress }.send(&answer, false).await
    });
    (ended, peer.writes, started.elapsed())
}

fn check(reply: &Reply, pieces: &[&str], writes: &[&str]) {
    let (ended, seen, _) = sent(reply, pieces, Noting::default());
    assert_eq!(
        (ended, &seen[..]),
        (Ok(()), &writes.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..])
    );
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const PLAIN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";

#[test]
fn one_piece_is_one_write_and_takes_head_and_end_along() {
    let chunked = Reply::default();
    check(&chunked, &["abc"], &[&format!("{HEAD}3\r\nabc\r\n0\r\n\r\n")]);
    check(&chunked, &["abc", "de"], &[&format!("{HEAD}3\r\nabc\r\n"), "2\r\nde\r\n0\r\n\r\n"]);
    let sized = Reply::default().framing(Framing::ContentLength);
    check(&sized, &["abc", "de"], &[&format!("{PLAIN}abc"), "de"]);
    check(&chunked, &[], &[&format!("{HEAD}0\r\n\r\n")]);
}

#[test]
fn the_head_can_travel_alone() {
    let reply = Reply::default().writes(Writes::HeadFirst);
    check(&reply, &["abc"], &[HEAD, "3\r\nabc\r\n0\r\n\r\n"]);
    let reply = Reply::default().delay_ms(Delays { before_body: 1, ..Delays::default() });
    check(&reply, &["abc"], &[HEAD, "3\r\nabc\r\n0\r\n\r\n"]);
}

#[test]
fn joined_is_one_write_whatever_the_pieces() {
    let all = format!("{HEAD}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    check(&Reply::default().writes(Writes::Joined), &["abc", "de"], &[&all]);
}

#[test]
fn writes_can_be_cut_anywhere_in_the_answer() {
    let all = format!("{HEAD}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let single: Vec<&str> = (0..all.len()).map(|at| &all[at..=at]).collect();
    check(&Reply::default().writes(Writes::Each { bytes: 1 }), &["abc", "de"], &single);
    let offsets = vec![10, HEAD.len() as u64 + 1, HEAD.len() as u64 + 5];
    let reply = Reply::default().writes(Writes::At { offsets });
    check(
        &reply,
        &["abc", "de"],
        &[&all[..10], &all[10..=HEAD.len()], "\r\nab", "c\r\n2\r\nde\r\n0\r\n\r\n"],
    );
}

#[test]
fn a_large_piece_is_several_writes_and_one_chunk() {
    let piece = "x".repeat(WRITE_MAX + 10);
    let all = format!("{HEAD}{:x}\r\n{piece}\r\n0\r\n\r\n", piece.len());
    check(&Reply::default(), &[&piece], &[&all[..WRITE_MAX], &all[WRITE_MAX..]]);
}

#[test]
fn an_answer_stops_after_the_byte_it_was_told() {
    let stops = |after_bytes, writes: &[&str]| {
        let reply = Reply::default().fault(Fault::Truncate { after_bytes });
        let (ended, seen, _) = sent(&reply, &["abc", "de"], Noting::default());
        assert_eq!(
            (ended, seen.concat()),
            (Err(Broke::Script(How::Fin)), format!("{HEAD}{}", writes.concat()))
        );
    };
    stops(0, &[]);
    stops(1, &["3\r\na"]);
    stops(3, &["3\r\nabc\r\n"]);
    stops(4, &["3\r\nabc\r\n", "2\r\nd"]);
    stops(5, &["3\r\nabc\r\n", "2\r\nde\r\n"]);
    stops(u64::MAX, &["3\r\nabc\r\n", "2\r\nde\r\n"]);
}

#[test]
fn nothing_is_written_when_it_stops_before_the_head() {
    let reply = Reply::default().fault(Fault::ResetBeforeHead);
    let (ended, seen, _) = sent(&reply, &["abc"], Noting::default());
    assert_eq!((ended, seen.len()), (Err(Broke::Script(How::Reset)), 0));
}

#[test]
fn a_stall_lasts_until_the_peer_goes() {
    let reply = Reply::default().fault(Fault::Stall { after_bytes: 1 });
    let peer = Noting { hang_up_after: Some(1), ..Noting::default() };
    let (ended, seen, _) = sent(&reply, &["abc"], peer);
    assert_eq!((ended, seen.concat()), (Err(Broke::PeerGone), format!("{HEAD}3\r\na")));
}

#[test]
fn a_peer_that_goes_during_a_pause_ends_the_answer() {
    let reply = Reply::default().delay_ms(Delays { between_writes: 60_000, ..Delays::default() });
    let peer = Noting { hang_up_after: Some(1), ..Noting::default() };
    assert_eq!(sent(&reply, &["abc", "de"], peer).0, Err(Broke::PeerGone));
}

#[test]
fn pauses_are_kept_between_writes_and_not_after_the_last() {
    let delays = Delays { before_head: 5, before_body: 7, between_writes: 11 };
    let (ended, seen, took) = sent(&Reply::default().delay_ms(delays), &["a", "b", "c"], Noting::default());
    assert_eq!((ended, seen.len()), (Ok(()), 4));
    assert!(took >= Duration::from_millis(5 + 7 + 2 * 11), "{took:?}");
    let slow = Reply::new(Body::default()).fault(Fault::Slow { bytes_per_write: 20, every_ms: 3 });
    let (ended, seen, took) = sent(&slow, &["abc"], Noting::default());
    let wire = HEAD.len() + "3\r\nabc\r\n0\r\n\r\n".len();
    assert_eq!((ended, seen.len()), (Ok(()), wire.div_ceil(20)));
    assert!(took >= Duration::from_millis(3 * (seen.len() as u64 - 1)), "{took:?}");
}

#[test]
fn interim_heads_come_first_and_alone() {
    let interim = Interim { status: 103, headers: vec![("link".into(), "x".into())] };
    let reply = Reply { interim: vec![interim], ..Reply::default() };
    let writes = ["HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", &format!("{HEAD}1\r\na\r\n0\r\n\r\n")];
    check(&reply, &["a"], &writes);
}

#[test]
fn every_way_to_write_gives_the_same_bytes() {
    let ways = [
        Writes::PerPiece,
        Writes::HeadFirst,
        Writes::Joined,
        Writes::Each { bytes: 3 },
        Writes::At { offsets: vec![0, 0, 5, 5, 1000] },
    ];
    let splits =
        [Split::PerEvent, Split::Whole, Split::Each { bytes: 2 }, Split::At { offsets: vec![0, 1, 1] }];
    for split in splits {
        let all = |writes: &Writes| {
            let reply = Reply::default().split(split.clone()).writes(writes.clone()).trailer("x", "y");
            sent(&reply, &["abc", "de"], Noting::default()).1.concat()
        };
        for writes in &ways {
            assert_eq!(all(writes), all(&Writes::Joined), "{split:?} {writes:?}");
        }
    }
}
