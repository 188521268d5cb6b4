//! What a link has received lies in files of the server, which may be left wrong by one that is killed.

use super::support::*;

/// As a server leaves it that is killed between the removal of old relay logs and the note of the new one.
fn names_a_log_that_is_gone(server: &Server) {
    let mut found = 0;
    for file in std::fs::read_dir(server.data()).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if name.starts_with("relay-log") && name.ends_with(".info") {
            let note = std::fs::read_to_string(file.path()).unwrap();
            let mut lines: Vec<_> = note.lines().map(str::to_owned).collect();
            let (log, _) = lines[1].rsplit_once('.').unwrap();
            lines[1] = format!("{log}.000099");
            std::fs::write(file.path(), lines.join("\n")).unwrap();
            found += 1;
        }
    }
    assert!(found > 0, "no note of a link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_starts_as_documented_and_its_link_misses_nothing() {
    let members = mesh(&["east-1", "north-1"]).await;
    let [east, north] = &members[..] else { panic!() };
    set_all(&east.driver, true, 1).await;
    let mut writer = app(&east.server).await;
    for (number, id) in ["a", "b"].into_iter().enumerate() {
        insert(&mut writer, id, "u1").await.unwrap();
        if number == 0 {
            rows_everywhere(&members, 1).await;
            north.server.kill_9().await;
            names_a_log_that_is_gone(&north.server);
        }
    }
    north.server.restart().await.unwrap();
    running(north, east).await;
    rows_everywhere(&members, 2).await;
}
