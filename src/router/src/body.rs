//! Bodies: what goes to a backend, and what goes back to the client.

use crate::flight::InFlight;
use crate::kept::{Attempt, Kept, KeptError};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A request's body as it came, until it is known whether it must be kept.
pub enum Received {
    /// There is none.
    Empty,
    /// It has not been touched.
    Fresh(Incoming),
    /// It is kept while it is read.
    Kept(Kept),
}

impl Received {
    /// A body that came with a request.
    pub fn new(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::Empty
        } else {
            Self::Fresh(body)
        }
    }

    /// Whether it can be sent from its beginning.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Empty | Self::Fresh(_) => true,
            Self::Kept(kept) => kept.is_whole(),
        }
    }

    /// Whether there is one that nobody has begun to read.
    pub fn is_fresh(&self) -> bool {
        matches!(self, Self::Fresh(_))
    }

    /// Reads what is left and throws it away, up to `limit` bytes: an answer that comes before the body was read may
    /// be lost, because the connection is then closed under the other side's feet.
    pub async fn drain(self, limit: u64) {
        let mut body = match self {
            Self::Empty => return,
            Self::Fresh(body) => Sent::Through(body),
            Self::Kept(kept) => Sent::Attempt(kept.attempt()),
        };
        let mut read = 0;
        while read <= limit
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
    }
}

/// The body of one request to a backend or a router.
pub enum Sent {
    /// None.
    Empty,
    /// Passed through as it comes.
    Through(Incoming),
    /// One attempt with a kept body.
    Attempt(Attempt),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = KeptError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, KeptError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Through(body) => Pin::new(body).poll_frame(cx).map_err(KeptError::Client),
            Self::Attempt(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Through(body) => body.is_end_stream(),
            Self::Attempt(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Through(body) => body.size_hint(),
            Self::Attempt(body) => body.size_hint(),
        }
    }
}

/// The body of an answer.
pub enum Answered {
    /// Passed through; a write holds its count until the last byte, or until the client leaves.
    Through {
        /// The backend's or the other router's.
        body: Incoming,
        /// The write.
        in_flight: Option<InFlight>,
    },
    /// Our own.
    Whole(Option<Bytes>),
}

impl Answered {
    /// An answer that begins now.
    pub fn begins(body: Incoming, in_flight: Option<InFlight>) -> Self {
        let in_flight = in_flight.filter(|_| !body.is_end_stream()).map(|mut write| {
            write.answer_begins();
            write
        });
        Self::Through { body, in_flight }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Through { body, in_flight } => {
                let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
                if frame.is_none() || body.is_end_stream() {
                    *in_flight = None;
                }
                Poll::Ready(frame)
            }
            Self::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Through { body, .. } => body.is_end_stream(),
            Self::Whole(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Through { body, .. } => body.size_hint(),
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
        }
    }
}
