//! The ports of a demo are fixed by the examples' manifests: whether they are free, and who holds those that are not.

use crate::stage::REGIONS;
use crate::world::Network;
use anyhow::{Result, bail};
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener};

/// The ports on the address of a region, each with who listens there.
const PORTS: [(u16, &str); 7] = [
    (18_000, "router"),
    (18_080, "router's probes"),
    (18_443, "router for other units"),
    (18_090, "operator's probes"),
    (18_091, "agent's probes"),
    (19_443, "agent for routers"),
    (19_000, "the shop"),
];

/// Fails where somebody listens already on an address that the fleet needs, and says who.
///
/// # Errors
///
/// Every address that cannot be listened on.
pub fn ensure_free(network: Network) -> Result<()> {
    let mut taken = String::new();
    for (address, what) in needed(network) {
        let Err(error) = TcpListener::bind(address) else {
            continue;
        };
        let who = match (error.kind(), holder(address.into())) {
            (ErrorKind::AddrInUse, Some(who)) => who,
            (ErrorKind::AddrInUse, None) => "another user's program".to_owned(),
            _ => error.to_string(),
        };
        write!(taken, "\n  {address} ({what}): {who}")?;
    }
    if taken.is_empty() {
        return Ok(());
    }
    bail!(
        "the demo cannot listen on addresses that examples/shop fixes:{taken}\n\
         Another demo may be up, of another --dir or user: end it, or give this one --own-network"
    )
}

/// Every fixed address, with what will listen there.
fn needed(network: Network) -> Vec<(SocketAddrV4, String)> {
    let mut all = Vec::new();
    for (index, name) in REGIONS.iter().enumerate() {
        let address = network.address(index);
        for (port, part) in PORTS {
            all.push((SocketAddrV4::new(address, port), format!("{part}, {name}")));
        }
        if let Some(port) = network.database_port(index) {
            for address in [Ipv4Addr::LOCALHOST, address] {
                all.push((SocketAddrV4::new(address, port), format!("PostgreSQL, {name}")));
            }
        }
    }
    all
}

/// The program that listens there, as far as this user may know it.
fn holder(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listener(table, address))?;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|target| target.as_os_str() == socket.as_str())
    };
    let pid = ids.into_iter().find(holds)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (process {pid})", name.trim()))
}

/// The inode of the socket that listens on `wanted`, or on its port of every address, in a table as /proc/net/tcp.
fn listener(table: &str, wanted: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..] else {
            return None;
        };
        let (ip, port) = local.split_once(':')?;
        let ip = ip_of(ip)?;
        let here = u16::from_str_radix(port, 16).ok()? == wanted.port();
        (here && (ip == wanted.ip() || ip.is_unspecified())).then(|| inode.parse().ok())?
    })
}

/// An address as the kernel prints it: words of 32 bits in the machine's order, each as a number.
fn ip_of(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> = (0..text.len() / 8)
        .map(|word| u32::from_str_radix(text.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    if let Ok(four) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(&bytes[..])
        .ok()
        .map(|sixteen| Ipv6Addr::from(sixteen).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Region;
    use crate::world::root;
    use std::collections::BTreeSet;

    /// A network of this process: the tests of others listen elsewhere.
    fn network() -> Network {
        Network::of_this_process()
    }

    #[test]
    fn a_taken_port_is_named_with_its_address_its_use_and_its_holder() {
        ensure_free(network()).unwrap();
        let held = TcpListener::bind((network().address(1), 18_443)).unwrap();
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(holder(everywhere.local_addr().unwrap()).is_some());
        let error = ensure_free(network()).unwrap_err().to_string();
        let pid = std::process::id();
        let address = held.local_addr().unwrap();
        let line = error.lines().nth(1).unwrap();
        assert!(
            line.starts_with(&format!("  {address} (router for other units, north): ")),
            "{error}"
        );
        assert!(line.ends_with(&format!("(process {pid})")), "{error}");
        assert_eq!(error.lines().count(), 3, "{error}");
        drop(held);
        ensure_free(network()).unwrap();
    }

    #[test]
    fn every_address_of_the_manifests_and_of_the_chart_is_looked_at() {
        let region = |(index, name): (usize, &&str)| Region {
            name: (*name).to_owned(),
            address: Network::EXAMPLES.address(index),
            kubeconfig: "kubeconfig".into(),
            database_port: 1,
            database_password: String::new(),
            engine: crate::region::Engine::PostgreSql,
            ca_file: None,
        };
        let regions: Vec<Region> = REGIONS.iter().enumerate().map(region).collect();
        let install = super::super::install_of(regions.clone(), Network::EXAMPLES, "/tmp".as_ref());
        let mut texts: Vec<String> = regions
            .iter()
            .map(|region| install.values(region).to_string())
            .collect();
        for file in std::fs::read_dir(root().join("examples/shop/hub")).unwrap() {
            texts.push(std::fs::read_to_string(file.unwrap().path()).unwrap());
        }
        let mut written = BTreeSet::new();
        for text in &texts {
            for (at, _) in text.match_indices("127.0.0.") {
                let end = text[at..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                written.extend(text[at..][..end.unwrap_or(text.len() - at)].parse::<SocketAddrV4>());
            }
        }
        assert!(written.len() > 15, "{written:?}");
        let needed: BTreeSet<_> = needed(Network::EXAMPLES)
            .into_iter()
            .map(|(address, _)| address)
            .collect();
        let forgotten: Vec<_> = written.difference(&needed).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
    }
}
