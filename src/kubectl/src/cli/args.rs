//! What each verb takes.

use crate::text;
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Which namespaces.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Namespaces {
    /// All namespaces.
    #[arg(short = 'A', long = "all-namespaces")]
    pub all: bool,
}

/// `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Units, ranges and stores with a single writer to show; all without a name.
    #[arg(value_name = "UNIT|RANGE|STORE")]
    pub names: Vec<String>,
    /// Which namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,
}

/// `route`.
#[derive(Debug, ClapArgs)]
pub struct RouteArgs {
    /// The key, as the text of the shard column.
    #[arg(required_unless_present = "store", conflicts_with = "store")]
    pub key: Option<String>,
    /// The keyspace; needed where the namespace has several.
    #[arg(long, value_name = "NAME", conflicts_with = "store")]
    pub keyspace: Option<String>,
    /// In place of a key: a DataStore that one unit writes.
    #[arg(long, value_name = "NAME")]
    pub store: Option<String>,
}

/// Which slots; one of them.
#[derive(Clone, Debug, Default, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct Select {
    /// A ShardRange; may be given several times, or with commas.
    #[arg(long = "range", value_name = "NAME", value_delimiter = ',')]
    pub ranges: Vec<String>,
    /// Slots by number, such as users=0-511,600.
    #[arg(long, value_name = "KEYSPACE=SLOTS", value_parser = text::slots)]
    pub slots: Option<(String, String)>,
    /// All that this unit owns.
    #[arg(long, value_name = "NAME")]
    pub unit: Option<String>,
    /// The one slot of this key.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The writer of this DataStore, which has topology SingleWriter.
    #[arg(long, value_name = "NAME")]
    pub store: Option<String>,
}

/// How it is moved.
#[derive(Clone, Debug, ClapArgs)]
pub struct Move {
    /// The unit that shall own the slots.
    #[arg(long, value_name = "UNIT")]
    pub to: String,
    /// Which slots.
    #[command(flatten)]
    pub select: Select,
    /// The keyspace of --key; needed where the namespace has several.
    #[arg(long, value_name = "NAME", requires = "key")]
    pub keyspace: Option<String>,
    /// Compare the rows before: None, Changed (those that changed since they were found equal) or Full.
    #[arg(long, default_value = "None", value_parser = text::verify_mode, value_name = "MODE")]
    pub verify: multiactive_api::VerifyMode,
    /// The longest time that writes may be held until the sources are fenced.
    #[arg(long, default_value = "10s", value_parser = text::budget, value_name = "DURATION")]
    pub fence: String,
    /// The longest time until the others have applied the last writes.
    #[arg(long, default_value = "30s", value_parser = text::budget, value_name = "DURATION")]
    pub drain: String,
}

/// `plan`.
#[derive(Debug, ClapArgs)]
pub struct PlanArgs {
    /// What and where.
    #[command(flatten)]
    pub movement: Move,
    /// The name of the Promotion in the manifest; one that fits by default.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Do not ask the operator: say what the objects say.
    #[arg(long, conflicts_with = "keep")]
    pub local: bool,
    /// Leave the Promotion of mode Plan by which the operator was asked.
    #[arg(long)]
    pub keep: bool,
}

/// `promote`.
#[derive(Debug, ClapArgs)]
pub struct PromoteArgs {
    /// The name of the Promotion; one that was never used in the namespace.
    pub name: String,
    /// What and where.
    #[command(flatten)]
    pub movement: Move,
    /// The newest epoch that you have seen, as `plan` prints it: a slot that changed later ends it as Refused/Stale.
    #[arg(long, value_name = "EPOCH")]
    pub expected_epoch: Option<i64>,
    /// Return once it is created.
    #[arg(long)]
    pub no_wait: bool,
    /// Ask the API server whether it would take it, and create nothing.
    #[arg(long, value_name = "server", value_enum)]
    pub dry_run: Option<DryRun>,
}

/// Who tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// The API server.
    Server,
}

/// `failback`.
#[derive(Debug, ClapArgs)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["ranges", "all"])))]
pub struct FailbackArgs {
    /// The ranges, and the stores whose writer goes home.
    #[arg(value_name = "RANGE|STORE")]
    pub ranges: Vec<String>,
    /// Every range of the namespace that is away, and every writer.
    #[arg(long)]
    pub all: bool,
    /// Return once the promotions are created.
    #[arg(long)]
    pub no_wait: bool,
    /// Ask the API server whether it would take them, and create nothing.
    #[arg(long, value_name = "server", value_enum)]
    pub dry_run: Option<DryRun>,
}

