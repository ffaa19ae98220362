//! What a plugin prints becomes lines in the broker's log.
//!
//! A plugin may print as much as it likes: per instance, a limited number of lines a
//! second reaches the log, each cut to [`LINE_BYTES_MAX`]; the rest is counted, and the
//! count is logged before the next line that is let through, or when the instance ends.
//! An unfinished line waits for its end, at most until the instance ends.
//!
//! What is printed is a stranger's: it is one field of one event, with control characters
//! escaped, so that it cannot look like a line of the broker's own or command a terminal.

use crate::policy::PluginPolicy;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The tracing target of every line a plugin prints.
const TARGET: &str = "leveret::plugin::output";

/// Longer lines are cut here.
const LINE_BYTES_MAX: usize = 1_024;

/// Of what was printed before a trap so much is part of the reason, in bytes: its end.
const SAID_BYTES_MAX: usize = 400;
/// How a Rust panic ends that nobody needs to read.
const NOTE: &str = "note: run with `RUST_BACKTRACE";

const WINDOW: Duration = Duration::from_secs(1);

/// Where a plugin printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What goes to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry<'a> {
    Line { stream: Stream, text: Cow<'a, str>, cut_bytes: u64 },
    LeftOut { lines: u64, lines_max: u32 },
}

/// Who prints, as the log says it.
struct Printer {
    plugin: Box<str>,
    /// Where; an instance that only says what its plugin is has none.
    vhost: Option<Box<str>>,
}

/// Both streams of one instance.
pub(super) struct Output {
    printer: Printer,
    stdout: Line,
    stderr: Line,
    /// The end of what went to standard error in this call.
    said: Vec<u8>,
    limit: RateLimit,
}

impl Output {
    /// At most as many lines a second as the policy allows, both streams together.
    pub(super) fn new(policy: &PluginPolicy) -> Self {
        Self {
            printer: Printer {
                plugin: policy.plugin.as_str().into(),
                vhost: policy.vhost.as_ref().map(|vhost| vhost.to_text().into()),
            },
            stdout: Line::default(),
            stderr: Line::default(),
            said: Vec::new(),
            limit: RateLimit::new(policy.limits.log_lines_per_second_max),
        }
    }

    /// Takes what the plugin wrote to `stream`.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { printer, stdout, stderr, said, limit } = self;
        let line = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => {
                keep_end(said, bytes);
                stderr
            }
        };
        // One reading of the clock serves all lines of a write.
        let now = Instant::now();
        line.push(bytes, |text, cut_bytes| {
            limit.pass(now, stream, text, cut_bytes, |entry| log(printer, &entry));
        });
    }
}

impl Output {
    /// What was said so far belongs to an earlier call.
    pub(super) fn begin_call(&mut self) {
        self.said.clear();
    }

    /// What the plugin wrote to standard error in this call, the end of it: of a call that trapped mostly why. `None` if it
    /// wrote nothing.
    pub(super) fn said(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.said);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(NOTE));
        let said = lines.collect::<Vec<_>>().join(" ");
        (!said.is_empty()).then_some(said)
    }
}

/// Appends bytes, and keeps the last ones.
fn keep_end(said: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.split_at(bytes.len().saturating_sub(SAID_BYTES_MAX)).1;
    let surplus = (said.len() + bytes.len()).saturating_sub(SAID_BYTES_MAX);
    said.drain(..surplus.min(said.len()));
    said.extend_from_slice(bytes);
}

impl Drop for Output {
    /// What was printed last is often why the instance ended.
    fn drop(&mut self) {
        let now = Instant::now();
        let Self { printer, stdout, stderr, limit, .. } = self;
        for (stream, line) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            line.end(&mut |text, cut_bytes| {
                limit.pass(now, stream, text, cut_bytes, |entry| log(printer, &entry));
            });
        }
        limit.end(|entry| log(printer, &entry));
    }
}

