//! What can be typed: verbs, flags, and the help that teaches them. Nothing is done here.

use crate::text;
mod args;

pub use args::*;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// What the exit codes mean, below every help.
const EXIT_CODES: &str = "\
Exit codes:
  0  ok
  1  error: no rights, no answer, something cannot be read
  2  usage: the command line is wrong, or a confirmation is missing
  3  something is not healthy, a plan has blockers, or a failover could not begin
  4  the operation ended Refused, Aborted or Failed
  5  not found
  6  verify: rows differ
  130, 143  ended by Ctrl-C or SIGTERM; what was created goes on";

/// Who owns which slots, and moving them: the tool of the person on call.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-multiactive",
    bin_name = "kubectl multiactive",
    version,
    after_help = EXIT_CODES,
    after_long_help = format!("Examples:
  # What is going on? The first thing to look at.
  kubectl multiactive status -A

  # Who serves alice, and why?
  kubectl multiactive route alice -n shop

  # Empty a unit before its cluster is upgraded: look first, then do it.
  kubectl multiactive plan --to north-1 --unit east-1 -n shop
  kubectl multiactive promote upgrade-east --to north-1 --unit east-1 -n shop

  # And everything back home.
  kubectl multiactive failback --all -n shop

{EXIT_CODES}"),
    max_term_width = 100
)]
pub struct Args {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The namespace of the deployment; by default that of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig: the one of the hub.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig file, in place of $KUBECONFIG and ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How to print: a table, a wider one, or a documented shape for scripts.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The longest time that one request may take, such as 5s or 1m; 0 for no limit.
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = text::patience)]
    pub request_timeout: Duration,
    /// Do not ask for confirmation.
    #[arg(short, long, global = true)]
    pub yes: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For people with wide screens: messages too.
    Wide,
    /// For scripts.
    Json,
    /// For scripts.
    Yaml,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what is healthy and what is not: clusters, units, owners, operations, first causes.
    #[command(after_long_help = format!("Examples:
  kubectl multiactive status -n shop
  kubectl multiactive status -A -o wide
  # Only these units and ranges.
  kubectl multiactive status -n shop east-1 users-0
  # In a script: wait until all is well.
  until kubectl multiactive status -n shop >/dev/null; do sleep 5; done

{EXIT_CODES}"))]
    Status(StatusArgs),
    /// Show which unit serves a key or writes a store, and by which rule.
    #[command(after_long_help = format!("Examples:
  kubectl multiactive route alice -n shop
  # Where the namespace has several keyspaces.
  kubectl multiactive route alice --keyspace users -n shop
  kubectl multiactive route alice -n shop -o json | jq -r .owner
  # Who writes a store that one unit writes.
  kubectl multiactive route --store catalog -n shop

{EXIT_CODES}"))]
    Route(RouteArgs),
    /// Show what a promotion would do: slots, blockers, predicted pause, and the manifest to apply.
    #[command(after_long_help = format!("\
The slots come from the routing table by the same code with which the operator admits a promotion. What stands in the way is
known best by the operator, who hears the agents: it is asked by a Promotion of mode Plan, which changes nothing and is
deleted again when it has answered (--keep leaves it; --local does not ask, and who may not create Promotions is told by
the objects alone).

Examples:
  kubectl multiactive plan --to south-1 --range users-1 -n shop
  kubectl multiactive plan --to north-1 --unit east-1 -n shop
  kubectl multiactive plan --to north-1 --slots users=0-99,150 -n shop
  kubectl multiactive plan --to north-1 --key alice -n shop
  kubectl multiactive plan --to north-1 --store catalog -n shop
  # Do it by GitOps, or at once. Only the Promotion is printed.
  kubectl multiactive plan --to south-1 --range users-1 -n shop -o yaml | kubectl apply -f -

{EXIT_CODES}"))]
    Plan(PlanArgs),
    /// Move slots to a unit as planned, without losing a write, and follow it to its end.
    #[command(after_long_help = format!("\
Ctrl-C stops following, not the promotion; `decide NAME Abort` ends it, until its commit. A name is used once: the record
remembers what ended, and a second promotion of that name is Refused/AlreadyDone.

Examples:
  kubectl multiactive promote users-1-to-south --to south-1 --range users-1 -n shop
  # The writer of a store that one unit writes.
  kubectl multiactive promote catalog-to-north --to north-1 --store catalog -n shop
  # Only if no slot changed since the plan, with rows compared first.
  kubectl multiactive promote empty-east --to north-1 --unit east-1 --expected-epoch 41 --verify Full -n shop
  # Would the API server take it? Nothing is created.
  kubectl multiactive promote empty-east --to north-1 --unit east-1 --dry-run=server -n shop

{EXIT_CODES}"))]
    Promote(PromoteArgs),
    /// Bring ranges and writers that are away back to their home units.
    #[command(after_long_help = format!("\
One promotion for each home unit and for each writer, one after the other, each followed to its end. The first that does not succeed ends it.

Examples:
  kubectl multiactive failback --all -n shop
  kubectl multiactive failback users-0 users-1 -n shop
  kubectl multiactive failback catalog -n shop
  # Without a terminal nobody can be asked.
  kubectl multiactive failback --all --yes -n shop

{EXIT_CODES}"))]
    Failback(FailbackArgs),
    /// Serve elsewhere what a lost unit, cluster or Region owns, and follow it.
    #[command(after_long_help = format!("\
For units that are lost: one that lives is left without a loss by `promote`, and where it looks alive that is said. First
it shows who would take over what and why others are passed over, how the fence will be proven, and what may be lost; then it asks,
creates one Failover for each unit, and follows all of them. One that runs already is followed with the others.

