//! What takes long, on a thread of its own or in the slow lane, so that other requests are answered
//! meanwhile.

use super::{Api, error::ApiError};
use leveret_broker::{
    Receipt,
    port::Wake,
    store::{StoreFailure, Written},
};
use leveret_model::Name;
use leveret_plugin::Worker as PluginWorker;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// How much is done at a time; more is refused.
pub(super) const AT_A_TIME_MAX: usize = 4;

/// Where what takes long is done. What was begun is finished, whether somebody waits for it or not.
#[derive(Debug)]
pub struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME_MAX)))
    }
}

impl Aside {
    /// Does it, and gives what came of it.
    ///
    /// # Errors
    /// [`ApiError::Busy`], also where the system gives no thread.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        let place = self.0.clone().try_acquire_owned().map_err(|_| ApiError::Busy)?;
        let (done, finished) = oneshot::channel();
        let work = move || {
            // Whoever asked may be gone.
            let _ = done.send(work());
            drop(place);
        };
        std::thread::Builder::new().name("http-aside".to_owned()).spawn(work).map_err(|_| ApiError::Busy)?;
        finished.await.map_err(|_| ApiError::Busy)
    }
}

/// Whoever asks over HTTP may ask again.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// Does something in the slow lane, among what else is to be done there for a virtual host.
///
/// # Errors
/// [`ApiError::Busy`] if that is too much already.
pub(super) async fn in_the_lane<R: Send + 'static>(
    api: &Api,
    vhost: &Name,
    work: impl FnOnce(&mut PluginWorker) -> R + Send + 'static,
) -> Result<R, ApiError> {
    let (done, finished) = oneshot::channel();
    let nobody: Arc<dyn Wake> = Arc::new(Nobody);
    let errand = Box::new(move |worker: &mut PluginWorker| {
        // Whoever asked may be gone.
        let _ = done.send(work(worker));
    });
    api.shared.plugins.run_beside(vhost, errand, Some(&nobody)).map_err(|_| ApiError::Busy)?;
    finished.await.map_err(|_| ApiError::Busy)
}

/// Is told that a change is safe.
struct Told(Mutex<Option<oneshot::Sender<Result<(), StoreFailure>>>>);

impl Written for Told {
    fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever asked may be gone.
        let _ = told.map(|told| told.send(outcome));
    }
}

/// Waits until a change that is made is safe.
///
/// # Errors
/// It will not be.
pub(super) async fn safe(receipt: &Receipt) -> Result<(), ApiError> {
    if receipt.is_safe() {
        return Ok(());
    }
    let (told, outcome) = oneshot::channel();
    let waiter: Arc<dyn Written> = Arc::new(Told(Mutex::new(Some(told))));
    receipt.when_safe(&waiter, 0);
    match outcome.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(ApiError::Refused(format!("it is changed, and not kept: {failure}"))),
        Err(_) => Err(ApiError::Refused(String::from("it is changed, and the broker is being stopped"))),
    }
}
