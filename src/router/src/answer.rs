//! Answers that the router makes itself: a status, one word why, and a JSON body.

use crate::body::Answered;
use crate::headers::{EPOCH, REASON};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

/// Why a request was not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether trying again may help, and after how many seconds.
    pub retry_after: Option<u32>,
    /// For another router: the epoch to wait for.
    pub epoch: Option<HeaderValue>,
}

#[derive(Serialize)]
struct Page<'a> {
    reason: &'a str,
    message: &'a str,
}

impl Answer {
    /// An answer that will be the same next time.
    pub fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            retry_after: None,
            epoch: None,
        }
    }

    /// `503`: the request was not carried out and may be sent again.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message)
        }
    }

    /// As a response.
    pub fn into_response(self) -> Response<Answered> {
        let page = Page {
            reason: self.reason,
            message: &self.message,
        };
        // Two strings always serialize.
        let page = serde_json::to_vec(&page).unwrap_or_default();
        let mut response = Response::new(Answered::Whole(Some(Bytes::from(page))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REASON, HeaderValue::from_static(self.reason));
        if let Some(epoch) = self.epoch {
            headers.insert(EPOCH, epoch);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
