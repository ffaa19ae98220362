//! A connection whose socket is gone: what the client had sent whole is dealt with, as if it had closed the
//! connection properly. Publishes that wait for a slow type reach their queues, in their order; answers go
//! nowhere. Its consumers end at once.

use super::ConnectionTask;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// For how long what a client left behind is dealt with. What is not done then is given up.
pub const ALONE_MAX: Duration = Duration::from_secs(60);

/// The time that is left.
pub(super) struct Alone(Pin<Box<Sleep>>);

impl ConnectionTask {
    /// The socket is gone: whether there is something left to be dealt with.
    pub(super) fn is_left_alone(&mut self) -> bool {
        let worker = self.worker.clone();
        let is_over = !self.connection.is_open() && !self.connection.has_unfinished(&self.leftover);
        if worker.is_stopping() || is_over {
            return false;
        }
        let router = &mut *worker.router.borrow_mut();
        self.connection.hang_up(router);
        self.go_on_alone(true, router);
        let left = self.connection.has_unfinished(&self.leftover);
        if left {
            self.alone = Some(Alone(Box::pin(tokio::time::sleep(ALONE_MAX))));
        }
        left
    }

    /// Deals with what is left, when something of that was woken.
    pub(super) fn poll_alone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let worker = self.worker.clone();
        while self.wake.take() {
            self.go_on_alone(true, &mut *worker.router.borrow_mut());
        }
        let is_over = worker.is_stopping()
            || self.wake.forced().is_some()
            || !self.connection.has_unfinished(&self.leftover);
        let Some(Alone(sleep)) = &mut self.alone else { return Poll::Ready(()) };
        if is_over || sleep.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn go_on_alone(&mut self, woken: bool, router: &mut dyn leveret_broker::port::Router) {
        let leftover = std::mem::take(&mut self.leftover);
        let used = self.connection.go_on_alone(&leftover, woken, router);
        self.leftover = leftover.get(used..).unwrap_or_default().to_vec();
    }
}
