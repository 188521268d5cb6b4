//! Probes: whether a container has started, is ready, is alive.
//!
//! While a container is not ready, readiness is asked more often than its period: nobody wants to wait for it, and a
//! success is a success. Failures are counted at the declared pace.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::container::Prepared;
use super::views::Views;
use crate::process::{Process, Spec};

/// How often is asked while the answer should change soon.
const SOON: Duration = Duration::from_millis(250);
/// The most that is read of an answer.
const HEAD: usize = 1024;

/// Runs the probes of a started container. Returns only when it must be killed, with the reason.
pub(super) async fn watch(container: &Container, process: &Prepared, views: &Views) -> String {
    let name = &container.name;
    if let Some(probe) = &container.startup_probe
        && let Some(why) = starts(probe, container, process).await
    {
        return format!("startup probe failed: {why}");
    }
    views.update(name, |view| view.started = true);
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => readiness(probe, container, process, views).await,
            None => {
                views.update(name, |view| view.ready = true);
                std::future::pending().await
            }
        }
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(probe) => liveness(probe, container, process).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        never = readiness => match never {},
        why = liveness => format!("liveness probe failed: {why}"),
    }
}

/// `None` once it has started, the reason when it did not within its time.
async fn starts(probe: &Probe, container: &Container, process: &Prepared) -> Option<String> {
    let period = period(probe);
    let failures = u32::try_from(probe.failure_threshold.unwrap_or(3)).unwrap_or(3);
    let until = Instant::now() + initial_delay(probe) + period * failures;
    tokio::time::sleep(initial_delay(probe)).await;
    loop {
        let why = match ask(probe, container, process).await {
            Ok(()) => return None,
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Some(why);
        }
        tokio::time::sleep(period.min(SOON)).await;
    }
}

async fn readiness(
    probe: &Probe,
    container: &Container,
    process: &Prepared,
    views: &Views,
) -> std::convert::Infallible {
    let wanted = (
        probe.success_threshold.unwrap_or(1).max(1),
        probe.failure_threshold.unwrap_or(3).max(1),
    );
    let (mut good, mut bad, mut ready) = (0, 0, false);
    tokio::time::sleep(initial_delay(probe)).await;
    loop {
        match ask(probe, container, process).await {
            Ok(()) => (good, bad) = (good + 1, 0),
            Err(_) => (good, bad) = (0, bad + 1),
        }
        let now = if ready { bad < wanted.1 } else { good >= wanted.0 };
        if now != ready {
            ready = now;
            views.update(&container.name, |view| view.ready = now);
        }
        tokio::time::sleep(if ready { period(probe) } else { period(probe).min(SOON) }).await;
    }
}

async fn liveness(probe: &Probe, container: &Container, process: &Prepared) -> String {
    let wanted = probe.failure_threshold.unwrap_or(3).max(1);
    let mut bad = 0;
    tokio::time::sleep(initial_delay(probe)).await;
    loop {
        match ask(probe, container, process).await {
            Ok(()) => bad = 0,
            Err(why) => {
                bad += 1;
                if bad >= wanted {
                    return why;
                }
            }
        }
        tokio::time::sleep(period(probe)).await;
    }
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds.unwrap_or(10).max(1))
}

fn initial_delay(probe: &Probe) -> Duration {
    seconds(probe.initial_delay_seconds.unwrap_or(0))
}

fn seconds(value: i32) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

/// Asks once.
async fn ask(probe: &Probe, container: &Container, process: &Prepared) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds.unwrap_or(1).max(1));
    let asked = async {
        if let Some(get) = &probe.http_get {
            http(get, container).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let address = (tcp.host.as_deref().unwrap_or("127.0.0.1"), port(&tcp.port, container)?);
            TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        } else if let Some(exec) = &probe.exec {
            self::exec(exec.command.as_deref().unwrap_or_default(), process).await
        } else {
            Err("a node that runs processes probes by httpGet, tcpSocket and exec only".to_owned())
        }
    };
    tokio::time::timeout(limit, asked)
        .await
        .map_err(|_| format!("no answer within {} s", limit.as_secs()))?
}

/// A number, or the name of one of the container's ports.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports
                .find(|port| port.name.as_deref() == Some(name))
                .map(|port| port.container_port)
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| format!("the container has no port {port:?}"))
}

/// One request of HTTP/1.1, and its status.
async fn http(get: &HTTPGetAction, container: &Container) -> Result<(), String> {
    if get.scheme.as_deref() == Some("HTTPS") {
        return Err("a node that runs processes does not probe by HTTPS".to_owned());
    }
    let (host, port) = (get.host.as_deref().unwrap_or("127.0.0.1"), port(&get.port, container)?);
    let mut stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| error.to_string())?;
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let mut named = false;
    for header in get.http_headers.iter().flatten() {
        named |= header.name.eq_ignore_ascii_case("host");
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    if !named {
        request.push_str(&format!("Host: {host}:{port}\r\n"));
    }
    request.push_str("User-Agent: kube-probe/fleet\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut head = Vec::with_capacity(HEAD);
    while !head.windows(2).any(|two| two == b"\r\n") && head.len() < HEAD {
        let mut more = [0; 256];
        match stream.read(&mut more).await.map_err(|error| error.to_string())? {
            0 => break,
            count => head.extend_from_slice(&more[..count]),
        }
    }
    match status_of(&head) {
        Some(code) if (200..400).contains(&code) => Ok(()),
        Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

fn status_of(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// A command with the container's environment; its output goes to the container's log.
async fn exec(command: &[String], process: &Prepared) -> Result<(), String> {
    let (program, args) = command.split_first().ok_or("the probe has no command")?;
    let file = super::env::find(program, &process.programs).ok_or_else(|| format!("{program}: no such program"))?;
    let spec = Spec {
        program: file,
        args: args.to_vec(),
        ..process.spec.clone()
    };
    let status = Process::start(&spec).map_err(|error| error.to_string())?.wait().await;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} ended with {status}"))
    }
}

/// What a container does before it is asked to end; its failure stops nothing.
pub(super) async fn before_stop(container: &Container, process: &Prepared) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|all| all.pre_stop.as_ref()) else {
        return;
    };
    let done = if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        Ok(())
    } else if let Some(get) = &hook.http_get {
        http(get, container).await
    } else if let Some(exec) = &hook.exec {
        self::exec(exec.command.as_deref().unwrap_or_default(), process).await
    } else {
        Ok(())
    };
    if let Err(error) = done {
        tracing::warn!(container = container.name, error, "preStop");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_of_http_counts() {
        for (head, want) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503 No\r\nx: y", Some(503)),
            ("HTTP/1.1 2x0 OK\r\n", None),
            ("SSH-2.0 200\r\n", None),
            ("", None),
        ] {
            assert_eq!(status_of(head.as_bytes()), want, "{head:?}");
        }
    }

    #[test]
    fn a_port_is_a_number_or_a_declared_name() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "http", "containerPort": 81}]}))
                .unwrap();
        assert_eq!(port(&IntOrString::Int(80), &container), Ok(80));
        assert_eq!(port(&IntOrString::String("http".into()), &container), Ok(81));
        assert!(port(&IntOrString::String("none".into()), &container).is_err());
        assert!(port(&IntOrString::Int(70_000), &container).is_err());
    }
}
