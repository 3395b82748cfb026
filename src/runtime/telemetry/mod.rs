//! Traces and metrics on their way to a collector, by OTLP over HTTP, on a thread of its own.
//!
//! Workers hand their spans over in a bounded queue and never wait. What cannot be sent stays while a collector is away,
//! until the queue is full; from then on spans are dropped and counted. Numbers are since the start of the process, so
//! a push that fails loses nothing: the next one tells as much.

mod client;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use client::EndpointError;
use client::{Client, SendError};

use super::Stop;
use crate::model::Clock;
use crate::observe::metrics::Id;
use crate::observe::otlp::{self, Resource};
use crate::observe::trace::{Batch, SpanSource, Tracing, span_queue};
use crate::observe::{Exposition, Status};

/// Spans in one request, but for what a single cut has beyond that.
const MOST_A_REQUEST: usize = 512;
/// How long spans wait for others to go with.
const LINGER: Duration = Duration::from_secs(1);
/// How often the thread looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The pause after a request that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is said that the collector is away.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How long the last spans and numbers may take when the process stops.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Where to, and what.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://host:port` or `https://…`, with a path if need be; `/v1/traces` and `/v1/metrics` are added.
    pub endpoint: String,
    /// Headers of each request, secrets resolved.
    pub headers: Vec<(String, String)>,
    /// The share of events without a context that are sampled; 0: no traces.
    pub ratio: f64,
    /// How often numbers are pushed; 0: never.
    pub interval: Duration,
    /// What this process calls itself: `service.name`.
    pub service: String,
    /// What this process is called among those of its kind.
    pub instance: String,
}

/// What the numbers are read from.
#[derive(Clone)]
pub struct Read {
    /// The process's metrics.
    pub exposition: Exposition,
    /// The process's functions.
    pub status: Status,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The endpoint or a header is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The thread cannot be started.
    #[error("cannot start the exporter's thread: {0}")]
    Thread(#[from] io::Error),
}

/// The running exporter.
pub struct Telemetry {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Telemetry {
    /// Starts it; with what workers need to make traces, if there are to be any.
    pub fn start(config: Config, read: Read) -> Result<(Self, Option<Tracing>), TelemetryError> {
        let stop = Stop::default();
        let client = Client::new(&config.endpoint, &config.headers, stop.clone())?;
        let (mut tracing, mut source) = (None, None);
        if config.ratio > 0.0 {
            let (spans, end) = span_queue(read.exposition.counter(Id::ProcessDroppedSpans, &[]));
            (tracing, source) = (Some(Tracing { ratio: config.ratio, spans }), Some(end));
        }
        let now = read.clock.now();
        let exporter = Exporter {
            client,
            source,
            resource: Resource { name: config.service, instance: config.instance },
            started_ns: now.wall_ms.max(0) as u64 * 1_000_000,
            pending: Vec::new(),
            send_at: Duration::ZERO,
            pause: Duration::ZERO,
            interval: Some(config.interval).filter(|interval| !interval.is_zero()),
            push_at: now.elapsed + config.interval,
            said_at: None,
            stop: stop.clone(),
            read,
        };
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || exporter.run())?;
        tracing::info!(endpoint = config.endpoint, ratio = config.ratio, "exports by OTLP");
        Ok((Self { stop, thread }, tracing))
    }

    /// Sends what is left, for a few seconds at most; to be called when nothing makes spans any more.
    pub fn finish(self) {
        self.stop.set();
        if self.thread.join().is_err() {
            tracing::warn!("the exporter's thread panicked");
        }
    }
}

struct Exporter {
    client: Client,
    source: Option<SpanSource>,
    resource: Resource,
    started_ns: u64,
    read: Read,
    /// Spans of the next request.
    pending: Vec<Batch>,
    /// When it is due, on the clock's monotonic time.
    send_at: Duration,
    /// How long the last failure made it wait; zero after a success.
    pause: Duration,
    interval: Option<Duration>,
    push_at: Duration,
    said_at: Option<Duration>,
    stop: Stop,
}

impl Exporter {
    fn run(mut self) {
        while !self.stop.is_set() {
            self.gather(LOOK_EVERY);
            let now = self.now();
            let is_whole = self.pending_spans() >= MOST_A_REQUEST && self.pause.is_zero();
            if !self.pending.is_empty() && (is_whole || now >= self.send_at) {
                self.send_spans();
            }
            if let Some(interval) = self.interval.filter(|_| now >= self.push_at) {
                self.push_at = now + interval;
                self.push_numbers();
            }
        }
        self.last_words();
    }

    /// What has not been sent yet, as far as that goes.
    fn last_words(&mut self) {
        let until = self.now() + LAST_WORDS;
        self.client.answer_within(LAST_WORDS / 2);
        loop {
            self.gather(Duration::ZERO);
            if self.pending.is_empty() || self.now() >= until || !self.send_spans() {
                break;
            }
        }
        if self.interval.is_some() && self.now() < until {
            self.push_numbers();
        }
    }

    /// Takes spans for the next request; waits so long for the first.
    fn gather(&mut self, wait: Duration) {
        let has_room = self.pending_spans() < MOST_A_REQUEST;
        let Some(source) = self.source.as_ref().filter(|_| has_room) else {
            self.stop.wait(wait);
            return;
        };
        let mut wait = wait;
        let mut spans = self.pending_spans();
        while spans < MOST_A_REQUEST {
            let Some(batch) = source.take(wait) else { return };
            if self.pending.is_empty() && self.pause.is_zero() {
                self.send_at = self.read.clock.now().elapsed + LINGER;
            }
            spans += spans_of(&batch);
            self.pending.push(batch);
            wait = Duration::ZERO;
        }
    }

