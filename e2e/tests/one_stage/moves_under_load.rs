//! Ranges and units move while orders come in through every router, and while Git's content is applied again and again.

use anyhow::{Context, Result};
use kube::Api;
use multiactive_api::{Keyspace, ShardRange, Unit, UnitWorkload};
use multiactive_e2e::region::NAMESPACE;
use multiactive_e2e::stage::{Stage, orders};
use multiactive_e2e::story;
use tokio_postgres::NoTls;

/// Generation of each of the users' objects: it grows with every change of a spec.
async fn generations(stage: &Stage) -> Result<Vec<(String, Option<i64>)>> {
    let mut all = Vec::new();
    macro_rules! kind {
        ($kind:ty) => {
            for object in Api::<$kind>::namespaced(stage.hub.clone(), NAMESPACE)
                .list(&Default::default())
                .await?
            {
                let name = object.metadata.name.unwrap_or_default();
                all.push((
                    format!("{} {name}", stringify!($kind)),
                    object.metadata.generation,
                ));
            }
        };
    }
    kind!(Keyspace);
    kind!(ShardRange);
    kind!(Unit);
    kind!(UnitWorkload);
    Ok(all)
}

pub(crate) async fn nothing_fails_or_is_lost_and_git_fights_nothing(stage: &Stage) -> Result<()> {
    let before = generations(stage).await?;
    let load = stage.load(30)?;
    orders(&load, 200).await;

    let moves = story::everything_moves(stage, &load, "None");
    let git = async {
        loop {
            if let Err(error) = stage.install.shop().await {
                return error;
            }
        }
    };
    tokio::select! {
        moved = moves => moved?,
        error = git => return Err(error),
    }

    // A client that ignores the routers and writes straight to a database that does not own the user.
    let table = stage.table().await?;
    assert!(
        table.owned_by(&"east-1".into()).is_empty(),
        "east-1 was emptied: {table:?}"
    );
    let (client, connection) = stage.region("east")?.database().connect(NoTls).await?;
    tokio::spawn(connection);
    let insert =
        "SET ROLE shop_app; INSERT INTO orders (id, user_id, seq, prev, unit) VALUES ('1-x', 'x', 1, 0, 'east-1')";
    let refused = client.batch_execute(insert).await.err().context("it was not refused")?;
    assert_eq!(refused.code().map(|code| code.code()), Some("MA001"), "{refused:?}");

    stage.judge(load).await?;
    assert_eq!(
        generations(stage).await?,
        before,
        "applying Git's content again changed no spec"
    );
    Ok(())
}
