//! `leveret plugin bench FILE`: what a plugin costs a message, remembered and asked, in this process.
//!
//! The messages are routed as the broker routes those of one read: many at a time, or one by one. What is
//! asked is asked because the host has no memory for answers then.

use super::{
    cases::Cases,
    printable,
    test::{exchange_name, message_of, set_up},
    trial::Trial,
};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use leveret_broker::{
    exchange::Exchange,
    port::{Answer, Layer, Routed, Router},
};
use leveret_model::{MessageView, OwnedMessage, Table};
use leveret_plugin::{MEMO_BYTES_MAX, registry::TypeState};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How many messages come at a time.
const BATCH: usize = 64;
/// How long a round lasts at least.
const ROUND_MIN: Duration = Duration::from_millis(100);
/// The best of so many rounds counts.
const ROUNDS: usize = 5;
/// How many bindings and keys there are without a file of cases.
const KEYS: usize = 100;

#[derive(Args, Debug)]
pub(super) struct BenchArguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Exchange, bindings and messages, as for `test`; else 100 bindings and as many keys
    #[arg(long, value_name = "CASES.toml")]
    cases: Option<PathBuf>,
}

/// What is routed.
struct Subject {
    trial: Trial,
    exchange: Arc<Exchange>,
    messages: Vec<OwnedMessage>,
    pure: bool,
}

impl BenchArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let cases = self.cases.as_deref().map(Cases::read).transpose()?;
        let mut out = std::io::stdout().lock();
        let mut asking = Subject::new(&self.file, cases.as_ref(), 0)?;
        let type_name = asking.exchange.spec.type_name.to_text();
        let bindings = asking.exchange.binding_count();
        writeln!(
            out,
            "{} with {bindings} bindings, {} different messages; the best of {ROUNDS} rounds",
            printable(&type_name),
            asking.messages.len()
        )?;
        if cfg!(debug_assertions) {
            writeln!(out, "this leveret is a debug build: it is many times slower than a release build")?;
        }
        if asking.pure {
            let mut remembering = Subject::new(&self.file, cases.as_ref(), MEMO_BYTES_MAX)?;
            write_row(&mut out, "remembered", remembering.measure(BATCH)?)?;
        }
        write_row(&mut out, &format!("asked, {BATCH} at a time"), asking.measure(BATCH)?)?;
        write_row(&mut out, "asked, one by one", asking.measure(1)?)?;
        Ok(())
    }
}

fn write_row(out: &mut impl Write, what: &str, ns: f64) -> std::io::Result<()> {
    writeln!(out, "{what:20}  {ns:8.0} ns a message")
}

impl Subject {
    fn new(file: &Path, cases: Option<&Cases>, memo_bytes_max: usize) -> anyhow::Result<Self> {
        let (mut trial, loaded) = Trial::with(file, memo_bytes_max)?;
        let messages = if let Some(cases) = cases {
            set_up(&mut trial, cases)?;
            cases.messages.iter().map(message_of).collect::<anyhow::Result<Vec<_>>>()?
        } else {
            let type_name = loaded.exchange_types.first().context("the file has no exchange type")?.clone();
            let hint = "--cases says how it is declared and bound";
            let refused = |refusal| anyhow!("{refusal} ({hint})");
            trial.declare(&exchange_name(), &type_name, Table::new()).map_err(refused)?;
            let queue = leveret_model::Name::from_static("queue");
            for number in 0..KEYS {
                trial.bind(&exchange_name(), &queue, &key(number), Table::new()).map_err(refused)?;
            }
            (0..KEYS).map(|number| plain(&key(number))).collect()
        };
        if messages.is_empty() {
            bail!("the file of cases has no message");
        }
        let exchange = trial.vhost.exchange(&exchange_name()).context("the exchange is there")?;
        let types = trial.types().into_iter();
        let pure = types
            .filter(|info| info.name == exchange.spec.type_name)
            .any(|info| matches!(info.state, TypeState::Serving { pure: true, .. }));
        Ok(Self { trial, exchange, messages, pure })
    }

    /// How many nanoseconds a message takes, so many at a time.
    fn measure(&mut self, batch: usize) -> anyhow::Result<f64> {
        let messages: Vec<MessageView<'_>> = self.messages.iter().map(OwnedMessage::view).collect();
        let all: Vec<MessageView<'_>> =
            messages.iter().copied().cycle().take(messages.len().max(BATCH)).collect();
        let (waker, mut answers) = (self.trial.waker(), Vec::new());
        let (router, mut wait) = self.trial.router_and_wait();
        let mut best = f64::INFINITY;
        // The first round remembers what can be, and is not counted.
        for round in 0..=ROUNDS {
            let (began, mut routed) = (Instant::now(), 0_u64);
            while began.elapsed() < ROUND_MIN {
                for some in all.chunks(batch) {
                    route(router, &self.exchange, some, &mut answers, &waker, &mut wait)?;
                    routed += some.len() as u64;
                }
            }
            if round > 0 {
                best = best.min(began.elapsed().as_nanos() as f64 / routed as f64);
            }
        }
        Ok(best)
    }
}

/// Routes messages; what the answers would do is undone.
fn route(
    router: &mut impl Router,
    exchange: &Arc<Exchange>,
    mut messages: &[MessageView<'_>],
    answers: &mut Vec<Answer>,
    waker: &Arc<dyn leveret_broker::port::Wake>,
    wait: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !messages.is_empty() {
        answers.clear();
        let routed = router.route(exchange, Layer::FRONT, &mut messages.iter(), answers, waker);
        // A figure of what gives no answer would be one of the host alone.
        if let Some(refusal) = answers.iter().find_map(failed) {
            bail!(
                "a message gets no answer, so there is nothing to measure: {}",
                printable(&refusal.to_string())
            );
        }
        match routed {
            Routed::Ready => break,
            Routed::Cut => messages = messages.get(answers.len().max(1)..).unwrap_or_default(),
            // Its turn is over; or it is asked in the slow lane, and this takes what that takes.
            Routed::Pending => wait()?,
        }
    }
    answers.clear();
    Ok(())
}

/// Why there is no answer to a message.
fn failed(answer: &Answer) -> Option<&leveret_model::Refusal> {
    match answer {
        Answer::Failed(refusal) => Some(refusal),
        Answer::Effective(effective) => failed(&effective.answer),
        _ => None,
    }
}

fn key(number: usize) -> String {
    format!("key.{number}")
}

fn plain(key: &str) -> OwnedMessage {
    OwnedMessage {
        exchange: exchange_name(),
        routing_key: leveret_model::Name::cut(key.as_bytes()),
        form: leveret_amqp091::form::FORM,
        properties: leveret_amqp091::properties::NONE.to_vec().into(),
        body: b"body".to_vec().into(),
    }
}
