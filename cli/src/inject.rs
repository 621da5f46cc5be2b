//! `weft inject`: the webhook's work, done to files.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use weft_inject::{Settings, inject_documents};

/// What `weft inject` is told.
#[derive(Debug, Clone, Args)]
pub struct InjectOptions {
    /// File with YAML or JSON documents, or - for standard input; may be given again
    #[arg(short, long = "file", required = true)]
    files: Vec<PathBuf>,
    /// Where the result goes; standard output if absent
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// File with the mesh's settings, those of the webhook; the defaults if absent
    #[arg(long)]
    settings: Option<PathBuf>,
}

/// Injects the files and writes the result; what became of each pod is told on standard error.
///
/// # Errors
/// A file can't be read or is no YAML, or a pod asks for what can't be done: then nothing is
/// written.
pub fn run(options: &InjectOptions) -> Result<()> {
    let settings = match &options.settings {
        Some(path) => Settings::parse(&read(path)?)
            .with_context(|| format!("the settings in {}", path.display()))?,
        None => Settings::default(),
    };
    let mut documents = Vec::new();
    let mut notes = String::new();
    for path in &options.files {
        let injected = inject_documents(&read(path)?, &options.namespace, &settings)
            .with_context(|| path.display().to_string())?;
        for (object, skipped) in &injected.outcomes {
            let outcome = skipped
                .as_ref()
                .map_or_else(|| "injected".to_owned(), |reason| format!("left as it is: {reason}"));
            notes.push_str(&format!("{object}: {outcome}\n"));
        }
        notes.extend(injected.warnings.iter().map(|warning| format!("warning: {warning}\n")));
        documents.push(injected.yaml);
    }
    std::io::stderr().write_all(notes.as_bytes())?;
    let text = documents.join("---\n");
    match &options.output {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
        }
        None => std::io::stdout().write_all(text.as_bytes()).context("can't print"),
    }
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("can't read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path, pod: &str) -> InjectOptions {
        let file = folder.join("pod.yaml");
        std::fs::write(&file, pod).unwrap();
        InjectOptions {
            files: vec![file.clone(), file],
            output: Some(folder.join("out.yaml")),
            namespace: "shop".to_owned(),
            settings: None,
        }
    }

    #[test]
    fn files_are_injected_into_one() {
        let folder = tempfile::tempdir().unwrap();
        let pod = "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'a:1'}]}\n";
        run(&options(folder.path(), pod)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("out.yaml")).unwrap();
        assert_eq!(text.matches("name: weft-proxy").count(), 2);
        let again: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(again.len(), 2);
    }

    #[test]
    fn a_refusal_names_the_object_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let pod = "kind: Pod\nmetadata: {name: a, annotations: {weft.dev/proxyCPU: much}}\n\
                   spec: {containers: [{name: a}]}\n";
        let error = run(&options(folder.path(), pod)).unwrap_err();
        assert!(format!("{error:#}").contains("Pod a: weft.dev/proxyCPU"), "{error:#}");
        assert!(!folder.path().join("out.yaml").exists());
    }
}
