//! The command line of the shop: `serve` is the product, `load` its customers.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use shop::database::{Database, Place};
use shop::load::{Load, LoadOptions, users};
use shop::service::Service;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A small product with orders by user, to try multiactive with.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve orders over HTTP from a database.
    Serve(Serve),
    /// Order, from many users at once, and write down what was acknowledged.
    Load(LoadArgs),
}

#[derive(clap::Args)]
struct Serve {
    /// Address to listen on.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:9000")]
    listen: SocketAddr,
    /// The unit's name; kept with every order.
    #[arg(long, env = "UNIT")]
    unit: String,
    /// The database's engine.
    #[arg(long, env = "DB_ENGINE", value_enum, default_value_t = Engine::PostgreSql)]
    db_engine: Engine,
    /// Host and port of the database.
    #[arg(long, env = "DB_ADDRESS")]
    db_address: String,
    /// The database's name.
    #[arg(long, env = "DB_NAME", default_value = "shop")]
    db_name: String,
    /// The name of the catalog's database, on the same server; nothing is connected before the first request for it.
    #[arg(long, env = "CATALOG_DB_NAME", default_value = "catalog")]
    catalog_db_name: String,
    /// As that of the catalog, for the prices.
    #[arg(long, env = "PRICES_DB_NAME", default_value = "prices")]
    prices_db_name: String,
    /// The user.
    #[arg(long, env = "DB_USERNAME")]
    db_username: String,
    /// The user's password.
    #[arg(long, env = "DB_PASSWORD", hide_env_values = true)]
    db_password: String,
    /// How many connections to the database.
    #[arg(long, env = "DB_CONNECTIONS", default_value_t = 8)]
    db_connections: usize,
}

/// Which engine.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Engine {
    /// PostgreSQL.
    #[value(name = "PostgreSQL")]
    PostgreSql,
    /// MariaDB.
    #[value(name = "MariaDB")]
    MariaDb,
    /// MySQL.
    #[value(name = "MySQL")]
    MySql,
}

#[derive(clap::Args)]
struct LoadArgs {
    /// URLs of routers; each user goes through them in turn.
    #[arg(long, required = true, value_delimiter = ',')]
    routers: Vec<String>,
    /// How many users order at once.
    #[arg(long, default_value_t = 40)]
    users: u32,
    /// Pause of a user after each order, in milliseconds.
    #[arg(long, default_value_t = 100)]
    think_ms: u64,
    /// How long to order, in seconds; without it, until Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where to write every attempt, as JSON lines.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Args::parse().command {
        Command::Serve(args) => serve(args).await,
        Command::Load(args) => load(args).await,
    }
}

/// Ends on SIGTERM or Ctrl-C.
fn until_told() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

async fn serve(args: Serve) -> Result<()> {
    let (host, port) = args
        .db_address
        .rsplit_once(':')
        .context("--db-address: expected host:port")?;
    let port = port.parse().context("--db-address: the port is no number")?;
    let place = |name: &str| match args.db_engine {
        Engine::PostgreSql => {
            let mut config = tokio_postgres::Config::new();
            config.host(host).port(port).dbname(name);
            config.user(&args.db_username).password(&args.db_password);
            config.application_name("shop");
            Place::PostgreSql(Box::new(config))
        }
        Engine::MariaDb | Engine::MySql => {
            let opts = mysql_async::OptsBuilder::default()
                .ip_or_hostname(host)
                .tcp_port(port)
                .prefer_socket(false)
                .db_name(Some(name))
                .user(Some(&args.db_username))
                .pass(Some(&args.db_password));
            Place::MySqlFamily(opts.into())
        }
    };
    let database = |name: &str| Database::new(place(name), args.db_connections);
    let items = [("/catalog/", &args.catalog_db_name), ("/prices/", &args.prices_db_name)];
    let items = items.map(|(path, name)| (path, database(name)));
    let service = Service::new(args.unit, database(&args.db_name), items.into());
    service.listen(args.listen, until_told()?).await
}

async fn load(args: LoadArgs) -> Result<()> {
    let token = until_told()?;
    let options = LoadOptions {
        routers: args.routers,
        users: users(args.users, &format!("{:x}", jiff::Timestamp::now().as_millisecond())),
        think: Duration::from_millis(args.think_ms),
    };
    let load = Load::start(options)?;
    let seconds = args.seconds.map(Duration::from_secs);
    tokio::select! {
        () = token.cancelled() => {}
        () = async { match seconds { Some(time) => tokio::time::sleep(time).await, None => std::future::pending().await } } => {}
    }
    let record = load.stop().await;
    println!("{}", record.summary());
    if let Some(path) = args.out {
        record
            .write_lines(&path)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    anyhow::ensure!(record.failures() == 0, "{} attempts failed", record.failures());
    Ok(())
}