    /// Whether they have gone, one way or the other.
    fn send_spans(&mut self) -> bool {
        let body = otlp::spans(&self.resource, &self.pending);
        let result = self.client.send("/v1/traces", body);
        let failed = result.as_ref().err().map(SendError::may_succeed);
        self.told(result);
        if failed == Some(false) {
            let spans = self.pending_spans() as u64;
            self.read.exposition.counter(Id::ProcessDroppedSpans, &[]).increment(spans);
        }
        if failed == Some(true) {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.send_at = self.now() + self.pause;
            return false;
        }
        self.pending.clear();
        true
    }

    fn push_numbers(&mut self) {
        let Read { exposition, status, clock } = &self.read;
        let now_ns = clock.now().wall_ms.max(0) as u64 * 1_000_000;
        let snapshot = exposition.snapshot(status);
        let body = otlp::numbers(&self.resource, &snapshot, (self.started_ns, now_ns));
        let result = self.client.send("/v1/metrics", body);
        self.told(result);
    }

    /// Says that the collector is away, once in a while, and that it is back.
    fn told(&mut self, result: Result<(), SendError>) {
        let now = self.now();
        let Err(error) = result else {
            self.pause = Duration::ZERO;
            if self.said_at.take().is_some() {
                tracing::info!("the collector takes telemetry again");
            }
            return;
        };
        if self.said_at.is_none_or(|said_at| now.saturating_sub(said_at) >= SAY_EVERY) {
            self.said_at = Some(now);
            tracing::warn!("telemetry is not exported: {error}");
        }
    }

    fn pending_spans(&self) -> usize {
        self.pending.iter().map(spans_of).sum()
    }

    fn now(&self) -> Duration {
        self.read.clock.now().elapsed
    }
}

fn spans_of(batch: &Batch) -> usize {
    batch.calls.len() + 1
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::model::SystemClock;
    use crate::observe::trace::{CutSpan, TraceParent};

    const WITHIN: Duration = Duration::from_secs(20);

    /// Answers one request with each of these; tells the path and the answer of each.
    fn collector(answers: &'static [&'static str]) -> (String, Receiver<(String, &'static str)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/otlp", listener.local_addr().unwrap());
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for (stream, answer) in listener.incoming().flatten().zip(answers) {
                let mut reader = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {
                    let line = head.lines().last().unwrap().to_ascii_lowercase();
                    length = line.strip_prefix("content-length: ").map_or(length, |l| l.parse().unwrap());
                }
                io::copy(&mut (&mut reader).take(length), &mut io::sink()).unwrap();
                let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\nno");
                reader.get_mut().write_all(text.as_bytes()).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                if sender.send((path, *answer)).is_err() {
                    return;
                }
            }
        });
        (endpoint, receiver)
    }

    fn batch() -> Batch {
        let context = TraceParent::root([1; 16], [2; 8]);
        let cut = CutSpan { context, is_committed: true, records: 1, outputs: 1, begin_ns: 1, end_ns: 2 };
        Batch { function: "default/f".into(), group: "g".into(), cut, calls: Vec::new() }
    }

    fn start(endpoint: &str, interval: Duration) -> (Telemetry, Tracing, Read) {
        let read = Read {
            exposition: Exposition::new(),
            status: Status::default(),
            clock: Arc::new(SystemClock::start()),
        };
        let config = Config {
            endpoint: endpoint.to_owned(),
            headers: Vec::new(),
            ratio: 1.0,
            interval,
            service: "tidemill".to_owned(),
            instance: "test".to_owned(),
        };
        let (telemetry, tracing) = Telemetry::start(config, read.clone()).unwrap();
        (telemetry, tracing.expect("ratio 1"), read)
    }

    fn dropped(read: &Read) -> bool {
        !read.exposition.render(&read.status).contains("tidemill_process_dropped_spans_total 0\n")
    }

    #[test]
    fn what_may_succeed_later_is_sent_again_and_nothing_else() {
        let (endpoint, answers) = collector(&["503 Busy", "200 OK", "400 Bad", "200 OK"]);
        let (telemetry, tracing, read) = start(&endpoint, Duration::ZERO);
        tracing.spans.push(batch());
        let next = || answers.recv_timeout(WITHIN).unwrap();
        assert_eq!(next(), ("/otlp/v1/traces".to_owned(), "503 Busy"));
        assert_eq!(next().1, "200 OK");
        assert!(!dropped(&read));
        tracing.spans.push(batch());
        assert_eq!(next().1, "400 Bad");
        tracing.spans.push(batch());
        assert_eq!(next().1, "200 OK", "the next one is another");
        assert!(dropped(&read), "what was refused is counted");
        telemetry.finish();
    }

    #[test]
    fn a_stop_sends_what_is_left_and_does_not_wait_for_who_is_away() {
        let (endpoint, answers) = collector(&["200 OK", "200 OK"]);
        let (telemetry, tracing, _) = start(&endpoint, WITHIN);
        tracing.spans.push(batch());
        telemetry.finish();
        let paths: Vec<_> = answers.try_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/otlp/v1/traces", "/otlp/v1/metrics"]);

        // Takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let (telemetry, tracing, read) = start(&endpoint, WITHIN);
        tracing.spans.push(batch());
        let began = read.clock.now().elapsed;
        telemetry.finish();
        let took = read.clock.now().elapsed - began;
        assert!(took < LAST_WORDS * 3, "{took:?}");
    }
}
