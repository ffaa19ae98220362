//! The thread of the HTTP API: accepts connections and bounds what each may hold, and for how long.

use super::{
    Api, Aside, Ends, Rates, metrics, metrics_router, rates, router,
    token_file::{Token, TokenFile},
};
use crate::{explainer::Explainer, tls::Tls, wiring::Shared, worker::Order};
use anyhow::Context;
use axum::{Router, extract::Request, http::Uri};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// The most connections at a time. One more is told 503 and closed.
pub const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, and how long a connection may wait for the next one.
pub const HEAD_READ_MAX: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes; a longer one is answered with 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a connection may last; so one that reads no answer does not hold its place for ever.
pub const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// What is left of an answer then, may take so long.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long to wait before a token file that could not be written is tried again.
const TOKEN_RETRY_AFTER: Duration = Duration::from_millis(500);
/// What a connection above [`CONNECTIONS_MAX`] gets.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The running API. Dropping it stops the thread and takes the token file away.
#[derive(Debug)]
pub struct HttpServer {
    address: Option<SocketAddr>,
    https_address: Option<SocketAddr>,
    token_file: Option<TokenFile>,
    data_dir: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Writes the token file into the data folder, where the API listens without TLS, and answers requests on a thread of its
/// own.
///
/// The sockets listen already and do not block; `amqp_address` is where AMQP clients connect, and `workers` serve them.
///
/// # Errors
/// If the system gives no thread, runtime or random bytes. A token file that cannot be written is written later.
pub fn start(
    listeners: Listeners,
    shared: Arc<Shared>,
    workers: Vec<UnboundedSender<Order>>,
    (amqp_address, tls_address): (SocketAddr, Option<SocketAddr>),
    data_dir: &Path,
) -> anyhow::Result<HttpServer> {
    let address = listeners.plain.as_ref().map(TcpListener::local_addr).transpose();
    let address = address.context("the HTTP socket has no address")?;
    let https = listeners.tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose();
    let https_address = https.context("the HTTPS socket has no address")?;
    let token = Token::random()?;
    // The command line speaks no TLS.
    let token_file = address.map(|address| TokenFile::new(address, token.clone()));
    let explainer = Explainer::start(shared.plugins.clone(), workers)?;
    let (http_address, aside) = (address, Aside::default());
    let since = Instant::now();
    let api = Arc::new(Api {
        shared,
        amqp_address,
        tls_address,
        http_address,
        https_address,
        token,
        explainer,
        aside,
        since,
        rates: Rates::new(since),
        of_queues: Arc::new(Semaphore::new(metrics::OF_QUEUES_AT_ONCE)),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let doors = {
        let _inside = runtime.enter();
        Doors::open(listeners, &api)?
    };
    let written = token_file.as_ref().map_or(Ok(()), |file| file.write(data_dir));
    if let Err(error) = &written {
        tracing::error!(
            "{error:#}; until it can be written, which is tried again and again, the command line does not find this \
             broker; all else serves"
        );
    }
    let (stop, stopped) = oneshot::channel();
    let late = token_file.clone().filter(|_| written.is_err()).map(|file| (file, data_dir.to_path_buf()));
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = doors.serve() => {}
                () = write_late(late) => {}
                () = rates::keep_looking(&api) => {}
                // Told to stop, or nobody is left who could.
                _ = stopped => {}
            }
        });
    })?;
    let data_dir = data_dir.to_path_buf();
    Ok(HttpServer { address, https_address, token_file, data_dir, stop: Some(stop), thread: Some(thread) })
}

impl HttpServer {
    /// Where it listens without TLS, if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where it listens with TLS, if it does.
    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https_address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(file) = &self.token_file {
            file.remove(&self.data_dir);
        }
        if let Some(stop) = self.stop.take() {
            // If the thread is gone already there is nobody to tell.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the HTTP API had panicked");
        }
    }
}

/// Writes a token file that could not be written at first, once that is possible. Never returns.
async fn write_late(late: Option<(TokenFile, PathBuf)>) {
    if let Some((file, data_dir)) = late {
        while file.write(&data_dir).is_err() {
            tokio::time::sleep(TOKEN_RETRY_AFTER).await;
        }
        tracing::info!("{} is written", TokenFile::path(&data_dir).display());
    }
    std::future::pending().await
}

