//! A fencing hook: a real HTTP server that says what the test wants, and notes what it was asked.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// What it says.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    Yes,
    No,
    /// Yes, about another operation.
    YesToAnother,
    /// Yes, with this status.
    Status(u16),
    /// Yes, at another place.
    Elsewhere,
    /// Nothing, and the connection stays open.
    Nothing,
}

#[derive(Debug)]
struct State {
    says: Says,
    questions: Vec<Value>,
}

/// The server; it ends with the test.
pub struct Hook {
    pub url: String,
    /// Host and port.
    pub name: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hook {
    pub async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let questions = Vec::new();
        let state = Arc::new(Mutex::new(State { says, questions }));
        let (shared, own) = (Arc::clone(&state), name.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, own) = (Arc::clone(&shared), own.clone());
                let serve = service_fn(move |request| answer(Arc::clone(&state), own.clone(), request));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self {
            url: format!("http://{name}/fence"),
            name,
            state,
            task,
        }
    }

    /// From now on it says this.
    pub fn says(&self, says: Says) {
        self.state.lock().unwrap().says = says;
    }

    /// What it was asked, in order.
    pub fn questions(&self) -> Vec<Value> {
        self.state.lock().unwrap().questions.clone()
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    own: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let elsewhere = request.uri().path() != "/fence";
    let posted = request.method() == Method::POST;
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let question: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut operation = question["operation"].clone();
    let says = {
        let mut state = state.lock().unwrap();
        // Who follows a redirect is found out.
        state
            .questions
            .push(if elsewhere || !posted { Value::Null } else { question });
        if elsewhere { Says::Yes } else { state.says }
    };
    let (mut status, mut fenced) = (StatusCode::OK, true);
    match says {
        Says::Yes => {}
        Says::No => fenced = false,
        Says::YesToAnother => operation = json!("9f5a7c1e-0000-4000-8000-000000000000.1"),
        Says::Status(code) => status = StatusCode::from_u16(code).unwrap(),
        Says::Elsewhere => status = StatusCode::TEMPORARY_REDIRECT,
        Says::Nothing => std::future::pending().await,
    }
    let message = if fenced {
        "outlet 7 is off"
    } else {
        "outlet 7 does not answer"
    };
    let answer = json!({"operation": operation, "fenced": fenced, "message": message});
    let response = Response::builder()
        .status(status)
        .header("location", format!("http://{own}/elsewhere"));
    Ok(response.body(Full::new(Bytes::from(answer.to_string()))).unwrap())
}
