//! The clock that interrupts guests: a thread that raises the epoch of every engine once a
//! millisecond while any guest runs, and sleeps while none does.
//!
//! A tick only makes a running guest look at its deadline; how much CPU time the call has used is
//! decided there (see `guest::deadline`), so a late tick never kills a healthy call.

use parking_lot::Mutex;
use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::{Engine, EngineWeak};

/// How often the epoch is raised.
const TICK: Duration = Duration::from_millis(1);
/// The ticker parks after this many ticks without a call.
const IDLE_TICKS_MAX: u32 = 100;
/// A parked ticker looks by itself this often, so that not even a lost wake-up lets a guest loop
/// for ever.
const PARKED_LOOK: Duration = Duration::from_millis(250);

/// Raises epochs until it is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    engines: Mutex<Vec<EngineWeak>>,
    slots: Mutex<Vec<Weak<Calls>>>,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// The calls of one caller: odd while one is on. A line of its own, so that callers on different
/// cores do not disturb each other.
#[repr(align(128))]
#[derive(Default)]
struct Calls(AtomicU64);

/// Through which one caller tells the ticker that a guest runs. Used by one thread at a time.
#[derive(Clone)]
pub(crate) struct CallSlot {
    calls: Arc<Calls>,
    shared: Arc<Shared>,
    ticker: Thread,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            engines: Mutex::default(),
            slots: Mutex::default(),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let for_thread = shared.clone();
        let handle = thread::Builder::new().name("leveret-ticker".into()).spawn(move || for_thread.run())?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Raises the epoch of this engine too.
    pub(crate) fn drive(&self, engine: &Engine) {
        self.shared.engines.lock().push(engine.weak());
    }

    /// A slot for a new caller.
    pub(crate) fn slot(&self) -> CallSlot {
        let calls = Arc::new(Calls::default());
        self.shared.slots.lock().push(Arc::downgrade(&calls));
        CallSlot { calls, shared: self.shared.clone(), ticker: self.thread.clone() }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl CallSlot {
    /// A call begins.
    #[inline]
    pub(crate) fn enter(&self) {
        self.count();
        if self.shared.parked.load(Ordering::Relaxed) {
            self.ticker.unpark();
        }
    }

    /// The call ended.
    #[inline]
    pub(crate) fn leave(&self) {
        self.count();
    }

    /// Nobody else writes, so it takes no read-modify-write.
    #[inline]
    fn count(&self) {
        self.calls.0.store(self.calls.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self) {
        let mut seen = 0;
        let mut idle_ticks = 0;
        while !self.stop.load(Ordering::Acquire) {
            thread::sleep(TICK);
            self.engines.lock().retain(|engine| {
                let engine = engine.upgrade();
                if let Some(engine) = &engine {
                    engine.increment_epoch();
                }
                engine.is_some()
            });
            idle_ticks = if self.quiet_since(&mut seen) { idle_ticks + 1 } else { 0 };
            if idle_ticks >= IDLE_TICKS_MAX {
                self.park(&mut seen);
                idle_ticks = 0;
            }
        }
    }

    /// Whether no call is on and none was since the last look.
    fn quiet_since(&self, seen: &mut u64) -> bool {
        let (mut sum, mut running) = (0_u64, false);
        self.slots.lock().retain(|slot| {
            let slot = slot.upgrade();
            if let Some(slot) = &slot {
                let calls = slot.0.load(Ordering::Relaxed);
                running |= calls % 2 == 1;
                sum = sum.wrapping_add(calls);
            }
            slot.is_some()
        });
        let quiet = !running && sum == *seen;
        *seen = sum;
        quiet
    }

    /// Sleeps until a call begins. A caller writes its slot and then reads `parked`; here `parked`
    /// is written, and the slots are read a tick later, when any such write has long been seen.
    fn park(&self, seen: &mut u64) {
        self.parked.store(true, Ordering::SeqCst);
        thread::sleep(TICK);
        while self.quiet_since(seen) && !self.stop.load(Ordering::Acquire) {
            thread::park_timeout(PARKED_LOOK);
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}