fn log(Printer { plugin, vhost }: &Printer, entry: &Entry<'_>) {
    let vhost = vhost.as_deref();
    match entry {
        Entry::Line { stream: Stream::Stdout, text, cut_bytes: 0 } => {
            tracing::info!(target: TARGET, plugin, vhost, stream = "stdout", "{text}");
        }
        Entry::Line { stream: Stream::Stderr, text, cut_bytes: 0 } => {
            tracing::warn!(target: TARGET, plugin, vhost, stream = "stderr", "{text}");
        }
        Entry::Line { stream: Stream::Stdout, text, cut_bytes } => {
            tracing::info!(target: TARGET, plugin, vhost, stream = "stdout", cut_bytes, "{text}");
        }
        Entry::Line { stream: Stream::Stderr, text, cut_bytes } => {
            tracing::warn!(target: TARGET, plugin, vhost, stream = "stderr", cut_bytes, "{text}");
        }
        Entry::LeftOut { lines, lines_max } => tracing::warn!(
            target: TARGET,
            plugin,
            vhost,
            lines,
            "left out what the plugin printed beyond {lines_max} lines in a second"
        ),
    }
}

/// The line being printed, not yet ended.
#[derive(Default)]
struct Line {
    /// At most [`LINE_BYTES_MAX`].
    bytes: Vec<u8>,
    /// What came after those.
    cut_bytes: u64,
}

impl Line {
    /// Calls `emit` with each line that `bytes` ends, and with how much of it was cut.
    fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8], u64)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ended) = match piece.split_last() {
                Some((b'\n', content)) => (content, true),
                _ => (piece, false),
            };
            let room_bytes = LINE_BYTES_MAX.saturating_sub(self.bytes.len());
            let (kept, cut) = content.split_at(content.len().min(room_bytes));
            self.bytes.extend_from_slice(kept);
            self.cut_bytes = self.cut_bytes.saturating_add(cut.len() as u64);
            if ended {
                self.emit(&mut emit);
            }
        }
    }

    /// Calls `emit` with what is there of an unfinished line.
    fn end(&mut self, emit: &mut impl FnMut(&[u8], u64)) {
        if !self.bytes.is_empty() {
            self.emit(emit);
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(&[u8], u64)) {
        emit(self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes), self.cut_bytes);
        self.bytes.clear();
        self.cut_bytes = 0;
    }
}

/// Counts lines in windows of one second, each opened by its first line.
struct RateLimit {
    lines_max: u32,
    window_start: Option<Instant>,
    passed_lines: u32,
    left_out_lines: u64,
}

impl RateLimit {
    fn new(lines_max: u32) -> Self {
        Self { lines_max, window_start: None, passed_lines: 0, left_out_lines: 0 }
    }

    /// Passes a line to `sink`, or counts it as left out. Text is made of it only in the
    /// first case.
    fn pass(
        &mut self,
        now: Instant,
        stream: Stream,
        line: &[u8],
        cut_bytes: u64,
        mut sink: impl FnMut(Entry<'_>),
    ) {
        let window_open =
            self.window_start.is_some_and(|start| now.saturating_duration_since(start) < WINDOW);
        if !window_open {
            self.window_start = Some(now);
            self.passed_lines = 0;
        }
        if self.passed_lines == self.lines_max {
            self.left_out_lines = self.left_out_lines.saturating_add(1);
            return;
        }
        self.passed_lines += 1;
        self.end(&mut sink);
        sink(Entry::Line { stream, text: printable(line), cut_bytes });
    }

    /// Tells `sink` how many lines were left out since it was last told.
    fn end(&mut self, mut sink: impl FnMut(Entry<'_>)) {
        let lines = std::mem::take(&mut self.left_out_lines);
        if lines > 0 {
            sink(Entry::LeftOut { lines, lines_max: self.lines_max });
        }
    }
}

/// The line as text: what is not UTF-8 is replaced, control characters but the tab are
/// written as escapes.
fn printable(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    let is_unsafe = |c: char| c.is_control() && c != '\t';
    if !text.contains(is_unsafe) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "{}", c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{LOG_LINES_MAX as LINES_MAX, Policies},
        scope::Scope,
    };

    /// What reaches the log of `writes`, each made so many milliseconds after the start.
    fn logged(writes: &[(u64, &[u8])]) -> Vec<Entry<'static>> {
        let start = Instant::now();
        let (mut line, mut limit, mut entries) = (Line::default(), RateLimit::new(LINES_MAX), Vec::new());
        for (after_ms, bytes) in writes {
            let now = start + Duration::from_millis(*after_ms);
            line.push(bytes, |text, cut_bytes| {
                limit.pass(now, Stream::Stderr, text, cut_bytes, |entry| entries.push(owned(&entry)));
            });
        }
        entries
    }