--max-data-loss is no switch that loses data: it is what may be lost without anybody's word. A Failover whose bound is
larger, or unknown, is Blocked before the owner changes, and the command that decides is printed. Proven by the end of the
write lease, the bound is at least 1.106 times leaseDuration: 11.1s where that is 10s.

Ctrl-C stops following, not the Failovers: the same command follows them again.

Examples:
  kubectl multiactive failover east-1 -n shop
  # What would happen? Nothing is created.
  kubectl multiactive failover east-1 -n shop --dry-run=server
  # A Region is gone, for every namespace; up to 15s of writes may be lost without asking anybody.
  kubectl multiactive failover --region east -A --max-data-loss 15s
  kubectl multiactive failover --cluster east-b -n shop
  # To a unit of your choice, in place of the ranges' own order.
  kubectl multiactive failover east-1 --to south-1 -n shop
  # For GitOps: the objects alone.
  kubectl multiactive failover --region east -A --dry-run=server -o yaml > lost-east.yaml

{EXIT_CODES}"))]
    Failover(FailoverArgs),
    /// Compare the units' rows with those of the slots' owners while everybody writes, and repair them where that is asked for.
    #[command(after_long_help = format!("\
All DataStores at all their members, or those that are named; one Verification runs at a time. Writers wait for milliseconds.
Rows that differ are listed, and the exit code is 6.

--repair makes rows that differ as their owners' are: they are replaced, and rows that the owner has not are removed. It says
what it will do and asks first. What it replaces is kept nowhere: look before, without --repair.

Ctrl-C stops following, not the Verification: `verify verification/NAME` follows it again.

Examples:
  kubectl multiactive verify -n shop
  # One store at one unit.
  kubectl multiactive verify orders --unit north-1 -n shop
  # In a script: are all rows equal?
  kubectl multiactive verify -n shop -o json | jq -e '.compared.differingSlots == 0'
  # Make north-1's copies as the owners' are.
  kubectl multiactive verify orders --unit north-1 --repair -n shop
  kubectl multiactive verify verification/nightly -n shop
  # For GitOps: the object alone.
  kubectl multiactive verify --name nightly --dry-run=server -n shop -o yaml > nightly.yaml

{EXIT_CODES}"))]
    Verify(VerifyArgs),
    /// Decide something about an operation, in your name.
    #[command(after_long_help = format!("Decisions:
{}
An operation that waits for one says which, and prints the command, in status.needed.

Examples:
  kubectl multiactive decide users-1-to-south Abort --reason 'INC-7: wrong range' -n shop
  kubectl multiactive decide promotion/users-1-to-south Abort --reason 'INC-7' --yes -n shop
  # The lost unit is certainly off; the word counts until then.
  kubectl multiactive decide failover/lost-east ConfirmFenced --target east-1 --not-after 2026-11-22T13:00:00Z --reason 'off' -n shop
  # It is back, and what only it holds was looked at: it may rejoin.
  kubectl multiactive decide failover/lost-east AcceptDivergence --target east-1 --reason 'exported' -n shop

{EXIT_CODES}", crate::decisions::help()))]
    Decide(DecideArgs),
    /// Follow what happens: steps of operations, owners that change, readiness that flips.
    #[command(after_long_help = format!("\
On a terminal the screen is redrawn; elsewhere each change is a line, and with -o json a JSON object on a line. It goes
on until Ctrl-C.

Examples:
  kubectl multiactive watch -n shop
  kubectl multiactive watch -A
  kubectl multiactive watch -n shop | tee incident.log
  kubectl multiactive watch -n shop -o json | jq -c 'select(.what == \"Owner\")'

{EXIT_CODES}"))]
    Watch(WatchArgs),
    /// List what happened, oldest first.
    #[command(after_long_help = format!("Examples:
  kubectl multiactive events -n shop
  kubectl multiactive events -n shop --since 1h
  kubectl multiactive events -n shop --for promotion/users-1-to-south
  kubectl multiactive events -A -o json | jq -r '.events[] | select(.type == \"Warning\") | .note'

{EXIT_CODES}"))]
    Events(EventsArgs),
    /// Collect what others need to find the cause: objects, events, versions, logs. No Secret is read.
    #[command(after_long_help = format!("\
Passwords, tokens and keys inside objects and logs are replaced by REDACTED. Look at the file before you send it: summary.txt in it says
what was left out and why.

Examples:
  kubectl multiactive support-bundle
  kubectl multiactive support-bundle -n shop -f incident-7.tar.gz
  # The agents' side too: the contexts of the member clusters.
  kubectl multiactive support-bundle --member-context north --member-context south

{EXIT_CODES}"))]
    SupportBundle(BundleArgs),
    /// Print the completion script of a shell.
    #[command(after_long_help = format!("\
`kubectl-plugin` prints a program for kubectl's own completion: put it on the PATH as kubectl_complete-multiactive, executable,
and `kubectl multiactive <TAB>` works wherever kubectl's completion does.

Examples:
  kubectl multiactive completion kubectl-plugin > ~/.local/bin/kubectl_complete-multiactive
  chmod +x ~/.local/bin/kubectl_complete-multiactive
  # For who calls kubectl-multiactive itself.
  source <(kubectl-multiactive completion bash)

{EXIT_CODES}"))]
    Completion(CompletionArgs),
    /// Show the versions of this program, the cluster and the operator.
    #[command(after_long_help = format!("Examples:
  kubectl multiactive version
  kubectl multiactive version --client
  kubectl multiactive version -o json | jq -r .operator.version

{EXIT_CODES}"))]
    Version(VersionArgs),
    /// What kubectl's completion asks.
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        /// The words so far; the last one is being typed.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}