/// Where it listens; each stands by itself.
pub struct Listeners {
    /// Without TLS.
    pub plain: Option<TcpListener>,
    /// With TLS, and what that begins with.
    pub tls: Option<(TcpListener, Arc<Tls>)>,
    /// For metrics alone.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_none() && self.tls.is_none() && self.metrics.is_none()
    }
}

/// One socket, and what is behind it.
struct Door {
    listener: tokio::net::TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
}

/// All of them; at each there are as many connections as there may be.
struct Doors(Vec<Door>);

impl Doors {
    fn open(listeners: Listeners, api: &Arc<Api>) -> std::io::Result<Self> {
        let Listeners { plain, tls, metrics } = listeners;
        let tls = tls.map(|(listener, tls)| (listener, router(api), Some(tls)));
        let metrics = metrics.map(|listener| (listener, metrics_router(api), None));
        let plain = plain.map(|listener| (listener, router(api), None));
        let all = plain.into_iter().chain(tls).chain(metrics);
        let open = |(listener, router, tls)| {
            Ok(Door { listener: tokio::net::TcpListener::from_std(listener)?, router, tls })
        };
        Ok(Self(all.map(open).collect::<std::io::Result<_>>()?))
    }

    /// Never returns.
    async fn serve(self) {
        let doors: Vec<_> = self.0.into_iter().map(|door| tokio::spawn(accept(door))).collect();
        for door in doors {
            // It ends with a panic alone, or with the runtime.
            let _ = door.await;
        }
        std::future::pending().await
    }
}

/// Never returns.
async fn accept(Door { listener, router, tls }: Door) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection; trying again");
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            send_away(stream);
            tracing::debug!("more than {CONNECTIONS_MAX} HTTP connections; {peer} was sent away");
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        // Answers are written whole; without this the last packet would wait. Else it is slow, not wrong.
        let _ = stream.set_nodelay(true);
        let ends = Ends { local, peer, with_tls: tls.is_some() };
        match &tls {
            None => drop(tokio::spawn(serve(stream, ends, router.clone(), CONNECTION_MAX, place))),
            Some(tls) => {
                let acceptor = TlsAcceptor::from(tls.http_config());
                tokio::spawn(serve_with_tls(stream, acceptor, ends, router.clone(), place));
            }
        }
    }
}

/// The same behind TLS, which has as long to begin as a head has.
async fn serve_with_tls(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    ends: Ends,
    router: Router,
    place: OwnedSemaphorePermit,
) {
    match timeout(HEAD_READ_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, ends, router, CONNECTION_MAX, place).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS of an HTTP connection from {}", ends.peer),
        Err(_) => tracing::debug!("TLS of an HTTP connection from {} took too long", ends.peer),
    }
}

/// A fresh socket has room for the answer and does not block; whoever does not read it sees the end.
fn send_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(TOO_MANY);
    }
}

/// Answers one connection until it ends, or is at its end after `longest`.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ends: Ends,
    router: Router,
    longest: Duration,
    _place: OwnedSemaphorePermit,
) {
    let api = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        trim(request.uri_mut());
        api.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_READ_MAX).max_header_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = match timeout(longest, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection from {}", ends.peer);
    }
}

/// Takes the slashes at the end of a path away: some tools send one, and RabbitMQ does not look at it.
fn trim(uri: &mut Uri) {
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{trimmed}{query}").parse().ok();
    // Less of one that was taken is taken.
    if let Ok(less) = Uri::from_parts(parts) {
        *uri = less;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn a_slash_at_the_end_of_a_path_means_nothing() {
        for (given, meant) in [
            ("/api/users/", "/api/users"),
            ("/api/users//?page=1", "/api/users?page=1"),
            ("/api/queues/%2F/", "/api/queues/%2F"),
            ("http://localhost:1/api/users/", "http://localhost:1/api/users"),
            ("/api/users?name=a/", "/api/users?name=a/"),
            ("/", "/"),
            ("//", "//"),
        ] {
            let mut uri = given.parse().unwrap();
            trim(&mut uri);
            assert_eq!(uri.to_string(), meant);
        }
    }

    #[test]
    fn a_connection_that_says_nothing_ends_when_its_time_is_over() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            let places = Arc::new(Semaphore::new(1));
            let place = places.clone().try_acquire_owned().unwrap();
            let ends = Ends { local: listener.local_addr().unwrap(), peer, with_tls: false };
            serve(stream, ends, Router::new(), Duration::ZERO, place).await;
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
            assert_eq!(places.available_permits(), 1);
        });
    }
}
