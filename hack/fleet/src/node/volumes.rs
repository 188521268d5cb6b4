//! A pod's volumes: filled before its containers start, refreshed while they run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};
use kube::ResourceExt;

use super::files::{self, Files};
use super::sources::Data;
use super::tokens::Tokens;
use super::{Ctx, Waiting, fields};
use crate::Result;

/// Where Kubernetes mounts a pod's token.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The volumes of one pod.
#[derive(Debug)]
pub(super) struct Volumes {
    dir: PathBuf,
    tokens: Tokens,
    /// What was written, so that only changes are.
    written: BTreeMap<String, Files>,
}

impl Volumes {
    pub(super) fn new(dir: PathBuf) -> Volumes {
        Volumes {
            dir,
            tokens: Tokens::default(),
            written: BTreeMap::new(),
        }
    }

    /// Brings all volumes up to date.
    ///
    /// # Errors
    ///
    /// What is missing, as the reason for which the pod waits. Volumes that could be written are.
    pub(super) async fn refresh(&mut self, ctx: &Ctx, pod: &Pod) -> Result<(), Waiting> {
        let mut first = Ok(());
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let done = self.refresh_one(ctx, pod, volume).await;
            first = first.and(done.map_err(|why| Waiting {
                reason: "ContainerCreating",
                message: format!("volume {:?}: {why}", volume.name),
            }));
        }
        first
    }

    /// When a token of the pod must be renewed.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.tokens.renew_at()
    }

    async fn refresh_one(&mut self, ctx: &Ctx, pod: &Pod, volume: &Volume) -> Result<(), String> {
        let path = self.dir.join(&volume.name);
        let make = |path: &Path| std::fs::create_dir_all(path).map_err(|error| error.to_string());
        if volume.empty_dir.is_some() {
            return make(&path);
        }
        if let Some(host) = &volume.host_path {
            if std::fs::symlink_metadata(&path).is_err() {
                make(&self.dir)?;
                std::os::unix::fs::symlink(&host.path, &path).map_err(|error| error.to_string())?;
            }
            return Ok(());
        }
        let wanted = self.files(ctx, pod, volume).await?;
        if self.written.get(&volume.name) != Some(&wanted) {
            files::replace(&path, &wanted).map_err(|error| error.to_string())?;
            self.written.insert(volume.name.clone(), wanted);
        }
        Ok(())
    }

    async fn files(&mut self, ctx: &Ctx, pod: &Pod, volume: &Volume) -> Result<Files, String> {
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            let data = ctx.sources.secret(&namespace, &name);
            return pick(
                "secret",
                &name,
                data,
                &secret.items,
                secret.optional,
                secret.default_mode,
            );
        }
        if let Some(map) = &volume.config_map {
            let data = ctx.sources.map(&namespace, &map.name);
            return pick("configmap", &map.name, data, &map.items, map.optional, map.default_mode);
        }
        if let Some(downward) = &volume.downward_api {
            return about_itself(pod, &downward.items, downward.default_mode);
        }
        if let Some(projected) = &volume.projected {
            let mut all = Files::new();
            for source in projected.sources.iter().flatten() {
                all.extend(self.projection(ctx, pod, source, projected.default_mode).await?);
            }
            return Ok(all);
        }
        Err("a node that runs processes has no volumes of this type".to_owned())
    }

    async fn projection(
        &mut self,
        ctx: &Ctx,
        pod: &Pod,
        source: &VolumeProjection,
        mode: Option<i32>,
    ) -> Result<Files, String> {
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(token) = &source.service_account_token {
            let text = self.tokens.get(&ctx.client, pod, token).await?;
            return Ok(Files::from([(token.path.clone(), (text.into_bytes(), bits(mode)))]));
        }
        if let Some(secret) = &source.secret {
            let data = ctx.sources.secret(&namespace, &secret.name);
            return pick("secret", &secret.name, data, &secret.items, secret.optional, mode);
        }
        if let Some(map) = &source.config_map {
            let data = ctx.sources.map(&namespace, &map.name);
            return pick("configmap", &map.name, data, &map.items, map.optional, mode);
        }
        if let Some(downward) = &source.downward_api {
            return about_itself(pod, &downward.items, mode);
        }
        Err("a node that runs processes has no projections of this type".to_owned())
    }
}

/// The keys of a Secret or ConfigMap that a volume shows, under their paths.
fn pick(
    kind: &str,
    name: &str,
    data: Option<Data>,
    items: &Option<Vec<KeyToPath>>,
    optional: Option<bool>,
    mode: Option<i32>,
) -> Result<Files, String> {
    let optional = optional == Some(true);
    let Some(mut data) = data else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("{kind} {name:?} not found"))
        };
    };
    let Some(items) = items.as_ref().filter(|items| !items.is_empty()) else {
        return Ok(data
            .into_iter()
            .map(|(key, value)| (key, (value, bits(mode))))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.remove(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), (value, bits(item.mode.or(mode))));
            }
            None if optional => {}
            None => return Err(format!("{kind} {name:?} has no key {:?}", item.key)),
        }
    }
    Ok(files)
}

fn about_itself(pod: &Pod, items: &Option<Vec<DownwardAPIVolumeFile>>, mode: Option<i32>) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items.iter().flatten() {
        let path = item
            .field_ref
            .as_ref()
            .map(|field| field.field_path.as_str())
            .unwrap_or_default();
        let value = fields::value(pod, path).ok_or_else(|| format!("unknown field {path:?}"))?;
        files.insert(item.path.clone(), (value.into_bytes(), bits(item.mode.or(mode))));
    }
    Ok(files)
}

fn bits(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

/// Makes a container's `$POD_ROOT`: each mount is a link to its volume.
pub(super) fn mount_all(pod: &Pod, container: &Container, volumes: &Path, root: &Path) -> Result<()> {
    std::fs::create_dir_all(root).map_err(crate::Error::io("creating", root))?;
    let mut mounts: Vec<_> = container.volume_mounts.iter().flatten().collect();
    // Outer ones first: an inner one then lies inside the outer volume, as with real mounts.
    mounts.sort_by_key(|mount| mount.mount_path.len());
    for mount in mounts {
        let mut target = volumes.join(&mount.name);
        if let Some(sub) = mount
            .sub_path
            .as_ref()
            .filter(|sub| !sub.is_empty() && !sub.contains(".."))
        {
            target = target.join(sub);
            let scratch = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            if scratch
                .into_iter()
                .any(|v| v.name == mount.name && v.empty_dir.is_some())
            {
                std::fs::create_dir_all(&target).map_err(crate::Error::io("creating", &target))?;
            }
        }
        files::mount(root, &mount.mount_path, &target)?;
    }
    Ok(())
}
