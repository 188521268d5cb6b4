//! What to look at once the story is told, as commands to be copied.

use super::state::{self, state_dir};
use crate::install::Install;
use crate::world::programs;
use anyhow::{Context, Result};
use multiactive_fleet::tools::Tool;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The example with which a reader moves a range by hand, back to where it began. `moves` has taken it away.
const HOME: &str = "users-0-home";

/// Prints the commands.
///
/// # Errors
///
/// Where the fleet has no region, or kubectl no place.
pub fn around(dir: &Path, install: &Install) -> Result<()> {
    let kubectl = Tool::Kubectl.path()?;
    let bin = kubectl.parent().context("kubectl lies in no folder")?.display();
    let kubeconfig = dir.join("kubeconfig");
    let (router, admin) = (install.hub()?.router(), install.hub()?.router_admin());
    let plugin = plugin(dir)?;
    println!(
        "  export PATH=\"{}:{bin}:$PATH\" KUBECONFIG=\"{}\"",
        plugin.display(),
        kubeconfig.display()
    );
    let commands = [
        ("kubectl config get-contexts", "east is the hub"),
        (
            "kubectl multiactive status -n shop",
            "what a person on call looks at first",
        ),
        ("kubectl multiactive route alice -n shop", "who serves alice"),
        ("kubectl -n shop get shardranges,units,promotions,replicationlinks", ""),
        (
            "kubectl -n shop get routingtable routing -o yaml",
            "who owns what, since which epoch",
        ),
        ("kubectl --context north -n shop get pods,unitassignments", ""),
        (
            &format!("curl -isX POST {router}/orders/2026-alice; echo"),
            "an order of alice's: who took it",
        ),
        (
            &format!("curl '{admin}/route?path=/orders/2026-alice'"),
            "why it goes where it goes",
        ),
        (
            &format!("xdg-open {}", dir.join(state::PICTURE).display()),
            "the picture; any browser shows it",
        ),
        (
            &format!("xdg-open {}", dir.join(state::PICTURE_OF_LOSS).display()),
            "that of the lost region",
        ),
    ];
    for (command, why) in commands {
        println!("{}", format!("  {command:<66}{}", comment(why)).trim_end());
    }
    println!("\n  What the programs wrote, operator, agents and routers too: a file for each container, in");
    for region in &install.regions {
        let cluster = region.kubeconfig.parent().context("a kubeconfig lies in no folder")?;
        println!("  {}", cluster.join("node/logs").display());
    }
    println!(
        "\n  Bring users-0 home again, from the checkout. A promotion names the newest epoch that its author has seen;"
    );
    println!("  a slot that changed after it ends it as Refused/Stale, before anything happens:");
    for line in home_by_hand() {
        println!("  {line}");
    }
    println!("\n  Lose a region yourself, and see what the tool on call makes of it; and start it again:");
    let program = std::env::current_exe().unwrap_or_else(|_| "demo".into());
    let demo = format!("{} --dir {}", program.display(), dir.display());
    println!("  {demo} kill north");
    let failover = "kubectl multiactive failover --region north -A --max-data-loss 10m";
    println!("  {failover:<66}{}", comment("asks for your word that north is off"));
    println!("  {demo} start north");
    println!("\n  {:<66}{}", down_command(dir), comment("remove all of it"));
    Ok(())
}

/// A folder in the demo's own with kubectl's plugin and what completes it: they are on the PATH, and nothing else of the
/// build is.
fn plugin(dir: &Path) -> Result<PathBuf> {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    let program = programs()?.join("kubectl-multiactive");
    let link = bin.join("kubectl-multiactive");
    let completion = bin.join("kubectl_complete-multiactive");
    for old in [&link, &completion] {
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", old.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    symlink(&program, &link).with_context(|| format!("linking {}", link.display()))?;
    let script = std::process::Command::new(&program)
        .args(["completion", "kubectl-plugin"])
        .output();
    let script = script.with_context(|| format!("running {}", program.display()))?.stdout;
    std::fs::write(&completion, script).with_context(|| format!("writing {}", completion.display()))?;
    std::fs::set_permissions(&completion, std::fs::Permissions::from_mode(0o755))?;
    Ok(bin)
}

fn comment(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" # {text}")
    }
}

/// The commands that move a range by hand, from the checkout.
pub fn home_by_hand() -> [String; 4] {
    [
        "epoch=$(kubectl -n shop get routingtable routing -o jsonpath='{.spec.epoch}')".into(),
        format!(
            "sed \"s/expectedEpoch: 0/expectedEpoch: $epoch/\" examples/shop/promotions/{HOME}.yaml | kubectl apply -f -"
        ),
        format!("kubectl -n shop wait promotion/{HOME} --for=jsonpath='{{.status.outcome}}' --timeout=60s"),
        "kubectl -n shop get promotions,shardranges".into(),
    ]
}

/// How the demo of a folder is removed.
pub fn down_command(dir: &Path) -> String {
    if dir == state_dir() {
        return "make demo-down".into();
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "demo".into());
    format!("{} --dir {} down", program.display(), dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::moves;
    use crate::world::root;
    use serde_json::Value;

    #[test]
    fn examples_have_names_that_the_demo_does_not_use_up() {
        let folder = root().join("examples/shop/promotions");
        let mut names = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let promotion: Value = serde_yaml::from_str(&text).unwrap();
            let name = promotion["metadata"]["name"].as_str().unwrap().to_owned();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(name.as_str()));
            assert!(
                !moves::NAMES.contains(&name.as_str()),
                "{name}: its Promotion would be Refused/AlreadyDone"
            );
            // What `sed` looks for, and what nobody passes by accident.
            assert_eq!(text.matches("expectedEpoch: 0\n").count(), 1, "{name}");
            names.push(name);
        }
        assert!(names.iter().any(|name| name == HOME), "{names:?}");
    }
}
