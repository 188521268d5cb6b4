//! A server that is stopped over its deadline, with transactions that wait, and goes on.

use super::*;
use multiactive_stores::postgres::UNLEASED;
use std::process::Command;

/// The server's processes, the first of them the parent.
fn processes(member: &Member) -> Vec<i32> {
    let parent = member.server.pid().unwrap();
    let of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default().to_owned();
        after
            .split_whitespace()
            .nth(1)
            .and_then(|parent| parent.parse::<i32>().ok())
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    std::iter::once(parent)
        .chain(all.filter(|pid| of(pid) == Some(parent)))
        .collect()
}

fn signal(name: &str, processes: &[i32]) {
    let pids = processes.iter().map(ToString::to_string);
    assert!(Command::new("kill").arg(name).args(pids).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_stopped_past_its_deadline_commits_nothing_that_waited() {
    let member = unleased().await;
    asked(&member, LONG).await;
    let mut waiting = Vec::new();
    for number in 0..6_u16 {
        let client = app(&member.server).await;
        client.batch_execute("BEGIN").await.unwrap();
        insert(&client, &format!("open-{number}"), &key_of(number, 0))
            .await
            .unwrap();
        waiting.push((client, "COMMIT".to_owned()));
    }
    for number in 0..6_u16 {
        let sql = format!("INSERT INTO orders VALUES ('single-{number}', '{}')", key_of(number, 1));
        waiting.push((app(&member.server).await, sql));
    }
    member.driver.expire().await.unwrap();
    let (_, held) = asked(&member, SHORT).await;
    let processes = processes(&member);
    signal("-STOP", &processes);
    let ends = tokio::time::Instant::now() + held.map(|held| held.left).unwrap_or_default();
    // They are sent within the lease, and read by nobody.
    let commits = waiting.iter().map(|(client, sql)| client.batch_execute(sql));
    let commits = futures::future::join_all(commits);
    let thaw = async {
        tokio::time::sleep_until(ends + SHORT).await;
        signal("-CONT", &processes);
    };
    let (committed, ()) = tokio::join!(commits, thaw);
    let landed = committed.iter().filter(|done| done.is_ok()).count();
    let refused = committed.into_iter().filter(|done| done.is_err()).map(code);
    assert!(refused.into_iter().all(|code| code == UNLEASED));
    assert_eq!(landed, 0, "of 12 that waited");
    assert_eq!(count(&app(&member.server).await).await, 0);
}
