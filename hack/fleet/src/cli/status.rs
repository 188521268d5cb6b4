//! `fleet status`: what is written down, compared with the processes that run.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use multiactive_fleet::state::{self, Phase, ProcessRecord, State};
use multiactive_fleet::supervisor;
use serde::Serialize;

use super::{Output, one};

/// One process of a fleet.
#[derive(Debug, Serialize)]
struct Row {
    part: String,
    running: bool,
    pid: Option<i32>,
    address: String,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    health: &'static str,
    processes: Vec<Row>,
    #[serde(flatten)]
    state: &'a State,
}

/// Shows a fleet; the exit code is 0 only where all of it runs.
pub(crate) fn run(name: Option<String>, output: Output) -> Result<ExitCode> {
    if name.is_none() && state::names().len() != 1 && output == Output::Table {
        return Ok(list());
    }
    let state = supervisor::find(&one(name)?)?;
    let processes = rows(&state);
    let health = health(&state, &processes);
    let code = if health == "Running" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    let report = Report {
        health,
        processes,
        state: &state,
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Yaml => print!("{}", serde_yaml::to_string(&report)?),
        Output::Table => table(&report),
    }
    Ok(code)
}

fn list() -> ExitCode {
    let names = state::names();
    if names.is_empty() {
        println!("there is no fleet; start one with `fleet up`");
    }
    for name in names {
        let health = match State::load(&name) {
            Ok(Some(state)) => health(&state, &rows(&state)),
            Ok(None) | Err(_) => "Unknown",
        };
        println!("{name:<20} {health}");
    }
    ExitCode::SUCCESS
}

fn rows(state: &State) -> Vec<Row> {
    let row = |part: String, record: Option<&ProcessRecord>, address: String| Row {
        part,
        running: record.is_some_and(ProcessRecord::runs),
        pid: record.map(|record| record.pid),
        address,
    };
    let mut rows = vec![row("supervisor".into(), state.supervisor.as_ref(), String::new())];
    for (name, cluster) in &state.clusters {
        for (part, record) in &cluster.parts {
            let address = if part == "kube-apiserver" {
                cluster.server.clone()
            } else {
                String::new()
            };
            rows.push(row(format!("{name}/{part}"), Some(record), address));
        }
    }
    for (name, server) in &state.postgres {
        let address = format!("127.0.0.1:{}", server.port);
        rows.push(row(format!("postgres/{name}"), server.process.as_ref(), address));
    }
    rows
}

fn health(state: &State, rows: &[Row]) -> &'static str {
    match state.phase {
        Phase::Failed => "Failed",
        Phase::Starting if state.supervisor.is_none() || state.alive() => "Starting",
        Phase::Running if rows.iter().all(|row| row.running) => "Running",
        Phase::Running if state.alive() => "Degraded",
        Phase::Starting | Phase::Running => "Crashed",
    }
}

fn table(report: &Report<'_>) {
    let name = &report.state.spec.name;
    println!("fleet {name}: {}", report.health);
    if let Some(message) = &report.state.message {
        println!("{message}");
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["PART", "STATE", "PID", "ADDRESS"]);
    for row in &report.processes {
        let state = if row.running { "running" } else { "ended" };
        let pid = row.pid.map(|pid| pid.to_string()).unwrap_or_default();
        table.add_row([row.part.clone(), state.into(), pid, row.address.clone()]);
    }
    println!("{table}");
    match report.health {
        "Running" => println!("kubeconfig: {}", report.state.kubeconfig().display()),
        "Crashed" | "Failed" => println!(
            "remove it with: fleet down --name {name}; its log: {}",
            report.state.log().display()
        ),
        _ => {}
    }
}