/// `failover`.
#[derive(Debug, ClapArgs)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("lost").required(true).args(["units", "region", "cluster"])))]
pub struct FailoverArgs {
    /// The lost units of the namespace.
    #[arg(value_name = "UNIT", conflicts_with = "all")]
    pub units: Vec<String>,
    /// A lost Region: every unit whose MemberCluster is in it.
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// A lost MemberCluster: every unit in it.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Which namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,
    /// The unit that shall own the slots (spec.targetUnit), of one lost unit; without it the first usable failover unit of
    /// each range.
    #[arg(long, visible_alias = "target", value_name = "UNIT")]
    pub to: Option<String>,
    /// How much of a lost unit's writing may be lost without anybody's word, as a time such as 15s; at most 24h.
    #[arg(long, default_value = "0s", value_parser = text::budget, value_name = "DURATION")]
    pub max_data_loss: String,
    /// The newest epoch that you have seen, of one lost unit: a slot of it that changed later ends it as Refused/Stale.
    #[arg(long, value_name = "EPOCH")]
    pub expected_epoch: Option<i64>,
    /// The name of the Failover, of one lost unit; one that was never used by default.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Return once they are created.
    #[arg(long)]
    pub no_wait: bool,
    /// Ask the API server whether it would take them, and create nothing.
    #[arg(long, value_name = "server", value_enum)]
    pub dry_run: Option<DryRun>,
}

/// `verify`.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// The DataStores whose rows are compared, all of the namespace without a name; or verification/NAME, to follow one that
    /// exists.
    #[arg(value_name = "STORE")]
    pub stores: Vec<String>,
    /// A unit whose databases are compared with those of the owners, all members without it; may be given several times, or
    /// with commas.
    #[arg(long = "unit", value_name = "NAME", value_delimiter = ',')]
    pub units: Vec<String>,
    /// Replace rows that differ by the owners', and remove those that the owner has not.
    #[arg(long)]
    pub repair: bool,
    /// How many rows a second are read of any one database, at most; without it, as fast as they are given.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(i64).range(100..))]
    pub max_rows_per_second: Option<i64>,
    /// The name of the Verification; one that was never used by default.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Return once it is created.
    #[arg(long)]
    pub no_wait: bool,
    /// Ask the API server whether it would take it, and create nothing.
    #[arg(long, value_name = "server", value_enum)]
    pub dry_run: Option<DryRun>,
}

/// `decide`.
#[derive(Debug, ClapArgs)]
pub struct DecideArgs {
    /// The operation, such as users-1-to-south, or with its kind where two have one name: failover/lost-east.
    pub operation: String,
    /// What you decide.
    #[arg(value_parser = crate::decisions::parser(), ignore_case = true)]
    pub decision: String,
    /// What you decide about, for those that name it: a unit or a range, as status.needed of the operation says.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Until when it counts, such as 2026-11-22T13:00:00Z; without it for good.
    #[arg(long, value_name = "TIME")]
    pub not_after: Option<jiff::Timestamp>,
    /// Why, for those who read it later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `watch`.
#[derive(Debug, ClapArgs)]
pub struct WatchArgs {
    /// Which namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,
}

/// `events`.
#[derive(Debug, ClapArgs)]
pub struct EventsArgs {
    /// Which namespaces.
    #[command(flatten)]
    pub namespaces: Namespaces,
    /// Only those about this object, such as promotion/users-1-to-south or unit/east-1.
    #[arg(long = "for", value_name = "KIND/NAME")]
    pub about: Option<String>,
    /// Only those of the last time, such as 30m or 1h.
    #[arg(long, value_name = "DURATION", value_parser = text::patience)]
    pub since: Option<Duration>,
}

/// `support-bundle`.
#[derive(Debug, ClapArgs)]
pub struct BundleArgs {
    /// The file to write; by default one named after the time.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The context of a member cluster whose side shall be in it; may be given several times.
    #[arg(long = "member-context", value_name = "NAME")]
    pub member_contexts: Vec<String>,
    /// How many lines of each container's log.
    #[arg(long, default_value_t = 5000, value_name = "LINES")]
    pub tail: i64,
}

/// `completion`.
#[derive(Debug, ClapArgs)]
pub struct CompletionArgs {
    /// For whom.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Who completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
    /// kubectl's own completion.
    KubectlPlugin,
}

/// `version`.
#[derive(Debug, ClapArgs)]
pub struct VersionArgs {
    /// Only this program's; no cluster is asked.
    #[arg(long)]
    pub client: bool,
}
