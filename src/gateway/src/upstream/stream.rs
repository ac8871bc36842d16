//! The bytes of an upstream connection, with TLS or without, and how TLS ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A plain or TLS stream.
pub(crate) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<Tls>),
}

impl Stream {
    pub(crate) fn tls(stream: TlsStream<TcpStream>, alert: Alert) -> Self {
        Self::Tls(Box::new(Tls { io: TokioIo::new(stream), alert, failed: None, early: None }))
    }
}

pub(crate) struct Tls {
    io: TokioIo<TlsStream<TcpStream>>,
    alert: Alert,
    /// A write's error, while the reason for it is awaited.
    failed: Option<io::Error>,
    /// Read while a reason was looked for.
    early: Option<u8>,
}

/// Whether TLS itself ended a connection after its handshake, as a TLS 1.3 upstream does that refuses a client's
/// certificate. Kept here, because HTTP/2 passes on the words of an error only.
#[derive(Clone, Default)]
pub(crate) struct Alert(Arc<AtomicBool>);

impl Alert {
    pub(crate) fn was_seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn watch<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        {
            self.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Tls {
    fn read(&mut self, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if let Some(byte) = self.early.take() {
            buf.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.alert.watch(result)
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TokioIo<TlsStream<TcpStream>>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match write(Pin::new(&mut self.io), cx) {
                Poll::Ready(Err(error)) => self.failed = Some(error),
                result => return result,
            }
        }
        if self.early.is_none() {
            let mut byte = [0];
            let mut buf = hyper::rt::ReadBuf::new(&mut byte);
            if ready!(self.read(cx, buf.unfilled())).is_ok() {
                self.early = buf.filled().first().copied();
            }
        }
        Poll::Ready(Err(self.failed.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(tls) => tls.read(cx, buf),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(tls) => tls.write(cx, |io, cx| io.poll_write(cx, buf)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(tls) => tls.write(cx, |io, cx| io.poll_flush(cx)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.io).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(tls) => tls.io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => tls.write(cx, |io, cx| io.poll_write_vectored(cx, bufs)),
        }
    }
}
