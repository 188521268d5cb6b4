//! Mutual TLS over real sockets, with certificates of our own authority.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use jiff::{SignedDuration, Timestamp};
use multiactive_runtime::certs::{Ca, Issued, TlsFiles, peer_names, router_name, validity};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn times() -> (Timestamp, Timestamp) {
    let now = Timestamp::now();
    (now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(1))
}

fn ca() -> Ca {
    let (from, until) = times();
    Ca::generate("multiactive test", from, until).unwrap()
}

fn issue(ca: &Ca, name: &str) -> Issued {
    let (from, until) = times();
    ca.issue(&[name.to_owned()], from, until).unwrap()
}

/// Writes the three files as Kubernetes mounts a Secret: a new folder, and a symlink that is swapped.
fn mount(dir: &Path, generation: u32, ca_pem: &str, leaf: &Issued) {
    let data = dir.join(format!("..data-{generation}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("ca.crt"), ca_pem).unwrap();
    std::fs::write(data.join("tls.crt"), &leaf.cert_pem).unwrap();
    std::fs::write(data.join("tls.key"), &leaf.key_pem).unwrap();
    let link = dir.join("..new");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    std::fs::rename(&link, dir.join("..data")).unwrap();
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), dir.join(name));
    }
}

fn mounted(ca_pem: &str, leaf: &Issued) -> (tempfile::TempDir, TlsFiles) {
    let dir = tempfile::tempdir().unwrap();
    mount(dir.path(), 0, ca_pem, leaf);
    let tls = TlsFiles::open(dir.path()).unwrap();
    (dir, tls)
}

/// Connects `client` to `server` and gives what the server saw, or the first error of either side.
async fn meet(server: &TlsFiles, client: &TlsFiles, expected: &str) -> Result<Vec<String>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = server.clone();
    let accepted = tokio::spawn(async move {
        let mut stream = server.accept(listener.accept().await.unwrap().0).await?;
        stream.write_all(b"x").await?;
        stream.shutdown().await?;
        Ok::<_, std::io::Error>(peer_names(stream.get_ref().1))
    });
    // With TLS 1.3 a client learns only when it reads that its certificate was refused.
    let mut stream = client.connect(addr, expected).await.map_err(|e| e.to_string())?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.map_err(|e| e.to_string())?;
    accepted.await.unwrap().map_err(|e| e.to_string())
}

#[tokio::test]
async fn each_side_proves_its_name_whatever_the_address() {
    let ca = ca();
    let (east, north) = (router_name("east-1", "shop"), router_name("north-1", "shop"));
    let (_a, server) = mounted(ca.cert_pem(), &issue(&ca, &east));
    let (_b, client) = mounted(ca.cert_pem(), &issue(&ca, &north));
    assert_eq!(meet(&server, &client, &east).await, Ok(vec![north]));
    let wrong = meet(&server, &client, &router_name("south-1", "shop"))
        .await
        .unwrap_err();
    assert!(wrong.contains("not valid for name"), "{wrong}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (ours, theirs) = (ca(), ca());
    let east = router_name("east-1", "shop");
    let (_a, server) = mounted(ours.cert_pem(), &issue(&ours, &east));
    let (_b, stranger) = mounted(theirs.cert_pem(), &issue(&theirs, &east));
    // It trusts our authority, yet has no certificate of it.
    let (_c, intruder) = mounted(ours.cert_pem(), &issue(&theirs, &east));
    assert!(meet(&server, &stranger, &east).await.is_err());
    assert!(meet(&server, &intruder, &east).await.is_err());
    assert!(meet(&server, &server, &east).await.is_ok());
}

#[tokio::test]
async fn an_authority_is_replaced_without_a_restart() {
    let (old, new) = (ca(), ca());
    let east = router_name("east-1", "shop");
    let (dir, server) = mounted(old.cert_pem(), &issue(&old, &east));
    let (_b, client) = mounted(&format!("{}{}", old.cert_pem(), new.cert_pem()), &issue(&new, &east));
    assert!(
        meet(&server, &client, &east).await.is_err(),
        "the server knows only the old authority"
    );
    mount(
        dir.path(),
        1,
        &format!("{}{}", old.cert_pem(), new.cert_pem()),
        &issue(&old, &east),
    );
    server.reload();
    assert!(
        meet(&server, &client, &east).await.is_ok(),
        "the new files are in force"
    );
    // Files that cannot be used keep the last good ones in force.
    let broken = Issued {
        cert_pem: "nothing".into(),
        key_pem: "nothing".into(),
    };
    mount(dir.path(), 2, "nothing", &broken);
    server.reload();
    assert!(meet(&server, &client, &east).await.is_ok());
}

#[test]
fn an_authority_read_back_issues_certificates_of_the_times_it_is_told() {
    let ca = ca();
    let again = Ca::from_pem(ca.cert_pem(), &ca.key_pem()).unwrap();
    let (from, until) = (
        "2026-01-01T00:00:00Z".parse().unwrap(),
        "2026-02-01T12:30:00Z".parse().unwrap(),
    );
    let leaf = again
        .issue(&["a.agent.multiactive.internal".into()], from, until)
        .unwrap();
    assert_eq!(validity(&leaf.cert_pem).unwrap(), (from, until));
    assert!(validity("nothing").is_err());
}