    fn owned(entry: &Entry<'_>) -> Entry<'static> {
        match entry {
            Entry::Line { stream, text, cut_bytes } => {
                Entry::Line { stream: *stream, text: text.to_string().into(), cut_bytes: *cut_bytes }
            }
            Entry::LeftOut { lines, lines_max } => Entry::LeftOut { lines: *lines, lines_max: *lines_max },
        }
    }

    fn line(text: &str) -> Entry<'_> {
        Entry::Line { stream: Stream::Stderr, text: text.into(), cut_bytes: 0 }
    }

    #[test]
    fn the_end_of_what_a_call_said_is_kept() {
        let policy = Policies::default().of(&Scope::Global, None, "p");
        let mut output = Output::new(&policy);
        assert_eq!(output.said(), None);
        output.write(Stream::Stdout, b"not this");
        output.write(Stream::Stderr, b"\nthread 'x' panicked at a.rs:1:2:\n");
        output.write(Stream::Stderr, b"too late\nnote: run with `RUST_BACKTRACE=1` to see more\n");
        assert_eq!(output.said().unwrap(), "thread 'x' panicked at a.rs:1:2: too late");
        output.write(Stream::Stderr, "y".repeat(SAID_BYTES_MAX - 1).as_bytes());
        assert_eq!(output.said().unwrap(), "y".repeat(SAID_BYTES_MAX - 1));
        output.write(Stream::Stderr, "z".repeat(2 * SAID_BYTES_MAX).as_bytes());
        assert_eq!(output.said().unwrap(), "z".repeat(SAID_BYTES_MAX));
        output.begin_call();
        assert_eq!(output.said(), None);
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let entries = logged(&[(0, b"one\ntw"), (1, b"o\r\n\nthr"), (2, b"ee")]);
        assert_eq!(entries, [line("one"), line("two"), line("")]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let entries = logged(&[(0, long.as_bytes()), (1, b"yyy"), (2, b"y\nshort\n")]);
        assert_eq!(
            entries,
            [Entry::Line { stream: Stream::Stderr, text: long.into(), cut_bytes: 4 }, line("short")]
        );
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        let long = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(logged(&[(0, format!("{long}\n").as_bytes())]), [line(&long)]);
    }

    #[test]
    fn what_exceeds_the_rate_is_counted_and_reported_with_the_next_line() {
        let burst = b"again\n".repeat(LINES_MAX as usize + 5);
        let entries = logged(&[(0, &burst), (999, b"late\n"), (1_000, b"next second\n")]);
        assert_eq!(entries.len(), LINES_MAX as usize + 2);
        assert!(entries[..LINES_MAX as usize].iter().all(|entry| *entry == line("again")));
        assert_eq!(
            entries[LINES_MAX as usize..],
            [Entry::LeftOut { lines: 6, lines_max: LINES_MAX }, line("next second")]
        );
    }

    #[test]
    fn a_line_cannot_command_a_terminal_or_fake_another_line() {
        let entries = logged(&[(0, b"\x1b[31mred\rover\tit \xff\n")]);
        assert_eq!(entries, [line("\\u{1b}[31mred\\rover\tit \u{fffd}")]);
    }
}
