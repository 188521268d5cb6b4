//! A container's environment and command line, as its spec declares them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};
use kube::ResourceExt;

use super::sources::{Data, Sources};
use super::{Waiting, fields};

/// The prefix of images that this node can run.
const IMAGE: &str = "process/";

/// The declared variables, in order, with references resolved.
///
/// # Errors
///
/// What is missing, as the reason for which the container waits.
pub(super) fn declared(pod: &Pod, container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, Waiting> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut env: Vec<(String, String)> = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        let (kind, name, optional, data) = match (&from.secret_ref, &from.config_map_ref) {
            (Some(secret), _) => (
                "secret",
                &secret.name,
                secret.optional,
                sources.secret(&namespace, &secret.name),
            ),
            (None, Some(map)) => ("configmap", &map.name, map.optional, sources.map(&namespace, &map.name)),
            (None, None) => continue,
        };
        match data {
            Some(data) => env.extend(
                data.into_iter()
                    .map(|(key, value)| (format!("{prefix}{key}"), text(value))),
            ),
            None if optional == Some(true) => {}
            None => return Err(config_error(format!("{kind} {name:?} not found"))),
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, Some(from)) => resolve(pod, &namespace, from, sources)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.push((variable.name.clone(), value));
        }
    }
    Ok(env)
}

fn resolve(pod: &Pod, namespace: &str, from: &EnvVarSource, sources: &Sources) -> Result<Option<String>, Waiting> {
    if let Some(field) = &from.field_ref {
        let value = fields::value(pod, &field.field_path);
        return value
            .map(Some)
            .ok_or_else(|| config_error(format!("unknown field {}", field.field_path)));
    }
    if let Some(key) = &from.secret_key_ref {
        return one(
            "secret",
            &key.name,
            &key.key,
            key.optional,
            sources.secret(namespace, &key.name),
        );
    }
    if let Some(key) = &from.config_map_key_ref {
        return one(
            "configmap",
            &key.name,
            &key.key,
            key.optional,
            sources.map(namespace, &key.name),
        );
    }
    Err(config_error(
        "a node that runs processes knows fieldRef, secretKeyRef and configMapKeyRef only".into(),
    ))
}

fn one(
    kind: &str,
    name: &str,
    key: &str,
    optional: Option<bool>,
    data: Option<Data>,
) -> Result<Option<String>, Waiting> {
    let exists = data.is_some();
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => Ok(Some(text(value))),
        None if optional == Some(true) => Ok(None),
        None if exists => Err(config_error(format!("couldn't find key {key} in {kind} {name}"))),
        None => Err(config_error(format!("{kind} {name:?} not found"))),
    }
}

fn config_error(message: String) -> Waiting {
    Waiting {
        reason: "CreateContainerConfigError",
        message,
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Replaces `$(NAME)` by the variable's value; `$$(NAME)` stays `$(NAME)`, an unknown name stays as it is.
pub(super) fn expand(template: &str, env: &[(String, String)]) -> String {
    let known: BTreeMap<&str, &str> = env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| Some((known.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The program and arguments of a container.
///
/// The image names a program of the folder; `command` runs another one: of the folder by its file name, else a file
/// of this machine.
///
/// # Errors
///
/// The reason for which the container waits: its image is none of ours, or the program is not there (yet).
pub(super) fn command(
    container: &Container,
    env: &[(String, String)],
    programs: &Path,
) -> Result<(PathBuf, Vec<String>), Waiting> {
    let image = container.image.as_deref().unwrap_or_default();
    let not_there = |message: String| Waiting {
        reason: "ErrImagePull",
        message,
    };
    let Some(name) = image
        .strip_prefix(IMAGE)
        .map(|name| name.split([':', '@']).next().unwrap_or(name))
    else {
        let message = format!("image {image:?} is not known: this node runs {IMAGE}<program> from its own folder");
        return Err(Waiting {
            reason: "ErrImagePull",
            message,
        });
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Waiting {
            reason: "InvalidImageName",
            message: format!("{name:?} names no program"),
        });
    }
    let expanded =
        |list: &Option<Vec<String>>| -> Vec<String> { list.iter().flatten().map(|word| expand(word, env)).collect() };
    let mut words = expanded(&container.command).into_iter();
    let program = match words.next() {
        None => programs.join(name),
        Some(word) => find(&word, programs).ok_or_else(|| Waiting {
            reason: "RunContainerError",
            message: format!("{word:?} is neither in {} nor on the PATH", programs.display()),
        })?,
    };
    if !program.is_file() {
        return Err(not_there(format!("no program {name:?} in {}", programs.display())));
    }
    Ok((program, words.chain(expanded(&container.args)).collect()))
}

/// The file of a command's first word.
pub(super) fn find(word: &str, programs: &Path) -> Option<PathBuf> {
    let file = Path::new(word).file_name().map(|file| programs.join(file));
    file.filter(|path| path.is_file()).or_else(|| on_this_machine(word))
}

fn on_this_machine(word: &str) -> Option<PathBuf> {
    let path = PathBuf::from(word);
    if path.is_absolute() {
        return path.is_file().then_some(path);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(&path))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_kubernetes() {
        let env = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (template, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$(B)", "$(A)"),
            ("ü$(A)ü", "ü1ü"),
        ] {
            assert_eq!(expand(template, &env), want, "{template}");
        }
    }

    #[test]
    fn an_image_names_a_program_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("shop"), "").unwrap();
        let container = |image: &str, command: &[&str]| Container {
            image: Some(image.into()),
            command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            args: Some(vec!["--port=$(P)".into()]),
            ..Container::default()
        };
        let env = vec![("P".to_owned(), "80".to_owned())];
        let run = |image: &str, words: &[&str]| command(&container(image, words), &env, dir.path());
        let shop = dir.path().join("shop");
        assert_eq!(
            run("process/shop", &[]).unwrap(),
            (shop.clone(), vec!["--port=80".to_owned()])
        );
        assert_eq!(
            run("process/shop:v1", &["/shop", "serve"]).unwrap().1,
            ["serve", "--port=80"]
        );
        assert_eq!(run("process/shop", &["/bin/sh"]).unwrap().0, Path::new("/bin/sh"));
        for (image, reason) in [
            ("nginx", "ErrImagePull"),
            ("process/none", "ErrImagePull"),
            ("process/", "InvalidImageName"),
            ("process/../shop", "InvalidImageName"),
        ] {
            assert_eq!(run(image, &[]).unwrap_err().reason, reason, "{image}");
        }
    }
}
