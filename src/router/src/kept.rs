//! Bodies that can be sent again: what was read is kept, up to a limit for each request and one for all.

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// The bytes that all kept bodies may have together.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    /// How many bytes are kept now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.limit)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A body cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// All kept bodies together have reached their limit.
    #[error("too many bytes are kept already")]
    Budget,
    /// The client's body ended in an error.
    #[error("reading the request's body")]
    Client(#[from] hyper::Error),
    /// A newer attempt has taken the body over.
    #[error("this attempt was given up")]
    GivenUp,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

struct Source {
    rest: Incoming,
    /// The client's body was read to its end.
    done: bool,
    /// What was read, from the beginning; empty once it is not whole any more.
    pieces: Vec<Piece>,
    bytes: usize,
    /// Whether `pieces` and `rest` still make up the whole body.
    whole: bool,
    /// Which attempt may read.
    attempt: u64,
    limit: usize,
    budget: Arc<Budget>,
}

impl Source {
    /// The next piece of the client's body.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, hyper::Error>>> {
        let Some(frame) = std::task::ready!(Pin::new(&mut self.rest).poll_frame(cx)) else {
            self.done = true;
            return Poll::Ready(None);
        };
        self.done = self.rest.is_end_stream();
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        // A frame is one or the other; what is neither has nothing to send.
        let piece = match frame.into_data() {
            Ok(data) => Piece::Data(data),
            Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
        };
        Poll::Ready(Some(Ok(piece)))
    }

    fn keep(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    fn forget(&mut self) {
        self.whole = false;
        self.pieces = Vec::new();
        self.budget.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// A request's body that is kept while it is read.
pub struct Kept(Arc<Mutex<Source>>);

impl Kept {
    /// Keeps at most `limit` bytes of `body`, all within `budget`.
    pub fn new(body: Incoming, limit: usize, budget: Arc<Budget>) -> Self {
        Self(Arc::new(Mutex::new(Source {
            done: body.is_end_stream(),
            rest: body,
            pieces: Vec::new(),
            bytes: 0,
            whole: true,
            attempt: 0,
            limit,
            budget,
        })))
    }

    /// Reads the body ahead, up to the limit: so a request that waits notices when its client leaves. Safe to cancel.
    ///
    /// # Errors
    ///
    /// [`KeptError`] where the client's body ends in an error, or the budget is spent.
    pub async fn fill(&self) -> Result<(), KeptError> {
        poll_fn(|cx| {
            let mut source = lock(&self.0);
            loop {
                if source.done || !source.whole || source.bytes >= source.limit {
                    return Poll::Ready(Ok(()));
                }
                match std::task::ready!(source.poll_rest(cx)) {
                    None => return Poll::Ready(Ok(())),
                    Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    Some(Ok(piece)) => {
                        if !source.budget.take(piece.len()) {
                            source.forget();
                            return Poll::Ready(Err(KeptError::Budget));
                        }
                        source.keep(piece);
                    }
                }
            }
        })
        .await
    }

    /// Whether it can be sent from its beginning.
    pub fn is_whole(&self) -> bool {
        lock(&self.0).whole
    }

    /// The body for one attempt, from its beginning; earlier attempts can read no more.
    pub fn attempt(&self) -> Attempt {
        let mut source = lock(&self.0);
        source.attempt += 1;
        Attempt {
            attempt: source.attempt,
            position: 0,
            source: self.0.clone(),
        }
    }
}

/// One attempt to send a kept body.
pub struct Attempt {
    source: Arc<Mutex<Source>>,
    attempt: u64,
    position: usize,
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = KeptError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, KeptError>>> {
        let shared = self.source.clone();
        let mut source = lock(&shared);
        if source.attempt != self.attempt {
            return Poll::Ready(Some(Err(KeptError::GivenUp)));
        }
        if let Some(piece) = source.pieces.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(piece.clone().frame())));
        }
        if source.done {
            return Poll::Ready(None);
        }
        let piece = match std::task::ready!(source.poll_rest(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(piece)) => piece,
        };
        if source.whole {
            if source.bytes + piece.len() <= source.limit && source.budget.take(piece.len()) {
                source.keep(piece.clone());
                self.position += 1;
            } else {
                // All of `pieces` was sent, so nothing of them is needed but for another attempt.
                source.forget();
                self.position = 0;
            }
        }
        Poll::Ready(Some(Ok(piece.frame())))
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.source);
        source.done && self.position >= source.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        let source = lock(&self.source);
        let left: usize = source.pieces.iter().skip(self.position).map(Piece::len).sum();
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        if source.done {
            return SizeHint::with_exact(left);
        }
        match source.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(left.saturating_add(rest)),
            None => SizeHint::default(),
        }
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
