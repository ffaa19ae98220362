//! The socket of a connection, with TLS or without.

use super::Secured;
use rustls::{ServerConfig, pki_types::CertificateDer};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

/// A socket.
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// TLS is being negotiated.
    Begins(Box<Accept<TcpStream>>),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Negotiation failed.
    Failed,
}

impl Stream {
    /// Of a socket, with TLS if there is a configuration.
    #[must_use]
    pub fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> Self {
        match tls {
            Some(config) => Self::Begins(Box::new(TlsAcceptor::from(config).accept(socket))),
            None => Self::Plain(socket),
        }
    }

    /// Goes on negotiating. True once, when that is over.
    ///
    /// # Errors
    /// It failed.
    pub fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self::Begins(accept) = self else { return Poll::Ready(Ok(false)) };
        match ready!(Pin::new(accept).poll(cx)) {
            Ok(stream) => {
                *self = Self::Tls(Box::new(stream));
                Poll::Ready(Ok(true))
            }
            Err(error) => {
                *self = Self::Failed;
                Poll::Ready(Err(error))
            }
        }
    }

    /// The client's certificate, if it showed one, which was verified then.
    #[must_use]
    pub fn client_certificate(&self) -> Option<CertificateDer<'static>> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
    }

    /// What TLS came to, where it is there.
    #[must_use]
    pub fn secured(&self) -> Option<Secured> {
        let Self::Tls(stream) = self else { return None };
        Some(Secured::of(stream.get_ref().1))
    }

    /// Reads what there is.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, into),
            Self::Begins(_) => Poll::Pending,
            Self::Failed => Poll::Ready(Ok(())),
        }
    }

    /// Writes as much as it takes; with TLS that may wait in it for [`Self::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Begins(_) => Poll::Pending,
            Self::Failed => Poll::Ready(Ok(0)),
        }
    }

    /// Has the socket take what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Plain(_) | Self::Begins(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    /// Says that nothing more comes, as far as the socket takes that now.
    pub fn say_end(&mut self, cx: &mut Context<'_>) {
        if let Self::Tls(stream) = self {
            // Who is gone is not told.
            let _ = Pin::new(&mut **stream).poll_shutdown(cx);
        }
    }
}
