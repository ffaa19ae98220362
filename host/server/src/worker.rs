//! A worker thread: one current-thread runtime, the connections that were given to it, the
//! housekeepers of its share of the virtual hosts, its plugin instances and its buffers. Nothing of it is shared; no lock is needed to use it.

use crate::{
    connection::{self, ConnectionWake},
    explainer::Recall,
    housekeeper,
    wiring::Shared,
};
use leveret_amqp091::frame::OVERHEAD_BYTES;
use leveret_broker::{Vhost, port::Router as _};
use leveret_model::Name;
use leveret_plugin::Worker as PluginWorker;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::TcpStream,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::{sync::mpsc, task::LocalSet};

/// The largest frame that is offered to clients of either protocol, in bytes.
pub const FRAME_BYTES_MAX: u32 = 128 * 1024;
/// How many bytes one read takes at most. Also the room for what a connection could not use yet: so the largest frame
/// that is taken fits, which of AMQP 0-9-1 is one whose payload alone has [`FRAME_BYTES_MAX`].
pub const READ_BYTES_MAX: usize = FRAME_BYTES_MAX as usize + OVERHEAD_BYTES;
/// How many emptied output buffers a worker keeps for the next connection that needs one.
const SPARE_OUTPUTS_MAX: usize = 64;
/// The stack of a worker thread, in bytes: a guest may use [`leveret_plugin`]'s limit of it.
const STACK_BYTES: usize = 4 * 1024 * 1024;

/// How often it is looked at what is remembered and not used.
const TENDED_EVERY: Duration = Duration::from_secs(1);

/// What the connections of one worker share.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The exchange types, as this worker asks them.
    pub router: RefCell<PluginWorker>,
    /// The buffer that every connection reads into, for one turn.
    pub read_buffer: RefCell<Box<[u8]>>,
    spare_outputs: RefCell<Vec<Vec<u8>>>,
    connections: RefCell<HashMap<u64, Arc<ConnectionWake>>>,
    stopping: Cell<bool>,
}

/// What a worker is told from outside.
pub enum Order {
    /// Serve this connection, with TLS or without.
    Serve(TcpStream, bool),
    /// Keep the house of this virtual host.
    Keep(Arc<Vhost>),
    /// Keep it no more, if it did.
    Leave(Name),
    /// Tell which answers it remembers.
    Recall(Box<Recall>),
    /// Close every connection with 320, then end.
    Stop,
}

/// A worker as the rest of the program sees it.
pub struct WorkerHandle {
    /// Its orders.
    pub orders: mpsc::UnboundedSender<Order>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

impl Worker {
    /// An output buffer with room already, or an empty one.
    pub fn take_output(&self) -> Vec<u8> {
        self.spare_outputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back an output buffer that is no longer needed.
    pub fn return_output(&self, mut output: Vec<u8>) {
        let mut spare = self.spare_outputs.borrow_mut();
        if spare.len() < SPARE_OUTPUTS_MAX && output.capacity() <= 4 * connection::OUTPUT_BYTES_SOFT_MAX {
            output.clear();
            spare.push(output);
        }
    }

    /// Whether the broker is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

/// Starts worker number `index`.
///
/// # Errors
/// If the system gives no thread or no runtime.
pub fn start(index: usize, shared: Arc<Shared>) -> std::io::Result<WorkerHandle> {
    let (orders, mut incoming) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).stack_size(STACK_BYTES).spawn(
        move || {
            let worker = Rc::new(Worker {
                router: RefCell::new(shared.plugins.worker(index)),
                shared,
                read_buffer: RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()),
                spare_outputs: RefCell::default(),
                connections: RefCell::default(),
                stopping: Cell::new(false),
            });
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async move {
                let mut houses = HashMap::new();
                for vhost in worker.shared.vhosts_of(index) {
                    houses.insert(vhost.name().clone(), worker.keep(vhost));
                }
                let mut serving = tokio::task::JoinSet::new();
                let mut tending = tokio::time::interval(TENDED_EVERY);
                tending.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        order = incoming.recv() => match order {
                            Some(Order::Serve(stream, with_tls)) => worker.serve(stream, with_tls, &mut serving),
                            Some(Order::Keep(vhost)) => {
                                houses.insert(vhost.name().clone(), worker.keep(vhost));
                            }
                            Some(Order::Leave(vhost)) => {
                                houses.remove(&vhost);
                            }
                            Some(Order::Recall(recall)) => recall.answer(&worker.router.borrow()),
                            Some(Order::Stop) | None => break,
                        },
                        Some(_ended) = serving.join_next() => {}
                        _ = tending.tick() => {
                            worker.router.borrow_mut().tend();
                            if index == 0 {
                                let now_ms = worker.router.borrow().now_ms();
                                worker.shared.suspended.expire(now_ms);
                            }
                        }
                    }
                }
                worker.stopping.set(true);
                worker.connections.borrow().values().for_each(|wake| wake.wake_now());
                while serving.join_next().await.is_some() {}
            });
        },
    )?;
    Ok(WorkerHandle { orders, thread })
}

/// A housekeeper; dropped, it ends.
struct House(tokio::task::JoinHandle<()>);

impl Drop for House {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Worker {
    /// Keeps the house of a virtual host.
    fn keep(self: &Rc<Self>, vhost: Arc<Vhost>) -> House {
        let (worker, name) = (self.clone(), vhost.name().clone());
        House(tokio::task::spawn_local(async move {
            let beside = |errand: housekeeper::Errand| {
                // Without a waker it is always taken.
                let errand = Box::new(move |router: &mut PluginWorker| errand(router));
                let _ = worker.shared.plugins.run_beside(&name, errand, None);
            };
            housekeeper::keep(vhost, &worker.router, beside).await;
        }))
    }

    fn serve(self: &Rc<Self>, stream: TcpStream, with_tls: bool, serving: &mut tokio::task::JoinSet<()>) {
        let id = self.shared.next_connection_id();
        match connection::ConnectionTask::new(id, stream, with_tls, self.clone()) {
            Ok(task) => {
                self.connections.borrow_mut().insert(id, task.wake_handle());
                let worker = self.clone();
                serving.spawn_local(async move {
                    task.await;
                    worker.connections.borrow_mut().remove(&id);
                    worker.shared.connection_ended();
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be set up");
                self.shared.connection_ended();
            }
        }
    }
}
